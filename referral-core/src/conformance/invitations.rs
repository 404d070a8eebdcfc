//! Cases about inviters, which cannot be changed.

use std::{sync::Arc, time::Duration};

use super::harness::{Harness, assert_refused, in_parallel, phone, with_right_code};
use crate::{
    error::{Error, refusal::Refusal},
    invite::{
        code::InviteCode,
        invitation::{AcceptedVia, Invitation},
    },
    otp::sign_in::InvitationOutcome,
    service::{
        sessions::CurrentUser,
        sign_in::{SignIn, SignedIn},
        users::EditProfile,
    },
    storage::Storage,
    user::{UserId, profile::ProfileChange, visibility::ProfileView},
};

/// Sets the inviter in the profile.
async fn accept(
    harness: &Harness,
    current_user: &CurrentUser,
    code: &InviteCode,
) -> Result<ProfileView, Error> {
    let change = ProfileChange { invited_by_code: Some(code.clone()), ..ProfileChange::default() };
    harness.referral.edit_profile(current_user, EditProfile::new(change)).await
}

/// Asserts that the inviter has exactly this invitee.
async fn assert_invited(harness: &Harness, inviter: &SignedIn, invitee: &SignedIn) {
    let profile = harness.profile(inviter).await;
    assert_eq!(profile.invited_count, 1);
    assert_eq!(profile.invited.len(), 1);
    assert_eq!(profile.invited[0].id, invitee.user.id);
    assert_eq!(profile.invited[0].phone.as_str(), invitee.user.phone.as_str());
    assert_eq!(profile.invited[0].joined_at, invitee.user.date_joined);
    let invitee = harness.profile(invitee).await;
    assert_eq!(invitee.user.invited_by_code.as_ref(), Some(&inviter.user.invite_code));
}

/// Asserts that the storage has this invitation, which was accepted now.
async fn assert_stored(harness: &Harness, inviter: &SignedIn, invitee: &SignedIn, via: AcceptedVia) {
    let expected = Invitation {
        invitee: invitee.user.id,
        inviter: inviter.user.id,
        code: inviter.user.invite_code.clone(),
        accepted_at: harness.now(),
        via,
    };
    let stored = harness.storage.invitation(invitee.user.id).await.expect("the storage responds");
    assert_eq!(stored, Some(expected));
}

/// A new user accepts an invitation at the first sign-in.
pub async fn invitation_is_accepted_at_sign_up(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    let boris = harness.enter_invited(2, &anna.user).await;
    assert!(boris.created);
    assert_eq!(boris.invitation, InvitationOutcome::Accepted);
    assert_eq!(boris.user.invited_by.as_ref().map(|named| named.inviter), Some(anna.user.id));
    assert_invited(&harness, &anna, &boris).await;
    assert_stored(&harness, &anna, &boris, AcceptedVia::SignUp).await;
}

/// A user without an inviter accepts an invitation at a later sign-in.
pub async fn invitation_is_accepted_at_a_later_sign_in(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, _] = [harness.enter(1).await, harness.enter(2).await];
    let boris = harness.enter_invited(2, &anna.user).await;
    assert!(!boris.created);
    assert_eq!(boris.invitation, InvitationOutcome::Accepted);
    assert_invited(&harness, &anna, &boris).await;
    assert_stored(&harness, &anna, &boris, AcceptedVia::SignIn).await;
}

/// A user without an inviter accepts an invitation by an edit of the profile.
pub async fn invitation_is_accepted_in_the_profile(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, boris] = [harness.enter(1).await, harness.enter(2).await];
    let profile = accept(&harness, &harness.current_user(&boris).await, &anna.user.invite_code)
        .await
        .expect("accepted");
    assert_eq!(profile.user.invited_by_code.as_ref(), Some(&anna.user.invite_code));
    assert_invited(&harness, &anna, &boris).await;
    assert_stored(&harness, &anna, &boris, AcceptedVia::Profile).await;
}

/// A user without an inviter, and a user that does not exist, have no invitation.
pub async fn user_without_an_inviter_has_no_invitation(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await.user;
    harness.enter_invited(2, &anna).await;
    for user in [anna.id, UserId(uuid::Uuid::nil())] {
        assert_eq!(harness.storage.invitation(user).await.expect("the storage responds"), None);
    }
}

/// The inviter stays the same at a sign-in without an invite code or with another one.
pub async fn later_sign_in_keeps_the_inviter(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, vera] = [harness.enter(1).await, harness.enter(3).await];
    let boris = harness.enter_invited(2, &anna.user).await;

    let accepted = harness.storage.invitation(boris.user.id).await.expect("the storage responds");

    harness.advance(Duration::from_mins(1));
    let without = harness.enter(2).await;
    assert_eq!(without.invitation, InvitationOutcome::None);
    let another = harness.enter_invited(2, &vera.user).await;
    assert_eq!(another.invitation, InvitationOutcome::Ignored);
    assert_invited(&harness, &anna, &another).await;
    assert_eq!(harness.profile(&vera).await.invited_count, 0);
    let stored = harness.storage.invitation(boris.user.id).await.expect("the storage responds");
    assert_eq!(stored, accepted);
}

/// The current inviter can be set again, without an effect.
pub async fn repeated_inviter_changes_nothing(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    harness.enter_invited(2, &anna.user).await;
    let again = harness.enter_invited(2, &anna.user).await;
    assert_eq!(again.invitation, InvitationOutcome::AlreadyAccepted);
    accept(&harness, &harness.current_user(&again).await, &anna.user.invite_code).await.expect("no change");
    assert_invited(&harness, &anna, &again).await;
}

/// An edit of the profile with another inviter is an error, since the request has no other purpose.
pub async fn other_inviter_in_the_profile_is_rejected(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, vera] = [harness.enter(1).await, harness.enter(3).await];
    let boris = harness.enter_invited(2, &anna.user).await;
    let refused = accept(&harness, &harness.current_user(&boris).await, &vera.user.invite_code).await;
    assert_refused(refused, Refusal::InvitationAlreadyAccepted);
    assert_invited(&harness, &anna, &boris).await;
}

/// An invite code that is unknown, one's own, or would close a loop changes nothing. The SMS code stays
/// valid, without an invite code or with another one.
pub async fn rejected_invite_code_keeps_the_sms_code_valid(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    let boris = harness.enter_invited(2, &anna.user).await;
    let unknown = InviteCode::parse("ZZZZZZZZZZZZ").expect("well-formed");

    let sent = harness.sent_code(&phone(1)).await;
    for (code, refusal) in [
        (&unknown, Refusal::UnknownInviteCode),
        (&anna.user.invite_code, Refusal::OwnInviteCode),
        (&boris.user.invite_code, Refusal::InvitationLoop),
    ] {
        for _ in 0..4 {
            let with_code = SignIn { invited_by_code: Some(code.clone()), ..with_right_code(&sent) };
            assert_refused(harness.sign_in(with_code).await, refusal.clone());
        }
        let refused = accept(&harness, &harness.current_user(&anna).await, code).await;
        assert_refused(refused, refusal);
    }
    harness.sign_in(with_right_code(&sent)).await.expect("signed in");

    let sent = harness.sent_code(&phone(3)).await;
    let with_code = SignIn { invited_by_code: Some(unknown), ..with_right_code(&sent) };
    assert_refused(harness.sign_in(with_code).await, Refusal::UnknownInviteCode);
    let created = harness.sign_in(with_right_code(&sent)).await.expect("signed in").created;
    assert!(created, "the rejected attempt created no user");
    harness.assert_sound(&harness.current_user(&anna).await).await;
}

/// A loop of any length is rejected.
pub async fn long_chain_cannot_become_a_loop(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let first = harness.enter(0).await;
    let mut last = first.clone();
    for number in 1..40 {
        last = harness.enter_invited(number, &last.user).await;
    }
    let current_user = harness.current_user(&first).await;
    let refused = accept(&harness, &current_user, &last.user.invite_code).await;
    assert_refused(refused, Refusal::InvitationLoop);

    let outside = harness.enter(99).await;
    accept(&harness, &current_user, &outside.user.invite_code).await.expect("no loop");
    harness.assert_sound(&current_user).await;
}

/// Exactly one of many concurrent acceptances by one invitee, at sign-in and in the profile, succeeds.
pub async fn parallel_acceptances_by_one_invitee_record_one_inviter(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let invitee = harness.enter(99).await;
    let current_user = harness.current_user(&invitee).await;
    let mut inviters = Vec::new();
    for number in 0..20 {
        inviters.push(harness.enter(number).await);
    }
    let sent = harness.sent_code(&phone(99)).await;

    let accepted = in_parallel(20, |number| {
        let code = inviters[number as usize].user.invite_code.clone();
        let (harness, current_user, sent) = (harness.clone(), current_user.clone(), sent.clone());
        async move {
            if number == 0 {
                let with_code = SignIn { invited_by_code: Some(code), ..with_right_code(&sent) };
                let outcome = harness.sign_in(with_code).await.expect("signed in").invitation;
                return outcome == InvitationOutcome::Accepted;
            }
            match accept(&harness, &current_user, &code).await {
                Ok(_) => true,
                Err(Error::Refused(Refusal::InvitationAlreadyAccepted)) => false,
                Err(other) => panic!("neither accepted nor rejected: {other:?}"),
            }
        }
    });
    assert_eq!(accepted.await.into_iter().filter(|accepted| *accepted).count(), 1);

    let mut invited = 0;
    for inviter in &inviters {
        invited += harness.profile(inviter).await.invited_count;
    }
    assert_eq!(invited, 1);
    harness.assert_sound(&current_user).await;
}

/// Concurrent sign-ups with one inviter are all counted.
pub async fn parallel_sign_ups_with_one_inviter_are_all_counted(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(99).await;
    in_parallel(30, |number| {
        let (harness, anna) = (harness.clone(), anna.clone());
        async move { harness.enter_invited(number * 1_000, &anna.user).await }
    })
    .await;
    assert_eq!(harness.profile(&anna).await.invited_count, 30);
    harness.assert_sound(&harness.current_user(&anna).await).await;
}

/// Each of four users accepts the next as inviter concurrently. At least one acceptance is rejected, and no
/// loop remains.
pub async fn four_concurrent_acceptances_in_a_cycle_leave_no_loop(storage: Arc<dyn Storage>) {
    close_cycles(storage, 4).await;
}

/// Five users do the same. Locks on pairs of users would allow a loop of five.
pub async fn five_concurrent_acceptances_in_a_cycle_leave_no_loop(storage: Arc<dyn Storage>) {
    close_cycles(storage, 5).await;
}

async fn close_cycles(storage: Arc<dyn Storage>, size: u32) {
    const CYCLES: u32 = 10;
    let harness = Harness::new(storage);
    for cycle in 0..CYCLES {
        let mut members = Vec::new();
        for number in 0..size {
            members.push(harness.enter(cycle * size + number).await);
        }
        let accepted = in_parallel(size, |number| {
            let next = members[((number + 1) % size) as usize].user.invite_code.clone();
            let (harness, member) = (harness.clone(), members[number as usize].clone());
            async move {
                // Half of them sign in, so that both code paths run concurrently.
                if number % 2 == 0 {
                    return harness.try_enter(&member.user.phone, Some(&next)).await.map(|_| ());
                }
                accept(&harness, &harness.current_user(&member).await, &next).await.map(|_| ())
            }
        });
        let accepted = accepted.await;
        assert_eq!(accepted.iter().filter(|result| result.is_ok()).count(), size as usize - 1);
        for refused in accepted.into_iter().filter(Result::is_err) {
            assert_refused(refused, Refusal::InvitationLoop);
        }
        // Rejected users have used up codes of their number range.
        harness.advance(Duration::from_hours(1) + Duration::from_secs(1));
    }
    let outsider = harness.enter(999).await;
    harness.assert_sound(&harness.current_user(&outsider).await).await;
}
