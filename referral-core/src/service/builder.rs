//! Builder of [`ReferralService`]: its parts, their defaults, and the checks of their combination.

use std::sync::{Arc, Mutex, RwLock, atomic::AtomicBool};

use serde::Serialize;

use super::{
    AttemptBudget, Inner, ReferralService, Secrets, clocks::Clocks, code_requests::CodeRequests,
    delivery::WeakReports, gate::Gatekeeper,
};
use crate::{
    clock::{Clock, SystemClock},
    error::input::InvalidInput,
    events::Hook,
    gate::{Gate, GateOptions},
    keys::{Peppers, SigningKeys},
    otp::{code::OneTimeCode, purpose::CodePurpose},
    policy::Policy,
    random::{Random, SystemRandom},
    session::{
        SessionId,
        claims::ClaimsFn,
        jwt::{Tokens, refresh_audience},
    },
    sms::{MessageTemplates, SmsSender, locale::Locale, notice::Notice},
    spawner::Spawner,
    storage::Storage,
    user::User,
};

/// Function that writes the message for a code, in the first of these languages for which there is a text.
pub(super) type MessageFn = Arc<dyn Fn(CodePurpose, &OneTimeCode, &[Locale]) -> String + Send + Sync>;

/// Function that writes the message of a notice, in the first of these languages for which there is a text.
pub(super) type NoticeFn = Arc<dyn Fn(&Notice, &[Locale]) -> String + Send + Sync>;

/// Error of [`ReferralServiceBuilder::build`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The policy is not valid.
    #[error(transparent)]
    Policy(#[from] InvalidInput),
    /// The signing key does not verify its own signature, or issuer and audience are so long that a token has
    /// more than 4 096 bytes.
    #[error(
        "the first signing key must be able to verify its own tokens, which must have at most 4096 bytes"
    )]
    SigningKey,
    /// The name of the custom claims is not a URI of at most 255 bytes.
    #[error("the name of the custom claims must be a URI, such as `https://example.com/claims`")]
    ClaimsName,
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
    gate: Option<(Arc<dyn Gate>, GateOptions)>,
    spawner: Option<Arc<dyn Spawner>>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    policy: Policy,
    tokens: Tokens,
    peppers: Peppers,
    text: MessageFn,
    notice_text: NoticeFn,
    claims: Option<ClaimsFn>,
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
            gate: None,
            spawner: None,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            policy: Policy::standard(),
            tokens: Tokens::new(keys, "referral".into(), "referral".into()),
            peppers,
            text: written_with(MessageTemplates::default()),
            notice_text: notices_of(MessageTemplates::default()),
            claims: None,
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

    /// Adds a claim with data of the host to the access tokens; by default there is none.
    ///
    /// `name` is the name of the claim. It must be a URI, so that it collides with no other claim, such as
    /// `https://example.com/claims`. `claims` returns the value for a user and a session, which can be any
    /// JSON value. With `null`, the token has no such claim. Other services read the value from the token,
    /// and this service with [`VerifiedToken::claim`](crate::VerifiedToken::claim).
    ///
    /// The function is called when tokens are issued: at a sign-in, and at a refresh that issues new tokens.
    /// The user is as the storage commits it, with the invitation that this sign-in accepts. The value is
    /// stored with the session. So a repeated refresh returns the same claims, also after the user has
    /// changed, and also from another process. Except for the random number in a signature of `ES256`, the
    /// tokens are the same.
    ///
    /// The function is called while the storage holds locks, and possibly several times for one token. It
    /// must be fast, must not block, and should have no side effects. Data from other sources must be in
    /// memory.
    ///
    /// If the claim has more than 2 048 bytes of JSON with its name, if it cannot be serialized, or if the
    /// function panics, the sign-in or the refresh fails with
    /// [`StorageError::Claims`](crate::storage::StorageError::Claims). Nothing is stored: no user is created,
    /// and the one-time code or the refresh token can be used again.
    ///
    /// ```
    /// # #[cfg(not(feature = "test-util"))] fn main() {}
    /// # #[cfg(feature = "test-util")] #[tokio::main] async fn main() {
    /// use std::sync::Arc;
    ///
    /// use referral_core::{storage::MemoryStorage, test_util::TestService};
    /// use serde_json::json;
    ///
    /// const CLAIMS: &str = "https://example.com/claims";
    ///
    /// let service = TestService::with_builder(Arc::new(MemoryStorage::new()), |builder| {
    ///     builder.claims(CLAIMS, |user, _session| {
    ///         json!({ "role": if user.is_staff() { "admin" } else { "user" }, "code": user.invite_code })
    ///     })
    /// });
    /// let anna = service.sign_in_as("+79608543017").await;
    ///
    /// let token = service.referral.verify_without_storage(&anna.tokens.access).unwrap();
    /// assert_eq!(token.claim(CLAIMS).unwrap()["role"], "user");
    /// assert_eq!(token.claim(CLAIMS).unwrap()["code"], anna.user.invite_code.as_str());
    /// # }
    /// ```
    #[must_use]
    pub fn claims<C: Serialize>(
        mut self,
        name: impl Into<String>,
        claims: impl Fn(&User, SessionId) -> C + Send + Sync + 'static,
    ) -> Self {
        self.claims = Some(ClaimsFn::new(name.into(), claims));
        self
    }

    /// Sets the gate, which allows or rejects codes, sign-ups and invitations; by default there is none. See
    /// [`gate`](crate::gate).
    #[must_use]
    pub fn gate(mut self, gate: Arc<dyn Gate>, options: GateOptions) -> Self {
        self.gate = Some((gate, options));
        self
    }

    /// Sets the spawner, with which operations continue after their caller has dropped them; by default there
    /// is none.
    #[must_use]
    pub fn spawner(mut self, spawner: impl Spawner + 'static) -> Self {
        self.spawner = Some(Arc::new(spawner));
        self
    }

    /// Sets the texts of messages; by default [`MessageTemplates::default`].
    #[must_use]
    pub fn message_templates(mut self, texts: MessageTemplates) -> Self {
        self.text = written_with(texts.clone());
        self.notice_text = notices_of(texts);
        self
    }

    /// Sets the function that writes messages. Its arguments are the purpose of the code, the code, and the
    /// requested languages in order of preference. The text should name the purpose. Use it if
    /// [`message_templates`](Self::message_templates) is not enough.
    #[must_use]
    pub fn message_fn(
        mut self,
        text: impl Fn(CodePurpose, &OneTimeCode, &[Locale]) -> String + Send + Sync + 'static,
    ) -> Self {
        self.text = Arc::new(text);
        self
    }

    /// Sets the function that writes notices. Its arguments are the content of the notice, and the requested
    /// languages in order of preference. Use it if [`message_templates`](Self::message_templates) is not
    /// enough.
    #[must_use]
    pub fn notice_fn(mut self, text: impl Fn(&Notice, &[Locale]) -> String + Send + Sync + 'static) -> Self {
        self.notice_text = Arc::new(text);
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
        if self.claims.as_ref().is_some_and(|claims| !claims.has_valid_name()) {
            return Err(BuildError::ClaimsName);
        }
        if !self.tokens.can_sign(self.claims.as_ref(), self.clock.now()) {
            return Err(BuildError::SigningKey);
        }
        let Self {
            storage,
            sender,
            hook,
            gate,
            spawner,
            clock,
            random,
            policy,
            tokens,
            peppers,
            text,
            notice_text,
            claims,
        } = self;
        let gatekeeper = gate.map(|(gate, options)| Gatekeeper::new(gate, options));
        let secrets = Secrets { tokens, peppers: Arc::new(peppers) };
        let (secrets, policy) = (RwLock::new(Arc::new(secrets)), Arc::new(policy));
        let under_attack = AtomicBool::new(false);
        let inner = Inner {
            storage,
            spawner,
            sender,
            hook,
            gatekeeper,
            clock,
            random,
            policy,
            secrets,
            text,
            notice_text,
            claims,
            under_attack,
            attempt_budget: AttemptBudget::default(),
            code_requests: CodeRequests::default(),
            weak_reports: WeakReports::default(),
            clocks: Clocks::default(),
            setting_differences: Mutex::default(),
        };
        Ok(ReferralService { inner: Arc::new(inner) })
    }
}

fn written_with(texts: MessageTemplates) -> MessageFn {
    Arc::new(move |purpose, code, locales| texts.write(purpose, code, locales))
}

fn notices_of(texts: MessageTemplates) -> NoticeFn {
    Arc::new(move |notice, locales| texts.write_notice(notice, locales))
}
