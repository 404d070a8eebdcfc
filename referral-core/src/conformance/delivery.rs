//! Cases about the delivery status of messages.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use super::harness::{Harness, in_parallel, phone, with_right_code};
use crate::{
    events::{DeliveryStatusChanged, Event, Hook, UserSignedIn},
    otp::challenge::ChallengeId,
    sms::{
        Receipt, SmsError, SmsMessage, SmsSender,
        delivery::{
            DeliveryReport,
            DeliveryStatus::{self, Delivered, Failed, Sent},
            DeliveryUpdate, MessageRoute, ReportEvidence,
        },
    },
    storage::{DeliveryTransition, Storage},
    user::phone::Region,
};

const DAY: Duration = Duration::from_hours(24);

/// Gateway that gives each message its own id: `m1`, `m2`, …, unless `ids` are set.
struct Gateway {
    name: &'static str,
    accepted: AtomicU32,
    ids: Vec<String>,
}

impl Gateway {
    fn new(name: &'static str) -> Self {
        Self { name, accepted: AtomicU32::new(0), ids: Vec::new() }
    }
}

#[async_trait]
impl SmsSender for Gateway {
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError> {
        let number = self.accepted.fetch_add(1, Ordering::Relaxed);
        let id = self.ids.get(number as usize).cloned();
        Ok(Receipt {
            gateway: Some(self.name.to_owned()),
            message_id: Some(id.unwrap_or_else(|| format!("m{}", number + 1))),
            revealed_code: Some(message.code.clone()),
        })
    }
}

/// Hook that records the statuses and routes of messages.
#[derive(Clone, Default)]
pub(super) struct RecordingHook(Arc<Mutex<Vec<Entry>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Status(DeliveryStatus, MessageRoute),
    SignedIn(Option<MessageRoute>),
}

#[async_trait]
impl Hook for RecordingHook {
    async fn on_event(&self, event: &Event) {
        let entry = match event {
            Event::DeliveryStatusChanged(DeliveryStatusChanged { route, status, .. }) => {
                Entry::Status(*status, route.clone())
            }
            Event::UserSignedIn(UserSignedIn { route, .. }) => Entry::SignedIn(route.clone()),
            _ => return,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }
}

impl RecordingHook {
    fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the statuses of all messages. All of them must have been sent through `g1` to a Russian
    /// number.
    #[track_caller]
    fn statuses(&self) -> Vec<DeliveryStatus> {
        let status = |entry| match entry {
            Entry::Status(status, route) => {
                assert_eq!(route, route_of("g1"));
                status
            }
            Entry::SignedIn(_) => panic!("unexpected sign-in"),
        };
        self.entries().into_iter().map(status).collect()
    }
}

fn route_of(gateway: &str) -> MessageRoute {
    MessageRoute { gateway: gateway.to_owned(), region: Region::parse("RU").ok() }
}

/// Returns a service that sends messages through the gateway `g1`.
pub(super) fn tracked(storage: Arc<dyn Storage>) -> (Harness, RecordingHook) {
    let hook = RecordingHook::default();
    (Harness::new(storage).with_gateway(Gateway::new("g1"), hook.clone()), hook)
}

/// Reports the status of a message of the gateway `g1`.
pub(super) async fn report(harness: &Harness, message_id: &str, status: DeliveryStatus) {
    let report = DeliveryReport {
        gateway: "g1".to_owned(),
        message_id: message_id.to_owned(),
        status,
        evidence: ReportEvidence::Strong,
    };
    harness.referral.report_delivery(report).await.expect("recorded");
}

/// The events are sent and then delivered. Repeated reports emit no event.
pub async fn status_of_a_message_is_reported_once(storage: Arc<dyn Storage>) {
    let (harness, hook) = tracked(storage);
    harness.sent_code(&phone(1)).await;
    assert_eq!(hook.statuses(), [Sent]);
    for status in [Sent, Delivered, Delivered, Sent] {
        report(&harness, "m1", status).await;
    }
    assert_eq!(hook.statuses(), [Sent, Delivered]);
    harness.sent_code(&phone(2)).await;
    report(&harness, "m2", Failed).await;
    assert_eq!(hook.statuses(), [Sent, Delivered, Sent, Failed]);
}

/// A delivered message cannot fail. A failed message can still be delivered.
pub async fn delivered_message_stays_delivered(storage: Arc<dyn Storage>) {
    let (harness, hook) = tracked(storage);
    harness.sent_code(&phone(1)).await;
    for status in [Failed, Failed, Delivered, Failed, Delivered] {
        report(&harness, "m1", status).await;
    }
    assert_eq!(hook.statuses(), [Sent, Failed, Delivered]);
}

/// The event is emitted when the message is recorded, with the region of its phone.
pub async fn report_before_the_message_is_recorded_is_kept(storage: Arc<dyn Storage>) {
    let (harness, hook) = tracked(storage);
    for status in [Delivered, Failed, Delivered] {
        report(&harness, "m1", status).await;
    }
    assert_eq!(hook.statuses(), []);
    harness.sent_code(&phone(1)).await;
    assert_eq!(hook.statuses(), [Sent, Delivered]);
    report(&harness, "m1", Delivered).await;
    assert_eq!(hook.statuses(), [Sent, Delivered]);
}

/// A gateway may send the same report to several processes concurrently. Only one event is emitted.
pub async fn concurrent_duplicate_reports_emit_one_event(storage: Arc<dyn Storage>) {
    let (harness, hook) = tracked(storage);
    let mut expected = Vec::new();
    for number in 1..=9 {
        harness.sent_code(&phone(number)).await;
        let reports = in_parallel(8, |_| {
            let harness = harness.clone();
            async move { report(&harness, &format!("m{number}"), Delivered).await }
        });
        reports.await;
        expected.extend([Sent, Delivered]);
        assert_eq!(hook.statuses(), expected);
    }
}

/// The order of the recording and the reports does not matter.
pub async fn concurrent_recording_and_reports_lose_nothing(storage: Arc<dyn Storage>) {
    let (harness, hook) = tracked(storage);
    for round in 1..=5 {
        let done = in_parallel(5, |number| {
            let harness = harness.clone();
            async move {
                match number {
                    2 => drop(harness.sent_code(&phone(round)).await),
                    _ => report(&harness, &format!("m{round}"), Delivered).await,
                }
            }
        });
        done.await;
        let mut statuses = hook.statuses();
        statuses.sort_unstable();
        let of_each = |status| std::iter::repeat_n(status, round as usize);
        assert_eq!(statuses, of_each(Sent).chain(of_each(Delivered)).collect::<Vec<_>>());
    }
}

/// Reports of messages that this service did not send.
pub async fn reports_of_unknown_messages_emit_no_event_and_are_swept(storage: Arc<dyn Storage>) {
    let (harness, hook) = tracked(storage);
    for id in ["m1", "m2", ""] {
        report(&harness, id, Failed).await;
    }
    // This report has no effect, so it is not stored.
    report(&harness, "m3", Sent).await;
    assert_eq!(hook.entries(), []);
    let now = harness.now();
    assert_eq!(harness.delete_before(now, 9).await, 0);
    for expected in [1, 1, 0] {
        assert_eq!(harness.delete_before(now + DAY, 1).await, expected);
    }
    harness.sent_code(&phone(1)).await;
    assert_eq!(hook.statuses(), [Sent], "the reports are deleted");
}

/// After that time the message is unknown.
pub async fn messages_are_deleted_after_three_days_and_not_before(storage: Arc<dyn Storage>) {
    let (harness, hook) = tracked(storage);
    harness.sent_code(&phone(1)).await;
    harness.sent_code(&phone(2)).await;
    harness.advance(3 * DAY);
    harness.referral.run_maintenance().await.expect("deleted");
    report(&harness, "m1", Delivered).await;
    assert_eq!(hook.statuses(), [Sent, Sent, Delivered]);
    // A report does not extend the time.
    harness.advance(Duration::from_micros(1));
    let deleted = harness.referral.run_maintenance().await.expect("deleted");
    assert_eq!(deleted, 4, "two messages, and the records of their requests");
    report(&harness, "m1", Failed).await;
    report(&harness, "m2", Delivered).await;
    assert_eq!(hook.statuses(), [Sent, Sent, Delivered]);
}

/// Ids may have any script, and any length up to the maximum.
pub async fn similar_message_ids_are_distinguished(storage: Arc<dyn Storage>) {
    let long = "ж🙂".repeat(64);
    let almost = format!("{}ж", &long[..long.len() - '🙂'.len_utf8()]);
    let ids = [&*long, &almost, "a", "A", "a ", "á", "a\u{301}", "m'); --", "%", "m1", "M1"];
    let (harness, hook) = (Harness::new(storage), RecordingHook::default());
    let gateway = Gateway { ids: ids.map(str::to_owned).to_vec(), ..Gateway::new("g1") };
    let harness = harness.with_gateway(gateway, hook.clone());
    for number in 0..ids.len() {
        // Each phone is in its own number range, because of the limit for a range.
        harness.sent_code(&phone(1_000 * u32::try_from(number).expect("few"))).await;
    }
    let sent = vec![Sent; ids.len()];
    for (count, id) in (1..).zip(ids) {
        report(&harness, id, Delivered).await;
        let expected = [&*sent, &vec![Delivered; count]].concat();
        assert_eq!(hook.statuses(), expected, "after {id}");
    }

    // A message with a longer id is sent but not tracked.
    let longer = long + "ж";
    let gateway = Gateway { ids: vec![longer.clone()], ..Gateway::new("g2") };
    let harness = harness.with_gateway(gateway, RecordingHook::default());
    let sent = harness.sent_code(&phone(100_000)).await;
    report(&harness, &longer, Delivered).await;
    harness.sign_in(with_right_code(&sent)).await.expect("signed in");
}

/// The event of a sign-in names the gateway of the code: at sign-up and later, after a wrong attempt, and for a
/// request without the challenge.
pub async fn sign_in_reports_the_gateway_of_its_code(storage: Arc<dyn Storage>) {
    let (harness, hook) = tracked(storage);
    harness.try_enter(&phone(1), None).await.expect("signed up");
    harness.advance(Duration::from_mins(1));
    let sent = harness.sent_code(&phone(1)).await;
    harness
        .sign_in(super::harness::without_challenge(super::harness::with_wrong_code(&sent)))
        .await
        .expect_err("wrong");
    harness.sign_in(super::harness::without_challenge(with_right_code(&sent))).await.expect("signed in");
    let signed_in = Entry::SignedIn(Some(route_of("g1")));
    let sent = Entry::Status(Sent, route_of("g1"));
    assert_eq!(hook.entries(), [sent.clone(), signed_in.clone(), sent, signed_in]);
}

/// One code is sent through one gateway, the next through another, and a third through an unknown one.
pub async fn each_code_keeps_its_own_gateway(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let hook = RecordingHook::default();
    let first = harness.with_gateway(Gateway::new("g1"), hook.clone());
    let second = harness.with_gateway(Gateway::new("g2"), hook.clone());
    let unknown = harness.with_gateway(crate::sms::DevelopmentSender, hook.clone());
    for (number, harness) in [(1, &first), (2, &second), (3, &unknown)] {
        harness.try_enter(&phone(number), None).await.expect("signed in");
    }
    let mut signed_in = hook.entries();
    signed_in.retain(|entry| matches!(entry, Entry::SignedIn(_)));
    let expected = [Some(route_of("g1")), Some(route_of("g2")), None];
    assert_eq!(signed_in, expected.map(Entry::SignedIn));

    // An older code that is redeemed with its challenge keeps its own gateway.
    let older = first.sent_code(&phone(4)).await;
    harness.advance(Duration::from_mins(1));
    second.sent_code(&phone(4)).await;
    first.sign_in(with_right_code(&older)).await.expect("signed in");
    assert_eq!(hook.entries().last(), Some(&Entry::SignedIn(Some(route_of("g1")))));
}

/// A client may sign in before the message is recorded. The recording then succeeds, also if the challenge
/// was deleted.
pub async fn message_of_a_redeemed_or_deleted_code_can_be_recorded(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let sent = harness.sent_code(&phone(1)).await;
    harness.sign_in(with_right_code(&sent)).await.expect("signed in");
    let (route, now) = (route_of("g1"), harness.now());
    for (challenge, id) in [
        (sent.challenge, Some("m1")),
        (sent.challenge, None),
        (ChallengeId(uuid::Uuid::nil()), Some("m2")),
        (ChallengeId(uuid::Uuid::nil()), None),
    ] {
        let update = DeliveryUpdate::accepted(&route, id, Some(challenge), now).expect("valid name");
        let reached = id.map(|_| Sent);
        let region = reached.and(route.region);
        let expected =
            DeliveryTransition { region, reached: reached.into_iter().collect(), is_unknown: false };
        assert_eq!(harness.storage.record_delivery(&update).await.expect("recorded"), expected);
    }
}
