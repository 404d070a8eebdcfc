//! Error pages and error messages.

use maud::html;
use poem::{
    Response,
    http::{StatusCode, header},
};

use referral_core::InvalidInput;

use super::{
    layout::{Menu, duration_text},
    visit::Visit,
};
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
        let t = self.language;
        let text = match problem.code() {
            ErrorCode::InvalidPhone => t.invalid_phone(),
            ErrorCode::InvalidCode => t.invalid_code(),
            ErrorCode::MalformedCode => t.malformed_code(),
            ErrorCode::UserInactive => t.user_inactive(),
            ErrorCode::StaffOnly => t.not_staff_text(),
            ErrorCode::PhoneNotAllowed => t.phone_not_allowed(),
            ErrorCode::PhoneUnreachable => t.phone_unreachable(),
            ErrorCode::SmsNotSent => t.sms_not_sent(),
            ErrorCode::Unavailable => t.unavailable(),
            ErrorCode::NotFound => t.not_found(),
            ErrorCode::InvalidSearch | ErrorCode::InvalidText => t.invalid_search(),
            ErrorCode::SearchTooBroad => t.search_too_broad(),
            ErrorCode::InvalidCursor => t.invalid_cursor(),
            ErrorCode::InternalError => t.internal_error(),
            ErrorCode::MethodNotAllowed => t.method_not_allowed(),
            ErrorCode::PayloadTooLarge => t.payload_too_large(),
            ErrorCode::UnsupportedMediaType => t.unsupported_media_type(),
            ErrorCode::MisdirectedRequest => t.misdirected_request(),
            ErrorCode::AdminOnly => t.admin_only(),
            ErrorCode::LastAdmin => t.last_admin(),
            ErrorCode::InvalidName => t.invalid_name(),
            ErrorCode::InvalidEmail => t.invalid_email(),
            ErrorCode::EmailTaken => t.email_taken(),
            ErrorCode::InvalidExternalId => t.invalid_external_id(),
            ErrorCode::ExternalIdTaken => t.external_id_taken(),
            ErrorCode::InvalidMetadata => t.invalid_metadata(),
            ErrorCode::InvalidInviteCode => t.invalid_invite_code(),
            ErrorCode::UnknownInviteCode => t.unknown_invite_code(),
            ErrorCode::OwnInviteCode => t.own_invite_code(),
            ErrorCode::InvitationLoop => t.invitation_loop(),
            ErrorCode::InvalidReason => t.invalid_reason(),
            ErrorCode::TestNumber => t.test_number(),
            ErrorCode::TooManyRequests => {
                let wait = problem.retry_after().unwrap_or_default();
                return format!("{} {}.", t.too_many_requests(), duration_text(t, wait));
            }
            _ => problem.detail(),
        };
        text.to_owned()
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
    fn is_from_another_site(&self) -> bool {
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
    Problem::with_detail(invalid.code().into(), invalid.to_string())
}
