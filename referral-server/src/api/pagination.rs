//! URLs of other pages of a list.

use poem::{
    Request,
    http::{Uri, header, uri::Authority},
};
use referral_core::PageLink;

use crate::{
    host::is_loopback_host,
    mount::{Prefix, Root},
};

/// Creates URLs of this server.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    /// URL that clients use, if it is configured.
    pub(crate) root: Root,
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
        self.link(uri, &Prefix::found(request), host, name, value)
    }

    fn link(&self, uri: &Uri, prefix: &Prefix, host: Option<&str>, name: &str, value: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, kept) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            if key != "offset" && key != "cursor" {
                query.append_pair(&key, &kept);
            }
        }
        query.append_pair(name, value);
        let path = prefix.remove_from(uri.path()).trim_end_matches('/');
        format!("{}{path}/?{}", self.base(prefix, host), query.finish())
    }

    /// Returns the URL of the root page. If it is not configured, links are relative, because a client can
    /// send any `Host`. Only a loopback host is used.
    fn base(&self, prefix: &Prefix, host: Option<&str>) -> String {
        let base = self.root.url(prefix);
        match host {
            Some(host) if !self.root.is_configured() && is_loopback_host(host) => {
                format!("http://{host}{base}")
            }
            _ => base,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_the_query_and_replaces_the_position() {
        let links = Links { root: Root::new(Some("https://example.com/")) };
        let uri = Uri::from_static("/api/v1/users?search=a%26b+c&limit=2&offset=4&cursor=x");
        assert_eq!(
            links.link(&uri, &Prefix::default(), None, "offset", "6"),
            "https://example.com/api/v1/users/?search=a%26b+c&limit=2&offset=6"
        );
    }

    #[test]
    fn only_a_loopback_host_is_used_in_links() {
        let links = Links { root: Root::default() };
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
            let link = links.link(
                &Uri::from_static("/api/v1/users/"),
                &Prefix::default(),
                Some(host),
                "cursor",
                "c",
            );
            assert_eq!(link, format!("{base}/api/v1/users/?cursor=c"), "{host}");
        }
    }
}
