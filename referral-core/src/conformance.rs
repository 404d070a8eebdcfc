//! Conformance suite: tests that every implementation of [`Storage`] must pass.
//!
//! One line in a test file runs all cases, each of them on an empty storage:
//!
//! ```
//! use std::sync::Arc;
//! use referral_core::storage::MemoryStorage;
//!
//! // The storage, and a value that must live as long as it, such as a temporary directory.
//! referral_core::conformance!(async { (Arc::new(MemoryStorage::new()), ()) });
//! # fn main() {}
//! ```
//!
//! The cases call the storage through a [`ReferralService`] handle, as a service does, with a manual clock. The
//! cases about contention run many tasks on several threads.

#![expect(clippy::missing_panics_doc, reason = "a case panics if it fails")]

pub mod challenges;
pub mod delivery;
pub mod guesses;
pub mod invitations;
pub mod limits;
pub mod maintenance;
pub mod profiles;
pub mod sessions;
pub mod sign_in;
pub mod test_numbers;
pub mod users;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use time::OffsetDateTime;

use crate::{
    clock::Clock,
    error::{Error, refusal::Refusal},
    hook::Hook,
    invite::code::InviteCode,
    keys::{Peppers, SigningKeys},
    otp::code::CodeInput,
    policy::Policy,
    random::Random,
    service::{CurrentUser, ListUsers, PageLink, ReferralService, SendCode, SentCode, SignIn, SignedIn},
    sms::{DevelopmentSender, Receipt, SmsError, SmsMessage, SmsSender},
    storage::{Retention, Storage},
    user::{
        User,
        listing::PageSize,
        phone::PhoneNumber,
        visibility::{ProfileView, UserView},
    },
};

/// Creates a test for every case. Takes a future that returns an empty storage in an [`Arc`], and a value
/// that must live as long as the storage.
#[macro_export]
macro_rules! conformance {
    ($storage:expr) => {
        $crate::conformance! { @cases $storage;
            challenges {
                second_code_for_a_phone_waits_for_the_resend_interval
                sign_in_ends_the_resend_interval
                resend_interval_applies_to_one_phone_only
                parallel_requests_for_one_phone_send_one_code
                voided_code_is_invalid_and_the_previous_code_stays_valid
            }
            delivery {
                status_of_a_message_is_reported_once
                delivered_message_stays_delivered
                report_before_the_message_is_recorded_is_kept
                concurrent_duplicate_reports_emit_one_event
                concurrent_recording_and_reports_lose_nothing
                reports_of_unknown_messages_emit_no_event_and_are_swept
                messages_are_deleted_after_three_days_and_not_before
                similar_message_ids_are_distinguished
                sign_in_reports_the_gateway_of_its_code
                each_code_keeps_its_own_gateway
                message_of_a_redeemed_or_deleted_code_can_be_recorded
            }
            limits {
                codes_of_a_phone_are_limited_and_the_reported_wait_is_exact
                unsent_code_is_refunded_to_the_phone_and_the_number_range_but_not_to_the_address
                redeemed_code_is_refunded_to_the_address_and_the_number_range
                parallel_requests_from_one_address_do_not_exceed_its_limit
                parallel_requests_for_one_number_range_do_not_exceed_its_limit
                one_address_gets_a_third_of_the_codes_of_a_number_range
                ipv6_client_is_limited_by_its_networks
                edits_of_an_email_address_are_limited
                one_address_cannot_use_up_the_codes_of_a_phone
                messages_per_day_are_limited
                parallel_sign_ins_refund_each_code_once
                sweep_deletes_only_expired_counters
            }
            guesses {
                correct_code_that_is_no_longer_valid_is_not_counted
                attempts_without_a_challenge_do_not_block_sign_ins
                wrong_codes_lengthen_new_codes_and_invalidate_shorter_codes
                new_code_or_sign_in_does_not_reset_the_count_of_wrong_codes
                parallel_guesses_at_several_codes_do_not_exceed_the_limit_of_the_phone
                parallel_guesses_from_one_address_do_not_exceed_its_limit
                wrong_codes_before_a_sign_in_are_refunded
                repeated_redemption_of_a_code_is_not_counted
                unknown_invite_codes_are_limited
                attack_lengthens_new_codes_until_it_has_ended_for_some_time
                usual_number_of_wrong_codes_is_not_an_attack
            }
            sign_in {
                first_sign_in_creates_the_user_and_later_ones_find_it
                code_can_be_redeemed_once
                three_wrong_attempts_invalidate_a_code
                attempts_with_and_without_the_challenge_are_counted_separately
                code_expires
                older_code_stays_valid_with_its_challenge
                challenge_of_another_phone_is_rejected_and_not_counted
                hundred_parallel_redemptions_create_one_session
                parallel_guesses_do_not_exceed_the_attempts_of_a_code
                parallel_first_sign_ins_of_one_phone_create_one_user
                seven_taken_invite_codes_are_skipped
                exhausted_invite_codes_are_an_error_and_keep_the_sms_code_valid
                inactive_user_cannot_sign_in
            }
            test_numbers {
                test_number_gets_codes_without_waiting
                codes_of_a_test_number_count_against_the_client_address
                wrong_codes_invalidate_a_short_fixed_code
                test_number_is_locked_out_after_sixty_wrong_codes_in_a_day
                test_number_expires
                staff_cannot_sign_in_with_a_test_number
                test_number_has_at_most_twenty_sessions
            }
            invitations {
                invitation_is_accepted_at_sign_up
                invitation_is_accepted_at_a_later_sign_in
                invitation_is_accepted_in_the_profile
                later_sign_in_keeps_the_inviter
                repeated_inviter_changes_nothing
                other_inviter_in_the_profile_is_rejected
                rejected_invite_code_keeps_the_sms_code_valid
                long_chain_cannot_become_a_loop
                parallel_acceptances_by_one_invitee_record_one_inviter
                parallel_sign_ups_with_one_inviter_are_all_counted
                four_concurrent_acceptances_in_a_ring_leave_no_loop
                five_concurrent_acceptances_in_a_ring_leave_no_loop
            }
            sessions {
                session_is_found_with_its_user
                refresh_token_is_exchanged_and_repeats_its_successor
                use_of_the_successor_ends_the_grace_period
                older_refresh_token_ends_the_session
                three_consecutive_late_repetitions_end_the_session
                concurrent_refreshes_return_the_same_tokens
                session_expires
                tokens_of_an_inactive_user_are_rejected_immediately
                own_sessions_are_listed_and_ended
                refresh_token_ends_its_session
                concurrent_refresh_does_not_restore_an_ended_session
                address_and_user_agent_of_a_session_are_updated
            }
            profiles {
                profile_is_edited_and_cleared
                edit_is_atomic
                email_belongs_to_one_user
                parallel_claims_of_an_email_succeed_once
                text_is_stored_unchanged
                edit_of_an_unknown_user_is_rejected
            }
            users {
                pages_list_every_user_once_in_both_directions
                offset_skips_the_newest_users
                new_users_do_not_shift_a_cursor
                filters_match_exactly
                search_finds_users_that_match_all_terms
                search_with_too_many_or_only_short_terms_is_rejected
                search_uses_the_current_values
                wildcards_are_ordinary_characters
                filtered_list_is_counted_up_to_a_thousand
                invitees_are_paged
                profile_shows_the_newest_invitees
            }
            maintenance {
                staff_are_created_and_promoted
                sessions_end_when_their_user_becomes_staff
                parallel_promotions_create_one_user
                only_expired_rows_are_deleted
                deletion_is_limited_to_its_batch
                storage_is_ready
                settings_are_recorded_under_their_names
                storage_with_a_clock_reports_the_current_time
                service_without_a_key_in_use_is_rejected
                concurrent_startup_with_different_keys_is_rejected
            }
        }
    };
    (@cases $storage:expr; $($module:ident { $($case:ident)+ })+) => {
        $($(
            #[test]
            fn $case() {
                $crate::conformance::run(async {
                    let (storage, _guard) = ($storage).await;
                    $crate::conformance::$module::$case(storage).await;
                });
            }
        )+)+
    };
}

/// Runs one case, on several threads.
///
/// # Panics
///
/// If the case fails.
pub fn run(case: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(4).enable_all().build().expect("the runtime starts");
    runtime.block_on(case);
}

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

/// Service on the storage under test.
#[derive(Clone)]
struct Harness {
    referral: ReferralService,
    storage: Arc<dyn Storage>,
    clock: ManualClock,
}

impl Harness {
    fn new(storage: Arc<dyn Storage>) -> Self {
        Self::with_policy(storage, Policy::standard())
    }

    fn with_policy(storage: Arc<dyn Storage>, policy: Policy) -> Self {
        Self::with(storage, policy, SeededRandom::new(1))
    }

    fn with(storage: Arc<dyn Storage>, policy: Policy, random: impl Random) -> Self {
        // The time has microseconds, so that the cases detect a storage that truncates them.
        let start = OffsetDateTime::from_unix_timestamp_nanos(1_790_000_000_123_456_000);
        let clock = ManualClock::new(start.expect("valid time"));
        let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("sufficient length");
        let peppers = Peppers::from_secret("p1", &[2; 32]).expect("sufficient length");
        let referral =
            ReferralService::builder(Arc::clone(&storage), Arc::new(DevelopmentSender), keys, peppers)
                .policy(policy)
                .clock(clock.clone())
                .random(random)
                .build()
                .expect("valid policy and keys");
        Self { referral, storage, clock }
    }

    /// Returns the same service with a gateway that rejects every message.
    fn without_gateway(&self) -> Self {
        self.with_gateway(NoGateway, ())
    }

    /// Returns the same service with another gateway and a hook.
    fn with_gateway(&self, gateway: impl SmsSender, hook: impl Hook) -> Self {
        let (_, seed) = self.referral.generate_id().as_u64_pair();
        let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("sufficient length");
        let peppers = Peppers::from_secret("p1", &[2; 32]).expect("sufficient length");
        let referral = ReferralService::builder(Arc::clone(&self.storage), Arc::new(gateway), keys, peppers)
            .hook(hook)
            .policy(self.referral.policy().clone())
            .clock(self.clock.clone())
            .random(SeededRandom::new(seed))
            .build()
            .expect("valid policy and keys");
        Self { referral, ..self.clone() }
    }

    fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// Deletes all rows that are older than this, at most `batch_size` of each kind.
    async fn delete_before(&self, before: OffsetDateTime, batch_size: u32) -> u64 {
        let (global_counters_before, messages_before) = (before, before);
        let retention =
            Retention { ended_before: before, global_counters_before, messages_before, batch_size };
        self.storage.delete_expired(&retention).await.expect("deleted")
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn send_code(&self, phone: &PhoneNumber) -> Result<SentCode, Error> {
        self.referral.send_code(SendCode::new(phone.clone())).await
    }

    /// Sends a code, which must succeed.
    async fn sent(&self, phone: &PhoneNumber) -> SentCode {
        self.send_code(phone).await.expect("the code is sent")
    }

    async fn sign_in(&self, request: SignIn) -> Result<SignedIn, Error> {
        self.referral.sign_in(request).await
    }

    /// Requests a code and signs in with it.
    async fn try_enter(
        &self,
        phone: &PhoneNumber,
        invited_by: Option<&InviteCode>,
    ) -> Result<SignedIn, Error> {
        let sent = self.sent(phone).await;
        self.sign_in(SignIn { invited_by_code: invited_by.cloned(), ..with_right_code(&sent) }).await
    }

    /// Requests a code for a numbered phone and signs in, which must succeed.
    async fn enter(&self, number: u32) -> SignedIn {
        self.try_enter(&phone(number), None).await.expect("signed in")
    }

    async fn enter_invited(&self, number: u32, by: &User) -> SignedIn {
        self.try_enter(&phone(number), Some(&by.invite_code)).await.expect("signed in")
    }

    async fn bearer(&self, signed_in: &SignedIn) -> CurrentUser {
        self.referral.authenticate(&signed_in.tokens.access).await.expect("valid token")
    }

    async fn profile(&self, signed_in: &SignedIn) -> ProfileView {
        self.referral.current_user(&signed_in.tokens.access).await.expect("valid token")
    }

    /// Returns all users, newest first.
    async fn all_users(&self, bearer: &CurrentUser) -> Vec<UserView> {
        let mut users = Vec::new();
        let mut cursor = None;
        loop {
            let list = ListUsers { limit: PageSize::MAX, cursor: cursor.as_deref(), ..ListUsers::default() };
            let page = self.referral.users(bearer, list).await.expect("page of the list");
            users.extend(page.items);
            match page.next {
                Some(PageLink::Cursor(next)) => cursor = Some(next),
                _ => return users,
            }
        }
    }

    /// Checks the invariants of all users: codes and phones are unique, no user is among their own inviters,
    /// and every count is correct.
    async fn assert_sound(&self, bearer: &CurrentUser) {
        let users = self.all_users(bearer).await;
        let list = ListUsers { limit: PageSize::MAX, ..ListUsers::default() };
        let listed = self.referral.users(bearer, list).await.expect("page of the list");
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
            let profile = self.referral.user(bearer, user.id).await.expect("existing user");
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
fn phone(number: u32) -> PhoneNumber {
    PhoneNumber::parse(&format!("+79608{number:06}"), None).expect("valid number")
}

/// Returns a sign-in request with the correct code and the challenge.
fn with_right_code(sent: &SentCode) -> SignIn {
    let code = sent.revealed_code.as_ref().expect("the development sender returns the code");
    let code = CodeInput::parse(code.reveal()).expect("digits");
    SignIn::new(sent.phone.clone(), code).challenge(sent.challenge)
}

/// Returns the same request with a wrong code.
fn wrong_answer(sent: &SentCode) -> SignIn {
    let right = sent.revealed_code.as_ref().expect("the development sender returns the code").reveal();
    let wrong = right.chars().map(|digit| if digit == '9' { '0' } else { '9' }).collect::<String>();
    SignIn { code: CodeInput::parse(&wrong).expect("digits"), ..with_right_code(sent) }
}

/// Returns the same request without the challenge.
fn without_challenge(with_right_code: SignIn) -> SignIn {
    SignIn { challenge: None, ..with_right_code }
}

/// Runs the futures that `make` returns for each number below `count` concurrently.
async fn in_parallel<T: Send + 'static, F>(count: u32, make: impl Fn(u32) -> F) -> Vec<T>
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
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, refusal: Refusal) {
    match result {
        Err(Error::Refused(actual)) => assert_eq!(actual, refusal),
        other => panic!("not rejected with {refusal:?}: {other:?}"),
    }
}
