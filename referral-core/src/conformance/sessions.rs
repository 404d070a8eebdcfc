//! Cases about sessions, from sign-in to their end.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use super::harness::{Harness, assert_refused, in_parallel, phone, with_right_code};
use crate::{
    error::refusal::Refusal,
    events::{Event, Hook, SessionEnd, SessionEnded},
    policy::Policy,
    rate_limit::client::Client,
    service::{sessions::Refresh, sign_in::SignIn},
    session::{SessionId, SessionSelection, jwt::TokenKind},
    storage::Storage,
};

/// Time after which the grace period of a refresh token has ended, while the token is still valid.
const PAST_GRACE: Duration = Duration::from_mins(1);

/// A session that a sign-in stored is found, and others are not.
pub async fn session_is_found_with_its_user(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    let boris = harness.enter_invited(2, &anna.user).await;

    let found = harness
        .storage
        .session(anna.session, 0)
        .await
        .expect("the storage responds")
        .expect("existing session");
    assert_eq!(found.session.user, anna.user.id);
    assert_eq!(found.session.revoked_at, None);
    assert_eq!(found.session.issued.access_expires_at, anna.tokens.access_expires_at);
    assert_eq!(found.user.user.invited_count, 1);
    assert!(found.user.invited.is_empty(), "no invitees were requested");
    let found = harness
        .storage
        .session(anna.session, 5)
        .await
        .expect("the storage responds")
        .expect("existing session");
    assert_eq!(found.user.invited[0].id, boris.user.id);

    let unknown = SessionId(uuid::Uuid::nil());
    assert_eq!(harness.storage.session(unknown, 5).await.expect("the storage responds"), None);
    harness.storage.mark_tokens_used(unknown, uuid::Uuid::nil()).await.expect("nothing to record");
}

/// An exchange returns new tokens. Until they are used, the old token returns the same tokens again.
pub async fn refresh_token_is_exchanged_and_repeats_its_successor(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let first = harness.enter(1).await.tokens;
    harness.advance(PAST_GRACE);
    let second = harness.referral.refresh(&first.refresh).await.expect("exchanged").tokens;
    assert_ne!(second.refresh, first.refresh);

    harness.advance(PAST_GRACE);
    let again = harness.referral.refresh(&first.refresh).await.expect("repeated").tokens;
    assert_eq!((&again.access, &again.refresh), (&second.access, &second.refresh));
    // A successful check of the old token would show that the successor has not been used.
    let verified = harness.referral.verify(&first.refresh, Some(TokenKind::Refresh)).await;
    assert_refused(verified, Refusal::TokenNotValid);
    harness.referral.verify(&second.refresh, Some(TokenKind::Refresh)).await.expect("the current token");
    harness
        .referral
        .authenticate(&first.access)
        .await
        .expect("the old access token is valid until it expires");
    harness.referral.refresh(&first.refresh).await.expect("its use is not a use of the successor");
}

/// After the grace period, a client that has used the successor no longer sends the old token. A copy does.
pub async fn older_token_ends_the_session_after_its_successor_was_used(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let first = harness.enter(1).await.tokens;
    let second = harness.referral.refresh(&first.refresh).await.expect("exchanged").tokens;
    harness.referral.authenticate(&second.access).await.expect("valid");
    harness.referral.refresh(&first.refresh).await.expect("within the grace period");

    harness.advance(PAST_GRACE);
    assert_refused(harness.referral.verify(&first.refresh, None).await, Refusal::TokenNotValid);
    assert_refused(harness.referral.refresh(&first.refresh).await, Refusal::RefreshReused);
    assert_refused(harness.referral.authenticate(&second.access).await, Refusal::TokenNotValid);
    assert_refused(harness.referral.verify(&second.refresh, None).await, Refusal::TokenNotValid);
    assert_refused(harness.referral.refresh(&second.refresh).await, Refusal::TokenNotValid);
}

/// A token from two exchanges before ends the session, except within the grace period.
pub async fn older_refresh_token_ends_the_session(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let first = harness.enter(1).await.tokens;
    let second = harness.referral.refresh(&first.refresh).await.expect("exchanged").tokens;
    let third = harness.referral.refresh(&second.refresh).await.expect("exchanged").tokens;
    assert_refused(harness.referral.refresh(&first.refresh).await, Refusal::TokenNotValid);
    harness.referral.authenticate(&third.access).await.expect("the session is valid");

    harness.advance(PAST_GRACE);
    assert_refused(harness.referral.refresh(&first.refresh).await, Refusal::RefreshReused);
    assert_refused(harness.referral.authenticate(&third.access).await, Refusal::TokenNotValid);
}

/// A response can be lost occasionally. If all responses seem to be lost, the token was copied.
pub async fn three_consecutive_late_repetitions_end_the_session(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let mut owner = harness.enter(1).await.tokens;
    // Two consecutive late repetitions and then none, several times.
    for round in 0..6 {
        harness.advance(PAST_GRACE);
        let rotated = harness.referral.refresh(&owner.refresh).await.expect("exchanged").tokens;
        if round % 3 != 0 {
            harness.advance(PAST_GRACE);
            let again = harness.referral.refresh(&owner.refresh).await.expect("repeated").tokens;
            assert_eq!(again.refresh, rotated.refresh);
            harness.referral.refresh(&owner.refresh).await.expect("repeated again, which counts once");
        }
        harness.referral.authenticate(&rotated.access).await.expect("valid");
        owner = rotated;
    }
    // Two consecutive ones were allowed. Now a thief refreshes before the owner once more.
    harness.advance(PAST_GRACE);
    let thief = harness.referral.refresh(&owner.refresh).await.expect("exchanged").tokens;
    harness.advance(PAST_GRACE);
    assert_refused(harness.referral.refresh(&owner.refresh).await, Refusal::RefreshReused);
    assert_refused(harness.referral.refresh(&thief.refresh).await, Refusal::TokenNotValid);
}

/// Many tabs that refresh concurrently get the same tokens. The second tab must not be treated as a thief.
pub async fn concurrent_refreshes_return_the_same_tokens(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let first = harness.enter(1).await.tokens;
    let successors = in_parallel(32, |_| {
        let (harness, refresh) = (harness.clone(), first.refresh.clone());
        async move { harness.referral.refresh(&refresh).await.expect("exchanged").tokens.refresh }
    });
    let mut successors = successors.await;
    successors.dedup();
    assert_eq!(successors.len(), 1);
    harness.referral.refresh(&successors[0]).await.expect("the session is valid");
}

/// A session ends if it is not refreshed for some time, and after a maximum time in any case.
pub async fn session_expires(storage: Arc<dyn Storage>) {
    const DAY: Duration = Duration::from_hours(24);
    let harness = Harness::new(storage);
    let idle = harness.enter(1).await;
    let mut busy = harness.enter(2).await.tokens;
    for _ in 0..6 {
        harness.advance(29 * DAY);
        busy = harness.referral.refresh(&busy.refresh).await.expect("exchanged in time").tokens;
    }
    assert_refused(harness.referral.refresh(&idle.tokens.refresh).await, Refusal::TokenNotValid);
    harness.advance(6 * DAY);
    assert_refused(harness.referral.refresh(&busy.refresh).await, Refusal::TokenNotValid);
}

/// The tokens are rejected immediately, and for as long as the user is inactive.
pub async fn tokens_of_an_inactive_user_are_rejected_immediately(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    harness.referral.set_active(anna.user.id, false).await.expect("existing user");
    assert_refused(harness.referral.authenticate(&anna.tokens.access).await, Refusal::TokenNotValid);
    assert_refused(harness.referral.current_user(&anna.tokens.access).await, Refusal::TokenNotValid);
    assert_refused(harness.referral.verify(&anna.tokens.refresh, None).await, Refusal::TokenNotValid);
    assert_refused(harness.referral.refresh(&anna.tokens.refresh).await, Refusal::TokenNotValid);
    harness.referral.set_active(anna.user.id, true).await.expect("existing user");
    // The sessions have ended, so that an attacker who had one is not signed in again.
    assert_refused(harness.referral.authenticate(&anna.tokens.access).await, Refusal::TokenNotValid);
    harness.enter(1).await;
}

/// Users can list their sessions and end them.
pub async fn own_sessions_are_listed_and_ended(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(harness.enter(1).await);
        harness.advance(Duration::from_mins(10));
    }
    let other = harness.enter(2).await;
    let [first, second, third] = &sessions[..] else { unreachable!("three sessions were created") };
    let current_user = harness.current_user(third).await;
    let listed = || async {
        let listed = harness.referral.sessions(&current_user).await.expect("list of sessions");
        listed.into_iter().map(|session| session.id).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [third.session, second.session, first.session]);

    harness.referral.end_session(&current_user, first.session).await.expect("ended");
    assert_eq!(listed().await, [third.session, second.session]);
    assert_refused(harness.referral.verify(&first.tokens.refresh, None).await, Refusal::TokenNotValid);
    assert_refused(harness.referral.refresh(&first.tokens.refresh).await, Refusal::TokenNotValid);
    for not_theirs in [first.session, other.session, SessionId(uuid::Uuid::nil())] {
        assert_refused(
            harness.referral.end_session(&current_user, not_theirs).await,
            Refusal::SessionNotFound,
        );
    }

    harness.enter(1).await;
    assert_eq!(harness.referral.end_other_sessions(&current_user).await.expect("ended"), 2);
    assert_eq!(harness.referral.end_other_sessions(&current_user).await.expect("none left"), 0);
    assert_eq!(listed().await, [third.session]);
    assert_refused(harness.referral.verify(&second.tokens.refresh, None).await, Refusal::TokenNotValid);
    harness.referral.authenticate(&third.tokens.access).await.expect("the current session is valid");
    harness.referral.authenticate(&other.tokens.access).await.expect("sessions of other users are valid");

    harness.advance(Duration::from_hours(30 * 24));
    assert_eq!(listed().await, [], "an unused session has expired");
}

/// A refresh token is sufficient to sign out. A second sign-out has no effect.
pub async fn refresh_token_ends_its_session(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    harness.advance(Duration::from_mins(20));
    assert_refused(harness.referral.sign_out(&anna.tokens.access).await, Refusal::TokenNotValid);
    assert!(harness.referral.sign_out(&anna.tokens.refresh).await.expect("signed out"));
    assert!(!harness.referral.sign_out(&anna.tokens.refresh).await.expect("already signed out"));
    assert_refused(harness.referral.refresh(&anna.tokens.refresh).await, Refusal::TokenNotValid);
}

/// A client that refreshes while the session is being ended gets invalid tokens or none.
pub async fn concurrent_refresh_does_not_restore_an_ended_session(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    let refreshed = in_parallel(16, |number| {
        let (harness, token) = (harness.clone(), anna.tokens.refresh.clone());
        async move {
            if number == 8 {
                assert!(harness.referral.sign_out(&token).await.expect("signed out"));
                return None;
            }
            harness.referral.refresh(&token).await.ok()
        }
    });
    for refreshed in refreshed.await.into_iter().flatten() {
        let access = harness.referral.authenticate(&refreshed.tokens.access).await;
        assert_refused(access, Refusal::TokenNotValid);
    }
}

/// A session shows the address and user agent of its last use. Values that a request does not contain are
/// kept.
pub async fn address_and_user_agent_of_a_session_are_updated(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let client = |address: &str, name: &str| {
        Client::default().address(address.parse::<IpAddr>().ok()).user_agent(name.to_owned())
    };
    let sent = harness.sent_code(&phone(1)).await;
    let from = client("2001:db8:1:2:3:4:5:6", "Фирефокс/1.0");
    let anna = harness.sign_in(SignIn { client: from, ..with_right_code(&sent) }).await.expect("signed in");
    let current_user = harness.current_user(&anna).await;
    let seen = || async {
        let session = harness.referral.sessions(&current_user).await.expect("list of sessions").remove(0);
        let address = session.address.map(|address| address.to_string()).unwrap_or_default();
        (address, session.user_agent.clone().unwrap_or_default(), session.last_used_at())
    };
    let start = crate::clock::to_seconds(harness.now());
    assert_eq!(seen().await, ("2001:db8:1:2::/64".into(), "Фирефокс/1.0".into(), start));

    harness.advance(PAST_GRACE);
    let refresh = Refresh::from(&anna.tokens.refresh).client(client("203.0.113.9", "curl"));
    let refreshed = harness.referral.refresh(refresh).await.expect("refreshed");
    assert_eq!(seen().await, ("203.0.113.9".into(), "curl".into(), start + PAST_GRACE));
    harness.referral.refresh(&refreshed.tokens.refresh).await.expect("refreshed");
    assert_eq!(seen().await.1, "curl");
}

/// A session that is not refreshed is active until its refresh token expires, and has ended from then on.
pub async fn session_ends_at_its_exact_time(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    let stored = harness.storage.session(anna.session, 0).await.expect("the storage responds");
    let end = stored.expect("existing session").session.ends_at();
    let listed = async |now| {
        let sessions = harness.storage.sessions(anna.user.id, now, None, 9).await.expect("list of sessions");
        sessions.len()
    };
    assert_eq!(listed(end - Duration::from_micros(1)).await, 1);
    assert_eq!(listed(end).await, 0);
    let end_at = async |now| {
        let ended = harness.storage.end_sessions(anna.user.id, SessionSelection::All, now, None).await;
        ended.expect("the storage responds")
    };
    assert_eq!(end_at(end).await, [], "the session has ended before");
    assert_eq!(end_at(end - Duration::from_micros(1)).await, [anna.session]);
}

/// Hook that records the sessions that end.
#[derive(Clone, Default)]
struct EndedSessions(Arc<Mutex<Vec<(SessionId, SessionEnd)>>>);

impl EndedSessions {
    fn take(&self) -> Vec<(SessionId, SessionEnd)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Hook for EndedSessions {
    async fn on_event(&self, event: &Event) {
        if let Event::SessionEnded(SessionEnded { session, reason, .. }) = event {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push((*session, *reason));
        }
    }
}

/// A sign-in beyond the maximum number of sessions ends the oldest active session. Sessions that have ended do
/// not count.
pub async fn sign_in_beyond_the_maximum_ends_the_oldest_session(storage: Arc<dyn Storage>) {
    let policy = Policy { max_sessions: Some(3), ..Policy::development() };
    let ended = EndedSessions::default();
    let hook = Arc::new(ended.clone());
    let harness = Harness::with_policy(storage, policy).with_builder(|builder| builder.hook(hook));
    let boris = harness.enter(2).await;
    let mut sessions = Vec::new();
    let enter = async |sessions: &mut Vec<_>| {
        // The sessions get the order of the sign-ins.
        harness.advance(Duration::from_millis(1));
        sessions.push(harness.enter(1).await);
    };
    for _ in 0..3 {
        enter(&mut sessions).await;
    }
    assert_eq!(ended.take(), []);
    enter(&mut sessions).await;
    assert_eq!(ended.take(), [(sessions[0].session, SessionEnd::SessionLimit)]);
    assert_refused(harness.referral.authenticate(&sessions[0].tokens.access).await, Refusal::TokenNotValid);
    assert_refused(harness.referral.refresh(&sessions[0].tokens.refresh).await, Refusal::TokenNotValid);

    let current_user = harness.current_user(&sessions[3]).await;
    harness.referral.end_session(&current_user, sessions[2].session).await.expect("ended");
    assert_eq!(ended.take(), [(sessions[2].session, SessionEnd::EndedElsewhere)]);
    enter(&mut sessions).await;
    assert_eq!(ended.take(), [], "there were two active sessions");
    enter(&mut sessions).await;
    assert_eq!(ended.take(), [(sessions[1].session, SessionEnd::SessionLimit)]);
    for active in [&sessions[3], &sessions[4], &sessions[5], &boris] {
        harness.referral.authenticate(&active.tokens.access).await.expect("an active session");
    }
    let stored = harness.storage.sessions(current_user.user.id, harness.now(), None, 10).await;
    assert_eq!(stored.expect("the storage responds").len(), 3);
}

/// The sign-in after concurrent ones leaves the maximum number of sessions.
pub async fn parallel_sign_ins_do_not_exceed_the_maximum_for_long(storage: Arc<dyn Storage>) {
    let policy = Policy { max_sessions: Some(2), ..Policy::development() };
    let harness = Harness::with_policy(storage, policy);
    let anna = harness.enter(1).await;
    let mut codes = Vec::new();
    for _ in 0..6 {
        codes.push(harness.sent_code(&phone(1)).await);
    }
    harness.advance(Duration::from_millis(1));
    let signed_in = in_parallel(6, |number| {
        let (harness, sent) = (harness.clone(), codes[number as usize].clone());
        async move { harness.sign_in(with_right_code(&sent)).await }
    });
    for signed_in in signed_in.await {
        signed_in.expect("signed in");
    }
    harness.advance(Duration::from_millis(1));
    let last = harness.enter(1).await;
    let stored = harness.storage.sessions(anna.user.id, harness.now(), None, 20).await;
    let stored = stored.expect("the storage responds");
    assert_eq!(stored.len(), 2);
    assert_eq!(stored[0].id, last.session);
}
