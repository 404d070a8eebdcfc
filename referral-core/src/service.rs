//! The handle of the service, with all its operations.

mod attempt_budget;
mod builder;
mod clocks;
mod codes;
mod delivery;
mod messages;

mod sessions;
mod users;

use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use time::OffsetDateTime;

use self::attempt_budget::AttemptBudget;
pub use self::{
    builder::{BuildError, ReferralServiceBuilder},
    messages::{CurrentUser, Refresh, Refreshed, SendCode, SentCode, SignIn, SignedIn},
    sessions::SESSIONS_SHOWN,
    users::{ListUsers, Page, PageLink},
};
use crate::{
    Check, Error, Event, InviteCode, MessageRoute, PhoneNumber, Policy, Readiness, Refusal, Session,
    SessionEnd, SessionId, SettingDifference, SharedSetting, TokenKind, TokenPair, UserId, VerifiedToken,
    clock::{Clock, to_microseconds, to_seconds},
    hook::Hook,
    invite::code::CANDIDATES,
    otp::sign_in::SignInRequest,
    random::Random,
    rate_limit::attack::{AttackCheck, GLOBAL_COUNTER_RETENTION},
    session::{
        IssuedTokens, RefreshRequest,
        jwt::Tokens,
        key_registry::KeyRegistration,
        keys::{Peppers, SigningKeys},
    },
    shared_settings,
    sms::{SmsSender, delivery::MESSAGE_RETENTION},
    storage::{Retention, Storage, StoredSession},
    user::NewUser,
};

/// Number of invitees that a profile shows. [`ReferralService::invitees`] returns all of them, by page.
pub const INVITED_SHOWN: u32 = 100;

/// Number of rows of each kind that one batch of [`ReferralService::run_maintenance`] deletes, so that other requests do not
/// wait long.
const BATCH_SIZE: u32 = 500;

/// Handle of the service. Clones are cheap and share all state.
#[derive(Clone)]
pub struct ReferralService {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Arc<dyn Storage>,
    sender: Arc<dyn SmsSender>,
    hook: Arc<dyn Hook>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    policy: Arc<Policy>,
    /// Keys and peppers. They are replaced as a whole, and read once for each request, which takes 20 ns if
    /// two threads do it concurrently.
    secrets: RwLock<Arc<Secrets>>,
    text: builder::MessageFn,
    /// `true` if the service was under attack at the last check.
    under_attack: AtomicBool,
    attempt_budget: AttemptBudget,
    weak_reports: delivery::WeakReports,
    clocks: clocks::Clocks,
    /// Differences that were logged.
    setting_differences: Mutex<Vec<SettingDifference>>,
}

/// Ring of keys and ring of peppers, which are replaced together.
struct Secrets {
    tokens: Tokens,
    peppers: Arc<Peppers>,
}

impl Secrets {
    fn sign(&self, session: &Session) -> Result<TokenPair, Error> {
        self.tokens
            .sign(session.user, session.id, &session.issued)
            .map_err(|error| Error::Signing(error.into()))
    }
}

impl ReferralService {
    /// Returns the policy in force.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    /// Returns the public keys with which other services verify access tokens, as a JSON Web Key Set.
    #[must_use]
    pub fn public_jwk_set(&self) -> String {
        self.secrets().tokens.keys.public_jwk_set()
    }

    /// Parses a phone number as typed, in the default region of the policy.
    pub fn parse_phone(&self, input: &str) -> Result<PhoneNumber, crate::Invalid> {
        PhoneNumber::parse(input, self.inner.policy.default_region)
    }

    /// Signs in with a code. Creates the user if the phone is new.
    ///
    /// # Errors
    ///
    /// [`Refusal::InvalidCode`]; after a correct code also [`Refusal::UserInactive`] and, with the code still
    /// usable, [`Refusal::UnknownInviteCode`], [`Refusal::OwnInviteCode`] and [`Refusal::InvitationLoop`].
    /// [`Refusal::TooManyRequests`] if too many wrong codes came from the address, or, after a correct code,
    /// if too many unknown invite codes were given.
    pub async fn sign_in(&self, request: SignIn) -> Result<SignedIn, Error> {
        if self.inner.policy.require_challenge && request.challenge.is_none() {
            return Err(Refusal::ChallengeRequired.into());
        }
        let secrets = self.secrets();
        let attempt = self.sign_in_request(request, &secrets);
        let address = attempt.client.address;
        let stored = match self.inner.storage.sign_in(&attempt).await? {
            Ok(stored) => stored,
            Err(reason) => {
                self.inner.attempt_budget.spend(attempt.now);
                self.emit(Event::SignInRefused { phone: attempt.phone, reason, address }).await;
                return Err(reason.into());
            }
        };

        if stored.created {
            self.emit(Event::UserCreated(stored.user.clone())).await;
        }
        if let Some(invitation) = stored.accepted {
            self.emit(Event::InvitationAccepted(invitation)).await;
        }
        let (user, session) = (stored.user.id, stored.session.id);
        let route = stored.gateway.map(|gateway| MessageRoute::new(gateway, &attempt.phone));
        self.emit(Event::SignedIn { user, session, address, route }).await;
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

    /// Exchanges a refresh token for new tokens. The refresh token exchanged last returns the same tokens
    /// again, until they are used.
    ///
    /// # Errors
    ///
    /// [`Refusal::TokenNotValid`]; [`Refusal::RefreshReused`] for a token exchanged before. This use of the
    /// token has ended its session.
    pub async fn refresh(&self, refresh: impl Into<Refresh<'_>>) -> Result<Refreshed, Error> {
        let Refresh { token, client } = refresh.into();
        let now = self.now();
        let secrets = self.secrets();
        let token = secrets.tokens.read(token, Some(TokenKind::Refresh), now)?;
        let request = RefreshRequest {
            session: token.session,
            refresh_id: token.id,
            now,
            successor: self.new_tokens(now, &secrets),
            grace: self.inner.policy.refresh_grace,
            client,
        };
        let refreshed = self.inner.storage.refresh(&request).await?;
        if refreshed == Err(Refusal::RefreshReused) {
            let (user, session, reason) = (token.user, token.session, SessionEnd::RefreshReused);
            self.emit(Event::SessionEnded { user, session, reason }).await;
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

    /// Generates a UUID that sorts by time (version 7), with the clock and the random generator of the
    /// handle.
    #[must_use]
    pub fn generate_id(&self) -> uuid::Uuid {
        self.inner.random.time_ordered_uuid(self.now())
    }

    /// Records the keys of this process in the storage, and checks that this process has the keys of the
    /// others. Call it once, before the first request, if several processes share a database. Otherwise a
    /// process may reject the tokens of another.
    ///
    /// # Errors
    ///
    /// [`Error::KeyMismatch`], which names a key that is missing or different.
    pub async fn register_keys(&self) -> Result<(), Error> {
        self.register_secrets(&self.secrets()).await
    }

    /// Replaces the keys and peppers of all clones of the handle, without losing a request. A ring that
    /// starts with a new key and has the others after it ends no session. Tokens and codes of a key that is
    /// no longer in the ring are rejected from then on.
    ///
    /// The new keys are checked against the storage first, as in [`register_keys`](Self::register_keys). If
    /// several processes share the storage, all processes must have a new key **before** any process has it
    /// first in its ring.
    ///
    /// # Errors
    ///
    /// [`Error::KeyMismatch`] if a key in use is missing, [`Error::Signing`] if the first key cannot sign.
    /// After an error nothing has changed.
    pub async fn replace_keys(&self, keys: SigningKeys, peppers: Peppers) -> Result<(), Error> {
        let tokens = self.secrets().tokens.with_keys(keys);
        if !tokens.can_sign(self.now()) {
            return Err(Error::Signing(BuildError::SigningKey.into()));
        }
        let secrets = Arc::new(Secrets { tokens, peppers: Arc::new(peppers) });
        self.register_secrets(&secrets).await?;
        let mut place = self.inner.secrets.write().unwrap_or_else(PoisonError::into_inner);
        let former = mem::replace(&mut *place, secrets);
        drop(place);
        // The former tokens have a large cache. It is freed after the lock is released, so that no request
        // waits for that.
        drop(former);
        Ok(())
    }

    /// Checks whether requests can be served: the storage, the keys that other processes use, and the clock
    /// as it was [measured](Self::measure_clock) last.
    pub async fn readiness(&self) -> Readiness {
        let storage = self.inner.storage.check_ready().await;
        let keys = match &storage.database {
            Check::Passed => self.check_keys().await.into(),
            Check::Failed(_) | Check::Skipped => Check::Skipped,
        };
        Readiness::new(storage, keys, self.check_clock().into())
    }

    /// Checks whether requests can be served, as [`readiness`](Self::readiness) does.
    ///
    /// # Errors
    ///
    /// The error of the first failed check.
    pub async fn check_ready(&self) -> Result<(), Error> {
        self.readiness().await.into_result()
    }

    /// Checks that this process has the keys that other processes on the storage use.
    async fn check_keys(&self) -> Result<(), Error> {
        let request = self.key_registration(&self.secrets());
        Ok(request.decide(&self.inner.storage.registered_keys().await?).outcome?)
    }

    /// Compares the issuer, the audience and the policy with those of the process that started last on this
    /// storage, logs a warning for each difference, and records those of this process. Call it when a process
    /// starts. [`run_maintenance`](Self::run_maintenance) repeats the comparison.
    ///
    /// # Errors
    ///
    /// If the storage fails.
    pub async fn share_settings(&self) -> Result<Vec<SettingDifference>, Error> {
        let differences = self.compare_settings().await?;
        self.inner.storage.record_settings(&self.shared_settings()).await?;
        Ok(differences)
    }

    /// Compares the settings, and logs the differences that did not exist at the last comparison.
    async fn compare_settings(&self) -> Result<Vec<SettingDifference>, Error> {
        let recorded = self.inner.storage.shared_settings().await?;
        let differences = shared_settings::differences(&self.shared_settings(), &recorded);
        let mut known = self.inner.setting_differences.lock().unwrap_or_else(PoisonError::into_inner);
        for difference in differences.iter().filter(|difference| !known.contains(difference)) {
            difference.log();
        }
        known.clone_from(&differences);
        Ok(differences)
    }

    fn shared_settings(&self) -> Vec<SharedSetting> {
        let secrets = self.secrets();
        shared_settings::of(&secrets.tokens.issuer, &secrets.tokens.audience, &self.inner.policy)
    }

    /// Deletes rows that have ended, checks whether the service is under attack, and [measures the
    /// clock](Self::measure_clock). Call it about every minute in each process. Returns the number of deleted
    /// rows.
    pub async fn run_maintenance(&self) -> Result<u64, Error> {
        if let Err(error) = self.measure_clock().await {
            // Some databases do not have the function that returns the time. The other steps are still
            // useful.
            tracing::warn!(%error, "failed to read the clock of the database");
        }
        if let Err(error) = self.compare_settings().await {
            tracing::warn!(%error, "failed to compare the settings with those of other processes");
        }
        let now = self.now();
        let check = AttackCheck { now, policy: Arc::clone(&self.inner.policy) };
        self.emit_attack_change(self.inner.storage.check_attack(&check).await?).await;

        // An expired code still counts for the resend interval.
        let ended_before = now - self.inner.policy.resend_interval;
        let (global_counters_before, messages_before) =
            (now - GLOBAL_COUNTER_RETENTION, now - MESSAGE_RETENTION);
        let retention =
            Retention { ended_before, global_counters_before, messages_before, batch_size: BATCH_SIZE };
        let mut deleted = 0;
        loop {
            let batch = self.inner.storage.delete_expired(&retention).await?;
            deleted += batch;
            if batch < u64::from(BATCH_SIZE) {
                return Ok(deleted);
            }
        }
    }

    /// Closes the resources of the storage. Call it after the last request.
    pub async fn close(&self) {
        self.inner.storage.close().await;
    }

    /// Returns the current keys and peppers. Call it once for each request, so that all parts of the request
    /// use the same ones.
    fn secrets(&self) -> Arc<Secrets> {
        Arc::clone(&self.inner.secrets.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn register_secrets(&self, secrets: &Secrets) -> Result<(), Error> {
        Ok(self.inner.storage.register_keys(&self.key_registration(secrets)).await??)
    }

    fn key_registration(&self, Secrets { tokens, peppers }: &Secrets) -> KeyRegistration {
        let Policy { refresh_lifetime, code_lifetime, .. } = *self.inner.policy;
        KeyRegistration::new(self.now(), &tokens.keys, refresh_lifetime, peppers, code_lifetime)
    }

    fn now(&self) -> OffsetDateTime {
        to_microseconds(self.inner.clock.now())
    }

    async fn emit(&self, event: Event) {
        event.log();
        self.inner.hook.on_event(&event).await;
    }

    /// Emits an event if an attack started or ended, as far as this process knows.
    async fn emit_attack_change(&self, under_attack: bool) {
        if self.inner.under_attack.swap(under_attack, Ordering::Relaxed) != under_attack {
            self.emit(Event::UnderAttack(under_attack)).await;
        }
    }

    fn new_user(&self, phone: PhoneNumber, now: OffsetDateTime) -> NewUser {
        let random = &*self.inner.random;
        NewUser {
            id: UserId(random.time_ordered_uuid(now)),
            phone,
            invite_codes: (0..CANDIDATES).map(|_| InviteCode::generate(random)).collect(),
            is_staff: false,
            date_joined: now,
            last_login: None,
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
            counts_attempts_without_challenge: self.inner.attempt_budget.has_room(now),
            code: request.code,
            session: SessionId(random.time_ordered_uuid(now)),
            session_expires_at: to_seconds(now) + policy.session_lifetime,
            issued: self.new_tokens(now, secrets),
            policy: Arc::clone(policy),
            peppers: Arc::clone(&secrets.peppers),
        }
    }

    fn new_tokens(&self, now: OffsetDateTime, secrets: &Secrets) -> IssuedTokens {
        let Inner { policy, random, .. } = &*self.inner;
        let issued_at = to_seconds(now);
        IssuedTokens {
            key_id: secrets.tokens.keys.current().id().to_owned(),
            access_id: random.uuid(),
            refresh_id: random.uuid(),
            issued_at,
            access_expires_at: issued_at + policy.access_lifetime,
            refresh_expires_at: issued_at + policy.refresh_lifetime,
        }
    }

    fn expires_in(&self, tokens: &TokenPair) -> Duration {
        (tokens.access_expires_at - to_seconds(self.now())).try_into().unwrap_or_default()
    }

    /// Returns the active session of a valid access token, with the user and the newest invitees.
    async fn session_of(&self, access_token: &str, invited: u32) -> Result<StoredSession, Error> {
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
}
