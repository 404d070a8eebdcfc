//! Gate: hooks that decide. The host allows or rejects a code, a sign-up or an invitation, for example after
//! the check of a captcha.
//!
//! A rejection has a code and a text of the host, which the client receives. The gate runs outside of
//! transactions, before anything of the request is stored or sent:
//!
//! | Method | Question | Asked |
//! |---|---|---|
//! | [`before_send`](Gate::before_send) | May the phone get a code? | Before limits are checked and counted |
//! | [`before_sign_up`](Gate::before_sign_up) | May a user with the phone be created? | After a correct code |
//! | [`before_invitation`](Gate::before_invitation) | May the user accept the invitation? | After a correct code, or in a profile edit |
//!
//! Before a correct code, the gate is asked the same whether or not the phone has a user. A rejection leaves
//! the code usable, so the client can correct the request and send it again. Users that the host or staff
//! creates need no approval.
//!
//! ```
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use referral_core::{
//!     Error, Refusal, SendCode,
//!     gate::{Caller, Context, Gate, GateOptions, Rejection, Verdict},
//!     storage::BoxError,
//! };
//!
//! /// Sends codes only to clients that solved the captcha.
//! struct Captcha;
//!
//! #[async_trait]
//! impl Gate for Captcha {
//!     async fn before_send(&self, caller: &Caller) -> Result<Verdict, BoxError> {
//!         if caller.context.get("captcha").is_some_and(|token| token == "solved") {
//!             return Ok(Verdict::Allow);
//!         }
//!         let rejection = Rejection::new("captcha_required", "Solve the captcha and try again.")?;
//!         Ok(Verdict::Reject(rejection))
//!     }
//! }
//!
//! # #[cfg(not(feature = "test-util"))] fn main() {}
//! # #[cfg(feature = "test-util")] #[tokio::main] async fn main() -> Result<(), BoxError> {
//! # use referral_core::{storage::MemoryStorage, test_util::TestService};
//! # let storage = Arc::new(MemoryStorage::new());
//! # let service = TestService::with_builder(storage, |builder| {
//! builder.gate(Arc::new(Captcha), GateOptions::default())
//! # });
//! # let referral = service.referral;
//! # ;
//! let send = SendCode::new(referral.parse_phone("+79608543017")?);
//! let rejected = referral.send_code(send.clone()).await;
//! let Err(Error::Refused(Refusal::RejectedByHost(rejection))) = rejected else { panic!("{rejected:?}") };
//! assert_eq!(rejection.code(), "captcha_required");
//!
//! let context = Context::try_from(serde_json::json!({ "captcha": "solved" }))?;
//! referral.send_code(send.context(context)).await?;
//! # Ok(())
//! # }
//! ```

pub(crate) mod approval;
mod context;
#[cfg(feature = "gate-http")]
mod http;
mod rejection;

use std::{fmt, time::Duration};

use async_trait::async_trait;

#[cfg(feature = "gate-http")]
pub use self::http::{HttpGate, HttpGateError};
pub use self::{
    context::Context,
    rejection::{InvalidRejection, Rejection},
};
use crate::{
    invite::{code::InviteCode, invitation::AcceptedVia},
    rate_limit::client::ClientAddress,
    sms::locale::Locale,
    storage::error::BoxError,
    user::{
        UserId,
        phone::{PhoneNumber, Region},
    },
};

/// Gate of the host. Each method allows by default.
///
/// An `Err` means that the gate failed, and so does a panic: see [`GateOptions::on_failure`]. Errors are
/// logged, so they must contain neither the phone nor the context. A gate that blocks its thread is not
/// interrupted after [`GateOptions::timeout`].
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Decides whether a phone may get a code to sign in, before limits are checked and counted. The gate is
    /// also asked for a [test number](crate::policy::TestNumber), which gets no message. Otherwise a client
    /// could find the test numbers.
    async fn before_send(&self, _caller: &Caller) -> Result<Verdict, BoxError> {
        Ok(Verdict::Allow)
    }

    /// Decides whether a user with the phone may be created, after a correct code.
    async fn before_sign_up(
        &self,
        _caller: &Caller,
        _sign_up: &RequestedSignUp,
    ) -> Result<Verdict, BoxError> {
        Ok(Verdict::Allow)
    }

    /// Decides whether a user may accept an invitation that no rule refuses. For an invitation at sign-up, it
    /// is asked after [`before_sign_up`](Self::before_sign_up).
    async fn before_invitation(
        &self,
        _caller: &Caller,
        _invitation: &RequestedInvitation,
    ) -> Result<Verdict, BoxError> {
        Ok(Verdict::Allow)
    }
}

/// Phone and client of a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Caller {
    /// Phone in the request. In [`Gate::before_send`], it may belong to another person.
    pub phone: PhoneNumber,
    /// Region of the phone, if it is known.
    pub region: Option<Region>,
    /// Address of the client, if the host passes it to the service.
    pub address: Option<ClientAddress>,
    /// User agent of the client, if the host passes it to the service.
    pub user_agent: Option<String>,
    /// Languages of the client, in order of preference, for the text of a rejection.
    pub locales: Vec<Locale>,
    /// Context in the request, such as the token of a captcha. It is empty if the request has none.
    pub context: Context,
}

/// Sign-up that requires an approval.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestedSignUp {
    /// Invitation that the user accepts with the sign-up, if the request has an invite code.
    pub invitation: Option<RequestedInvitation>,
}

/// Invitation that requires an approval.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestedInvitation {
    /// Owner of the invite code.
    pub inviter: UserId,
    /// User that accepts the invitation, or `None` at sign-up, because the user does not exist yet.
    pub invitee: Option<UserId>,
    /// Invite code in the request.
    pub code: InviteCode,
    /// Operation that accepts the invitation.
    pub via: AcceptedVia,
}

/// Decision of a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "each gate returns one of these two")]
pub enum Verdict {
    /// The request continues.
    Allow,
    /// The request is refused with [`Refusal::RejectedByHost`](crate::Refusal::RejectedByHost).
    Reject(Rejection),
}

/// Settings of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GateOptions {
    /// Time limit for each question; by default [`TIMEOUT`](Self::TIMEOUT). A sign-up with an invite code has
    /// two questions, one after the other.
    pub timeout: Duration,
    /// Result of a question if the gate fails; by default [`OnGateFailure::Reject`].
    pub on_failure: OnGateFailure,
    /// Maximum number of questions that wait for the gate; by default
    /// [`MAX_CONCURRENT`](Self::MAX_CONCURRENT). Further ones fail immediately, so a slow gate does not delay
    /// requests without a question.
    pub max_concurrent: u32,
}

impl GateOptions {
    /// Default time limit: the usual time of a response of a captcha provider is far below it, and with two
    /// questions and the work of the service a sign-up stays within ten seconds.
    pub const TIMEOUT: Duration = Duration::from_secs(2);

    /// Default of the maximum number of waiting questions: an eighth of the 2 000 requests that the server
    /// has in flight. If the gate takes 50 ms, it is sufficient for 5 000 questions a second.
    pub const MAX_CONCURRENT: u32 = 250;

    /// Sets the time limit for each question.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the result of a question if the gate fails.
    #[must_use]
    pub fn on_failure(mut self, on_failure: OnGateFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// Sets the maximum number of questions that wait for the gate.
    #[must_use]
    pub fn max_concurrent(mut self, questions: u32) -> Self {
        self.max_concurrent = questions;
        self
    }
}

impl Default for GateOptions {
    fn default() -> Self {
        Self {
            timeout: Self::TIMEOUT,
            on_failure: OnGateFailure::Reject,
            max_concurrent: Self::MAX_CONCURRENT,
        }
    }
}

/// Result of a question if the gate fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a request continues or fails")]
pub enum OnGateFailure {
    /// The request fails with [`Error::GateFailed`](crate::Error::GateFailed), and can be sent again
    /// (fail-closed).
    #[default]
    Reject,
    /// The request continues as if the gate had allowed it (fail-open). An attacker that overloads the gate
    /// then passes it.
    Allow,
}

/// Method of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GateOperation {
    /// [`Gate::before_send`].
    BeforeSend,
    /// [`Gate::before_sign_up`].
    BeforeSignUp,
    /// [`Gate::before_invitation`].
    BeforeInvitation,
}

impl GateOperation {
    /// Returns the stable `snake_case` name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeSend => "before_send",
            Self::BeforeSignUp => "before_sign_up",
            Self::BeforeInvitation => "before_invitation",
        }
    }
}

impl fmt::Display for GateOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Failure of a gate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateFailure {
    /// The gate did not respond in time.
    #[error("no response in time")]
    TimedOut,
    /// [`GateOptions::max_concurrent`] questions are waiting for the gate.
    #[error("too many questions are waiting for the gate")]
    Busy,
    /// The gate panicked.
    #[error("the gate panicked")]
    Panicked,
    /// The gate returned an error, here with its sources.
    #[error("{0}")]
    Failed(String),
}

/// Outcome of a question to the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GateOutcome {
    /// The gate allowed the request.
    Allowed,
    /// The gate rejected the request.
    Rejected(Rejection),
    /// The gate failed.
    Failed(GateFailure),
}

impl GateOutcome {
    /// Returns the stable `snake_case` name.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Rejected(_) => "rejected",
            Self::Failed(_) => "failed",
        }
    }
}
