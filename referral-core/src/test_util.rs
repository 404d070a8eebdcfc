//! Parts for tests of services that embed this library: a clock that is set manually, reproducible
//! randomness, and senders that record messages or fail.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{sync::Arc, time::Duration};
//!
//! use referral_core::{ReferralService, SendCode, keys::{Peppers, SigningKeys}, storage::MemoryStorage, test_util::{ManualClock, RecordingSender, SeededRandom}};
//! use time::macros::datetime;
//!
//! let clock = ManualClock::new(datetime!(2026-01-01 00:00 UTC));
//! let sender = RecordingSender::default();
//! let random = SeededRandom::new(1);
//! let referral = ReferralService::builder(
//!     Arc::new(MemoryStorage::new()),
//!     Arc::new(sender.clone()),
//!     SigningKeys::generate(&random),
//!     Peppers::generate(&random),
//! )
//! .clock(Arc::new(clock.clone()))
//! .random(Arc::new(random))
//! .build()?;
//! clock.advance(Duration::from_secs(60));
//! assert_eq!(sender.messages().len(), 0);
//! # Ok(()) }
//! ```

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use time::OffsetDateTime;

use crate::{
    clock::Clock,
    random::Random,
    sms::{Receipt, SmsError, SmsMessage, SmsSender},
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
pub struct RecordingSender(Arc<Mutex<Vec<SmsMessage>>>);

impl RecordingSender {
    /// Returns the messages so far, oldest first.
    #[must_use]
    pub fn messages(&self) -> Vec<SmsMessage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl SmsSender for RecordingSender {
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(message.clone());
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
}
