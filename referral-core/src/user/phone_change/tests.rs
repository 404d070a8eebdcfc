use std::sync::Arc;

use super::*;
use crate::{
    audit::{Actor, AuditEntryId},
    otp::{
        challenge::{
            hash_code,
            tests::{challenge, peppers},
        },
        code::CodeInput,
        purpose::CodePurpose,
    },
    policy::{Budget, Policy},
    user::tests::user,
};

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// Phone that no user has.
fn new_phone() -> PhoneNumber {
    user(9).phone
}

/// Returns the request of user 1 to change to `new_phone`.
fn with_code(code: &str) -> PhoneChangeRequest {
    let user = user(1);
    PhoneChangeRequest {
        user: user.id,
        session: SessionId(uuid::Uuid::nil()),
        now: NOW,
        redemption: Redemption {
            challenge: challenge(new_phone()).id,
            now: NOW,
            code: CodeInput::parse(code).expect("digits"),
            purpose: CodePurpose::ChangePhone(user.id),
            phone: new_phone(),
            address: None,
            request_id: None,
            counts_attempts_without_challenge: true,
            policy: Arc::new(Policy::standard()),
            peppers: Arc::new(peppers()),
        },
        old: user.phone,
        sends_notice: true,
        audit: AuditContext {
            id: AuditEntryId(uuid::Uuid::nil()),
            at: NOW,
            actor: Actor::User(user.id),
            reason: None,
        },
    }
}

/// Returns the facts with a challenge of a purpose, whose code is 4711.
fn facts(user: User, purpose: CodePurpose) -> PhoneChangeFacts {
    let sent = challenge(new_phone());
    let code_hash = hash_code(&peppers(), "p1", sent.id, purpose, &sent.phone, "4711");
    let sent = Challenge { code_hash: code_hash.expect("a known pepper"), signs_in: false, ..sent };
    let redemption = RedemptionFacts { challenge: Some(sent), ..RedemptionFacts::default() };
    PhoneChangeFacts { user: Some(user), owner: None, redemption }
}

fn right_facts() -> PhoneChangeFacts {
    facts(user(1), CodePurpose::ChangePhone(user(1).id))
}

#[test]
fn only_a_code_for_the_change_of_this_user_is_accepted() {
    let changed = User { phone: new_phone(), ..user(1) };
    let Decision { writes, outcome } = with_code("4711").decide(&right_facts());
    assert_eq!(outcome, Ok(changed.clone()));
    let PhoneChangeWrites::Change { challenge, user: written, counters, audit } = writes else {
        panic!("{writes:?}")
    };
    assert_eq!((written, challenge.redeemed_at), (changed, Some(NOW)));
    assert_eq!(counters.global_counter, None, "there is no budget");
    let fields: Vec<_> = audit.changes.iter().map(|change| change.field.as_str()).collect();
    assert_eq!((audit.action, fields), (AuditAction::PhoneChanged, vec!["phone"]));

    for (code, purpose) in [
        ("4712", CodePurpose::ChangePhone(user(1).id)),
        ("4711", CodePurpose::SignIn),
        ("4711", CodePurpose::DeleteUser(user(1).id)),
        ("4711", CodePurpose::ChangePhone(user(2).id)),
    ] {
        for owner in [None, Some(user(2).id)] {
            let facts = PhoneChangeFacts { owner, ..facts(user(1), purpose) };
            let Decision { writes, outcome } = with_code(code).decide(&facts);
            assert_eq!(outcome, Err(Refusal::InvalidCode));
            let PhoneChangeWrites::Attempt(AttemptWrites { challenge, counters }) = writes else {
                panic!("{writes:?}");
            };
            assert_eq!(challenge.map(|counted| counted.attempts_with_id), Some(1));
            assert_eq!(counters.counters.len(), 1, "the attempt counts for the phone");
        }
    }
}

#[test]
fn taken_phone_is_refused_after_the_correct_code_which_is_used_up() {
    let facts = PhoneChangeFacts { owner: Some(user(2).id), ..right_facts() };
    let Decision { writes, outcome } = with_code("4711").decide(&facts);
    assert_eq!(outcome, Err(Refusal::PhoneTaken));
    let PhoneChangeWrites::Attempt(AttemptWrites { challenge, .. }) = writes else { panic!("{writes:?}") };
    assert_eq!(challenge.and_then(|redeemed| redeemed.redeemed_at), Some(NOW));
}

#[test]
fn own_phone_is_refused_without_an_attempt() {
    let mut request = with_code("4712");
    request.redemption.phone = user(1).phone;
    let Decision { writes, outcome } = request.decide(&right_facts());
    assert_eq!((writes, outcome), (PhoneChangeWrites::default(), Err(Refusal::OwnPhone)));
}

#[test]
fn a_user_who_has_changed_since_the_authentication_is_kept() {
    let right = CodePurpose::ChangePhone(user(1).id);
    let gone = PhoneChangeFacts { user: None, ..right_facts() };
    for facts in [
        gone,
        facts(User { is_active: false, ..user(1) }, right),
        facts(User { phone: user(2).phone, ..user(1) }, right),
    ] {
        let Decision { writes, outcome } = with_code("4711").decide(&facts);
        assert_eq!((writes, outcome), (PhoneChangeWrites::default(), Err(Refusal::TokenNotValid)));
    }
}

#[test]
fn notice_counts_as_a_message_of_the_budget() {
    let mut request = with_code("4711");
    let policy = Policy { messages_per_day: Some(Budget::Messages(10)), ..Policy::standard() };
    request.redemption.policy = Arc::new(policy);
    let counted = |request: &PhoneChangeRequest| match request.decide(&right_facts()).writes {
        PhoneChangeWrites::Change { counters, .. } => counters.global_counter,
        writes @ PhoneChangeWrites::Attempt(_) => panic!("{writes:?}"),
    };
    assert_eq!(counted(&request), Some(GlobalCounterUpdate::one(GlobalCounter::Messages, NOW)));
    request.sends_notice = false;
    assert_eq!(counted(&request), None);
}
