//! Sessions.

use async_trait::async_trait;
use referral_core::{
    Session, SessionId, User, UserId,
    audit::AuditEntry,
    storage::{
        Decided, Decision, RefreshFacts, RefreshRequest, Result, SessionSelection, SessionStorage,
        StoredSession,
    },
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    RedisStorage,
    documents::list,
    transaction::{ALL, Transaction},
};

#[async_trait]
impl SessionStorage for RedisStorage {
    async fn session(&self, id: SessionId, invited: u32) -> Result<Option<StoredSession>> {
        self.transaction(|mut tx| async move {
            let mut found = None;
            if let Some(session) = tx.get::<Session>(id).await?
                && let Some(user) = tx.with_invited(session.user, invited).await?
            {
                found = Some(StoredSession { session, user });
            }
            tx.commit(found).await
        })
        .await
    }

    async fn mark_tokens_used(&self, session: SessionId, access_id: Uuid) -> Result<()> {
        self.transaction(|mut tx| async move {
            let session = tx.get::<Session>(session).await?;
            if let Some(session) = session.filter(|session| session.issued.access_id == access_id) {
                tx.put(&Session { tokens_used: true, ..session })?;
            }
            tx.commit(()).await
        })
        .await
    }

    async fn refresh(&self, request: &RefreshRequest) -> Decided<Session> {
        self.transaction(|mut tx| async move {
            let mut facts = None;
            if let Some(session) = tx.get::<Session>(request.session).await? {
                let user: Option<User> = tx.get(session.user).await?;
                facts = user.map(|user| RefreshFacts { session, user });
            }
            let Decision { writes, outcome } = request.decide(facts.as_ref())?;
            if let Some(session) = &writes.session {
                tx.put(session)?;
            }
            if let (Some(facts), Some(_)) = (facts, writes.last_active) {
                tx.put(&User { last_active: writes.last_active, ..facts.user })?;
            }
            tx.commit(outcome).await
        })
        .await
    }

    async fn sessions(
        &self,
        user: UserId,
        now: OffsetDateTime,
        older_than: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<Session>> {
        self.transaction(|mut tx| async move {
            let mut sessions = tx.active_sessions(user, now).await?;
            sessions.retain(|session| older_than.is_none_or(|id| session.id < id));
            sessions.truncate(limit as usize);
            tx.commit(sessions).await
        })
        .await
    }

    async fn end_sessions(
        &self,
        user: UserId,
        sessions: SessionSelection,
        now: OffsetDateTime,
        audit: Option<&AuditEntry>,
    ) -> Result<Vec<SessionId>> {
        self.transaction(|mut tx| async move {
            if let Some(entry) = audit {
                tx.add_entry_about_user(entry).await?;
            }
            let ended = tx.end_sessions(user, sessions, now).await?;
            tx.commit(ended).await
        })
        .await
    }
}

impl Transaction {
    /// Returns the active sessions of a user, newest first.
    async fn active_sessions(&mut self, user: UserId, now: OffsetDateTime) -> Result<Vec<Session>> {
        let ids = self.newest(&list::sessions(user), None, ALL).await?;
        let mut sessions: Vec<Session> = self.get_all(&ids).await?;
        sessions.retain(|session| session.is_active(now));
        Ok(sessions)
    }

    /// Ends active sessions of a user and returns their ids.
    pub(crate) async fn end_sessions(
        &mut self,
        user: UserId,
        sessions: SessionSelection,
        now: OffsetDateTime,
    ) -> Result<Vec<SessionId>> {
        let mut ended = self.active_sessions(user, now).await?;
        ended.retain(|session| match sessions {
            SessionSelection::One(id) => session.id == id,
            SessionSelection::AllExcept(kept) => session.id != kept,
            SessionSelection::All => true,
        });
        for session in &mut ended {
            session.revoked_at = Some(now);
            self.put(session)?;
        }
        Ok(ended.into_iter().map(|session| session.id).collect())
    }
}
