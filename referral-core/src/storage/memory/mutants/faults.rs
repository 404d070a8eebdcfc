//! Storages that are wrong in one statement.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use time::OffsetDateTime;

use super::{Call, Database, Mutant, State, Transaction, detects};
use crate::{
    audit::Reason,
    conformance::{
        challenges, claims, code_requests, deletion, deletion_grace, gate, guesses, host, invitations,
        limits, maintenance, personal_data, phone_change, phone_change_codes, retention, sessions, transfer,
    },
    gate::approval::Approval,
    session::Session,
    storage::{GlobalCounter, GlobalCounterQuery, Retention},
    user::User,
};

const MINUTE: Duration = Duration::from_mins(1);
const MICROSECOND: Duration = Duration::from_micros(1);

/// Changes the data before a call, and returns the change to make after it.
type Fault = fn(Call<'_>, &mut State) -> After;

type After = Box<dyn FnOnce(&mut State) + Send>;

fn nothing() -> After {
    Box::new(|_| ())
}

fn no_fault(_: Call<'_>, _: &mut State) -> After {
    nothing()
}

/// Data with a fault.
struct Faulty {
    data: Mutex<State>,
    fault: Fault,
}

#[async_trait]
impl Database for Faulty {
    async fn start(&self, call: Call<'_>) -> Transaction<'_> {
        let lock = || self.data.lock().unwrap_or_else(PoisonError::into_inner);
        let mut data = mem::take(&mut *lock());
        let after = (self.fault)(call, &mut data);
        Transaction::new(data, move |mut data| {
            after(&mut data);
            *lock() = data;
        })
    }
}

/// Asserts that a case detects the fault, and passes without it.
macro_rules! assert_detected {
    ($module:ident::$case:ident, $fault:expr) => {
        let with = |fault: Fault| Arc::new(Mutant(Faulty { data: Mutex::default(), fault }));
        assert!(!detects($module::$case, with(no_fault)), "{} without the fault", stringify!($case));
        assert!(detects($module::$case, with($fault)), "{}", stringify!($case));
    };
}

#[test]
fn missing_invitation_is_detected() {
    let fault: Fault = |_, _| Box::new(|data| data.invitations.clear());
    assert_detected!(invitations::invitation_is_accepted_at_sign_up, fault);
    assert_detected!(invitations::invitation_is_accepted_at_a_later_sign_in, fault);
    assert_detected!(invitations::invitation_is_accepted_in_the_profile, fault);
}

#[test]
fn external_id_that_stays_taken_is_detected() {
    assert_detected!(host::external_id_belongs_to_one_user, |_, data| {
        let before = data.by_external_id.clone();
        Box::new(|data| data.by_external_id.extend(before))
    });
}

#[test]
fn custom_claims_that_are_not_stored_are_detected() {
    let fault: Fault =
        |_, _| Box::new(|data| data.sessions.values_mut().for_each(|session| session.issued.claims = None));
    assert_detected!(claims::custom_claims_are_stored_unchanged, fault);
    assert_detected!(claims::repeated_refresh_returns_the_same_custom_claims, fault);
}

#[test]
fn remains_of_a_deleted_user_are_detected() {
    // The invite code is free.
    assert_detected!(deletion::invite_code_of_a_deleted_user_is_given_to_no_user, |_, _| {
        Box::new(|State { users, by_code, .. }| by_code.retain(|_, user| users.contains_key(user)))
    });
    assert_detected!(deletion::deleted_user_is_found_nowhere, |_, data| {
        let sessions = data.sessions.clone();
        Box::new(|data| {
            for (id, session) in sessions {
                data.sessions.entry(id).or_insert(session);
            }
        })
    });
    assert_detected!(deletion::phone_of_a_deleted_user_signs_up_as_a_new_user, |_, data| {
        let challenges = data.challenges.clone();
        Box::new(|data| {
            for (id, challenge) in challenges {
                if !data.challenges.contains_key(&id) {
                    data.put_challenge(challenge);
                }
            }
        })
    });
    // The invitation is deleted with its invitee.
    assert_detected!(deletion::invitations_through_a_deleted_user_stay, |_, _| {
        Box::new(|State { users, invitations, .. }| {
            invitations.retain(|invitee, _| users.contains_key(invitee));
        })
    });
}

#[test]
fn faults_of_a_grace_period_are_detected() {
    // The time of the deletion is not stored.
    assert_detected!(deletion_grace::scheduled_deletion_ends_the_sessions_and_keeps_the_user, |_, _| {
        Box::new(|data| data.users.values_mut().for_each(|user| user.deletion_at = None))
    });
    // A sign-in keeps the time of the deletion.
    assert_detected!(deletion_grace::sign_in_cancels_a_scheduled_deletion, |call, data| {
        let Call::SignIn(_) = call else { return nothing() };
        let before: Vec<_> = data.users.values().map(|user| (user.id, user.deletion_at)).collect();
        Box::new(|data| {
            for (id, deletion_at) in before {
                if let Some(user) = data.users.get_mut(&id) {
                    user.deletion_at = deletion_at;
                }
            }
        })
    });
    // The sessions stay.
    assert_detected!(
        deletion_grace::scheduled_deletion_ends_the_sessions_and_keeps_the_user,
        |call, data| {
            let Call::Other = call else { return nothing() };
            let sessions = data.sessions.clone();
            Box::new(|data| data.sessions = sessions)
        }
    );
    // A deletion is not due at its time.
    assert_detected!(
        deletion_grace::maintenance_deletes_only_users_whose_grace_period_has_ended,
        |call, data| {
            let Call::UsersToDelete(now) = call else { return nothing() };
            let due = |user: &&mut User| user.deletion_at == Some(now);
            let due = data.users.values_mut().find(due).map(|user| (user.id, user.deletion_at.take()));
            Box::new(move |data| {
                if let Some((id, deletion_at)) = due
                    && let Some(user) = data.users.get_mut(&id)
                {
                    user.deletion_at = deletion_at;
                }
            })
        }
    );
}

/// Returns the change that adds the records again that the call deletes.
fn keep_code_requests(data: &State) -> After {
    let before = data.code_requests.clone();
    Box::new(|data| {
        for (phone, records) in before {
            let stored = data.code_requests.entry(phone).or_default();
            for (id, record) in records {
                stored.entry(id).or_insert(record);
            }
        }
    })
}

#[test]
fn code_requests_that_are_never_deleted_are_detected() {
    assert_detected!(code_requests::newest_fifty_records_of_a_phone_stay, |call, data| match call {
        Call::RecordCodeRequests => keep_code_requests(data),
        _ => nothing(),
    });
    assert_detected!(code_requests::records_of_a_deleted_user_are_deleted, |call, data| match call {
        Call::Other => keep_code_requests(data),
        _ => nothing(),
    });
    assert_detected!(retention::old_code_requests_are_deleted_in_batches, |call, data| match call {
        Call::DeleteExpired(_) => keep_code_requests(data),
        _ => nothing(),
    });
}

#[test]
fn code_requests_that_are_replaced_or_lose_their_message_are_detected() {
    // Each batch replaces the former records.
    assert_detected!(code_requests::repeated_record_is_stored_once, |call, data| {
        if matches!(call, Call::RecordCodeRequests) {
            data.code_requests.clear();
        }
        Box::new(|data| {
            for records in data.code_requests.values_mut().filter(|records| records.len() > 1) {
                records.pop_first();
            }
        })
    });
    assert_detected!(code_requests::record_has_the_newest_status_of_its_message, |call, _| match call {
        Call::RecordCodeRequests => Box::new(|data| {
            let records = data.code_requests.values_mut().flat_map(|records| records.values_mut());
            records.for_each(|record| record.message_id = None);
        }),
        _ => nothing(),
    });
}

#[test]
fn sessions_beyond_the_maximum_are_detected() {
    // No session ends.
    assert_detected!(sessions::sign_in_beyond_the_maximum_ends_the_oldest_session, |call, data| {
        let Call::SignIn(_) = call else { return nothing() };
        let before = data.sessions.clone();
        Box::new(|data| data.sessions.extend(before))
    });
    // A session that has ended counts.
    assert_detected!(sessions::sign_in_beyond_the_maximum_ends_the_oldest_session, |call, data| {
        let Call::SignIn(_) = call else { return nothing() };
        data.sessions.values_mut().for_each(|session| session.revoked_at = None);
        nothing()
    });
}

#[test]
fn faults_of_a_changed_phone_are_detected() {
    // The old phone still finds the user.
    assert_detected!(phone_change::old_phone_signs_up_a_new_user, |call, data| {
        let Call::ChangePhone(request) = call else { return nothing() };
        let old = data.users.get(&request.user).map(|user| (user.phone.clone(), user.id));
        Box::new(|data| data.by_phone.extend(old))
    });
    // The new phone does not find the user.
    assert_detected!(phone_change::user_is_found_by_the_new_phone_only, |call, _| {
        let Call::ChangePhone(request) = call else { return nothing() };
        let new = request.redemption.phone.clone();
        Box::new(move |data| {
            data.by_phone.remove(&new);
        })
    });
    assert_detected!(phone_change::other_sessions_end_when_the_phone_changes, |call, data| {
        let Call::ChangePhone(_) = call else { return nothing() };
        let sessions = data.sessions.clone();
        Box::new(|data| data.sessions = sessions)
    });
    // The code can be redeemed again.
    assert_detected!(phone_change::taken_phone_is_refused_only_after_the_correct_code, |call, data| {
        let Call::ChangePhone(_) = call else { return nothing() };
        let challenges = data.challenges.clone();
        Box::new(|data| data.challenges = challenges)
    });
    // Wrong codes of a change are not counted.
    assert_detected!(phone_change_codes::wrong_codes_of_a_change_are_limited, |call, data| {
        let Call::ChangePhone(_) = call else { return nothing() };
        let counters = data.counters.clone();
        Box::new(|data| data.counters = counters)
    });
    // A code for another purpose is the newest code to sign in.
    assert_detected!(
        phone_change_codes::code_for_another_purpose_does_not_replace_the_code_to_sign_in,
        |_, data| {
            data.challenges.values_mut().for_each(|challenge| challenge.signs_in = true);
            nothing()
        }
    );
    // The user of an earlier request is not compared with the stored user.
    assert_detected!(phone_change::change_of_an_ended_session_is_rejected, |call, data| {
        let Call::ChangePhone(request) = call else { return nothing() };
        if let Some(user) = data.users.get_mut(&request.user) {
            user.phone = request.old_phone().clone();
        }
        nothing()
    });
}

#[test]
fn incomplete_imports_and_exports_are_detected() {
    let forgotten: Fault = |_, _| Box::new(|data| data.erased.clear());
    assert_detected!(transfer::imported_users_are_exported_unchanged, forgotten);
    assert_detected!(transfer::users_of_the_service_are_exported, forgotten);
    assert_detected!(transfer::import_does_not_restore_a_deleted_user, forgotten);
    // The email addresses of imported users are free.
    assert_detected!(transfer::conflicting_records_are_rejected, |_, _| {
        Box::new(|data| data.by_email.clear())
    });
    // The invitations of an import are not counted.
    assert_detected!(transfer::imported_users_are_exported_unchanged, |_, data| {
        let users = data.users.clone();
        Box::new(move |data| {
            for user in data.users.values_mut() {
                user.invited_count = users.get(&user.id).map_or(0, |before| before.invited_count);
            }
        })
    });
    // A loop through stored users is not found.
    assert_detected!(transfer::import_creates_no_loop, |_, data| {
        let invitations = mem::take(&mut data.invitations);
        Box::new(move |data| {
            for (invitee, invitation) in invitations {
                data.invitations.entry(invitee).or_insert(invitation);
            }
        })
    });
}

#[test]
fn global_counters_that_are_never_deleted_are_detected() {
    assert_detected!(retention::old_global_counters_are_deleted_in_batches, |_, data| {
        let before = data.global_counters.clone();
        Box::new(|data| {
            for (period, count) in before {
                data.global_counters.entry(period).or_insert(count);
            }
        })
    });
}

#[test]
fn sessions_that_are_deleted_without_a_batch_are_detected() {
    assert_detected!(retention::ended_sessions_are_deleted_in_batches, |call, data| {
        let Call::DeleteExpired(&Retention { ended_before, .. }) = call else { return nothing() };
        let stored = data.sessions.len();
        Box::new(move |data| {
            if data.sessions.len() < stored {
                data.sessions.retain(|_, session| session.ends_at() >= ended_before);
            }
        })
    });
}

/// Rows whose time equals the bound are deleted.
#[test]
fn deletion_by_a_closed_range_is_detected() {
    fn shift(time: &mut OffsetDateTime, bound: OffsetDateTime) {
        if *time == bound {
            *time -= MICROSECOND;
        }
    }
    assert_detected!(retention::expired_challenges_are_deleted_in_batches, |call, data| {
        if let Call::DeleteExpired(retention) = call {
            data.challenges.values_mut().for_each(|row| shift(&mut row.expires_at, retention.ended_before));
        }
        nothing()
    });
    assert_detected!(retention::ended_sessions_are_deleted_in_batches, |call, data| {
        if let Call::DeleteExpired(retention) = call {
            let expire =
                |row: &mut Session| shift(&mut row.issued.refresh_expires_at, retention.ended_before);
            data.sessions.values_mut().for_each(expire);
        }
        nothing()
    });
    assert_detected!(retention::ended_sessions_are_deleted_in_batches, |call, data| {
        if let Call::DeleteExpired(retention) = call {
            let revoked = data.sessions.values_mut().filter_map(|row| row.revoked_at.as_mut());
            revoked.for_each(|time| shift(time, retention.ended_before));
        }
        nothing()
    });
    assert_detected!(retention::ended_counters_are_deleted_in_batches, |call, data| {
        if let Call::DeleteExpired(retention) = call {
            data.counters.values_mut().for_each(|row| shift(&mut row.ends_at, retention.ended_before));
        }
        nothing()
    });
    assert_detected!(retention::old_global_counters_are_deleted_in_batches, |call, data| {
        if let Call::DeleteExpired(retention) = call {
            let counters = mem::take(&mut data.global_counters).into_iter();
            data.global_counters = counters
                .map(|((counter, mut start), count)| {
                    shift(&mut start, retention.global_counters_before);
                    ((counter, start), count)
                })
                .collect();
        }
        nothing()
    });
    assert_detected!(retention::old_code_requests_are_deleted_in_batches, |call, data| {
        if let Call::DeleteExpired(retention) = call {
            let records = data.code_requests.values_mut().flat_map(|records| records.values_mut());
            records.for_each(|record| shift(&mut record.at, retention.code_requests_before));
        }
        nothing()
    });
    assert_detected!(retention::old_messages_are_deleted_in_batches, |call, data| {
        if let Call::DeleteExpired(retention) = call {
            data.messages.values_mut().for_each(|(at, _)| shift(at, retention.messages_before));
        }
        nothing()
    });
}

/// Sessions that end now are still active during the call.
fn extend_sessions(data: &mut State, now: OffsetDateTime) -> After {
    let ended = data.sessions.values_mut().filter(|session| session.ends_at() == now);
    let extended: Vec<_> = ended
        .map(|session| {
            session.issued.refresh_expires_at += MICROSECOND;
            session.id
        })
        .collect();
    Box::new(move |data| {
        for id in extended {
            let session = data.sessions.get_mut(&id).expect("the call deletes no sessions");
            session.issued.refresh_expires_at -= MICROSECOND;
        }
    })
}

#[test]
fn session_that_is_active_at_its_end_is_detected() {
    assert_detected!(sessions::session_ends_at_its_exact_time, |call, data| match call {
        Call::Sessions(now) => extend_sessions(data, now),
        _ => nothing(),
    });
    assert_detected!(sessions::session_ends_at_its_exact_time, |call, data| match call {
        Call::EndSessions(now) => extend_sessions(data, now),
        _ => nothing(),
    });
}

/// Returns the query of a call for the counts of the service.
fn query(call: Call<'_>) -> Option<GlobalCounterQuery> {
    match call {
        Call::StartChallenge(request) => Some(request.global_counters()),
        Call::SignIn(request) => Some(request.global_counters()),
        Call::CheckAttack(check) => Some(check.global_counters()),
        _ => None,
    }
}

/// Moves counts of the kind `counter` from one period to another during the call.
fn move_counts(
    data: &mut State,
    counter: GlobalCounter,
    moves: impl IntoIterator<Item = (OffsetDateTime, OffsetDateTime)>,
) -> After {
    let mut moved = Vec::new();
    for (from, to) in moves {
        if let Some(count) = data.global_counters.remove(&(counter, from)) {
            *data.global_counters.entry((counter, to)).or_default() += count;
            moved.push((from, to, count));
        }
    }
    Box::new(move |data| {
        for (from, to, count) in moved {
            *data.global_counters.entry((counter, to)).or_default() -= count;
            *data.global_counters.entry((counter, from)).or_default() += count;
        }
    })
}

#[test]
fn counts_of_a_shifted_range_are_detected() {
    // The first period is not counted.
    assert_detected!(limits::message_counts_until_its_hour_is_a_day_old, |call, data| {
        let since = query(call).and_then(|query| query.messages_since);
        move_counts(data, GlobalCounter::Messages, since.map(|since| (since, since - MICROSECOND)))
    });
    assert_detected!(guesses::attack_counts_the_wrong_codes_of_ten_minutes, |call, data| {
        let since = query(call).and_then(|query| query.failed_attempts_since);
        move_counts(data, GlobalCounter::FailedAttempts, since.map(|since| (since, since - MICROSECOND)))
    });
    assert_detected!(guesses::usual_number_counts_the_same_ten_minutes_of_past_days, |call, data| {
        let times = query(call).and_then(|query| query.usual_times(u64::MAX)).unwrap_or_default();
        let moves = times.into_iter().map(|(since, _)| (since, since - MICROSECOND));
        move_counts(data, GlobalCounter::FailedAttempts, moves)
    });
    // The period before the first is counted.
    assert_detected!(guesses::attack_counts_the_wrong_codes_of_ten_minutes, |call, data| {
        let since = query(call).and_then(|query| query.failed_attempts_since);
        let moves = since.map(|since| (since - MINUTE, since));
        move_counts(data, GlobalCounter::FailedAttempts, moves)
    });
    // The period after the last is counted.
    assert_detected!(guesses::usual_number_counts_the_same_ten_minutes_of_past_days, |call, data| {
        let times = query(call).and_then(|query| query.usual_times(u64::MAX)).unwrap_or_default();
        let moves = times.into_iter().map(|(_, end)| (end, end - MICROSECOND));
        move_counts(data, GlobalCounter::FailedAttempts, moves)
    });
}

#[test]
fn audit_entry_that_is_lost_or_not_erased_is_detected() {
    let lost: Fault = |call, data| {
        if !matches!(call, Call::AddAuditEntry) {
            return nothing();
        }
        let before = data.audit_log.clone();
        Box::new(|data| data.audit_log = before)
    };
    assert_detected!(personal_data::exports_by_staff_are_recorded, lost);
    assert_detected!(personal_data::export_of_a_deleted_user_fails, |call, _| {
        if !matches!(call, Call::AddAuditEntry) {
            return nothing();
        }
        Box::new(|data| {
            data.audit_log.values_mut().for_each(|entry| entry.reason = Reason::parse("call from Anna").ok());
        })
    });
}

#[test]
fn unread_session_is_detected() {
    assert_detected!(personal_data::personal_data_are_read_in_pages, |call, data| {
        let Call::Sessions(_) = call else { return nothing() };
        // The newest session is not read.
        let newest = data.sessions.pop_last();
        Box::new(|data| data.sessions.extend(newest))
    });
}

#[test]
fn storage_that_is_always_ready_is_detected() {
    assert_detected!(
        maintenance::closed_storage_is_not_ready,
        |_, _| Box::new(|data| data.is_closed = false)
    );
}

#[test]
fn code_that_is_redeemed_before_the_approval_is_detected() {
    let fault: Fault = |call, _| {
        let Call::SignIn(request) = call else { return nothing() };
        if !matches!(request.approval, Approval::Required) {
            return nothing();
        }
        let (phone, now) = (request.phone.clone(), request.now);
        Box::new(move |data| {
            let own = data.challenges.values_mut().filter(|challenge| challenge.phone == phone);
            own.for_each(|challenge| challenge.redeemed_at = Some(now));
        })
    };
    assert_detected!(gate::rejected_sign_up_stores_nothing_and_leaves_the_code_usable, fault);
    assert_detected!(gate::rejected_invitation_leaves_the_code_usable_without_it, fault);
    assert_detected!(gate::user_created_while_the_gate_decides_is_signed_in, fault);
}

#[test]
fn newest_challenge_of_another_phone_is_detected() {
    assert_detected!(challenges::codes_of_different_phones_are_independent, |call, data| {
        let Call::SignIn(request) = call else { return nothing() };
        let newest = data.challenges.keys().next_back().copied();
        let own = data.sent.get(&request.phone).cloned();
        data.sent.entry(request.phone.clone()).or_default().extend(newest);
        let phone = request.phone.clone();
        Box::new(move |data| {
            data.sent.remove(&phone);
            data.sent.extend(own.map(|own| (phone, own)));
        })
    });
}

#[test]
fn challenge_that_replaces_the_challenge_of_another_phone_is_detected() {
    assert_detected!(challenges::codes_of_different_phones_are_independent, |call, data| {
        let newest = data.challenges.keys().next_back().copied();
        match (call, newest) {
            (Call::StartChallenge(_), Some(newest)) => Box::new(move |data| data.remove_challenge(newest)),
            _ => nothing(),
        }
    });
}
