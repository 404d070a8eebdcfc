//! Counters of recent events of a phone, an address, a pair of both, or a number range.
//!
//! A counter has the times of its newest events, as many as its limits need. An event can be refunded by its
//! [`Stamp`]: a code that led to a sign-in is refunded, so it does not count against any limit per address or
//! number range. The functions of this module are pure. The storage stores the counters.

use std::{collections::BTreeMap, fmt, time::Duration};

use time::OffsetDateTime;

use crate::{
    ClientAddress, PhoneNumber, Policy,
    rate_limit::{attack::ServiceCount, client::Network, limits::LONGEST},
};

/// Kind of a counted event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counted {
    /// A code was sent.
    Code,
    /// A wrong code was received.
    Failure,
    /// An unknown invite code was received.
    UnknownInvite,
    /// An attempt to sign in with a phone without a valid challenge, which cannot succeed.
    AttemptWithoutChallenge,
    /// A profile edit with an email address.
    EmailChange,
}

impl Counted {
    /// All kinds, in the order of the numbers under which they are stored.
    pub const ALL: [Self; 5] =
        [Self::Code, Self::Failure, Self::UnknownInvite, Self::AttemptWithoutChallenge, Self::EmailChange];
}

/// Counted event. The stamps of a counter are unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    /// Time of the event.
    pub at: OffsetDateTime,
    /// Kind of the event.
    pub what: Counted,
}

impl Stamp {
    /// Returns the stamp as one number for the storage: the microseconds since 1970, multiplied by eight,
    /// plus the kind of the event.
    #[must_use]
    pub fn to_number(self) -> i64 {
        let micros = i64::try_from(self.at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
        micros.saturating_mul(8) | self.what as i64
    }

    /// Returns the stamp of a number that [`to_number`](Self::to_number) returned, or `None` if the number is
    /// invalid.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(number >> 3) * 1_000).ok()?;
        let what = Counted::ALL.into_iter().find(|what| *what as i64 == number & 7)?;
        Some(Self { at, what })
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
    Pair,
    Phone,
}

/// Key of a counter, as one text such as `phone/+79608543017`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterKey {
    text: String,
    subject: Subject,
}

impl CounterKey {
    pub(crate) fn of_phone(phone: &PhoneNumber) -> Self {
        Self { text: format!("phone/{}", phone.as_str()), subject: Subject::Phone }
    }

    /// Returns the keys of all networks by which an address is counted.
    pub(crate) fn of_networks(address: ClientAddress) -> impl Iterator<Item = Self> {
        let key = |network: Network| Self {
            text: format!("address/{network}"),
            subject: Subject::Address { widening: network.widening },
        };
        address.networks().map(key)
    }

    /// Returns the key of the narrowest network.
    #[cfg(test)]
    pub(crate) fn of_address(address: ClientAddress) -> Self {
        Self::of_networks(address).next().expect("an address has at least one network")
    }

    /// Returns the key of a pair of a phone and an address. It uses the widest network of the address, since
    /// an attacker can use any address in that network.
    pub(crate) fn of_pair(phone: &PhoneNumber, address: ClientAddress) -> Self {
        let text = format!("pair/{}/{}", phone.as_str(), address.widest_network());
        Self { text, subject: Subject::Pair }
    }

    /// Returns the key of the number range of a phone: all numbers that differ in the last three digits only.
    pub(crate) fn of_number_range(phone: &PhoneNumber) -> Self {
        Self { text: format!("range/{}", phone.number_range()), subject: Subject::NumberRange }
    }

    /// Returns the key of the codes that one address requested for a number range, by its widest network.
    pub(crate) fn of_number_range_and_address(phone: &PhoneNumber, address: ClientAddress) -> Self {
        let text = format!("range/{}/{}", phone.number_range(), address.widest_network());
        Self { text, subject: Subject::NumberRangeAndAddress }
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Key of the counter.
    pub key: CounterKey,
    /// Counted events, sorted by time.
    pub stamps: Vec<Stamp>,
    /// Time from which the counter has no effect and can be deleted. It is rounded up, so that it seldom
    /// changes.
    pub ends_at: OffsetDateTime,
}

/// Counters on which the decision about a request depends, by [`CounterKey`]. A counter that is not stored is
/// empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<CounterKey, Vec<Stamp>>);

impl FromIterator<(CounterKey, Vec<Stamp>)> for Counters {
    fn from_iter<T: IntoIterator<Item = (CounterKey, Vec<Stamp>)>>(counters: T) -> Self {
        Self(counters.into_iter().collect())
    }
}

impl Counters {
    /// Returns the events of the counter with this key.
    #[must_use]
    pub fn stamps(&self, key: &CounterKey) -> &[Stamp] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Returns the times of the events of one kind, sorted.
    pub(crate) fn moments(&self, key: &CounterKey, what: Counted) -> Vec<OffsetDateTime> {
        self.stamps(key).iter().filter(|stamp| stamp.what == what).map(|stamp| stamp.at).collect()
    }

    /// Returns the time to wait until the limits of this counter allow another event of the kind `what`.
    pub(crate) fn wait(
        &self,
        key: &CounterKey,
        what: Counted,
        policy: &Policy,
        now: OffsetDateTime,
    ) -> Option<Duration> {
        policy.limits(key.subject, what).wait(&self.moments(key, what), now)
    }
}

/// Number of events that a counter stores, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keep {
    pub(crate) memory: Duration,
    pub(crate) newest: usize,
}

/// Changes of counters that belong to a decision. The storage commits them together with the decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counting {
    /// Counters that replace the ones on which the decision depends, sorted by key. Unchanged counters are
    /// included too, since the decision is valid only if they are unchanged in the storage.
    pub counters: Vec<Counter>,
    /// Events to remove from other counters, if they are there, sorted by key.
    pub refunds: Vec<(CounterKey, Stamp)>,
    /// Event to count for the whole service.
    pub service: Option<ServiceCount>,
}

/// Builder of a [`Counting`] from the loaded counters.
pub(crate) struct Ledger<'a> {
    counters: BTreeMap<CounterKey, Vec<Stamp>>,
    counting: Counting,
    policy: &'a Policy,
    now: OffsetDateTime,
}

impl<'a> Ledger<'a> {
    /// Creates a ledger with the counters of these keys.
    pub(crate) fn new(
        counters: &Counters,
        keys: impl IntoIterator<Item = CounterKey>,
        policy: &'a Policy,
        now: OffsetDateTime,
    ) -> Self {
        let stamps = |key: CounterKey| (key.clone(), counters.stamps(&key).to_vec());
        Self { counters: keys.into_iter().map(stamps).collect(), counting: Counting::default(), policy, now }
    }

    /// Returns the earliest time from now on at which no counter has an event of this kind, so that stamps
    /// are unique.
    pub(crate) fn free_moment(&self, what: Counted) -> OffsetDateTime {
        let mut at = self.now;
        while self.counters.values().any(|stamps| stamps.contains(&Stamp { at, what })) {
            at += Duration::from_micros(1);
        }
        at
    }

    /// Adds an event to each counter with a limit on this kind of event.
    pub(crate) fn count(&mut self, what: Counted, at: OffsetDateTime) {
        for (key, stamps) in &mut self.counters {
            if self.policy.keep(key.subject, what).is_some() {
                stamps.push(Stamp { at, what });
                stamps.sort_unstable();
            }
        }
    }

    /// Removes an event from a counter.
    pub(crate) fn refund(&mut self, key: CounterKey, what: Counted, at: OffsetDateTime) {
        if self.policy.keep(key.subject, what).is_none() {
            return;
        }
        let stamp = Stamp { at, what };
        match self.counters.get_mut(&key) {
            Some(stamps) => stamps.retain(|counted| *counted != stamp),
            None => self.counting.refunds.push((key, stamp)),
        }
    }

    pub(crate) fn count_for_service(&mut self, count: ServiceCount) {
        self.counting.service = Some(count);
    }

    /// Returns the counters with the changes so far.
    pub(crate) fn counters(&self) -> Counters {
        Counters(self.counters.clone())
    }

    /// Returns the changes to store.
    pub(crate) fn finish(mut self) -> Counting {
        for (key, mut stamps) in self.counters {
            for what in Counted::ALL {
                let Some(keep) = self.policy.keep(key.subject, what) else { continue };
                let counted = stamps.iter().filter(|stamp| stamp.what == what).count();
                let mut surplus = counted.saturating_sub(keep.newest);
                stamps.retain(|stamp| {
                    let is_old = stamp.what == what && surplus > 0;
                    surplus -= usize::from(is_old);
                    !is_old
                });
            }
            // During a change of the policy, other processes that share the storage may count events that
            // this process does not count. They are kept for the longest window.
            let memory = |what| self.policy.keep(key.subject, what).map_or(LONGEST, |keep| keep.memory);
            stamps.retain(|stamp| stamp.at + memory(stamp.what) > self.now);
            let ends = stamps.iter().map(|stamp| stamp.at + memory(stamp.what));
            // The counter must not expire while another request uses it.
            let ends_at = next_hour(ends.fold(self.now, OffsetDateTime::max));
            self.counting.counters.push(Counter { key, stamps, ends_at });
        }
        self.counting.refunds.sort_unstable();
        self.counting
    }
}

/// Returns the first full hour after a time.
fn next_hour(time: OffsetDateTime) -> OffsetDateTime {
    const HOUR: i64 = 3_600;
    let hours = time.unix_timestamp().div_euclid(HOUR) + 1;
    OffsetDateTime::from_unix_timestamp(hours * HOUR).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Limits, rate_limit::attack::ServiceFigure};

    const START: OffsetDateTime = time::macros::datetime!(2026-11-25 12:34:56 UTC);

    fn address(number: u8) -> ClientAddress {
        ClientAddress::from_bytes([number; 16])
    }

    #[test]
    fn stamps_round_trip_through_numbers() {
        for what in Counted::ALL {
            for micros in [0, 1, 1_700_000_000_123_456] {
                let stamp = Stamp { at: OffsetDateTime::UNIX_EPOCH + Duration::from_micros(micros), what };
                assert_eq!(Stamp::from_number(stamp.to_number()), Some(stamp));
            }
        }
        assert_eq!(Stamp::from_number(5), None);
        assert_eq!(Stamp::from_number(i64::MAX), None);
    }

    #[test]
    fn keys_are_distinct_and_debug_output_hides_the_phone() {
        let phone = PhoneNumber::parse("+79608543017", None).expect("valid");
        let keys = [
            CounterKey::of_address(address(1)),
            CounterKey::of_number_range(&phone),
            CounterKey::of_number_range_and_address(&phone, address(1)),
            CounterKey::of_pair(&phone, address(1)),
            CounterKey::of_phone(&phone),
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
        assert!(keys.iter().all(|key| !format!("{key:?}").contains("7960")));
    }

    #[test]
    fn a_counter_expires_after_the_memory_of_its_events() {
        let policy = Policy::standard();
        let phone = PhoneNumber::parse("+79608543017", None).expect("valid");
        let ends_at = |what: Option<Counted>| {
            let keys = [CounterKey::of_phone(&phone)];
            let mut ledger = Ledger::new(&Counters::default(), keys, &policy, START);
            if let Some(what) = what {
                ledger.count(what, START);
            }
            ledger.finish().counters[0].ends_at
        };
        let one_hour = |time| next_hour(START + time);
        assert_eq!(ends_at(None), one_hour(Duration::ZERO));
        assert_eq!(ends_at(Some(Counted::Code)), one_hour(Duration::from_hours(24)));
        assert_eq!(ends_at(Some(Counted::Failure)), one_hour(policy.failure_memory));
    }

    #[test]
    fn events_that_the_policy_does_not_count_are_kept() {
        let phone = PhoneNumber::parse("+79608543017", None).expect("valid");
        let key = CounterKey::of_phone(&phone);
        let failure = Stamp { at: START, what: Counted::Failure };
        let counters = [(key.clone(), vec![failure])].into_iter().collect();
        let policy = Policy::development();
        let mut ledger = Ledger::new(&counters, [key], &policy, START);
        ledger.count(Counted::Failure, START + Duration::from_secs(1));
        let stored = ledger.finish().counters.remove(0);
        assert_eq!(stored.stamps, [failure]);
        assert!(stored.ends_at >= START + Duration::from_hours(31 * 24));
    }

    #[test]
    fn service_counts_are_rounded_down_to_their_minute_or_hour() {
        for (figure, since) in [
            (ServiceFigure::Failures, time::macros::datetime!(2026-11-25 12:34 UTC)),
            (ServiceFigure::Messages, time::macros::datetime!(2026-11-25 12:00 UTC)),
        ] {
            assert_eq!(ServiceCount::one(figure, START), ServiceCount { figure, since, by: 1 });
        }
    }

    /// Step of a test case.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Requests a code after this number of seconds.
        Request(u32),
        /// Refunds one of the granted codes that are not refunded yet.
        Refund(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let seconds = prop_oneof![3 => Just(0_u32), 5 => 0_u32..90, 1 => 0_u32..5_000];
        let request = seconds.prop_map(Step::Request);
        let refund = any::<prop::sample::Index>().prop_map(Step::Refund);
        prop::collection::vec(prop_oneof![6 => request, 1 => refund], 1..300)
    }

    proptest! {
        /// No window of a limit has more events than its count, for any request times and refunds. After
        /// the returned wait another event is allowed.
        #[test]
        fn no_window_has_more_events_than_its_limit(
            limits in prop::collection::vec((1_u32..6, 1_u64..4_000), 1..4),
            steps in steps(),
        ) {
            let of = |(count, seconds)| (count, Duration::from_secs(seconds));
            let limits = Limits::new(limits.into_iter().map(of));
            let policy = Policy { codes_per_address: limits.clone(), ..Policy::standard() };
            let key = CounterKey::of_address(address(1));
            let (mut counters, mut now, mut granted) = (Counters::default(), START, Vec::new());
            for step in steps {
                let mut ledger = Ledger::new(&counters, [key.clone()], &policy, now);
                match step {
                    Step::Request(seconds) => {
                        now += Duration::from_secs(seconds.into());
                        let moments = counters.moments(&key, Counted::Code);
                        if let Some(wait) = limits.wait(&moments, now) {
                            prop_assert!(limits.wait(&moments, now + wait).is_none(), "enough");
                            let sooner = now + wait - Duration::from_micros(1);
                            prop_assert!(limits.wait(&moments, sooner).is_some(), "not too long");
                            continue;
                        }
                        ledger = Ledger::new(&counters, [key.clone()], &policy, now);
                        let at = ledger.free_moment(Counted::Code);
                        ledger.count(Counted::Code, at);
                        granted.push((now, at));
                    }
                    Step::Refund(_) if granted.is_empty() => continue,
                    Step::Refund(index) => {
                        let (_, at) = granted.remove(index.index(granted.len()));
                        ledger.refund(key.clone(), Counted::Code, at);
                    }
                }
                let stored = ledger.finish().counters;
                counters = stored.into_iter().map(|counter| (counter.key, counter.stamps)).collect();
                for limit in limits.iter() {
                    let in_window = granted.iter().filter(|(time, _)| *time + limit.per > now).count();
                    prop_assert!(in_window <= limit.count as usize);
                }
            }
        }
    }
}
