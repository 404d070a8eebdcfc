//! Sessions: what a sign-in begins, refreshing continues, and a stolen token ends.
//!
//! Every refresh exchanges the refresh token for a successor. The one exchanged last is still
//! honoured, with the very same successor, until that successor is seen in use: so a lost
//! response or a second tab signs nobody out. One exchanged before it can only be a copy.
//!
//! A thief who always refreshes just before the owner, and uses nothing, looks like a client that loses
//! each response. A response is lost now and then, but not every time: the third time in succession that a
//! successor is given out again after the grace ends the session. What remains is a thief who refreshes
//! within the same grace as the owner, each time: that is what a second tab does.

use std::{fmt, str::FromStr, time::Duration};

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Client, ClientAddress, Invalid, Refusal, UserId, clock::to_seconds, error::parse_id};

/// Number of refreshes in succession whose successor was given out again after the grace, at which the
/// session ends. Two responses in succession that are both lost and both asked for again only later are
/// possible on a bad network; of three it is more likely that a copy of the token is in use.
const MAX_LATE_REPEATS: u32 = 3;

/// The id of a session.
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

/// All that goes into a pair of tokens, so that the same bytes can be signed again.
/// The times are whole seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The id of the key that signs.
    pub key_id: String,
    /// The id (`jti`) of the access token.
    pub access_id: Uuid,
    /// The id (`jti`) of the refresh token.
    pub refresh_id: Uuid,
    /// When both were issued.
    pub issued_at: OffsetDateTime,
    /// From when on the access token is not valid.
    pub access_expires_at: OffsetDateTime,
    /// From when on the refresh token is not valid.
    pub refresh_expires_at: OffsetDateTime,
}

impl Grant {
    /// The same, ending no later than its session does.
    fn ending_by(mut self, end: OffsetDateTime) -> Self {
        self.access_expires_at = self.access_expires_at.min(end);
        self.refresh_expires_at = self.refresh_expires_at.min(end);
        self
    }
}

/// A refresh token that was exchanged a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retired {
    /// The id (`jti`) of the token.
    pub refresh_id: Uuid,
    /// When it was exchanged.
    pub at: OffsetDateTime,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The id.
    pub id: SessionId,
    /// Who is signed in.
    pub user: UserId,
    /// When the session began.
    pub created_at: OffsetDateTime,
    /// When it ends at the latest, in whole seconds.
    pub expires_at: OffsetDateTime,
    /// When it was ended before its time.
    pub revoked_at: Option<OffsetDateTime>,
    /// The tokens that were issued last.
    pub grant: Grant,
    /// Whether the tokens issued last have been seen in use, so that the refresh token they were
    /// exchanged for is honoured no longer.
    pub grant_used: bool,
    /// The refresh token that was exchanged for [`grant`](Self::grant); at
    /// [`Grant::issued_at`].
    pub parent: Option<Uuid>,
    /// Whether [`grant`](Self::grant) was given out again after the grace.
    pub repeated_late: bool,
    /// Number of refreshes in succession, before the last, of which that is true.
    pub late_repeats: u32,
    /// Older refresh tokens, those exchanged within the grace period before the last refresh.
    pub retired: Vec<Retired>,
    /// Where the user was when the tokens were issued last, as far as the host knows.
    pub address: Option<ClientAddress>,
    /// What program it was that got them, by its own account.
    pub user_agent: Option<String>,
}

impl Session {
    /// A session that begins.
    pub(crate) fn begin(
        id: SessionId,
        user: UserId,
        now: OffsetDateTime,
        expires_at: OffsetDateTime,
        grant: Grant,
        client: Client,
    ) -> Self {
        Self {
            id,
            user,
            created_at: now,
            expires_at,
            revoked_at: None,
            grant: grant.ending_by(expires_at),
            grant_used: true,
            parent: None,
            repeated_late: false,
            late_repeats: 0,
            retired: Vec::new(),
            address: client.address,
            user_agent: client.user_agent,
        }
    }

    /// When tokens were issued last: at the sign-in or the last refresh.
    #[must_use]
    pub fn last_used_at(&self) -> OffsetDateTime {
        self.grant.issued_at
    }

    /// Whether tokens of this session are worth looking at.
    #[must_use]
    pub fn is_live(&self, now: OffsetDateTime) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }

    /// When the session ends, if nothing is refreshed in it any more.
    #[must_use]
    pub fn ends_at(&self) -> OffsetDateTime {
        self.revoked_at.unwrap_or(self.grant.refresh_expires_at)
    }

    /// Whether a use of this access token must be noted, because it shows that the last refresh
    /// reached the client.
    pub(crate) fn must_note_use(&self, access_id: Uuid) -> bool {
        !self.grant_used && self.grant.access_id == access_id
    }
}

/// Sessions of one user that are to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedSessions {
    /// This one.
    One(SessionId),
    /// All but this one.
    Others(SessionId),
    /// All of them.
    All,
}

/// An exchange of a refresh token, as [`Storage::refresh`](crate::storage::Storage::refresh)
/// gets it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RefreshRequest {
    /// The session that the token names.
    pub session: SessionId,
    /// The id of the token.
    pub refresh_id: Uuid,
    /// The time.
    pub now: OffsetDateTime,
    /// What to issue if the token is exchanged.
    pub(crate) successor: Grant,
    /// How long a token that was exchanged is harmless to see again, whatever happened since.
    pub(crate) grace: Duration,
    pub(crate) client: Client,
}

/// What is to become of a session whose refresh token was presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshDecision {
    /// Store this in place of the session; its grant is the answer.
    Rotate(Session),
    /// The session's grant is the answer, once more. Store this in place of the session, if anything.
    Repeat(Option<Session>),
    /// Store this in place of the session and refuse with [`Refusal::RefreshReused`].
    Revoke(Session),
    /// Store nothing and refuse.
    Refuse(Refusal),
}

impl RefreshRequest {
    /// Decides, knowing the session and whether its user is active.
    #[must_use]
    pub fn decide(&self, session: &Session, user_is_active: bool) -> RefreshDecision {
        if !session.is_live(self.now) || !user_is_active {
            return RefreshDecision::Refuse(Refusal::TokenNotValid);
        }
        if self.refresh_id == session.grant.refresh_id {
            return RefreshDecision::Rotate(self.rotated(session));
        }
        if session.parent == Some(self.refresh_id) {
            return self.repeat(session);
        }
        let is_recent = |retired: &Retired| is_within(self.grace, retired.at, self.now);
        if session.retired.iter().any(|retired| retired.refresh_id == self.refresh_id && is_recent(retired)) {
            return RefreshDecision::Refuse(Refusal::TokenNotValid);
        }
        self.revoke(session)
    }

    /// Decides about the token that was exchanged last: its successor may not have arrived.
    fn repeat(&self, session: &Session) -> RefreshDecision {
        if is_within(self.grace, session.grant.issued_at, self.now) {
            return RefreshDecision::Repeat(None);
        }
        if session.grant_used || session.late_repeats + 1 >= MAX_LATE_REPEATS {
            return self.revoke(session);
        }
        let repeated = Session { repeated_late: true, ..session.clone() };
        RefreshDecision::Repeat(Some(repeated).filter(|_| !session.repeated_late))
    }

    fn revoke(&self, session: &Session) -> RefreshDecision {
        RefreshDecision::Revoke(Session { revoked_at: Some(self.now), ..session.clone() })
    }

    fn rotated(&self, session: &Session) -> Session {
        let just_retired =
            session.parent.map(|refresh_id| Retired { refresh_id, at: session.grant.issued_at });
        let retired = session.retired.iter().copied().chain(just_retired);
        Session {
            grant: self.successor.clone().ending_by(session.expires_at),
            grant_used: false,
            parent: Some(session.grant.refresh_id),
            repeated_late: false,
            late_repeats: if session.repeated_late { session.late_repeats + 1 } else { 0 },
            retired: newest(retired.filter(|retired| is_within(self.grace, retired.at, self.now)).collect()),
            address: self.client.address.or(session.address),
            user_agent: self.client.user_agent.clone().or_else(|| session.user_agent.clone()),
            ..session.clone()
        }
    }
}

/// Whether `now` is no more than `grace` after `at`, which was cut to the second: so up to one
/// second more, and never less.
fn is_within(grace: Duration, at: OffsetDateTime, now: OffsetDateTime) -> bool {
    to_seconds(now) <= at + grace
}

/// The newest of them, as many as are kept: an honest client exchanges a token or two within the
/// grace, and a row must not grow with one that does nothing else.
fn newest(mut retired: Vec<Retired>) -> Vec<Retired> {
    const KEPT: usize = 16;
    retired.drain(..retired.len().saturating_sub(KEPT));
    retired
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const GRACE: Duration = Duration::from_secs(30);

    /// A grant whose refresh token has the number `generation`, issued `seconds` after the start.
    fn grant(generation: u128, seconds: u64) -> Grant {
        let issued_at = START + Duration::from_secs(seconds);
        Grant {
            key_id: "k1".into(),
            access_id: Uuid::from_u128(100 + generation),
            refresh_id: Uuid::from_u128(generation),
            issued_at,
            access_expires_at: issued_at + Duration::from_mins(15),
            refresh_expires_at: issued_at + Duration::from_hours(1),
        }
    }

    fn session() -> Session {
        let end = START + Duration::from_hours(24);
        Session::begin(
            SessionId(Uuid::nil()),
            UserId(Uuid::nil()),
            START,
            end,
            grant(0, 0),
            Client::default(),
        )
    }

    /// Presents token `generation`, `seconds` after the start; `next` is what it may become.
    fn present(session: &Session, generation: u128, seconds: u64, next: u128) -> RefreshDecision {
        let request = RefreshRequest {
            session: session.id,
            refresh_id: Uuid::from_u128(generation),
            now: START + Duration::from_secs(seconds),
            successor: grant(next, seconds),
            grace: GRACE,
            client: Client::default(),
        };
        request.decide(session, true)
    }

    fn rotate(session: &Session, generation: u128, seconds: u64) -> Session {
        match present(session, generation, seconds, generation + 1) {
            RefreshDecision::Rotate(session) => session,
            other => panic!("not rotated: {other:?}"),
        }
    }

    #[test]
    fn the_current_token_is_exchanged_and_its_parent_repeats_the_successor() {
        let rotated = rotate(&session(), 0, 1_000);
        assert_eq!(rotated.grant, grant(1, 1_000));
        assert_eq!(present(&rotated, 0, 1_000, 9), RefreshDecision::Repeat(None));
        let late = Session { repeated_late: true, ..rotated.clone() };
        let repeated = RefreshDecision::Repeat(Some(late.clone()));
        assert_eq!(present(&rotated, 0, 80_000, 9), repeated, "the successor was never used");
        assert_eq!(present(&late, 0, 80_000, 9), RefreshDecision::Repeat(None));
    }

    #[test]
    fn the_parent_of_a_used_successor_ends_the_session_after_the_grace() {
        let used = Session { grant_used: true, ..rotate(&session(), 0, 1_000) };
        assert_eq!(present(&used, 0, 1_030, 9), RefreshDecision::Repeat(None));
        let RefreshDecision::Revoke(revoked) = present(&used, 0, 1_031, 9) else {
            panic!("not revoked");
        };
        assert!(!revoked.is_live(START + Duration::from_secs(1_031)));
    }

    /// The owner and the thief of a refresh token: each presents the newest token it has. The thief uses no
    /// access token, and the owner uses each.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Actor {
        Owner,
        Thief,
    }

    /// Returns the step at which the session ends, if it does. `pause` is the time between two steps.
    fn detected_at(steps: &[Actor], pause: u64) -> Option<usize> {
        let (mut session, mut seconds) = (session(), 0);
        let mut held = [0_u128; 2];
        for (index, actor) in steps.iter().enumerate() {
            seconds += pause;
            let generation = held[*actor as usize];
            let next = 1 + index as u128;
            match present(&session, generation, seconds, next) {
                RefreshDecision::Rotate(changed) | RefreshDecision::Repeat(Some(changed)) => {
                    session = changed;
                }
                RefreshDecision::Repeat(None) => {}
                RefreshDecision::Revoke(_) => return Some(index),
                RefreshDecision::Refuse(refusal) => panic!("{refusal:?}"),
            }
            held[*actor as usize] = session.grant.refresh_id.as_u128();
            session.grant_used |= *actor == Actor::Owner;
        }
        None
    }

    /// All sequences of `length` steps.
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
            // Up to there only one of them refreshed, or they took turns fewer than three times.
            let quiet = &steps[..end.unwrap_or(steps.len())];
            let changes = quiet.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(changes < 2 * MAX_LATE_REPEATS as usize, "{steps:?} ends at {end:?}");
            if end.is_some() {
                detected += 1;
            } else {
                alone += 1;
                // Nothing was refreshed by the other after the first turns: there is nothing to detect yet.
                let last = steps[steps.len() - 1];
                let tail = steps.iter().rev().take_while(|actor| **actor == last).count();
                assert!(tail >= steps.len() - 2 * MAX_LATE_REPEATS as usize, "{steps:?}");
            }
        }
        assert!(detected > 4_000 && alone > 2, "{detected} detected, {alone} not");
    }

    #[test]
    fn a_thief_within_the_same_grace_as_the_owner_looks_like_a_second_tab() {
        let turns = [Actor::Thief, Actor::Owner].repeat(20);
        assert_eq!(detected_at(&turns, 10), None);
        assert!(detected_at(&turns, 60).is_some());
    }

    #[test]
    fn a_client_that_loses_two_responses_in_succession_stays_signed_in() {
        let mut session = session();
        for generation in 0..20 {
            let seconds = 1_000 * u64::try_from(generation).expect("few");
            session = rotate(&session, generation, seconds);
            if generation % 3 != 0 {
                let repeated = present(&session, generation, seconds + 500, 99);
                let RefreshDecision::Repeat(Some(repeated)) = repeated else { panic!("{repeated:?}") };
                session = repeated;
            }
        }
    }

    #[test]
    fn an_older_token_ends_the_session_unless_it_was_exchanged_a_moment_ago() {
        let twice = rotate(&rotate(&session(), 0, 1_000), 1, 1_010);
        assert_eq!(present(&twice, 0, 1_030, 9), RefreshDecision::Refuse(Refusal::TokenNotValid));
        assert!(matches!(present(&twice, 0, 1_031, 9), RefreshDecision::Revoke(_)));

        let thrice = rotate(&twice, 2, 1_020);
        assert_eq!(present(&thrice, 0, 1_030, 9), RefreshDecision::Refuse(Refusal::TokenNotValid));
        assert!(matches!(present(&thrice, 0, 1_031, 9), RefreshDecision::Revoke(_)));
        assert_eq!(present(&thrice, 1, 1_040, 9), RefreshDecision::Refuse(Refusal::TokenNotValid));
        assert!(rotate(&thrice, 3, 2_000).retired.is_empty(), "what is past the grace is forgotten");
    }

    #[test]
    fn a_session_does_not_grow_with_its_refreshes() {
        let mut busy = session();
        for generation in 0..100 {
            busy = rotate(&busy, generation, 1_000);
        }
        assert_eq!(busy.retired.len(), 16);
        assert_eq!(present(&busy, 98, 1_000, 999), RefreshDecision::Refuse(Refusal::TokenNotValid));
    }

    #[test]
    fn an_ended_session_and_an_inactive_user_refresh_nothing() {
        let refused = RefreshDecision::Refuse(Refusal::TokenNotValid);
        assert_eq!(present(&session(), 0, 86_400, 1), refused);
        let revoked = Session { revoked_at: Some(START), ..session() };
        assert_eq!(present(&revoked, 0, 1, 1), refused);
        assert_eq!(present(&revoked, 7, 1, 1), refused, "an ended session ends only once");

        let request = RefreshRequest {
            session: session().id,
            refresh_id: Uuid::from_u128(0),
            now: START,
            successor: grant(1, 0),
            grace: GRACE,
            client: Client::default(),
        };
        assert_eq!(request.decide(&session(), false), refused);
    }

    #[test]
    fn no_token_outlives_its_session() {
        let rotated = rotate(&session(), 0, 86_399);
        assert_eq!(rotated.grant.refresh_expires_at, rotated.expires_at);
        assert_eq!(rotated.grant.access_expires_at, rotated.expires_at);
    }
}
