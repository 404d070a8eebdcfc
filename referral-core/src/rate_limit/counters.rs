//! Counters of recent events of a phone, an address, a pair of both, or a number range.
//!
//! A counter has the times of its newest events, as many as its limits need. An event can be refunded by its
//! [`CountedEvent`]: a code that led to a sign-in is refunded, so it does not count against any limit per address or
//! number range. The functions of this module are pure. The storage stores the counters.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use time::OffsetDateTime;

use crate::{
    ClientAddress, PhoneNumber, Policy,
    rate_limit::{attack::GlobalCounterUpdate, client::Network, limits::LONGEST},
};

/// Kind of a counted event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// A code was sent.
    Code,
    /// A wrong code was received.
    FailedAttempt,
    /// An unknown invite code was received.
    UnknownInvite,
    /// An attempt to sign in with a phone without a valid challenge, which cannot succeed.
    AttemptWithoutChallenge,
    /// A profile edit with an email address.
    EmailChange,
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
    /// plus the kind of the event.
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

    /// Returns the keys of all networks by which an address is counted.
    pub(crate) fn networks(address: ClientAddress) -> impl Iterator<Item = Self> {
        let key = |network: Network| Self {
            text: format!("address/{network}"),
            subject: Subject::Address { widening: network.widening },
        };
        address.networks().map(key)
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
    pub events: Vec<CountedEvent>,
    /// Time from which the counter has no effect and can be deleted. It is rounded up, so that it seldom
    /// changes.
    pub ends_at: OffsetDateTime,
}

/// Counters on which the decision about a request depends, by [`CounterKey`]. A counter that is not stored is
/// empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<CounterKey, Vec<CountedEvent>>);

impl FromIterator<(CounterKey, Vec<CountedEvent>)> for Counters {
    fn from_iter<T: IntoIterator<Item = (CounterKey, Vec<CountedEvent>)>>(counters: T) -> Self {
        Self(counters.into_iter().collect())
    }
}

impl Counters {
    /// Returns the events of the counter with this key.
    #[must_use]
    pub fn events(&self, key: &CounterKey) -> &[CountedEvent] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Stores the changes, as a storage does.
    #[cfg(test)]
    pub(crate) fn apply(&mut self, update: CounterUpdate) {
        self.0.extend(update.counters.into_iter().map(|counter| (counter.key, counter.events)));
        for (key, event) in update.refunds {
            self.0.entry(key).or_default().retain(|counted| *counted != event);
        }
    }

    /// Returns the times of the events of one kind, sorted.
    pub(crate) fn timestamps(&self, key: &CounterKey, kind: EventKind) -> Vec<OffsetDateTime> {
        self.events(key).iter().filter(|event| event.kind == kind).map(|event| event.at).collect()
    }

    /// Returns the time to wait until the limits of this counter allow another event of the kind `kind`.
    pub(crate) fn wait(
        &self,
        key: &CounterKey,
        kind: EventKind,
        policy: &Policy,
        now: OffsetDateTime,
    ) -> Option<Duration> {
        policy.limits(key.subject, kind).wait(&self.timestamps(key, kind), now)
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
pub struct CounterUpdate {
    /// Counters with new events, sorted by key. Each replaces the stored counter, which must still have the
    /// events on which the decision depends.
    pub counters: Vec<Counter>,
    /// Events to remove from counters, if they are there, sorted by key.
    pub refunds: Vec<(CounterKey, CountedEvent)>,
    /// Event to count for the whole service.
    pub global_counter: Option<GlobalCounterUpdate>,
}

impl CounterUpdate {
    /// Returns `true` if there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty() && self.refunds.is_empty() && self.global_counter.is_none()
    }
}

/// Builder of a [`CounterUpdate`] from the loaded counters.
pub(crate) struct CounterUpdater<'a> {
    counters: BTreeMap<CounterKey, Vec<CountedEvent>>,
    /// Keys of the counters with new events.
    changed: BTreeSet<CounterKey>,
    refunds: Vec<(CounterKey, CountedEvent)>,
    global_counter: Option<GlobalCounterUpdate>,
    policy: &'a Policy,
    now: OffsetDateTime,
}

impl<'a> CounterUpdater<'a> {
    /// Creates an updater with the counters of these keys.
    pub(crate) fn new(
        counters: &Counters,
        keys: impl IntoIterator<Item = CounterKey>,
        policy: &'a Policy,
        now: OffsetDateTime,
    ) -> Self {
        let events = |key: CounterKey| (key.clone(), counters.events(&key).to_vec());
        Self {
            counters: keys.into_iter().map(events).collect(),
            changed: BTreeSet::new(),
            refunds: Vec::new(),
            global_counter: None,
            policy,
            now,
        }
    }

    /// Returns the earliest time from now on at which no counter has an event of this kind, so that events
    /// are unique.
    pub(crate) fn unused_timestamp(&self, kind: EventKind) -> OffsetDateTime {
        let mut at = self.now;
        while self.counters.values().any(|events| events.contains(&CountedEvent { at, kind })) {
            at += Duration::from_micros(1);
        }
        at
    }

    /// Adds an event to each counter with a limit on this kind of event.
    pub(crate) fn count(&mut self, kind: EventKind, at: OffsetDateTime) {
        for (key, events) in &mut self.counters {
            if self.policy.keep(key.subject, kind).is_some() {
                events.push(CountedEvent { at, kind });
                events.sort_unstable();
                self.changed.insert(key.clone());
            }
        }
    }

    /// Removes an event from a counter.
    pub(crate) fn refund(&mut self, key: CounterKey, kind: EventKind, at: OffsetDateTime) {
        if self.policy.keep(key.subject, kind).is_none() {
            return;
        }
        let event = CountedEvent { at, kind };
        if let Some(events) = self.counters.get_mut(&key) {
            let Some(index) = events.iter().position(|counted| *counted == event) else { return };
            events.remove(index);
        }
        self.refunds.push((key, event));
    }

    pub(crate) fn count_globally(&mut self, update: GlobalCounterUpdate) {
        self.global_counter = Some(update);
    }

    /// Returns the counters with the changes so far.
    pub(crate) fn counters(&self) -> Counters {
        Counters(self.counters.clone())
    }

    /// Returns the changes to store.
    pub(crate) fn finish(mut self) -> CounterUpdate {
        let counters = self.changed.iter().filter_map(|key| {
            let events = self.counters.remove(key)?;
            Some(pruned(key.clone(), events, self.policy, self.now))
        });
        let counters = counters.collect();
        self.refunds.sort_unstable();
        CounterUpdate { counters, refunds: self.refunds, global_counter: self.global_counter }
    }
}

/// Returns the counter without the events that no limit needs any more.
fn pruned(key: CounterKey, mut events: Vec<CountedEvent>, policy: &Policy, now: OffsetDateTime) -> Counter {
    for kind in EventKind::ALL {
        let Some(keep) = policy.keep(key.subject, kind) else { continue };
        let counted = events.iter().filter(|event| event.kind == kind).count();
        let mut surplus = counted.saturating_sub(keep.newest);
        events.retain(|event| {
            let is_old = event.kind == kind && surplus > 0;
            surplus -= usize::from(is_old);
            !is_old
        });
    }
    // During a change of the policy, other processes that share the storage may count events that this
    // process does not count. They are kept for the longest window.
    let memory = |kind| policy.keep(key.subject, kind).map_or(LONGEST, |keep| keep.memory);
    events.retain(|event| event.at + memory(event.kind) > now);
    let ends = events.iter().map(|event| event.at + memory(event.kind));
    // The counter must not expire while another request uses it.
    let ends_at = next_hour(ends.fold(now, OffsetDateTime::max));
    Counter { key, events, ends_at }
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
    use crate::{Limits, rate_limit::attack::GlobalCounter};

    const START: OffsetDateTime = time::macros::datetime!(2026-11-25 12:34:56 UTC);

    fn address(number: u8) -> ClientAddress {
        ClientAddress::from_bytes([number; 16])
    }

    #[test]
    fn stamps_round_trip_through_numbers() {
        for kind in EventKind::ALL {
            for micros in [0, 1, 1_700_000_000_123_456] {
                let event =
                    CountedEvent { at: OffsetDateTime::UNIX_EPOCH + Duration::from_micros(micros), kind };
                assert_eq!(CountedEvent::from_number(event.to_number()), Some(event));
            }
        }
        assert_eq!(CountedEvent::from_number(5), None);
        assert_eq!(CountedEvent::from_number(i64::MAX), None);
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
        assert!(keys.iter().all(|key| !format!("{key:?}").contains("7960")));
    }

    #[test]
    fn a_counter_expires_after_the_memory_of_its_events() {
        let policy = Policy::standard();
        let phone = PhoneNumber::parse("+79608543017", None).expect("valid");
        let ends_at = |kind| {
            let keys = [CounterKey::phone(&phone)];
            let mut updater = CounterUpdater::new(&Counters::default(), keys, &policy, START);
            updater.count(kind, START);
            updater.finish().counters[0].ends_at
        };
        let one_hour = |time| next_hour(START + time);
        assert_eq!(ends_at(EventKind::Code), one_hour(Duration::from_hours(24)));
        assert_eq!(ends_at(EventKind::FailedAttempt), one_hour(policy.failed_attempt_window));
    }

    #[test]
    fn events_that_the_policy_does_not_count_are_kept() {
        let phone = PhoneNumber::parse("+79608543017", None).expect("valid");
        let key = CounterKey::phone(&phone);
        let failure = CountedEvent { at: START, kind: EventKind::FailedAttempt };
        let counters = [(key.clone(), vec![failure])].into_iter().collect();
        let policy = Policy::development();
        let mut updater = CounterUpdater::new(&counters, [key], &policy, START);
        let later = START + Duration::from_secs(1);
        updater.count(EventKind::FailedAttempt, later);
        updater.count(EventKind::Code, later);
        let stored = updater.finish().counters.remove(0);
        assert_eq!(stored.events, [failure, CountedEvent { at: later, kind: EventKind::Code }]);
        assert!(stored.ends_at >= START + Duration::from_hours(31 * 24));
    }

    #[test]
    fn global_counters_are_rounded_down_to_their_minute_or_hour() {
        for (counter, period_start) in [
            (GlobalCounter::FailedAttempts, time::macros::datetime!(2026-11-25 12:34 UTC)),
            (GlobalCounter::Messages, time::macros::datetime!(2026-11-25 12:00 UTC)),
        ] {
            assert_eq!(
                GlobalCounterUpdate::one(counter, START),
                GlobalCounterUpdate { counter, period_start, delta: 1 }
            );
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
                let mut updater = CounterUpdater::new(&counters, [key.clone()], &policy, now);
                match step {
                    Step::Request(seconds) => {
                        now += Duration::from_secs(seconds.into());
                        let timestamps = counters.timestamps(&key, EventKind::Code);
                        if let Some(wait) = limits.wait(&timestamps, now) {
                            prop_assert!(limits.wait(&timestamps, now + wait).is_none(), "enough");
                            let sooner = now + wait - Duration::from_micros(1);
                            prop_assert!(limits.wait(&timestamps, sooner).is_some(), "not too long");
                            continue;
                        }
                        updater = CounterUpdater::new(&counters, [key.clone()], &policy, now);
                        let at = updater.unused_timestamp(EventKind::Code);
                        updater.count(EventKind::Code, at);
                        granted.push((now, at));
                    }
                    Step::Refund(_) if granted.is_empty() => continue,
                    Step::Refund(index) => {
                        let (_, at) = granted.remove(index.index(granted.len()));
                        updater.refund(key.clone(), EventKind::Code, at);
                    }
                }
                counters.apply(updater.finish());
                for limit in limits.iter() {
                    let in_window = granted.iter().filter(|(time, _)| *time + limit.per > now).count();
                    prop_assert!(in_window <= limit.count as usize);
                }
            }
        }
    }
}
