//! Error pages and error messages.

use maud::html;
use poem::{
    Response,
    http::{StatusCode, header},
};

use referral_core::InvalidInput;

use super::{layout::Menu, visit::Visit};
use crate::{error::Problem, error_code::ErrorCode};

impl Visit {
    /// Creates the page of an error.
    pub(super) fn error(&self, problem: &Problem, request_id: &str) -> Response {
        let t = self.language;
        let content = html! {
            h1 { (t.error_title()) }
            p { (self.describe(problem)) }
            @if problem.code().status().is_server_error() && !request_id.is_empty() {
                p { (t.request_id()) ": " code { (request_id) } }
            }
            p { a href=(self.path("")) { (t.back_to_start()) } }
        };
        let status = problem.code().status();
        let mut response = self.page_with_status(status, Menu::Other, t.error_title(), &content);
        problem.add_headers(response.headers_mut());
        // The console does not authenticate by a header.
        response.headers_mut().remove(header::WWW_AUTHENTICATE);
        response
    }

    /// Describes an error in the language of the page.
    pub(super) fn describe(&self, problem: &Problem) -> String {
        match problem.code() {
            ErrorCode::StaffOnly => self.language.not_staff_text().to_owned(),
            // The text of the API is about the codes in responses.
            ErrorCode::MisdirectedRequest => self.language.not_confidential().to_owned(),
            ErrorCode::NotFound => self.language.not_found().to_owned(),
            _ => problem.text(self.language.of_errors()),
        }
    }

    /// Responds to a request without a session.
    pub(super) fn ask_to_sign_in(&self) -> Response {
        let t = self.language;
        if self.method == poem::http::Method::POST {
            return self.message(StatusCode::UNAUTHORIZED, t.signed_out_title(), t.signed_out_text());
        }
        if self.is_from_another_site() {
            return self.continue_page();
        }
        self.redirect("sign_in/")
    }

    /// Returns `true` if a link of another site was opened. The browser then sends no cookies.
    pub(super) fn is_from_another_site(&self) -> bool {
        self.headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site")
    }

    /// Creates a page that opens itself again. That request comes from this origin, so it has the cookies.
    fn continue_page(&self) -> Response {
        let t = self.language;
        let content = html! {
            h1 { (t.continue_title()) }
            p { (t.continue_text()) }
            p { a.button href="" { (t.continue_link()) } }
        };
        let mut response = self.page(Menu::Other, t.continue_title(), &content);
        response.headers_mut().insert("refresh", header::HeaderValue::from_static("0"));
        response
    }
}

/// Creates the problem of an invalid field.
#[expect(clippy::needless_pass_by_value, reason = "it is passed to `map_err`")]
pub(super) fn invalid(invalid: InvalidInput) -> Problem {
    Problem::with_detail(invalid.code().into(), invalid.detail().clone())
}
