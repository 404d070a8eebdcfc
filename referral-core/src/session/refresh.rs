//! Rule of exchanging a refresh token. The use of a stolen refresh token ends its session.
//!
//! Every refresh exchanges the refresh token for a successor. The token exchanged last still returns the same
//! successor during the grace period, and after it until that successor is used. So a lost response or a
//! second tab does not end the session. A token exchanged earlier than that can only be a copy.
//!
//! A thief who always refreshes just before the owner, and uses no access token, looks like a client that
//! loses each response. A response is lost occasionally, but not every time. A session therefore ends at the
//! third successive refresh whose successor is returned again after the grace period. A thief who refreshes
//! within the same grace period as the owner, each time, is not detected, because a second tab does the same.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    clock::to_seconds,
    decision::Decision,
    error::refusal::Refusal,
    rate_limit::client::Client,
    session::{
        IssuedTokens, Session, SessionId, SupersededToken,
        claims::{ClaimsError, ClaimsFn},
    },
    user::User,
};

/// Number of successive refreshes whose successor was returned again after the grace period, at which the
/// session ends. Two successive responses that are both lost and both requested again only later are possible
/// on a bad network. With three, it is more likely that a copy of the token is in use.
const MAX_LATE_REPEATS: u32 = 3;

/// Precision of [`User::last_active`]. A smaller one would write the user more often: clients refresh every
/// few minutes.
const ACTIVITY_PRECISION: Duration = Duration::from_hours(24);

/// Exchange of a refresh token, as [`SessionStorage::refresh`](crate::storage::SessionStorage::refresh)
/// receives it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RefreshRequest {
    /// Session that the token names.
    pub session: SessionId,
    /// Id of the token.
    pub refresh_id: Uuid,
    /// Current time.
    pub now: OffsetDateTime,
    /// Tokens to issue if the token is exchanged.
    pub(crate) successor: IssuedTokens,
    /// Grace period: time after the exchange of a token during which a repeated use of it does not end the
    /// session.
    pub(crate) grace: Duration,
    pub(crate) claims: Option<ClaimsFn>,
    pub(crate) client: Client,
}

/// Stored data on which [`RefreshRequest::decide`] depends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshFacts {
    /// Session that the token names.
    pub session: Session,
    /// User of the session.
    pub user: User,
}

/// Changes of a decision about the exchange of a refresh token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefreshWrites {
    /// Session to store in place of the current one, if it changes.
    pub session: Option<Session>,
    /// [`User::last_active`] to store for the user of the session, if it changes.
    pub last_active: Option<OffsetDateTime>,
}

/// Decision about a session whose refresh token was presented. The outcome is the session whose issued tokens
/// are to be signed.
pub type RefreshDecision = Decision<RefreshWrites, Result<Session, Refusal>>;

impl RefreshRequest {
    /// Decides about the exchange. `facts` is `None` if the session does not exist.
    ///
    /// # Errors
    ///
    /// [`ClaimsError`] if the function of the [custom claims](crate::ReferralServiceBuilder::claims) fails.
    pub fn decide(&self, facts: Option<&RefreshFacts>) -> Result<RefreshDecision, ClaimsError> {
        let is_active = |facts: &&RefreshFacts| facts.session.is_active(self.now) && facts.user.is_active;
        let Some(RefreshFacts { session, user }) = facts.filter(is_active) else {
            return Ok(Decision::refuse(Refusal::TokenNotValid));
        };
        if self.refresh_id == session.issued.refresh_id {
            let last_active = (user.last_seen() + ACTIVITY_PRECISION <= self.now).then_some(self.now);
            let Decision { writes, outcome } = store(self.rotated(session, user)?);
            return Ok(Decision { writes: RefreshWrites { last_active, ..writes }, outcome });
        }
        Ok(self.decide_exchanged(session))
    }

    /// Decides about a token that was exchanged before, or that never was a token of the session.
    fn decide_exchanged(&self, session: &Session) -> RefreshDecision {
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
            return Decision { writes: RefreshWrites::default(), outcome: Ok(session.clone()) };
        }
        store(Session { repeated_late: true, ..session.clone() })
    }

    fn revoke(&self, session: &Session) -> RefreshDecision {
        let revoked = Session { revoked_at: Some(self.now), ..session.clone() };
        let writes = RefreshWrites { session: Some(revoked), last_active: None };
        Decision { writes, outcome: Err(Refusal::RefreshReused) }
    }

    fn rotated(&self, session: &Session, user: &User) -> Result<Session, ClaimsError> {
        let issued = self.successor.clone().with_claims(self.claims.as_ref(), user, session.id)?;
        let just_superseded = session
            .previous_refresh_id
            .map(|refresh_id| SupersededToken { refresh_id, at: session.issued.issued_at });
        let superseded = session.superseded.iter().copied().chain(just_superseded);
        Ok(Session {
            issued: issued.ending_by(session.expires_at),
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
        })
    }
}

/// Stores the session, and returns it.
fn store(session: Session) -> RefreshDecision {
    let writes = RefreshWrites { session: Some(session.clone()), last_active: None };
    Decision { writes, outcome: Ok(session) }
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
mod tests;
