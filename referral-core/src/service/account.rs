//! Changes of the own account that need a one-time code, and their counterparts for the host.

use std::sync::Arc;

use super::{Inner, ReferralService, code_requests::OpenCodeRequest, send_code::SendCode};
use crate::{
    audit::{Actor, AuditContext},
    error::{Error, refusal::Refusal},
    events::{CodeRefused, Event, SessionEnd, SessionEnded},
    otp::{
        challenge::ChallengeId, code::CodeInput, code_request::CodeRequestKind, purpose::CodePurpose,
        redemption::Redemption,
    },
    rate_limit::client::Client,
    service::{send_code::SentCode, sessions::CurrentUser},
    sms::locale::Locale,
    user::{
        User, UserId,
        deletion::{DeletedUser, DeletionRequest},
        phone::PhoneNumber,
    },
};

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
    /// [`send_deletion_code`](Self::send_deletion_code). Returns the number of sessions that this has ended.
    ///
    /// The phone, the email address, the names, the external id, the metadata and the sessions are erased.
    /// The user is not found by its id or phone, and appears in no list. The phone can sign up as a new user.
    /// The invite code is never accepted and never given to a user again. Invitations and their counts stay:
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
    ) -> Result<u64, Error> {
        let DeleteAccount { code, challenge, client } = request;
        let User { id, phone, .. } = current_user.user.clone();
        let purpose = CodePurpose::DeleteUser(id);
        let redemption = self.redemption(phone, purpose, challenge, code, &client);
        let audit = Some(self.audit_context(Actor::User(id), None));
        let request = DeletionRequest {
            user: id,
            now: redemption.now,
            redemption: Some(redemption),
            audit,
            peppers: Arc::clone(&self.secrets().peppers),
        };
        let service = self.clone();
        let deleted = self.complete(async move { service.perform_deletion(request).await }).await?;
        Ok(deleted.ended_sessions.len() as u64)
    }

    /// Deletes a user without a code, for the host itself, as [`delete_account`](Self::delete_account) does.
    /// Returns the user as before.
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
        let request = DeletionRequest { user: id, now: self.now(), redemption: None, audit, peppers };
        let service = self.clone();
        let deleted = self.complete(async move { service.perform_deletion(request).await }).await?;
        Ok(deleted.user)
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
        if let Some(record) = record {
            // The records of the phone are erased.
            record.discard();
        }
        self.inner.code_requests.forget(&request.phone_hashes(&deleted.user));
        self.emit(Event::UserDeleted(deleted.user.clone())).await;
        for session in &deleted.ended_sessions {
            let (user, session, reason) = (deleted.user.id, *session, SessionEnd::UserDeleted);
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
