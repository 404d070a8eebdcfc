//! Tests of the records of requests for codes: their outcomes, and requests that are dropped.

#[path = "common/sign_in.rs"]
mod sign_in;

use std::{
    future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use referral_core::{
    CodeRequestKind,
    CodeRequestOutcome::{self, Failed, GateFailed, NotSent, Refused, RejectedByHost, Sent, Unknown},
    Error, ReferralService, ReferralServiceBuilder, SendCode,
    gate::{GateOptions, Rejection, Verdict},
    keys::{Peppers, SigningKeys},
    policy::{Policy, TestNumber},
    sms::{Receipt, SmsError, SmsMessage, SmsSender},
    spawner::Task,
    storage::{MaintenanceStorage as _, MemoryStorage, Retention},
    test_util::{RecordingGate, TestService},
};
use time::OffsetDateTime;

use crate::sign_in::phone;

/// Sender that returns this result for each message.
struct Fixed(Result<Receipt, SmsError>);

#[async_trait]
impl SmsSender for Fixed {
    async fn send(&self, _: &SmsMessage) -> Result<Receipt, SmsError> {
        self.0.clone()
    }
}

/// Sender that never responds.
struct Silent;

#[async_trait]
impl SmsSender for Silent {
    async fn send(&self, _: &SmsMessage) -> Result<Receipt, SmsError> {
        future::pending().await
    }
}

fn service(
    sender: impl SmsSender,
    customize: impl FnOnce(ReferralServiceBuilder) -> ReferralServiceBuilder,
) -> TestService {
    let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("sufficient length");
    let peppers = Peppers::from_secret("p1", &[2; 32]).expect("sufficient length");
    let storage = Arc::new(MemoryStorage::new());
    TestService::with_builder(storage.clone(), |_| {
        customize(ReferralService::builder(storage, Arc::new(sender), keys, peppers))
    })
}

/// Returns the outcome and the reason of the only request of a phone.
async fn only_request(service: &TestService) -> (CodeRequestOutcome, Option<String>) {
    let requests = service.referral.code_requests(&phone(1)).await.expect("the storage responds");
    let [request] = &*requests else { panic!("{requests:?}") };
    assert_eq!(request.request.kind, CodeRequestKind::Send);
    (request.request.outcome, request.request.reason.clone())
}

#[tokio::test]
async fn result_of_the_sender_is_recorded() {
    let reason = || "because".to_owned();
    for (result, outcome, code) in [
        (Ok(Receipt::new("m1").gateway("g1")), Sent, None),
        (Ok(Receipt::default()), Sent, None),
        (Err(SmsError::Unknown(reason())), Unknown, None),
        (Err(SmsError::Temporary(reason())), NotSent, Some("sms_not_sent")),
        (Err(SmsError::Permanent(reason())), Refused, Some("phone_unreachable")),
    ] {
        let service = service(Fixed(result), |builder| builder);
        let _ = service.referral.send_code(SendCode::new(phone(1))).await;
        assert_eq!(only_request(&service).await, (outcome, code.map(str::to_owned)));
    }
}

#[tokio::test]
async fn gateway_that_cannot_be_stored_is_omitted() {
    let receipt = Receipt::new("m\n1").gateway("g1");
    let service = service(Fixed(Ok(receipt)), |builder| builder);
    service.referral.send_code(SendCode::new(phone(1))).await.expect("sent");
    let requests = service.referral.code_requests(&phone(1)).await.expect("the storage responds");
    let request = &requests[0].request;
    assert_eq!((request.gateway.as_deref(), request.message_id.as_deref()), (Some("g1"), None));
}

#[tokio::test]
async fn decision_of_the_gate_is_recorded() {
    let rejection = || Rejection::new("captcha_failed", "Solve the captcha.").expect("valid");
    for (is_failure, outcome, reason) in
        [(false, RejectedByHost, "captcha_failed"), (true, GateFailed, "unavailable")]
    {
        let gate = RecordingGate::new(move |_| {
            if is_failure { Err("out of order".into()) } else { Ok(Verdict::Reject(rejection())) }
        });
        let service = service(Fixed(Ok(Receipt::default())), |builder| {
            builder.gate(Arc::new(gate), GateOptions::default())
        });
        service.referral.send_code(SendCode::new(phone(1))).await.expect_err("rejected");
        assert_eq!(only_request(&service).await, (outcome, Some(reason.to_owned())));
    }
}

#[tokio::test]
async fn test_number_is_recorded() {
    let service = service(Silent, |builder| {
        let mut policy = Policy::standard();
        let until = OffsetDateTime::from_unix_timestamp(4_000_000_000).expect("valid");
        policy.test_numbers = vec![TestNumber::new(phone(1), "47110815", until).expect("valid")];
        builder.policy(policy)
    });
    service.referral.send_code(SendCode::new(phone(1))).await.expect("a challenge");
    assert_eq!(only_request(&service).await, (CodeRequestOutcome::TestNumber, None));
}

#[tokio::test]
async fn request_that_is_dropped_is_recorded_as_aborted() {
    let service = service(Silent, |builder| builder);
    tokio::select! {
        biased;
        _ = service.referral.send_code(SendCode::new(phone(1))) => panic!("the sender never responds"),
        () = future::ready(()) => {}
    }
    assert_eq!(only_request(&service).await, (Failed, Some("aborted".to_owned())));
}

/// Sender that panics.
struct Bug;

#[async_trait]
impl SmsSender for Bug {
    async fn send(&self, _: &SmsMessage) -> Result<Receipt, SmsError> {
        panic!("a bug in the sender");
    }
}

#[tokio::test]
async fn request_that_panics_is_recorded_as_aborted() {
    let service = service(Bug, |builder| builder.spawner(|task: Task| drop(tokio::spawn(task))));
    let error = service.referral.send_code(SendCode::new(phone(1))).await.expect_err("a panic");
    assert!(matches!(error, Error::Aborted), "{error}");
    assert_eq!(only_request(&service).await, (Failed, Some("aborted".to_owned())));
}

/// Returns the number of stored records.
async fn stored(storage: &MemoryStorage) -> u64 {
    let (never, ever) =
        (OffsetDateTime::UNIX_EPOCH, OffsetDateTime::UNIX_EPOCH + time::Duration::days(100_000));
    let all = Retention {
        ended_before: never,
        global_counters_before: never,
        messages_before: never,
        code_requests_before: ever,
        batch_size: u32::MAX,
    };
    storage.delete_expired(&all).await.expect("deleted")
}

#[tokio::test]
async fn records_are_written_by_the_spawner_after_a_hundred_requests_and_when_the_service_is_closed() {
    let storage = Arc::new(MemoryStorage::new());
    let tasks = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&tasks);
    let (idle, mut is_idle) = tokio::sync::mpsc::unbounded_channel();
    let shared = Arc::clone(&storage);
    let service = TestService::with_builder(shared, |builder| {
        builder.spawner(move |task: Task| {
            count.fetch_add(1, Ordering::Relaxed);
            let idle = idle.clone();
            tokio::spawn(async move {
                task.await;
                let _ = idle.send(());
            });
        })
    });
    for number in 0..100 {
        assert_eq!(stored(&storage).await, 0);
        service.referral.send_code(SendCode::new(phone(number))).await.expect("sent");
        is_idle.recv().await.expect("the operation has ended");
    }
    is_idle.recv().await.expect("the records are written");
    assert_eq!(tasks.load(Ordering::Relaxed), 101, "one task writes the records");
    assert_eq!(stored(&storage).await, 100);

    service.referral.send_code(SendCode::new(phone(1))).await.expect("sent");
    service.referral.close().await;
    assert_eq!(stored(&storage).await, 1);
}
