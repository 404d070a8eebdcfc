//! Sign-in and sign-out.
//!
//! The response to the first form is the same for all phones: a code is sent within the usual limits, whether
//! the phone has an account, belongs to staff, or neither. The second form signs in staff only. After the
//! correct code of another phone it creates neither a user nor a session, and the code stays valid. So a
//! stranger learns nothing about a phone, and the owner of a phone learns only that it is not staff.

use std::str::FromStr as _;

use maud::html;
use poem::{Response, http::StatusCode};
use referral_core::{ChallengeId, CodeInput, SendCode, SentCode, SignIn};

use super::{
    errors::invalid,
    layout::{Menu, duration_text, error_note},
    visit::Visit,
};
use crate::{error::Problem, error_code::ErrorCode};

impl Visit {
    /// Shows the form for the phone.
    pub(super) async fn sign_in_page(&mut self) -> Result<Response, Problem> {
        if self.authenticate().await?.is_some_and(|current| current.user.is_staff()) {
            return Ok(self.redirect(""));
        }
        Ok(self.phone_form(StatusCode::OK, "", None))
    }

    fn phone_form(&self, status: StatusCode, phone: &str, error: Option<&str>) -> Response {
        let t = self.language;
        let content = html! {
            section.narrow {
                h1 { (t.sign_in()) }
                p { (t.sign_in_lead()) }
                form method="post" action=(self.path("sign_in/code/")) {
                    (self.token_field())
                    label for="phone" { (t.phone()) }
                    input #phone type="tel" name="phone" value=(phone) autocomplete="tel" required autofocus maxlength="64"
                        aria-describedby="phone-hint" aria-invalid=[error.map(|_| "true")];
                    p.hint #phone-hint { (t.phone_hint()) }
                    (error_note(error))
                    button type="submit" { (t.send_code()) }
                }
            }
        };
        self.page_with_status(status, Menu::Other, t.sign_in(), &content)
    }

    /// Sends a code and shows the form for it.
    pub(super) async fn send_code(&mut self) -> Result<Response, Problem> {
        let input = self.form.get("phone").unwrap_or_default().to_owned();
        let sent = match self.referral().parse_phone(&input) {
            Ok(phone) => {
                let request = SendCode::new(phone).locales(self.locales()).client(self.client.clone());
                self.referral().send_code(request).await.map_err(Problem::from)
            }
            Err(error) => Err(invalid(error)),
        };
        match sent {
            Ok(sent) => Ok(self.code_form(StatusCode::OK, &Sent::from(&sent), None)),
            Err(problem) if problem.code().status().is_client_error() => {
                let error = self.describe(&problem);
                let mut response = self.phone_form(problem.code().status(), &input, Some(&error));
                problem.add_headers(response.headers_mut());
                Ok(response)
            }
            Err(problem) => Err(problem),
        }
    }

    fn code_form(&self, status: StatusCode, sent: &Sent, error: Option<&str>) -> Response {
        let t = self.language;
        let content = html! {
            section.narrow {
                h1 { (t.sign_in()) }
                p { (t.code_sent()) " " strong { (sent.phone) } "." }
                @if let Some(code) = &sent.revealed_code {
                    p.note { (t.development_code()) " " strong #development-code { (code) } }
                }
                form method="post" action=(self.path("sign_in/confirm/")) {
                    (self.token_field())
                    input type="hidden" name="phone" value=(sent.phone);
                    input type="hidden" name="challenge" value=(sent.challenge);
                    label for="code" { (t.code()) }
                    input #code type="text" name="code" inputmode="numeric" autocomplete="one-time-code" required autofocus
                        maxlength="32" aria-describedby=[sent.expires_in.map(|_| "code-hint")]
                        aria-invalid=[error.map(|_| "true")];
                    @if let Some(expires_in) = sent.expires_in {
                        p.hint #code-hint { (t.code_lifetime()) ": " (duration_text(t, expires_in)) }
                    }
                    (error_note(error))
                    button type="submit" { (t.sign_in_button()) }
                }
                p { a href=(self.path("sign_in/")) { (t.other_phone()) } }
            }
        };
        self.page_with_status(status, Menu::Other, t.sign_in(), &content)
    }

    /// Signs in staff with a code.
    pub(super) async fn confirm(&mut self) -> Result<Response, Problem> {
        let field = |name| self.form.get(name).unwrap_or_default().to_owned();
        let (phone, challenge, code) = (field("phone"), field("challenge"), field("code"));
        let signed_in = match self.sign_in_request(&phone, &challenge, &code) {
            Ok(request) => Box::pin(self.referral().sign_in(request)).await.map_err(Problem::from),
            Err(problem) => Err(problem),
        };
        let problem = match signed_in {
            Ok(signed_in) => {
                self.start_session(&signed_in).await?;
                return Ok(self.redirect(""));
            }
            Err(problem) => problem,
        };
        let (t, status) = (self.language, problem.code().status());
        match problem.code() {
            ErrorCode::StaffOnly => Ok(self.message(status, t.not_staff_title(), t.not_staff_text())),
            ErrorCode::InvalidPhone | ErrorCode::InvalidId | ErrorCode::ChallengeRequired => {
                Ok(self.redirect("sign_in/"))
            }
            _ if status.is_client_error() => {
                let sent = Sent { phone, challenge, expires_in: None, revealed_code: None };
                let error = self.describe(&problem);
                let mut response = self.code_form(status, &sent, Some(&error));
                problem.add_headers(response.headers_mut());
                Ok(response)
            }
            _ => Err(problem),
        }
    }

    fn sign_in_request(&self, phone: &str, challenge: &str, code: &str) -> Result<SignIn, Problem> {
        let phone = self.referral().parse_phone(phone).map_err(invalid)?;
        let challenge = ChallengeId::from_str(challenge).map_err(invalid)?;
        let code = CodeInput::parse(code).map_err(invalid)?;
        let request = SignIn::new(phone, code).challenge(challenge).client(self.client.clone());
        Ok(request.locales(self.locales()).staff_only())
    }

    /// Ends the session of the browser.
    pub(super) async fn sign_out(&mut self) -> Result<Response, Problem> {
        self.end_session().await?;
        Ok(self.redirect("sign_in/"))
    }
}

/// Code that was sent, as far as the form for it needs it.
struct Sent {
    phone: String,
    challenge: String,
    expires_in: Option<std::time::Duration>,
    revealed_code: Option<String>,
}

impl From<&SentCode> for Sent {
    fn from(sent: &SentCode) -> Self {
        Self {
            phone: sent.phone.as_str().to_owned(),
            challenge: sent.challenge.0.to_string(),
            expires_in: Some(sent.expires_in),
            revealed_code: sent.revealed_code.as_ref().map(|code| code.reveal().to_owned()),
        }
    }
}
