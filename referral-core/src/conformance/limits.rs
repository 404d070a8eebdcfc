//! Cases about limits: the counted requests, the time for which they count, and that concurrent requests do
//! not exceed a limit. Cases about wrong codes are in [`guesses`](super::guesses).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use super::harness::{
    Harness, assert_refused, in_parallel, phone, with_right_code, with_wrong_code, without_challenge,
};
use crate::{
    error::{Error, refusal::Refusal},
    policy::{Budget, Policy},
    rate_limit::client::Client,
    service::{
        send_code::{SendCode, SentCode},
        sign_in::SignIn,
        users::EditProfile,
    },
    storage::Storage,
    user::{email::Email, phone::PhoneNumber, profile::ProfileChange},
};

pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const DAY: Duration = Duration::from_hours(24);

/// Returns a client at an address, a different one for each number.
pub(super) fn client(number: u32) -> Client {
    Client::default().address(IpAddr::V4(Ipv4Addr::from(0xc600_0000 + number)))
}

/// Returns a phone in its own number range.
pub(super) fn far_phone(number: u32) -> PhoneNumber {
    phone(number * 1_000)
}

pub(super) async fn send(harness: &Harness, phone: &PhoneNumber, client: Client) -> Result<SentCode, Error> {
    harness.referral.send_code(SendCode::new(phone.clone()).client(client)).await
}

/// Returns the wait of a rejection.
#[track_caller]
pub(super) fn wait<T: std::fmt::Debug>(result: Result<T, Error>) -> Duration {
    match result {
        Err(Error::Refused(Refusal::TooManyRequests { retry_after, .. })) => retry_after,
        other => panic!("not rejected as too many requests: {other:?}"),
    }
}

/// Asserts that this number of results is granted, and that the others are rejected as too many requests.
#[track_caller]
fn assert_granted(results: Vec<Result<SentCode, Error>>, expected: usize) {
    let (granted, rejected): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(granted.len(), expected);
    for result in rejected {
        wait(result);
    }
}

/// Sends wrong codes until the code is invalid.
pub(super) async fn guess_six_times(harness: &Harness, sent: &SentCode) {
    for attempt in [with_wrong_code(sent), without_challenge(with_wrong_code(sent))] {
        for _ in 0..3 {
            assert_refused(harness.sign_in(attempt.clone()).await, Refusal::InvalidCode);
        }
    }
}

/// Three codes in 15 minutes, five in an hour, ten in a day. After the reported wait another code is
/// available.
pub async fn codes_of_a_phone_are_limited_and_the_reported_wait_is_exact(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let start = harness.now();
    let mut sent = Vec::new();
    while sent.len() < 25 {
        match harness.send_code(&phone(1)).await {
            Ok(code) => {
                sent.push(harness.now() - start);
                // The wait is returned with the code, and the next code is not available earlier.
                harness.advance(code.resend_in.saturating_sub(Duration::from_micros(1)));
                wait(harness.send_code(&phone(1)).await);
                harness.advance(Duration::from_micros(1));
            }
            refused => {
                let wait = wait(refused);
                panic!("the wait that was returned with the last code is too short by {wait:?}");
            }
        }
    }
    for (limit, per) in [(3, 15 * MINUTE), (5, HOUR), (10, DAY)] {
        for window in sent.windows(limit + 1) {
            assert!(window[limit] - window[0] >= per, "more than {limit} in {per:?}: {sent:?}");
        }
    }
}

/// A client whose messages fail must not be able to request codes without a limit. Other clients may request
/// another code.
pub async fn unsent_code_is_refunded_to_the_phone_and_the_number_range_but_not_to_the_address(
    storage: Arc<dyn Storage>,
) {
    let harness = Harness::new(storage).without_gateway();
    for number in 0..10 {
        let sent = send(&harness, &far_phone(1 + number % 5), client(1)).await;
        assert!(matches!(sent, Err(Error::SmsNotSent(_))), "{sent:?}");
    }
    wait(send(&harness, &far_phone(6), client(1)).await);
    for number in 0..30 {
        let sent = send(&harness, &phone(number), client(2 + number)).await;
        assert!(matches!(sent, Err(Error::SmsNotSent(_))), "{sent:?}");
    }
}

/// A client at one address leaves most codes of a number range to others, whether they are sent or not.
pub async fn one_address_gets_a_third_of_the_codes_of_a_number_range(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    for (harness, other) in [(harness.without_gateway(), client(1)), (harness.clone(), client(2))] {
        for number in 0..3 {
            let sent = send(&harness, &phone(number), other.clone()).await;
            assert!(matches!(sent, Ok(_) | Err(Error::SmsNotSent(_))), "{sent:?}");
        }
        wait(send(&harness, &phone(3), other.clone()).await);
    }
    for number in 10..17 {
        send(&harness, &phone(number), client(number)).await.expect("seven codes are left for others");
    }
    wait(send(&harness, &phone(20), client(20)).await);
}

/// An IPv6 subscriber has many addresses, so requests count for the network.
pub async fn ipv6_client_is_limited_by_its_networks(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let client = |network: u16| {
        let address = Ipv6Addr::new(0x2001, 0xdb8, 1, network, 0, 0, 0, 1);
        Client::default().address(IpAddr::V6(address))
    };
    // Ten from each of two /64 use up their /56. The /48 has twice as many.
    for number in 0..20 {
        send(&harness, &far_phone(number), client(u16::from(number >= 10))).await.expect("sent");
    }
    wait(send(&harness, &far_phone(20), client(2)).await);
    for number in 20..40_u16 {
        send(&harness, &far_phone(number.into()), client(0x100 + number)).await.expect("another /56");
    }
    wait(send(&harness, &far_phone(40), client(0x200)).await);
}

/// The response reveals whether another user has an email address, so edits of the address are limited.
pub async fn edits_of_an_email_address_are_limited(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, boris] = [harness.enter(1).await, harness.enter(2).await];
    let [anna, boris] = [harness.current_user(&anna).await, harness.current_user(&boris).await];
    let change = |address: &str| {
        let email = Some(Email::parse(address).ok());
        ProfileChange { email, ..ProfileChange::default() }
    };
    harness
        .referral
        .edit_profile(&anna, EditProfile::new(change("anna@example.com")))
        .await
        .expect("unused address");
    let probes = in_parallel(20, |number| {
        let (harness, boris) = (harness.clone(), boris.clone());
        let change = change(if number % 2 == 0 { "anna@example.com" } else { "boris@example.com" });
        async move { harness.referral.edit_profile(&boris, EditProfile::new(change)).await }
    });
    let is_answered =
        |result: &&Result<_, Error>| matches!(result, Ok(_) | Err(Error::Refused(Refusal::EmailTaken)));
    assert_eq!(probes.await.iter().filter(is_answered).count(), 10);
    let wait =
        wait(harness.referral.edit_profile(&boris, EditProfile::new(change("anna@example.com"))).await);
    assert!(wait <= HOUR, "{wait:?}");
    let name = ProfileChange { first_name: Some(None), ..ProfileChange::default() };
    harness
        .referral
        .edit_profile(&boris, EditProfile::new(name))
        .await
        .expect("other fields are not limited");
    harness
        .referral
        .edit_profile(&anna, EditProfile::new(change("anna@example.org")))
        .await
        .expect("other users are not limited");
    harness.advance(wait);
    let taken = harness.referral.edit_profile(&boris, EditProfile::new(change("anna@example.org"))).await;
    assert_refused(taken, Refusal::EmailTaken);
}

/// Users that share an address or a number range are not limited by each other.
pub async fn redeemed_code_is_refunded_to_the_address_and_the_number_range(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    for number in 0..30 {
        let sent = send(&harness, &phone(number), client(1)).await.expect("not limited by other users");
        harness.sign_in(with_right_code(&sent)).await.expect("signed in");
    }
    for number in 1..=10 {
        send(&harness, &far_phone(number), client(1)).await.expect("ten codes that are not redeemed");
        send(&harness, &phone(number), client(number + 1)).await.expect("ten codes of the number range");
    }
    wait(send(&harness, &far_phone(11), client(1)).await);
    wait(send(&harness, &phone(41), client(41)).await);
}

/// An address gets ten codes in an hour, concurrently or sequentially, and more after the hour.
pub async fn parallel_requests_from_one_address_do_not_exceed_its_limit(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let sent = in_parallel(25, |number| {
        let harness = harness.clone();
        async move { send(&harness, &far_phone(number), client(1)).await }
    });
    assert_granted(sent.await, 10);
    let wait = wait(send(&harness, &far_phone(30), client(1)).await);
    assert!(wait <= HOUR && wait > 59 * MINUTE, "{wait:?}");
    send(&harness, &far_phone(30), client(2)).await.expect("another address");
    harness.advance(wait);
    send(&harness, &far_phone(31), client(1)).await.expect("after the wait");
}

/// Numbers that differ in the last three digits only get ten codes in an hour, from any addresses.
pub async fn parallel_requests_for_one_number_range_do_not_exceed_its_limit(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let sent = in_parallel(25, |number| {
        let harness = harness.clone();
        async move { send(&harness, &phone(number), client(number)).await }
    });
    assert_granted(sent.await, 10);
    send(&harness, &far_phone(1), client(1)).await.expect("another number range");
}

/// One address gets three codes a day for a phone, and the phone gets ten.
pub async fn one_address_cannot_use_up_the_codes_of_a_phone(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    for _ in 0..3 {
        send(&harness, &phone(1), client(1)).await.expect("sent");
        harness.advance(15 * MINUTE);
    }
    let wait = wait(send(&harness, &phone(1), client(1)).await);
    assert!(wait > 23 * HOUR, "{wait:?}");
    let sent = send(&harness, &phone(1), client(2)).await.expect("sent to the owner");
    harness.sign_in(SignIn { client: client(2), ..with_right_code(&sent) }).await.expect("signed in");
}

/// The limit applies to any 24 hours, and unsent messages are not counted.
pub async fn messages_per_day_are_limited(storage: Arc<dyn Storage>) {
    let policy = Policy { messages_per_day: Some(Budget::Messages(5)), ..Policy::standard() };
    let harness = Harness::with_policy(Arc::clone(&storage), policy.clone());
    for number in 0..3 {
        let failed = harness.without_gateway().send_code(&far_phone(number)).await;
        assert!(matches!(failed, Err(Error::SmsNotSent(_))));
    }
    for number in 0..5 {
        harness.sent_code(&far_phone(number)).await;
        harness.advance(HOUR);
    }
    let wait = wait(harness.send_code(&far_phone(5)).await);
    assert!(wait > 19 * HOUR && wait <= 20 * HOUR, "until the first message is a day old: {wait:?}");
    harness.advance(wait);
    harness.sent_code(&far_phone(5)).await;
    super::limits::wait(harness.send_code(&far_phone(6)).await);
}

/// Messages are counted for each hour, and an hour counts until all its messages are a day old.
pub async fn message_counts_until_its_hour_is_a_day_old(storage: Arc<dyn Storage>) {
    let policy = Policy { messages_per_day: Some(Budget::Messages(1)), ..Policy::standard() };
    let harness = Harness::with_policy(storage, policy);
    harness.sent_code(&far_phone(1)).await;
    harness.advance(DAY);
    let wait = wait(harness.send_code(&far_phone(2)).await);
    assert!(wait <= HOUR, "{wait:?}");
    harness.advance(wait.saturating_sub(Duration::from_micros(1)));
    super::limits::wait(harness.send_code(&far_phone(2)).await);
    harness.advance(Duration::from_micros(1));
    harness.sent_code(&far_phone(2)).await;
}

/// Many users sign in concurrently whose codes share a counter. Each sign-in refunds exactly its own code.
pub async fn parallel_sign_ins_refund_each_code_once(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    for round in 0..2 {
        let mut sent = Vec::new();
        for number in 0..9 {
            sent.push(send(&harness, &far_phone(round * 10 + number), client(1)).await.expect("sent"));
        }
        let left_over = send(&harness, &far_phone(90 + round), client(1)).await;
        left_over.expect("the tenth, if all codes of the previous round were refunded");
        let signed_in = in_parallel(9, |number| {
            let (harness, with_right_code) = (harness.clone(), with_right_code(&sent[number as usize]));
            async move { harness.sign_in(with_right_code).await }
        });
        assert!(signed_in.await.iter().all(Result::is_ok));
        // One code of each round remains counted for an hour.
        harness.advance(HOUR + MINUTE);
    }
    // The same holds for a user who signs in repeatedly.
    for _ in 0..4 {
        let sent = send(&harness, &far_phone(99), client(2))
            .await
            .expect("redeemed codes are refunded to the phone and the address");
        harness.sign_in(with_right_code(&sent)).await.expect("signed in");
        harness.advance(15 * MINUTE);
    }
}

/// Counters that still have an effect are kept, others are deleted.
pub async fn sweep_deletes_only_expired_counters(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let sent = send(&harness, &phone(1), client(1)).await.expect("sent");
    guess_six_times(&harness, &sent).await;
    harness.advance(30 * DAY);
    assert_ne!(harness.referral.run_maintenance().await.expect("deleted"), 0);
    let sent = send(&harness, &phone(1), client(1)).await.expect("sent");
    assert_eq!(sent.code_length, 6, "the failures are still counted");
    harness.sign_in(with_right_code(&sent)).await.expect("signed in");

    harness.advance(32 * DAY);
    assert_ne!(harness.referral.run_maintenance().await.expect("deleted"), 0);
    // Only the new counters of one code are left.
    send(&harness, &phone(1), client(1)).await.expect("sent");
    let later = harness.now() + 400 * DAY;
    assert_eq!(harness.delete_before(later, 100).await, 6, "a challenge and five counters");
}
