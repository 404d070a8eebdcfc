//! Address of a client, also behind reverse proxies.
//!
//! A client can send any header. So an entry of the header counts only if a trusted proxy appended it. The
//! entries are read from the right, beginning with the address of the peer. The first address that does not
//! belong to a trusted proxy is the address of the client.

use std::{
    fmt, iter,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Once,
};

use ipnet::{IpNet, Ipv4Net};
use poem::{
    FromRequest, Request, RequestBody, Result,
    http::{HeaderMap, HeaderName, header},
};

use crate::middleware::RequestId;

/// Extractor of the client that sent a request.
pub(crate) struct Client(pub(crate) referral_core::Client);

/// Address of the client, which the middleware adds to the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoundAddress(pub(crate) Option<IpAddr>);

impl<'a> FromRequest<'a> for Client {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(Self(client_of(request)))
    }
}

/// Returns the client that sent a request.
pub(crate) fn client_of(request: &Request) -> referral_core::Client {
    let address = request.extensions().get().and_then(|FoundAddress(address)| *address);
    let user_agent = request.headers().get(header::USER_AGENT);
    let user_agent = user_agent.map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
    let request_id = request.extensions().get().map(|RequestId(id)| id.clone());
    referral_core::Client::default().address(address).user_agent(user_agent).request_id(request_id)
}

/// Addresses of reverse proxies that are trusted to name the client of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Returns the networks that are too large for proxies: prefixes shorter than /8 in IPv4, where the
    /// largest private network has /8 (RFC 1918), and shorter than /7 in IPv6 (RFC 4193).
    pub fn wide_blocks(&self) -> impl Iterator<Item = impl fmt::Display> {
        self.0.iter().filter(|block| match block {
            IpNet::V4(block) => block.prefix_len() < 8,
            IpNet::V6(block) => block.prefix_len() < 7,
        })
    }

    fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address))
    }
}

/// Parses a comma-separated list of addresses and networks, such as `10.0.0.0/8,::1`.
impl FromStr for TrustedProxies {
    type Err = String;

    fn from_str(input: &str) -> Result<Self, String> {
        let read = |entry: &str| {
            let net = entry.parse().or_else(|_| entry.parse::<IpAddr>().map(IpNet::from));
            net.map(unmapped)
                .map_err(|_| format!("`{entry}` must be an address or a network, such as 10.0.0.0/8 or ::1"))
        };
        input.split(',').map(|entry| read(entry.trim())).collect::<Result<_, _>>().map(Self)
    }
}

/// Converts a network of IPv4-mapped IPv6 addresses to IPv4.
fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(mapped) = net else { return net };
    let bits = mapped.prefix_len().checked_sub(96);
    let ipv4 = mapped.addr().to_ipv4_mapped().zip(bits);
    ipv4.and_then(|(address, bits)| Ipv4Net::new(address, bits).ok()).map_or(net, IpNet::V4)
}

/// Source of the client address of a request. Default: the address of the peer.
#[derive(Clone, Debug, Default)]
pub struct ClientAddresses(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    Peer,
    Forwarded(Forwarded),
    None,
}

#[derive(Clone, Debug)]
struct Forwarded {
    by: TrustedProxies,
    header: HeaderName,
}

impl ClientAddresses {
    /// Creates a source that trusts these proxies and this header only.
    ///
    /// A client can send other headers, and a proxy that does not process them passes them on. `Forwarded` is
    /// parsed as in RFC 7239, any other header as a list of addresses.
    #[must_use]
    pub fn forwarded(by: TrustedProxies, header: HeaderName) -> Self {
        Self(Source::Forwarded(Forwarded { by, header }))
    }

    /// Creates a source without addresses, for a host that does not know the peer of a request, such as one
    /// on a Unix socket. No limit per address applies. With any other source, requests without a peer address
    /// are rejected.
    #[must_use]
    pub fn none() -> Self {
        Self(Source::None)
    }

    /// Returns `true` if each request needs the address of its peer.
    pub(crate) fn need_peer(&self) -> bool {
        !matches!(self.0, Source::None)
    }

    /// Returns the address of the client: the right-most address in the header that does not belong to a
    /// trusted proxy. An entry that cannot be parsed ends the search at the proxy that appended it. Returns
    /// `None` if there is no peer, or no source.
    #[must_use]
    pub fn of(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let mut nearest = peer?.to_canonical();
        let Forwarded { by, header } = match &self.0 {
            Source::Forwarded(forwarded) => forwarded,
            Source::None => return None,
            Source::Peer => {
                if let Some(header) = USUAL.iter().find(|header| headers.contains_key(*header)) {
                    warn_once(header);
                }
                return Some(nearest);
            }
        };
        if !by.contain(nearest) {
            if headers.contains_key(header) {
                warn_once(header);
            }
            return Some(nearest);
        }
        for address in entries(header, headers).map_while(|address| address) {
            nearest = address;
            if !by.contain(nearest) {
                break;
            }
        }
        Some(nearest)
    }
}

/// Headers that reverse proxies set or append to.
const USUAL: [HeaderName; 3] =
    [header::FORWARDED, HeaderName::from_static("x-forwarded-for"), HeaderName::from_static("x-real-ip")];

/// Logs a warning for operators that have not configured a proxy, so that all clients have the same address.
/// It is logged once, because clients can send any header.
fn warn_once(header: &HeaderName) {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        tracing::warn!(
            %header,
            "a header was ignored, because no trusted proxy sent it; if a proxy sent it, add the proxy to \
             --trusted-proxies and set --client-address-header to the header: otherwise all clients of the proxy \
             have one address and share its limits"
        );
    });
}

/// Returns the addresses in the entries of a header from the right, `None` for an entry that cannot be
/// parsed. The lines of a header form one list.
fn entries(header: &HeaderName, headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let read = if *header == header::FORWARDED { address_in_element } else { address_of };
    let lines = headers.get_all(header).iter().rev();
    lines.flat_map(|line| from_right(line.as_bytes(), b',')).map(read)
}

/// Returns the address in an element of the header `Forwarded`, such as `for="[2001:db8::1]:80";proto=http`.
fn address_in_element(element: &[u8]) -> Option<IpAddr> {
    let pairs = from_right(element, b';').filter_map(|pair| str::from_utf8(pair).ok()?.split_once('='));
    let mut nodes = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    let (Some((_, node)), None) = (nodes.next(), nodes.next()) else { return None };
    let node = node.trim();
    let node = node.strip_prefix('"').and_then(|node| node.strip_suffix('"')).unwrap_or(node);
    address_of(node.as_bytes())
}

/// Returns the address in an entry, which may have a port.
fn address_of(entry: &[u8]) -> Option<IpAddr> {
    let entry = str::from_utf8(entry).ok()?.trim();
    let address = match entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().map(IpAddr::V6),
        None => entry.parse().or_else(|_| entry.parse::<SocketAddr>().map(|socket| socket.ip())),
    };
    address.ok().map(|address| address.to_canonical())
}

/// Splits `text` at separators outside quotes, from the right: the client may have sent the left part, with
/// an unclosed quote.
fn from_right(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    iter::from_fn(move || {
        let text = rest?;
        let Some(at) = last_outside_quotes(text, separator) else { return rest.take() };
        rest = Some(&text[..at]);
        Some(&text[at + 1..])
    })
}

fn last_outside_quotes(text: &[u8], separator: u8) -> Option<usize> {
    let is_escaped = |at: usize| text[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
    let mut is_quoted = false;
    (0..text.len()).rev().find(|&at| {
        if text[at] == b'"' {
            // From the right, the first quote ends quoted text, and the next one that is not escaped starts
            // it.
            is_quoted = !is_quoted || is_escaped(at);
        }
        text[at] == separator && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    const PROXIES: &str = "10.0.0.0/8, 192.0.2.1,::1,2001:db8:ffff::/48";

    fn ip(address: &str) -> IpAddr {
        address.parse().expect("an address")
    }

    fn headers(name: &str, lines: &[&[u8]]) -> HeaderMap {
        let name: HeaderName = name.parse().expect("a name");
        lines.iter().map(|line| (name.clone(), HeaderValue::from_bytes(line).expect("a value"))).collect()
    }

    /// Returns the client address of a request from this peer with these lines of the configured header.
    fn found(peer: &str, name: &str, lines: &[&str]) -> IpAddr {
        let proxies = PROXIES.parse().expect("proxies");
        let addresses = ClientAddresses::forwarded(proxies, name.parse().expect("a name"));
        let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
        addresses.of(Some(ip(peer)), &headers(name, &lines)).expect("a peer")
    }

    #[test]
    fn networks_that_are_too_large_are_found() {
        let list = "10.0.0.0/8,0.0.0.0/0,::ffff:0.0.0.0/96,128.0.0.0/7,fc00::/7,::/0,2000::/3,192.0.2.1";
        let proxies: TrustedProxies = list.parse().expect("proxies");
        let wide: Vec<_> = proxies.wide_blocks().map(|block| block.to_string()).collect();
        assert_eq!(wide, ["0.0.0.0/0", "0.0.0.0/0", "128.0.0.0/7", "::/0", "2000::/3"]);
    }

    #[test]
    fn without_proxies_the_client_is_the_peer() {
        let headers = headers("x-forwarded-for", &[b"203.0.113.7"]);
        let addresses = ClientAddresses::default();
        assert_eq!(addresses.of(Some(ip("10.0.0.1")), &headers), Some(ip("10.0.0.1")));
        assert_eq!(addresses.of(Some(ip("::ffff:10.0.0.1")), &headers), Some(ip("10.0.0.1")));
        assert_eq!(addresses.of(None, &headers), None);
        assert_eq!(ClientAddresses::none().of(Some(ip("10.0.0.1")), &headers), None);
    }

    #[test]
    fn the_client_is_the_right_most_address_that_is_not_a_proxy() {
        for (peer, lines, client) in [
            // The peer is not a proxy, so the header is ignored.
            ("203.0.113.7", &["192.0.2.1"][..], "203.0.113.7"),
            ("203.0.113.7", &["10.0.0.1, 10.0.0.2"], "203.0.113.7"),
            // One proxy, several proxies, and headers without the address of a client.
            ("10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["203.0.113.7, 10.0.0.2"], "203.0.113.7"),
            ("10.0.0.1", &["203.0.113.7,192.0.2.1 ,\t10.255.0.2"], "203.0.113.7"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // Entries of the client are on the left.
            ("10.0.0.1", &["1.1.1.1, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["10.0.0.9, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.7, 10.0.0.2"], "203.0.113.7"),
            ("10.0.0.1", &["\", 203.0.113.7"], "203.0.113.7"),
            // Lines form one list.
            ("10.0.0.1", &["1.1.1.1", "203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.7", "10.0.0.3, 10.0.0.2"], "203.0.113.7"),
            // An entry that cannot be parsed ends the search.
            ("10.0.0.1", &["unknown"], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7, "], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7, _hidden, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["203.0.113.7, é, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["203.0.113.7 10.0.0.2"], "10.0.0.1"),
            // All forms of addresses.
            ("10.0.0.1", &["203.0.113.7:4711"], "203.0.113.7"),
            ("10.0.0.1", &["2001:db8::7"], "2001:db8::7"),
            ("10.0.0.1", &["[2001:db8::7]"], "2001:db8::7"),
            ("10.0.0.1", &["[2001:db8::7]:4711"], "2001:db8::7"),
            ("10.0.0.1", &["203.0.113.7:65536"], "10.0.0.1"),
            ("10.0.0.1", &["[203.0.113.7]"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7/32"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.007"], "10.0.0.1"),
            // IPv4-mapped IPv6 addresses are IPv4 addresses.
            ("::ffff:10.0.0.1", &["203.0.113.7, ::ffff:10.0.0.2"], "203.0.113.7"),
            ("10.0.0.1", &["[::ffff:203.0.113.7]:4711"], "203.0.113.7"),
            // Proxies with IPv6 addresses.
            ("::1", &["203.0.113.7, 2001:db8:ffff:1::1"], "203.0.113.7"),
            ("2001:db8::1", &["203.0.113.7"], "2001:db8::1"),
        ] {
            for name in ["X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP"] {
                assert_eq!(found(peer, name, lines), ip(client), "{peer} {lines:?}");
            }
        }
    }

    #[test]
    fn forwarded_is_parsed_as_in_rfc_7239() {
        for (lines, client) in [
            (&["for=203.0.113.7"][..], "203.0.113.7"),
            (&["for=203.0.113.7;proto=https;by=10.0.0.1"], "203.0.113.7"),
            (&["proto=https; For=\"203.0.113.7:4711\""], "203.0.113.7"),
            (&["FOR=\"[2001:db8::7]:4711\", for=10.0.0.2"], "2001:db8::7"),
            (&["for=1.1.1.1, for=203.0.113.7", "for=10.0.0.2;host=\"a, for=1.1.1.1\""], "203.0.113.7"),
            // The `Host` of the client is in quotes.
            (&["for=203.0.113.7;host=\"a;for=1.1.1.1\""], "203.0.113.7"),
            (&["for=203.0.113.7;host=\"a\\\";for=1.1.1.1;b=\\\"\""], "203.0.113.7"),
            (&["for=203.0.113.7;host=\"a\\\\\""], "203.0.113.7"),
            // An unclosed quote of a client does not hide the entry of the proxy.
            (&["for=\"1.1.1.1, for=203.0.113.7"], "203.0.113.7"),
            (&["for=1.1.1.1;host=\"x", "for=203.0.113.7;proto=\"https\""], "203.0.113.7"),
            // Cannot be parsed.
            (&["for=unknown"], "10.0.0.1"),
            (&["for=203.0.113.7, for=_gazonk, for=10.0.0.2"], "10.0.0.2"),
            (&["for=203.0.113.7;for=1.1.1.1"], "10.0.0.1"),
            (&["for=\"203.0.113.7"], "10.0.0.1"),
            (&["by=203.0.113.7"], "10.0.0.1"),
            (&["203.0.113.7"], "10.0.0.1"),
            (&[""], "10.0.0.1"),
        ] {
            assert_eq!(found("10.0.0.1", "Forwarded", lines), ip(client), "{lines:?}");
        }
    }

    #[test]
    fn other_headers_are_ignored() {
        let addresses = ClientAddresses::forwarded(PROXIES.parse().expect("proxies"), header::FORWARDED);
        let headers = headers("x-forwarded-for", &[b"203.0.113.7"]);
        assert_eq!(addresses.of(Some(ip("10.0.0.1")), &headers), Some(ip("10.0.0.1")));
    }

    #[test]
    fn proxies_are_addresses_and_networks() {
        for (proxies, inside, outside) in [
            ("10.1.2.3/8", "10.255.0.1", "11.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("0.0.0.0/0", "203.0.113.7", "::1"),
            ("::/0", "2001:db8::1", "203.0.113.7"),
            ("fe80::/10", "fe80::1", "fec0::1"),
        ] {
            let proxies: TrustedProxies = proxies.parse().expect(proxies);
            assert!(proxies.contain(ip(inside)) && !proxies.contain(ip(outside)), "{proxies:?}");
        }
        for input in ["", "10.0.0.0/33", "10.0.0.0/8,", "proxy.example.com", "10.0.0.1:80", "10.0.0.0/8 ::1"]
        {
            assert!(input.parse::<TrustedProxies>().is_err(), "{input}");
        }
    }

    #[tokio::test]
    async fn handlers_get_the_address_and_the_user_agent_of_the_client() {
        let long = "я".repeat(1000);
        for (agent, expected) in [
            (None, None),
            (Some(&b""[..]), None),
            (Some(b"\t"), None),
            (Some(b"curl/7.88.1"), Some("curl/7.88.1".to_owned())),
            (Some(b"a\tb\xff"), Some("ab\u{fffd}".to_owned())),
            (Some(long.as_bytes()), Some("я".repeat(256))),
        ] {
            let mut request = Request::builder().extension(FoundAddress(Some(ip("203.0.113.7")))).finish();
            let agent = agent.map(|agent| HeaderValue::from_bytes(agent).expect("a value"));
            request.headers_mut().extend(agent.map(|agent| (header::USER_AGENT, agent)));
            let Client(client) =
                Client::from_request_without_body(&request).await.expect("the extractor does not fail");
            let address = Some(ip("203.0.113.7"));
            assert_eq!(client, referral_core::Client::default().address(address).user_agent(expected));
        }
        let request = Request::default();
        let Client(client) =
            Client::from_request_without_body(&request).await.expect("the extractor does not fail");
        assert_eq!(client, referral_core::Client::default());
    }
}
