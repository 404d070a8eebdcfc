//! Sessions. A sign-in starts a session, and a refresh continues it.

pub(crate) mod claims;
pub(crate) mod jwt;
pub(crate) mod refresh;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use self::claims::{ClaimsError, ClaimsFn, CustomClaims};
use crate::{
    error::input::{InvalidInput, parse_id},
    rate_limit::client::{Client, ClientAddress},
    user::{User, UserId},
};

/// Id of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(pub Uuid);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SessionId {
    type Err = InvalidInput;

    fn from_str(input: &str) -> Result<Self, InvalidInput> {
        parse_id(input).map(Self)
    }
}

/// Contents of a pair of tokens, so that the same bytes can be signed again. The times are whole seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedTokens {
    /// Id of the signing key.
    pub key_id: String,
    /// Id (`jti`) of the access token.
    pub access_id: Uuid,
    /// Id (`jti`) of the refresh token.
    pub refresh_id: Uuid,
    /// Time at which both tokens were issued.
    #[serde(with = "crate::stored::micros")]
    pub issued_at: OffsetDateTime,
    /// Time from which the access token is not valid.
    #[serde(with = "crate::stored::micros")]
    pub access_expires_at: OffsetDateTime,
    /// Time from which the refresh token is not valid.
    #[serde(with = "crate::stored::micros")]
    pub refresh_expires_at: OffsetDateTime,
    /// Custom claims of the access token.
    pub claims: Option<CustomClaims>,
}

impl IssuedTokens {
    /// Returns the issued tokens with the custom claims of the user and the session.
    pub(crate) fn with_claims(
        self,
        claims: Option<&ClaimsFn>,
        user: &User,
        session: SessionId,
    ) -> Result<Self, ClaimsError> {
        let claims = claims.map(|claims| claims.call(user, session)).transpose()?.flatten();
        Ok(Self { claims, ..self })
    }

    /// Returns the issued tokens with expiry times that are not after the end of the session.
    pub(crate) fn ending_by(mut self, end: OffsetDateTime) -> Self {
        self.access_expires_at = self.access_expires_at.min(end);
        self.refresh_expires_at = self.refresh_expires_at.min(end);
        self
    }
}

/// Refresh token that was exchanged recently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupersededToken {
    /// Id (`jti`) of the token.
    pub refresh_id: Uuid,
    /// Time at which the token was exchanged.
    #[serde(with = "crate::stored::micros")]
    pub at: OffsetDateTime,
}

/// Session of a signed-in user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Id of the session.
    pub id: SessionId,
    /// User who is signed in.
    pub user: UserId,
    /// Time at which the session started.
    #[serde(with = "crate::stored::micros")]
    pub created_at: OffsetDateTime,
    /// Latest time at which the session ends, in whole seconds.
    #[serde(with = "crate::stored::micros")]
    pub expires_at: OffsetDateTime,
    /// Time at which the session was ended early.
    #[serde(with = "crate::stored::optional_micros")]
    pub revoked_at: Option<OffsetDateTime>,
    /// Tokens issued last.
    pub issued: IssuedTokens,
    /// `true` if the tokens issued last have been used. If so, the refresh token they were exchanged for is
    /// accepted only during the grace period.
    pub tokens_used: bool,
    /// Id (`jti`) of the refresh token that was exchanged for [`issued`](Self::issued) at the last refresh,
    /// whose time is [`IssuedTokens::issued_at`]. `None` before the first refresh.
    pub previous_refresh_id: Option<Uuid>,
    /// `true` if [`issued`](Self::issued) was returned again after the grace period.
    pub repeated_late: bool,
    /// Number of successive refreshes, before the last one, whose issued tokens were returned again after the
    /// grace period.
    pub late_repeats: u32,
    /// Older refresh tokens: those exchanged within the grace period before the last refresh.
    pub superseded: Vec<SupersededToken>,
    /// Address of the client when the tokens were issued last, if the embedding service passed it.
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
        !self.has_ended(now)
    }

    /// Returns `true` if the session was revoked, or if its refresh token has expired at `now`. Such a
    /// session cannot become active again.
    #[must_use]
    pub fn has_ended(&self, now: OffsetDateTime) -> bool {
        self.revoked_at.is_some() || now >= self.ends_at()
    }

    /// Returns the time from which the session has ended, if no token of it is refreshed any more.
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
#[expect(clippy::exhaustive_enums, reason = "a storage must select by each variant")]
pub enum SessionSelection {
    /// One session.
    One(SessionId),
    /// All sessions except one.
    AllExcept(SessionId),
    /// All sessions.
    All,
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const START: OffsetDateTime = datetime!(2026-11-30 12:00 UTC);
    const END: OffsetDateTime = datetime!(2026-12-30 12:00 UTC);
    const MICROSECOND: time::Duration = time::Duration::MICROSECOND;

    fn session() -> Session {
        let issued = IssuedTokens {
            key_id: "k1".to_owned(),
            access_id: Uuid::nil(),
            refresh_id: Uuid::nil(),
            issued_at: START,
            access_expires_at: START,
            refresh_expires_at: END,
            claims: None,
        };
        let (id, user) = (SessionId(Uuid::nil()), UserId(Uuid::nil()));
        Session::start(id, user, START, END + MICROSECOND, issued, Client::default())
    }

    #[test]
    fn session_ends_when_its_refresh_token_expires() {
        for (now, has_ended) in [(START, false), (END - MICROSECOND, false), (END, true)] {
            assert_eq!(
                (session().has_ended(now), session().is_active(now)),
                (has_ended, !has_ended),
                "{now}"
            );
        }
    }

    #[test]
    fn revoked_session_has_ended_even_by_a_clock_that_is_behind() {
        let revoked = Session { revoked_at: Some(START), ..session() };
        for now in [START - MICROSECOND, START, END] {
            assert!(revoked.has_ended(now) && !revoked.is_active(now), "{now}");
        }
        assert_eq!(revoked.ends_at(), START);
    }
}
