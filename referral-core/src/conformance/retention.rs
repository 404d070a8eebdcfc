//! Cases about the deletion of expired rows: each kind of row ends at an exact time, and one call deletes at
//! most a batch of each kind.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;

use super::{
    delivery::report,
    harness::{Harness, assert_refused, phone, with_right_code, with_wrong_code},
    limits::{DAY, HOUR, MINUTE, far_phone},
};
use crate::{
    error::refusal::Refusal,
    sms::DeliveryStatus,
    storage::{Retention, Storage},
};

const MICROSECOND: Duration = Duration::from_micros(1);

/// Time before which nothing exists.
const PAST: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// No batch.
const NONE: [u64; 0] = [];

/// Deletes batches of two rows until one deletes nothing, and returns the size of each.
async fn delete(harness: &Harness, retention: Retention) -> Vec<u64> {
    let mut sizes = Vec::new();
    loop {
        let deleted = harness.storage.delete_expired(&retention).await.expect("deleted");
        if deleted == 0 {
            return sizes;
        }
        sizes.push(deleted);
        assert!(sizes.len() < 100, "deleted rows are deleted again: {sizes:?}");
    }
}

fn ended_before(ended_before: OffsetDateTime) -> Retention {
    Retention {
        ended_before,
        global_counters_before: PAST,
        messages_before: PAST,
        code_requests_before: PAST,
        batch_size: 2,
    }
}

fn global_counters_before(global_counters_before: OffsetDateTime) -> Retention {
    Retention { global_counters_before, ..ended_before(PAST) }
}

fn messages_before(messages_before: OffsetDateTime) -> Retention {
    Retention { messages_before, ..ended_before(PAST) }
}

fn code_requests_before(code_requests_before: OffsetDateTime) -> Retention {
    Retention { code_requests_before, ..ended_before(PAST) }
}

/// Returns the start of the period of this length that includes `at`.
fn period_start(at: OffsetDateTime, length: Duration) -> OffsetDateTime {
    let seconds = length.as_secs().cast_signed();
    let start = at.unix_timestamp().div_euclid(seconds) * seconds;
    OffsetDateTime::from_unix_timestamp(start).expect("valid time")
}

/// Expired codes and sessions are deleted, valid ones are kept.
pub async fn only_expired_rows_are_deleted(storage: Arc<dyn Storage>) {
    const HALF_A_SESSION: Duration = Duration::from_hours(15 * 24 + 1);
    let harness = Harness::new(storage);
    let ended = harness.enter(1).await;
    harness.advance(HALF_A_SESSION);
    let live = harness.enter(2).await;
    harness.advance(HALF_A_SESSION);
    let sent = harness.sent_code(&phone(3)).await;

    assert_ne!(harness.referral.run_maintenance().await.expect("deleted"), 0);
    assert_eq!(harness.referral.run_maintenance().await.expect("deleted"), 0);
    assert_eq!(harness.storage.session(ended.session, 0).await.expect("the storage responds"), None);
    assert!(harness.storage.session(live.session, 0).await.expect("the storage responds").is_some());
    harness.sign_in(with_right_code(&sent)).await.expect("the code is valid");
    harness.referral.refresh(&live.tokens.refresh).await.expect("the session is valid");
    assert_refused(harness.referral.refresh(&ended.tokens.refresh).await, Refusal::TokenNotValid);
}

/// A challenge ends when it expires.
pub async fn expired_challenges_are_deleted_in_batches(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let expires_in = harness.sent_code(&far_phone(1)).await.expires_in;
    for number in 2..=5 {
        harness.sent_code(&far_phone(number)).await;
    }
    let end = harness.now() + expires_in;
    assert_eq!(delete(&harness, ended_before(end)).await, NONE, "no challenge ended before that time");
    assert_eq!(delete(&harness, ended_before(end + MICROSECOND)).await, [2, 2, 1]);
}

/// A session ends when its refresh token expires, or when it is revoked.
pub async fn ended_sessions_are_deleted_in_batches(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let mut sessions = Vec::new();
    for number in 1..=7 {
        sessions.push(harness.enter(number).await);
    }
    // Challenges and counters end before the sessions.
    let end = crate::clock::to_seconds(harness.now()) + 30 * DAY;
    delete(&harness, ended_before(end)).await;
    harness.advance(DAY);
    for session in &sessions[5..] {
        harness.referral.sign_out(&session.tokens.refresh).await.expect("signed out");
    }
    let revoked = harness.now();
    assert_eq!(delete(&harness, ended_before(revoked)).await, NONE, "no session ended before that time");
    assert_eq!(delete(&harness, ended_before(revoked + MICROSECOND)).await, [2]);
    assert_eq!(delete(&harness, ended_before(end)).await, NONE, "no session ended before that time");
    assert_eq!(delete(&harness, ended_before(end + MICROSECOND)).await, [2, 2, 1]);
    for session in sessions {
        assert_eq!(harness.storage.session(session.session, 0).await.expect("the storage responds"), None);
    }
}

/// A counter ends at a full hour.
pub async fn ended_counters_are_deleted_in_batches(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    for number in 1..=5 {
        harness.sent_code(&far_phone(number)).await;
    }
    let this_hour = period_start(harness.now(), HOUR);
    assert_eq!(delete(&harness, ended_before(this_hour + HOUR)).await, [2, 2, 1], "the challenges");
    let mut deleted = Vec::new();
    for hours in 1..=26 {
        let hour = this_hour + hours * HOUR;
        assert_eq!(delete(&harness, ended_before(hour)).await, NONE, "no counter ended before {hour}");
        deleted.extend(delete(&harness, ended_before(hour + MICROSECOND)).await);
    }
    assert_eq!(deleted.iter().sum::<u64>(), 10, "the counters of five phones and five number ranges");
    assert!(deleted.iter().all(|size| *size <= 2), "{deleted:?}");
}

/// Wrong codes are counted for each minute, and a count is deleted by the start of its minute.
pub async fn old_global_counters_are_deleted_in_batches(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let first = period_start(harness.now(), MINUTE);
    for number in 1..=5 {
        let sent = harness.sent_code(&far_phone(number)).await;
        assert_refused(harness.sign_in(with_wrong_code(&sent)).await, Refusal::InvalidCode);
        harness.advance(MINUTE);
    }
    let last = first + 4 * MINUTE;
    assert_eq!(delete(&harness, global_counters_before(first)).await, NONE, "no count is older");
    assert_eq!(delete(&harness, global_counters_before(last)).await, [2, 2]);
    assert_eq!(delete(&harness, global_counters_before(last + MICROSECOND)).await, [1]);
}

/// A message is deleted by the time at which it was stored first.
pub async fn old_messages_are_deleted_in_batches(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let ids = ["m1", "m2", "m3", "m4", "m5"];
    let stored = harness.now();
    for status in [DeliveryStatus::Failed, DeliveryStatus::Delivered] {
        for id in ids {
            report(&harness, id, status).await;
        }
        harness.advance(MINUTE);
    }
    assert_eq!(delete(&harness, messages_before(stored)).await, NONE, "no message is older");
    assert_eq!(delete(&harness, messages_before(stored + MICROSECOND)).await, [2, 2, 1]);
}

/// A record of a request is deleted by the time of the request.
pub async fn old_code_requests_are_deleted_in_batches(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let start = harness.now();
    for number in 1..=5 {
        harness.sent_code(&far_phone(number)).await;
        harness.advance(MINUTE);
    }
    harness.referral.flush_code_requests().await;
    let last = start + 4 * MINUTE;
    assert_eq!(delete(&harness, code_requests_before(start)).await, NONE, "no record is older");
    assert_eq!(delete(&harness, code_requests_before(last)).await, [2, 2]);
    let kept = harness.referral.code_requests(&far_phone(5)).await.expect("the storage responds");
    assert_eq!(kept.len(), 1);
    assert_eq!(delete(&harness, code_requests_before(last + MICROSECOND)).await, [1]);
    let kept = harness.referral.code_requests(&far_phone(5)).await.expect("the storage responds");
    assert_eq!(kept, []);
}
