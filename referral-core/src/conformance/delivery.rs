//! What becomes of messages.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use super::{Bench, answer, in_parallel, phone};
use crate::{
    ChallengeId, DeliveryReport,
    DeliveryStatus::{self, Delivered, Failed, Sent},
    Event, Hook, MessageRoute, Region, ReportEvidence,
    delivery::MessageNews,
    sms::{Receipt, SmsError, SmsMessage, SmsSender},
    storage::{MessageChange, Storage},
};

const DAY: Duration = Duration::from_hours(24);

/// A gateway with a name of its own for each message: `m1`, `m2`, …, unless it is told others.
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

/// Writes down what it is told of the ways of messages.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<Entry>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Status(DeliveryStatus, MessageRoute),
    SignedIn(Option<MessageRoute>),
}

#[async_trait]
impl Hook for Diary {
    async fn on_event(&self, event: &Event) {
        let entry = match event {
            Event::MessageStatus { route, status } => Entry::Status(*status, route.clone()),
            Event::SignedIn { route, .. } => Entry::SignedIn(route.clone()),
            _ => return,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }
}

impl Diary {
    fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What became of all messages that went through `g1` to a Russian number, which all must have.
    #[track_caller]
    fn statuses(&self) -> Vec<DeliveryStatus> {
        let status = |entry| match entry {
            Entry::Status(status, route) => {
                assert_eq!(route, route_of("g1"));
                status
            }
            Entry::SignedIn(_) => panic!("nobody signed in"),
        };
        self.entries().into_iter().map(status).collect()
    }
}

fn route_of(gateway: &str) -> MessageRoute {
    MessageRoute { gateway: gateway.to_owned(), region: Region::parse("RU").ok() }
}

/// A service whose messages go through the gateway `g1`.
fn tracked(storage: Arc<dyn Storage>) -> (Bench, Diary) {
    let diary = Diary::default();
    (Bench::new(storage).with_gateway(Gateway::new("g1"), diary.clone()), diary)
}

async fn report(bench: &Bench, message_id: &str, status: DeliveryStatus) {
    let report = DeliveryReport {
        gateway: "g1".to_owned(),
        message_id: message_id.to_owned(),
        status,
        evidence: ReportEvidence::Strong,
    };
    bench.referral.report_delivery(report).await.expect("noted");
}

/// Sent, then delivered, and nothing for what is repeated.
pub async fn a_message_that_arrives_is_told_of_once(storage: Arc<dyn Storage>) {
    let (bench, diary) = tracked(storage);
    bench.sent(&phone(1)).await;
    assert_eq!(diary.statuses(), [Sent]);
    for status in [Sent, Delivered, Delivered, Sent] {
        report(&bench, "m1", status).await;
    }
    assert_eq!(diary.statuses(), [Sent, Delivered]);
    bench.sent(&phone(2)).await;
    report(&bench, "m2", Failed).await;
    assert_eq!(diary.statuses(), [Sent, Delivered, Sent, Failed]);
}

/// What was delivered does not fail; what failed may still be delivered.
pub async fn a_status_is_not_taken_back(storage: Arc<dyn Storage>) {
    let (bench, diary) = tracked(storage);
    bench.sent(&phone(1)).await;
    for status in [Failed, Failed, Delivered, Failed, Delivered] {
        report(&bench, "m1", status).await;
    }
    assert_eq!(diary.statuses(), [Sent, Failed, Delivered]);
}

/// It is told once the message is known to be ours, with the region of its phone.
pub async fn a_report_may_come_before_it_is_noted_that_the_message_was_sent(storage: Arc<dyn Storage>) {
    let (bench, diary) = tracked(storage);
    for status in [Delivered, Failed, Delivered] {
        report(&bench, "m1", status).await;
    }
    assert_eq!(diary.statuses(), []);
    bench.sent(&phone(1)).await;
    assert_eq!(diary.statuses(), [Sent, Delivered]);
    report(&bench, "m1", Delivered).await;
    assert_eq!(diary.statuses(), [Sent, Delivered]);
}

/// A gateway that repeats itself to several processes at once is heard once.
pub async fn a_report_told_many_times_at_once_is_told_on_once(storage: Arc<dyn Storage>) {
    let (bench, diary) = tracked(storage);
    let mut expected = Vec::new();
    for number in 1..=9 {
        bench.sent(&phone(number)).await;
        let told = in_parallel(8, |_| {
            let bench = bench.clone();
            async move { report(&bench, &format!("m{number}"), Delivered).await }
        });
        told.await;
        expected.extend([Sent, Delivered]);
        assert_eq!(diary.statuses(), expected);
    }
}

/// Whichever of them is first.
pub async fn a_note_and_reports_at_once_lose_nothing(storage: Arc<dyn Storage>) {
    let (bench, diary) = tracked(storage);
    for round in 1..=5 {
        let done = in_parallel(5, |number| {
            let bench = bench.clone();
            async move {
                match number {
                    2 => drop(bench.sent(&phone(round)).await),
                    _ => report(&bench, &format!("m{round}"), Delivered).await,
                }
            }
        });
        done.await;
        let mut statuses = diary.statuses();
        statuses.sort_unstable();
        let of_each = |status| std::iter::repeat_n(status, round as usize);
        assert_eq!(statuses, of_each(Sent).chain(of_each(Delivered)).collect::<Vec<_>>());
    }
}

/// Whatever somebody reports of messages that are none of ours.
pub async fn reports_of_strange_messages_tell_nothing_and_are_swept(storage: Arc<dyn Storage>) {
    let (bench, diary) = tracked(storage);
    for id in ["m1", "m2", ""] {
        report(&bench, id, Failed).await;
    }
    // Nothing follows from this one, so it is not even kept.
    report(&bench, "m3", Sent).await;
    assert_eq!(diary.entries(), []);
    let now = bench.now();
    assert_eq!(bench.sweep_before(now, 9).await, 0);
    for expected in [1, 1, 0] {
        assert_eq!(bench.sweep_before(now + DAY, 1).await, expected);
    }
    bench.sent(&phone(1)).await;
    assert_eq!(diary.statuses(), [Sent], "no trace is left");
}

/// A report after that is one of a strange message.
pub async fn messages_are_forgotten_after_three_days_and_not_before(storage: Arc<dyn Storage>) {
    let (bench, diary) = tracked(storage);
    bench.sent(&phone(1)).await;
    bench.sent(&phone(2)).await;
    bench.advance(3 * DAY);
    bench.referral.sweep().await.expect("swept");
    report(&bench, "m1", Delivered).await;
    assert_eq!(diary.statuses(), [Sent, Sent, Delivered]);
    // The report does not make it younger.
    bench.advance(Duration::from_micros(1));
    assert_eq!(bench.referral.sweep().await.expect("swept"), 2);
    report(&bench, "m1", Failed).await;
    report(&bench, "m2", Delivered).await;
    assert_eq!(diary.statuses(), [Sent, Sent, Delivered]);
}

/// Ids are of any script and length that has room, and none is another in the end.
pub async fn any_id_is_told_from_others(storage: Arc<dyn Storage>) {
    let long = "ж🙂".repeat(64);
    let almost = format!("{}ж", &long[..long.len() - '🙂'.len_utf8()]);
    let ids = [&*long, &almost, "a", "A", "a ", "á", "a\u{301}", "m'); --", "%", "m1", "M1"];
    let (bench, diary) = (Bench::new(storage), Diary::default());
    let gateway = Gateway { ids: ids.map(str::to_owned).to_vec(), ..Gateway::new("g1") };
    let bench = bench.with_gateway(gateway, diary.clone());
    for number in 0..ids.len() {
        // Each in a number block of its own, or there would be too many.
        bench.sent(&phone(1_000 * u32::try_from(number).expect("few"))).await;
    }
    let sent = vec![Sent; ids.len()];
    for (count, id) in (1..).zip(ids) {
        report(&bench, id, Delivered).await;
        let expected = [&*sent, &vec![Delivered; count]].concat();
        assert_eq!(diary.statuses(), expected, "after {id}");
    }

    // For what is longer there is no room: it is sent, and not tracked.
    let longer = long + "ж";
    let gateway = Gateway { ids: vec![longer.clone()], ..Gateway::new("g2") };
    let bench = bench.with_gateway(gateway, Diary::default());
    let sent = bench.sent(&phone(100_000)).await;
    report(&bench, &longer, Delivered).await;
    bench.sign_in(answer(&sent)).await.expect("signed in");
}

/// At a sign-up and later, after a wrong try, and where the code comes without its id.
pub async fn a_sign_in_names_the_gateway_of_its_code(storage: Arc<dyn Storage>) {
    let (bench, diary) = tracked(storage);
    bench.try_enter(&phone(1), None).await.expect("signed up");
    bench.advance(Duration::from_mins(1));
    let sent = bench.sent(&phone(1)).await;
    bench.sign_in(super::unnamed(super::wrong_answer(&sent))).await.expect_err("wrong");
    bench.sign_in(super::unnamed(answer(&sent))).await.expect("signed in");
    let signed_in = Entry::SignedIn(Some(route_of("g1")));
    let sent = Entry::Status(Sent, route_of("g1"));
    assert_eq!(diary.entries(), [sent.clone(), signed_in.clone(), sent, signed_in]);
}

/// One code went through one gateway, the next through another, and a third through nobody knows which.
pub async fn each_code_has_a_gateway_of_its_own(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let diary = Diary::default();
    let first = bench.with_gateway(Gateway::new("g1"), diary.clone());
    let second = bench.with_gateway(Gateway::new("g2"), diary.clone());
    let unknown = bench.with_gateway(crate::sms::DevelopmentSender, diary.clone());
    for (number, bench) in [(1, &first), (2, &second), (3, &unknown)] {
        bench.try_enter(&phone(number), None).await.expect("signed in");
    }
    let mut signed_in = diary.entries();
    signed_in.retain(|entry| matches!(entry, Entry::SignedIn(_)));
    let expected = [Some(route_of("g1")), Some(route_of("g2")), None];
    assert_eq!(signed_in, expected.map(Entry::SignedIn));

    // An older code that lives on under its id is told from the newer.
    let older = first.sent(&phone(4)).await;
    bench.advance(Duration::from_mins(1));
    second.sent(&phone(4)).await;
    first.sign_in(answer(&older)).await.expect("signed in");
    assert_eq!(diary.entries().last(), Some(&Entry::SignedIn(Some(route_of("g1")))));
}

/// Whoever is faster than the note is signed in, and the note does no harm; nor does one for a challenge
/// that was swept.
pub async fn a_redeemed_code_takes_no_note(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let sent = bench.sent(&phone(1)).await;
    bench.sign_in(answer(&sent)).await.expect("signed in");
    let (route, now) = (route_of("g1"), bench.now());
    for (challenge, id) in [
        (sent.challenge, Some("m1")),
        (sent.challenge, None),
        (ChallengeId(uuid::Uuid::nil()), Some("m2")),
        (ChallengeId(uuid::Uuid::nil()), None),
    ] {
        let news = MessageNews::accepted(&route, id, challenge, now).expect("a short name");
        let reached = id.map(|_| Sent);
        let region = reached.and(route.region);
        let expected = MessageChange { region, reached: reached.into_iter().collect(), is_unknown: false };
        assert_eq!(bench.storage.note_message(&news).await.expect("noted"), expected);
    }
}
