//! The handle: everything the service does, in the order in which somebody meets it.

mod attempt_budget;
mod builder;
mod clocks;
mod codes;
mod delivery;
mod messages;
mod people;
mod sessions;

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
    builder::{BuildError, Builder},
    messages::{Bearer, Refresh, Refreshed, SendCode, SentCode, SignIn, SignedIn},
    people::{InviteeList, ListUsers, PageLink, UserList},
    sessions::SESSIONS_SHOWN,
};
use crate::{
    Check, Error, Event, InviteCode, MessageRoute, PhoneNumber, Policy, Readiness, Refusal, Session,
    SessionEnd, SessionId, SettingDifference, SharedSetting, TokenKind, TokenPair, UserId, VerifiedToken,
    clock::{Clock, to_microseconds, to_seconds},
    delivery::MESSAGE_MEMORY,
    hook::Hook,
    invite_code::CANDIDATES,
    keyring::KeyRequest,
    keys::{Peppers, SigningKeys},
    random::Random,
    service::{SERVICE_MEMORY, WatchRequest},
    session::{Grant, RefreshRequest},
    shared_settings,
    sign_in::SignInRequest,
    sms::SmsSender,
    storage::{Storage, StoredSession, Sweep},
    token::Tokens,
    user::NewUser,
};

/// How many invitees a profile shows; [`Referral::invitees`] has the rest.
pub const INVITED_SHOWN: u32 = 100;

/// How many rows one step of [`Referral::sweep`] deletes of each kind, so that no one waits long.
const SWEEP_BATCH: u32 = 500;

/// The service. Cheap to clone: all clones are one.
#[derive(Clone)]
pub struct Referral {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Arc<dyn Storage>,
    sender: Arc<dyn SmsSender>,
    hook: Arc<dyn Hook>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    policy: Arc<Policy>,
    /// Replaced as a whole, and taken once for a request, which costs 20 ns where two threads do it.
    secrets: RwLock<Arc<Secrets>>,
    text: builder::TextFn,
    /// Whether the service was under attack when it was last looked at.
    under_attack: AtomicBool,
    attempt_budget: AttemptBudget,
    weak_reports: delivery::WeakReports,
    clocks: clocks::Clocks,
    /// The differences that were logged.
    setting_differences: Mutex<Vec<SettingDifference>>,
}

/// The two rings, which are replaced together.
struct Secrets {
    tokens: Tokens,
    peppers: Arc<Peppers>,
}

impl Secrets {
    fn sign(&self, session: &Session) -> Result<TokenPair, Error> {
        self.tokens
            .sign(session.user, session.id, &session.grant)
            .map_err(|error| Error::Signing(error.into()))
    }
}

impl Referral {
    /// The policy that is in force.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    /// The public keys with which other services verify access tokens, as a JSON Web Key Set.
    #[must_use]
    pub fn public_jwk_set(&self) -> String {
        self.secrets().tokens.keys.public_jwk_set()
    }

    /// Reads a phone number as somebody typed it, in the policy's default region.
    pub fn parse_phone(&self, input: &str) -> Result<PhoneNumber, crate::Invalid> {
        PhoneNumber::parse(input, self.inner.policy.default_region)
    }

    /// Signs in with a code; a phone that is not known becomes a user.
    ///
    /// # Errors
    ///
    /// [`Refusal::InvalidCode`]; after a right code also [`Refusal::UserInactive`] and, with the
    /// code still usable, [`Refusal::UnknownInviteCode`], [`Refusal::OwnInviteCode`] and
    /// [`Refusal::InvitationLoop`]. [`Refusal::TooManyRequests`] for an address from which too many
    /// wrong codes came, and, after a right code, where too many unknown invite codes were given.
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
                self.tell(Event::SignInRefused { phone: attempt.phone, reason, address }).await;
                return Err(reason.into());
            }
        };

        if stored.created {
            self.tell(Event::UserCreated(stored.user.clone())).await;
        }
        if let Some(invitation) = stored.accepted {
            self.tell(Event::InvitationAccepted(invitation)).await;
        }
        let (user, session) = (stored.user.id, stored.session.id);
        let route = stored.gateway.map(|gateway| MessageRoute::new(gateway, &attempt.phone));
        self.tell(Event::SignedIn { user, session, address, route }).await;
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

    /// Exchanges a refresh token for new tokens. The token exchanged last gives the very same
    /// ones again, until they are seen in use.
    ///
    /// # Errors
    ///
    /// [`Refusal::TokenNotValid`]; [`Refusal::RefreshReused`] for a token exchanged before,
    /// whose session has been ended by this.
    pub async fn refresh(&self, refresh: impl Into<Refresh<'_>>) -> Result<Refreshed, Error> {
        let Refresh { token, client } = refresh.into();
        let now = self.now();
        let secrets = self.secrets();
        let token = secrets.tokens.read(token, Some(TokenKind::Refresh), now)?;
        let request = RefreshRequest {
            session: token.session,
            refresh_id: token.id,
            now,
            successor: self.new_grant(now, &secrets),
            grace: self.inner.policy.refresh_grace,
            client,
        };
        let refreshed = self.inner.storage.refresh(&request).await?;
        if refreshed == Err(Refusal::RefreshReused) {
            let (user, session, reason) = (token.user, token.session, SessionEnd::RefreshReused);
            self.tell(Event::SessionEnded { user, session, reason }).await;
        }
        let session = refreshed?;
        let tokens = secrets.sign(&session)?;
        Ok(Refreshed { expires_in: self.expires_in(&tokens), tokens })
    }

    /// Says what a token is, if it is valid now: its session lives and its user is active. Of the refresh
    /// tokens of a session only the current one is valid. An older one may still lead to the same successor,
    /// but whether it does tells whether that successor has been used, which a thief must not learn here.
    ///
    /// # Errors
    ///
    /// [`Refusal::TokenNotValid`].
    pub async fn verify(&self, token: &str, kind: Option<TokenKind>) -> Result<VerifiedToken, Error> {
        let now = self.now();
        let token = self.secrets().tokens.read(token, kind, now)?;
        let StoredSession { session, .. } = self.live_session(&token, 0).await?;
        if token.kind == TokenKind::Refresh && token.id != session.grant.refresh_id {
            return Err(Refusal::TokenNotValid.into());
        }
        Ok(token)
    }

    /// Says what an access token is, by its signature and its times alone: no storage is asked,
    /// so for as long as it lasts it passes even if its session has ended or its user has been
    /// deactivated.
    pub fn verify_without_storage(&self, access_token: &str) -> Result<VerifiedToken, Refusal> {
        self.secrets().tokens.read(access_token, Some(TokenKind::Access), self.now())
    }

    /// Whose access token it is, if it is valid now.
    ///
    /// # Errors
    ///
    /// [`Refusal::TokenNotValid`].
    pub async fn authenticate(&self, access_token: &str) -> Result<Bearer, Error> {
        let found = self.session_of(access_token, 0).await?;
        Ok(Bearer { user: found.user.user, session: found.session.id })
    }

    /// A UUID that sorts by time (version 7), from the handle's clock and generator.
    #[must_use]
    pub fn draw_id(&self) -> uuid::Uuid {
        self.inner.random.time_ordered_uuid(self.now())
    }

    /// Says to all who share the storage which keys are in use here, and makes sure that theirs are
    /// here too. Call it once, before the first request, where several processes share a database:
    /// else each may refuse what another signed.
    ///
    /// # Errors
    ///
    /// [`Error::KeyMismatch`] says which key is missing.
    pub async fn agree_on_keys(&self) -> Result<(), Error> {
        self.agree_on(&self.secrets()).await
    }

    /// Takes other keys and peppers in place of those of now, for all clones at once, without a
    /// request being lost. A ring that begins with a new key and has the others after it signs
    /// nobody out; what a key made that is not in the ring any more is refused from now on.
    ///
    /// It agrees with the storage first, as [`agree_on_keys`](Self::agree_on_keys) does. Where several
    /// processes share it, each must have a new key **before** any has it first.
    ///
    /// # Errors
    ///
    /// [`Error::KeyMismatch`] if a key is missing that is in use, [`Error::Signing`] if the first
    /// key cannot sign. After an error everything is as it was.
    pub async fn replace_keys(&self, keys: SigningKeys, peppers: Peppers) -> Result<(), Error> {
        let tokens = self.secrets().tokens.with_keys(keys);
        if !tokens.can_sign(self.now()) {
            return Err(Error::Signing(BuildError::SigningKey.into()));
        }
        let secrets = Arc::new(Secrets { tokens, peppers: Arc::new(peppers) });
        self.agree_on(&secrets).await?;
        let mut place = self.inner.secrets.write().unwrap_or_else(PoisonError::into_inner);
        let former = mem::replace(&mut *place, secrets);
        drop(place);
        // Much is remembered of the former tokens: nobody waits until it is forgotten.
        drop(former);
        Ok(())
    }

    /// Checks whether requests can be served: the storage, the keys that other processes use, and the clock as
    /// it was [measured](Self::measure_clock) last.
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
    /// The error of the first check that failed.
    pub async fn check_ready(&self) -> Result<(), Error> {
        self.readiness().await.into_result()
    }

    /// Checks that the keys are here that other processes on the storage use.
    async fn check_keys(&self) -> Result<(), Error> {
        let request = self.key_request(&self.secrets());
        request.decide(&self.inner.storage.known_keys().await?)?;
        Ok(())
    }

    /// Compares the issuer, the audience and the policy with those of the process that started last on this
    /// storage, logs a warning for each difference, and records those of this process. Call it when a process
    /// starts; [`sweep`](Self::sweep) repeats the comparison.
    ///
    /// # Errors
    ///
    /// If the storage fails.
    pub async fn share_settings(&self) -> Result<Vec<SettingDifference>, Error> {
        let differences = self.compare_settings().await?;
        self.inner.storage.record_settings(&self.shared_settings()).await?;
        Ok(differences)
    }

    /// Compares the settings, and logs the differences that were not there the last time.
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

    /// Deletes what has ended, looks whether the service is under attack, and
    /// [measures the clock](Self::measure_clock): call it every minute or so, in each process. Returns how
    /// much it deleted.
    pub async fn sweep(&self) -> Result<u64, Error> {
        if let Err(error) = self.measure_clock().await {
            // Such as an engine without that function. What follows is worth doing all the same.
            tracing::warn!(%error, "failed to read the clock of the database");
        }
        if let Err(error) = self.compare_settings().await {
            tracing::warn!(%error, "failed to compare the settings with those of other processes");
        }
        let now = self.now();
        let watch = WatchRequest { now, policy: Arc::clone(&self.inner.policy) };
        let alert = self.inner.storage.watch(&watch).await?;
        self.note_attack(alert.under_attack).await;

        // A code that expired still counts for the cool-down.
        let ended_before = now - self.inner.policy.cool_down;
        let (figures_before, messages_before) = (now - SERVICE_MEMORY, now - MESSAGE_MEMORY);
        let sweep = Sweep { ended_before, figures_before, messages_before, batch: SWEEP_BATCH };
        let mut swept = 0;
        loop {
            let batch = self.inner.storage.sweep(&sweep).await?;
            swept += batch;
            if batch < u64::from(SWEEP_BATCH) {
                return Ok(swept);
            }
        }
    }

    /// Ends what the storage has open. To be called after the last request.
    pub async fn close(&self) {
        self.inner.storage.close().await;
    }

    /// The rings of now: to be taken once for a request, so that all of it uses the same.
    fn secrets(&self) -> Arc<Secrets> {
        Arc::clone(&self.inner.secrets.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn agree_on(&self, secrets: &Secrets) -> Result<(), Error> {
        Ok(self.inner.storage.agree_on_keys(&self.key_request(secrets)).await??)
    }

    fn key_request(&self, Secrets { tokens, peppers }: &Secrets) -> KeyRequest {
        let Policy { refresh_lifetime, code_lifetime, .. } = *self.inner.policy;
        KeyRequest::new(self.now(), &tokens.keys, refresh_lifetime, peppers, code_lifetime)
    }

    fn now(&self) -> OffsetDateTime {
        to_microseconds(self.inner.clock.now())
    }

    async fn tell(&self, event: Event) {
        event.log();
        self.inner.hook.on_event(&event).await;
    }

    /// Tells if an attack began or is over, as far as is known here.
    async fn note_attack(&self, under_attack: bool) {
        if self.inner.under_attack.swap(under_attack, Ordering::Relaxed) != under_attack {
            self.tell(Event::UnderAttack(under_attack)).await;
        }
    }

    fn new_user(&self, phone: PhoneNumber, now: OffsetDateTime) -> NewUser {
        let random = &*self.inner.random;
        NewUser {
            id: UserId(random.time_ordered_uuid(now)),
            phone,
            invite_codes: (0..CANDIDATES).map(|_| InviteCode::draw(random)).collect(),
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
            grant: self.new_grant(now, secrets),
            policy: Arc::clone(policy),
            peppers: Arc::clone(&secrets.peppers),
        }
    }

    fn new_grant(&self, now: OffsetDateTime, secrets: &Secrets) -> Grant {
        let Inner { policy, random, .. } = &*self.inner;
        let issued_at = to_seconds(now);
        Grant {
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

    /// The live session of a valid access token, with the user and the newest invitees.
    async fn session_of(&self, access_token: &str, invited: u32) -> Result<StoredSession, Error> {
        let token = self.secrets().tokens.read(access_token, Some(TokenKind::Access), self.now())?;
        self.live_session(&token, invited).await
    }

    async fn live_session(&self, token: &VerifiedToken, invited: u32) -> Result<StoredSession, Error> {
        let found = self.inner.storage.session(token.session, invited).await?;
        let found = found.filter(|found| {
            let user = &found.user.user;
            found.session.is_live(self.now()) && user.is_active && user.id == token.user
        });
        let found = found.ok_or(Refusal::TokenNotValid)?;
        if found.session.must_note_use(token.id)
            && let Err(error) = self.inner.storage.note_grant_used(token.session, token.id).await
        {
            // Whoever reads need not fail for that: the next use notes it.
            tracing::warn!(session = %token.session, %error, "the use of a new token was not noted");
        }
        Ok(found)
    }
}
