//! Sessions and their tokens: refresh, verify, list and end.

use std::time::Duration;

use time::OffsetDateTime;

use super::{ReferralService, Secrets};
use crate::{
    audit::AuditEntry,
    error::{Error, refusal::Refusal},
    events::{Event, SessionEnd, SessionEnded},
    rate_limit::client::Client,
    session::{
        Session, SessionId, SessionSelection,
        jwt::{TokenKind, TokenPair, VerifiedToken},
        refresh::RefreshRequest,
    },
    storage::StoredSession,
    user::{User, UserId},
};

/// Request to exchange a refresh token.
#[derive(Clone)]
#[non_exhaustive]
pub struct Refresh<'a> {
    /// Refresh token.
    pub token: &'a str,
    /// Client that sends the request.
    pub client: Client,
}

impl<'a> From<&'a str> for Refresh<'a> {
    fn from(token: &'a str) -> Self {
        Self { token, client: Client::default() }
    }
}

impl<'a> From<&'a String> for Refresh<'a> {
    fn from(token: &'a String) -> Self {
        token.as_str().into()
    }
}

impl Refresh<'_> {
    /// Sets the client that sends the request.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }
}

/// Result of a refresh.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refreshed {
    /// New tokens.
    pub tokens: TokenPair,
    /// Time until the access token expires.
    pub expires_in: Duration,
}

/// User and session of a valid access token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CurrentUser {
    /// User.
    pub user: User,
    /// Session that the token belongs to.
    pub session: SessionId,
}

impl ReferralService {
    /// Exchanges a refresh token for new tokens. The refresh token exchanged last returns the same tokens
    /// again, until they are used.
    ///
    /// # Errors
    ///
    /// [`Refusal::TokenNotValid`]; [`Refusal::RefreshReused`] for a token exchanged before. This use of the
    /// token has ended its session.
    pub async fn refresh(&self, refresh: impl Into<Refresh<'_>>) -> Result<Refreshed, Error> {
        let Refresh { token, client } = refresh.into();
        let (now, secrets) = (self.now(), self.secrets());
        let token = secrets.tokens.read(token, Some(TokenKind::Refresh), now)?;
        let service = self.clone();
        self.complete(async move { service.perform_refresh(token, client, now, &secrets).await }).await
    }

    async fn perform_refresh(
        &self,
        token: VerifiedToken,
        client: Client,
        now: OffsetDateTime,
        secrets: &Secrets,
    ) -> Result<Refreshed, Error> {
        let request = RefreshRequest {
            session: token.session,
            refresh_id: token.id,
            now,
            successor: self.new_tokens(now, secrets),
            grace: self.inner.policy.refresh_grace,
            claims: self.inner.claims.clone(),
            client,
        };
        let refreshed = self.inner.storage.refresh(&request).await?;
        if refreshed == Err(Refusal::RefreshReused) {
            let (user, session, reason) = (token.user, token.session, SessionEnd::RefreshReused);
            self.emit(Event::SessionEnded(SessionEnded { user, session, reason })).await;
        }
        let session = refreshed?;
        let tokens = secrets.sign(&session)?;
        Ok(Refreshed { expires_in: self.expires_in(&tokens), tokens })
    }

    /// Verifies a token and returns its contents. The token is valid if its session is active and its user is
    /// active. Of the refresh tokens of a session, only the current one is valid here. An older one may still
    /// lead to the same successor. That depends on whether the successor has been used, which this method
    /// must not reveal to a thief.
    ///
    /// # Errors
    ///
    /// [`Refusal::TokenNotValid`].
    pub async fn verify(&self, token: &str, kind: Option<TokenKind>) -> Result<VerifiedToken, Error> {
        let now = self.now();
        let token = self.secrets().tokens.read(token, kind, now)?;
        let StoredSession { session, .. } = self.active_session(&token, 0).await?;
        if token.kind == TokenKind::Refresh && token.id != session.issued.refresh_id {
            return Err(Refusal::TokenNotValid.into());
        }
        Ok(token)
    }

    /// Verifies an access token by its signature and its times, without the storage. The token is valid until
    /// it expires, even if its session has ended or its user has been deactivated.
    ///
    /// # Errors
    ///
    /// [`Refusal::TokenNotValid`].
    pub fn verify_without_storage(&self, access_token: &str) -> Result<VerifiedToken, Refusal> {
        self.secrets().tokens.read(access_token, Some(TokenKind::Access), self.now())
    }

    /// Verifies an access token, and returns its user and session.
    ///
    /// # Errors
    ///
    /// [`Refusal::TokenNotValid`].
    pub async fn authenticate(&self, access_token: &str) -> Result<CurrentUser, Error> {
        let found = self.session_of(access_token, 0).await?;
        Ok(CurrentUser { user: found.user.user, session: found.session.id })
    }

    /// Returns the active session of a valid access token, with the user and the newest invitees.
    pub(super) async fn session_of(&self, access_token: &str, invited: u32) -> Result<StoredSession, Error> {
        let token = self.secrets().tokens.read(access_token, Some(TokenKind::Access), self.now())?;
        self.active_session(&token, invited).await
    }

    async fn active_session(&self, token: &VerifiedToken, invited: u32) -> Result<StoredSession, Error> {
        let found = self.inner.storage.session(token.session, invited).await?;
        let found = found.filter(|found| {
            let user = &found.user.user;
            found.session.is_active(self.now()) && user.is_active && user.id == token.user
        });
        let found = found.ok_or(Refusal::TokenNotValid)?;
        if found.session.needs_use_recorded(token.id)
            && let Err(error) = self.inner.storage.mark_tokens_used(token.session, token.id).await
        {
            // The request must not fail because of this: the next use of the token records it.
            tracing::warn!(session = %token.session, %error, "failed to record the use of a new token");
        }
        Ok(found)
    }

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
        Ok(self.end_sessions(token.user, sessions, SessionEnd::SignedOut, None).await? > 0)
    }

    /// Returns the sessions of the current user that have not ended, newest first, at most
    /// [`SESSIONS_SHOWN`](Self::SESSIONS_SHOWN).
    ///
    /// # Errors
    ///
    /// [`Error::Storage`] if the storage fails.
    pub async fn sessions(&self, current_user: &CurrentUser) -> Result<Vec<Session>, Error> {
        Ok(self.inner.storage.sessions(current_user.user.id, self.now(), None, Self::SESSIONS_SHOWN).await?)
    }

    /// Ends a session of the current user.
    ///
    /// # Errors
    ///
    /// [`Refusal::SessionNotFound`] if the session belongs to another user or has ended.
    pub async fn end_session(&self, current_user: &CurrentUser, session: SessionId) -> Result<(), Error> {
        let is_own = session == current_user.session;
        let reason = if is_own { SessionEnd::SignedOut } else { SessionEnd::EndedElsewhere };
        match self.end_sessions(current_user.user.id, SessionSelection::One(session), reason, None).await? {
            0 => Err(Refusal::SessionNotFound.into()),
            _ => Ok(()),
        }
    }

    /// Ends all sessions of the current user except the current one, and returns the number of ended
    /// sessions.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`] if the storage fails.
    pub async fn end_other_sessions(&self, current_user: &CurrentUser) -> Result<u64, Error> {
        let sessions = SessionSelection::AllExcept(current_user.session);
        self.end_sessions(current_user.user.id, sessions, SessionEnd::EndedElsewhere, None).await
    }

    /// Ends sessions of a user, and adds an entry to the audit log if there is one.
    pub(super) async fn end_sessions(
        &self,
        user: UserId,
        sessions: SessionSelection,
        reason: SessionEnd,
        audit: Option<AuditEntry>,
    ) -> Result<u64, Error> {
        let service = self.clone();
        let end = async move {
            let ended =
                service.inner.storage.end_sessions(user, sessions, service.now(), audit.as_ref()).await?;
            for session in &ended {
                service.emit(Event::SessionEnded(SessionEnded { user, session: *session, reason })).await;
            }
            service.emit_audited(audit.as_ref()).await;
            Ok(ended.len() as u64)
        };
        self.complete(end).await
    }
}
