//! Counters: what happened of late to a phone, an address, a pair of both or a number block.
//!
//! A counter holds when it happened: the newest moments, as many as its limits must know. A moment can
//! be taken out again, by its [`Stamp`]: a code that led to a sign-in is not held against anybody.
//! Everything here is pure; the storage keeps the counters.

use std::{collections::BTreeMap, fmt, time::Duration};

use time::OffsetDateTime;

use crate::{ClientAddress, PhoneNumber, Policy, client::Network, limits::LONGEST, service::ServiceCount};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counted {
    /// A code that was sent.
    Code,
    /// A wrong code that came back.
    Failure,
    /// An invite code that nobody has.
    UnknownInvite,
    /// An attempt to sign in with a phone that has no valid challenge, so that it could not succeed.
    AttemptWithoutChallenge,
    /// An edit of a profile that names an e-mail address.
    EmailChange,
}

impl Counted {
    /// All of them, in the order of the numbers under which they are stored.
    pub const ALL: [Self; 5] =
        [Self::Code, Self::Failure, Self::UnknownInvite, Self::AttemptWithoutChallenge, Self::EmailChange];
}

/// Something that was counted. A counter has no two that are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    /// When.
    pub at: OffsetDateTime,
    /// What.
    pub what: Counted,
}

impl Stamp {
    /// The stamp as one number, to be stored: microseconds since 1970, times eight, and what was
    /// counted.
    #[must_use]
    pub fn to_number(self) -> i64 {
        let micros = i64::try_from(self.at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
        micros.saturating_mul(8) | self.what as i64
    }

    /// The stamp that [`to_number`](Self::to_number) made this of; `None` if it made none.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(number >> 3) * 1_000).ok()?;
        let what = Counted::ALL.into_iter().find(|what| *what as i64 == number & 7)?;
        Some(Self { at, what })
    }
}

/// What a counter is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Subject {
    Address {
        /// Factor by which the limits are wider than those of a single address.
        widening: u32,
    },
    Block,
    BlockAndAddress,
    Pair,
    Phone,
}

/// Whose counter it is, as one text: `phone/+79608543017`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterKey {
    text: String,
    subject: Subject,
}

impl CounterKey {
    pub(crate) fn of_phone(phone: &PhoneNumber) -> Self {
        Self { text: format!("phone/{}", phone.as_str()), subject: Subject::Phone }
    }

    /// Returns the keys of all networks that an address is counted by.
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

    /// Of a phone, as far as one address has to do with it: by its widest network, since a stranger may
    /// take any address in it.
    pub(crate) fn of_pair(phone: &PhoneNumber, address: ClientAddress) -> Self {
        let text = format!("pair/{}/{}", phone.as_str(), address.widest_network());
        Self { text, subject: Subject::Pair }
    }

    /// Of all numbers that differ from this one in the last three digits only.
    pub(crate) fn of_block(phone: &PhoneNumber) -> Self {
        Self { text: format!("block/{}", phone.block()), subject: Subject::Block }
    }

    /// Returns the key of the codes that one address requested for a number block, by its widest network.
    pub(crate) fn of_block_and_address(phone: &PhoneNumber, address: ClientAddress) -> Self {
        let text = format!("block/{}/{}", phone.block(), address.widest_network());
        Self { text, subject: Subject::BlockAndAddress }
    }

    /// The text.
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

/// Shows no phone and no address.
impl fmt::Debug for CounterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CounterKey({:?}/…)", self.subject)
    }
}

/// A counter to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Whose it is.
    pub key: CounterKey,
    /// What was counted, in order.
    pub stamps: Vec<Stamp>,
    /// From when on it matters to nobody and can be deleted. Rounded up, so that it seldom changes.
    pub ends_at: OffsetDateTime,
}

/// The counters that a request is decided on: those that [`CounterKey`]s were given for, of which
/// one that is not stored is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<CounterKey, Vec<Stamp>>);

impl FromIterator<(CounterKey, Vec<Stamp>)> for Counters {
    fn from_iter<T: IntoIterator<Item = (CounterKey, Vec<Stamp>)>>(counters: T) -> Self {
        Self(counters.into_iter().collect())
    }
}

impl Counters {
    /// What is counted for this key.
    #[must_use]
    pub fn stamps(&self, key: &CounterKey) -> &[Stamp] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// When what was counted happened, in order.
    pub(crate) fn moments(&self, key: &CounterKey, what: Counted) -> Vec<OffsetDateTime> {
        self.stamps(key).iter().filter(|stamp| stamp.what == what).map(|stamp| stamp.at).collect()
    }

    /// How long to wait until one more of `what` is within the limits of this counter.
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

/// How long what was counted is kept, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keep {
    pub(crate) memory: Duration,
    pub(crate) newest: usize,
}

/// What is to be counted along with a decision. All of it is committed with the decision, or
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counting {
    /// To be stored in place of the counters that the decision was made on, in the order of their
    /// keys. They are here even where nothing was counted: the decision holds only if they are what
    /// they were.
    pub counters: Vec<Counter>,
    /// To be taken out of other counters, if it is there; in the order of their keys.
    pub refunds: Vec<(CounterKey, Stamp)>,
    /// To be counted for the whole service.
    pub service: Option<ServiceCount>,
}

/// Puts a [`Counting`] together, from the counters that were loaded.
pub(crate) struct Ledger<'a> {
    counters: BTreeMap<CounterKey, Vec<Stamp>>,
    counting: Counting,
    policy: &'a Policy,
    now: OffsetDateTime,
}

impl<'a> Ledger<'a> {
    /// Begins with the counters of these keys.
    pub(crate) fn new(
        counters: &Counters,
        keys: impl IntoIterator<Item = CounterKey>,
        policy: &'a Policy,
        now: OffsetDateTime,
    ) -> Self {
        let stamps = |key: CounterKey| (key.clone(), counters.stamps(&key).to_vec());
        Self { counters: keys.into_iter().map(stamps).collect(), counting: Counting::default(), policy, now }
    }

    /// The first moment from now on that no counter has yet, so that a stamp names one thing only.
    pub(crate) fn free_moment(&self, what: Counted) -> OffsetDateTime {
        let mut at = self.now;
        while self.counters.values().any(|stamps| stamps.contains(&Stamp { at, what })) {
            at += Duration::from_micros(1);
        }
        at
    }

    /// Counts it in each counter that there is a limit for.
    pub(crate) fn count(&mut self, what: Counted, at: OffsetDateTime) {
        for (key, stamps) in &mut self.counters {
            if self.policy.keep(key.subject, what).is_some() {
                stamps.push(Stamp { at, what });
                stamps.sort_unstable();
            }
        }
    }

    /// Takes it back from a counter.
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

    /// The counters as they are now.
    pub(crate) fn counters(&self) -> Counters {
        Counters(self.counters.clone())
    }

    /// What is to be written.
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
            // What is not counted here may be where others share the storage, in the midst of a change.
            let memory = |what| self.policy.keep(key.subject, what).map_or(LONGEST, |keep| keep.memory);
            stamps.retain(|stamp| stamp.at + memory(stamp.what) > self.now);
            let ends = stamps.iter().map(|stamp| stamp.at + memory(stamp.what));
            // No sooner than it could matter to somebody who is looking at it.
            let ends_at = next_hour(ends.fold(self.now, OffsetDateTime::max));
            self.counting.counters.push(Counter { key, stamps, ends_at });
        }
        self.counting.refunds.sort_unstable();
        self.counting
    }
}

/// The full hour after a time.
fn next_hour(time: OffsetDateTime) -> OffsetDateTime {
    const HOUR: i64 = 3_600;
    let hours = time.unix_timestamp().div_euclid(HOUR) + 1;
    OffsetDateTime::from_unix_timestamp(hours * HOUR).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Limits, service::ServiceFigure};

    const START: OffsetDateTime = time::macros::datetime!(2026-11-25 12:34:56 UTC);

    fn address(number: u8) -> ClientAddress {
        ClientAddress::from_bytes([number; 16])
    }

    #[test]
    fn a_stamp_is_one_number_and_back() {
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
    fn keys_are_apart_and_tell_nothing_where_they_are_printed() {
        let phone = PhoneNumber::parse("+79608543017", None).expect("valid");
        let keys = [
            CounterKey::of_address(address(1)),
            CounterKey::of_block(&phone),
            CounterKey::of_block_and_address(&phone, address(1)),
            CounterKey::of_pair(&phone, address(1)),
            CounterKey::of_phone(&phone),
        ];
        let texts: Vec<_> = keys.iter().map(CounterKey::as_str).collect();
        let expected = [
            "address/101:101:101:101::/64",
            "block/+79608543",
            "block/+79608543/101:101:101::/48",
            "pair/+79608543017/101:101:101::/48",
            "phone/+79608543017",
        ];
        assert_eq!(texts, expected);
        assert!(keys.iter().all(|key| !format!("{key:?}").contains("7960")));
    }

    #[test]
    fn a_counter_ends_when_nothing_in_it_matters() {
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
    fn what_is_not_counted_here_is_left_for_those_who_do() {
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
    fn what_is_counted_for_the_service_goes_into_its_minute_or_hour() {
        for (figure, since) in [
            (ServiceFigure::Failures, time::macros::datetime!(2026-11-25 12:34 UTC)),
            (ServiceFigure::Messages, time::macros::datetime!(2026-11-25 12:00 UTC)),
        ] {
            assert_eq!(ServiceCount::one(figure, START), ServiceCount { figure, since, by: 1 });
        }
    }

    /// What comes next, and after how many seconds.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ask(u32),
        /// Takes back the one of so many that were granted and not taken back.
        Refund(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let ask = prop_oneof![3 => Just(0_u32), 5 => 0_u32..90, 1 => 0_u32..5_000].prop_map(Step::Ask);
        let refund = any::<prop::sample::Index>().prop_map(Step::Refund);
        prop::collection::vec(prop_oneof![6 => ask, 1 => refund], 1..300)
    }

    proptest! {
        /// In no window of the stated length there are more than the stated number, whenever they
        /// come and whatever is taken back; and after the wait that is told there is another.
        #[test]
        fn no_window_has_more_than_its_number(
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
                    Step::Ask(seconds) => {
                        now += Duration::from_secs(seconds.into());
                        let moments = counters.moments(&key, Counted::Code);
                        if let Some(wait) = limits.wait(&moments, now) {
                            prop_assert!(limits.wait(&moments, now + wait).is_none(), "the wait is true");
                            let sooner = now + wait - Duration::from_micros(1);
                            prop_assert!(limits.wait(&moments, sooner).is_some(), "and no longer than needed");
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
