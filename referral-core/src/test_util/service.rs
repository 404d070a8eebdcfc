//! Service for tests.

use std::sync::Arc;

use time::OffsetDateTime;

use super::{ManualClock, RecordingSender, SeededRandom};
use crate::{
    clock::Clock as _,
    error::{Error, refusal::Refusal},
    invite::code::InviteCode,
    keys::{Peppers, SigningKeys},
    otp::code::{CodeInput, OneTimeCode},
    policy::{Limits, Policy},
    service::{
        ReferralService,
        builder::ReferralServiceBuilder,
        send_code::{SendCode, SentCode},
        sign_in::{SignIn, SignedIn},
    },
    storage::{MemoryStorage, Storage},
    user::phone::PhoneNumber,
};

/// Start of the clock as Unix time in seconds: 2026-01-01 00:00 UTC.
const START: i64 = 1_767_225_600;

/// Complete service for tests, which signs users in with one call. See the [example](super).
///
/// The keys, the seed of the randomness and the start of the clock are the same for each service. So two
/// services generate the same ids, which conflict in one database. For a second service on the same data, set
/// other [randomness](ReferralServiceBuilder::random) with [`with_builder`](Self::with_builder).
#[derive(Clone)]
#[non_exhaustive]
pub struct TestService {
    /// Service.
    pub referral: ReferralService,
    /// Clock of the service. It starts at 2026-01-01 00:00 UTC.
    pub clock: ManualClock,
    /// Sender of the service, with the messages that were sent.
    pub sender: RecordingSender,
}

impl TestService {
    /// Creates a service with a storage in memory.
    #[must_use]
    pub fn new() -> Self {
        Self::with_storage(Arc::new(MemoryStorage::new()))
    }

    /// Creates a service with this storage.
    #[must_use]
    pub fn with_storage(storage: Arc<dyn Storage>) -> Self {
        Self::with_builder(storage, |builder| builder)
    }

    /// Creates a service with this storage, and with the settings that `customize` changes, such as the
    /// policy or the hook. The clock cannot be changed.
    ///
    /// The policy is [`Policy::development`] without the limits on codes for a phone, unless `customize` sets
    /// another one.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use referral_core::{policy::Policy, storage::MemoryStorage, test_util::TestService};
    /// let storage = Arc::new(MemoryStorage::new());
    /// let service = TestService::with_builder(storage, |builder| builder.policy(Policy::standard()));
    /// assert_eq!(service.referral.policy(), &Policy::standard());
    /// ```
    ///
    /// # Panics
    ///
    /// If [`ReferralServiceBuilder::build`] fails.
    #[must_use]
    pub fn with_builder(
        storage: Arc<dyn Storage>,
        customize: impl FnOnce(ReferralServiceBuilder) -> ReferralServiceBuilder,
    ) -> Self {
        let clock = ManualClock::new(OffsetDateTime::from_unix_timestamp(START).expect("valid time"));
        let sender = RecordingSender::default();
        let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("sufficient length");
        let peppers = Peppers::from_secret("p1", &[2; 32]).expect("sufficient length");
        let mut policy = Policy::development();
        policy.codes_per_phone = Limits::off();
        // The clock of a database does not follow the manual clock.
        policy.max_clock_offset = None;
        let builder = ReferralService::builder(storage, Arc::new(sender.clone()), keys, peppers)
            .policy(policy)
            .random(Arc::new(SeededRandom::new(1)));
        let builder = customize(builder).clock(Arc::new(clock.clone()));
        let referral = builder.build().unwrap_or_else(|error| panic!("failed to build the service: {error}"));
        Self { referral, clock, sender }
    }

    /// Signs in with this phone: requests a code, reads it from the message and redeems it. Creates the user
    /// if the phone is new.
    ///
    /// If a limit of the policy rejects the request for the code, the method advances the clock by the time
    /// to wait. The default policy has no such limit.
    ///
    /// # Panics
    ///
    /// If the service rejects the phone or the sign-in, or if the storage fails.
    pub async fn sign_in_as(&self, phone: &str) -> SignedIn {
        self.sign_in(phone, None).await
    }

    /// Signs in as [`sign_in_as`](Self::sign_in_as) does, with the invite code of another user.
    ///
    /// # Panics
    ///
    /// As [`sign_in_as`](Self::sign_in_as), and if the service rejects the invite code.
    pub async fn sign_in_with_invite_code(&self, phone: &str, invite_code: &InviteCode) -> SignedIn {
        self.sign_in(phone, Some(invite_code.clone())).await
    }

    async fn sign_in(&self, phone: &str, invite_code: Option<InviteCode>) -> SignedIn {
        let phone = self
            .referral
            .parse_phone(phone)
            .unwrap_or_else(|error| panic!("failed to parse the phone {phone}: {error}"));
        let sent = self.send_code(&phone).await;
        let code = CodeInput::parse(self.code(&phone).reveal()).expect("digits");
        let request = SignIn::new(phone, code).challenge(sent.challenge).invited_by(invite_code);
        let signed_in = self.referral.sign_in(request).await;
        signed_in.unwrap_or_else(|error| panic!("failed to sign in as {}: {error}", sent.phone.as_str()))
    }

    /// Sends a code, after the time that a limit requires.
    async fn send_code(&self, phone: &PhoneNumber) -> SentCode {
        let mut sent = self.referral.send_code(SendCode::new(phone.clone())).await;
        if let Err(Error::Refused(Refusal::TooManyRequests { retry_after, .. })) = sent {
            self.clock.advance(retry_after);
            sent = self.referral.send_code(SendCode::new(phone.clone())).await;
        }
        sent.unwrap_or_else(|error| panic!("failed to send a code to {}: {error}", phone.as_str()))
    }

    /// Returns the code of the newest message to a phone, or the fixed code of a test number.
    fn code(&self, phone: &PhoneNumber) -> OneTimeCode {
        if let Some(number) = self.referral.policy().test_number(phone, self.clock.now()) {
            return number.code();
        }
        let messages = self.sender.messages();
        let message = messages.into_iter().rfind(|message| message.phone == *phone);
        message.expect("the sender has the message").code
    }
}

impl Default for TestService {
    fn default() -> Self {
        Self::new()
    }
}
