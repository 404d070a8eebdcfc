//! Checks of the host that a request names.

use std::net::{Ipv4Addr, Ipv6Addr};

use poem::{
    Request,
    http::{HeaderValue, header},
};

/// Returns `true` if `host`, with a port or without, can only be this machine: `localhost`, a name below
/// it (RFC 6761, section 6.3), 127.0.0.0/8 or `[::1]`.
#[must_use]
pub fn is_loopback_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if let Some(address) = name.strip_prefix('[') {
        let address = address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
        return address.is_some_and(|address| address.is_loopback());
    }
    name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback()) || is_below_localhost(name)
}

/// Returns `true` for `localhost` and for names below it, of characters that cannot end a host in a URL.
fn is_below_localhost(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let mut labels = name.rsplit('.');
    labels.next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
        && labels.all(|label| !label.is_empty() && label.bytes().all(is_plain))
}

/// Returns `true` if a request is for a host of this machine.
///
/// HTTP/2 and the absolute form of HTTP/1.1 have the host in the URI. A client can also send several `Host`
/// headers. All of them must name this machine.
pub(crate) fn is_for_loopback(request: &Request) -> bool {
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let headers = request.headers().get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    let mut hosts = authority.into_iter().chain(headers).peekable();
    hosts.peek().is_some() && hosts.all(|host| str::from_utf8(host).is_ok_and(is_loopback_host))
}

#[cfg(test)]
mod tests {
    use poem::http::Uri;

    use super::*;

    const LOOPBACK: [&str; 13] = [
        "localhost",
        "localhost:8080",
        "LocalHost:",
        "app.localhost",
        "a.b-c.my_app.LOCALHOST:3000",
        "127.0.0.1",
        "127.0.0.1:8080",
        "127.255.255.254",
        "[::1]",
        "[::1]:8080",
        "[0:0:0:0:0:0:0:1]",
        "1.localhost",
        "127.0.0.1:",
    ];

    const OTHER: [&str; 28] = [
        "",
        ":",
        ":80",
        "example.com",
        "example.com:8080",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "notlocalhost",
        ".localhost",
        "a..localhost",
        "localhost.",
        "evil.com/x.localhost",
        "evil.com#.localhost",
        "evil.com\\.localhost",
        "user@localhost",
        "evil.com:80@localhost",
        "localhost:80@evil.com",
        "localhost:8a",
        "localhost:80:80",
        "localhost ",
        "0.0.0.0",
        "128.0.0.1",
        "127.1",
        "2130706433",
        "::1",
        "[::1",
        "[::ffff:127.0.0.1]",
        "[127.0.0.1]",
    ];

    #[test]
    fn only_names_and_addresses_of_this_machine_are_loopback() {
        for host in LOOPBACK {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in OTHER {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn all_hosts_of_a_request_must_be_loopback() {
        let request = |uri: &'static str, hosts: &[&str]| {
            let builder = Request::builder().uri(Uri::from_static(uri));
            hosts.iter().fold(builder, |builder, host| builder.header("host", *host)).finish()
        };
        for (uri, hosts, expected) in [
            ("/", &[][..], false),
            ("/", &["localhost"], true),
            ("/", &["example.com"], false),
            ("/", &["localhost", "example.com"], false),
            ("/", &["example.com", "localhost"], false),
            ("http://localhost/", &[], true),
            ("http://localhost/", &["example.com"], false),
            ("http://example.com/", &["localhost"], false),
            ("http://[::1]:80/", &["localhost:80"], true),
        ] {
            assert_eq!(is_for_loopback(&request(uri, hosts)), expected, "{uri}, {hosts:?}");
        }
    }
}
