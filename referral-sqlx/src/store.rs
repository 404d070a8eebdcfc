//! Each method of [`Storage`]: begin, load the facts, let the core decide, write, commit.
//!
//! No rule is here, and no SQL.

use std::time::Duration;

use async_trait::async_trait;
use referral_core::{
    Challenge, ChallengeId, InvitedBy, PageSize, Refusal, Session, SessionId, User, UserId, UserWithInvited,
    storage::{
        ChallengeDecision, ChallengeRequest, Decided, EditedProfile, FoundInvitees, FoundUsers, NewUser,
        ProfileEdit, RefreshDecision, RefreshRequest, Result, SignInDecision, SignInRequest, Storage,
        StorageError, StoredSession, StoredSignIn, UserQuery,
    },
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    error::failure,
    sqlite::{self, SqliteStore, commit, list, load, write},
};

/// How long a read may wait to note something on the side.
const NOTE_PATIENCE: Duration = Duration::from_millis(200);

/// How long it may take to say whether requests can be served: those who ask wait a second.
const READY_PATIENCE: Duration = Duration::from_millis(500);

async fn in_time<T>(patience: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = tokio::time::timeout(patience, work).await;
    done.unwrap_or_else(|elapsed| Err(StorageError::Unavailable(elapsed.into())))
}

#[async_trait]
impl Storage for SqliteStore {
    async fn start_challenge(&self, request: &ChallengeRequest) -> Decided<Challenge> {
        let mut tx = self.begin().await?;
        let facts = load::challenge_facts(&mut tx, &request.phone).await?;
        match request.decide(&facts) {
            ChallengeDecision::Grant(challenge) => {
                write::new_challenge(&mut tx, &challenge).await?;
                commit(tx).await?;
                Ok(Ok(challenge))
            }
            ChallengeDecision::Refuse(refusal) => Ok(Err(refusal)),
        }
    }

    async fn void_challenge(&self, challenge: ChallengeId) -> Result<()> {
        let mut writer = self.writer.acquire().await.map_err(failure)?;
        write::delete_challenge(&mut writer, challenge).await
    }

    async fn sign_in(&self, request: &SignInRequest) -> Decided<StoredSignIn> {
        let mut tx = self.begin().await?;
        let mut facts = load::sign_in_facts(&mut tx, request).await?;
        if request.needs_lineage(&facts)
            && let (Some(user), Some(inviter)) = (&facts.user, &facts.inviter)
        {
            facts.lineage = load::lineage(&mut tx, inviter.id, user.id).await?;
        }

        let (challenge, user, invitation, outcome) = match request.decide(&facts) {
            SignInDecision::Refuse { refusal, challenge } => {
                if let Some(challenge) = challenge {
                    write::challenge(&mut tx, &challenge).await?;
                    commit(tx).await?;
                }
                return Ok(Err(refusal));
            }
            SignInDecision::Accept { challenge, user, invitation, outcome } => {
                (challenge, user, invitation, outcome)
            }
        };
        write::challenge(&mut tx, &challenge).await?;
        let created = user.is_none();
        let user = if let Some(user) = user {
            write::user(&mut tx, &user).await?;
            user
        } else {
            let invited_by = invitation.as_ref().map(InvitedBy::from);
            write::new_user(&mut tx, &request.new_user, invited_by).await?
        };
        if let Some(invitation) = &invitation {
            write::invitation(&mut tx, invitation).await?;
        }
        let session = request.session_of(user.id);
        write::new_session(&mut tx, &session).await?;
        commit(tx).await?;
        Ok(Ok(StoredSignIn { user, session, created, accepted: invitation, outcome }))
    }

    async fn session(&self, id: SessionId, invited: u32) -> Result<Option<StoredSession>> {
        // What every request asks for is one statement, and needs no transaction.
        if invited == 0 {
            return load::session(&mut *self.reader().await?, id).await;
        }
        let mut tx = self.snapshot().await?;
        let Some(mut found) = load::session(&mut tx, id).await? else {
            return Ok(None);
        };
        if found.user.user.invited_count > 0 {
            found.user.invited = load::invitees(&mut tx, found.user.user.id, None, invited).await?;
        }
        Ok(Some(found))
    }

    async fn note_grant_used(&self, session: SessionId, access_id: Uuid) -> Result<()> {
        // Whoever reads does not wait for those who write: the next read notes it.
        in_time(NOTE_PATIENCE, async {
            let mut writer = self.writer.acquire().await.map_err(failure)?;
            write::grant_used(&mut writer, session, access_id).await
        })
        .await
    }

    async fn refresh(&self, request: &RefreshRequest) -> Decided<Session> {
        let mut tx = self.begin().await?;
        let Some((session, user_is_active)) = load::refresh_facts(&mut tx, request.session).await? else {
            return Ok(Err(Refusal::TokenNotValid));
        };
        match request.decide(&session, user_is_active) {
            RefreshDecision::Rotate(session) => {
                write::session(&mut tx, &session).await?;
                commit(tx).await?;
                Ok(Ok(session))
            }
            RefreshDecision::Repeat => Ok(Ok(session)),
            RefreshDecision::Revoke(session) => {
                write::session(&mut tx, &session).await?;
                commit(tx).await?;
                Ok(Err(Refusal::RefreshReused))
            }
            RefreshDecision::Refuse(refusal) => Ok(Err(refusal)),
        }
    }

    async fn user(&self, id: UserId, invited: u32) -> Result<Option<UserWithInvited>> {
        let mut tx = self.snapshot().await?;
        let Some(user) = load::user(&mut tx, id).await? else {
            return Ok(None);
        };
        let mut found = UserWithInvited { user, invited: Vec::new() };
        if invited > 0 && found.user.invited_count > 0 {
            found.invited = load::invitees(&mut tx, id, None, invited).await?;
        }
        Ok(Some(found))
    }

    async fn users(&self, query: &UserQuery) -> Result<FoundUsers> {
        list::users(&mut *self.snapshot().await?, query).await
    }

    async fn invitees(
        &self,
        inviter: UserId,
        older_than: Option<UserId>,
        limit: PageSize,
    ) -> Result<Option<FoundInvitees>> {
        load::page_of_invitees(&mut *self.snapshot().await?, inviter, older_than, limit).await
    }

    async fn edit_profile(&self, edit: &ProfileEdit) -> Decided<EditedProfile, Vec<Refusal>> {
        let mut tx = self.begin().await?;
        let Some(mut facts) = load::profile_facts(&mut tx, edit).await? else {
            return Ok(Err(vec![Refusal::UserNotFound]));
        };
        if edit.needs_lineage(&facts)
            && let Some(inviter) = &facts.inviter
        {
            facts.lineage = load::lineage(&mut tx, inviter.id, edit.user).await?;
        }
        let decision = edit.decide(&facts);
        if let Ok(edited) = &decision {
            write::user(&mut tx, &edited.user).await?;
            if let Some(invitation) = &edited.accepted {
                write::invitation(&mut tx, invitation).await?;
            }
            commit(tx).await?;
        }
        Ok(decision)
    }

    async fn make_staff(&self, user: &NewUser) -> Result<User> {
        let mut tx = self.begin().await?;
        let user = match load::user_with_phone(&mut tx, &user.phone).await? {
            Some(known) => known,
            None => write::new_user(&mut tx, user, None).await?,
        };
        let user = User { is_staff: true, ..user };
        write::user(&mut tx, &user).await?;
        commit(tx).await?;
        Ok(user)
    }

    async fn set_active(&self, id: UserId, is_active: bool) -> Result<Option<User>> {
        let mut tx = self.begin().await?;
        let Some(user) = load::user(&mut tx, id).await? else {
            return Ok(None);
        };
        let user = User { is_active, ..user };
        write::user(&mut tx, &user).await?;
        commit(tx).await?;
        Ok(Some(user))
    }

    async fn sweep(&self, before: OffsetDateTime, batch: u32) -> Result<u64> {
        let mut tx = self.begin().await?;
        let swept = write::sweep(&mut tx, before, batch).await?;
        commit(tx).await?;
        Ok(swept)
    }

    async fn check_ready(&self) -> Result<()> {
        sqlite::check_applied(&mut *self.reader().await?).await?;
        // And the lock to write can be had: the transaction is undone at once.
        in_time(READY_PATIENCE, self.begin()).await.map(drop)
    }

    async fn close(&self) {
        // The writer last: with the last connection the log goes back into the file.
        self.readers.close().await;
        self.writer.close().await;
    }
}
