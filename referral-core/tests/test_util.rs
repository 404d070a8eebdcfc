//! Tests of the service for tests.

use std::{sync::Arc, time::Duration};

use referral_core::{
    InvitationOutcome,
    clock::Clock as _,
    policy::{Budget, Policy, Regions, TestNumber},
    random::SystemRandom,
    storage::MemoryStorage,
    test_util::TestService,
};

const ANNA: &str = "+79608543017";
const BORIS: &str = "+77011234567";

#[tokio::test]
async fn repeated_sign_ins_need_no_time_by_default() {
    let service = TestService::new();
    let start = service.clock.now();
    let anna = service.sign_in_as(ANNA).await;
    for _ in 0..20 {
        let again = service.sign_in_as("+7 960 854-30-17").await;
        assert_eq!((again.user.id, again.created), (anna.user.id, false));
    }
    assert_eq!(service.clock.now(), start);
    assert_eq!(service.sender.messages().len(), 21);
}

#[tokio::test]
async fn sign_in_waits_for_the_limits_of_the_policy() {
    let mut strict = Policy::strict();
    strict.regions = Some(Regions::All);
    strict.messages_per_day = Some(Budget::Messages(100));
    for policy in [Policy::standard(), strict] {
        let service =
            TestService::with_builder(Arc::new(MemoryStorage::new()), |builder| builder.policy(policy));
        let start = service.clock.now();
        for _ in 0..20 {
            service.sign_in_as(ANNA).await;
        }
        // Ten codes a day are allowed.
        assert!(service.clock.now() > start + Duration::from_hours(24));
    }
}

#[tokio::test]
async fn invitee_has_the_inviter() {
    let service = TestService::new();
    let anna = service.sign_in_as(ANNA).await;
    let boris = service.sign_in_with_invite_code(BORIS, &anna.user.invite_code).await;
    assert_eq!(boris.invitation, InvitationOutcome::Accepted);
    let profile = service.referral.current_user(&boris.tokens.access).await.expect("signed in");
    assert_eq!(profile.user.invited_by_code, Some(anna.user.invite_code));
}

#[tokio::test]
async fn second_service_with_another_seed_uses_the_data_of_the_first() {
    let storage = Arc::new(MemoryStorage::new());
    let first = TestService::with_storage(storage.clone());
    let anna = first.sign_in_as(ANNA).await;
    let second = TestService::with_builder(storage, |builder| builder.random(Arc::new(SystemRandom)));
    let again = second.sign_in_as(ANNA).await;
    assert_eq!((again.user.id, again.created), (anna.user.id, false));
    first.referral.authenticate(&again.tokens.access).await.expect("signed with the same key");
}

#[tokio::test]
async fn test_number_signs_in_without_a_message() {
    let mut policy = Policy::development();
    let number: TestNumber = "+79608543017=47110815@2026-12-31".parse().expect("valid test number");
    policy.test_numbers = vec![number];
    let service = TestService::with_builder(Arc::new(MemoryStorage::new()), |builder| builder.policy(policy));
    assert!(service.sign_in_as(ANNA).await.created);
    assert_eq!(service.sender.messages().len(), 0);
}

#[tokio::test]
#[should_panic(expected = "failed to parse the phone 123")]
async fn invalid_phone_is_reported() {
    TestService::new().sign_in_as("123").await;
}
