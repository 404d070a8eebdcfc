//! Cases about the records of requests to send and to redeem codes.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    deletion::send_deletion_code,
    delivery::{report, tracked},
    harness::{Harness, assert_refused, phone, with_right_code, with_wrong_code},
    limits::MINUTE,
};
use crate::{
    error::refusal::Refusal,
    keys::{Peppers, SigningKeys},
    otp::{
        code_request::{
            CodeRequest, CodeRequestKind, CodeRequestOutcome, CodeRequestView, PhoneHash, ReachedLimit,
        },
        purpose::CodePurpose,
    },
    rate_limit::client::Client,
    service::{account::DeleteAccount, send_code::SendCode},
    sms::DeliveryStatus,
    storage::Storage,
    user::phone::PhoneNumber,
};

const SECOND: Duration = Duration::from_secs(1);

async fn requests_of(harness: &Harness, phone: &PhoneNumber) -> Vec<CodeRequestView> {
    harness.referral.code_requests(phone).await.expect("the storage responds")
}

fn client(request_id: &str) -> Client {
    Client::default().request_id(request_id.to_owned())
}

/// Returns a record with all columns. Records with different numbers have different ids, which sort by the
/// number.
fn record(harness: &Harness, phone: PhoneHash, number: u32) -> CodeRequest {
    let at = harness.now() + number * SECOND;
    let Some(millis) = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok() else {
        panic!("the clock is before 1970");
    };
    let mut random = [0; 10];
    random[6..].copy_from_slice(&number.to_be_bytes());
    CodeRequest {
        id: uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid(),
        at,
        phone,
        kind: CodeRequestKind::Redeem,
        purpose: "p".repeat(32),
        outcome: CodeRequestOutcome::ALL[number as usize % CodeRequestOutcome::ALL.len()],
        reason: Some("r".repeat(64)),
        limit: Some(ReachedLimit {
            name: "n".repeat(64),
            rule: Some("1/1s,".repeat(25)),
            free_at: at + Duration::from_micros(1),
        }),
        gateway: Some("ж".repeat(64)),
        message_id: Some("🙂".repeat(128)),
        request_id: Some("~".repeat(128)),
    }
}

/// Requests to send and to redeem codes of a phone are recorded with their outcomes.
pub async fn requests_of_a_phone_are_recorded(storage: Arc<dyn Storage>) {
    let (harness, _) = tracked(storage);
    let start = harness.now();
    let send = |id| SendCode::new(phone(1)).client(client(id));
    let sent = harness.referral.send_code(send("r1")).await.expect("the code is sent");
    harness.advance(SECOND);
    harness.referral.send_code(send("r2")).await.expect_err("the resend interval has not passed");
    harness.advance(SECOND);
    let wrong = with_wrong_code(&sent).client(client("r3"));
    assert_refused(harness.sign_in(wrong).await, Refusal::InvalidCode);
    harness.advance(SECOND);
    harness.sign_in(with_right_code(&sent).client(client("r4"))).await.expect("signed in");
    harness.sent_code(&phone(2)).await;

    let requests = requests_of(&harness, &phone(1)).await;
    assert!(requests.is_sorted_by(|newer, older| newer.request.id > older.request.id), "newest first");
    let [redeemed, wrong, waiting, sent] = &*requests else {
        panic!("{requests:?}");
    };
    let expected = CodeRequest {
        id: sent.request.id,
        at: start,
        phone: sent.request.phone,
        kind: CodeRequestKind::Send,
        purpose: CodePurpose::SignIn.as_str().into(),
        outcome: CodeRequestOutcome::Sent,
        reason: None,
        limit: None,
        gateway: Some("g1".into()),
        message_id: Some("m1".into()),
        request_id: Some("r1".into()),
    };
    assert_eq!(sent.request, expected);
    let unsent = CodeRequest { gateway: None, message_id: None, ..expected };
    let expected = CodeRequest {
        id: waiting.request.id,
        at: start + SECOND,
        outcome: CodeRequestOutcome::Refused,
        reason: Some("too_many_requests".into()),
        limit: Some(ReachedLimit {
            name: "resend_interval".into(),
            rule: Some("1m".into()),
            free_at: start + MINUTE,
        }),
        request_id: Some("r2".into()),
        ..unsent.clone()
    };
    assert_eq!(waiting.request, expected);
    let expected = CodeRequest {
        id: wrong.request.id,
        at: start + 2 * SECOND,
        kind: CodeRequestKind::Redeem,
        outcome: CodeRequestOutcome::Refused,
        reason: Some("invalid_code".into()),
        request_id: Some("r3".into()),
        ..unsent
    };
    assert_eq!(wrong.request, expected);
    let expected = CodeRequest {
        id: redeemed.request.id,
        at: start + 3 * SECOND,
        outcome: CodeRequestOutcome::Redeemed,
        reason: None,
        request_id: Some("r4".into()),
        ..expected
    };
    assert_eq!(redeemed.request, expected);
    assert_eq!(requests_of(&harness, &phone(2)).await.len(), 1);
    assert_eq!(requests_of(&harness, &phone(3)).await, []);
}

/// A delivery report changes the status of the message in its record.
pub async fn record_has_the_newest_status_of_its_message(storage: Arc<dyn Storage>) {
    let (harness, _) = tracked(storage);
    harness.sent_code(&phone(1)).await;
    harness.sent_code(&phone(2)).await;
    for status in DeliveryStatus::ALL {
        report(&harness, "m1", status).await;
        for (number, expected) in [(1, status), (2, DeliveryStatus::Sent)] {
            let requests = requests_of(&harness, &phone(number)).await;
            let statuses: Vec<_> = requests.iter().map(|request| request.message_status).collect();
            assert_eq!(statuses, [Some(expected)]);
        }
    }
    // Messages are deleted by the time at which they were stored first.
    let retention = crate::storage::Retention {
        ended_before: time::OffsetDateTime::UNIX_EPOCH,
        global_counters_before: time::OffsetDateTime::UNIX_EPOCH,
        messages_before: harness.now() + SECOND,
        code_requests_before: time::OffsetDateTime::UNIX_EPOCH,
        batch_size: 10,
    };
    harness.storage.delete_expired(&retention).await.expect("deleted");
    let requests = requests_of(&harness, &phone(1)).await;
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].message_status, None);
}

/// The older records of a phone are deleted, and those of other phones stay. A lookup returns at most as many
/// records as requested, over all hashes.
pub async fn newest_fifty_records_of_a_phone_stay(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [one, other] = [PhoneHash([1; 16]), PhoneHash([2; 16])];
    let batch: Vec<_> =
        (0..45).map(|number| record(&harness, one, number)).chain([record(&harness, other, 0)]).collect();
    harness.storage.record_code_requests(&batch).await.expect("recorded");
    let batch: Vec<_> = (45..60)
        .rev()
        .map(|number| record(&harness, one, number))
        .chain([record(&harness, other, 57)])
        .collect();
    harness.storage.record_code_requests(&batch).await.expect("recorded");

    let all = harness.storage.code_requests(&[one, other], 100).await.expect("the storage responds");
    let mut expected: Vec<_> = (10..60).map(|number| record(&harness, one, number)).collect();
    expected.extend([0, 57].map(|number| record(&harness, other, number)));
    expected.sort_unstable_by_key(|request| std::cmp::Reverse((request.id, request.phone)));
    let mut requests: Vec<_> = all.into_iter().map(|view| view.request).collect();
    requests.sort_by_key(|request| std::cmp::Reverse((request.id, request.phone)));
    assert_eq!(requests, expected);
    let few = harness.storage.code_requests(&[other, one], 3).await.expect("the storage responds");
    let few: Vec<_> = few.into_iter().map(|view| view.request.at).collect();
    assert_eq!(few, [59, 58, 57].map(|number| harness.now() + number * SECOND));
    assert_eq!(harness.storage.code_requests(&[], 100).await.expect("the storage responds"), []);
    harness.storage.record_code_requests(&[]).await.expect("recorded");
}

/// A batch whose outcome was unknown can be recorded again.
pub async fn repeated_record_is_stored_once(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let phone = PhoneHash([1; 16]);
    let batch = [record(&harness, phone, 1), record(&harness, phone, 2)];
    for batch in [&batch[..1], &batch, &batch] {
        harness.storage.record_code_requests(batch).await.expect("recorded");
    }
    let stored = harness.storage.code_requests(&[phone], 100).await.expect("the storage responds");
    let ids: Vec<Uuid> = stored.into_iter().map(|view| view.request.id).collect();
    assert_eq!(ids, [batch[1].id, batch[0].id]);
}

/// Records are found with each pepper of the ring.
pub async fn records_before_a_key_rotation_are_found(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    harness.sent_code(&phone(1)).await;
    harness.advance(MINUTE);
    let keys = || SigningKeys::from_secret("k1", &[1; 32]).expect("sufficient length");
    let [old, new] =
        ["AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI", "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM"];
    let key = |id, secret| serde_json::json!({ "kty": "oct", "kid": id, "use": "pepper", "k": secret });
    let ring = |keys: &[serde_json::Value]| {
        Peppers::from_jwk_set(&serde_json::json!({ "keys": keys }).to_string()).expect("valid peppers")
    };
    let both = ring(&[key("p2", new), key("p1", old)]);
    harness.referral.replace_keys(keys(), both).await.expect("replaced");
    harness.sent_code(&phone(1)).await;
    assert_eq!(requests_of(&harness, &phone(1)).await.len(), 2);
    assert_eq!(requests_of(&harness, &phone(2)).await, []);
}

/// The records of a deleted user are deleted, and those of other phones stay. The phone can have new records.
pub async fn records_of_a_deleted_user_are_deleted(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    harness.enter(2).await;
    let current_user = harness.current_user(&anna).await;
    let sent = send_deletion_code(&harness, &current_user).await;
    harness.referral.flush_code_requests().await;
    let wrong = with_wrong_code(&sent);
    let request = DeleteAccount::new(sent.challenge, wrong.code).client(client("r1"));
    assert_refused(harness.referral.delete_account(&current_user, request).await, Refusal::InvalidCode);
    let requests = requests_of(&harness, &phone(1)).await;
    assert_eq!(requests.len(), 4, "two codes are sent, one is redeemed, and one is wrong: {requests:?}");
    let refused = requests.iter().find(|request| request.request.request_id.as_deref() == Some("r1"));
    let refused = &refused.expect("the deletion is recorded").request;
    assert_eq!((refused.kind, &*refused.purpose), (CodeRequestKind::Redeem, "delete_user"));

    let right = with_right_code(&sent);
    let request = DeleteAccount::new(sent.challenge, right.code);
    harness.referral.delete_account(&current_user, request).await.expect("deleted");
    assert_eq!(requests_of(&harness, &phone(1)).await, []);
    assert_eq!(requests_of(&harness, &phone(2)).await.len(), 2);
    harness.advance(MINUTE);
    harness.sent_code(&phone(1)).await;
    assert_eq!(requests_of(&harness, &phone(1)).await.len(), 1);
}
