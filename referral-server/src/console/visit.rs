//! Visit of a page: its request, and the response with its cookies.

use poem::{
    Response,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
};
use referral_core::{Administration, Client, CurrentUser, ReferralService};

use super::{Console, PATH, Place, Shared, Visitor, csrf, form::Form, texts::Language};
use crate::{error::Problem, error_code::ErrorCode};

/// Content security policy of each page. A page loads the style sheet and the script of the console only, and
/// has no script and no style of its own.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; form-action 'self'; \
     base-uri 'none'; frame-ancestors 'none'",
);

/// Request for a page of the console.
pub(super) struct Visit {
    pub(super) console: Console,
    pub(super) method: Method,
    /// Path of the start page of the console, with the prefix and without a trailing slash.
    pub(super) base: String,
    /// Parameters of the query.
    pub(super) query: Form,
    /// Fields of the body.
    pub(super) form: Form,
    pub(super) headers: HeaderMap,
    pub(super) language: Language,
    pub(super) client: Client,
    /// `true` if the request was sent by a page of this origin.
    pub(super) is_same_origin: bool,
    /// Random value of the browser, from which the token in each form is derived.
    pub(super) nonce: String,
    /// Id of the session, or an empty text before the sign-in.
    pub(super) session: String,
    /// User who is signed in.
    pub(super) staff: Option<CurrentUser>,
    /// Values of `Set-Cookie` of the response.
    pub(super) set_cookies: Vec<String>,
}

impl Visit {
    pub(super) fn new(console: &Console, visitor: Visitor, method: Method) -> Self {
        let Visitor { uri, prefix, headers } = visitor;
        let query = Form::parse(uri.query().unwrap_or_default().as_bytes());
        let mut visit = Self {
            console: console.clone(),
            method,
            base: format!("{}{PATH}", console.0.root.path(&prefix)),
            language: Language::default(),
            query,
            form: Form::default(),
            headers,
            client: Client::default(),
            is_same_origin: false,
            nonce: String::new(),
            session: String::new(),
            staff: None,
            set_cookies: Vec::new(),
        };
        visit.choose_language();
        visit.nonce = visit.take_nonce();
        visit
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.console.0
    }

    pub(super) fn referral(&self) -> &ReferralService {
        &self.console.0.referral
    }

    /// Returns the operations of the member of staff.
    pub(super) fn administration(&self) -> Result<Administration, Problem> {
        let staff = self.staff.as_ref().ok_or_else(|| Problem::new(ErrorCode::StaffOnly))?;
        Ok(self.referral().administration(staff)?)
    }

    /// Opens a page or performs an action.
    pub(super) async fn open(&mut self, place: Place) -> Result<Response, Problem> {
        match place {
            Place::Style => return Ok(self.shared().assets.style(&self.query)),
            Place::Script => return Ok(self.shared().assets.script(&self.query)),
            _ => {}
        }
        let is_post = self.method == Method::POST;
        match place {
            Place::SignIn => return self.sign_in_page().await,
            // The address of a page that a form returned.
            Place::SendCode | Place::Confirm if !is_post => return Ok(self.redirect("sign_in/")),
            Place::SendCode | Place::Confirm if !self.is_trusted() => return Ok(self.untrusted()),
            Place::SendCode => return self.send_code().await,
            Place::Confirm => return self.confirm().await,
            _ => {}
        }
        let Some(staff) = self.authenticate().await? else {
            return Ok(self.ask_to_sign_in());
        };
        if !staff.user.is_staff() {
            self.end_session().await?;
            let t = self.language;
            return Ok(self.message(StatusCode::FORBIDDEN, t.not_staff_title(), t.no_rights_text()));
        }
        self.session = staff.session.to_string();
        self.staff = Some(staff.clone());
        if is_post && !self.is_trusted() {
            return Ok(self.untrusted());
        }
        match place {
            Place::Overview => self.overview(&staff).await,
            Place::Users => self.users().await,
            Place::User(id) => self.user(id).await,
            Place::Edit(id) => self.edit(id).await,
            Place::Act(id, action) => self.act(id, action).await,
            Place::Unlock => self.unlock().await,
            Place::Audit => self.audit().await,
            Place::Tree => self.tree().await,
            Place::SignOut if is_post => self.sign_out().await,
            _ => Ok(self.redirect("")),
        }
    }

    /// Returns the token that each form of this visit contains.
    pub(super) fn token(&self) -> String {
        csrf::token(&self.nonce, &self.session)
    }

    /// Returns a path of the console.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// Redirects to a path of the console.
    pub(super) fn redirect(&self, path: &str) -> Response {
        Response::builder().status(StatusCode::SEE_OTHER).header(header::LOCATION, self.path(path)).finish()
    }

    /// Adds the headers of each response of the console.
    pub(super) fn finish(self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
        // With `no-referrer`, browsers send `Origin: null` with forms.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        if headers.contains_key(header::CACHE_CONTROL) {
            return response;
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(self.language.tag()));
        headers.insert(header::VARY, HeaderValue::from_static("accept-language, cookie"));
        headers
            .insert(HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex, nofollow"));
        // A request from another site has no cookies. New ones would invalidate the forms in other tabs.
        if self.is_from_another_site() {
            return response;
        }
        for cookie in &self.set_cookies {
            headers.extend(HeaderValue::from_str(cookie).map(|cookie| (header::SET_COOKIE, cookie)));
        }
        response
    }
}
