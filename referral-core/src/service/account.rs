//! Deletion of the own account with a one-time code, and its counterparts for the host and after a grace period.

use std::sync::Arc;

use time::OffsetDateTime;

use super::{
    Inner, ReferralService, code_requests::OpenCodeRequest, gate::with_sources, send_code::SendCode,
};
use crate::{
    audit::{Actor, AuditContext},
    error::{Error, refusal::Refusal},
    events::{CodeRefused, DeletionScheduled, Event, SessionEnd, SessionEnded},
    otp::{
        challenge::ChallengeId, code::CodeInput, code_request::CodeRequestKind, purpose::CodePurpose,
        redemption::Redemption,
    },
    rate_limit::client::Client,
    service::{send_code::SentCode, sessions::CurrentUser},
    sms::locale::Locale,
    user::{
        User, UserId,
        deletion::{DeletedUser, DeletionRequest, DueDeletion},
        phone::PhoneNumber,
    },
};

/// Number of users that one query returns whose grace period has ended.
const DUE_BATCH: u32 = 100;

/// Number of users that [`ReferralService::run_maintenance`] deletes after their grace period, so that its other
/// tasks do not wait long.
const MAX_DUE: u64 = 1_000;

/// Request for a code that deletes the own account.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SendDeletionCode {
    /// Languages for the message, in order of preference.
    pub locales: Vec<Locale>,
    /// Client that sends the request.
    pub client: Client,
}

impl SendDeletionCode {
    /// Creates a request with a message in the default language.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the languages for the message. The first one for which there is a text is used.
    #[must_use]
    pub fn locales(mut self, locales: impl Into<Vec<Locale>>) -> Self {
        self.locales = locales.into();
        self
    }

    /// Sets the client that sends the request.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }
}

/// Request to delete the own account.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeleteAccount {
    /// Code.
    pub code: CodeInput,
    /// Challenge that was returned when the code was sent.
    pub challenge: ChallengeId,
    /// Client that sends the request.
    pub client: Client,
}

impl DeleteAccount {
    /// Creates a request with the code of a challenge.
    #[must_use]
    pub fn new(challenge: ChallengeId, code: CodeInput) -> Self {
        Self { code, challenge, client: Client::default() }
    }

    /// Sets the client that sends the request.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }
}

/// Result of the deletion of the own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccountDeletion {
    /// Number of sessions that the deletion has ended.
    pub ended_sessions: u64,
    /// Time at which the account is deleted unless the user signs in before. `None` if it is deleted.
    pub deletion_at: Option<OffsetDateTime>,
}

impl ReferralService {
    /// Sends a code that deletes the account of the current user to the phone of the user. No other code
    /// deletes the account, and this code is not valid for a sign-in. It counts for the same limits as a code
    /// to sign in.
    ///
    /// # Errors
    ///
    /// As for [`send_code`](Self::send_code).
    pub async fn send_deletion_code(
        &self,
        current_user: &CurrentUser,
        request: SendDeletionCode,
    ) -> Result<SentCode, Error> {
        let SendDeletionCode { locales, client } = request;
        let User { id, phone, .. } = &current_user.user;
        let purpose = CodePurpose::DeleteUser(*id);
        let send = SendCode { purpose, ..SendCode::new(phone.clone()).locales(locales).client(client) };
        let service = self.clone();
        self.complete(async move { service.perform_send_code(send).await }).await
    }

    /// Deletes the account of the current user with a code of
    /// [`send_deletion_code`](Self::send_deletion_code).
    ///
    /// With a [grace period](crate::policy::Policy::deletion_grace), only the sessions end. The user signs in to
    /// cancel the deletion. Otherwise [`run_maintenance`](Self::run_maintenance) deletes the account after the
    /// grace period.
    ///
    /// At the deletion, the phone, the email address, the names, the external id, the metadata and the sessions are
    /// erased. From then on, the user is not found by its id or phone, and appears in no list. The phone can sign up
    /// as a new user. The invite code is never accepted and never given to a user again. Invitations and their counts stay:
    /// an inviter keeps the invitation of the deleted user, and the users that the deleted user invited keep
    /// their inviter.
    ///
    /// # Errors
    ///
    /// [`Refusal::InvalidCode`], [`Refusal::MalformedCode`] and [`Refusal::TooManyRequests`], as for
    /// [`sign_in`](Self::sign_in); [`Refusal::TokenNotValid`] if the account has been deleted meanwhile;
    /// [`Refusal::LastAdmin`].
    pub async fn delete_account(
        &self,
        current_user: &CurrentUser,
        request: DeleteAccount,
    ) -> Result<AccountDeletion, Error> {
        let DeleteAccount { code, challenge, client } = request;
        let User { id, phone, .. } = current_user.user.clone();
        let purpose = CodePurpose::DeleteUser(id);
        let redemption = self.redemption(phone, purpose, challenge, code, &client);
        let audit = Some(self.audit_context(Actor::User(id), None));
        let request = DeletionRequest {
            user: id,
            now: redemption.now,
            redemption: Some(redemption),
            only_if_due: false,
            audit,
            peppers: Arc::clone(&self.secrets().peppers),
        };
        let service = self.clone();
        let deleted = self.complete(async move { service.perform_deletion(request).await }).await?;
        let ended_sessions = deleted.ended_sessions.len() as u64;
        Ok(AccountDeletion { ended_sessions, deletion_at: deleted.scheduled_at })
    }

    /// Deletes a user without a code and without a grace period, for the host itself, as
    /// [`delete_account`](Self::delete_account) does. Returns the user as before.
    ///
    /// # Errors
    ///
    /// [`Refusal::UserNotFound`], [`Refusal::LastAdmin`].
    pub async fn delete_user(&self, id: UserId) -> Result<User, Error> {
        self.delete_user_as(id, None).await
    }

    /// Deletes a user without a code, and records the deletion in the audit log if there is data for it.
    pub(super) async fn delete_user_as(
        &self,
        id: UserId,
        audit: Option<AuditContext>,
    ) -> Result<User, Error> {
        let peppers = Arc::clone(&self.secrets().peppers);
        let now = self.now();
        let request = DeletionRequest { user: id, now, redemption: None, only_if_due: false, audit, peppers };
        let service = self.clone();
        let deleted = self.complete(async move { service.perform_deletion(request).await }).await?;
        Ok(deleted.user)
    }

    /// Deletes the users whose grace period has ended. Returns their number. A user that cannot be deleted does
    /// not keep the others.
    pub(super) async fn delete_due_users(&self) -> Result<u64, Error> {
        let (now, mut deleted, mut after) = (self.now(), 0, None);
        while deleted < MAX_DUE {
            let due = self.inner.storage.users_to_delete(now, after.as_ref(), DUE_BATCH).await?;
            for DueDeletion { user, .. } in &due {
                match self.delete_due_user(*user).await {
                    Ok(()) => deleted += 1,
                    // The user has signed in, or another process has deleted the user.
                    Err(Error::Refused(Refusal::UserNotFound)) => {}
                    Err(error) => {
                        let error = with_sources(&error);
                        tracing::warn!(%user, error, "failed to delete user after the grace period");
                    }
                }
            }
            if due.len() < DUE_BATCH as usize {
                break;
            }
            after = due.last().copied();
        }
        Ok(deleted)
    }

    async fn delete_due_user(&self, user: UserId) -> Result<(), Error> {
        let request = DeletionRequest {
            user,
            now: self.now(),
            redemption: None,
            only_if_due: true,
            audit: Some(self.audit_context(Actor::User(user), None)),
            peppers: Arc::clone(&self.secrets().peppers),
        };
        let service = self.clone();
        self.complete(async move { service.perform_deletion(request).await.map(drop) }).await
    }

    async fn perform_deletion(&self, request: DeletionRequest) -> Result<DeletedUser, Error> {
        let record = request.redemption.as_ref().map(|redemption| self.open_redemption(redemption));
        let deleted = self.inner.storage.delete_user(&request).await;
        let deleted = match deleted.map_err(Error::from).and_then(|deleted| Ok(deleted?)) {
            Ok(deleted) => deleted,
            Err(error) => {
                if let Some(record) = record {
                    record.finish_redeeming(Err::<&DeletedUser, _>(&error));
                }
                if let Error::Refused(reason) = &error {
                    self.emit_code_refused(request.user, request.redemption.as_ref(), reason.clone()).await;
                }
                return Err(error);
            }
        };
        let user = deleted.user.id;
        let reason = if let Some(deletion_at) = deleted.scheduled_at {
            if let Some(record) = record {
                record.finish_redeeming(Ok(&deleted));
            }
            self.emit(Event::DeletionScheduled(DeletionScheduled { user, deletion_at })).await;
            SessionEnd::DeletionScheduled
        } else {
            if let Some(record) = record {
                // The records of the phone are erased.
                record.discard();
            }
            self.inner.code_requests.forget(&request.phone_hashes(&deleted.user));
            self.emit(Event::UserDeleted(deleted.user.clone())).await;
            SessionEnd::UserDeleted
        };
        for session in &deleted.ended_sessions {
            let session = *session;
            self.emit(Event::SessionEnded(SessionEnded { user, session, reason })).await;
        }
        self.emit_audited(deleted.audit.as_ref()).await;
        Ok(deleted)
    }

    /// Returns the redemption of a code that was sent to `phone`.
    pub(super) fn redemption(
        &self,
        phone: PhoneNumber,
        purpose: CodePurpose,
        challenge: ChallengeId,
        code: CodeInput,
        client: &Client,
    ) -> Redemption {
        let Inner { policy, attempt_budget, .. } = &*self.inner;
        let now = self.now();
        Redemption {
            phone,
            challenge,
            now,
            code,
            purpose,
            address: client.address,
            request_id: client.request_id.clone(),
            counts_attempts_without_challenge: attempt_budget.has_room(now),
            policy: Arc::clone(policy),
            peppers: Arc::clone(&self.secrets().peppers),
        }
    }

    /// Starts the record of a request that redeems a code for a change of the own account.
    pub(super) fn open_redemption(&self, redemption: &Redemption) -> OpenCodeRequest {
        let Redemption { phone, purpose, request_id, .. } = redemption;
        self.open_code_request(CodeRequestKind::Redeem, phone, *purpose, request_id.clone())
    }

    /// Emits the event of a refused code, if the request has one.
    pub(super) async fn emit_code_refused(
        &self,
        user: UserId,
        redemption: Option<&Redemption>,
        reason: Refusal,
    ) {
        let Some(redemption) = redemption else { return };
        self.inner.attempt_budget.spend(redemption.now);
        let (purpose, address) = (redemption.purpose, redemption.address);
        self.emit(Event::CodeRefused(CodeRefused { user, purpose, reason, address })).await;
    }
}
