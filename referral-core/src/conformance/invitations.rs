//! Inviters, named once and for good.

use std::{sync::Arc, time::Duration};

use super::{Bench, answer, assert_refused, in_parallel, phone};
use crate::{
    Bearer, Client, Error, InvitationOutcome, InviteCode, ProfileChange, ProfileView, Refusal, SignIn,
    SignedIn, storage::Storage,
};

/// Names an inviter in the profile.
async fn accept(bench: &Bench, bearer: &Bearer, code: &InviteCode) -> Result<ProfileView, Error> {
    let change = ProfileChange { invited_by_code: Some(code.clone()), ..ProfileChange::default() };
    bench.referral.edit_profile(bearer, change, &Client::default()).await
}

/// The inviter has one invitee, and it is this one.
async fn assert_invited(bench: &Bench, inviter: &SignedIn, invitee: &SignedIn) {
    let profile = bench.profile(inviter).await;
    assert_eq!(profile.invited_count, 1);
    assert_eq!(profile.invited.len(), 1);
    assert_eq!(profile.invited[0].id, invitee.user.id);
    assert_eq!(profile.invited[0].phone.as_str(), invitee.user.phone.as_str());
    assert_eq!(profile.invited[0].joined_at, invitee.user.date_joined);
    let invitee = bench.profile(invitee).await;
    assert_eq!(invitee.user.invited_by_code.as_ref(), Some(&inviter.user.invite_code));
}

/// With the first sign-in.
pub async fn an_invitation_is_accepted_at_sign_up(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let anna = bench.enter(1).await;
    let boris = bench.enter_invited(2, &anna.user).await;
    assert!(boris.created);
    assert_eq!(boris.invitation, InvitationOutcome::Accepted);
    assert_eq!(boris.user.invited_by.as_ref().map(|named| named.inviter), Some(anna.user.id));
    assert_invited(&bench, &anna, &boris).await;
}

/// With a later sign-in, by somebody who had no inviter.
pub async fn an_invitation_is_accepted_at_a_later_sign_in(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let [anna, _] = [bench.enter(1).await, bench.enter(2).await];
    let boris = bench.enter_invited(2, &anna.user).await;
    assert!(!boris.created);
    assert_eq!(boris.invitation, InvitationOutcome::Accepted);
    assert_invited(&bench, &anna, &boris).await;
}

/// By an edit of the profile.
pub async fn an_invitation_is_accepted_in_the_profile(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let [anna, boris] = [bench.enter(1).await, bench.enter(2).await];
    let profile =
        accept(&bench, &bench.bearer(&boris).await, &anna.user.invite_code).await.expect("accepted");
    assert_eq!(profile.user.invited_by_code.as_ref(), Some(&anna.user.invite_code));
    assert_invited(&bench, &anna, &boris).await;
}

/// Without a code, or with another: the inviter stays.
pub async fn signing_in_again_keeps_the_inviter(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let [anna, vera] = [bench.enter(1).await, bench.enter(3).await];
    bench.enter_invited(2, &anna.user).await;

    let without = bench.enter(2).await;
    assert_eq!(without.invitation, InvitationOutcome::None);
    let another = bench.enter_invited(2, &vera.user).await;
    assert_eq!(another.invitation, InvitationOutcome::Ignored);
    assert_invited(&bench, &anna, &another).await;
    assert_eq!(bench.profile(&vera).await.invited_count, 0);
}

/// The inviter who is named already can be named again, to no effect.
pub async fn the_same_inviter_again_changes_nothing(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let anna = bench.enter(1).await;
    bench.enter_invited(2, &anna.user).await;
    let again = bench.enter_invited(2, &anna.user).await;
    assert_eq!(again.invitation, InvitationOutcome::AlreadyAccepted);
    accept(&bench, &bench.bearer(&again).await, &anna.user.invite_code).await.expect("no change");
    assert_invited(&bench, &anna, &again).await;
}

/// In the profile, where nothing else is asked for, another inviter is an error.
pub async fn another_inviter_in_the_profile_is_refused(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let [anna, vera] = [bench.enter(1).await, bench.enter(3).await];
    let boris = bench.enter_invited(2, &anna.user).await;
    let refused = accept(&bench, &bench.bearer(&boris).await, &vera.user.invite_code).await;
    assert_refused(refused, Refusal::InvitationAlreadyAccepted);
    assert_invited(&bench, &anna, &boris).await;
}

/// Unknown, one's own, or closing a loop: nothing changes, and the code from the message is
/// still good, without the invite code or with a better one.
pub async fn a_bad_invite_code_leaves_the_sms_code_usable(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let anna = bench.enter(1).await;
    let boris = bench.enter_invited(2, &anna.user).await;
    let unknown = InviteCode::parse("ZZZZZZZZZZZZ").expect("well-formed");

    let sent = bench.sent(&phone(1)).await;
    for (code, refusal) in [
        (&unknown, Refusal::UnknownInviteCode),
        (&anna.user.invite_code, Refusal::OwnInviteCode),
        (&boris.user.invite_code, Refusal::InvitationLoop),
    ] {
        for _ in 0..4 {
            let with_code = SignIn { invited_by_code: Some(code.clone()), ..answer(&sent) };
            assert_refused(bench.sign_in(with_code).await, refusal);
        }
        let refused = accept(&bench, &bench.bearer(&anna).await, code).await;
        assert_refused(refused, refusal);
    }
    bench.sign_in(answer(&sent)).await.expect("signed in");

    let sent = bench.sent(&phone(3)).await;
    let with_code = SignIn { invited_by_code: Some(unknown), ..answer(&sent) };
    assert_refused(bench.sign_in(with_code).await, Refusal::UnknownInviteCode);
    let created = bench.sign_in(answer(&sent)).await.expect("signed in").created;
    assert!(created, "the refused attempt made no user");
    bench.assert_sound(&bench.bearer(&anna).await).await;
}

/// A loop is refused however long it would be.
pub async fn a_long_chain_does_not_close(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let first = bench.enter(0).await;
    let mut last = first.clone();
    for number in 1..40 {
        last = bench.enter_invited(number, &last.user).await;
    }
    let bearer = bench.bearer(&first).await;
    let refused = accept(&bench, &bearer, &last.user.invite_code).await;
    assert_refused(refused, Refusal::InvitationLoop);

    let outside = bench.enter(99).await;
    accept(&bench, &bearer, &outside.user.invite_code).await.expect("no loop");
    bench.assert_sound(&bearer).await;
}

/// Of many acceptances by one invitee at once, by sign-in and in the profile, one counts.
pub async fn parallel_acceptances_by_one_invitee_make_one_edge(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let invitee = bench.enter(99).await;
    let bearer = bench.bearer(&invitee).await;
    let mut inviters = Vec::new();
    for number in 0..20 {
        inviters.push(bench.enter(number).await);
    }
    let sent = bench.sent(&phone(99)).await;

    let accepted = in_parallel(20, |number| {
        let code = inviters[number as usize].user.invite_code.clone();
        let (bench, bearer, sent) = (bench.clone(), bearer.clone(), sent.clone());
        async move {
            if number == 0 {
                let with_code = SignIn { invited_by_code: Some(code), ..answer(&sent) };
                let outcome = bench.sign_in(with_code).await.expect("signed in").invitation;
                return outcome == InvitationOutcome::Accepted;
            }
            match accept(&bench, &bearer, &code).await {
                Ok(_) => true,
                Err(Error::Refused(Refusal::InvitationAlreadyAccepted)) => false,
                Err(other) => panic!("neither accepted nor refused: {other:?}"),
            }
        }
    });
    assert_eq!(accepted.await.into_iter().filter(|accepted| *accepted).count(), 1);

    let mut invited = 0;
    for inviter in &inviters {
        invited += bench.profile(inviter).await.invited_count;
    }
    assert_eq!(invited, 1);
    bench.assert_sound(&bearer).await;
}

/// Sign-ups with one inviter at once lose no count.
pub async fn parallel_sign_ups_by_one_inviter_are_all_counted(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let anna = bench.enter(99).await;
    in_parallel(30, |number| {
        let (bench, anna) = (bench.clone(), anna.clone());
        async move { bench.enter_invited(number * 1_000, &anna.user).await }
    })
    .await;
    assert_eq!(bench.profile(&anna).await.invited_count, 30);
    bench.assert_sound(&bench.bearer(&anna).await).await;
}

/// Each of four names the next at the same time: at least one is refused, and no loop is left.
pub async fn four_users_closing_a_ring_at_once_leave_no_loop(storage: Arc<dyn Storage>) {
    close_rings(storage, 4).await;
}

/// The same with five, where locking pairs of users would let a loop through.
pub async fn five_users_closing_a_ring_at_once_leave_no_loop(storage: Arc<dyn Storage>) {
    close_rings(storage, 5).await;
}

async fn close_rings(storage: Arc<dyn Storage>, size: u32) {
    const RINGS: u32 = 10;
    let bench = Bench::new(storage);
    for ring in 0..RINGS {
        let mut members = Vec::new();
        for number in 0..size {
            members.push(bench.enter(ring * size + number).await);
        }
        let accepted = in_parallel(size, |number| {
            let next = members[((number + 1) % size) as usize].user.invite_code.clone();
            let (bench, member) = (bench.clone(), members[number as usize].clone());
            async move {
                // Half of them by signing in, so that both ways meet.
                if number % 2 == 0 {
                    return bench.try_enter(&member.user.phone, Some(&next)).await.map(|_| ());
                }
                accept(&bench, &bench.bearer(&member).await, &next).await.map(|_| ())
            }
        });
        let accepted = accepted.await;
        assert_eq!(accepted.iter().filter(|result| result.is_ok()).count(), size as usize - 1);
        for refused in accepted.into_iter().filter(Result::is_err) {
            assert_refused(refused, Refusal::InvitationLoop);
        }
        // Those who were refused have used up codes of their number block.
        bench.advance(Duration::from_hours(1) + Duration::from_secs(1));
    }
    let outsider = bench.enter(999).await;
    bench.assert_sound(&bench.bearer(&outsider).await).await;
}
