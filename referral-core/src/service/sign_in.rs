//! Sign-in with a code.

use std::{mem, sync::Arc, time::Duration};

use super::{Inner, ReferralService, Secrets, gate::ForGate};
use crate::{
    audit::{AuditAction, AuditEntryId},
    clock::to_seconds,
    error::{Error, refusal::Refusal},
    events::{Event, PhoneDetached, SessionEnd, SessionEnded, SignInRefused, UserSignedIn},
    gate::{Context, approval::Approval},
    invite::code::InviteCode,
    otp::{
        challenge::ChallengeId,
        code::CodeInput,
        code_request::CodeRequestKind,
        purpose::CodePurpose,
        sign_in::{DetachedPhone, InvitationOutcome, SignInOutcome, SignInRequest, StoredSignIn},
    },
    rate_limit::client::Client,
    session::{SessionId, jwt::TokenPair},
    sms::{delivery::MessageRoute, locale::Locale},
    user::{NewUser, User, phone::PhoneNumber},
};

/// Request to sign in with a code.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignIn {
    /// Phone that the code was sent to.
    pub phone: PhoneNumber,
    /// Code.
    pub code: CodeInput,
    /// Challenge that was returned when the code was sent. If it is `None`, the newest challenge of the phone
    /// is used.
    pub challenge: Option<ChallengeId>,
    /// Invite code of another user.
    pub invited_by_code: Option<InviteCode>,
    /// Client that sends the request.
    pub client: Client,
    /// Languages of the client, in order of preference, for the [gate](crate::gate).
    pub locales: Vec<Locale>,
    /// Context of the request, for the [gate](crate::gate).
    pub context: Context,
    /// `true` if only staff may sign in.
    pub staff_only: bool,
    /// Refresh token of an earlier session of the client, also an expired one.
    pub refresh_token: Option<String>,
}

impl SignIn {
    /// Creates a request to sign in with the code that was sent to `phone`.
    #[must_use]
    pub fn new(phone: PhoneNumber, code: CodeInput) -> Self {
        Self {
            phone,
            code,
            challenge: None,
            invited_by_code: None,
            client: Client::default(),
            locales: Vec::new(),
            context: Context::default(),
            staff_only: false,
            refresh_token: None,
        }
    }

    /// Sets the challenge that the code belongs to.
    #[must_use]
    pub fn challenge(mut self, challenge: impl Into<Option<ChallengeId>>) -> Self {
        self.challenge = challenge.into();
        self
    }

    /// Sets the invite code of another user.
    #[must_use]
    pub fn invited_by(mut self, code: impl Into<Option<InviteCode>>) -> Self {
        self.invited_by_code = code.into();
        self
    }

    /// Sets the client that sends the request.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }

    /// Sets the languages of the client. Only the [gate](crate::gate) receives them.
    #[must_use]
    pub fn locales(mut self, locales: impl Into<Vec<Locale>>) -> Self {
        self.locales = locales.into();
        self
    }

    /// Sets the context of the request, such as the token of a captcha. Only the [gate](crate::gate) receives
    /// it.
    #[must_use]
    pub fn context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// Allows only staff to sign in, for pages of administrators. A correct code of another phone is refused
    /// with [`Refusal::StaffOnly`]: it creates no user and no session, and stays valid. Before a correct code,
    /// the response is the same for all phones.
    #[must_use]
    pub fn staff_only(mut self) -> Self {
        self.staff_only = true;
        self
    }

    /// Sets a refresh token of an earlier session of the client, also an expired one. It proves that the client
    /// was a client of the user with the phone before.
    ///
    /// It is needed only if the user was not active for
    /// [`phones_recycled_after`](crate::policy::Policy::phones_recycled_after). Without it, or with a token of
    /// another user or of a key that is not in the ring any more, the sign-in creates a new user, and the phone
    /// of the old user is detached. The response does not differ from that for a phone without a user. Staff can
    /// link the phone to the old user again: see [`UserChange::phone`](crate::UserChange::phone).
    #[must_use]
    pub fn refresh_token(mut self, token: impl Into<Option<String>>) -> Self {
        self.refresh_token = token.into();
        self
    }
}

/// Result of a sign-in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignedIn {
    /// User.
    pub user: User,
    /// Session.
    pub session: SessionId,
    /// Tokens.
    pub tokens: TokenPair,
    /// Time until the access token expires.
    pub expires_in: Duration,
    /// `true` if the user was created by this sign-in.
    pub created: bool,
    /// Outcome of the invite code.
    pub invitation: InvitationOutcome,
}

impl ReferralService {
    /// Signs in with a code. Creates the user if the phone is new. Cancels the scheduled deletion of the user, if
    /// there is one.
    ///
    /// # Errors
    ///
    /// [`Refusal::InvalidCode`], [`Refusal::MalformedCode`]; after a correct code also
    /// [`Refusal::UserInactive`] and, with the code still usable, [`Refusal::UnknownInviteCode`],
    /// [`Refusal::OwnInviteCode`], [`Refusal::InvitationLoop`] and, if there is a [gate](crate::gate),
    /// [`Refusal::RejectedByHost`] and [`Error::GateFailed`]. [`Refusal::StaffOnly`] for a request with
    /// [`staff_only`](SignIn::staff_only). [`Refusal::TooManyRequests`] if too many
    /// wrong codes came from the address, or, after a correct code, if too many unknown invite codes were
    /// given or too many sign-ups and invitations of the phone were rejected by the gate.
    pub async fn sign_in(&self, request: SignIn) -> Result<SignedIn, Error> {
        let service = self.clone();
        self.complete(async move { service.perform_sign_in(request).await }).await
    }

    async fn perform_sign_in(&self, request: SignIn) -> Result<SignedIn, Error> {
        let request_id = request.client.request_id.clone();
        let (kind, purpose) = (CodeRequestKind::Redeem, CodePurpose::SignIn);
        let record = self.open_code_request(kind, &request.phone, purpose, request_id);
        // Boxed, because the future of a sign-in would be too large for the stack of some hosts.
        let signed_in = Box::pin(self.try_sign_in(request)).await;
        record.finish_redeeming(signed_in.as_ref());
        signed_in
    }

    async fn try_sign_in(&self, mut request: SignIn) -> Result<SignedIn, Error> {
        if self.inner.policy.require_challenge && request.challenge.is_none() {
            return Err(Refusal::ChallengeRequired.into());
        }
        let secrets = self.secrets();
        let for_gate = ForGate {
            client: request.client.clone(),
            locales: mem::take(&mut request.locales),
            context: mem::take(&mut request.context),
        };
        let mut attempt = self.sign_in_request(request, &secrets);
        let address = attempt.client.address;
        let stored = match Box::pin(self.approved_sign_in(&mut attempt, &for_gate)).await {
            Ok(stored) => stored,
            Err(Error::Refused(reason)) => {
                self.inner.attempt_budget.spend(attempt.now);
                let (phone, refusal) = (attempt.phone, reason.clone());
                self.emit(Event::SignInRefused(SignInRefused { phone, reason, address })).await;
                return Err(refusal.into());
            }
            Err(error) => return Err(error),
        };

        if let Some(DetachedPhone { user, .. }) = stored.detached {
            self.emit(Event::PhoneDetached(PhoneDetached { user, new_user: stored.user.id })).await;
        }
        if stored.created {
            self.emit(Event::UserCreated(stored.user.clone())).await;
        }
        if let Some(invitation) = stored.accepted {
            self.emit(Event::InvitationAccepted(invitation)).await;
        }
        let (user, session) = (stored.user.id, stored.session.id);
        let route = stored.gateway.map(|gateway| MessageRoute::new(gateway, &attempt.phone));
        self.emit(Event::UserSignedIn(UserSignedIn { user, session, address, route })).await;
        if stored.audit.as_ref().is_some_and(|entry| entry.action == AuditAction::DeletionCanceled) {
            self.emit(Event::DeletionCanceled(user)).await;
        }
        for session in stored.ended_sessions {
            let reason = SessionEnd::SessionLimit;
            self.emit(Event::SessionEnded(SessionEnded { user, session, reason })).await;
        }
        self.emit_audited(stored.audit.as_ref()).await;
        let tokens = secrets.sign(&stored.session)?;
        Ok(SignedIn {
            expires_in: self.expires_in(&tokens),
            tokens,
            session: stored.session.id,
            user: stored.user,
            created: stored.created,
            invitation: stored.outcome,
        })
    }

    /// Stores a sign-in, after the gate has allowed its changes. If the facts change meanwhile, the gate is
    /// asked again, up to the limit on questions.
    async fn approved_sign_in(
        &self,
        attempt: &mut SignInRequest,
        for_gate: &ForGate,
    ) -> Result<StoredSignIn, Error> {
        loop {
            match self.inner.storage.sign_in(attempt).await?? {
                SignInOutcome::SignedIn(stored) => return Ok(stored),
                SignInOutcome::NeedsApproval(changes) => {
                    self.approve_changes(&attempt.phone, for_gate, &changes).await?;
                    attempt.approval = Approval::Granted(changes);
                }
            }
        }
    }

    fn sign_in_request(&self, request: SignIn, secrets: &Secrets) -> SignInRequest {
        let Inner { policy, random, .. } = &*self.inner;
        let now = self.now();
        SignInRequest {
            new_user: NewUser { last_login: Some(now), ..self.new_user(request.phone.clone(), now) },
            phone: request.phone,
            challenge: request.challenge,
            invite_code: request.invited_by_code,
            now,
            client: request.client,
            approval: self.approval(),
            staff_only: request.staff_only,
            proven_user: request
                .refresh_token
                .filter(|_| policy.phones_recycled_after.is_some())
                .and_then(|token| secrets.tokens.former_user(&token, now)),
            counts_attempts_without_challenge: self.inner.attempt_budget.has_room(now),
            code: request.code,
            session: SessionId(random.time_ordered_uuid(now)),
            audit: AuditEntryId(random.time_ordered_uuid(now)),
            session_expires_at: to_seconds(now) + policy.session_lifetime,
            issued: self.new_tokens(now, secrets),
            claims: self.inner.claims.clone(),
            policy: Arc::clone(policy),
            peppers: Arc::clone(&secrets.peppers),
        }
    }
}
