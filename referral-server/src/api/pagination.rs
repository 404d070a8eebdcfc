//! URLs of other pages of a list.

use poem::{
    Request,
    http::{Uri, header, uri::Authority},
};
use referral_core::PageLink;

use crate::host::is_loopback_host;

/// Creates URLs of this server.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    /// Scheme and host that clients use, if they are configured.
    pub(crate) public_url: Option<String>,
}

impl Links {
    /// Returns the URL of another page of the list that `request` reads.
    pub(crate) fn to(&self, request: &Request, link: &PageLink) -> String {
        match link {
            PageLink::Offset(offset) => self.with(request, "offset", &offset.to_string()),
            PageLink::Cursor(cursor) => self.with(request, "cursor", cursor),
        }
    }

    fn with(&self, request: &Request, name: &str, value: &str) -> String {
        let uri = request.original_uri();
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        // HTTP/2 has the host in the URI.
        let host = host.or_else(|| uri.authority().map(Authority::as_str));
        self.link(uri, host, name, value)
    }

    fn link(&self, uri: &Uri, host: Option<&str>, name: &str, value: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, kept) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            if key != "offset" && key != "cursor" {
                query.append_pair(&key, &kept);
            }
        }
        query.append_pair(name, value);
        let path = uri.path().trim_end_matches('/');
        format!("{}{path}/?{}", self.base(host), query.finish())
    }

    /// Returns the scheme and host of links. Returns an empty string, which makes links relative, if they are
    /// not configured: a client can send any `Host`, so only a loopback host is used.
    fn base(&self, host: Option<&str>) -> String {
        match (&self.public_url, host) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(host)) if is_loopback_host(host) => format!("http://{host}"),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_the_query_and_replaces_the_position() {
        let links = Links { public_url: Some("https://example.com/".into()) };
        let uri = Uri::from_static("/api/v1/users?search=a%26b+c&limit=2&offset=4&cursor=x");
        assert_eq!(
            links.link(&uri, None, "offset", "6"),
            "https://example.com/api/v1/users/?search=a%26b+c&limit=2&offset=6"
        );
    }

    #[test]
    fn only_a_loopback_host_is_used_in_links() {
        let links = Links { public_url: None };
        for (host, base) in [
            ("localhost:8080", "http://localhost:8080"),
            ("127.0.0.1:1", "http://127.0.0.1:1"),
            ("127.1.2.3", "http://127.1.2.3"),
            ("[::1]:80", "http://[::1]:80"),
            ("app.localhost:80", "http://app.localhost:80"),
            ("example.com/.localhost", ""),
            ("example.com", ""),
            ("localhost.example.com", ""),
            ("127.0.0.1:80@example.com", ""),
            ("localhost:80/../", ""),
        ] {
            let link = links.link(&Uri::from_static("/api/v1/users/"), Some(host), "cursor", "c");
            assert_eq!(link, format!("{base}/api/v1/users/?cursor=c"), "{host}");
        }
    }
}
