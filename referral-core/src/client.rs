//! Where a request comes from, as far as the host knows.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use crate::Invalid;

/// The most characters of a user agent that are kept: the longest of a browser has fewer.
const MAX_USER_AGENT_CHARS: usize = 256;

/// An address that somebody comes from, as far as it tells people apart: of IPv6 the first 64
/// bits, since whoever has one address there has all that share them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// The address of a peer. An IPv4 address that is written as an IPv6 one is that IPv4 address.
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

    /// The address in 16 bytes; IPv4 as IPv6 writes it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        match self.0 {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        }
    }

    /// Returns the networks that the address is counted by, from the narrowest to the widest. A line of
    /// IPv6 has a /64, a /56 or a /48 (RFC 6177), and its user may take any address in it.
    pub(crate) fn networks(self) -> impl DoubleEndedIterator<Item = Network> {
        let widths: &'static [(u8, u32)] = match self.0 {
            IpAddr::V4(_) => &[(32, 1)],
            IpAddr::V6(_) => &[(64, 1), (56, 2), (48, 4)],
        };
        widths.iter().map(move |&(prefix, widening)| Network { address: self.0, prefix, widening })
    }

    /// Returns the widest of these networks.
    pub(crate) fn widest_network(self) -> Network {
        self.networks().next_back().expect("an address has at least one network")
    }

    /// The address that [`to_bytes`](Self::to_bytes) made these of.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self::new(Ipv6Addr::from(bytes).into())
    }
}

/// `203.0.113.9`, or `2001:db8:1:2::/64`.
impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

/// Shows nothing: whose address it is, is not for a log.
impl fmt::Debug for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientAddress(…)")
    }
}

impl FromStr for ClientAddress {
    type Err = Invalid;

    fn from_str(input: &str) -> Result<Self, Invalid> {
        let address = input.strip_suffix("/64").unwrap_or(input).parse().map(Self::new);
        address.map_err(|_| Invalid::new("invalid_address", "This is not an IP address."))
    }
}

/// Network by which requests are counted: an IPv4 address, or a prefix of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    /// Length of the prefix in bits.
    prefix: u8,
    /// Factor by which the limits of this network are wider than those of a single address.
    pub(crate) widening: u32,
}

/// `203.0.113.9`, or `2001:db8:1::/48`.
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

/// Who asks, as far as the host knows. Limits per address hold only where it knows the address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    pub(crate) address: Option<ClientAddress>,
    pub(crate) user_agent: Option<String>,
}

impl Client {
    /// Comes from this address: the true one, and not that of a proxy between.
    #[must_use]
    pub fn address(mut self, address: impl Into<Option<IpAddr>>) -> Self {
        self.address = address.into().map(ClientAddress::new);
        self
    }

    /// Says of itself what program it is, of which 256 characters are kept.
    #[must_use]
    pub fn user_agent(mut self, user_agent: impl Into<Option<String>>) -> Self {
        self.user_agent = user_agent
            .into()
            .map(|name| name.chars().filter(|c| !c.is_control()).take(MAX_USER_AGENT_CHARS).collect())
            .filter(|name: &String| !name.is_empty());
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
    fn addresses_of_one_household_are_one() {
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
    fn ipv6_is_counted_by_three_networks_and_ipv4_by_one() {
        let networks = |input| address(input).networks().map(|n| (n.to_string(), n.widening));
        assert!(networks("203.0.113.9").eq([("203.0.113.9".to_owned(), 1)]));
        let expected = [("2001:db8:1:23ff::/64", 1), ("2001:db8:1:2300::/56", 2), ("2001:db8:1::/48", 4)];
        let expected = expected.map(|(network, widening)| (network.to_owned(), widening));
        assert!(networks("2001:db8:1:23ff:4:5:6:7").eq(expected));
        assert_eq!(address("2001:db8:1:2::").widest_network().to_string(), "2001:db8:1::/48");
    }

    #[test]
    fn a_user_agent_is_cut_and_cleaned() {
        let named = |name: &str| Client::default().user_agent(name.to_owned()).user_agent;
        assert_eq!(named("curl/8.0\r\n\0"), Some("curl/8.0".into()));
        assert_eq!(named(&"я".repeat(1_000)).map(|name| name.chars().count()), Some(256));
        assert_eq!(named("\u{1b}"), None);
    }
}
