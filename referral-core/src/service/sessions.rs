//! Sessions of the current user: list them and end them.

use super::{CurrentUser, ReferralService};
use crate::{
    Error, Event, Refusal, Session, SessionEnd, SessionId, TokenKind, UserId, session::SessionSelection,
};

/// Largest number of sessions that [`ReferralService::sessions`] returns.
pub const SESSIONS_SHOWN: u32 = 100;

impl ReferralService {
    /// Signs out: ends the session of a refresh token, which also works after the access token has expired.
    /// Returns `true` if the session was active until now.
    ///
    /// # Errors
    ///
    /// [`Refusal::TokenNotValid`] for a text that is not a refresh token, or for an expired one, whose
    /// session ended with it.
    pub async fn sign_out(&self, refresh_token: &str) -> Result<bool, Error> {
        let token = self.secrets().tokens.read(refresh_token, Some(TokenKind::Refresh), self.now())?;
        let sessions = SessionSelection::One(token.session);
        Ok(self.end_sessions(token.user, sessions, SessionEnd::SignedOut).await? > 0)
    }

    /// Returns the sessions of the current user that have not ended, newest first, at most [`SESSIONS_SHOWN`].
    pub async fn sessions(&self, current_user: &CurrentUser) -> Result<Vec<Session>, Error> {
        Ok(self.inner.storage.sessions(current_user.user.id, self.now(), SESSIONS_SHOWN).await?)
    }

    /// Ends a session of the current user.
    ///
    /// # Errors
    ///
    /// [`Refusal::SessionNotFound`] if the session belongs to another user or has ended.
    pub async fn end_session(&self, current_user: &CurrentUser, session: SessionId) -> Result<(), Error> {
        let is_own = session == current_user.session;
        let reason = if is_own { SessionEnd::SignedOut } else { SessionEnd::EndedElsewhere };
        match self.end_sessions(current_user.user.id, SessionSelection::One(session), reason).await? {
            0 => Err(Refusal::SessionNotFound.into()),
            _ => Ok(()),
        }
    }

    /// Ends all sessions of the current user except the current one, and returns the number of ended sessions.
    pub async fn end_other_sessions(&self, current_user: &CurrentUser) -> Result<u64, Error> {
        let sessions = SessionSelection::AllExcept(current_user.session);
        self.end_sessions(current_user.user.id, sessions, SessionEnd::EndedElsewhere).await
    }

    async fn end_sessions(
        &self,
        user: UserId,
        sessions: SessionSelection,
        reason: SessionEnd,
    ) -> Result<u64, Error> {
        let ended = self.inner.storage.end_sessions(user, sessions, self.now()).await?;
        for session in &ended {
            self.emit(Event::SessionEnded { user, session: *session, reason }).await;
        }
        Ok(ended.len() as u64)
    }
}
