//! Tests of changes of counters.

use proptest::prelude::*;

use super::*;
use crate::{
    rate_limit::{attack::GlobalCounter, client::ClientAddress, limits::Limits},
    user::phone::PhoneNumber,
};

const START: OffsetDateTime = time::macros::datetime!(2026-11-25 12:34:56 UTC);

fn address(number: u8) -> ClientAddress {
    ClientAddress::from_bytes([number; 16])
}

#[test]
fn a_counter_expires_after_the_memory_of_its_events() {
    let policy = Policy::standard();
    let phone = PhoneNumber::parse("+79608543017", None).expect("valid");
    let ends_at = |kind| {
        let keys = [CounterKey::phone(&phone)];
        let none = Counters::default();
        let mut updater = CounterUpdater::new(&none, keys, &policy, START);
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
        let limits = Limits::new(limits.into_iter().map(of)).expect("valid limits");
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
                let in_window = granted.iter().filter(|(time, _)| *time + limit.window() > now).count();
                prop_assert!(in_window <= limit.count() as usize);
            }
        }
    }
}
