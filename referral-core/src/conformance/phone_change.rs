//! Cases about changes of phones.

use std::sync::Arc;

use super::{
    harness::{
        Harness, assert_refused, in_parallel, phone, with_right_code, with_wrong_code, without_challenge,
    },
    limits::{MINUTE, far_phone},
};
use crate::{
    error::{Error, refusal::Refusal},
    policy::Policy,
    service::{
        phone_change::{ChangePhone, SendPhoneChangeCode},
        send_code::SentCode,
        sessions::CurrentUser,
        sign_in::{SignIn, SignedIn},
        users::{EditProfile, ListUsers},
    },
    storage::Storage,
    user::{
        User, UserId, listing::FilterInput, name::Name, phone::PhoneNumber, profile::ProfileChange,
        visibility::ProfileView,
    },
};

/// Sends a code to the new phone, which must succeed.
pub(super) async fn send_change_code(
    harness: &Harness,
    current_user: &CurrentUser,
    phone: &PhoneNumber,
) -> SentCode {
    let request = SendPhoneChangeCode::new(phone.clone());
    harness.referral.send_phone_change_code(current_user, request).await.expect("the code is sent")
}

/// Returns a change with the phone, the code and the challenge of a sign-in.
pub(super) fn change(with: SignIn) -> ChangePhone {
    ChangePhone::new(with.phone, with.challenge.expect("a challenge"), with.code).client(with.client)
}

pub(super) async fn try_change(
    harness: &Harness,
    current_user: &CurrentUser,
    request: ChangePhone,
) -> Result<ProfileView, Error> {
    harness.referral.change_phone(current_user, request).await
}

/// Changes the phone of a user with a code, which must succeed.
async fn change_to(harness: &Harness, signed_in: &SignedIn, phone: &PhoneNumber) -> ProfileView {
    let current_user = harness.current_user(signed_in).await;
    let sent = send_change_code(harness, &current_user, phone).await;
    try_change(harness, &current_user, change(with_right_code(&sent))).await.expect("changed")
}

/// Returns the ids of the users that a filter finds.
async fn found(harness: &Harness, current_user: &CurrentUser, filter: FilterInput<'_>) -> Vec<UserId> {
    let list = ListUsers { filter, ..ListUsers::default() };
    let page = harness.referral.users(current_user, list).await.expect("page of the list");
    assert_eq!(page.count, page.items.len() as u64);
    page.items.iter().map(|user| user.id).collect()
}

async fn owner(harness: &Harness, phone: &PhoneNumber) -> Option<User> {
    harness.referral.find_user_by_phone(phone).await.expect("the storage responds")
}

/// A user is found by the new phone only, in each way that phones are searched, and keeps everything else.
pub async fn user_is_found_by_the_new_phone_only(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let vera = harness.enter(3).await;
    let anna = harness.enter_invited(1, &vera.user).await;
    harness.enter_invited(2, &anna.user).await;
    let profile = ProfileChange { first_name: Some(Name::parse("Anna").ok()), ..ProfileChange::default() };
    let current_user = harness.current_user(&anna).await;
    let before =
        harness.referral.edit_profile(&current_user, EditProfile::new(profile)).await.expect("edited");
    let [old, new] = [phone(1), phone(777_777)];

    let after = change_to(&harness, &anna, &new).await;
    assert_eq!(after.user.phone.as_str(), new.as_str());
    let mut expected = before;
    expected.user.phone = after.user.phone.clone();
    assert_eq!(after, expected, "only the phone changes");
    assert_eq!(harness.profile(&anna).await, after);
    assert_eq!(owner(&harness, &new).await.map(|user| user.id), Some(anna.user.id));
    assert_eq!(owner(&harness, &old).await, None);
    let viewer = harness.current_user(&vera).await;
    let any = FilterInput::default();
    for (filter, ids) in [
        (FilterInput { phone: Some(new.as_str()), ..any }, vec![anna.user.id]),
        (FilterInput { phone: Some(old.as_str()), ..any }, vec![]),
        (FilterInput { search: Some("777777"), ..any }, vec![anna.user.id]),
        (FilterInput { search: Some("08777777"), ..any }, vec![anna.user.id]),
        (FilterInput { search: Some("08000001"), ..any }, vec![]),
        (FilterInput { search: Some("anna"), ..any }, vec![anna.user.id]),
    ] {
        assert_eq!(found(&harness, &viewer, filter).await, ids, "{filter:?}");
    }
    let invited = harness.profile(&vera).await.invited;
    assert_eq!(invited.iter().map(|invitee| invitee.phone.as_str()).collect::<Vec<_>>(), [new.as_str()]);

    let again = harness.try_enter(&new, None).await.expect("signed in");
    assert!(!again.created);
    assert_eq!(again.user.id, anna.user.id);
    harness.assert_sound(&viewer).await;
}

/// All other sessions of the user end, and those of other users do not.
pub async fn other_sessions_end_when_the_phone_changes(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [first, second, third] = [harness.enter(1).await, harness.enter(1).await, harness.enter(1).await];
    let boris = harness.enter(2).await;
    change_to(&harness, &second, &phone(3)).await;
    for ended in [&first, &third] {
        let access = harness.referral.authenticate(&ended.tokens.access).await;
        assert_refused(access, Refusal::TokenNotValid);
        let refreshed = harness.referral.refresh(&ended.tokens.refresh).await;
        assert_refused(refreshed, Refusal::TokenNotValid);
    }
    let sessions = harness.storage.sessions(second.user.id, harness.now(), None, 10).await;
    let sessions = sessions.expect("the storage responds");
    assert_eq!(sessions.iter().map(|session| session.id).collect::<Vec<_>>(), [second.session]);
    harness.referral.refresh(&second.tokens.refresh).await.expect("the session continues");
    harness.profile(&boris).await;
}

/// A code that was sent to the old phone before the change signs up a new user, and the user can get the old
/// phone back only if it is free.
pub async fn old_phone_signs_up_a_new_user(storage: Arc<dyn Storage>) {
    let harness = Harness::with_policy(storage, Policy::development());
    let anna = harness.enter(1).await;
    let sent = harness.sent_code(&phone(1)).await;
    change_to(&harness, &anna, &phone(2)).await;
    let boris = harness.sign_in(with_right_code(&sent)).await.expect("signed in");
    assert!(boris.created);
    assert_ne!(boris.user.id, anna.user.id);
    let current_user = harness.current_user(&anna).await;
    harness.assert_sound(&current_user).await;

    harness.advance(MINUTE);
    let sent = send_change_code(&harness, &current_user, &phone(1)).await;
    let refused = try_change(&harness, &current_user, change(with_right_code(&sent))).await;
    assert_refused(refused, Refusal::PhoneTaken);
    change_to(&harness, &boris, &phone(3)).await;
    harness.advance(MINUTE);
    let back = change_to(&harness, &anna, &phone(1)).await;
    assert_eq!(back.user.phone.as_str(), phone(1).as_str());
    harness.assert_sound(&harness.current_user(&anna).await).await;
}

/// The phone of another user is refused only after the correct code. The response to the request for a code
/// does not depend on the other user.
pub async fn taken_phone_is_refused_only_after_the_correct_code(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, boris] = [harness.enter(1).await, harness.enter(2).await];
    let current_user = harness.current_user(&anna).await;
    let [taken, free] = [
        send_change_code(&harness, &current_user, &phone(2)).await,
        send_change_code(&harness, &current_user, &phone(3)).await,
    ];
    assert_eq!(
        (taken.code_length, taken.expires_in, taken.resend_in),
        (free.code_length, free.expires_in, free.resend_in)
    );
    for sent in [&taken, &free] {
        let wrong = change(with_wrong_code(sent));
        assert_refused(try_change(&harness, &current_user, wrong).await, Refusal::InvalidCode);
    }
    let refused = try_change(&harness, &current_user, change(with_right_code(&taken))).await;
    assert_refused(refused, Refusal::PhoneTaken);
    // The code is used up.
    let refused = try_change(&harness, &current_user, change(with_right_code(&taken))).await;
    assert_refused(refused, Refusal::InvalidCode);
    assert_eq!(owner(&harness, &phone(2)).await.map(|user| user.id), Some(boris.user.id));
    assert_eq!(harness.profile(&anna).await.user.phone.as_str(), phone(1).as_str());
    harness.profile(&boris).await;

    let own = SendPhoneChangeCode::new(phone(1));
    let refused = harness.referral.send_phone_change_code(&current_user, own).await;
    assert_refused(refused, Refusal::OwnPhone);
    let own = ChangePhone { phone: phone(1), ..change(with_right_code(&free)) };
    assert_refused(try_change(&harness, &current_user, own).await, Refusal::OwnPhone);
    try_change(&harness, &current_user, change(with_right_code(&free))).await.expect("changed");
}

/// Requests of two users, and of the owner of the phone, do not invalidate the codes of each other.
pub async fn codes_of_several_users_for_one_phone_are_independent(storage: Arc<dyn Storage>) {
    let harness = Harness::with_policy(storage, Policy::development());
    let [anna, boris, vera] = [harness.enter(1).await, harness.enter(2).await, harness.enter(3).await];
    let [of_anna, of_boris] = [harness.current_user(&anna).await, harness.current_user(&boris).await];
    harness.advance(MINUTE);
    let to_sign_in = harness.sent_code(&phone(3)).await;
    harness.advance(MINUTE);
    let for_anna = send_change_code(&harness, &of_anna, &phone(3)).await;
    harness.advance(MINUTE);
    let for_boris = send_change_code(&harness, &of_boris, &phone(3)).await;

    // A code of another user, and a wrong code, count for their own challenges only.
    for _ in 0..3 {
        let refused = try_change(&harness, &of_anna, change(with_right_code(&for_boris))).await;
        assert_refused(refused, Refusal::InvalidCode);
    }
    // The newest code to sign in is found without its challenge.
    let signed_in = harness.sign_in(without_challenge(with_right_code(&to_sign_in))).await;
    assert_eq!(signed_in.expect("signed in").user.id, vera.user.id);
    let refused = try_change(&harness, &of_anna, change(with_right_code(&for_anna))).await;
    assert_refused(refused, Refusal::PhoneTaken);
    harness.referral.delete_user(boris.user.id).await.expect("deleted");
    let refused = try_change(&harness, &of_boris, change(with_right_code(&for_boris))).await;
    assert_refused(refused, Refusal::TokenNotValid);
}

/// A request that was authenticated before a change of the phone in another session changes nothing.
pub async fn change_of_an_ended_session_is_rejected(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [first, second] = [harness.enter(1).await, harness.enter(1).await];
    let before = harness.current_user(&first).await;
    let sent = send_change_code(&harness, &before, &phone(2)).await;
    change_to(&harness, &second, &phone(3)).await;
    let refused = try_change(&harness, &before, change(with_right_code(&sent))).await;
    assert_refused(refused, Refusal::TokenNotValid);
    assert_eq!(harness.profile(&second).await.user.phone.as_str(), phone(3).as_str());
    assert_eq!(owner(&harness, &phone(2)).await, None);
}

/// Of concurrent changes to one phone, only one succeeds.
pub async fn parallel_changes_to_one_phone_succeed_once(storage: Arc<dyn Storage>) {
    let harness = Harness::with_policy(storage, Policy::development());
    for round in 0..5 {
        let new = far_phone(round * 10);
        let mut users = Vec::new();
        for number in 1..=6 {
            let signed_in =
                harness.try_enter(&far_phone(round * 10 + number), None).await.expect("signed in");
            let current_user = harness.current_user(&signed_in).await;
            let sent = send_change_code(&harness, &current_user, &new).await;
            users.push((signed_in, current_user, change(with_right_code(&sent))));
        }
        let changed = in_parallel(6, |number| {
            let (harness, (_, current_user, request)) = (harness.clone(), users[number as usize].clone());
            async move { try_change(&harness, &current_user, request).await }
        });
        let mut winner = None;
        for (result, (signed_in, ..)) in changed.await.into_iter().zip(&users) {
            match result {
                Ok(_) => assert_eq!(winner.replace(signed_in.user.id), None, "one user gets the phone"),
                refused => assert_refused(refused, Refusal::PhoneTaken),
            }
        }
        assert!(winner.is_some());
        assert_eq!(owner(&harness, &new).await.map(|user| user.id), winner);
        harness.assert_sound(&users[0].1).await;
    }
}

/// Of a sign-up and a change that are concurrent, one gets the phone: the change is refused, or the sign-up
/// signs in the user with the new phone.
pub async fn parallel_sign_up_and_change_give_a_phone_to_one_user(storage: Arc<dyn Storage>) {
    let harness = Harness::with_policy(storage, Policy::development());
    for round in 0..10 {
        let new = far_phone(round * 10);
        let anna = harness.try_enter(&far_phone(round * 10 + 1), None).await.expect("signed in");
        let current_user = harness.current_user(&anna).await;
        let [to_change, to_sign_in] =
            [send_change_code(&harness, &current_user, &new).await, harness.sent_code(&new).await];
        let results = in_parallel(2, |number| {
            let (harness, current_user) = (harness.clone(), current_user.clone());
            let (to_change, to_sign_in) = (to_change.clone(), to_sign_in.clone());
            async move {
                if number == 0 {
                    Err(try_change(&harness, &current_user, change(with_right_code(&to_change))).await)
                } else {
                    Ok(harness.sign_in(with_right_code(&to_sign_in)).await.expect("signed in"))
                }
            }
        });
        let [Err(changed), Ok(signed_in)] = &results.await[..] else { panic!("one result of each") };
        let owner = owner(&harness, &new).await.expect("an owner").id;
        assert_eq!(signed_in.user.id, owner);
        match changed {
            Ok(_) => assert_eq!((owner, signed_in.created), (anna.user.id, false)),
            Err(Error::Refused(Refusal::PhoneTaken)) => {
                assert_eq!((owner == anna.user.id, signed_in.created), (false, true));
            }
            Err(error) => panic!("{error:?}"),
        }
        harness.assert_sound(&current_user).await;
    }
}

/// A sign-in with the old phone that is concurrent with the change leaves no session of the user: it ends, or
/// it signs up a new user.
pub async fn parallel_sign_ins_leave_no_session_of_the_old_phone(storage: Arc<dyn Storage>) {
    let harness = Harness::with_policy(storage, Policy::development());
    for round in 0..10 {
        let [old, new] = [far_phone(round * 10), far_phone(round * 10 + 1)];
        let anna = harness.try_enter(&old, None).await.expect("signed in");
        let current_user = harness.current_user(&anna).await;
        let [to_sign_in, to_change] =
            [harness.sent_code(&old).await, send_change_code(&harness, &current_user, &new).await];
        let results = in_parallel(2, |number| {
            let (harness, current_user) = (harness.clone(), current_user.clone());
            let (to_change, to_sign_in) = (to_change.clone(), to_sign_in.clone());
            async move {
                if number == 0 {
                    let request = change(with_right_code(&to_change));
                    try_change(&harness, &current_user, request).await.expect("changed");
                    None
                } else {
                    Some(harness.sign_in(with_right_code(&to_sign_in)).await.expect("signed in"))
                }
            }
        });
        let signed_in = results.await.into_iter().flatten().next().expect("a sign-in");
        let access = harness.referral.authenticate(&signed_in.tokens.access).await;
        if signed_in.created {
            assert_ne!(signed_in.user.id, anna.user.id);
            access.expect("the session of a new user");
        } else {
            assert_eq!(signed_in.user.id, anna.user.id);
            assert_refused(access, Refusal::TokenNotValid);
        }
        let sessions = harness.storage.sessions(anna.user.id, harness.now(), None, 10).await;
        let sessions = sessions.expect("the storage responds");
        assert_eq!(sessions.iter().map(|session| session.id).collect::<Vec<_>>(), [anna.session]);
        assert_eq!(owner(&harness, &new).await.map(|user| user.id), Some(anna.user.id));
        harness.assert_sound(&current_user).await;
    }
}
