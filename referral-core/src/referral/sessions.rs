//! One's own sessions: which there are, and how they end.

use super::{Bearer, Referral};
use crate::{
    Error, Event, Refusal, Session, SessionEnd, SessionId, TokenKind, UserId, session::EndedSessions,
};

/// How many sessions [`Referral::sessions`] shows.
pub const SESSIONS_SHOWN: u32 = 100;

impl Referral {
    /// Signs out: ends the session of a refresh token, which is enough when the access token has
    /// expired. Says whether it ended now.
    ///
    /// # Errors
    ///
    /// [`Refusal::TokenNotValid`] for what is no refresh token, or an expired one, whose session
    /// ended with it.
    pub async fn sign_out(&self, refresh_token: &str) -> Result<bool, Error> {
        let token = self.secrets().tokens.read(refresh_token, Some(TokenKind::Refresh), self.now())?;
        let sessions = EndedSessions::One(token.session);
        Ok(self.end_sessions(token.user, sessions, SessionEnd::SignedOut).await? > 0)
    }

    /// The bearer's own sessions that have not ended, newest first; [`SESSIONS_SHOWN`] at most.
    pub async fn sessions(&self, bearer: &Bearer) -> Result<Vec<Session>, Error> {
        Ok(self.inner.storage.sessions(bearer.user.id, self.now(), SESSIONS_SHOWN).await?)
    }

    /// Ends one of the bearer's own sessions.
    ///
    /// # Errors
    ///
    /// [`Refusal::SessionNotFound`] if it is not theirs, or has ended.
    pub async fn end_session(&self, bearer: &Bearer, session: SessionId) -> Result<(), Error> {
        let is_own = session == bearer.session;
        let reason = if is_own { SessionEnd::SignedOut } else { SessionEnd::EndedElsewhere };
        match self.end_sessions(bearer.user.id, EndedSessions::One(session), reason).await? {
            0 => Err(Refusal::SessionNotFound.into()),
            _ => Ok(()),
        }
    }

    /// Ends all of the bearer's own sessions but the one they ask from, and says how many.
    pub async fn end_other_sessions(&self, bearer: &Bearer) -> Result<u64, Error> {
        let sessions = EndedSessions::Others(bearer.session);
        self.end_sessions(bearer.user.id, sessions, SessionEnd::EndedElsewhere).await
    }

    async fn end_sessions(
        &self,
        user: UserId,
        sessions: EndedSessions,
        reason: SessionEnd,
    ) -> Result<u64, Error> {
        let ended = self.inner.storage.end_sessions(user, sessions, self.now()).await?;
        for session in &ended {
            self.tell(Event::SessionEnded { user, session: *session, reason }).await;
        }
        Ok(ended.len() as u64)
    }
}
