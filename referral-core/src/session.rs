//! Sessions. A sign-in starts a session, a refresh continues it, and the use of a stolen refresh token ends
//! it.
//!
//! Every refresh exchanges the refresh token for a successor. The token exchanged last is still accepted, and
//! returns the same successor, until that successor is used. A lost response or a second tab thus does not
//! end the session. A token exchanged earlier than that can only be a copy.
//!
//! A thief who always refreshes just before the owner, and uses no access token, looks like a client that
//! loses each response. A response is lost occasionally, but not every time. A session therefore ends at the
//! third successive refresh whose successor is returned again after the grace period. A thief who refreshes
//! within the same grace period as the owner, each time, is not detected, because a second tab does the same.

pub(crate) mod jwt;
pub(crate) mod key_registry;
pub mod keys;

use std::{fmt, str::FromStr, time::Duration};

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Client, ClientAddress, Invalid, Refusal, UserId, clock::to_seconds, decision::Decision, error::parse_id,
};

/// Number of successive refreshes whose successor was returned again after the grace period, at which the
/// session ends. Two successive responses that are both lost and both requested again only later are possible
/// on a bad network. With three, it is more likely that a copy of the token is in use.
const MAX_LATE_REPEATS: u32 = 3;

/// Identifier of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub Uuid);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SessionId {
    type Err = Invalid;

    fn from_str(input: &str) -> Result<Self, Invalid> {
        parse_id(input).map(Self)
    }
}

/// Contents of a pair of tokens, so that the same bytes can be signed again. The times are whole seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedTokens {
    /// Identifier of the signing key.
    pub key_id: String,
    /// Identifier (`jti`) of the access token.
    pub access_id: Uuid,
    /// Identifier (`jti`) of the refresh token.
    pub refresh_id: Uuid,
    /// Time at which both tokens were issued.
    pub issued_at: OffsetDateTime,
    /// Time from which the access token is not valid.
    pub access_expires_at: OffsetDateTime,
    /// Time from which the refresh token is not valid.
    pub refresh_expires_at: OffsetDateTime,
}

impl IssuedTokens {
    /// Returns the issued tokens with expiry times that are not after the end of the session.
    fn ending_by(mut self, end: OffsetDateTime) -> Self {
        self.access_expires_at = self.access_expires_at.min(end);
        self.refresh_expires_at = self.refresh_expires_at.min(end);
        self
    }
}

/// Refresh token that was exchanged recently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupersededToken {
    /// Identifier (`jti`) of the token.
    pub refresh_id: Uuid,
    /// Time at which the token was exchanged.
    pub at: OffsetDateTime,
}

/// Session of a signed-in user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Identifier of the session.
    pub id: SessionId,
    /// User who is signed in.
    pub user: UserId,
    /// Time at which the session started.
    pub created_at: OffsetDateTime,
    /// Latest time at which the session ends, in whole seconds.
    pub expires_at: OffsetDateTime,
    /// Time at which the session was ended early.
    pub revoked_at: Option<OffsetDateTime>,
    /// Tokens issued last.
    pub issued: IssuedTokens,
    /// `true` if the tokens issued last have been used. If so, the refresh token they were exchanged for is no
    /// longer accepted.
    pub tokens_used: bool,
    /// Refresh token that was exchanged for [`issued`](Self::issued) at [`IssuedTokens::issued_at`].
    pub previous_refresh_id: Option<Uuid>,
    /// `true` if [`issued`](Self::issued) was returned again after the grace period.
    pub repeated_late: bool,
    /// Number of successive refreshes, before the last one, whose issued tokens were returned again after the grace
    /// period.
    pub late_repeats: u32,
    /// Older refresh tokens: those exchanged within the grace period before the last refresh.
    pub superseded: Vec<SupersededToken>,
    /// Address of the client when the tokens were issued last, if the host knows it.
    pub address: Option<ClientAddress>,
    /// User agent of that client, as the client reported it.
    pub user_agent: Option<String>,
}

impl Session {
    /// Creates a session that starts now.
    pub(crate) fn start(
        id: SessionId,
        user: UserId,
        now: OffsetDateTime,
        expires_at: OffsetDateTime,
        issued: IssuedTokens,
        client: Client,
    ) -> Self {
        Self {
            id,
            user,
            created_at: now,
            expires_at,
            revoked_at: None,
            issued: issued.ending_by(expires_at),
            tokens_used: true,
            previous_refresh_id: None,
            repeated_late: false,
            late_repeats: 0,
            superseded: Vec::new(),
            address: client.address,
            user_agent: client.user_agent,
        }
    }

    /// Returns the time at which tokens were issued last: at the sign-in or the last refresh.
    #[must_use]
    pub fn last_used_at(&self) -> OffsetDateTime {
        self.issued.issued_at
    }

    /// Returns `true` if the session has not ended, so that its tokens may be valid.
    #[must_use]
    pub fn is_active(&self, now: OffsetDateTime) -> bool {
        self.revoked_at.is_none() && now < self.ends_at()
    }

    /// Returns the time at which the session ends if no token of it is refreshed any more.
    #[must_use]
    pub fn ends_at(&self) -> OffsetDateTime {
        self.revoked_at.unwrap_or(self.issued.refresh_expires_at)
    }

    /// Returns `true` if a use of this access token must be recorded, because it shows that the client
    /// received the response of the last refresh.
    pub(crate) fn needs_use_recorded(&self, access_id: Uuid) -> bool {
        !self.tokens_used && self.issued.access_id == access_id
    }
}

/// Sessions of one user to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionSelection {
    /// One session.
    One(SessionId),
    /// All sessions except one.
    AllExcept(SessionId),
    /// All sessions.
    All,
}

/// Exchange of a refresh token, as [`Storage::refresh`](crate::storage::Storage::refresh) receives it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RefreshRequest {
    /// Session that the token names.
    pub session: SessionId,
    /// Identifier of the token.
    pub refresh_id: Uuid,
    /// Current time.
    pub now: OffsetDateTime,
    /// Tokens to issue if the token is exchanged.
    pub(crate) successor: IssuedTokens,
    /// Grace period: time after the exchange of a token during which a repeated use of it does not end the
    /// session.
    pub(crate) grace: Duration,
    pub(crate) client: Client,
}

/// Stored data on which [`RefreshRequest::decide`] depends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshFacts {
    /// Session that the token names.
    pub session: Session,
    /// `true` if the user of the session is active.
    pub user_is_active: bool,
}

/// Decision about a session whose refresh token was presented. The changes to store are the new version of
/// the session, if it changes. The outcome is the session whose issued tokens are to be signed.
pub type RefreshDecision = Decision<Option<Session>, Result<Session, Refusal>>;

impl RefreshRequest {
    /// Decides about the exchange. `facts` is `None` if the session does not exist.
    #[must_use]
    pub fn decide(&self, facts: Option<&RefreshFacts>) -> RefreshDecision {
        let is_active = |facts: &&RefreshFacts| facts.session.is_active(self.now) && facts.user_is_active;
        let Some(RefreshFacts { session, .. }) = facts.filter(is_active) else {
            return Decision::refuse(Refusal::TokenNotValid);
        };
        if self.refresh_id == session.issued.refresh_id {
            return store(self.rotated(session));
        }
        if session.previous_refresh_id == Some(self.refresh_id) {
            return self.repeat(session);
        }
        let is_recent = |superseded: &SupersededToken| is_within(self.grace, superseded.at, self.now);
        if session
            .superseded
            .iter()
            .any(|superseded| superseded.refresh_id == self.refresh_id && is_recent(superseded))
        {
            return Decision::refuse(Refusal::TokenNotValid);
        }
        self.revoke(session)
    }

    /// Decides about the token that was exchanged last, whose successor may not have reached the client.
    fn repeat(&self, session: &Session) -> RefreshDecision {
        let is_within_grace = is_within(self.grace, session.issued.issued_at, self.now);
        if !is_within_grace && (session.tokens_used || session.late_repeats + 1 >= MAX_LATE_REPEATS) {
            return self.revoke(session);
        }
        if is_within_grace || session.repeated_late {
            return Decision { writes: None, outcome: Ok(session.clone()) };
        }
        store(Session { repeated_late: true, ..session.clone() })
    }

    fn revoke(&self, session: &Session) -> RefreshDecision {
        let revoked = Session { revoked_at: Some(self.now), ..session.clone() };
        Decision { writes: Some(revoked), outcome: Err(Refusal::RefreshReused) }
    }

    fn rotated(&self, session: &Session) -> Session {
        let just_superseded = session
            .previous_refresh_id
            .map(|refresh_id| SupersededToken { refresh_id, at: session.issued.issued_at });
        let superseded = session.superseded.iter().copied().chain(just_superseded);
        Session {
            issued: self.successor.clone().ending_by(session.expires_at),
            tokens_used: false,
            previous_refresh_id: Some(session.issued.refresh_id),
            repeated_late: false,
            late_repeats: if session.repeated_late { session.late_repeats + 1 } else { 0 },
            superseded: newest(
                superseded.filter(|superseded| is_within(self.grace, superseded.at, self.now)).collect(),
            ),
            address: self.client.address.or(session.address),
            user_agent: self.client.user_agent.clone().or_else(|| session.user_agent.clone()),
            ..session.clone()
        }
    }
}

/// Stores the session, and returns it.
fn store(session: Session) -> RefreshDecision {
    Decision { writes: Some(session.clone()), outcome: Ok(session) }
}

/// Returns `true` if `now` is at most `grace` after `at`. Since `at` was truncated to the second, up to one
/// second more is accepted, and never less than `grace`.
fn is_within(grace: Duration, at: OffsetDateTime, now: OffsetDateTime) -> bool {
    to_seconds(now) <= at + grace
}

/// Returns the newest tokens, as many as are kept. A correct client exchanges one or two tokens within the
/// grace period, and a row must not grow without bound if a client exchanges more.
fn newest(mut superseded: Vec<SupersededToken>) -> Vec<SupersededToken> {
    const KEPT: usize = 16;
    superseded.drain(..superseded.len().saturating_sub(KEPT));
    superseded
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const GRACE: Duration = Duration::from_secs(30);

    /// Returns issued tokens whose refresh token has the number `generation`, issued `seconds` after the start.
    fn issued(generation: u128, seconds: u64) -> IssuedTokens {
        let issued_at = START + Duration::from_secs(seconds);
        IssuedTokens {
            key_id: "k1".into(),
            access_id: Uuid::from_u128(100 + generation),
            refresh_id: Uuid::from_u128(generation),
            issued_at,
            access_expires_at: issued_at + Duration::from_mins(15),
            refresh_expires_at: issued_at + Duration::from_hours(24),
        }
    }

    fn session() -> Session {
        let end = START + Duration::from_hours(24);
        Session::start(
            SessionId(Uuid::nil()),
            UserId(Uuid::nil()),
            START,
            end,
            issued(0, 0),
            Client::default(),
        )
    }

    /// Presents token `generation`, `seconds` after the start. `next` is the number of its successor if it is
    /// exchanged.
    fn present(session: &Session, generation: u128, seconds: u64, next: u128) -> RefreshDecision {
        let request = RefreshRequest {
            session: session.id,
            refresh_id: Uuid::from_u128(generation),
            now: START + Duration::from_secs(seconds),
            successor: issued(next, seconds),
            grace: GRACE,
            client: Client::default(),
        };
        request.decide(Some(&RefreshFacts { session: session.clone(), user_is_active: true }))
    }

    /// Returns the same tokens again, and stores nothing.
    fn repeat(session: &Session) -> RefreshDecision {
        Decision { writes: None, outcome: Ok(session.clone()) }
    }

    fn rotate(session: &Session, generation: u128, seconds: u64) -> Session {
        let decision = present(session, generation, seconds, generation + 1);
        assert_eq!(decision.writes.as_ref(), decision.outcome.as_ref().ok(), "stored and returned");
        let rotated = decision.outcome.expect("rotated");
        assert_eq!(rotated.issued.refresh_id, Uuid::from_u128(generation + 1));
        rotated
    }

    #[test]
    fn current_token_is_exchanged_and_its_parent_returns_the_same_successor() {
        let rotated = rotate(&session(), 0, 1_000);
        assert_eq!(rotated.issued, issued(1, 1_000).ending_by(rotated.expires_at));
        assert_eq!(present(&rotated, 0, 1_000, 9), repeat(&rotated));
        let late = Session { repeated_late: true, ..rotated.clone() };
        assert_eq!(present(&rotated, 0, 80_000, 9), store(late.clone()), "the successor was not used");
        assert_eq!(present(&late, 0, 80_000, 9), repeat(&late));
    }

    #[test]
    fn parent_of_a_used_successor_ends_the_session_after_the_grace_period() {
        let used = Session { tokens_used: true, ..rotate(&session(), 0, 1_000) };
        assert_eq!(present(&used, 0, 1_030, 9), repeat(&used));
        let Decision { writes, outcome } = present(&used, 0, 1_031, 9);
        assert_eq!(outcome, Err(Refusal::RefreshReused));
        assert!(!writes.expect("revoked").is_active(START + Duration::from_secs(1_031)));
    }

    /// Owner and thief of a refresh token. Each presents the newest token it has. The thief uses no access
    /// token, and the owner uses each.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Actor {
        Owner,
        Thief,
    }

    /// Returns the step at which the session ends, or `None` if it does not end. `pause` is the time between
    /// two steps.
    fn detected_at(steps: &[Actor], pause: u64) -> Option<usize> {
        let (mut session, mut seconds) = (session(), 0);
        let mut held = [0_u128; 2];
        for (index, actor) in steps.iter().enumerate() {
            seconds += pause;
            let generation = held[*actor as usize];
            let next = 1 + index as u128;
            match present(&session, generation, seconds, next).outcome {
                Ok(returned) => session = returned,
                Err(Refusal::RefreshReused) => return Some(index),
                Err(refusal) => panic!("{refusal:?}"),
            }
            held[*actor as usize] = session.issued.refresh_id.as_u128();
            session.tokens_used |= *actor == Actor::Owner;
        }
        None
    }

    /// Returns all sequences of `length` steps.
    fn interleavings(length: u32) -> impl Iterator<Item = Vec<Actor>> {
        (0..1_u32 << length).map(move |bits| {
            let actor = |step| if bits >> step & 1 == 0 { Actor::Owner } else { Actor::Thief };
            (0..length).map(actor).collect()
        })
    }

    #[test]
    fn every_interleaving_of_owner_and_thief_ends_the_session() {
        const LENGTH: u32 = 12;
        let (mut detected, mut alone) = (0, 0);
        for steps in interleavings(LENGTH) {
            let end = detected_at(&steps, 60);
            // Before that step only one of them refreshed, or they alternated fewer than three times.
            let quiet = &steps[..end.unwrap_or(steps.len())];
            let changes = quiet.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(changes < 2 * MAX_LATE_REPEATS as usize, "{steps:?} ends at {end:?}");
            if end.is_some() {
                detected += 1;
            } else {
                alone += 1;
                // The other one refreshed nothing after the first turns, so there is nothing to detect yet.
                let last = steps[steps.len() - 1];
                let tail = steps.iter().rev().take_while(|actor| **actor == last).count();
                assert!(tail >= steps.len() - 2 * MAX_LATE_REPEATS as usize, "{steps:?}");
            }
        }
        assert!(detected > 4_000 && alone > 2, "{detected} detected, {alone} not");
    }

    #[test]
    fn thief_who_refreshes_within_the_grace_period_of_the_owner_is_not_detected() {
        let turns = [Actor::Thief, Actor::Owner].repeat(20);
        assert_eq!(detected_at(&turns, 10), None);
        assert!(detected_at(&turns, 60).is_some());
    }

    #[test]
    fn client_that_loses_two_successive_responses_stays_signed_in() {
        let mut session = session();
        for generation in 0..20 {
            let seconds = 1_000 * u64::try_from(generation).expect("few");
            session = rotate(&session, generation, seconds);
            if generation % 3 != 0 {
                let repeated = present(&session, generation, seconds + 500, 99);
                session = repeated.writes.expect("the late repeat is recorded");
            }
        }
    }

    #[test]
    fn older_token_ends_the_session_unless_it_was_exchanged_within_the_grace_period() {
        let twice = rotate(&rotate(&session(), 0, 1_000), 1, 1_010);
        assert_eq!(present(&twice, 0, 1_030, 9), Decision::refuse(Refusal::TokenNotValid));
        assert_eq!(present(&twice, 0, 1_031, 9).outcome, Err(Refusal::RefreshReused));

        let thrice = rotate(&twice, 2, 1_020);
        assert_eq!(present(&thrice, 0, 1_030, 9), Decision::refuse(Refusal::TokenNotValid));
        assert_eq!(present(&thrice, 0, 1_031, 9).outcome, Err(Refusal::RefreshReused));
        assert_eq!(present(&thrice, 1, 1_040, 9), Decision::refuse(Refusal::TokenNotValid));
        assert!(rotate(&thrice, 3, 2_000).superseded.is_empty(), "tokens are dropped after the grace period");
    }

    #[test]
    fn number_of_superseded_tokens_is_bounded() {
        let mut busy = session();
        for generation in 0..100 {
            busy = rotate(&busy, generation, 1_000);
        }
        assert_eq!(busy.superseded.len(), 16);
        assert_eq!(present(&busy, 98, 1_000, 999), Decision::refuse(Refusal::TokenNotValid));
    }

    #[test]
    fn refresh_is_refused_for_an_unknown_or_ended_session_and_an_inactive_user() {
        let refused = Decision::refuse(Refusal::TokenNotValid);
        assert_eq!(present(&session(), 0, 86_400, 1), refused);
        let revoked = Session { revoked_at: Some(START), ..session() };
        assert_eq!(present(&revoked, 0, 1, 1), refused);
        assert_eq!(present(&revoked, 7, 1, 1), refused, "a session that has ended is not ended again");

        let request = RefreshRequest {
            session: session().id,
            refresh_id: Uuid::from_u128(0),
            now: START,
            successor: issued(1, 0),
            grace: GRACE,
            client: Client::default(),
        };
        assert_eq!(request.decide(None), refused);
        let facts = RefreshFacts { session: session(), user_is_active: false };
        assert_eq!(request.decide(Some(&facts)), refused);
    }

    #[test]
    fn tokens_expire_no_later_than_their_session() {
        let rotated = rotate(&session(), 0, 86_399);
        assert_eq!(rotated.issued.refresh_expires_at, rotated.expires_at);
        assert_eq!(rotated.issued.access_expires_at, rotated.expires_at);
    }
}
