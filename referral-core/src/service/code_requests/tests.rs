//! Tests of the queue of records, and of requests that have no outcome.

use time::Duration;
use uuid::Uuid;

use super::*;

fn request(number: u32, phone: u8, outcome: CodeRequestOutcome) -> CodeRequest {
    CodeRequest {
        id: Uuid::from_u128(number.into()),
        at: OffsetDateTime::UNIX_EPOCH,
        phone: PhoneHash([phone; 16]),
        kind: CodeRequestKind::Send,
        purpose: "sign_in".into(),
        outcome,
        reason: None,
        limit: None,
        gateway: None,
        message_id: None,
        request_id: None,
    }
}

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn drain(queue: &CodeRequests) -> Vec<CodeRequest> {
    let mut all = Vec::new();
    loop {
        let batch = queue.take(NOW);
        if batch.is_empty() {
            return all;
        }
        assert!(batch.len() <= BATCH_SIZE);
        all.extend(batch);
    }
}

#[test]
fn requests_without_success_are_limited_in_a_minute() {
    let queue = CodeRequests::default();
    let refused = |number: u32, phone| request(number, phone, CodeRequestOutcome::Refused);
    for number in 0..10 {
        queue.add(refused(number, 0), NOW);
    }
    assert_eq!(queue.lock().waiting.len(), 5, "of one phone");
    for number in 10..1_000 {
        queue.add(refused(number, u8::try_from(number % 250).expect("a byte")), NOW);
    }
    assert_eq!(queue.lock().waiting.len(), 200);
    assert_eq!(queue.lock().unrecorded, 800);
    for number in 0..50 {
        queue.add(request(1_000 + number, 0, CodeRequestOutcome::Sent), NOW);
    }
    assert_eq!(queue.lock().waiting.len(), 250, "successful requests are not limited");
    queue.add(refused(2_000, 0), NOW + Duration::seconds(59));
    assert_eq!(queue.lock().waiting.len(), 250);
    queue.add(refused(2_000, 0), NOW + Duration::MINUTE);
    assert_eq!(queue.lock().waiting.len(), 251);
    assert_eq!(queue.lock().unrecorded, 0, "the number is logged");
}

#[test]
fn full_queue_drops_further_records() {
    let queue = CodeRequests::default();
    let sent = |number| request(number, 0, CodeRequestOutcome::Sent);
    for number in 0..5_000 {
        queue.add(sent(number), NOW);
    }
    let batch = queue.take(NOW);
    queue.add(sent(5_000), NOW);
    queue.restore(batch);
    let waiting = drain(&queue);
    assert_eq!(waiting.len(), 4_096);
    assert_eq!(queue.lock().unrecorded, 904 + 1);
    assert!(waiting.is_sorted_by_key(|request| request.id), "the records keep their order");
}

#[test]
fn records_of_a_phone_are_forgotten() {
    let queue = CodeRequests::default();
    for phone in [1, 2, 1] {
        queue.add(request(phone.into(), phone, CodeRequestOutcome::Sent), NOW);
    }
    queue.forget(&[PhoneHash([1; 16]), PhoneHash([3; 16])]);
    assert_eq!(drain(&queue).iter().map(|request| request.phone.0[0]).collect::<Vec<_>>(), [2]);
}
