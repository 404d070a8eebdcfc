//! Client of a request: its address and its user agent, if the embedding service
//! passes them.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use crate::error::{catalog::ErrorCode, input::InvalidInput};

/// Maximum number of characters of a user agent that are stored. The user agents of browsers are shorter.
const MAX_USER_AGENT_CHARS: usize = 256;

/// Maximum number of characters of a request id. Known proxies and load balancers create at most 64.
const MAX_REQUEST_ID_CHARS: usize = 128;

/// Address of a client: an IPv4 address, or the first 64 bits of an IPv6 address. A client with one IPv6
/// address can use all addresses with the same first 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// Creates a client address from the IP address of a peer. An IPv4-mapped IPv6 address is treated as the
    /// IPv4 address.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
            address @ IpAddr::V4(_) => Self(address),
        }
    }

    /// Returns the address as 16 bytes. An IPv4 address is returned as an IPv4-mapped IPv6 address.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        match self.0 {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        }
    }

    /// Returns the networks by which requests of the address are counted, from the narrowest to the widest.
    /// An Internet connection with IPv6 has a /64, a /56 or a /48 network (RFC 6177), and its user can use
    /// any address in the network.
    pub(crate) fn networks(self) -> impl DoubleEndedIterator<Item = Network> {
        let widths: &'static [(u8, u32)] = match self.0 {
            IpAddr::V4(_) => &[(32, 1)],
            IpAddr::V6(_) => &[(64, 1), (56, 2), (48, 4)],
        };
        widths.iter().map(move |&(prefix, widening)| Network { address: self.0, prefix, widening })
    }

    /// Returns the widest of the [`networks`](Self::networks).
    pub(crate) fn widest_network(self) -> Network {
        self.networks().next_back().expect("an address has at least one network")
    }

    /// Returns the address from the bytes that [`to_bytes`](Self::to_bytes) returned.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self::new(Ipv6Addr::from(bytes).into())
    }
}

/// Formats the address as `203.0.113.9` or `2001:db8:1:2::/64`.
impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

/// Hides the address, since personal data must not be in a log.
impl fmt::Debug for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientAddress(…)")
    }
}

impl FromStr for ClientAddress {
    type Err = InvalidInput;

    fn from_str(input: &str) -> Result<Self, InvalidInput> {
        let address = input.strip_suffix("/64").unwrap_or(input).parse().map(Self::new);
        address.map_err(|_| ErrorCode::InvalidAddress.into())
    }
}

/// Network by which requests are counted: an IPv4 address, or a network of IPv6 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    /// Length of the prefix in bits.
    prefix: u8,
    /// Factor by which the limits of this network are higher than the limits of a single address.
    pub(crate) widening: u32,
}

impl Network {
    /// Parses the text of a network.
    pub(crate) fn from_stored(text: &str) -> Option<Self> {
        let (address, _) = text.split_once('/').unwrap_or((text, ""));
        let mut networks = ClientAddress::new(address.parse().ok()?).networks();
        networks.find(|network| network.to_string() == text)
    }
}

/// Formats the network as `203.0.113.9` or `2001:db8:1::/48`.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => {
                let masked = address.to_bits() & (u128::MAX << (128 - u32::from(self.prefix)));
                write!(f, "{}/{}", Ipv6Addr::from_bits(masked), self.prefix)
            }
        }
    }
}

/// Client of a request, as far as the embedding service knows it. Limits per address apply only if the
/// embedding service passes the address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    pub(crate) address: Option<ClientAddress>,
    pub(crate) user_agent: Option<String>,
    pub(crate) request_id: Option<String>,
}

impl Client {
    /// Sets the address of the client. It must not be the address of a proxy.
    #[must_use]
    pub fn address(mut self, address: impl Into<Option<IpAddr>>) -> Self {
        self.address = address.into().map(ClientAddress::new);
        self
    }

    /// Sets the user agent of the client. Control characters are removed, and at most 256 characters are
    /// kept.
    #[must_use]
    pub fn user_agent(mut self, user_agent: impl Into<Option<String>>) -> Self {
        self.user_agent = user_agent
            .into()
            .map(|name| name.chars().filter(|c| !c.is_control()).take(MAX_USER_AGENT_CHARS).collect())
            .filter(|name: &String| !name.is_empty());
        self
    }

    /// Sets the id by which the log of the embedding service identifies the request. It is stored in the
    /// [records](crate::CodeRequest) of requests for codes. An id that is empty, has more than 128 characters,
    /// or has other characters than visible ASCII is ignored.
    #[must_use]
    pub fn request_id(mut self, id: impl Into<Option<String>>) -> Self {
        let is_plain = |id: &String| {
            (1..=MAX_REQUEST_ID_CHARS).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        };
        self.request_id = id.into().filter(is_plain);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(input: &str) -> ClientAddress {
        ClientAddress::new(input.parse().expect("an address"))
    }

    #[test]
    fn ipv6_addresses_with_the_same_first_64_bits_are_equal() {
        for (input, same, shown) in [
            ("203.0.113.9", "203.0.113.9", "203.0.113.9"),
            ("::ffff:203.0.113.9", "203.0.113.9", "203.0.113.9"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(address(input), address(same));
            assert_eq!(address(input).to_string(), shown);
            assert_eq!(shown.parse(), Ok(address(input)));
            assert_eq!(ClientAddress::from_bytes(address(input).to_bytes()), address(input));
        }
        assert_ne!(address("2001:db8:1:2::"), address("2001:db8:1:3::"));
        assert_ne!(address("203.0.113.9"), address("203.0.113.10"));
    }

    #[test]
    fn ipv6_addresses_have_three_networks_and_ipv4_addresses_one() {
        let networks = |input| address(input).networks().map(|n| (n.to_string(), n.widening));
        assert!(networks("203.0.113.9").eq([("203.0.113.9".to_owned(), 1)]));
        let expected = [("2001:db8:1:23ff::/64", 1), ("2001:db8:1:2300::/56", 2), ("2001:db8:1::/48", 4)];
        let expected = expected.map(|(network, widening)| (network.to_owned(), widening));
        assert!(networks("2001:db8:1:23ff:4:5:6:7").eq(expected));
        assert_eq!(address("2001:db8:1:2::").widest_network().to_string(), "2001:db8:1::/48");
    }

    #[test]
    fn request_ids_of_other_characters_are_ignored() {
        let named = |id: &str| Client::default().request_id(id.to_owned()).request_id;
        assert_eq!(named("Root=1-67891233-abcdef"), Some("Root=1-67891233-abcdef".into()));
        assert!(named(&"a".repeat(128)).is_some());
        for id in ["", " ", "a b", "a\n", "я", &"a".repeat(129)] {
            assert_eq!(named(id), None, "{id:?}");
        }
    }

    #[test]
    fn user_agents_are_truncated_and_lose_control_characters() {
        let named = |name: &str| Client::default().user_agent(name.to_owned()).user_agent;
        assert_eq!(named("curl/8.0\r\n\0"), Some("curl/8.0".into()));
        assert_eq!(named(&"я".repeat(1_000)).map(|name| name.chars().count()), Some(256));
        assert_eq!(named("\u{1b}"), None);
    }
}
