//! Location of the endpoint: the path prefix under which a host mounts it, and the URL that clients use.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use poem::{Request, http::Uri};

/// Position of the prefix in a [`Template`].
pub(crate) const MARK: &str = "{mount-prefix}";

/// Path under which a host mounts the endpoint, without a trailing slash. It is empty at the root path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prefix(String);

impl Prefix {
    /// Returns the prefix that a router of the host has removed from the path of a request.
    ///
    /// Pages contain the prefix. So a prefix with characters that need an escape there is ignored.
    pub(crate) fn of(request: &Request) -> Self {
        let (whole, path) = (request.original_uri().path(), request.uri().path());
        let prefix = match whole.strip_suffix(path) {
            Some(prefix) => prefix,
            // The root page below the prefix, without a trailing slash.
            None if path == "/" => whole,
            None => "",
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$()*+,;=:@".contains(&byte);
        let mut segments = prefix.split('/');
        let is_path = segments.next() == Some("")
            && segments.all(|segment| !segment.is_empty() && segment.bytes().all(is_plain));
        Self(if is_path { prefix.to_owned() } else { String::new() })
    }

    /// Returns the prefix that the middleware has added to a request.
    pub(crate) fn found(request: &Request) -> Self {
        request.data().cloned().unwrap_or_default()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the part of a path of the host that is below the prefix.
    pub(crate) fn remove_from<'a>(&self, path: &'a str) -> &'a str {
        path.strip_prefix(&self.0).unwrap_or(path)
    }
}

/// URL of the root page of the endpoint, as far as it is configured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Root {
    /// The configured URL without a trailing slash, or an empty string.
    url: String,
    /// The path of the configured URL, or an empty string.
    path: String,
}

impl Root {
    pub(crate) fn new(public_url: Option<&str>) -> Self {
        let url = public_url.unwrap_or_default().trim_end_matches('/').to_owned();
        let path = url.parse::<Uri>().map(|uri| uri.path().trim_end_matches('/').to_owned());
        Self { path: path.unwrap_or_default(), url }
    }

    /// Returns `true` if a URL is configured.
    pub(crate) fn is_configured(&self) -> bool {
        !self.url.is_empty()
    }

    /// Returns the URL without a trailing slash, or only the path if no URL is configured.
    pub(crate) fn url(&self, prefix: &Prefix) -> String {
        self.url_with(prefix.as_str())
    }

    /// Returns the path without a trailing slash.
    pub(crate) fn path<'a>(&'a self, prefix: &'a Prefix) -> &'a str {
        if self.path.is_empty() { prefix.as_str() } else { &self.path }
    }

    /// Returns `true` if clients use TLS, according to the configured URL.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.url.starts_with("https:")
    }

    /// Returns the scheme and the host with its port, if a URL is configured.
    pub(crate) fn origin(&self) -> Option<(String, String)> {
        let uri = self.url.parse::<Uri>().ok()?;
        Some((uri.scheme_str()?.to_owned(), uri.authority()?.as_str().to_owned()))
    }

    /// Returns the URL for a [`Template`].
    pub(crate) fn marked_url(&self) -> String {
        self.url_with(MARK)
    }

    /// Returns the path for a [`Template`].
    pub(crate) fn marked_path(&self) -> &str {
        if self.path.is_empty() { MARK } else { &self.path }
    }

    /// A configured path is the whole path that clients use, since a proxy may have removed a part of it.
    fn url_with(&self, prefix: &str) -> String {
        if self.path.is_empty() { format!("{}{prefix}", self.url) } else { self.url.clone() }
    }
}

/// Text in which each [`MARK`] is replaced with the prefix of a request.
pub(crate) struct Template {
    /// Text for the root path.
    at_root: Rendered,
    /// Positions of the prefix in this text.
    positions: Vec<usize>,
    describe: fn(&str) -> String,
    /// Text for the last other prefix. Almost all hosts have only one.
    last: Mutex<Option<(Prefix, Rendered)>>,
}

/// Text for one prefix.
#[derive(Clone)]
pub(crate) struct Rendered {
    pub(crate) text: Bytes,
    /// Result of the function that the template was created with.
    pub(crate) description: String,
}

impl Rendered {
    fn new(text: String, describe: fn(&str) -> String) -> Self {
        Self { description: describe(&text), text: text.into() }
    }
}

impl Template {
    /// Creates a template. The function describes each rendered text.
    pub(crate) fn new(text: &str, describe: fn(&str) -> String) -> Self {
        let (mut root, mut positions) = (String::new(), Vec::new());
        let mut pieces = text.split(MARK);
        root.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            positions.push(root.len());
            root.push_str(piece);
        }
        Self { at_root: Rendered::new(root, describe), positions, describe, last: Mutex::default() }
    }

    /// Returns the text for a prefix.
    pub(crate) fn at(&self, prefix: &Prefix) -> Rendered {
        if prefix.as_str().is_empty() || self.positions.is_empty() {
            return self.at_root.clone();
        }
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rendered)) = last().as_ref().filter(|(of, _)| of == prefix) {
            return rendered.clone();
        }
        let rendered = Rendered::new(self.render(prefix), self.describe);
        *last() = Some((prefix.clone(), rendered.clone()));
        rendered
    }

    fn render(&self, prefix: &Prefix) -> String {
        let mut text = String::from_utf8_lossy(&self.at_root.text).into_owned();
        for position in self.positions.iter().rev() {
            text.insert_str(*position, prefix.as_str());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use poem::{
        Body,
        http::uri::{PathAndQuery, Scheme},
        web::{LocalAddr, RemoteAddr},
    };

    use super::*;

    /// Returns the prefix of a request for `whole`, of which the host passes `path`.
    fn prefix_of(whole: &str, path: &'static str) -> String {
        let parts = poem::http::Request::builder().uri(whole).body(()).expect("a request").into_parts().0;
        let parts = (parts, LocalAddr::default(), RemoteAddr::default(), Scheme::HTTP);
        let mut request = Request::from_parts(parts.into(), Body::empty());
        *request.uri_mut() = Uri::from(PathAndQuery::from_static(path));
        Prefix::of(&request).0
    }

    #[test]
    fn the_prefix_is_the_removed_part_of_the_path() {
        for (whole, path, prefix) in [
            ("/", "/", ""),
            ("/docs/", "/docs/", ""),
            ("/auth", "/", "/auth"),
            ("/auth/", "/", "/auth"),
            ("/auth/docs", "/docs", "/auth"),
            ("/a/b-c/docs/?x=/y", "/docs/?x=/y", "/a/b-c"),
            ("http://localhost/auth/docs/", "/docs/", "/auth"),
            ("/%D0%B0/docs/", "/docs/", "/%D0%B0"),
            // The host has replaced the path.
            ("/sign-in", "/docs/", ""),
        ] {
            assert_eq!(prefix_of(whole, path), prefix, "{whole}");
        }
    }

    #[test]
    fn a_prefix_that_needs_an_escape_in_pages_is_ignored() {
        for prefix in ["//example.com", "/a\"b", "/a'b", "/a&b", "/{a}", "/a\\b", "/a//b", "/é"] {
            assert_eq!(prefix_of(&format!("{prefix}/docs/"), "/docs/"), "", "{prefix}");
        }
    }

    #[test]
    fn a_configured_path_replaces_the_prefix() {
        let prefix = Prefix("/auth".into());
        for (public_url, url, path) in [
            (None, "/auth", MARK),
            (Some("https://example.com/"), "https://example.com/auth", MARK),
            (Some("https://example.com/sign-in/"), "https://example.com/sign-in", "/sign-in"),
        ] {
            let root = Root::new(public_url);
            assert_eq!((&*root.url(&prefix), root.marked_path()), (url, path), "{public_url:?}");
            assert_eq!(root.is_configured(), public_url.is_some());
        }
    }

    #[test]
    fn a_template_is_rendered_for_each_prefix() {
        let template = Template::new(&format!("a{MARK}/b{MARK}{MARK}c"), str::to_uppercase);
        for (prefix, text) in [("", "a/bc"), ("/x", "a/x/b/x/xc"), ("", "a/bc"), ("/y", "a/y/b/y/yc")] {
            for _ in 0..2 {
                let rendered = template.at(&Prefix(prefix.into()));
                assert_eq!(&*rendered.text, text.as_bytes());
                assert_eq!(rendered.description, text.to_uppercase());
            }
        }
    }
}
