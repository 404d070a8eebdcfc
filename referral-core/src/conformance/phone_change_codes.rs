//! Cases about the codes with which users change their phones.

use std::sync::Arc;

use super::{
    harness::{
        Harness, assert_refused, in_parallel, phone, with_right_code, with_wrong_code, without_challenge,
    },
    limits::{MINUTE, client, far_phone, send},
    phone_change::{change, send_change_code, try_change},
};
use crate::{
    error::refusal::Refusal,
    policy::Policy,
    service::{
        account::{DeleteAccount, SendDeletionCode},
        phone_change::{ChangePhone, SendPhoneChangeCode},
        sign_in::SignIn,
    },
    storage::Storage,
};

/// A code is valid for its purpose, its user and its phone only.
pub async fn only_the_code_of_a_change_changes_the_phone(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, boris] = [harness.enter(1).await, harness.enter(2).await];
    let [of_anna, of_boris] = [harness.current_user(&anna).await, harness.current_user(&boris).await];
    let to_sign_in = harness.sent_code(&phone(3)).await;
    let of_other = send_change_code(&harness, &of_boris, &phone(4)).await;
    for sent in [&to_sign_in, &of_other] {
        let refused = try_change(&harness, &of_anna, change(with_right_code(sent))).await;
        assert_refused(refused, Refusal::InvalidCode);
    }
    harness.sign_in(with_right_code(&to_sign_in)).await.expect("the code to sign in is still valid");

    let sent = send_change_code(&harness, &of_anna, &phone(5)).await;
    assert_refused(harness.sign_in(with_right_code(&sent)).await, Refusal::InvalidCode);
    let without = without_challenge(with_right_code(&sent));
    assert_refused(harness.sign_in(without).await, Refusal::InvalidCode);
    let SignIn { code, challenge, .. } = with_right_code(&sent);
    let deletion = DeleteAccount::new(challenge.expect("a challenge"), code);
    let refused = harness.referral.delete_account(&of_anna, deletion).await;
    assert_refused(refused, Refusal::InvalidCode);
    let other_phone = ChangePhone { phone: phone(6), ..change(with_right_code(&sent)) };
    assert_refused(try_change(&harness, &of_anna, other_phone).await, Refusal::InvalidCode);
    try_change(&harness, &of_anna, change(with_right_code(&sent))).await.expect("changed");
    harness.profile(&boris).await;
}

/// A code for another purpose does not replace the code to sign in, which is found without its challenge.
pub async fn code_for_another_purpose_does_not_replace_the_code_to_sign_in(storage: Arc<dyn Storage>) {
    let harness = Harness::with_policy(storage, Policy::development());
    let [anna, boris] = [harness.enter(1).await, harness.enter(2).await];
    harness.advance(MINUTE);
    let to_sign_in = harness.sent_code(&phone(1)).await;
    harness.advance(MINUTE);
    let current_user = harness.current_user(&anna).await;
    let deletion = harness.referral.send_deletion_code(&current_user, SendDeletionCode::new()).await;
    deletion.expect("sent");
    harness.advance(MINUTE);
    send_change_code(&harness, &harness.current_user(&boris).await, &phone(1)).await;
    let without = without_challenge(with_right_code(&to_sign_in));
    let signed_in = harness.sign_in(without).await.expect("the newest code to sign in");
    assert_eq!(signed_in.user.id, anna.user.id);
}

/// Wrong codes of a change have the same limits as those of a sign-in: three for a code, and longer codes of
/// the new phone after five.
pub async fn wrong_codes_of_a_change_are_limited(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    let current_user = harness.current_user(&anna).await;
    for code_length in [4, 4, 6] {
        let sent = send_change_code(&harness, &current_user, &phone(2)).await;
        assert_eq!(sent.code_length, code_length);
        for _ in 0..3 {
            let refused = try_change(&harness, &current_user, change(with_wrong_code(&sent))).await;
            assert_refused(refused, Refusal::InvalidCode);
        }
        let refused = try_change(&harness, &current_user, change(with_right_code(&sent))).await;
        assert_refused(refused, Refusal::InvalidCode);
        harness.advance(15 * MINUTE);
    }
    assert_eq!(harness.sent_code(&phone(2)).await.code_length, 6, "the limits are those of the new phone");
    assert_eq!(harness.sent_code(&phone(1)).await.code_length, 4);
}

/// A code that changed a phone is refunded to the address, like a code that led to a sign-in.
pub async fn code_of_a_change_is_refunded_to_the_address(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let signed_in = harness.enter(1).await;
    // An address can request ten codes in an hour that are not redeemed.
    for number in 1..12 {
        let current_user = harness.current_user(&signed_in).await;
        let send = SendPhoneChangeCode::new(far_phone(number)).client(client(1));
        let sent = harness.referral.send_phone_change_code(&current_user, send).await.expect("sent");
        let request = change(with_right_code(&sent)).client(client(1));
        try_change(&harness, &current_user, request).await.expect("changed");
    }
    send(&harness, &far_phone(20), client(1)).await.expect("sent");
}

/// Concurrent wrong codes of a change do not exceed the attempts of the code.
pub async fn parallel_guesses_at_a_change_do_not_exceed_its_attempts(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    let current_user = harness.current_user(&anna).await;
    let sent = send_change_code(&harness, &current_user, &phone(2)).await;
    let guesses = in_parallel(20, |_| {
        let (harness, current_user) = (harness.clone(), current_user.clone());
        let request = change(with_wrong_code(&sent));
        async move { try_change(&harness, &current_user, request).await }
    });
    for guess in guesses.await {
        assert_refused(guess, Refusal::InvalidCode);
    }
    let right = try_change(&harness, &current_user, change(with_right_code(&sent))).await;
    assert_refused(right, Refusal::InvalidCode);
    assert_eq!(harness.profile(&anna).await.user.phone.as_str(), phone(1).as_str());
    // Three of the guesses were counted: two more lengthen the codes.
    harness.advance(MINUTE);
    assert_eq!(send_change_code(&harness, &current_user, &phone(2)).await.code_length, 4);
}

/// Concurrent changes with one code redeem it once.
pub async fn parallel_changes_with_one_code_succeed_once(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    for round in 0..5 {
        let anna = harness.try_enter(&far_phone(round * 2), None).await.expect("signed in");
        let current_user = harness.current_user(&anna).await;
        let sent = send_change_code(&harness, &current_user, &far_phone(round * 2 + 1)).await;
        let changed = in_parallel(12, |_| {
            let (harness, current_user) = (harness.clone(), current_user.clone());
            let request = change(with_right_code(&sent));
            async move { try_change(&harness, &current_user, request).await }
        });
        let (done, refused): (Vec<_>, Vec<_>) = changed.await.into_iter().partition(Result::is_ok);
        assert_eq!(done.len(), 1);
        for refused in refused {
            // The phone of the authenticated request is no longer the phone of the user.
            assert_refused(refused, Refusal::TokenNotValid);
        }
        harness.profile(&anna).await;
    }
}
