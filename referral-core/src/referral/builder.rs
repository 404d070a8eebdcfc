//! Putting the handle together.

use std::sync::{Arc, Mutex, RwLock, atomic::AtomicBool};

use super::{AttemptBudget, Inner, Referral, Secrets, clocks::Clocks, delivery::WeakReports};
use crate::{
    Invalid, Locale, Policy, SmsCode,
    clock::{Clock, SystemClock},
    hook::Hook,
    keys::{Peppers, SigningKeys},
    random::{Random, SystemRandom},
    sms::{SmsSender, Texts},
    storage::Storage,
    token::{Tokens, refresh_audience},
};

/// Writes the message for a code in the first of these languages that it knows.
pub(super) type TextFn = Arc<dyn Fn(&SmsCode, &[Locale]) -> String + Send + Sync>;

/// Why a handle could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The policy makes no sense.
    #[error(transparent)]
    Policy(#[from] Invalid),
    /// The key that signs does not verify what it signed.
    #[error("the first signing key cannot sign a token that it then verifies")]
    SigningKey,
    /// The audience of access tokens is that of refresh tokens.
    #[error(
        "the audience of access tokens must not be the issuer with `:refresh`, which refresh tokens have"
    )]
    Audience,
}

/// Puts a [`Referral`] together.
pub struct Builder {
    storage: Arc<dyn Storage>,
    sender: Arc<dyn SmsSender>,
    hook: Arc<dyn Hook>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    policy: Policy,
    tokens: Tokens,
    peppers: Peppers,
    text: TextFn,
}

impl Referral {
    /// Begins with what has no default: where everything is kept, how messages are sent, the
    /// keys that sign tokens and the peppers that hash codes.
    pub fn builder(
        storage: Arc<dyn Storage>,
        sender: Arc<dyn SmsSender>,
        keys: SigningKeys,
        peppers: Peppers,
    ) -> Builder {
        Builder {
            storage,
            sender,
            hook: Arc::new(()),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            policy: Policy::standard(),
            tokens: Tokens::new(keys, "referral".into(), "referral".into()),
            peppers,
            text: written_with(Texts::default()),
        }
    }
}

impl Builder {
    /// The numbers of the service; by default [`Policy::standard`].
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Who issues the tokens (`iss`); by default `referral`.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.tokens.issuer = issuer.into();
        self
    }

    /// Whom the access tokens are for (`aud`); by default `referral`. Refresh tokens are for the issuer
    /// itself, and have its name with `:refresh` in this claim.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.tokens.audience = audience.into();
        self
    }

    /// Who is told of what happened; by default nobody.
    #[must_use]
    pub fn hook(mut self, hook: impl Hook) -> Self {
        self.hook = Arc::new(hook);
        self
    }

    /// What messages say; by default [`Texts::default`].
    #[must_use]
    pub fn texts(mut self, texts: Texts) -> Self {
        self.text = written_with(texts);
        self
    }

    /// What the message says, given the code and the languages asked for, the best first: for whoever
    /// does not find [`texts`](Self::texts) enough.
    #[must_use]
    pub fn text_fn(mut self, text: impl Fn(&SmsCode, &[Locale]) -> String + Send + Sync + 'static) -> Self {
        self.text = Arc::new(text);
        self
    }

    /// What tells the time; by default the system's clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// What gives randomness; by default the operating system. For tests only: whoever can
    /// foresee it can sign in as anybody.
    #[must_use]
    pub fn random(mut self, random: impl Random) -> Self {
        self.random = Arc::new(random);
        self
    }

    /// Checks that access tokens have another audience than refresh tokens.
    ///
    /// [`build`](Self::build) checks it as well. A program can call this before it opens the storage.
    pub fn check_audience(issuer: &str, audience: &str) -> Result<(), BuildError> {
        if audience == refresh_audience(issuer) { Err(BuildError::Audience) } else { Ok(()) }
    }

    /// The handle, once it is certain that its policy makes sense and that it can sign.
    ///
    /// # Errors
    ///
    /// See [`BuildError`].
    ///
    /// # Panics
    ///
    /// If `jsonwebtoken` has no crypto backend, or two: enable exactly one of the features
    /// `aws-lc-rs` and `rust-crypto` in the whole build.
    pub fn build(self) -> Result<Referral, BuildError> {
        self.policy.check()?;
        Self::check_audience(&self.tokens.issuer, &self.tokens.audience)?;
        if !self.tokens.can_sign(self.clock.now()) {
            return Err(BuildError::SigningKey);
        }
        let Self { storage, sender, hook, clock, random, policy, tokens, peppers, text } = self;
        let secrets = Secrets { tokens, peppers: Arc::new(peppers) };
        let (secrets, policy) = (RwLock::new(Arc::new(secrets)), Arc::new(policy));
        let under_attack = AtomicBool::new(false);
        let inner = Inner {
            storage,
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
        Ok(Referral { inner: Arc::new(inner) })
    }
}

fn written_with(texts: Texts) -> TextFn {
    Arc::new(move |code, locales| texts.write(code, locales))
}
