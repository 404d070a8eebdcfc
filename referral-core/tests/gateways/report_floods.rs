//! Many reports: the number of stored messages stays limited, and known messages are still reported.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use referral_core::{
    PhoneNumber, ReferralService, SendCode,
    events::{DeliveryStatusChanged, Event, Hook},
    policy::Policy,
    sms::{
        DeliveryReport,
        DeliveryStatus::{self, Delivered},
        Receipt,
        ReportEvidence::{Strong, Weak},
        SmsError, SmsMessage, SmsSender,
        http::{ReportReader, ReportRequest},
    },
    storage::{MaintenanceStorage as _, MemoryStorage, Retention},
    test_util::ManualClock,
};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use time::OffsetDateTime;

use crate::{
    documented_reports::documented,
    report_requests::{Called, FIELDS, FORM, JSON, URL, token_reader},
    service,
};

#[tokio::test]
async fn captured_report_with_forged_ids_does_not_fill_the_table() {
    let mobizon =
        documented().into_iter().find(|documented| documented.preset == "mobizon").expect("known preset");
    let captured = String::from_utf8(mobizon.request.body.clone()).expect("JSON");
    let at = token_reader(FIELDS).url(URL);
    let forge_mobizon = |id: u32| Called::post(JSON, captured.replace("169275418", &id.to_string()));
    let forge_token = |id: u32| Called::post(FORM, format!("id={id}&status=1")).at(&at);
    let forgeries: [(ReportReader, &dyn Fn(u32) -> Called); 2] =
        [(mobizon.reader(), &forge_mobizon), (token_reader(FIELDS), &forge_token)];
    for (reader, forge) in forgeries {
        let (referral, storage, clock, _) = receiver(mobizon.now);
        for minute in 0..2 {
            for id in 0..5_000 {
                let forged = forge(minute * 5_000 + id);
                let content_type = HeaderValue::from_static(forged.headers[0].1);
                let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
                let request = ReportRequest { url: &forged.url, headers: &headers, body: &forged.body };
                // The sender gets no information, since each report is accepted.
                for report in reader.read(&request).expect("accepted") {
                    referral.report_delivery(report).await.expect("accepted");
                }
            }
            clock.advance(Duration::from_mins(1));
        }
        assert_eq!(count_messages(&storage).await, 2 * 30, "{reader:?}");
    }
}

#[tokio::test]
async fn flood_of_unknown_messages_does_not_suppress_reports_of_known_ones() {
    let (referral, storage, _, emitted) = receiver(0);
    let report = |id: &str, evidence| {
        referral.report_delivery(DeliveryReport {
            gateway: "g1".into(),
            message_id: id.into(),
            status: Delivered,
            evidence,
        })
    };
    for id in 0..100 {
        report(&format!("unknown{id}"), Weak).await.expect("accepted");
    }
    let phone = PhoneNumber::parse("+79608543017", None).expect("valid");
    referral.send_code(SendCode::new(phone)).await.expect("sent");
    report("m1", Weak).await.expect("accepted");
    assert_eq!(*emitted.0.lock().expect("not poisoned"), [DeliveryStatus::Sent, Delivered]);
    report("early", Strong).await.expect("accepted");
    assert_eq!(count_messages(&storage).await, 30 + 2);
}

/// Returns a service that receives reports of `g1` at this time, its storage, its clock, and the emitted
/// statuses.
fn receiver(now: i64) -> (ReferralService, Arc<MemoryStorage>, ManualClock, Statuses) {
    let statuses = Statuses::default();
    let storage = Arc::new(MemoryStorage::new());
    let clock = ManualClock::new(OffsetDateTime::from_unix_timestamp(now).expect("valid time"));
    let referral = service::builder(storage.clone(), Gateway)
        .policy(Policy::development())
        .clock(Arc::new(clock.clone()))
        .hook(Arc::new(statuses.clone()))
        .build();
    (referral.expect("valid policy and keys"), storage, clock, statuses)
}

/// Hook that records the emitted statuses.
#[derive(Clone, Default)]
struct Statuses(Arc<Mutex<Vec<DeliveryStatus>>>);

#[async_trait]
impl Hook for Statuses {
    async fn on_event(&self, event: &Event) {
        if let Event::DeliveryStatusChanged(DeliveryStatusChanged { status, .. }) = event {
            self.0.lock().expect("not poisoned").push(*status);
        }
    }
}

/// Gateway that accepts every message as `m1`.
struct Gateway;

#[async_trait]
impl SmsSender for Gateway {
    async fn send(&self, _: &SmsMessage) -> Result<Receipt, SmsError> {
        Ok(Receipt::new("m1").gateway("g1"))
    }
}

/// Deletes all stored messages and returns their number.
async fn count_messages(storage: &MemoryStorage) -> u64 {
    let (never, ever) =
        (OffsetDateTime::UNIX_EPOCH, OffsetDateTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 100));
    let delete_expired = Retention {
        code_requests_before: OffsetDateTime::UNIX_EPOCH,
        ended_before: never,
        global_counters_before: never,
        messages_before: ever,
        batch_size: u32::MAX,
    };
    storage.delete_expired(&delete_expired).await.expect("deleted")
}
