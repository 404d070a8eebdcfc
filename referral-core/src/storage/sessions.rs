//! Storage of sessions.

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Decided, RefreshRequest, Result, StoredSession};
use crate::{
    audit::AuditEntry,
    session::{Session, SessionId, SessionSelection},
    user::UserId,
};

/// Stores sessions and their issued tokens.
#[async_trait]
pub trait SessionStorage: Send + Sync + 'static {
    /// Returns a session with its user and the newest invitees of the user, at most `invited` of them.
    /// Returns `None` if the session does not exist. A session that
    /// [has ended](Session::has_ended) may be returned or not.
    async fn session(&self, id: SessionId, invited: u32) -> Result<Option<StoredSession>>;

    /// Records that the issued tokens of the session are in use, if its access token still has this id.
    async fn mark_tokens_used(&self, session: SessionId, access_id: Uuid) -> Result<()>;

    /// Exchanges a refresh token and returns the session whose issued tokens are to be signed.
    ///
    /// Facts: the session, if it exists, with its user. Exchanges in one session exclude one another.
    ///
    /// # Errors
    ///
    /// [`StorageError::Claims`](super::StorageError::Claims) if the decision fails.
    async fn refresh(&self, request: &RefreshRequest) -> Decided<Session>;

    /// Returns the sessions of a user that [are active](Session::is_active) at `now`, newest first, which is in
    /// descending order of their ids. The sessions start with the first one older than `older_than`, and are at
    /// most `limit`.
    async fn sessions(
        &self,
        user: UserId,
        now: OffsetDateTime,
        older_than: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<Session>>;

    /// Ends sessions of a user by setting [`Session::revoked_at`]. Returns the sessions that were ended, in
    /// any order. Sessions that [had ended](Session::has_ended) at `now` do not change and are not returned.
    /// `audit` is added to the audit log, also if no session was ended.
    async fn end_sessions(
        &self,
        user: UserId,
        sessions: SessionSelection,
        now: OffsetDateTime,
        audit: Option<&AuditEntry>,
    ) -> Result<Vec<SessionId>>;
}
