//! Counters of recent events of a phone, an address, a pair of both, or a number range.
//!
//! A counter has the times of its newest events, as many as its limits need. An event can be refunded by its
//! [`CountedEvent`]: a code that led to a sign-in is refunded, so it does not count against any limit per address or
//! number range. The functions of this module are pure. The storage stores the counters.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    rate_limit::client::{ClientAddress, Network},
    user::phone::PhoneNumber,
};

/// Kind of a counted event. Its number is stored in the lowest three bits of each event, see
/// [`CountedEvent::to_number`]. The numbers must never change, and must be less than eight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "a storage has the number of each kind in its schema")]
pub enum EventKind {
    /// A code was sent.
    Code = 0,
    /// A wrong code was received.
    FailedAttempt = 1,
    /// An unknown invite code was received.
    UnknownInvite = 2,
    /// An attempt to sign in with a phone without a valid challenge, which cannot succeed.
    AttemptWithoutChallenge = 3,
    /// A profile edit with an email address.
    EmailChange = 4,
}

impl EventKind {
    /// All kinds, in the order of the numbers under which they are stored.
    pub const ALL: [Self; 5] = [
        Self::Code,
        Self::FailedAttempt,
        Self::UnknownInvite,
        Self::AttemptWithoutChallenge,
        Self::EmailChange,
    ];
}

/// Counted event. The events of a counter are unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CountedEvent {
    /// Time of the event.
    pub at: OffsetDateTime,
    /// Kind of the event.
    pub kind: EventKind,
}

impl CountedEvent {
    /// Returns the event as one number for the storage: the microseconds since 1970, multiplied by eight,
    /// plus the number of the kind.
    #[must_use]
    pub fn to_number(self) -> i64 {
        let micros = i64::try_from(self.at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
        micros.saturating_mul(8) | self.kind as i64
    }

    /// Returns the event of a number that [`to_number`](Self::to_number) returned, or `None` if the number is
    /// invalid.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(number >> 3) * 1_000).ok()?;
        let kind = EventKind::ALL.into_iter().find(|kind| *kind as i64 == number & 7)?;
        Some(Self { at, kind })
    }
}

/// Kind of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Subject {
    Address {
        /// Factor by which the limits are higher than the limits of a single address.
        widening: u32,
    },
    NumberRange,
    NumberRangeAndAddress,
    PhoneAndAddress,
    Phone,
}

/// Key of a counter, as one text such as `phone/+79608543017`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterKey {
    text: String,
    subject: Subject,
}

impl CounterKey {
    pub(crate) fn phone(phone: &PhoneNumber) -> Self {
        Self { text: format!("phone/{}", phone.as_str()), subject: Subject::Phone }
    }

    /// Returns the keys of all networks by which an address is counted, or none without an address.
    pub(crate) fn networks(address: impl Into<Option<ClientAddress>>) -> impl Iterator<Item = Self> {
        let key = |network: Network| Self {
            text: format!("address/{network}"),
            subject: Subject::Address { widening: network.widening },
        };
        address.into().into_iter().flat_map(ClientAddress::networks).map(key)
    }

    /// Returns the key of the narrowest network.
    #[cfg(test)]
    pub(crate) fn of_address(address: ClientAddress) -> Self {
        Self::networks(address).next().expect("an address has at least one network")
    }

    /// Returns the key of a pair of a phone and an address. It uses the widest network of the address, since
    /// an attacker can use any address in that network.
    pub(crate) fn phone_and_address(phone: &PhoneNumber, address: ClientAddress) -> Self {
        let text = format!("pair/{}/{}", phone.as_str(), address.widest_network());
        Self { text, subject: Subject::PhoneAndAddress }
    }

    /// Returns the key of the number range of a phone: all numbers that differ in the last three digits only.
    pub(crate) fn number_range(phone: &PhoneNumber) -> Self {
        Self { text: format!("range/{}", phone.number_range()), subject: Subject::NumberRange }
    }

    /// Returns the key of the codes that one address requested for a number range, by its widest network.
    pub(crate) fn number_range_and_address(phone: &PhoneNumber, address: ClientAddress) -> Self {
        let text = format!("range/{}/{}", phone.number_range(), address.widest_network());
        Self { text, subject: Subject::NumberRangeAndAddress }
    }

    /// Returns the keys of the codes that one address requested for a phone and for its number range.
    pub(crate) fn shares_of_address(phone: &PhoneNumber, address: ClientAddress) -> [Self; 2] {
        [Self::phone_and_address(phone, address), Self::number_range_and_address(phone, address)]
    }

    /// Creates a key from the text that [`as_str`](Self::as_str) returned, or returns `None` if the text is
    /// invalid.
    #[must_use]
    pub fn from_stored(text: String) -> Option<Self> {
        let is_phone = |phone: &str| PhoneNumber::from_stored(phone.to_owned()).is_ok();
        // A range lacks the last three digits.
        let is_range = |range: &str| is_phone(&format!("{range}000"));
        let (kind, rest) = text.split_once('/')?;
        let subject = match (kind, rest.split_once('/')) {
            ("address", _) => Subject::Address { widening: Network::from_stored(rest)?.widening },
            ("phone", None) if is_phone(rest) => Subject::Phone,
            ("pair", Some((phone, network))) if is_phone(phone) => {
                Network::from_stored(network)?;
                Subject::PhoneAndAddress
            }
            ("range", None) if is_range(rest) => Subject::NumberRange,
            ("range", Some((range, network))) if is_range(range) => {
                Network::from_stored(network)?;
                Subject::NumberRangeAndAddress
            }
            _ => return None,
        };
        Some(Self { text, subject })
    }

    /// Returns the key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_of_address(&self) -> bool {
        matches!(self.subject, Subject::Address { .. })
    }

    pub(crate) fn subject(&self) -> Subject {
        self.subject
    }
}

/// Hides the phone and the address.
impl fmt::Debug for CounterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CounterKey({:?}/…)", self.subject)
    }
}

/// Counter to store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Key of the counter.
    pub key: CounterKey,
    /// Counted events, sorted by time.
    pub events: Vec<CountedEvent>,
    /// Time from which the counter has no effect and can be deleted. It is rounded up, so that it seldom
    /// changes.
    #[serde(with = "crate::stored::micros")]
    pub ends_at: OffsetDateTime,
}

/// Counters on which the decision about a request depends, by [`CounterKey`]. A counter that is not stored is
/// missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(pub(crate) BTreeMap<CounterKey, Vec<CountedEvent>>);

impl FromIterator<(CounterKey, Vec<CountedEvent>)> for Counters {
    fn from_iter<T: IntoIterator<Item = (CounterKey, Vec<CountedEvent>)>>(counters: T) -> Self {
        Self(counters.into_iter().collect())
    }
}

impl Counters {
    /// Returns the events of the counter with this key, or none if the counter is missing.
    #[must_use]
    pub fn events(&self, key: &CounterKey) -> &[CountedEvent] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Returns the times of the events of one kind, sorted.
    pub(crate) fn timestamps(&self, key: &CounterKey, kind: EventKind) -> Vec<OffsetDateTime> {
        self.events(key).iter().filter(|event| event.kind == kind).map(|event| event.at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> ClientAddress {
        ClientAddress::from_bytes([number; 16])
    }

    #[test]
    fn events_round_trip_through_numbers() {
        for kind in EventKind::ALL {
            for micros in [0, 1, 1_700_000_000_123_456] {
                let event = CountedEvent {
                    at: OffsetDateTime::UNIX_EPOCH + std::time::Duration::from_micros(micros),
                    kind,
                };
                assert_eq!(CountedEvent::from_number(event.to_number()), Some(event));
            }
        }
        assert_eq!(CountedEvent::from_number(5), None);
        assert_eq!(CountedEvent::from_number(i64::MAX), None);
    }

    #[test]
    fn texts_that_are_not_keys_are_rejected() {
        for text in [
            "",
            "phone",
            "phone/",
            "phone/79608543017",
            "phone/+79608543017/203.0.113.9",
            "pair/+79608543017",
            "pair/+79608543017/nowhere",
            "range/+7",
            "range/+79608543/",
            "address/203.0.113.9/32",
            "address/2001:db8:1::",
            "address/2001:db8:1::/47",
            "address/2001:db8:1:1::/48",
            "unknown/1",
        ] {
            assert_eq!(CounterKey::from_stored(text.to_owned()), None, "{text}");
        }
    }

    #[test]
    fn keys_are_distinct_and_debug_output_hides_the_phone() {
        let phone = PhoneNumber::parse("+79608543017", None).expect("valid");
        let keys = [
            CounterKey::of_address(address(1)),
            CounterKey::number_range(&phone),
            CounterKey::number_range_and_address(&phone, address(1)),
            CounterKey::phone_and_address(&phone, address(1)),
            CounterKey::phone(&phone),
        ];
        let texts: Vec<_> = keys.iter().map(CounterKey::as_str).collect();
        let expected = [
            "address/101:101:101:101::/64",
            "range/+79608543",
            "range/+79608543/101:101:101::/48",
            "pair/+79608543017/101:101:101::/48",
            "phone/+79608543017",
        ];
        assert_eq!(texts, expected);
        for key in &keys {
            assert_eq!(CounterKey::from_stored(key.text.clone()).as_ref(), Some(key));
        }
        assert!(keys.iter().all(|key| !format!("{key:?}").contains("7960")));
    }
}
