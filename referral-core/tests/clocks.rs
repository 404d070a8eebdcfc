//! Tests of hosts whose clock differs from the clock of the storage.

#[path = "common/service.rs"]
mod service;

use std::{
    fmt::{self, Write as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use referral_core::{
    Error, ErrorKind, ReferralService,
    clock::{Clock, ClockOffset},
    events::{Event, Hook},
    policy::Policy,
    sms::DevelopmentSender,
    storage::MemoryStorage,
    test_util::ManualClock,
};
use time::{OffsetDateTime, macros::datetime};
use tracing::{
    Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

const START: OffsetDateTime = datetime!(2026-11-22 10:15:30 UTC);

/// Host and storage, each with its own clock.
struct Harness {
    referral: ReferralService,
    host: ManualClock,
    storage: ManualClock,
    measured: Measured,
}

#[derive(Clone, Default)]
struct Measured(Arc<Mutex<Vec<ClockOffset>>>);

#[async_trait]
impl Hook for Measured {
    async fn on_event(&self, event: &Event) {
        if let Event::ClockMeasured(measured) = event {
            self.0.lock().expect("not poisoned").push(*measured);
        }
    }
}

fn referral(storage: MemoryStorage, clock: impl Clock, policy: Policy, hook: impl Hook) -> ReferralService {
    let referral = service::builder(Arc::new(storage), DevelopmentSender);
    referral
        .policy(policy)
        .clock(Arc::new(clock))
        .hook(Arc::new(hook))
        .build()
        .expect("valid policy and keys")
}

fn harness_with(max_clock_offset: Option<Duration>) -> Harness {
    let (host, storage, measured) = (ManualClock::new(START), ManualClock::new(START), Measured::default());
    let mut policy = Policy::standard();
    policy.max_clock_offset = max_clock_offset;
    let referral =
        referral(MemoryStorage::with_clock(storage.clone()), host.clone(), policy, measured.clone());
    Harness { referral, host, storage, measured }
}

fn harness() -> Harness {
    harness_with(Policy::standard().max_clock_offset)
}

async fn offset(harness: &Harness) -> i64 {
    harness.referral.measure_clock().await.expect("measured").expect("the storage has a clock").milliseconds()
}

#[tokio::test]
async fn offset_is_positive_if_the_host_is_ahead() {
    let harness = harness();
    assert_eq!(offset(&harness).await, 0);
    harness.host.advance(Duration::from_millis(1_500));
    assert_eq!(offset(&harness).await, 1_500);
    harness.storage.advance(Duration::from_secs(4));
    assert_eq!(offset(&harness).await, -2_500);
    let measured: Vec<_> =
        harness.measured.0.lock().expect("not poisoned").iter().map(ClockOffset::milliseconds).collect();
    assert_eq!(measured, [0, 1_500, -2_500]);
}

#[tokio::test]
async fn storage_without_a_clock_is_not_measured() {
    let referral = referral(MemoryStorage::new(), ManualClock::new(START), Policy::standard(), ());
    assert_eq!(referral.measure_clock().await.expect("no clock"), None);
    referral.check_ready().await.expect("ready");
}

#[tokio::test]
async fn host_is_not_ready_while_its_clock_offset_is_too_large() {
    for host_is_ahead in [true, false] {
        let harness = harness();
        let (fast, slow) =
            if host_is_ahead { (&harness.host, &harness.storage) } else { (&harness.storage, &harness.host) };
        fast.advance(Duration::from_secs(5));
        harness.referral.run_maintenance().await.expect("deleted");
        harness.referral.check_ready().await.expect("5 s are allowed");
        fast.advance(Duration::from_millis(1));
        harness.referral.check_ready().await.expect("not measured yet");
        harness.referral.run_maintenance().await.expect("deleted");
        let error = harness.referral.check_ready().await.expect_err("the offset is too large");
        assert!(matches!(error, Error::ClockOffset { .. }) && error.kind() == ErrorKind::Unavailable);
        let sign = if host_is_ahead { "" } else { "-" };
        let detail =
            format!("differs from the clock of the database by {sign}5001 ms, which is more than 5000 ms");
        assert_eq!(error.to_string(), format!("clock of this host {detail}"));
        slow.advance(Duration::from_secs(1));
        harness.referral.run_maintenance().await.expect("deleted");
        harness.referral.check_ready().await.expect("the offset is small enough again");
    }
}

#[tokio::test]
async fn clock_check_can_be_configured_and_disabled() {
    let off = harness_with(None);
    let tight = harness_with(Some(Duration::from_secs(2)));
    for harness in [&off, &tight] {
        harness.host.advance(Duration::from_secs(3));
        assert_eq!(offset(harness).await, 3_000);
    }
    off.referral.check_ready().await.expect("the check is disabled");
    let refused = tight.referral.check_ready().await;
    assert!(matches!(refused, Err(Error::ClockOffset { .. })), "2 s are allowed: {refused:?}");
}

/// Clock that advances by a fixed time with each use, as if each response of the storage took that long.
struct SlowHost(AtomicU64, Duration);

impl Clock for SlowHost {
    fn now(&self) -> OffsetDateTime {
        START + self.1 * u32::try_from(self.0.fetch_add(1, Ordering::Relaxed)).expect("few")
    }
}

#[tokio::test]
async fn slow_response_is_not_reported_as_a_clock_offset() {
    // The response takes ten seconds, and the storage reads its clock at the end of this time.
    let host = SlowHost(AtomicU64::new(0), Duration::from_secs(10));
    let storage = MemoryStorage::with_clock(ManualClock::new(START + Duration::from_secs(20)));
    let referral = referral(storage, host, Policy::standard(), ());
    let measured = referral.measure_clock().await.expect("measured").expect("the storage has a clock");
    assert_eq!(measured.uncertainty, Duration::from_secs(5));
    assert!(measured.offset.unsigned_abs() >= Duration::from_secs(5), "{measured:?}");
    referral.check_ready().await.expect("the offset is uncertain");
}

/// Subscriber that records the warnings of its thread.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().expect("not poisoned").push(line.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{}={value:?} ", field.name()).expect("a `String` takes everything");
    }
}

#[tokio::test]
async fn warning_contains_the_offset_and_is_logged_at_most_once_a_minute() {
    let warnings = Warnings::default();
    let guard = tracing::subscriber::set_default(warnings.clone());
    // If there is a single subscriber, `tracing` checks the interest in a log line once, in the thread that
    // logs it first, and caches the result. Threads of other tests have no subscriber.
    let _second = tracing::Dispatch::new(Warnings::default());
    let harness = harness();
    let pass = |by| [&harness.host, &harness.storage].map(|clock| clock.advance(by));
    harness.host.advance(Duration::from_secs(1));
    harness.referral.run_maintenance().await.expect("deleted");
    assert_eq!(*warnings.0.lock().expect("not poisoned"), [""; 0], "1 s is allowed");
    harness.host.advance(Duration::from_millis(234));
    for _ in 0..6 {
        harness.referral.run_maintenance().await.expect("deleted");
        pass(Duration::from_secs(10));
    }
    harness.referral.run_maintenance().await.expect("deleted");
    drop(guard);
    let warnings = warnings.0.lock().expect("not poisoned").clone();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings.iter().all(|line| line.contains("clock") && line.contains("offset_ms=1234")),
        "{warnings:?}"
    );
}
