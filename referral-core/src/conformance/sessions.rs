//! Sessions, from sign-in to their end.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::{Bench, answer, assert_refused, in_parallel, phone};
use crate::{Client, Refresh, Refusal, SessionId, SignIn, TokenKind, storage::Storage};

/// Long enough for a refresh token to be past its grace, short enough for it to be valid.
const PAST_GRACE: Duration = Duration::from_mins(1);

/// What a sign-in stored is found again; what nobody stored is not.
pub async fn a_session_is_found_with_its_user(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let anna = bench.enter(1).await;
    let boris = bench.enter_invited(2, &anna.user).await;

    let found = bench.storage.session(anna.session, 0).await.expect("an answer").expect("a session");
    assert_eq!(found.session.user, anna.user.id);
    assert_eq!(found.session.revoked_at, None);
    assert_eq!(found.session.grant.access_expires_at, anna.tokens.access_expires_at);
    assert_eq!(found.user.user.invited_count, 1);
    assert!(found.user.invited.is_empty(), "none were asked for");
    let found = bench.storage.session(anna.session, 5).await.expect("an answer").expect("a session");
    assert_eq!(found.user.invited[0].id, boris.user.id);

    let nobody = SessionId(uuid::Uuid::nil());
    assert_eq!(bench.storage.session(nobody, 5).await.expect("an answer"), None);
    bench.storage.note_grant_used(nobody, uuid::Uuid::nil()).await.expect("nothing to note");
}

/// An exchange gives new tokens. Until they are seen in use, the old token gives the same again.
pub async fn a_refresh_token_is_exchanged_and_its_parent_repeats_the_successor(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let first = bench.enter(1).await.tokens;
    bench.advance(PAST_GRACE);
    let second = bench.referral.refresh(&first.refresh).await.expect("exchanged").tokens;
    assert_ne!(second.refresh, first.refresh);

    bench.advance(PAST_GRACE);
    let again = bench.referral.refresh(&first.refresh).await.expect("repeated").tokens;
    assert_eq!((&again.access, &again.refresh), (&second.access, &second.refresh));
    // Whether the old token still leads to the successor tells whether that has been used.
    let verified = bench.referral.verify(&first.refresh, Some(TokenKind::Refresh)).await;
    assert_refused(verified, Refusal::TokenNotValid);
    bench.referral.verify(&second.refresh, Some(TokenKind::Refresh)).await.expect("the current token");
    bench.referral.authenticate(&first.access).await.expect("the old access token lasts its time");
    bench.referral.refresh(&first.refresh).await.expect("its use says nothing of the successor");
}

/// Once the successor was used, the old token can only be a copy.
pub async fn a_used_successor_ends_the_grace_of_its_parent(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let first = bench.enter(1).await.tokens;
    let second = bench.referral.refresh(&first.refresh).await.expect("exchanged").tokens;
    bench.referral.authenticate(&second.access).await.expect("valid");
    bench.referral.refresh(&first.refresh).await.expect("within the grace in any case");

    bench.advance(PAST_GRACE);
    assert_refused(bench.referral.verify(&first.refresh, None).await, Refusal::TokenNotValid);
    assert_refused(bench.referral.refresh(&first.refresh).await, Refusal::RefreshReused);
    assert_refused(bench.referral.authenticate(&second.access).await, Refusal::TokenNotValid);
    assert_refused(bench.referral.verify(&second.refresh, None).await, Refusal::TokenNotValid);
    assert_refused(bench.referral.refresh(&second.refresh).await, Refusal::TokenNotValid);
}

/// A token from two exchanges ago ends the session, but not in the moment after its own.
pub async fn an_older_refresh_token_ends_the_session(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let first = bench.enter(1).await.tokens;
    let second = bench.referral.refresh(&first.refresh).await.expect("exchanged").tokens;
    let third = bench.referral.refresh(&second.refresh).await.expect("exchanged").tokens;
    assert_refused(bench.referral.refresh(&first.refresh).await, Refusal::TokenNotValid);
    bench.referral.authenticate(&third.access).await.expect("the session lives");

    bench.advance(PAST_GRACE);
    assert_refused(bench.referral.refresh(&first.refresh).await, Refusal::RefreshReused);
    assert_refused(bench.referral.authenticate(&third.access).await, Refusal::TokenNotValid);
}

/// A response is lost now and then. Whose responses are all lost has company.
pub async fn a_successor_that_is_given_out_late_three_times_in_succession_ends_the_session(
    storage: Arc<dyn Storage>,
) {
    let bench = Bench::new(storage);
    let mut owner = bench.enter(1).await.tokens;
    // Twice in succession, and then not, as often as it happens.
    for round in 0..6 {
        bench.advance(PAST_GRACE);
        let rotated = bench.referral.refresh(&owner.refresh).await.expect("exchanged").tokens;
        if round % 3 != 0 {
            bench.advance(PAST_GRACE);
            let again = bench.referral.refresh(&owner.refresh).await.expect("repeated").tokens;
            assert_eq!(again.refresh, rotated.refresh);
            bench.referral.refresh(&owner.refresh).await.expect("and again, which counts once");
        }
        bench.referral.authenticate(&rotated.access).await.expect("valid");
        owner = rotated;
    }
    // That was twice. Now a thief refreshes first once more.
    bench.advance(PAST_GRACE);
    let thief = bench.referral.refresh(&owner.refresh).await.expect("exchanged").tokens;
    bench.advance(PAST_GRACE);
    assert_refused(bench.referral.refresh(&owner.refresh).await, Refusal::RefreshReused);
    assert_refused(bench.referral.refresh(&thief.refresh).await, Refusal::TokenNotValid);
}

/// Many tabs that refresh at once all go on with the same tokens. Of some it is known that the second
/// is taken for a thief.
pub async fn tabs_that_refresh_at_once_do_not_sign_one_another_out(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let first = bench.enter(1).await.tokens;
    let successors = in_parallel(32, |_| {
        let (bench, refresh) = (bench.clone(), first.refresh.clone());
        async move { bench.referral.refresh(&refresh).await.expect("exchanged").tokens.refresh }
    });
    let mut successors = successors.await;
    successors.dedup();
    assert_eq!(successors.len(), 1);
    bench.referral.refresh(&successors[0]).await.expect("the session lives");
}

/// By not being used, and in the end in any case.
pub async fn a_session_ends(storage: Arc<dyn Storage>) {
    const DAY: Duration = Duration::from_hours(24);
    let bench = Bench::new(storage);
    let idle = bench.enter(1).await;
    let mut busy = bench.enter(2).await.tokens;
    for _ in 0..6 {
        bench.advance(29 * DAY);
        busy = bench.referral.refresh(&busy.refresh).await.expect("exchanged in time").tokens;
    }
    assert_refused(bench.referral.refresh(&idle.tokens.refresh).await, Refusal::TokenNotValid);
    bench.advance(6 * DAY);
    assert_refused(bench.referral.refresh(&busy.refresh).await, Refusal::TokenNotValid);
}

/// At once, and for as long as the user is inactive.
pub async fn tokens_of_an_inactive_user_stop_at_once(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let anna = bench.enter(1).await;
    bench.referral.set_active(anna.user.id, false).await.expect("a user");
    assert_refused(bench.referral.authenticate(&anna.tokens.access).await, Refusal::TokenNotValid);
    assert_refused(bench.referral.current_user(&anna.tokens.access).await, Refusal::TokenNotValid);
    assert_refused(bench.referral.verify(&anna.tokens.refresh, None).await, Refusal::TokenNotValid);
    assert_refused(bench.referral.refresh(&anna.tokens.refresh).await, Refusal::TokenNotValid);
    bench.referral.set_active(anna.user.id, true).await.expect("a user");
    bench.referral.authenticate(&anna.tokens.access).await.expect("valid again");
}

/// Somebody sees where they are signed in, and signs out there.
pub async fn ones_own_sessions_are_listed_and_ended(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(bench.enter(1).await);
        bench.advance(Duration::from_mins(10));
    }
    let other = bench.enter(2).await;
    let [first, second, third] = &sessions[..] else { unreachable!("three were begun") };
    let bearer = bench.bearer(third).await;
    let listed = || async {
        let listed = bench.referral.sessions(&bearer).await.expect("a list");
        listed.into_iter().map(|session| session.id).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [third.session, second.session, first.session]);

    bench.referral.end_session(&bearer, first.session).await.expect("ended");
    assert_eq!(listed().await, [third.session, second.session]);
    assert_refused(bench.referral.verify(&first.tokens.refresh, None).await, Refusal::TokenNotValid);
    assert_refused(bench.referral.refresh(&first.tokens.refresh).await, Refusal::TokenNotValid);
    for not_theirs in [first.session, other.session, SessionId(uuid::Uuid::nil())] {
        assert_refused(bench.referral.end_session(&bearer, not_theirs).await, Refusal::SessionNotFound);
    }

    bench.enter(1).await;
    assert_eq!(bench.referral.end_other_sessions(&bearer).await.expect("ended"), 2);
    assert_eq!(bench.referral.end_other_sessions(&bearer).await.expect("none left"), 0);
    assert_eq!(listed().await, [third.session]);
    assert_refused(bench.referral.verify(&second.tokens.refresh, None).await, Refusal::TokenNotValid);
    bench.referral.authenticate(&third.tokens.access).await.expect("this one lives");
    bench.referral.authenticate(&other.tokens.access).await.expect("others' live");

    bench.advance(Duration::from_hours(30 * 24));
    assert_eq!(listed().await, [], "one that was not used for so long has ended");
}

/// A refresh token is enough to sign out, twice does no harm.
pub async fn a_session_is_ended_by_its_refresh_token(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let anna = bench.enter(1).await;
    bench.advance(Duration::from_mins(20));
    assert_refused(bench.referral.sign_out(&anna.tokens.access).await, Refusal::TokenNotValid);
    assert!(bench.referral.sign_out(&anna.tokens.refresh).await.expect("signed out"));
    assert!(!bench.referral.sign_out(&anna.tokens.refresh).await.expect("it was over"));
    assert_refused(bench.referral.refresh(&anna.tokens.refresh).await, Refusal::TokenNotValid);
}

/// Whoever refreshes while the session is ended gets tokens that are worth nothing, or none.
pub async fn a_refresh_does_not_bring_an_ended_session_back(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let anna = bench.enter(1).await;
    let refreshed = in_parallel(16, |number| {
        let (bench, token) = (bench.clone(), anna.tokens.refresh.clone());
        async move {
            if number == 8 {
                assert!(bench.referral.sign_out(&token).await.expect("signed out"));
                return None;
            }
            bench.referral.refresh(&token).await.ok()
        }
    });
    for refreshed in refreshed.await.into_iter().flatten() {
        let access = bench.referral.authenticate(&refreshed.tokens.access).await;
        assert_refused(access, Refusal::TokenNotValid);
    }
}

/// A session shows where it was used last, and keeps what it knew where nobody says.
pub async fn where_a_session_is_used_is_kept(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let client = |address: &str, name: &str| {
        Client::default().address(address.parse::<IpAddr>().ok()).user_agent(name.to_owned())
    };
    let sent = bench.sent(&phone(1)).await;
    let from = client("2001:db8:1:2:3:4:5:6", "Фирефокс/1.0");
    let anna = bench.sign_in(SignIn { client: from, ..answer(&sent) }).await.expect("signed in");
    let bearer = bench.bearer(&anna).await;
    let seen = || async {
        let session = bench.referral.sessions(&bearer).await.expect("a list").remove(0);
        let address = session.address.map(|address| address.to_string()).unwrap_or_default();
        (address, session.user_agent.clone().unwrap_or_default(), session.last_used_at())
    };
    let start = crate::clock::to_seconds(bench.now());
    assert_eq!(seen().await, ("2001:db8:1:2::/64".into(), "Фирефокс/1.0".into(), start));

    bench.advance(PAST_GRACE);
    let refresh = Refresh::from(&anna.tokens.refresh).client(client("203.0.113.9", "curl"));
    let refreshed = bench.referral.refresh(refresh).await.expect("refreshed");
    assert_eq!(seen().await, ("203.0.113.9".into(), "curl".into(), start + PAST_GRACE));
    bench.referral.refresh(&refreshed.tokens.refresh).await.expect("refreshed");
    assert_eq!(seen().await.1, "curl");
}
