//! Cases about deleted users.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    harness::{Harness, assert_refused, in_parallel, phone, with_right_code},
    limits::MINUTE,
    sign_in::stuttering,
};
use crate::{
    error::{Error, refusal::Refusal},
    invite::code::InviteCode,
    otp::sign_in::InvitationOutcome,
    service::{
        account::{DeleteAccount, SendDeletionCode},
        host::CreateUser,
        send_code::SentCode,
        sessions::CurrentUser,
        sign_in::{SignIn, SignedIn},
        users::{EditProfile, ListUsers},
    },
    storage::Storage,
    user::{
        User, UserId, change::UserChange, email::Email, external_id::ExternalId, listing::FilterInput,
        name::Name, profile::ProfileChange,
    },
};

pub(super) async fn send_deletion_code(harness: &Harness, current_user: &CurrentUser) -> SentCode {
    let sent = harness.referral.send_deletion_code(current_user, SendDeletionCode::new()).await;
    sent.expect("the code is sent")
}

/// Returns a deletion with the code and the challenge of a sign-in.
pub(super) fn deletion(with: SignIn) -> DeleteAccount {
    DeleteAccount::new(with.challenge.expect("a challenge"), with.code).client(with.client)
}

/// Deletes the account of a user with a code, which must succeed.
async fn delete(harness: &Harness, signed_in: &SignedIn) -> u64 {
    let current_user = harness.current_user(signed_in).await;
    let sent = send_deletion_code(harness, &current_user).await;
    let request = deletion(with_right_code(&sent));
    harness.referral.delete_account(&current_user, request).await.expect("deleted").ended_sessions
}

async fn edit(harness: &Harness, current_user: &CurrentUser, change: ProfileChange) -> Result<(), Error> {
    harness.referral.edit_profile(current_user, EditProfile::new(change)).await.map(drop)
}

fn inviter(code: &InviteCode) -> ProfileChange {
    ProfileChange { invited_by_code: Some(code.clone()), ..ProfileChange::default() }
}

/// Profile with a name and an email address, both of which are unique among the users of a case.
fn personal_data() -> ProfileChange {
    ProfileChange {
        first_name: Some(Name::parse("Ludmilla").ok()),
        last_name: Some(Name::parse("Ozerova").ok()),
        email: Some(Email::parse("ludmilla@example.com").ok()),
        invited_by_code: None,
    }
}

/// External id and metadata of a user of the host.
fn data_of_the_host() -> UserChange {
    UserChange {
        external_id: Some(ExternalId::parse("host-42").ok()),
        metadata: Some(r#"{"plan":"gold"}"#.parse().expect("an object")),
        ..UserChange::default()
    }
}

/// Returns the ids of the users that a filter finds, and their number.
async fn found(harness: &Harness, current_user: &CurrentUser, filter: FilterInput<'_>) -> (Vec<UserId>, u64) {
    let list = ListUsers { filter, ..ListUsers::default() };
    let page = harness.referral.users(current_user, list).await.expect("page of the list");
    (page.items.iter().map(|user| user.id).collect(), page.count)
}

pub(super) async fn assert_found_nowhere(harness: &Harness, current_user: &CurrentUser, deleted: &User) {
    let id = deleted.id;
    assert_refused(harness.referral.user(current_user, id).await, Refusal::UserNotFound);
    assert_eq!(harness.referral.find_user(id).await.expect("the storage responds"), None);
    let by_phone = harness.referral.find_user_by_phone(&deleted.phone).await;
    assert_ne!(by_phone.expect("the storage responds").map(|user| user.id), Some(id));
    assert!(harness.all_users(current_user).await.iter().all(|user| user.id != id));
    let any = FilterInput::default();
    let by_code = FilterInput { invite_code: Some(deleted.invite_code.as_str()), ..any };
    assert_eq!(found(harness, current_user, by_code).await, (Vec::new(), 0));
}

/// A deleted user is not found in any way, and its tokens are invalid.
pub async fn deleted_user_is_found_nowhere(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    let current_user = harness.current_user(&anna).await;
    let boris = harness.enter_invited(2, &anna.user).await;
    let elsewhere = harness.enter(2).await;
    edit(&harness, &harness.current_user(&boris).await, personal_data()).await.expect("edited");

    assert_eq!(delete(&harness, &boris).await, 2, "both sessions ended");
    assert_found_nowhere(&harness, &current_user, &boris.user).await;
    let any = FilterInput::default();
    for filter in [
        FilterInput { first_name: Some("Ludmilla"), ..any },
        FilterInput { last_name: Some("Ozerova"), ..any },
        FilterInput { email: Some("ludmilla@example.com"), ..any },
        FilterInput { phone: Some(boris.user.phone.as_str()), ..any },
        FilterInput { search: Some("ludmilla"), ..any },
        FilterInput { search: Some("oz"), ..any },
        FilterInput { search: Some("ludmilla@example"), ..any },
        FilterInput { search: Some("608000002"), ..any },
        FilterInput { search: Some(boris.user.invite_code.as_str()), ..any },
    ] {
        assert_eq!(found(&harness, &current_user, filter).await, (Vec::new(), 0));
    }
    assert_eq!(found(&harness, &current_user, any).await, (vec![anna.user.id], 1));

    for session in [&boris, &elsewhere] {
        let access = harness.referral.authenticate(&session.tokens.access).await;
        assert_refused(access, Refusal::TokenNotValid);
        let refreshed = harness.referral.refresh(&session.tokens.refresh).await;
        assert_refused(refreshed, Refusal::TokenNotValid);
    }
    let sessions = harness.storage.sessions(boris.user.id, harness.now(), None, 10).await;
    assert_eq!(sessions.expect("the storage responds"), []);
}

/// The phone, the email address and the external id of a deleted user are free for a new user, which has
/// another id and no metadata.
pub async fn phone_of_a_deleted_user_signs_up_as_a_new_user(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let first = harness.enter(1).await;
    edit(&harness, &harness.current_user(&first).await, personal_data()).await.expect("edited");
    harness.referral.change_user(first.user.id, data_of_the_host()).await.expect("changed");
    let unused = harness.sent_code(&phone(1)).await;
    harness.advance(MINUTE + Duration::from_millis(1));
    delete(&harness, &first).await;

    assert_refused(harness.sign_in(with_right_code(&unused)).await, Refusal::InvalidCode);
    harness.advance(15 * MINUTE);
    let second = harness.enter(1).await;
    assert!(second.created);
    assert_ne!(second.user.id, first.user.id);
    assert_ne!(second.user.invite_code, first.user.invite_code);
    let new_user =
        User { email: None, first_name: None, last_name: None, invited_by: None, ..second.user.clone() };
    assert_eq!(second.user, new_user);
    let current_user = harness.current_user(&second).await;
    edit(&harness, &current_user, personal_data()).await.expect("the email address is free");
    let changed = harness.referral.change_user(second.user.id, data_of_the_host()).await;
    changed.expect("the external id is free");
    assert_eq!(harness.all_users(&current_user).await.len(), 1);
    assert_found_nowhere(&harness, &current_user, &first.user).await;
}

/// The invite code of a deleted user is unknown, at a sign-up, at a later sign-in and in the profile.
pub async fn invite_code_of_a_deleted_user_is_unknown(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, boris] = [harness.enter(1).await, harness.enter(2).await];
    delete(&harness, &anna).await;
    let code = &anna.user.invite_code;
    for number in [2, 3] {
        assert_refused(harness.try_enter(&phone(number), Some(code)).await, Refusal::UnknownInviteCode);
        harness.advance(MINUTE);
    }
    let current_user = harness.current_user(&boris).await;
    assert_refused(edit(&harness, &current_user, inviter(code)).await, Refusal::UnknownInviteCode);
}

/// A generated invite code that a deleted user had is skipped, at a sign-up and for a user of the host.
pub async fn invite_code_of_a_deleted_user_is_given_to_no_user(storage: Arc<dyn Storage>) {
    let (harness, stutter, first) = stuttering(storage).await;
    harness.referral.delete_user(first.user.id).await.expect("deleted");
    let sent = harness.sent_code(&phone(2)).await;
    stutter.repeats.store(7, Ordering::Relaxed);
    let second = harness.sign_in(with_right_code(&sent)).await.expect("the eighth code is unused");
    stutter.repeats.store(7, Ordering::Relaxed);
    let third =
        harness.referral.create_user(CreateUser::new(phone(3))).await.expect("the eighth code is unused");
    assert_eq!(stutter.repeats.load(Ordering::Relaxed), 0, "seven codes were the deleted user's");
    for user in [second.user, third.user] {
        assert_ne!(user.invite_code, first.user.invite_code);
    }
}

/// The invitations of a deleted user stay, and those of its invitees too.
pub async fn invitations_through_a_deleted_user_stay(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    let boris = harness.enter_invited(2, &anna.user).await;
    let vera = harness.enter_invited(3, &boris.user).await;
    let invitations = async || {
        let [boris, vera] = [&boris, &vera].map(|invitee| harness.storage.invitation(invitee.user.id));
        (boris.await.expect("the storage responds"), vera.await.expect("the storage responds"))
    };
    let before = invitations().await;
    assert!(before.0.is_some() && before.1.is_some());
    delete(&harness, &boris).await;
    assert_eq!(invitations().await, before);

    let profile = harness.profile(&anna).await;
    assert_eq!((profile.invited_count, profile.invited.len()), (1, 0));
    let profile = harness.profile(&vera).await;
    assert_eq!(profile.user.invited_by_code.as_ref(), Some(&boris.user.invite_code));
    let current_user = harness.current_user(&anna).await;
    let invited =
        FilterInput { invited_by_code: Some(boris.user.invite_code.as_str()), ..FilterInput::default() };
    assert_eq!(found(&harness, &current_user, invited).await, (vec![vera.user.id], 1));

    // Vera is still below Anna.
    let loop_closed = edit(&harness, &current_user, inviter(&vera.user.invite_code)).await;
    assert_refused(loop_closed, Refusal::InvitationLoop);
    let loop_closed = harness.try_enter(&phone(1), Some(&vera.user.invite_code)).await;
    assert_refused(loop_closed, Refusal::InvitationLoop);
}

/// The host deletes users without a code, also inactive ones, and each of them once.
pub async fn host_deletes_a_user_once(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, boris] = [harness.enter(1).await, harness.enter(2).await];
    harness.referral.set_active(boris.user.id, false).await.expect("existing user");
    let deleted = harness.referral.delete_user(boris.user.id).await.expect("deleted");
    assert_eq!(deleted, User { is_active: false, ..boris.user });
    let current_user = harness.current_user(&anna).await;
    assert_found_nowhere(&harness, &current_user, &deleted).await;
    let id = deleted.id;
    assert_refused(harness.referral.delete_user(id).await, Refusal::UserNotFound);
    assert_refused(harness.referral.set_active(id, true).await, Refusal::UserNotFound);
    assert_found_nowhere(&harness, &current_user, &deleted).await;
    let unknown = UserId(uuid::Uuid::nil());
    assert_refused(harness.referral.delete_user(unknown).await, Refusal::UserNotFound);
}

/// Requests of a deleted user that were authenticated before the deletion change nothing.
pub async fn authenticated_requests_of_a_deleted_user_are_rejected(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, boris] = [harness.enter(1).await, harness.enter(2).await];
    let current_user = harness.current_user(&boris).await;
    let sent = send_deletion_code(&harness, &current_user).await;
    let request = deletion(with_right_code(&sent));
    harness.referral.delete_account(&current_user, request.clone()).await.expect("deleted");

    let repeated = harness.referral.delete_account(&current_user, request).await;
    assert_refused(repeated, Refusal::TokenNotValid);
    for change in [personal_data(), inviter(&anna.user.invite_code)] {
        assert_refused(edit(&harness, &current_user, change).await, Refusal::UserNotFound);
    }
    assert_eq!(harness.profile(&anna).await.invited_count, 0);
    let viewer = harness.current_user(&anna).await;
    assert_found_nowhere(&harness, &viewer, &boris.user).await;
}

/// Sign-ins and refreshes that are concurrent with the deletion leave the user no valid token.
pub async fn parallel_sign_ins_leave_no_session_of_a_deleted_user(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let viewer = harness.enter(99).await;
    for round in 0..10 {
        let phone = phone(round * 1_000);
        let first = harness.try_enter(&phone, None).await.expect("signed in");
        let sent = harness.sent_code(&phone).await;
        let results = in_parallel(3, |number| {
            let (harness, first, sent) = (harness.clone(), first.clone(), sent.clone());
            async move {
                match number {
                    0 => {
                        harness.referral.delete_user(first.user.id).await.expect("deleted");
                        None
                    }
                    1 => harness.sign_in(with_right_code(&sent)).await.ok(),
                    _ => {
                        // The outcome depends on the order, and the session must be gone in any case.
                        let _ = harness.referral.refresh(&first.tokens.refresh).await;
                        None
                    }
                }
            }
        });
        let signed_in = results.await.into_iter().flatten().next();
        let sessions = harness.storage.sessions(first.user.id, harness.now(), None, 10).await;
        assert_eq!(sessions.expect("the storage responds"), []);
        for tokens in [&first].into_iter().chain(&signed_in) {
            // A sign-in after the deletion would need another code.
            assert_eq!(tokens.user.id, first.user.id);
            let access = harness.referral.authenticate(&tokens.tokens.access).await;
            assert_refused(access, Refusal::TokenNotValid);
        }
        assert_found_nowhere(&harness, &harness.current_user(&viewer).await, &first.user).await;
    }
}

/// A sign-up with the invite code of a user that is concurrently deleted is accepted before the deletion, or
/// its invite code is unknown.
pub async fn parallel_invitations_by_a_deleted_user_are_accepted_or_unknown(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    for round in 0..5 {
        let anna = harness.enter(round * 100).await;
        let mut late = Vec::new();
        let mut codes = Vec::new();
        for number in 1..=3 {
            late.push(harness.enter(round * 100 + number * 2_000).await);
            codes.push(harness.sent_code(&phone(round * 100 + number * 3_000 + 500)).await);
        }
        let accepted = in_parallel(7, |number| {
            let (harness, anna, code) = (harness.clone(), anna.user.id, anna.user.invite_code.clone());
            let (late, codes) = (late.clone(), codes.clone());
            async move {
                let index = usize::try_from(number / 2).expect("small");
                match number {
                    3 => {
                        harness.referral.delete_user(anna).await.expect("deleted");
                        None
                    }
                    0 | 2 | 4 => {
                        let request = with_right_code(&codes[index]).invited_by(code);
                        let signed_in = harness.sign_in(request).await;
                        Some(signed_in.map(|signed_in| {
                            assert_eq!(signed_in.invitation, InvitationOutcome::Accepted);
                            signed_in.user.id
                        }))
                    }
                    _ => {
                        let late = &late[index.min(2)];
                        let current_user = harness.current_user(late).await;
                        let edited = edit(&harness, &current_user, inviter(&code)).await;
                        Some(edited.map(|()| late.user.id))
                    }
                }
            }
        });
        for result in accepted.await.into_iter().flatten() {
            match result {
                Ok(invitee) => {
                    let stored = harness.storage.invitation(invitee).await.expect("the storage responds");
                    assert_eq!(stored.map(|stored| stored.inviter), Some(anna.user.id));
                }
                refused => assert_refused(refused, Refusal::UnknownInviteCode),
            }
        }
        let after = harness.try_enter(&phone(700 + round), Some(&anna.user.invite_code)).await;
        assert_refused(after, Refusal::UnknownInviteCode);
        harness.advance(Duration::from_hours(2));
    }
}
