//! Parts for tests of services that embed this library: a complete service, a clock that is set manually,
//! reproducible randomness, senders that record messages or fail, and a gate that records its questions.
//!
//! [`TestService`] has all parts. It signs users in with one call, and a test sets its time:
//!
//! ```
//! use std::time::Duration;
//!
//! use referral_core::{Error, InvitationOutcome, Refusal, test_util::TestService};
//!
//! # #[tokio::main]
//! # async fn main() {
//! let service = TestService::new();
//! let anna = service.sign_in_as("+79608543017").await;
//!
//! // Boris signs up with the invite code of Anna.
//! let boris = service.sign_in_with_invite_code("+77011234567", &anna.user.invite_code).await;
//! assert!(boris.created);
//! assert_eq!(boris.invitation, InvitationOutcome::Accepted);
//! let profile = service.referral.current_user(&anna.tokens.access).await.unwrap();
//! assert_eq!(profile.invited_count, 1);
//!
//! // The sender has the messages. The sent code is in the text.
//! let messages = service.sender.messages();
//! assert_eq!(messages.len(), 2);
//! assert!(messages[0].text.reveal().contains(messages[0].code.reveal()));
//!
//! // A token expires, and a second sign-in returns new ones.
//! service.clock.advance(Duration::from_hours(1));
//! let expired = service.referral.authenticate(&anna.tokens.access).await;
//! assert!(matches!(expired, Err(Error::Refused(Refusal::TokenNotValid))));
//! let again = service.sign_in_as("+79608543017").await;
//! assert!(!again.created);
//! service.referral.authenticate(&again.tokens.access).await.unwrap();
//! # }
//! ```
//!
//! [`TestService::with_storage`] uses a storage of your own, and [`TestService::with_builder`] also a policy
//! or a hook.

mod gate;
mod service;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use time::OffsetDateTime;

pub use self::{
    gate::{GateQuestion, RecordingGate},
    service::TestService,
};
use crate::{
    clock::Clock,
    random::Random,
    sms::{Receipt, SmsError, SmsMessage, SmsNotice, SmsSender},
};

/// Clock that is set manually. Clones share the time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<OffsetDateTime>>);

impl ManualClock {
    /// Creates a clock that shows `start`.
    #[must_use]
    pub fn new(start: OffsetDateTime) -> Self {
        Self(Arc::new(Mutex::new(start)))
    }

    /// Advances the clock.
    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Generator that returns the same bytes for the same seed. For tests only: all codes can be computed from
/// the seed.
#[derive(Debug)]
pub struct SeededRandom(Mutex<StdRng>);

impl SeededRandom {
    /// Creates a generator with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }
}

/// Sender that records all messages and accepts them. Clones share the record.
#[derive(Clone, Debug, Default)]
pub struct RecordingSender(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    messages: Vec<SmsMessage>,
    notices: Vec<SmsNotice>,
}

impl RecordingSender {
    /// Returns the messages with codes so far, oldest first.
    #[must_use]
    pub fn messages(&self) -> Vec<SmsMessage> {
        self.lock().messages.clone()
    }

    /// Returns the notices so far, oldest first.
    #[must_use]
    pub fn notices(&self) -> Vec<SmsNotice> {
        self.lock().notices.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SmsSender for RecordingSender {
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError> {
        self.lock().messages.push(message.clone());
        Ok(Receipt::default())
    }

    fn sends_notices(&self) -> bool {
        true
    }

    async fn send_notice(&self, notice: &SmsNotice) -> Result<Receipt, SmsError> {
        self.lock().notices.push(notice.clone());
        Ok(Receipt::default())
    }
}

/// Sender that returns the same error for each message.
#[derive(Clone, Debug)]
pub struct FailingSender(SmsError);

impl FailingSender {
    /// Creates a sender that returns `error` for each message.
    #[must_use]
    pub fn new(error: SmsError) -> Self {
        Self(error)
    }
}

#[async_trait]
impl SmsSender for FailingSender {
    async fn send(&self, _message: &SmsMessage) -> Result<Receipt, SmsError> {
        Err(self.0.clone())
    }

    fn sends_notices(&self) -> bool {
        true
    }

    async fn send_notice(&self, _notice: &SmsNotice) -> Result<Receipt, SmsError> {
        Err(self.0.clone())
    }
}
