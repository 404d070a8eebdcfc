//! Conformance suite: tests that every implementation of [`Storage`](crate::storage::Storage) must pass.
//!
//! One line in a test file runs all cases, each of them on an empty storage. A storage whose data several
//! processes can use, such as a database server or a file, must pass with several handles of the same data. A
//! handle is what one process opens, for example a connection pool:
//!
//! ```
//! # use std::sync::Arc;
//! # struct MyStorage;
//! # impl MyStorage {
//! #     fn open(_: &std::path::Path) -> Arc<MemoryStorage> { Arc::default() }
//! # }
//! # use referral_core::storage::MemoryStorage;
//! // The handles, and a value that must live as long as them.
//! referral_core::conformance!(several: async |count| {
//!     let directory = tempfile::tempdir().expect("a temporary directory");
//!     let handles: Vec<_> = (0..count).map(|_| MyStorage::open(directory.path())).collect();
//!     (handles, directory)
//! });
//! # fn main() {}
//! ```
//!
//! Each call uses another handle than the previous call: see [`Interleaved`]. So a case fails if a storage
//! relies on a lock inside one process, or caches data that another process can change.
//!
//! A storage that exists in one process only has one handle:
//!
//! ```
//! use std::sync::Arc;
//! use referral_core::storage::MemoryStorage;
//!
//! referral_core::conformance!(async { (Arc::new(MemoryStorage::new()), ()) });
//! # fn main() {}
//! ```
//!
//! The cases call the storage through a [`ReferralService`](crate::ReferralService), as a service
//! does, with a manual clock. The cases about contention run many tasks on several threads.
//!
//! The times of the clock have microseconds. The cases advance the clock to the last microsecond of a range
//! and to the first one after it. A storage must therefore store times with microsecond precision, and
//! treat ranges as half-open: see [Times](crate::storage#times).

#![expect(clippy::missing_panics_doc, reason = "a case panics if it fails")]

pub mod administration;
pub mod challenges;
pub mod claims;
pub mod code_requests;
pub mod deletion;
pub mod deletion_codes;
pub mod deletion_grace;
pub mod deletion_lists;
pub mod delivery;
pub mod gate;
pub mod guesses;
mod harness;
pub mod host;
mod interleaved;
pub mod invitations;
pub mod limits;
pub mod maintenance;
pub mod personal_data;
pub mod phone_change;
pub mod phone_change_codes;
pub mod profiles;
pub mod recycled_phones;
pub mod retention;
pub mod sessions;
pub mod sign_in;
pub mod statistics;
pub mod test_numbers;
pub mod transfer;
pub mod users;

pub use self::interleaved::Interleaved;

/// Number of handles that `conformance!(several: …)` opens.
pub const HANDLES: usize = 3;

/// Creates a test for every case.
///
/// `conformance!(storage)` takes a future that returns an empty storage in an [`Arc`](std::sync::Arc), and a
/// value that must live as long as the storage.
///
/// `conformance!(several: open)` takes an async function of a number. It returns a [`Vec`] with that number
/// of handles of the same empty data, each in an [`Arc`](std::sync::Arc), and a value that must live as long
/// as the handles.
#[macro_export]
macro_rules! conformance {
    (several: $open:expr) => {
        $crate::conformance! { async {
            let (handles, guard) = ($open)($crate::conformance::HANDLES).await;
            (::std::sync::Arc::new($crate::conformance::Interleaved::new(handles)), guard)
        } }
    };
    ($storage:expr) => {
        $crate::conformance! { @cases $storage;
            challenges {
                second_code_for_a_phone_waits_for_the_resend_interval
                sign_in_ends_the_resend_interval
                resend_interval_applies_to_one_phone_only
                parallel_requests_for_one_phone_send_one_code
                voided_code_is_invalid_and_the_previous_code_stays_valid
                codes_of_different_phones_are_independent
            }
            code_requests {
                requests_of_a_phone_are_recorded
                record_has_the_newest_status_of_its_message
                newest_fifty_records_of_a_phone_stay
                repeated_record_is_stored_once
                records_before_a_key_rotation_are_found
                records_of_a_deleted_user_are_deleted
            }
            deletion {
                deleted_user_is_found_nowhere
                phone_of_a_deleted_user_signs_up_as_a_new_user
                invite_code_of_a_deleted_user_is_unknown
                invite_code_of_a_deleted_user_is_given_to_no_user
                invitations_through_a_deleted_user_stay
                host_deletes_a_user_once
                authenticated_requests_of_a_deleted_user_are_rejected
                parallel_sign_ins_leave_no_session_of_a_deleted_user
                parallel_invitations_by_a_deleted_user_are_accepted_or_unknown
            }
            deletion_codes {
                only_the_code_of_a_deletion_deletes
                wrong_codes_of_a_deletion_are_limited
                code_of_a_deletion_is_refunded_to_the_address
                parallel_guesses_at_a_deletion_do_not_exceed_its_attempts
                parallel_deletions_delete_a_user_once
            }
            deletion_grace {
                scheduled_deletion_ends_the_sessions_and_keeps_the_user
                wrong_code_schedules_no_deletion
                sign_in_cancels_a_scheduled_deletion
                maintenance_deletes_only_users_whose_grace_period_has_ended
                users_to_delete_are_paged
                parallel_sign_in_and_due_deletion_agree
                parallel_sign_in_and_scheduling_agree
                parallel_maintenance_deletes_each_due_user_once
                scheduled_admin_is_no_other_admin
                parallel_scheduled_deletions_leave_an_admin
                staff_cancel_a_scheduled_deletion
                new_user_of_a_recycled_phone_does_not_cancel_the_deletion
            }
            deletion_lists {
                deleted_invitees_are_counted_and_not_listed
                deleted_users_shift_no_offset
                page_continues_after_a_deleted_user
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
            gate {
                rejected_sign_up_stores_nothing_and_leaves_the_code_usable
                rejected_invitation_leaves_the_code_usable_without_it
                user_created_while_the_gate_decides_is_signed_in
                code_redeemed_while_the_gate_decides_is_refused
                inviter_that_is_set_while_the_gate_decides_stays
                parallel_sign_ins_with_an_approved_code_redeem_it_once
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
                message_counts_until_its_hour_is_a_day_old
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
                attack_counts_the_wrong_codes_of_ten_minutes
                usual_number_counts_the_same_ten_minutes_of_past_days
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
                only_staff_sign_in_where_others_may_not
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
                user_without_an_inviter_has_no_invitation
                later_sign_in_keeps_the_inviter
                repeated_inviter_changes_nothing
                other_inviter_in_the_profile_is_rejected
                rejected_invite_code_keeps_the_sms_code_valid
                long_chain_cannot_become_a_loop
                parallel_acceptances_by_one_invitee_record_one_inviter
                parallel_sign_ups_with_one_inviter_are_all_counted
                four_concurrent_acceptances_in_a_cycle_leave_no_loop
                five_concurrent_acceptances_in_a_cycle_leave_no_loop
            }
            sessions {
                session_is_found_with_its_user
                refresh_token_is_exchanged_and_repeats_its_successor
                older_token_ends_the_session_after_its_successor_was_used
                older_refresh_token_ends_the_session
                three_consecutive_late_repetitions_end_the_session
                concurrent_refreshes_return_the_same_tokens
                session_expires
                tokens_of_an_inactive_user_are_rejected_immediately
                own_sessions_are_listed_and_ended
                refresh_token_ends_its_session
                concurrent_refresh_does_not_restore_an_ended_session
                address_and_user_agent_of_a_session_are_updated
                session_ends_at_its_exact_time
                sign_in_beyond_the_maximum_ends_the_oldest_session
                parallel_sign_ins_do_not_exceed_the_maximum_for_long
            }
            claims {
                custom_claims_are_stored_unchanged
                repeated_refresh_returns_the_same_custom_claims
                custom_claims_describe_the_committed_user
                failed_custom_claims_store_nothing
            }
            profiles {
                profile_is_edited_and_cleared
                edit_is_atomic
                email_belongs_to_one_user
                parallel_claims_of_an_email_succeed_once
                text_is_stored_unchanged
                edit_of_an_unknown_user_is_rejected
            }
            host {
                user_can_be_created_without_a_sign_in
                external_id_and_metadata_are_stored_unchanged
                external_id_and_metadata_are_kept
                external_id_belongs_to_one_user
                change_of_a_user_is_atomic
                parallel_claims_of_an_external_id_succeed_once
                parallel_creations_of_one_phone_create_one_user
                parallel_changes_of_different_fields_are_kept
                staff_find_users_by_their_external_id
            }
            administration {
                changes_by_staff_are_recorded
                refused_changes_are_not_recorded
                each_role_has_its_rights
                blocked_user_is_signed_out
                inviter_is_set_replaced_and_removed
                parallel_inviters_by_staff_leave_no_loop
                parallel_demotions_leave_an_admin
                unlocked_phone_is_not_limited
                unlocking_deletes_the_counters_of_the_phone
                entries_about_a_deleted_user_are_erased
                audit_log_is_filtered_and_paged
                staff_find_users_by_anything
                new_staff_are_recorded
            }
            personal_data {
                personal_data_are_complete_and_of_one_user
                phones_in_personal_data_depend_on_the_visibility
                exports_by_staff_are_recorded
                personal_data_are_read_in_pages
                export_of_a_deleted_user_fails
            }
            phone_change {
                user_is_found_by_the_new_phone_only
                other_sessions_end_when_the_phone_changes
                old_phone_signs_up_a_new_user
                taken_phone_is_refused_only_after_the_correct_code
                codes_of_several_users_for_one_phone_are_independent
                change_of_an_ended_session_is_rejected
                parallel_changes_to_one_phone_succeed_once
                parallel_sign_up_and_change_give_a_phone_to_one_user
                parallel_sign_ins_leave_no_session_of_the_old_phone
            }
            phone_change_codes {
                only_the_code_of_a_change_changes_the_phone
                code_for_another_purpose_does_not_replace_the_code_to_sign_in
                wrong_codes_of_a_change_are_limited
                code_of_a_change_is_refunded_to_the_address
                parallel_guesses_at_a_change_do_not_exceed_its_attempts
                parallel_changes_with_one_code_succeed_once
            }
            recycled_phones {
                silent_user_loses_the_phone_to_a_new_user
                active_user_keeps_the_phone
                refresh_token_of_the_user_keeps_the_phone
                phones_are_not_recycled_without_the_setting
                refused_sign_in_leaves_the_phone
                blocked_users_lose_the_phone_and_test_numbers_do_not
                parallel_sign_ins_detach_a_phone_once
                invite_code_of_a_user_without_a_phone_is_accepted
                staff_link_a_phone_to_its_old_user
                staff_do_not_lose_their_last_admin_by_a_phone
                user_without_a_phone_is_deleted
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
            transfer {
                imported_users_are_exported_unchanged
                users_of_the_service_are_exported
                imported_users_are_ordinary_users
                conflicting_records_are_rejected
                import_does_not_restore_a_deleted_user
                import_creates_no_loop
                parallel_imports_and_sign_ups_create_each_user_once
                parallel_import_and_deletion_leave_the_user_deleted
            }
            retention {
                only_expired_rows_are_deleted
                expired_challenges_are_deleted_in_batches
                ended_sessions_are_deleted_in_batches
                ended_counters_are_deleted_in_batches
                old_global_counters_are_deleted_in_batches
                old_messages_are_deleted_in_batches
                old_code_requests_are_deleted_in_batches
            }
            statistics {
                sign_ups_and_invitations_are_counted_on_their_day
                late_acceptances_count_on_their_day_and_deletions_change_no_day
                parallel_sign_ups_are_all_counted_on_their_day
                status_shows_attacks_and_messages
            }
            maintenance {
                staff_are_created_and_promoted
                sessions_end_when_their_user_becomes_staff
                parallel_promotions_create_one_user
                storage_is_ready
                closed_storage_is_not_ready
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
