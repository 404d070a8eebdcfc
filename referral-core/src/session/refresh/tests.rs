//! Tests of the rule of exchanging a refresh token.

use super::*;
use crate::user::{UserId, tests::user};

const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const GRACE: Duration = Duration::from_secs(30);

/// Returns issued tokens whose refresh token has the number `generation`, issued `seconds` after the start.
fn issued(generation: u128, seconds: u64) -> IssuedTokens {
    let issued_at = START + Duration::from_secs(seconds);
    IssuedTokens {
        key_id: "k1".into(),
        access_id: Uuid::from_u128(100 + generation),
        refresh_id: Uuid::from_u128(generation),
        issued_at,
        access_expires_at: issued_at + Duration::from_mins(15),
        refresh_expires_at: issued_at + Duration::from_hours(24),
        claims: None,
    }
}

fn session() -> Session {
    let end = START + Duration::from_hours(24);
    Session::start(SessionId(Uuid::nil()), UserId(Uuid::nil()), START, end, issued(0, 0), Client::default())
}

/// Presents token `generation`, `seconds` after the start. `next` is the number of its successor if it is
/// exchanged.
fn present(session: &Session, generation: u128, seconds: u64, next: u128) -> RefreshDecision {
    let facts = RefreshFacts { session: session.clone(), user: user(1) };
    request(session, generation, seconds, next).decide(Some(&facts)).expect("no custom claims")
}

fn request(session: &Session, generation: u128, seconds: u64, next: u128) -> RefreshRequest {
    RefreshRequest {
        session: session.id,
        refresh_id: Uuid::from_u128(generation),
        now: START + Duration::from_secs(seconds),
        successor: issued(next, seconds),
        grace: GRACE,
        client: Client::default(),
        claims: None,
    }
}

/// Returns the same tokens again, and stores nothing.
fn repeat(session: &Session) -> RefreshDecision {
    Decision { writes: RefreshWrites::default(), outcome: Ok(session.clone()) }
}

fn rotate(session: &Session, generation: u128, seconds: u64) -> Session {
    let decision = present(session, generation, seconds, generation + 1);
    assert_eq!(decision.writes.session.as_ref(), decision.outcome.as_ref().ok(), "stored and returned");
    let rotated = decision.outcome.expect("rotated");
    assert_eq!(rotated.issued.refresh_id, Uuid::from_u128(generation + 1));
    rotated
}

#[test]
fn current_token_is_exchanged_and_the_previous_token_returns_the_same_successor() {
    let rotated = rotate(&session(), 0, 1_000);
    assert_eq!(rotated.issued, issued(1, 1_000).ending_by(rotated.expires_at));
    assert_eq!(present(&rotated, 0, 1_000, 9), repeat(&rotated));
    let late = Session { repeated_late: true, ..rotated.clone() };
    assert_eq!(present(&rotated, 0, 80_000, 9), store(late.clone()), "the successor was not used");
    assert_eq!(present(&late, 0, 80_000, 9), repeat(&late));
}

#[test]
fn previous_token_of_a_used_successor_ends_the_session_after_the_grace_period() {
    let used = Session { tokens_used: true, ..rotate(&session(), 0, 1_000) };
    assert_eq!(present(&used, 0, 1_030, 9), repeat(&used));
    let Decision { writes, outcome } = present(&used, 0, 1_031, 9);
    assert_eq!(outcome, Err(Refusal::RefreshReused));
    assert!(!writes.session.expect("revoked").is_active(START + Duration::from_secs(1_031)));
}

/// Owner and thief of a refresh token. Each presents the newest token it has. The thief uses no access
/// token, and the owner uses each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actor {
    Owner,
    Thief,
}

/// Returns the step at which the session ends, or `None` if it does not end. `pause` is the time between
/// two steps.
fn detected_at(steps: &[Actor], pause: u64) -> Option<usize> {
    let (mut session, mut seconds) = (session(), 0);
    let mut held = [0_u128; 2];
    for (index, actor) in steps.iter().enumerate() {
        seconds += pause;
        let generation = held[*actor as usize];
        let next = 1 + index as u128;
        match present(&session, generation, seconds, next).outcome {
            Ok(returned) => session = returned,
            Err(Refusal::RefreshReused) => return Some(index),
            Err(refusal) => panic!("{refusal:?}"),
        }
        held[*actor as usize] = session.issued.refresh_id.as_u128();
        session.tokens_used |= *actor == Actor::Owner;
    }
    None
}

/// Returns all sequences of `length` steps.
fn interleavings(length: u32) -> impl Iterator<Item = Vec<Actor>> {
    (0..1_u32 << length).map(move |bits| {
        let actor = |step| if bits >> step & 1 == 0 { Actor::Owner } else { Actor::Thief };
        (0..length).map(actor).collect()
    })
}

#[test]
fn every_interleaving_of_owner_and_thief_ends_the_session() {
    const LENGTH: u32 = 12;
    let (mut detected, mut alone) = (0, 0);
    for steps in interleavings(LENGTH) {
        let end = detected_at(&steps, 60);
        // Before that step only one actor refreshed, or the actors alternated fewer than three times.
        let quiet = &steps[..end.unwrap_or(steps.len())];
        let changes = quiet.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(
            changes < 2 * MAX_LATE_REPEATS as usize,
            "the reuse was not detected in time, but at {end:?}: {steps:?}"
        );
        if end.is_some() {
            detected += 1;
        } else {
            alone += 1;
            // The other actor refreshed nothing after the first steps, so there is nothing to detect yet.
            let last = steps[steps.len() - 1];
            let tail = steps.iter().rev().take_while(|actor| **actor == last).count();
            assert!(
                tail >= steps.len() - 2 * MAX_LATE_REPEATS as usize,
                "the reuse was not detected: {steps:?}"
            );
        }
    }
    assert!(detected > 4_000 && alone > 2, "detected: {detected}, one actor alone: {alone}");
}

#[test]
fn thief_who_refreshes_within_the_grace_period_of_the_owner_is_not_detected() {
    let turns = [Actor::Thief, Actor::Owner].repeat(20);
    assert_eq!(detected_at(&turns, 10), None);
    assert!(detected_at(&turns, 60).is_some());
}

#[test]
fn client_that_loses_two_successive_responses_stays_signed_in() {
    let mut session = session();
    for generation in 0..20 {
        let seconds = 1_000 * u64::try_from(generation).expect("few");
        session = rotate(&session, generation, seconds);
        if generation % 3 != 0 {
            let repeated = present(&session, generation, seconds + 500, 99);
            session = repeated.writes.session.expect("the late repeat is recorded");
        }
    }
}

#[test]
fn activity_is_stored_once_a_day_and_only_with_a_new_token() {
    let day = 24 * 60 * 60;
    let end = START + Duration::from_hours(1_000);
    let session = Session { expires_at: end, ..session() };
    let session =
        Session { issued: IssuedTokens { refresh_expires_at: end, ..session.issued.clone() }, ..session };
    let last_active = |generation, seconds| present(&session, generation, seconds, 1).writes.last_active;
    assert_eq!(last_active(0, day - 1), None);
    assert_eq!(last_active(0, day), Some(START + Duration::from_secs(day)));
    assert_eq!(last_active(7, day), None, "a token of no session");
}

#[test]
fn older_token_ends_the_session_unless_it_was_exchanged_within_the_grace_period() {
    let twice = rotate(&rotate(&session(), 0, 1_000), 1, 1_010);
    assert_eq!(present(&twice, 0, 1_030, 9), Decision::refuse(Refusal::TokenNotValid));
    assert_eq!(present(&twice, 0, 1_031, 9).outcome, Err(Refusal::RefreshReused));

    let thrice = rotate(&twice, 2, 1_020);
    assert_eq!(present(&thrice, 0, 1_030, 9), Decision::refuse(Refusal::TokenNotValid));
    assert_eq!(present(&thrice, 0, 1_031, 9).outcome, Err(Refusal::RefreshReused));
    assert_eq!(present(&thrice, 1, 1_040, 9), Decision::refuse(Refusal::TokenNotValid));
    assert!(rotate(&thrice, 3, 2_000).superseded.is_empty(), "tokens are dropped after the grace period");
}

#[test]
fn number_of_superseded_tokens_is_bounded() {
    let mut busy = session();
    for generation in 0..100 {
        busy = rotate(&busy, generation, 1_000);
    }
    assert_eq!(busy.superseded.len(), 16);
    assert_eq!(present(&busy, 98, 1_000, 999), Decision::refuse(Refusal::TokenNotValid));
}

#[test]
fn refresh_is_refused_for_an_unknown_or_ended_session_and_an_inactive_user() {
    let refused = Decision::refuse(Refusal::TokenNotValid);
    assert_eq!(present(&session(), 0, 86_400, 1), refused);
    let revoked = Session { revoked_at: Some(START), ..session() };
    assert_eq!(present(&revoked, 0, 1, 1), refused);
    assert_eq!(present(&revoked, 7, 1, 1), refused, "a session that has ended is not ended again");

    let request = request(&session(), 0, 0, 1);
    assert_eq!(request.decide(None).expect("no custom claims"), refused);
    let facts = RefreshFacts { session: session(), user: User { is_active: false, ..user(1) } };
    assert_eq!(request.decide(Some(&facts)).expect("no custom claims"), refused);
}

#[test]
fn custom_claims_are_created_for_new_tokens_only() {
    let claims = |role: &'static str| Some(ClaimsFn::new("a:b".to_owned(), move |_, _| role));
    let decide = |session: &Session, generation, role| {
        let request = RefreshRequest { claims: claims(role), ..request(session, generation, 1_000, 1) };
        let facts = RefreshFacts { session: session.clone(), user: user(1) };
        request.decide(Some(&facts)).map(|decision| decision.outcome.expect("refreshed"))
    };
    let text = |session: &Session| session.issued.claims.as_ref().map(|claims| claims.as_str().to_owned());
    let rotated = decide(&session(), 0, "user").expect("rotated");
    assert_eq!(text(&rotated).as_deref(), Some(r#"{"a:b":"user"}"#));
    let again = decide(&rotated, 0, "admin").expect("repeated");
    assert_eq!(text(&again), text(&rotated));
    let next = decide(&rotated, 1, "admin").expect("rotated");
    assert_eq!(text(&next).as_deref(), Some(r#"{"a:b":"admin"}"#));
    let failed = RefreshRequest {
        claims: Some(ClaimsFn::new("a:b".to_owned(), |_, _| "x".repeat(2_048))),
        ..request(&rotated, 1, 1_000, 2)
    };
    let facts = RefreshFacts { session: rotated, user: user(1) };
    assert!(matches!(failed.decide(Some(&facts)), Err(ClaimsError::TooLarge { bytes: 2_058 })));
}

#[test]
fn tokens_expire_no_later_than_their_session() {
    let rotated = rotate(&session(), 0, 86_399);
    assert_eq!(rotated.issued.refresh_expires_at, rotated.expires_at);
    assert_eq!(rotated.issued.access_expires_at, rotated.expires_at);
}
