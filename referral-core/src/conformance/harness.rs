//! Service on the storage under test, with the steps that cases share.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    clock::Clock as _,
    error::{Error, refusal::Refusal},
    events::Hook,
    gate::{Gate, GateOptions},
    invite::code::InviteCode,
    keys::{Peppers, SigningKeys},
    otp::code::CodeInput,
    policy::Policy,
    random::Random,
    service::{
        ReferralService,
        builder::ReferralServiceBuilder,
        send_code::{SendCode, SentCode},
        sessions::CurrentUser,
        sign_in::{SignIn, SignedIn},
        users::{ListUsers, PageLink},
    },
    session::SessionId,
    sms::{DevelopmentSender, Receipt, SmsError, SmsMessage, SmsSender},
    storage::{Retention, Storage},
    test_util::{ManualClock, SeededRandom},
    user::{
        User,
        listing::PageSize,
        phone::PhoneNumber,
        visibility::{ProfileView, UserView},
    },
};

/// Service on the storage under test.
#[derive(Clone)]
pub(super) struct Harness {
    pub(super) referral: ReferralService,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) clock: ManualClock,
}

impl Harness {
    pub(super) fn new(storage: Arc<dyn Storage>) -> Self {
        Self::with_policy(storage, Policy::standard())
    }

    pub(super) fn with_policy(storage: Arc<dyn Storage>, policy: Policy) -> Self {
        Self::with(storage, policy, SeededRandom::new(1))
    }

    pub(super) fn with(storage: Arc<dyn Storage>, policy: Policy, random: impl Random) -> Self {
        // The time has microseconds, so that the cases detect a storage that truncates them.
        let start = OffsetDateTime::from_unix_timestamp_nanos(1_790_000_000_123_456_000);
        let clock = ManualClock::new(start.expect("valid time"));
        let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("sufficient length");
        let peppers = Peppers::from_secret("p1", &[2; 32]).expect("sufficient length");
        let referral =
            ReferralService::builder(Arc::clone(&storage), Arc::new(DevelopmentSender), keys, peppers)
                .policy(policy)
                .clock(Arc::new(clock.clone()))
                .random(Arc::new(random))
                .build()
                .expect("valid policy and keys");
        Self { referral, storage, clock }
    }

    /// Returns the same service with a gateway that rejects every message.
    pub(super) fn without_gateway(&self) -> Self {
        self.with_gateway(NoGateway, ())
    }

    /// Returns the same service with another gateway and a hook.
    pub(super) fn with_gateway(&self, gateway: impl SmsSender, hook: impl Hook) -> Self {
        self.rebuilt(Arc::new(gateway), |builder| builder.hook(Arc::new(hook)))
    }

    /// Returns the same service with other settings.
    pub(super) fn with_builder(
        &self,
        customize: impl FnOnce(ReferralServiceBuilder) -> ReferralServiceBuilder,
    ) -> Self {
        self.rebuilt(Arc::new(DevelopmentSender), customize)
    }

    /// Returns the same service with custom claims.
    pub(super) fn with_claims<C: Serialize>(
        &self,
        name: &str,
        claims: impl Fn(&User, SessionId) -> C + Send + Sync + 'static,
    ) -> Self {
        self.with_builder(|builder| builder.claims(name, claims))
    }

    /// Returns the same service with a gate.
    pub(super) fn with_gate(&self, gate: impl Gate) -> Self {
        self.with_builder(|builder| builder.gate(Arc::new(gate), GateOptions::default()))
    }

    /// Returns the same service with another gateway and other parts.
    fn rebuilt(
        &self,
        gateway: Arc<dyn SmsSender>,
        customize: impl FnOnce(ReferralServiceBuilder) -> ReferralServiceBuilder,
    ) -> Self {
        let (_, seed) = self.referral.generate_id().as_u64_pair();
        let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("sufficient length");
        let peppers = Peppers::from_secret("p1", &[2; 32]).expect("sufficient length");
        let builder = ReferralService::builder(Arc::clone(&self.storage), gateway, keys, peppers)
            .policy(self.referral.policy().clone())
            .clock(Arc::new(self.clock.clone()))
            .random(Arc::new(SeededRandom::new(seed)));
        let referral = customize(builder).build().expect("valid policy and keys");
        Self { referral, ..self.clone() }
    }

    pub(super) fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// Deletes all rows that are older than this, at most `batch_size` of each kind.
    pub(super) async fn delete_before(&self, before: OffsetDateTime, batch_size: u32) -> u64 {
        let (global_counters_before, messages_before) = (before, before);
        let retention = Retention {
            ended_before: before,
            global_counters_before,
            messages_before,
            code_requests_before: before,
            batch_size,
        };
        self.storage.delete_expired(&retention).await.expect("deleted")
    }

    pub(super) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub(super) async fn send_code(&self, phone: &PhoneNumber) -> Result<SentCode, Error> {
        self.referral.send_code(SendCode::new(phone.clone())).await
    }

    /// Sends a code, which must succeed.
    pub(super) async fn sent_code(&self, phone: &PhoneNumber) -> SentCode {
        self.send_code(phone).await.expect("the code is sent")
    }

    pub(super) async fn sign_in(&self, request: SignIn) -> Result<SignedIn, Error> {
        self.referral.sign_in(request).await
    }

    /// Requests a code and signs in with it.
    pub(super) async fn try_enter(
        &self,
        phone: &PhoneNumber,
        invited_by: Option<&InviteCode>,
    ) -> Result<SignedIn, Error> {
        let sent = self.sent_code(phone).await;
        self.sign_in(SignIn { invited_by_code: invited_by.cloned(), ..with_right_code(&sent) }).await
    }

    /// Requests a code for a numbered phone and signs in, which must succeed.
    pub(super) async fn enter(&self, number: u32) -> SignedIn {
        self.try_enter(&phone(number), None).await.expect("signed in")
    }

    pub(super) async fn enter_invited(&self, number: u32, by: &User) -> SignedIn {
        self.try_enter(&phone(number), Some(&by.invite_code)).await.expect("signed in")
    }

    pub(super) async fn current_user(&self, signed_in: &SignedIn) -> CurrentUser {
        self.referral.authenticate(&signed_in.tokens.access).await.expect("valid token")
    }

    pub(super) async fn profile(&self, signed_in: &SignedIn) -> ProfileView {
        self.referral.current_user(&signed_in.tokens.access).await.expect("valid token")
    }

    /// Returns all users, newest first.
    pub(super) async fn all_users(&self, current_user: &CurrentUser) -> Vec<UserView> {
        let mut users = Vec::new();
        let mut cursor = None;
        loop {
            let list = ListUsers { limit: PageSize::MAX, cursor: cursor.as_deref(), ..ListUsers::default() };
            let page = self.referral.users(current_user, list).await.expect("page of the list");
            users.extend(page.items);
            match page.next {
                Some(PageLink::Cursor(next)) => cursor = Some(next),
                _ => return users,
            }
        }
    }

    /// Checks the invariants of all users: codes and phones are unique, no user is among their own inviters,
    /// and every count is correct.
    pub(super) async fn assert_sound(&self, current_user: &CurrentUser) {
        let users = self.all_users(current_user).await;
        let list = ListUsers { limit: PageSize::MAX, ..ListUsers::default() };
        let listed = self.referral.users(current_user, list).await.expect("page of the list");
        assert_eq!(listed.count, users.len() as u64, "the total is correct");

        let by_code: HashMap<_, _> = users.iter().map(|user| (&user.invite_code, user)).collect();
        assert_eq!(by_code.len(), users.len(), "invite codes are unique");
        for user in &users {
            let mut steps = 0;
            let mut next = user.invited_by_code.as_ref();
            while let Some(code) = next {
                steps += 1;
                assert!(steps <= users.len(), "{} is among their own inviters", user.id);
                next = by_code[code].invited_by_code.as_ref();
            }
            let invited =
                users.iter().filter(|other| other.invited_by_code.as_ref() == Some(&user.invite_code));
            let profile = self.referral.user(current_user, user.id).await.expect("existing user");
            assert_eq!(profile.invited_count, invited.count() as u64, "the count of {} is correct", user.id);
        }
    }
}

/// Gateway that is out of order.
struct NoGateway;

#[async_trait::async_trait]
impl SmsSender for NoGateway {
    async fn send(&self, _message: &SmsMessage) -> Result<Receipt, SmsError> {
        Err(SmsError::Temporary("out of order".into()))
    }
}

/// Returns a mobile number, a different one for each number below a million.
pub(super) fn phone(number: u32) -> PhoneNumber {
    PhoneNumber::parse(&format!("+79608{number:06}"), None).expect("valid number")
}

/// Returns a sign-in request with the correct code and the challenge.
pub(super) fn with_right_code(sent: &SentCode) -> SignIn {
    let code = sent.revealed_code.as_ref().expect("the development sender returns the code");
    let code = CodeInput::parse(code.reveal()).expect("digits");
    SignIn::new(sent.phone.clone(), code).challenge(sent.challenge)
}

/// Returns the same request with a wrong code.
pub(super) fn with_wrong_code(sent: &SentCode) -> SignIn {
    let right = sent.revealed_code.as_ref().expect("the development sender returns the code").reveal();
    let wrong = right.chars().map(|digit| if digit == '9' { '0' } else { '9' }).collect::<String>();
    SignIn { code: CodeInput::parse(&wrong).expect("digits"), ..with_right_code(sent) }
}

/// Returns the same request without the challenge.
pub(super) fn without_challenge(request: SignIn) -> SignIn {
    SignIn { challenge: None, ..request }
}

/// Runs the futures that `make` returns for each number below `count` concurrently.
pub(super) async fn in_parallel<T: Send + 'static, F>(count: u32, make: impl Fn(u32) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = (0..count).map(|number| tokio::spawn(make(number))).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("no task panics"));
    }
    results
}

/// Asserts that the request was rejected for this reason.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "most cases name the refusal in the call")]
pub(super) fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, refusal: Refusal) {
    match result {
        Err(Error::Refused(actual)) => assert_eq!(actual, refusal),
        other => panic!("not rejected with {refusal:?}: {other:?}"),
    }
}
