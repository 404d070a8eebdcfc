//! Protection against requests that pages of other origins send (CSRF).
//!
//! Three checks must pass. Cookies are not sent with requests of other sites (`SameSite=Strict`). The request
//! must come from a page of this origin (`Sec-Fetch-Site` or `Origin`). Each form contains a token that is
//! derived from a cookie and from the session.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use poem::{
    Request, Response,
    http::{HeaderMap, HeaderName, StatusCode, Uri, header, uri::Authority},
};
use sha2::{Digest as _, Sha256};

use super::visit::Visit;
use crate::mount::Root;

/// Name of the field of the token in forms.
pub(super) const FIELD: &str = "token";

/// Name of the cookie with the random value.
const COOKIE: &str = "form";

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Returns the token for the forms of a session, or of a browser that is not signed in.
pub(super) fn token(nonce: &str, session: &str) -> String {
    BASE64.encode(Sha256::digest(format!("referral console\n{nonce}\n{session}")))
}

/// Returns `true` if a request comes from a page of this origin. A request that states no origin is rejected.
pub(super) fn is_same_origin(request: &Request, root: &Root) -> bool {
    let headers = request.headers();
    if let Some(site) = only(headers, &SEC_FETCH_SITE) {
        return site == "same-origin";
    }
    let Some(origin) = only(headers, &header::ORIGIN).and_then(|origin| origin.parse::<Uri>().ok()) else {
        return false;
    };
    let Some(authority) = origin.authority() else { return false };
    if let Some((scheme, own)) = root.origin() {
        return origin.scheme_str() == Some(&*scheme) && *authority == *own;
    }
    let host = only(headers, &header::HOST).or_else(|| request.uri().authority().map(Authority::as_str));
    host.is_some_and(|host| authority.as_str().eq_ignore_ascii_case(host))
}

/// Returns the value of a header that must be present once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()
}

impl Visit {
    /// Returns the random value of the browser. If it has none, sets one.
    pub(super) fn take_nonce(&mut self) -> String {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let cookie = self.cookie(COOKIE).filter(|nonce| nonce.len() == 43 && nonce.bytes().all(is_plain));
        cookie.unwrap_or_else(|| self.new_nonce())
    }

    /// Sets another random value, so that tokens from before the sign-in are invalid.
    pub(super) fn new_nonce(&mut self) -> String {
        // Two ids have 148 random bits.
        let ids = [(); 2].map(|()| self.referral().generate_id());
        let nonce = BASE64.encode(Sha256::digest(format!("{}{}", ids[0], ids[1])));
        self.set_cookie(COOKIE, &nonce);
        nonce
    }

    /// Returns `true` if the form was sent by a page of the console that was created for this browser and
    /// this session.
    pub(super) fn is_trusted(&self) -> bool {
        let given = self.form.get(FIELD).unwrap_or_default();
        self.is_same_origin && verify_slices_are_equal(given.as_bytes(), self.token().as_bytes()).is_ok()
    }

    /// Creates the response to a form that was not sent by a page of the console.
    pub(super) fn untrusted(&self) -> Response {
        let t = self.language;
        self.message(StatusCode::FORBIDDEN, t.untrusted_title(), t.untrusted_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &str)]) -> Request {
        let builder = Request::builder().uri(Uri::from_static("/admin/sign_out/"));
        headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).finish()
    }

    #[test]
    fn only_requests_of_the_own_origin_are_accepted() {
        let own = Root::default();
        let public = Root::new(Some("https://example.com/auth"));
        for (headers, at_own, at_public) in [
            (&[][..], false, false),
            (&[("host", "localhost:8080")], false, false),
            (&[("sec-fetch-site", "same-origin")], true, true),
            (&[("sec-fetch-site", "same-site")], false, false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "https://example.com")], false, false),
            (&[("sec-fetch-site", "none")], false, false),
            (&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], false, false),
            (&[("origin", "http://localhost:8080"), ("host", "localhost:8080")], true, false),
            (&[("origin", "http://localhost:8080"), ("host", "localhost:8081")], false, false),
            (&[("origin", "https://example.com"), ("host", "10.0.0.1")], false, true),
            (&[("origin", "http://example.com"), ("host", "example.com")], true, false),
            (&[("origin", "https://example.com.evil.org"), ("host", "example.com")], false, false),
            (&[("origin", "null"), ("host", "example.com")], false, false),
        ] {
            assert_eq!(is_same_origin(&request(headers), &own), at_own, "{headers:?}");
            assert_eq!(is_same_origin(&request(headers), &public), at_public, "{headers:?}");
        }
    }

    #[test]
    fn tokens_differ_by_browser_and_session() {
        let tokens = [token("a", ""), token("b", ""), token("a", "1"), token("a1", ""), token("a\n", "1")];
        for (index, token) in tokens.iter().enumerate() {
            assert!(!tokens[..index].contains(token), "{token}");
        }
    }
}
