//! Tests of the rule for sending codes.

use super::*;
use crate::{random::SystemRandom, rate_limit::counters::CountedEvent, user::tests::user};

/// IPv4 address, which has a single network.
const ADDRESS: &str = "203.0.113.9";

pub(crate) const MINUTE: time::Duration = time::Duration::MINUTE;

pub(crate) fn peppers() -> Peppers {
    Peppers::from_secret("p1", &[7; 32]).expect("long enough")
}

/// Returns a challenge for `phone` with the code 4711 that is sent at the epoch and valid for five minutes.
pub(crate) fn challenge(phone: PhoneNumber) -> Challenge {
    let id = ChallengeId(Uuid::from_u128(1));
    Challenge {
        id,
        code_length: 4,
        code_hash: hash_code(&peppers(), "p1", id, CodePurpose::SignIn, &phone, "4711")
            .expect("a known pepper"),
        phone,
        signs_in: true,
        pepper_id: "p1".into(),
        sent_at: OffsetDateTime::UNIX_EPOCH,
        expires_at: OffsetDateTime::UNIX_EPOCH + 5 * MINUTE,
        redeemed_at: None,
        attempts_with_id: 0,
        attempts_without_id: 0,
        address: None,
        failed_attempts: Vec::new(),
        gateway: None,
    }
}

fn phone() -> PhoneNumber {
    PhoneNumber::parse("+79608543017", None).expect("valid")
}

#[test]
fn the_hash_depends_on_the_challenge_the_phone_and_the_pepper() {
    let sent = challenge(phone());
    let right = CodeInput::parse("4711").expect("digits");
    assert!(sent.accepts(&right, CodePurpose::SignIn, &peppers()));
    assert!(!sent.accepts(&CodeInput::parse("4712").expect("digits"), CodePurpose::SignIn, &peppers()));

    let other_id = Challenge { id: ChallengeId(Uuid::from_u128(2)), ..sent.clone() };
    let other_phone = PhoneNumber::parse("+79608543018", None).expect("valid");
    let other_phone = Challenge { phone: other_phone, ..sent.clone() };
    let other_pepper = Peppers::from_secret("p1", &[8; 32]).expect("long enough");
    let unknown_pepper = Peppers::from_secret("p2", &[7; 32]).expect("long enough");
    assert!(!other_id.accepts(&right, CodePurpose::SignIn, &peppers()));
    assert!(!other_phone.accepts(&right, CodePurpose::SignIn, &peppers()));
    assert!(!sent.accepts(&right, CodePurpose::DeleteUser(user(1).id), &peppers()));
    assert!(!sent.accepts(&right, CodePurpose::SignIn, &other_pepper));
    assert!(!sent.accepts(&right, CodePurpose::SignIn, &unknown_pepper));
}

#[test]
fn a_code_is_invalid_if_it_is_expired_redeemed_or_too_short_or_has_no_attempts_left() {
    let start = OffsetDateTime::UNIX_EPOCH;
    let sent = challenge(phone());
    let last_moment = start + 5 * MINUTE - time::Duration::MICROSECOND;
    assert!(sent.is_valid(true, 3, 4, last_moment));
    assert!(!sent.is_valid(true, 3, 4, start + 5 * MINUTE));

    let attempted = Challenge { attempts_without_id: 3, ..sent.clone() };
    assert!(!attempted.is_valid(false, 3, 4, start));
    assert!(attempted.is_valid(true, 3, 4, start), "attempts with the id are counted separately");

    assert!(!sent.is_valid(true, 3, 6, start), "the phone now requires six digits");

    let redeemed = Challenge { redeemed_at: Some(start), ..sent };
    assert!(!redeemed.is_valid(true, 3, 4, start));
}

fn request(now: OffsetDateTime, policy: Policy) -> ChallengeRequest {
    ChallengeRequest {
        id: ChallengeId(Uuid::from_u128(1)),
        phone: phone(),
        now,
        purpose: CodePurpose::SignIn,
        address: Some(ADDRESS.parse().expect("an address")),
        digits: OneTimeCode::generate(&SystemRandom, 10),
        policy: Arc::new(policy),
        peppers: Arc::new(peppers()),
    }
}

/// Returns the code length, or the time to wait.
fn decided(request: &ChallengeRequest, facts: &ChallengeFacts) -> Result<u8, Duration> {
    let Decision { writes, outcome } = request.decide(facts);
    match outcome {
        Ok(granted) => {
            assert_eq!(writes.challenge.as_ref(), Some(&granted.challenge));
            let Challenge { code_length, .. } = granted.challenge;
            let code = CodeInput::parse(request.digits.first(code_length).reveal()).expect("digits");
            assert!(
                granted.challenge.accepts(&code, CodePurpose::SignIn, &peppers()),
                "the hash matches the digits"
            );
            Ok(code_length)
        }
        Err(Refusal::TooManyRequests { retry_after, .. }) => {
            assert_eq!(writes, ChallengeWrites::default(), "a refused request is not counted");
            Err(retry_after)
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn the_resend_interval_ends_after_its_time_or_a_sign_in() {
    let sent = OffsetDateTime::UNIX_EPOCH;
    let decided_at = |now, facts: &ChallengeFacts| decided(&request(now, Policy::standard()), facts);
    let facts = ChallengeFacts { last_sent_at: Some(sent), ..ChallengeFacts::default() };
    let half_a_minute = sent + MINUTE / 2;

    assert_eq!(decided_at(sent, &ChallengeFacts::default()), Ok(4));
    assert_eq!(decided_at(half_a_minute, &facts), Err(Duration::from_secs(30)));
    assert_eq!(decided_at(sent + MINUTE, &facts), Ok(4), "the returned wait is enough");
    let wait = Err(Duration::from_secs(90));
    assert_eq!(decided_at(half_a_minute - MINUTE, &facts), wait, "the clock of another host is ahead");
    assert_eq!(decided_at(sent - 9 * MINUTE, &facts), Ok(4), "the clock of another host was wrong");
    let without_interval = request(sent - MINUTE / 2, Policy::development());
    assert_eq!(decided(&without_interval, &facts), Ok(4), "a delayed request has no interval to wait for");
    let signed_in = ChallengeFacts { last_login: Some(sent), ..facts.clone() };
    assert_eq!(decided_at(half_a_minute, &signed_in), Ok(4));
    let redeemed = ChallengeFacts { last_is_redeemed: true, ..facts.clone() };
    assert_eq!(decided_at(half_a_minute, &redeemed), Ok(4), "regardless of differences between clocks");
    let signed_in_before = ChallengeFacts { last_login: Some(sent - MINUTE), ..facts };
    assert!(decided_at(half_a_minute, &signed_in_before).is_err());
}

#[test]
fn the_longest_wait_of_all_limits_is_returned() {
    let now = OffsetDateTime::UNIX_EPOCH + 100 * MINUTE;
    let request = request(now, Policy::standard());
    let ago = |minutes, kind| CountedEvent { at: now - minutes * MINUTE, kind };
    let codes = |minutes: &[i32]| minutes.iter().map(|ago_| ago(*ago_, EventKind::Code)).collect::<Vec<_>>();
    let facts = |key, events| ChallengeFacts {
        counters: [(key, events)].into_iter().collect(),
        ..ChallengeFacts::default()
    };
    let mins = |minutes| Err(Duration::from_mins(minutes));
    let key = CounterKey::phone(&phone());
    // The limits are three in 15 minutes and five in an hour. The fifth newest is an hour old in 20 minutes.
    let full = facts(key.clone(), codes(&[40, 30, 10, 9, 8]));
    assert_eq!(decided(&request, &full), mins(20));
    assert_eq!(decided(&request, &facts(key, codes(&[40, 10, 9, 8]))), mins(5));
    let number_range = CounterKey::number_range(&phone());
    assert_eq!(decided(&request, &facts(number_range, codes(&[9; 10]))), mins(51));
    let phone_and_address = CounterKey::phone_and_address(&phone(), request.address.expect("given"));
    assert_eq!(decided(&request, &facts(phone_and_address, codes(&[9; 3]))), mins(24 * 60 - 9));
}

#[test]
fn wrong_codes_lengthen_the_next_code_and_lock_the_phone_out_if_a_lockout_threshold_is_set() {
    let now = OffsetDateTime::UNIX_EPOCH + 60 * 24 * 60 * MINUTE;
    let failed_attempts = |number: usize, ago: time::Duration| ChallengeFacts {
        counters: [(
            CounterKey::phone(&phone()),
            vec![CountedEvent { at: now - ago, kind: EventKind::FailedAttempt }; number],
        )]
        .into_iter()
        .collect(),
        ..ChallengeFacts::default()
    };
    let month = time::Duration::days(31);
    let standard = request(now, Policy::standard());
    for (number, length) in [(0, 4), (4, 4), (5, 6), (29, 6), (30, 8)] {
        assert_eq!(decided(&standard, &failed_attempts(number, MINUTE)), Ok(length));
        assert_eq!(
            decided(&standard, &failed_attempts(number, month)),
            Ok(4),
            "failed_attempts older than `failed_attempt_window` do not count"
        );
    }
    let strict = request(now, Policy::strict());
    for (number, length) in [(0, 6), (29, 6), (30, 8), (99, 8)] {
        assert_eq!(decided(&strict, &failed_attempts(number, MINUTE)), Ok(length));
    }
    assert_eq!(decided(&strict, &failed_attempts(100, MINUTE)), Err((month - MINUTE).unsigned_abs()));
}

#[test]
fn the_code_of_a_test_number_is_fixed_and_counts_only_for_the_address() {
    let now = OffsetDateTime::UNIX_EPOCH + 100 * MINUTE;
    let number = TestNumber::new(phone(), "47110815", now + MINUTE).expect("a code");
    let policy = Policy {
        test_numbers: vec![number],
        messages_per_day: Some(crate::policy::Budget::Messages(1)),
        ..Policy::standard()
    };
    let request = request(now, policy.clone());
    let of_address = CounterKey::of_address(request.address.expect("given"));
    let phone = CounterKey::phone(&phone());
    assert_eq!(request.counters(), [of_address.clone(), phone.clone()]);

    // The resend interval has not passed, and the codes of the phone and the budget are used up.
    let codes = vec![CountedEvent { at: now, kind: EventKind::Code }; 10];
    let messages = vec![(now, 1)];
    let facts = ChallengeFacts {
        last_sent_at: Some(now),
        counters: [(phone.clone(), codes.clone())].into_iter().collect(),
        global_counters: GlobalCounterFacts { messages, ..GlobalCounterFacts::default() },
        ..ChallengeFacts::default()
    };
    let Decision { writes: ChallengeWrites { counters, .. }, outcome } = request.decide(&facts);
    let granted = outcome.expect("granted");
    assert_eq!(granted.resend_in, Duration::ZERO);
    assert_eq!(granted.challenge.code_length, 8);
    assert_eq!(granted.challenge.expires_at, now + MINUTE, "not later than the test number");
    assert!(granted.challenge.accepts(
        &CodeInput::parse("47110815").expect("digits"),
        CodePurpose::SignIn,
        &peppers()
    ));
    let counted: Vec<_> = counters.counters.iter().map(|counter| &counter.key).collect();
    assert_eq!((counted, counters.global_counter), (vec![&of_address], None));

    let full =
        ChallengeFacts { counters: [(of_address, codes)].into_iter().collect(), ..ChallengeFacts::default() };
    assert_eq!(decided(&request, &full), Err(Duration::from_hours(1)));
    let failed_attempts = vec![CountedEvent { at: now, kind: EventKind::FailedAttempt }; 60];
    let locked_out = ChallengeFacts {
        counters: [(phone, failed_attempts)].into_iter().collect(),
        ..ChallengeFacts::default()
    };
    assert_eq!(decided(&request, &locked_out), Err(Duration::from_hours(24)));

    let expired = ChallengeRequest { now: now + MINUTE, ..request };
    assert!(decided(&expired, &facts).is_err(), "the phone is a normal phone again");
    assert_eq!(decided(&expired, &ChallengeFacts::default()), Ok(4));
    assert_eq!(decided(&expired, &locked_out), Ok(8), "60 wrong codes do not lock out a normal phone");
}

#[test]
fn a_code_that_became_too_short_does_not_delay_the_next_code() {
    let now = OffsetDateTime::UNIX_EPOCH + MINUTE / 2;
    let sent = |length| ChallengeFacts {
        last_sent_at: Some(OffsetDateTime::UNIX_EPOCH),
        last_code_length: Some(length),
        global_counters: GlobalCounterFacts { failed_attempts: 51, ..GlobalCounterFacts::default() },
        ..ChallengeFacts::default()
    };
    let request = request(now, Policy::standard());
    assert_eq!(decided(&request, &sent(4)), Ok(6), "the attack made it invalid");
    assert_eq!(decided(&request, &sent(6)), Err(Duration::from_secs(30)));
}

/// With the strict policy, the owner cannot sign in with a code that another client requested.
#[test]
fn one_address_never_gets_all_codes_of_a_phone_if_the_challenge_is_required() {
    let now = OffsetDateTime::UNIX_EPOCH + 100 * MINUTE;
    let strict = Policy {
        regions: Some(crate::policy::Regions::All),
        messages_per_day: Some(crate::policy::Budget::Unlimited),
        ..Policy::strict()
    };
    let codes = |number: i32| {
        let event = |ago| CountedEvent { at: now - ago * MINUTE, kind: EventKind::Code };
        (1..=number).rev().map(event).collect::<Vec<_>>()
    };
    for (policy, number, is_refused) in [
        (strict.clone(), 1, false),
        (strict, 2, true),
        (Policy::standard(), 2, false),
        (Policy::standard(), 3, true),
    ] {
        let request = request(now, policy);
        let phone_and_address = CounterKey::phone_and_address(&phone(), request.address.expect("given"));
        let facts = ChallengeFacts {
            counters: [(phone_and_address, codes(number))].into_iter().collect(),
            ..ChallengeFacts::default()
        };
        assert_eq!(decided(&request, &facts).is_err(), is_refused, "{number}");
    }
}

#[test]
fn one_address_gets_a_twentieth_of_the_budget_and_at_least_three_codes() {
    let now = OffsetDateTime::UNIX_EPOCH + 100 * MINUTE;
    for (budget, share) in [(1, 3), (60, 3), (100, 5), (200, 10)] {
        let messages_per_day = Some(crate::policy::Budget::Messages(budget));
        let request = request(now, Policy { messages_per_day, ..Policy::standard() });
        let of_address = CounterKey::of_address(request.address.expect("given"));
        let events = |number: i32| {
            let event = |ago| CountedEvent { at: now - ago * 60 * MINUTE, kind: EventKind::Code };
            (2..number + 2).rev().map(event).collect::<Vec<_>>()
        };
        let is_refused = |number| {
            let counters = [(of_address.clone(), events(number))].into_iter().collect();
            decided(&request, &ChallengeFacts { counters, ..ChallengeFacts::default() }).is_err()
        };
        assert!(!is_refused(share - 1) && is_refused(share), "{share} of {budget}");
    }
}

#[test]
fn a_new_code_has_six_digits_during_an_attack() {
    let global_counters = GlobalCounterFacts { failed_attempts: 51, ..GlobalCounterFacts::default() };
    let facts = ChallengeFacts { global_counters, ..ChallengeFacts::default() };
    assert_eq!(decided(&request(OffsetDateTime::UNIX_EPOCH, Policy::standard()), &facts), Ok(6));
}
