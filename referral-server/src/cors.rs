//! Which pages of other origins may read what is answered (CORS).
//!
//! poem's own answers 403 to others. Here they are answered like anybody, and it is the browser that
//! keeps the answer from the page: who is no browser can send any `Origin`.

use std::str::FromStr;

use poem::{
    Request, Response,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
};

/// For how many seconds a browser may remember what is allowed: two hours, the most that Chromium
/// does.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// What a page may send beside what any page may.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type, x-request-id");

/// What a page may read beside what any page may.
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static("retry-after, x-request-id");

/// The origins whose pages may read what is answered. By default no other than the server's own.
///
/// Credentials that the browser adds by itself, such as cookies, are never allowed, and of no use: the
/// API knows a client by its token alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CorsOrigins {
    /// No other.
    #[default]
    None,
    /// Any.
    Any,
    /// These.
    Listed(Vec<HeaderValue>),
}

/// Reads origins as browsers send them, with commas between, or `*` for any.
impl FromStr for CorsOrigins {
    type Err = String;

    fn from_str(input: &str) -> Result<Self, String> {
        if input.trim() == "*" {
            return Ok(Self::Any);
        }
        let read = |entry: &str| {
            let value = HeaderValue::from_str(entry).ok().filter(|_| is_origin(entry));
            value.ok_or_else(|| {
                format!(
                    "`{entry}` is no origin as browsers send it; give scheme, host and, unless it is the usual one, \
                     port, such as https://app.example.com, or `*` alone for any"
                )
            })
        };
        input.split(',').map(|entry| read(entry.trim())).collect::<Result<_, _>>().map(Self::Listed)
    }
}

/// Whether a browser writes an origin like this.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
    let is_usual = matches!((scheme, authority.port_u16()), ("http", Some(80)) | ("https", Some(443)));
    // Of a URL with more in it than these two, there is more to write.
    text == format!("{scheme}://{authority}")
        && text == text.to_ascii_lowercase()
        && !text.contains(['@', '*'])
        && !is_usual
}

impl CorsOrigins {
    /// Whether a browser asks what a page may do.
    pub(crate) fn is_preflight(&self, request: &Request) -> bool {
        let has = |name| request.headers().contains_key(name);
        *self != Self::None
            && request.method() == Method::OPTIONS
            && has(header::ORIGIN)
            && has(header::ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// The answer to that, where these methods are served.
    pub(crate) fn answer(&self, request: &Request, methods: &str) -> Response {
        let response = Response::builder().status(StatusCode::NO_CONTENT);
        match self.allowed(request.headers().get(header::ORIGIN)) {
            None => response.finish(),
            Some(_) => response
                .header(header::ACCESS_CONTROL_ALLOW_METHODS, methods)
                .header(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS)
                .header(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE)
                .finish(),
        }
    }

    /// Lets a page of `origin` read an answer, if it is one of these.
    pub(crate) fn finish(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if let Self::Listed(_) = self {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        if let Some(allowed) = self.allowed(origin) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
        }
    }

    /// What is said to be allowed, if `origin` is.
    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match self {
            Self::None => None,
            Self::Any => Some(HeaderValue::from_static("*")),
            Self::Listed(origins) => origin.filter(|origin| origins.contains(origin)).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_as_browsers_send_them() {
        let listed = |origins: &[&'static str]| {
            Ok(CorsOrigins::Listed(origins.iter().map(|origin| HeaderValue::from_static(origin)).collect()))
        };
        for origin in [
            "https://app.example.com",
            "http://localhost:3000",
            "https://example.com:80",
            "http://[::1]:3000",
            "https://xn--e1afmkfd.xn--p1ai",
            "capacitor://localhost",
        ] {
            assert_eq!(origin.parse(), listed(&[origin]));
        }
        assert_eq!(
            "https://a.example, https://b.example".parse(),
            listed(&["https://a.example", "https://b.example"])
        );
        assert_eq!("*".parse(), Ok(CorsOrigins::Any));
        for input in [
            "",
            "null",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://app.example.com?",
            "https://app.example.com#",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "https://App.example.com",
            "HTTPS://app.example.com",
            "https://a:b@app.example.com",
            "https://*.example.com",
            "https://app.example.com,*",
            "https://app.example.com,",
            "https://пример.рф",
        ] {
            assert!(input.parse::<CorsOrigins>().is_err(), "{input}");
        }
    }
}
