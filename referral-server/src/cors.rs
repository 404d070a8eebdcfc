//! Cross-origin resource sharing (CORS): origins whose pages may read responses.
//!
//! The middleware of poem responds with 403 to requests from other origins. This module processes them as
//! usual, and the browser hides the response from the page. Clients other than browsers can send any
//! `Origin`.

use std::str::FromStr;

use poem::{
    Request, Response,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
};

/// Number of seconds for which a browser may cache a preflight response: two hours, the maximum of Chromium.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// Request headers that pages may send in addition to the default ones. HTTP clients and tracing libraries
/// add headers of their own, which the API ignores. Current browsers accept any header by `*`, except
/// `Authorization`. The common ones are listed for older browsers.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, x-request-id, x-requested-with, traceparent, tracestate, baggage, sentry-trace, *",
);

/// Response headers that pages may read in addition to the default ones.
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static("retry-after, x-request-id");

/// Origins whose pages may read responses. Default: only the server's own origin.
///
/// Credentials that the browser adds itself, such as cookies, are never allowed. The API does not use them:
/// it authenticates clients by token only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CorsOrigins {
    /// No other origin.
    #[default]
    None,
    /// Any origin.
    Any,
    /// The listed origins.
    Listed(Vec<HeaderValue>),
}

/// Parses a comma-separated list of origins as browsers send them, or `*` for any origin.
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
                    "`{entry}` is not an origin as browsers send it; give scheme, host and, unless it is the default, \
                     port, such as https://app.example.com, or `*` alone for any origin"
                )
            })
        };
        input.split(',').map(|entry| read(entry.trim())).collect::<Result<_, _>>().map(Self::Listed)
    }
}

/// Returns `true` if browsers send an origin in this form.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
    let is_usual = matches!((scheme, authority.port_u16()), ("http", Some(80)) | ("https", Some(443)));
    // A URL with other parts, such as a path, is longer than scheme and authority.
    text == format!("{scheme}://{authority}")
        && text == text.to_ascii_lowercase()
        && !text.contains(['@', '*'])
        && !is_usual
}

impl CorsOrigins {
    /// Returns `true` if the request is a preflight request of a browser.
    pub(crate) fn is_preflight(&self, request: &Request) -> bool {
        let has = |name| request.headers().contains_key(name);
        *self != Self::None
            && request.method() == Method::OPTIONS
            && has(header::ORIGIN)
            && has(header::ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Creates the response to a preflight request for a path with these methods.
    pub(crate) fn respond(&self, request: &Request, methods: &str) -> Response {
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

    /// Adds the headers that let a page of `origin` read the response, if the origin is allowed.
    pub(crate) fn finish(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if let Self::Listed(_) = self {
            add_vary(headers);
        }
        if let Some(allowed) = self.allowed(origin) {
            headers.entry(header::ACCESS_CONTROL_ALLOW_ORIGIN).or_insert(allowed);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
        }
    }

    /// Returns the value of `Access-Control-Allow-Origin`, if `origin` is allowed.
    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match self {
            Self::None => None,
            Self::Any => Some(HeaderValue::from_static("*")),
            Self::Listed(origins) => origin.filter(|origin| origins.contains(origin)).cloned(),
        }
    }
}

/// Adds `origin` to the header `Vary`, in one line: some caches read only one.
fn add_vary(headers: &mut HeaderMap) {
    let found = headers.get(header::VARY).and_then(|found| found.to_str().ok());
    let both = found.and_then(|found| HeaderValue::from_str(&format!("{found}, origin")).ok());
    headers.insert(header::VARY, both.unwrap_or(HeaderValue::from_static("origin")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_parsed_as_browsers_send_them() {
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
