//! Cases about the codes with which users delete their accounts.

use std::{sync::Arc, time::Duration};

use super::{
    deletion::{assert_found_nowhere, deletion, send_deletion_code},
    harness::{
        Harness, assert_refused, in_parallel, phone, with_right_code, with_wrong_code, without_challenge,
    },
    limits::{HOUR, MINUTE, client, far_phone, send},
};
use crate::{
    error::{Error, refusal::Refusal},
    service::{account::SendDeletionCode, sign_in::SignIn},
    storage::Storage,
};

/// A code is valid for its purpose and its user only.
pub async fn only_the_code_of_a_deletion_deletes(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, boris] = [harness.enter(1).await, harness.enter(2).await];
    let current_user = harness.current_user(&anna).await;
    let to_sign_in = harness.sent_code(&phone(1)).await;
    let to_delete_boris = send_deletion_code(&harness, &harness.current_user(&boris).await).await;
    for sent in [&to_sign_in, &to_delete_boris] {
        let request = deletion(with_right_code(sent));
        let refused = harness.referral.delete_account(&current_user, request).await;
        assert_refused(refused, Refusal::InvalidCode);
    }
    harness.sign_in(with_right_code(&to_sign_in)).await.expect("the code to sign in is still valid");

    let to_delete = send_deletion_code(&harness, &current_user).await;
    assert_refused(harness.sign_in(with_right_code(&to_delete)).await, Refusal::InvalidCode);
    let without = without_challenge(with_right_code(&to_delete));
    assert_refused(harness.sign_in(without).await, Refusal::InvalidCode);
    let request = deletion(with_right_code(&to_delete));
    harness.referral.delete_account(&current_user, request).await.expect("deleted");
    harness.profile(&boris).await;
}

/// Wrong codes of a deletion have the same limits as those of a sign-in: three for a code, and longer codes
/// after five.
pub async fn wrong_codes_of_a_deletion_are_limited(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let current_user = harness.current_user(&harness.enter(1).await).await;
    for code_length in [4, 4, 6] {
        let sent = send_deletion_code(&harness, &current_user).await;
        assert_eq!(sent.code_length, code_length);
        for _ in 0..3 {
            let request = deletion(with_wrong_code(&sent));
            let refused = harness.referral.delete_account(&current_user, request).await;
            assert_refused(refused, Refusal::InvalidCode);
        }
        let request = deletion(with_right_code(&sent));
        let refused = harness.referral.delete_account(&current_user, request).await;
        assert_refused(refused, Refusal::InvalidCode);
        harness.advance(15 * MINUTE);
    }
    assert_eq!(harness.sent_code(&phone(1)).await.code_length, 6, "the limits are those of the phone");
    harness.advance(HOUR);
    let sent = send_deletion_code(&harness, &current_user).await;
    let request = deletion(with_right_code(&sent));
    harness.referral.delete_account(&current_user, request).await.expect("deleted");
    assert_eq!(harness.sent_code(&phone(1)).await.code_length, 6, "the deletion resets no limit");
}

/// A code that deleted an account is refunded to the address, like a code that led to a sign-in.
pub async fn code_of_a_deletion_is_refunded_to_the_address(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    // An address can request ten codes in an hour that are not redeemed.
    for number in 0..12 {
        let sent = send(&harness, &far_phone(number), client(1)).await.expect("sent");
        let request = SignIn { client: client(1), ..with_right_code(&sent) };
        let signed_in = harness.sign_in(request).await.expect("signed in");
        let current_user = harness.current_user(&signed_in).await;
        let send = SendDeletionCode::new().client(client(1));
        let sent = harness.referral.send_deletion_code(&current_user, send).await.expect("sent");
        let request = deletion(with_right_code(&sent)).client(client(1));
        harness.referral.delete_account(&current_user, request).await.expect("deleted");
    }
}

/// Concurrent wrong codes of a deletion do not exceed the attempts of the code.
pub async fn parallel_guesses_at_a_deletion_do_not_exceed_its_attempts(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    let current_user = harness.current_user(&anna).await;
    let sent = send_deletion_code(&harness, &current_user).await;
    let guesses = in_parallel(20, |_| {
        let (harness, current_user) = (harness.clone(), current_user.clone());
        let request = deletion(with_wrong_code(&sent));
        async move { harness.referral.delete_account(&current_user, request).await }
    });
    for guess in guesses.await {
        assert_refused(guess, Refusal::InvalidCode);
    }
    let right = harness.referral.delete_account(&current_user, deletion(with_right_code(&sent))).await;
    assert_refused(right, Refusal::InvalidCode);
    harness.profile(&anna).await;
    // Three of the guesses were counted: two more lengthen the codes.
    harness.advance(MINUTE + Duration::from_millis(1));
    let sent = send_deletion_code(&harness, &current_user).await;
    assert_eq!(sent.code_length, 4);
}

/// Concurrent deletions with one code, and by the host, delete the user once.
pub async fn parallel_deletions_delete_a_user_once(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(99).await;
    for round in 0..5 {
        let boris = harness.enter_invited(round * 1_000, &anna.user).await;
        let current_user = harness.current_user(&boris).await;
        let sent = send_deletion_code(&harness, &current_user).await;
        let deleted = in_parallel(12, |number| {
            let (harness, current_user) = (harness.clone(), current_user.clone());
            let request = deletion(with_right_code(&sent));
            async move {
                match number % 4 {
                    0 => harness.referral.delete_user(current_user.user.id).await.map(drop),
                    _ => harness.referral.delete_account(&current_user, request).await.map(drop),
                }
            }
        });
        let (done, refused): (Vec<_>, Vec<_>) = deleted.await.into_iter().partition(Result::is_ok);
        assert_eq!(done.len(), 1);
        for refused in refused {
            let Err(Error::Refused(reason)) = refused else { panic!("{refused:?}") };
            assert!(matches!(reason, Refusal::TokenNotValid | Refusal::UserNotFound), "{reason:?}");
        }
        assert_found_nowhere(&harness, &harness.current_user(&anna).await, &boris.user).await;
    }
    assert_eq!(harness.profile(&anna).await.invited_count, 5);
    assert_eq!(harness.all_users(&harness.current_user(&anna).await).await.len(), 1);
}
