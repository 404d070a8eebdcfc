//! Tests of the rule of signing in.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use uuid::Uuid;

use super::*;
use crate::{
    audit::AuditEntryId,
    otp::{
        challenge::{
            FailedAttempt,
            tests::{MINUTE, challenge, peppers},
        },
        test_number::TestNumber,
    },
    rate_limit::{client::ClientAddress, counters::CountedEvent},
    user::{metadata::Metadata, staff_role::StaffRole, tests::user},
};

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

/// Returns an attempt to sign in with the phone of `user(1)` and `code`, without the id of the challenge.
fn attempt(code: &str) -> SignInRequest {
    let anna = user(1);
    SignInRequest {
        phone: anna.phone.clone(),
        challenge: None,
        invite_code: None,
        new_user: NewUser {
            id: UserId(Uuid::from_u128(99)),
            phone: anna.phone,
            invite_codes: vec![anna.invite_code],
            staff_role: None,
            date_joined: NOW,
            external_id: None,
            metadata: Metadata::default(),
            last_login: Some(NOW),
        },
        now: NOW,
        code: CodeInput::parse(code).expect("digits"),
        session: SessionId(Uuid::nil()),
        audit: AuditEntryId(Uuid::from_u128(7)),
        session_expires_at: NOW + MINUTE,
        issued: IssuedTokens {
            key_id: "k1".into(),
            access_id: Uuid::nil(),
            refresh_id: Uuid::nil(),
            issued_at: NOW,
            access_expires_at: NOW + MINUTE,
            refresh_expires_at: NOW + MINUTE,
            claims: None,
        },
        claims: None,
        client: Client::default().address(ADDRESS),
        approval: Approval::NotRequired,
        staff_only: false,
        counts_attempts_without_challenge: true,
        proven_user: None,
        policy: Arc::new(Policy::standard()),
        peppers: Arc::new(peppers()),
    }
}

fn facts(user: Option<User>) -> SignInFacts {
    let phone = attempt("4711").phone;
    SignInFacts { challenge: Some(challenge(phone)), user, ..SignInFacts::default() }
}

fn decide_attempt(attempt: &SignInRequest, facts: &SignInFacts) -> SignInDecision {
    attempt.decide(facts, &attempt.new_user.invite_codes[0]).expect("no custom claims")
}

fn is_valid(attempt: &SignInRequest, facts: &SignInFacts) -> bool {
    decide_attempt(attempt, facts).outcome.is_ok()
}

fn signed_in(outcome: Result<SignInOutcome, Refusal>) -> StoredSignIn {
    match outcome {
        Ok(SignInOutcome::SignedIn(stored)) => stored,
        other => panic!("{other:?}"),
    }
}

/// Returns the refusal, the changed challenge and the changes of counters.
fn refused(decision: SignInDecision) -> (Refusal, Option<Challenge>, CounterUpdate) {
    match (decision.writes, decision.outcome) {
        (SignInWrites::Attempt { challenge, counters }, Err(refusal)) => (refusal, challenge, counters),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_correct_code_is_redeemed_and_an_unknown_phone_becomes_a_user() {
    let attempt = attempt("4711");
    let Decision { writes, outcome } = decide_attempt(&attempt, &facts(None));
    let SignInWrites::SignIn { challenge, user: UserWrite::Add(user), session, counters, .. } = writes else {
        panic!("{writes:?}");
    };
    assert_eq!(challenge.redeemed_at, Some(NOW));
    assert_eq!(user, attempt.new_user.to_user(attempt.new_user.invite_codes[0].clone(), None));
    let read = [("address".into(), vec![]), ("phone".into(), vec![])];
    assert_eq!(counted(&counters), read, "a sign-in adds no events, and depends on the counters");
    assert_eq!(counters.unchanged, [], "there is no stored counter to keep");
    let signed_in = signed_in(outcome);
    assert_eq!((signed_in.user, signed_in.session, signed_in.created), (user, session, true));
    assert_eq!((signed_in.accepted, signed_in.outcome), (None, InvitationOutcome::None));
}

#[test]
fn a_sign_in_depends_on_stored_counters_without_a_change() {
    let attempt = attempt("4711");
    let failure = CountedEvent { at: NOW - MINUTE, kind: EventKind::FailedAttempt };
    let stored = attempt.counters().into_iter().map(|key| (key, vec![failure]));
    let decision = decide_attempt(&attempt, &SignInFacts { counters: stored.collect(), ..facts(None) });
    let SignInWrites::SignIn { counters, .. } = decision.writes else { panic!("{decision:?}") };
    assert_eq!((counters.counters, counters.unchanged), (vec![], attempt.counters()));
}

#[test]
fn staff_cannot_sign_in_with_the_code_of_a_test_number() {
    let staff = User { staff_role: Some(StaffRole::Support), ..user(1) };
    let decide = |code: &str, user: &User, until| {
        let test_numbers = vec![TestNumber::new(user.phone.clone(), "47110815", until).expect("valid code")];
        let policy = Arc::new(Policy { test_numbers, ..Policy::standard() });
        let request = SignInRequest { policy, ..attempt(code) };
        assert!(user.is_staff() || !request.needs_ancestry(&facts(Some(user.clone()))));
        decide_attempt(&request, &facts(Some(user.clone())))
    };
    let (now, later) = (NOW, NOW + MINUTE);
    assert!(decide("4711", &user(1), later).outcome.is_ok());
    assert!(decide("4711", &staff, now).outcome.is_ok(), "the test number has expired");
    assert_eq!(decide("4711", &staff, later), decide("4712", &staff, later), "same count, same response");
}

#[test]
fn wrong_codes_with_and_without_the_id_are_counted_separately() {
    let (refusal, counted, _) = refused(decide_attempt(&attempt("4712"), &facts(None)));
    let counted = counted.expect("counted");
    assert_eq!(refusal, Refusal::InvalidCode);
    assert_eq!((counted.attempts_with_id, counted.attempts_without_id), (0, 1));

    let naming = SignInRequest { challenge: Some(counted.id), ..attempt("4712") };
    let counted = refused(decide_attempt(&naming, &facts(None))).1.expect("counted");
    assert_eq!((counted.attempts_with_id, counted.attempts_without_id), (1, 0));
}

/// Returns the kind of each counter to store with the events in it.
fn counted(update: &CounterUpdate) -> Vec<(String, Vec<EventKind>)> {
    let subject = |key: &CounterKey| key.as_str().split('/').next().unwrap_or_default().to_owned();
    let counters = update.counters.iter();
    counters
        .map(|counter| (subject(&counter.key), counter.events.iter().map(|event| event.kind).collect()))
        .collect()
}

#[test]
fn all_invalid_codes_get_the_same_response_and_count_for_the_address_only() {
    let valid = facts(None).challenge.expect("a challenge");
    for (case, invalid) in [
        ("never sent", None),
        ("expired", Some(Challenge { expires_at: NOW, ..valid.clone() })),
        ("redeemed", Some(Challenge { redeemed_at: Some(NOW), ..valid.clone() })),
        ("no attempts left", Some(Challenge { attempts_without_id: 3, ..valid })),
    ] {
        for code in ["4711", "4712"] {
            let facts = SignInFacts { challenge: invalid.clone(), ..facts(None) };
            let (refusal, challenge, counters) = refused(decide_attempt(&attempt(code), &facts));
            assert_eq!((refusal, challenge), (Refusal::InvalidCode, None), "{case}");
            assert_eq!(counters.global_counter, None, "{case}");
            // A matching code is not a guess.
            let is_match = case != "never sent" && code == "4711";
            let attempt = vec![("address".into(), vec![EventKind::AttemptWithoutChallenge])];
            assert_eq!(counted(&counters), if is_match { vec![] } else { attempt }, "{case} {code}");
        }
    }
}

#[test]
fn a_wrong_code_counts_for_the_phone_the_address_and_the_service() {
    let (_, _, counters) = refused(decide_attempt(&attempt("4712"), &facts(None)));
    let failure = vec![EventKind::FailedAttempt];
    assert_eq!(counted(&counters), [("address".into(), failure.clone()), ("phone".into(), failure)]);
    assert!(counters.global_counter.is_some());
}

fn with_events(facts: SignInFacts, key: CounterKey, number: usize, kind: EventKind) -> SignInFacts {
    let event = |number: usize| CountedEvent { at: NOW - Duration::from_micros(number as u64), kind };
    SignInFacts { counters: [(key, (0..number).rev().map(event).collect())].into_iter().collect(), ..facts }
}

#[test]
fn a_code_that_is_shorter_than_its_phone_requires_is_invalid() {
    let phone = CounterKey::phone(&attempt("4711").phone);
    for (failed_attempts, is_accepted) in [(4, true), (5, false)] {
        let facts = with_events(facts(None), phone.clone(), failed_attempts, EventKind::FailedAttempt);
        assert_eq!(is_valid(&attempt("4711"), &facts), is_accepted, "{failed_attempts}");
    }
}

#[test]
fn a_code_of_four_digits_is_invalid_during_an_attack() {
    for (failed_attempts, is_accepted) in [(50, true), (51, false)] {
        let global_counters = GlobalCounterFacts { failed_attempts, ..GlobalCounterFacts::default() };
        let facts = SignInFacts { global_counters, ..facts(None) };
        assert_eq!(is_valid(&attempt("4711"), &facts), is_accepted, "{failed_attempts}");
    }
}

#[test]
fn a_code_is_invalid_during_the_lockout_of_its_phone() {
    let phone = CounterKey::phone(&attempt("4711").phone);
    let policy = Policy { lockout_threshold: Some(100), code_length_steps: Vec::new(), ..Policy::standard() };
    let attempt = SignInRequest { policy: Arc::new(policy), ..attempt("4711") };
    for (failed_attempts, is_accepted) in [(99, true), (100, false)] {
        let facts = with_events(facts(None), phone.clone(), failed_attempts, EventKind::FailedAttempt);
        assert_eq!(is_valid(&attempt, &facts), is_accepted, "{failed_attempts}");
    }
}

#[test]
fn failures_from_another_address_without_the_id_are_not_refunded() {
    let elsewhere = ClientAddress::from_bytes([7; 16]);
    let mut facts = facts(None);
    facts.challenge = facts.challenge.map(|sent| Challenge { address: Some(elsewhere), ..sent });
    for (names_id, is_kept) in [(false, false), (true, true)] {
        let id = facts.challenge.as_ref().map(|sent| sent.id).filter(|_| names_id);
        let guess = SignInRequest { challenge: id, ..attempt("4712") };
        let attempted = refused(decide_attempt(&guess, &facts)).1.expect("counted");
        assert_eq!(!attempted.failed_attempts.is_empty(), is_kept, "with id: {names_id}");
    }
}

#[test]
fn an_address_with_too_many_failures_is_refused_before_the_code_is_compared() {
    let of_address = CounterKey::of_address(ClientAddress::new(ADDRESS));
    let facts = with_events(facts(None), of_address, 20, EventKind::FailedAttempt);
    let retry_after = Duration::from_hours(1).saturating_sub(Duration::from_micros(19));
    let limit = LimitName::FailedAttemptsPerAddress;
    for code in ["4711", "4712"] {
        let refused = Decision::refuse(Refusal::TooManyRequests { retry_after, limit });
        assert_eq!(decide_attempt(&attempt(code), &facts), refused);
    }
    let elsewhere = SignInRequest { client: Client::default(), ..attempt("4711") };
    assert!(is_valid(&elsewhere, &facts));
}

/// Other users of the address are not locked out, since a correct code still signs in.
#[test]
fn an_address_with_too_many_attempts_without_a_challenge_gets_one_response_to_all_wrong_codes() {
    let of_address = CounterKey::of_address(ClientAddress::new(ADDRESS));
    let full = |facts| with_events(facts, of_address.clone(), 200, EventKind::AttemptWithoutChallenge);
    let retry_after = Duration::from_hours(1).saturating_sub(Duration::from_micros(199));
    let limit = LimitName::AttemptsWithoutChallenge;
    let refusal = Refusal::TooManyRequests { retry_after, limit };
    let uncounted = Decision::refuse(refusal.clone());

    let nothing = full(SignInFacts { challenge: None, ..facts(None) });
    assert_eq!(decide_attempt(&attempt("4712"), &nothing), uncounted);
    let late = facts(None).challenge.map(|sent| Challenge { expires_at: NOW, ..sent });
    let late = full(SignInFacts { challenge: late, ..facts(None) });
    assert_eq!(decide_attempt(&attempt("4711"), &late), uncounted);

    let (response, attempted, counters) = refused(decide_attempt(&attempt("4712"), &full(facts(None))));
    assert_eq!(response, refusal);
    assert_eq!(attempted.map(|attempted| attempted.attempts_without_id), Some(1));
    assert!(counters.global_counter.is_some());
    assert!(is_valid(&attempt("4711"), &full(facts(None))));
}

#[test]
fn a_flood_of_attempts_without_a_challenge_is_not_counted() {
    let flood = SignInRequest { counts_attempts_without_challenge: false, ..attempt("4712") };
    let nothing = SignInFacts { challenge: None, ..facts(None) };
    assert_eq!(decide_attempt(&flood, &nothing), Decision::refuse(Refusal::InvalidCode));
    let (_, challenge, counters) = refused(decide_attempt(&flood, &facts(None)));
    assert!(challenge.is_some() && !counters.counters.is_empty(), "a guess for a valid challenge");
}

#[test]
fn failures_from_ipv6_addresses_are_counted_by_network() {
    let address =
        |last: u16| ClientAddress::new(std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, last, 0, 0, 0, 1).into());
    let attempt_from = |last: u16| {
        let client = Client { address: Some(address(last)), ..Client::default() };
        SignInRequest { client, ..attempt("4712") }
    };
    let [narrow, middle, wide]: [CounterKey; 3] =
        CounterKey::networks(address(0x2301)).collect::<Vec<_>>().try_into().expect("three networks");
    for (key, number, last) in [(narrow, 20, 0x2301), (middle, 40, 0x23ff), (wide, 80, 0xffff)] {
        let full = |number| with_events(facts(None), key.clone(), number, EventKind::FailedAttempt);
        let is_refused = |facts| {
            let refusal = decide_attempt(&attempt_from(last), &facts).outcome.err();
            matches!(refusal, Some(Refusal::TooManyRequests { .. }))
        };
        assert!(is_refused(full(number)) && !is_refused(full(number - 1)), "{}", key.as_str());
    }
}

#[test]
fn a_redeemed_code_is_refunded_together_with_its_failures() {
    let elsewhere = ClientAddress::new(Ipv4Addr::new(203, 0, 113, 200).into());
    let here = ClientAddress::new(ADDRESS);
    let mut facts = facts(None);
    let failed_attempts = [here, elsewhere].map(|address| FailedAttempt { address, at: NOW }).to_vec();
    facts.challenge = facts.challenge.map(|sent| Challenge { address: Some(here), failed_attempts, ..sent });
    let facts = with_events(facts, CounterKey::of_address(here), 1, EventKind::FailedAttempt);
    let SignInWrites::SignIn { counters, .. } = decide_attempt(&attempt("4711"), &facts).writes else {
        panic!("refused");
    };
    assert_eq!(counted(&counters), [("address".into(), vec![]), ("phone".into(), vec![])]);
    let keys: Vec<_> = counters.refunds.iter().map(|(key, event)| (key.clone(), event.kind)).collect();
    let phone = attempt("4711").phone;
    let expected = [
        (CounterKey::of_address(elsewhere), EventKind::FailedAttempt),
        (CounterKey::phone_and_address(&phone, here), EventKind::Code),
        (CounterKey::number_range(&phone), EventKind::Code),
        (CounterKey::number_range_and_address(&phone, here), EventKind::Code),
    ];
    assert_eq!(keys, expected);
}

#[test]
fn too_many_unknown_invite_codes_are_refused() {
    let guess = SignInRequest { invite_code: Some(user(2).invite_code), ..attempt("4711") };
    let unknown = vec![EventKind::UnknownInvite];
    let (refusal, _, counters) = refused(decide_attempt(&guess, &facts(None)));
    assert_eq!(counted(&counters), [("address".into(), unknown.clone()), ("phone".into(), unknown)]);
    assert_eq!(refusal, Refusal::UnknownInviteCode);

    let phone = CounterKey::phone(&guess.phone);
    let full = with_events(facts(None), phone, 10, EventKind::UnknownInvite);
    let (refusal, challenge, _) = refused(decide_attempt(&guess, &full));
    assert!(matches!(refusal, Refusal::TooManyRequests { .. }) && challenge.is_none());
    assert!(is_valid(&attempt("4711"), &full), "no invite code");
}

#[test]
fn only_a_correct_code_reveals_that_the_user_is_inactive_and_the_code_is_redeemed() {
    let inactive = Some(User { is_active: false, ..user(1) });
    let (wrong, _, _) = refused(decide_attempt(&attempt("4712"), &facts(inactive.clone())));
    assert_eq!(wrong, Refusal::InvalidCode);
    let (right, used, _) = refused(decide_attempt(&attempt("4711"), &facts(inactive)));
    assert_eq!(right, Refusal::UserInactive);
    assert_eq!(used.and_then(|used| used.redeemed_at), Some(NOW));
}

#[test]
fn a_code_stays_valid_if_the_invite_code_is_refused() {
    let with_code = SignInRequest { invite_code: Some(user(1).invite_code), ..attempt("4711") };
    let own = Inviter { id: user(1).id, code: user(1).invite_code };
    for (user, inviter, refusal) in
        [(None, None, Refusal::UnknownInviteCode), (Some(user(1)), Some(own), Refusal::OwnInviteCode)]
    {
        let facts = SignInFacts { inviter, ..facts(user) };
        let (actual, challenge, _) = refused(decide_attempt(&with_code, &facts));
        assert_eq!((actual, challenge), (refusal, None));
    }
}

#[test]
fn a_wrong_code_reveals_nothing_about_the_invite_code_and_takes_no_lock() {
    let boris = user(2);
    let inviter = Some(Inviter { id: boris.id, code: boris.invite_code.clone() });
    let facts = SignInFacts { inviter, ..facts(Some(user(1))) };
    let guess = SignInRequest { invite_code: Some(boris.invite_code.clone()), ..attempt("4712") };
    assert!(!guess.needs_ancestry(&facts));
    assert_eq!(refused(decide_attempt(&guess, &facts)).0, Refusal::InvalidCode);

    let right = SignInRequest { invite_code: Some(boris.invite_code), ..attempt("4711") };
    assert!(right.needs_ancestry(&facts));
}

#[test]
fn another_invite_code_does_not_change_the_inviter() {
    let [boris, vera] = [user(2), user(3)];
    let invited_by = Some(InvitedBy { inviter: boris.id, code: boris.invite_code });
    let anna = User { invited_by: invited_by.clone(), ..user(1) };
    let inviter = Some(Inviter { id: vera.id, code: vera.invite_code.clone() });
    let facts = SignInFacts { inviter, ..facts(Some(anna)) };
    let with_code = SignInRequest { invite_code: Some(vera.invite_code), ..attempt("4711") };
    let Decision { writes, outcome } = decide_attempt(&with_code, &facts);
    let SignInWrites::SignIn { user: UserWrite::Change(user), invitation: None, .. } = writes else {
        panic!("{writes:?}");
    };
    assert_eq!(user.invited_by, invited_by);
    assert_eq!(signed_in(outcome).outcome, InvitationOutcome::Ignored);
}

#[test]
fn sign_ups_and_invitations_require_an_approval_of_exactly_these_changes() {
    let (anna, boris, vera) = (user(1), user(2), user(3));
    let inviter = |user: &User| Some(Inviter { id: user.id, code: user.invite_code.clone() });
    let required = SignInRequest { approval: Approval::Required, ..attempt("4711") };
    let invited = SignInRequest { invite_code: Some(boris.invite_code.clone()), ..required.clone() };
    let by_boris = SignInFacts { inviter: inviter(&boris), ..facts(None) };

    // A wrong code needs no approval, and is counted.
    let wrong = SignInRequest { approval: Approval::Required, ..attempt("0000") };
    assert_eq!(refused(decide_attempt(&wrong, &facts(None))).0, Refusal::InvalidCode);
    // Neither does a user who signs in without a new inviter.
    assert!(!signed_in(decide_attempt(&required, &facts(Some(anna.clone()))).outcome).created);

    let needed = |request: &SignInRequest, facts: &SignInFacts| {
        let Decision { writes, outcome } = decide_attempt(request, facts);
        assert_eq!(writes, SignInWrites::default());
        match outcome {
            Ok(SignInOutcome::NeedsApproval(changes)) => changes,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(needed(&required, &facts(None)).invitation, None);
    let changes = needed(&invited, &by_boris);
    let granted = SignInRequest { approval: Approval::Granted(changes), ..invited };
    let stored = signed_in(decide_attempt(&granted, &by_boris).outcome);
    assert_eq!(stored.accepted.map(|invitation| invitation.inviter), Some(boris.id));
    // The approval is for this inviter, and for a new user.
    let by_vera = SignInFacts { inviter: inviter(&vera), ..facts(None) };
    needed(&granted, &by_vera);
    let existing = SignInFacts { ancestry: Ancestry::WithoutInvitee, user: Some(anna.clone()), ..by_boris };
    assert_eq!(needed(&granted, &existing).sign_up, None);
    let without = SignInRequest { invite_code: None, ..granted };
    needed(&without, &facts(None));
}
