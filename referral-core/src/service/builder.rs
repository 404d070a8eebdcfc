//! Builder of [`ReferralService`]: its parts, their defaults, and the checks of their combination.

use std::sync::{Arc, Mutex, RwLock, atomic::AtomicBool};

use super::{AttemptBudget, Inner, ReferralService, Secrets, clocks::Clocks, delivery::WeakReports};
use crate::{
    clock::{Clock, SystemClock},
    error::input::InvalidInput,
    events::Hook,
    keys::{Peppers, SigningKeys},
    otp::code::OneTimeCode,
    policy::Policy,
    random::{Random, SystemRandom},
    session::jwt::{Tokens, refresh_audience},
    sms::{MessageTemplates, SmsSender, locale::Locale},
    spawner::Spawner,
    storage::Storage,
};

/// Function that writes the message for a code, in the first of these languages for which there is a text.
pub(super) type MessageFn = Arc<dyn Fn(&OneTimeCode, &[Locale]) -> String + Send + Sync>;

/// Error of [`ReferralServiceBuilder::build`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The policy is not valid.
    #[error(transparent)]
    Policy(#[from] InvalidInput),
    /// The signing key does not verify its own signature.
    #[error("the first signing key must be able to verify its own signature")]
    SigningKey,
    /// The audience of access tokens is that of refresh tokens.
    #[error(
        "the audience of access tokens must not be the audience of refresh tokens, which is the issuer with \
         `:refresh`"
    )]
    Audience,
}

/// Builder of a [`ReferralService`].
pub struct ReferralServiceBuilder {
    storage: Arc<dyn Storage>,
    sender: Arc<dyn SmsSender>,
    hook: Arc<dyn Hook>,
    spawner: Option<Arc<dyn Spawner>>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    policy: Policy,
    tokens: Tokens,
    peppers: Peppers,
    text: MessageFn,
}

impl ReferralService {
    /// Returns a builder with the parts that have no default: the storage, the sender of messages, the keys
    /// that sign tokens and the peppers that hash codes.
    pub fn builder(
        storage: Arc<dyn Storage>,
        sender: Arc<dyn SmsSender>,
        keys: SigningKeys,
        peppers: Peppers,
    ) -> ReferralServiceBuilder {
        ReferralServiceBuilder {
            storage,
            sender,
            hook: Arc::new(()),
            spawner: None,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            policy: Policy::standard(),
            tokens: Tokens::new(keys, "referral".into(), "referral".into()),
            peppers,
            text: written_with(MessageTemplates::default()),
        }
    }
}

impl ReferralServiceBuilder {
    /// Sets the policy; by default [`Policy::standard`].
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the issuer of the tokens (`iss`); by default `referral`.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.tokens.issuer = issuer.into();
        self
    }

    /// Sets the audience of the access tokens (`aud`); by default `referral`. The audience of refresh tokens
    /// is always the issuer with `:refresh`.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.tokens.audience = audience.into();
        self
    }

    /// Sets the hook that receives events; by default there is none.
    #[must_use]
    pub fn hook(mut self, hook: Arc<dyn Hook>) -> Self {
        self.hook = hook;
        self
    }

    /// Sets the spawner, with which operations continue after their caller has dropped them; by default there is
    /// none.
    #[must_use]
    pub fn spawner(mut self, spawner: impl Spawner + 'static) -> Self {
        self.spawner = Some(Arc::new(spawner));
        self
    }

    /// Sets the texts of messages; by default [`MessageTemplates::default`].
    #[must_use]
    pub fn message_templates(mut self, texts: MessageTemplates) -> Self {
        self.text = written_with(texts);
        self
    }

    /// Sets the function that writes messages. Its arguments are the code and the requested languages, in
    /// order of preference. Use it if [`message_templates`](Self::message_templates) is not enough.
    #[must_use]
    pub fn message_fn(
        mut self,
        text: impl Fn(&OneTimeCode, &[Locale]) -> String + Send + Sync + 'static,
    ) -> Self {
        self.text = Arc::new(text);
        self
    }

    /// Sets the clock; by default the system clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the source of randomness; by default the operating system. For tests only: with predictable
    /// values, an attacker can sign in as any user.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Checks that access tokens have another audience than refresh tokens.
    ///
    /// [`build`](Self::build) makes this check as well. A program can call this before it opens the storage.
    ///
    /// # Errors
    ///
    /// [`BuildError::Audience`] if `audience` is `issuer` with `:refresh`.
    pub fn check_audience(issuer: &str, audience: &str) -> Result<(), BuildError> {
        if audience == refresh_audience(issuer) { Err(BuildError::Audience) } else { Ok(()) }
    }

    /// Checks the policy, the audience and the signing key, and builds the [`ReferralService`].
    ///
    /// # Errors
    ///
    /// See [`BuildError`].
    pub fn build(self) -> Result<ReferralService, BuildError> {
        self.policy.check()?;
        Self::check_audience(&self.tokens.issuer, &self.tokens.audience)?;
        if !self.tokens.can_sign(self.clock.now()) {
            return Err(BuildError::SigningKey);
        }
        let Self { storage, sender, hook, spawner, clock, random, policy, tokens, peppers, text } = self;
        let secrets = Secrets { tokens, peppers: Arc::new(peppers) };
        let (secrets, policy) = (RwLock::new(Arc::new(secrets)), Arc::new(policy));
        let under_attack = AtomicBool::new(false);
        let inner = Inner {
            storage,
            spawner,
            sender,
            hook,
            clock,
            random,
            policy,
            secrets,
            text,
            under_attack,
            attempt_budget: AttemptBudget::default(),
            weak_reports: WeakReports::default(),
            clocks: Clocks::default(),
            setting_differences: Mutex::default(),
        };
        Ok(ReferralService { inner: Arc::new(inner) })
    }
}

fn written_with(texts: MessageTemplates) -> MessageFn {
    Arc::new(move |code, locales| texts.write(code, locales))
}
