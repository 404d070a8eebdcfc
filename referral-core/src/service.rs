//! The service object with all operations, which are in the modules below.

pub(crate) mod account;
pub(crate) mod administration;
mod attempt_budget;
pub(crate) mod builder;
mod clocks;
mod code_requests;
mod delivery;
mod gate;
pub(crate) mod host;
mod keys;
mod maintenance;
mod notices;
pub(crate) mod personal_data;
pub(crate) mod phone_change;
mod question_budget;
pub(crate) mod send_code;
pub(crate) mod sessions;
pub(crate) mod sign_in;
pub(crate) mod statistics;
pub(crate) mod users;

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_channel::oneshot;
use time::OffsetDateTime;
use tracing::Instrument as _;

use self::attempt_budget::AttemptBudget;
use crate::{
    clock::{Clock, to_microseconds, to_seconds},
    error::{Error, input::InvalidInput},
    events::{AttackChanged, Event, Hook},
    invite::code::{CANDIDATES, InviteCode},
    keys::Peppers,
    policy::Policy,
    random::Random,
    session::{
        IssuedTokens, Session,
        claims::ClaimsFn,
        jwt::{TokenPair, Tokens},
    },
    shared_settings::SettingDifference,
    sms::SmsSender,
    spawner::Spawner,
    storage::Storage,
    user::{NewUser, UserId, metadata::Metadata, phone::PhoneNumber},
};

/// All operations of the service. Clones are cheap and share all state.
#[derive(Clone)]
pub struct ReferralService {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Arc<dyn Storage>,
    spawner: Option<Arc<dyn Spawner>>,
    sender: Arc<dyn SmsSender>,
    hook: Arc<dyn Hook>,
    gatekeeper: Option<gate::Gatekeeper>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    policy: Arc<Policy>,
    /// Keys and peppers. They are replaced as a whole, and read once for each request, which takes 20 ns if
    /// two threads do it concurrently.
    secrets: RwLock<Arc<Secrets>>,
    text: builder::MessageFn,
    notice_text: builder::NoticeFn,
    claims: Option<ClaimsFn>,
    /// `true` if the service was under attack at the last check.
    under_attack: AtomicBool,
    attempt_budget: AttemptBudget,
    code_requests: code_requests::CodeRequests,
    weak_reports: delivery::WeakReports,
    clocks: clocks::Clocks,
    /// Differences that were logged.
    setting_differences: Mutex<Vec<SettingDifference>>,
}

/// Key rings of the signing keys and of the peppers, which are replaced together.
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
    /// Number of invitees that a profile shows. [`invitees`](Self::invitees) returns all of them, by page.
    pub const INVITED_SHOWN: u32 = 100;

    /// Largest number of sessions that [`sessions`](Self::sessions) returns.
    pub const SESSIONS_SHOWN: u32 = 100;

    /// Largest number of former users of a phone that [`UserDetails`](crate::UserDetails) has. A phone seldom
    /// has more than one.
    pub const FORMER_USERS_SHOWN: u32 = 20;

    /// Returns the policy in force.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    /// Parses a phone number as typed, in the default region of the policy. Test numbers and numbers with an
    /// [additional prefix](crate::policy::Policy::additional_prefixes) are accepted even if no numbering plan
    /// assigns them.
    ///
    /// # Errors
    ///
    /// `invalid_phone`, as for [`PhoneNumber::parse`].
    pub fn parse_phone(&self, input: &str) -> Result<PhoneNumber, InvalidInput> {
        self.inner.policy.parse_phone(input, self.now())
    }

    /// Generates a UUID that sorts by time (version 7), with the clock and the random generator of this
    /// service.
    #[must_use]
    pub fn generate_id(&self) -> uuid::Uuid {
        self.inner.random.time_ordered_uuid(self.now())
    }

    /// Returns the current keys and peppers. Call it once for each request, so that all parts of the request
    /// use the same ones.
    fn secrets(&self) -> Arc<Secrets> {
        Arc::clone(&self.inner.secrets.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn now(&self) -> OffsetDateTime {
        to_microseconds(self.inner.clock.now())
    }

    /// Runs an operation to its end if there is a [`Spawner`], also if the caller drops the returned future.
    /// Its log events are in the span of the caller, which has the id of the request.
    async fn complete<T: Send + 'static>(
        &self,
        operation: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let Some(spawner) = &self.inner.spawner else {
            return operation.await;
        };
        let (sender, outcome) = oneshot::channel();
        let task = async move {
            // The caller may be gone.
            let _ = sender.send(operation.await);
        };
        spawner.spawn(Box::pin(task.in_current_span()));
        outcome.await.unwrap_or(Err(Error::Aborted))
    }

    async fn emit(&self, event: Event) {
        event.log();
        self.inner.hook.on_event(&event).await;
    }

    /// Emits an event if an attack started or ended, as far as this process knows.
    async fn emit_attack_change(&self, under_attack: bool) {
        if self.inner.under_attack.swap(under_attack, Ordering::Relaxed) != under_attack {
            self.emit(Event::AttackChanged(AttackChanged { under_attack })).await;
        }
    }

    fn new_user(&self, phone: PhoneNumber, now: OffsetDateTime) -> NewUser {
        let random = &*self.inner.random;
        NewUser {
            id: UserId(random.time_ordered_uuid(now)),
            phone,
            invite_codes: (0..CANDIDATES).map(|_| InviteCode::generate(random)).collect(),
            staff_role: None,
            date_joined: now,
            last_login: None,
            external_id: None,
            metadata: Metadata::default(),
        }
    }

    /// Returns tokens without custom claims, which depend on facts.
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
            claims: None,
        }
    }

    fn expires_in(&self, tokens: &TokenPair) -> Duration {
        (tokens.access_expires_at - to_seconds(self.now())).try_into().unwrap_or_default()
    }
}
