//! What every implementation of [`Storage`] must do, as tests.
//!
//! One line in a test file runs them all, each on an empty storage of its own:
//!
//! ```
//! use std::sync::Arc;
//! use referral_core::storage::MemoryStorage;
//!
//! // The storage, and whatever must live as long as it does: a temporary folder, say.
//! referral_core::conformance!(async { (Arc::new(MemoryStorage::new()), ()) });
//! # fn main() {}
//! ```
//!
//! The cases drive the storage through a [`Referral`] handle, as a service does, with a clock
//! that is set by hand; those about contention do so from many tasks on several threads.

#![expect(clippy::missing_panics_doc, reason = "a case panics if it fails: that is what it is for")]

pub mod challenges;
pub mod delivery;
pub mod invitations;
pub mod limits;
pub mod profiles;
pub mod sessions;
pub mod sign_in;
pub mod test_numbers;
pub mod upkeep;
pub mod users;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use time::OffsetDateTime;

use crate::{
    Bearer, CodeInput, Error, InviteCode, ListUsers, PageLink, PageSize, Peppers, PhoneNumber, Policy,
    ProfileView, Referral, Refusal, SendCode, SentCode, SignIn, SignedIn, SigningKeys, User, UserView,
    clock::Clock,
    hook::Hook,
    random::Random,
    sms::{DevelopmentSender, Receipt, SmsError, SmsMessage, SmsSender},
    storage::{Storage, Sweep},
};

/// Makes a test of every case. Takes a future that gives an empty storage in an [`Arc`], and
/// whatever must live as long as it does.
#[macro_export]
macro_rules! conformance {
    ($storage:expr) => {
        $crate::conformance! { @cases $storage;
            challenges {
                a_second_code_waits_for_the_cool_down
                a_sign_in_ends_the_cool_down
                phones_do_not_wait_for_one_another
                parallel_requests_for_one_phone_send_one_code
                a_voided_code_is_forgotten_and_the_one_before_it_lives
            }
            delivery {
                a_message_that_arrives_is_told_of_once
                a_status_is_not_taken_back
                a_report_may_come_before_it_is_noted_that_the_message_was_sent
                a_report_told_many_times_at_once_is_told_on_once
                a_note_and_reports_at_once_lose_nothing
                reports_of_strange_messages_tell_nothing_and_are_swept
                messages_are_forgotten_after_three_days_and_not_before
                any_id_is_told_from_others
                a_sign_in_names_the_gateway_of_its_code
                each_code_has_a_gateway_of_its_own
                a_redeemed_code_takes_no_note
            }
            limits {
                codes_of_a_phone_are_limited_and_the_wait_is_true
                a_code_that_was_not_sent_is_taken_back_from_the_phone_and_its_block_and_not_from_the_address
                a_code_that_led_to_a_sign_in_is_taken_back_from_the_address_and_the_block
                parallel_requests_from_one_address_are_granted_as_in_turn
                parallel_requests_for_one_number_block_are_granted_as_in_turn
                one_address_gets_a_third_of_the_codes_of_a_number_block
                a_line_of_ipv6_is_limited_by_its_networks
                a_correct_code_that_is_no_longer_valid_is_not_counted
                attempts_without_a_challenge_keep_nobody_out
                edits_of_an_email_address_are_limited
                a_stranger_does_not_use_up_the_codes_of_a_phone
                wrong_codes_lengthen_the_next_and_kill_the_shorter
                neither_a_new_code_nor_a_success_resets_the_count
                parallel_guesses_at_several_codes_get_no_more_than_their_phone_has
                parallel_guesses_from_one_address_get_no_more_than_it_has
                whoever_has_the_right_code_in_the_end_is_not_counted
                a_repetition_of_the_code_just_redeemed_is_not_counted
                unknown_invite_codes_are_limited
                an_attack_lengthens_new_codes_until_it_has_been_calm
                as_many_wrong_codes_as_usual_are_no_attack
                messages_of_a_day_have_a_budget
                parallel_sign_ins_take_back_what_was_counted_for_each
                a_sweep_forgets_counters_that_matter_no_more_and_no_others
            }
            sign_in {
                an_unknown_phone_becomes_a_user_and_stays_that_user
                a_right_code_works_once
                wrong_tries_use_a_code_up
                tries_with_and_without_the_id_are_counted_apart
                a_code_expires
                an_older_code_lives_on_under_its_id
                a_challenge_of_another_phone_is_refused_and_loses_no_try
                a_hundred_parallel_redemptions_give_one_session
                parallel_guesses_get_no_more_than_their_tries
                parallel_first_sign_ins_of_one_phone_make_one_user
                seven_taken_invite_codes_are_passed_over
                more_taken_invite_codes_are_an_error_and_leave_the_code_usable
                an_inactive_user_does_not_sign_in
            }
            test_numbers {
                a_test_number_has_its_code_without_waiting
                codes_of_a_test_number_count_against_who_asks
                wrong_codes_kill_a_short_fixed_code
                a_test_number_is_held_after_sixty_wrong_codes_in_a_day
                a_test_number_ends
                staff_do_not_sign_in_by_a_test_number
                a_test_number_has_twenty_sessions_at_most
            }
            invitations {
                an_invitation_is_accepted_at_sign_up
                an_invitation_is_accepted_at_a_later_sign_in
                an_invitation_is_accepted_in_the_profile
                signing_in_again_keeps_the_inviter
                the_same_inviter_again_changes_nothing
                another_inviter_in_the_profile_is_refused
                a_bad_invite_code_leaves_the_sms_code_usable
                a_long_chain_does_not_close
                parallel_acceptances_by_one_invitee_make_one_edge
                parallel_sign_ups_by_one_inviter_are_all_counted
                four_users_closing_a_ring_at_once_leave_no_loop
                five_users_closing_a_ring_at_once_leave_no_loop
            }
            sessions {
                a_session_is_found_with_its_user
                a_refresh_token_is_exchanged_and_its_parent_repeats_the_successor
                a_used_successor_ends_the_grace_of_its_parent
                an_older_refresh_token_ends_the_session
                a_successor_that_is_given_out_late_three_times_in_succession_ends_the_session
                tabs_that_refresh_at_once_do_not_sign_one_another_out
                a_session_ends
                tokens_of_an_inactive_user_stop_at_once
                ones_own_sessions_are_listed_and_ended
                a_session_is_ended_by_its_refresh_token
                a_refresh_does_not_bring_an_ended_session_back
                where_a_session_is_used_is_kept
            }
            profiles {
                a_profile_is_edited_and_cleared
                an_edit_is_all_or_nothing
                an_email_belongs_to_one_user
                parallel_claims_of_an_email_give_it_to_one
                any_text_comes_back_as_it_was
                a_profile_of_nobody_is_refused
            }
            users {
                pages_cover_everybody_once_in_both_directions
                an_offset_leaves_out_the_newest
                new_users_do_not_shift_a_cursor
                filters_match_exactly
                a_search_finds_what_contains_all_its_terms
                a_search_with_too_many_or_only_short_terms_is_rejected
                a_search_follows_edits
                wildcards_are_ordinary_characters
                a_filtered_list_is_counted_up_to_a_thousand
                invitees_are_paged
                a_profile_shows_the_newest_invitees
            }
            upkeep {
                staff_are_made_and_promoted
                sessions_end_when_their_user_becomes_staff
                parallel_promotions_make_one_user
                sweeping_deletes_what_has_ended_and_nothing_else
                a_sweep_takes_no_more_than_its_batch
                a_storage_is_ready
                settings_are_recorded_under_their_names
                a_storage_with_a_clock_reports_the_current_time
                whoever_lacks_a_key_in_use_is_refused
                of_two_with_different_keys_who_begin_at_once_one_is_refused
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
    let runtime = runtime.worker_threads(4).enable_all().build().expect("a runtime starts");
    runtime.block_on(case);
}

/// A clock that is set by hand. Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<OffsetDateTime>>);

impl ManualClock {
    /// A clock that stands at `start`.
    #[must_use]
    pub fn new(start: OffsetDateTime) -> Self {
        Self(Arc::new(Mutex::new(start)))
    }

    /// Moves the hands forward.
    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A generator that gives the same bytes for the same seed. For tests: whoever knows the seed
/// knows every code.
#[derive(Debug)]
pub struct SeededRandom(Mutex<StdRng>);

impl SeededRandom {
    /// A generator with this seed.
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

/// A service over the storage under test.
#[derive(Clone)]
struct Bench {
    referral: Referral,
    storage: Arc<dyn Storage>,
    clock: ManualClock,
}

impl Bench {
    fn new(storage: Arc<dyn Storage>) -> Self {
        Self::with_policy(storage, Policy::standard())
    }

    fn with_policy(storage: Arc<dyn Storage>, policy: Policy) -> Self {
        Self::with(storage, policy, SeededRandom::new(1))
    }

    fn with(storage: Arc<dyn Storage>, policy: Policy, random: impl Random) -> Self {
        // A time with microseconds, so that a storage that drops them is found out.
        let start = OffsetDateTime::from_unix_timestamp_nanos(1_790_000_000_123_456_000);
        let clock = ManualClock::new(start.expect("a time in this century"));
        let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("long enough");
        let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
        let referral = Referral::builder(Arc::clone(&storage), Arc::new(DevelopmentSender), keys, peppers)
            .policy(policy)
            .clock(clock.clone())
            .random(random)
            .build()
            .expect("a sound policy and a sound key");
        Self { referral, storage, clock }
    }

    /// The same service, with a gateway that refuses every message.
    fn without_gateway(&self) -> Self {
        self.with_gateway(NoGateway, ())
    }

    /// The same service, with another gateway and somebody who is told what happens.
    fn with_gateway(&self, gateway: impl SmsSender, hook: impl Hook) -> Self {
        let (_, seed) = self.referral.draw_id().as_u64_pair();
        let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("long enough");
        let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
        let referral = Referral::builder(Arc::clone(&self.storage), Arc::new(gateway), keys, peppers)
            .hook(hook)
            .policy(self.referral.policy().clone())
            .clock(self.clock.clone())
            .random(SeededRandom::new(seed))
            .build()
            .expect("a sound policy and a sound key");
        Self { referral, ..self.clone() }
    }

    fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// Deletes all that is older than this, at most so many of each kind.
    async fn sweep_before(&self, before: OffsetDateTime, batch: u32) -> u64 {
        let (figures_before, messages_before) = (before, before);
        let sweep = Sweep { ended_before: before, figures_before, messages_before, batch };
        self.storage.sweep(&sweep).await.expect("swept")
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn send_code(&self, phone: &PhoneNumber) -> Result<SentCode, Error> {
        self.referral.send_code(SendCode::new(phone.clone())).await
    }

    /// Sends a code, which must not be refused.
    async fn sent(&self, phone: &PhoneNumber) -> SentCode {
        self.send_code(phone).await.expect("the code is sent")
    }

    async fn sign_in(&self, request: SignIn) -> Result<SignedIn, Error> {
        self.referral.sign_in(request).await
    }

    /// The whole way from asking for a code to being signed in.
    async fn try_enter(
        &self,
        phone: &PhoneNumber,
        invited_by: Option<&InviteCode>,
    ) -> Result<SignedIn, Error> {
        let sent = self.sent(phone).await;
        self.sign_in(SignIn { invited_by_code: invited_by.cloned(), ..answer(&sent) }).await
    }

    /// The same, for a phone given by number.
    async fn enter(&self, number: u32) -> SignedIn {
        self.try_enter(&phone(number), None).await.expect("signed in")
    }

    async fn enter_invited(&self, number: u32, by: &User) -> SignedIn {
        self.try_enter(&phone(number), Some(&by.invite_code)).await.expect("signed in")
    }

    async fn bearer(&self, signed_in: &SignedIn) -> Bearer {
        self.referral.authenticate(&signed_in.tokens.access).await.expect("a valid token")
    }

    async fn profile(&self, signed_in: &SignedIn) -> ProfileView {
        self.referral.current_user(&signed_in.tokens.access).await.expect("a valid token")
    }

    /// Everybody, newest first.
    async fn everybody(&self, bearer: &Bearer) -> Vec<UserView> {
        let mut users = Vec::new();
        let mut cursor = None;
        loop {
            let list = ListUsers { limit: PageSize::MAX, cursor: cursor.as_deref(), ..ListUsers::default() };
            let page = self.referral.users(bearer, list).await.expect("a page");
            users.extend(page.users);
            match page.next {
                Some(PageLink::Cursor(next)) => cursor = Some(next),
                _ => return users,
            }
        }
    }

    /// Checks what must hold of everybody at any time: codes and phones are unique, nobody is
    /// among their own inviters, and every count is true.
    async fn assert_sound(&self, bearer: &Bearer) {
        let users = self.everybody(bearer).await;
        let list = ListUsers { limit: PageSize::MAX, ..ListUsers::default() };
        let listed = self.referral.users(bearer, list).await.expect("a page");
        assert_eq!(listed.count, users.len() as u64, "the total is true");

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
            let profile = self.referral.user(bearer, user.id).await.expect("a user");
            assert_eq!(profile.invited_count, invited.count() as u64, "the count of {} is true", user.id);
        }
    }
}

/// A gateway that is out of order.
struct NoGateway;

#[async_trait::async_trait]
impl SmsSender for NoGateway {
    async fn send(&self, _message: &SmsMessage) -> Result<Receipt, SmsError> {
        Err(SmsError::Temporary("out of order".into()))
    }
}

/// A mobile number, a different one for each number below a million.
fn phone(number: u32) -> PhoneNumber {
    PhoneNumber::parse(&format!("+79608{number:06}"), None).expect("a mobile number")
}

/// The right answer to a code that was sent, naming its challenge.
fn answer(sent: &SentCode) -> SignIn {
    let code = sent.revealed_code.as_ref().expect("the development sender reveals it");
    let code = CodeInput::parse(code.reveal()).expect("digits");
    SignIn::new(sent.phone.clone(), code).challenge(sent.challenge)
}

/// A wrong answer to it.
fn wrong_answer(sent: &SentCode) -> SignIn {
    let right = sent.revealed_code.as_ref().expect("the development sender reveals it").reveal();
    let wrong = right.chars().map(|digit| if digit == '9' { '0' } else { '9' }).collect::<String>();
    SignIn { code: CodeInput::parse(&wrong).expect("digits"), ..answer(sent) }
}

/// The same answer without the challenge's id.
fn unnamed(answer: SignIn) -> SignIn {
    SignIn { challenge: None, ..answer }
}

/// Runs what `make` makes of each number below `count`, all at once.
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

/// Asserts that the request was refused, and with what.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, refusal: Refusal) {
    match result {
        Err(Error::Refused(actual)) => assert_eq!(actual, refusal),
        other => panic!("not refused with {refusal:?}: {other:?}"),
    }
}
