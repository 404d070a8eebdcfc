//! Cases about deletions of the own account with a grace period.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;

use super::{
    deletion::{assert_found_nowhere, deletion, send_deletion_code},
    harness::{Harness, assert_refused, in_parallel, phone, with_right_code, with_wrong_code},
};
use crate::{
    audit::{Actor, AuditAction, FieldChange, Reason},
    error::refusal::Refusal,
    policy::Policy,
    service::{account::AccountDeletion, sign_in::SignedIn},
    storage::{DueDeletion, Storage},
    user::{User, UserId, change::UserChange, staff_role::StaffRole},
};

const GRACE: Duration = Duration::from_hours(30 * 24);

const MICROSECOND: Duration = Duration::from_micros(1);

fn harness(storage: Arc<dyn Storage>) -> Harness {
    Harness::with_policy(storage, Policy { deletion_grace: GRACE, ..Policy::development() })
}

fn because(reason: &str) -> Reason {
    Reason::parse(reason).expect("valid")
}

impl Harness {
    /// Deletes the account of a user with a code, which starts the grace period. Returns its end.
    async fn schedule(&self, signed_in: &SignedIn) -> OffsetDateTime {
        let current_user = self.current_user(signed_in).await;
        let sent = send_deletion_code(self, &current_user).await;
        let deleted = self.referral.delete_account(&current_user, deletion(with_right_code(&sent))).await;
        deleted.expect("scheduled").deletion_at.expect("a grace period")
    }

    async fn maintain(&self) {
        self.referral.run_maintenance().await.expect("the storage responds");
    }

    async fn stored(&self, id: UserId) -> Option<User> {
        self.referral.find_user(id).await.expect("the storage responds")
    }

    async fn has_sessions(&self, id: UserId) -> bool {
        !self.storage.sessions(id, self.now(), None, 10).await.expect("the storage responds").is_empty()
    }
}

/// A user who was silent for long does not cancel the deletion: the code creates a new user, and the old one is
/// deleted without its phone.
pub async fn new_user_of_a_recycled_phone_does_not_cancel_the_deletion(storage: Arc<dyn Storage>) {
    let silence = GRACE * 2;
    let policy =
        Policy { deletion_grace: GRACE, phones_recycled_after: Some(silence), ..Policy::development() };
    let harness = Harness::with_policy(storage, policy);
    let anna = harness.enter(1).await;
    // No maintenance runs at the end of the grace period.
    let deletion_at = harness.schedule(&anna).await;
    harness.advance(silence);
    let new = harness.enter(1).await;
    assert!(new.created);
    let old = harness.stored(anna.user.id).await.expect("stored");
    assert_eq!((old.has_phone(), old.deletion_at), (false, Some(deletion_at)));
    harness.maintain().await;
    assert_eq!(harness.stored(anna.user.id).await, None);
    assert_eq!(harness.stored(new.user.id).await, Some(new.user));
}

/// A deletion with a grace period ends the sessions of the user and redeems the code. All data stay, and other
/// users find the user.
pub async fn scheduled_deletion_ends_the_sessions_and_keeps_the_user(storage: Arc<dyn Storage>) {
    let harness = harness(storage);
    let anna = harness.enter(1).await;
    harness.advance(Duration::from_millis(1));
    let boris = harness.enter_invited(2, &anna.user).await;
    let elsewhere = harness.enter(2).await;
    let before = harness.stored(boris.user.id).await.expect("stored");
    let current_user = harness.current_user(&boris).await;
    let sent = send_deletion_code(&harness, &current_user).await;
    let request = deletion(with_right_code(&sent));
    let deletion_at = harness.now() + GRACE;
    let deleted = harness.referral.delete_account(&current_user, request.clone()).await.expect("scheduled");
    assert_eq!(deleted, AccountDeletion { ended_sessions: 2, deletion_at: Some(deletion_at) });

    let scheduled = User { deletion_at: Some(deletion_at), ..before.clone() };
    assert_eq!(harness.stored(boris.user.id).await, Some(scheduled.clone()));
    for session in [&boris, &elsewhere] {
        let access = harness.referral.authenticate(&session.tokens.access).await;
        assert_refused(access, Refusal::TokenNotValid);
        let refreshed = harness.referral.refresh(&session.tokens.refresh).await;
        assert_refused(refreshed, Refusal::TokenNotValid);
    }
    assert!(!harness.has_sessions(boris.user.id).await);
    let again = harness.referral.delete_account(&current_user, request).await;
    assert_refused(again, Refusal::TokenNotValid);

    let profile = harness.profile(&anna).await;
    assert_eq!((profile.invited_count, profile.invited.len()), (1, 1));
    let viewer = harness.current_user(&anna).await;
    let listed: Vec<_> = harness.all_users(&viewer).await.into_iter().map(|user| user.id).collect();
    assert_eq!(listed, [boris.user.id, anna.user.id]);
    let entries = harness.entries_about(boris.user.id).await;
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    let author = Actor::User(boris.user.id);
    assert_eq!((entry.action, entry.actor), (AuditAction::DeletionScheduled, author));
    assert_eq!(entry.changes, FieldChange::between(&before, &scheduled));
}

/// A wrong code of a deletion with a grace period schedules nothing.
pub async fn wrong_code_schedules_no_deletion(storage: Arc<dyn Storage>) {
    let harness = harness(storage);
    let anna = harness.enter(1).await;
    let current_user = harness.current_user(&anna).await;
    let before = harness.stored(anna.user.id).await;
    let sent = send_deletion_code(&harness, &current_user).await;
    let wrong = deletion(with_wrong_code(&sent));
    assert_refused(harness.referral.delete_account(&current_user, wrong).await, Refusal::InvalidCode);
    assert_eq!(harness.stored(anna.user.id).await, before);
    assert_eq!(harness.entries_about(anna.user.id).await, []);
    harness.profile(&anna).await;
}

/// A sign-in cancels the deletion, also if it accepts an invitation, and also if the deletion is due but was not
/// carried out yet.
pub async fn sign_in_cancels_a_scheduled_deletion(storage: Arc<dyn Storage>) {
    let harness = harness(storage);
    let anna = harness.enter(1).await;
    for (number, waits, invited) in [
        (2, Duration::ZERO, false),
        (3, Duration::from_hours(24), true),
        (4, GRACE, false),
        (5, 2 * GRACE, true),
    ] {
        let first = harness.enter(number).await;
        harness.schedule(&first).await;
        let scheduled = harness.stored(first.user.id).await.expect("stored");
        harness.advance(waits);
        let code = invited.then_some(&anna.user.invite_code);
        let second = harness.try_enter(&phone(number), code).await.expect("signed in");
        assert_eq!((second.user.id, second.created), (first.user.id, false));
        assert_eq!(second.user.deletion_at, None);
        assert_eq!(harness.stored(first.user.id).await.as_ref(), Some(&second.user));
        assert_eq!(second.user.invited_by.is_some(), invited);
        let author = Actor::User(first.user.id);
        let entries = harness.entries_about(first.user.id).await;
        let canceled = entries.iter().find(|entry| entry.action == AuditAction::DeletionCanceled);
        let canceled = canceled.expect("the sign-in is recorded");
        assert_eq!((canceled.actor, canceled.at, entries.len()), (author, harness.now(), 2));
        let kept = User { deletion_at: None, ..scheduled.clone() };
        assert_eq!(canceled.changes, FieldChange::between(&scheduled, &kept));

        harness.maintain().await;
        harness.profile(&second).await;
        harness.try_enter(&phone(number), None).await.expect("signed in");
        assert_eq!(harness.entries_about(first.user.id).await.len(), 2, "a later sign-in cancels nothing");
    }
}

/// Maintenance deletes the users whose grace period has ended, also inactive ones, and no others.
pub async fn maintenance_deletes_only_users_whose_grace_period_has_ended(storage: Arc<dyn Storage>) {
    let harness = harness(storage);
    let [anna, boris, vera] = [harness.enter(1).await, harness.enter(2).await, harness.enter(3).await];
    harness.schedule(&anna).await;
    harness.advance(MICROSECOND);
    let of_boris = harness.schedule(&boris).await;
    harness.referral.set_active(boris.user.id, false).await.expect("changed");
    harness.advance(MICROSECOND);
    harness.schedule(&vera).await;

    harness.advance(GRACE.saturating_sub(3 * MICROSECOND));
    harness.maintain().await;
    assert!(harness.stored(anna.user.id).await.is_some(), "a microsecond is left");
    harness.advance(2 * MICROSECOND);
    assert_eq!(harness.now(), of_boris);
    harness.maintain().await;
    let viewer = harness.enter(9).await;
    let current_user = harness.current_user(&viewer).await;
    for deleted in [&anna, &boris] {
        assert_found_nowhere(&harness, &current_user, &deleted.user).await;
        let entries = harness.entries_about(deleted.user.id).await;
        let [entry, scheduled] = &entries[..] else { panic!("{entries:?}") };
        let author = Actor::User(deleted.user.id);
        assert_eq!((entry.action, entry.actor, &entry.reason), (AuditAction::UserDeleted, author, &None));
        assert_eq!((scheduled.action, scheduled.changes.len()), (AuditAction::DeletionScheduled, 0));
    }
    assert!(harness.stored(vera.user.id).await.is_some(), "a microsecond is left");
    assert!(harness.enter(1).await.created, "the phone is free");
    harness.referral.delete_user(vera.user.id).await.expect("the host does not wait");
    assert_found_nowhere(&harness, &current_user, &vera.user).await;
}

/// Users to delete are returned in the order of their time and of their id, from any of them on.
pub async fn users_to_delete_are_paged(storage: Arc<dyn Storage>) {
    let harness = harness(storage);
    let mut expected = Vec::new();
    for number in 0..6 {
        let user = harness.enter(number).await;
        // Two users each have the same time.
        let deletion_at = harness.schedule(&user).await;
        expected.push(DueDeletion { deletion_at, user: user.user.id });
        harness.advance(MICROSECOND * (number % 2));
    }
    harness.enter(7).await;
    expected.sort_unstable();
    let page = async |now, after: Option<&DueDeletion>, limit| {
        harness.storage.users_to_delete(now, after, limit).await.expect("the storage responds")
    };
    let last = expected[5].deletion_at;
    assert_eq!(page(last, None, 10).await, expected);
    assert_eq!(page(last - MICROSECOND, None, 10).await, expected[..4]);
    for (index, due) in expected.iter().enumerate() {
        let rest = &expected[index + 1..];
        assert_eq!(page(last, Some(due), 2).await, rest[..rest.len().min(2)]);
    }
}

/// A sign-in that is concurrent with the deletion of a due user is either before it, and keeps the user, or is
/// rejected.
pub async fn parallel_sign_in_and_due_deletion_agree(storage: Arc<dyn Storage>) {
    let harness = harness(storage);
    for round in 0..10 {
        let phone = phone(round * 1_000);
        let first = harness.try_enter(&phone, None).await.expect("signed in");
        harness.schedule(&first).await;
        harness.advance(GRACE);
        let sent = harness.sent_code(&phone).await;
        let results = in_parallel(3, |number| {
            let (harness, sent) = (harness.clone(), sent.clone());
            async move {
                if number == 1 {
                    return harness.sign_in(with_right_code(&sent)).await.ok();
                }
                harness.maintain().await;
                None
            }
        });
        match results.await.into_iter().flatten().next() {
            Some(signed_in) => {
                assert_eq!(harness.stored(first.user.id).await, Some(signed_in.user.clone()));
                assert_eq!((signed_in.user.id, signed_in.user.deletion_at), (first.user.id, None));
                harness.profile(&signed_in).await;
            }
            None => assert_eq!(harness.stored(first.user.id).await, None),
        }
    }
}

/// A sign-in that is concurrent with the start of the grace period either has no session, or has canceled the
/// deletion.
pub async fn parallel_sign_in_and_scheduling_agree(storage: Arc<dyn Storage>) {
    let harness = harness(storage);
    for round in 0..10 {
        let phone = phone(round * 1_000);
        let first = harness.try_enter(&phone, None).await.expect("signed in");
        let current_user = harness.current_user(&first).await;
        let [to_sign_in, to_delete] =
            [harness.sent_code(&phone).await, send_deletion_code(&harness, &current_user).await];
        in_parallel(2, |number| {
            let (harness, current_user) = (harness.clone(), current_user.clone());
            let (to_sign_in, to_delete) = (to_sign_in.clone(), to_delete.clone());
            async move {
                if number == 0 {
                    harness.sign_in(with_right_code(&to_sign_in)).await.expect("signed in");
                } else {
                    let request = deletion(with_right_code(&to_delete));
                    harness.referral.delete_account(&current_user, request).await.expect("scheduled");
                }
            }
        })
        .await;
        let user = harness.stored(first.user.id).await.expect("stored");
        assert_eq!(harness.has_sessions(user.id).await, user.deletion_at.is_none());
        let access = harness.referral.authenticate(&first.tokens.access).await;
        assert_refused(access, Refusal::TokenNotValid);
    }
}

/// Concurrent maintenance deletes each due user once.
pub async fn parallel_maintenance_deletes_each_due_user_once(storage: Arc<dyn Storage>) {
    let harness = harness(storage);
    let mut users = Vec::new();
    for number in 0..5 {
        let user = harness.enter(number).await;
        harness.schedule(&user).await;
        users.push(user.user.id);
    }
    harness.advance(GRACE);
    in_parallel(4, |_| {
        let harness = harness.clone();
        async move { harness.maintain().await }
    })
    .await;
    for user in users {
        assert_eq!(harness.stored(user).await, None);
        let entries = harness.entries_about(user).await;
        assert_eq!(entries.iter().filter(|entry| entry.action == AuditAction::UserDeleted).count(), 1);
    }
}

/// An admin whose deletion is scheduled is no other admin. The admin is one again after a sign-in.
pub async fn scheduled_admin_is_no_other_admin(storage: Arc<dyn Storage>) {
    let harness = harness(storage);
    for number in [1, 2] {
        harness.referral.make_staff(phone(number), StaffRole::Admin).await.expect("created");
    }
    let [anna, boris] = [harness.enter(1).await, harness.enter(2).await];
    harness.schedule(&anna).await;
    let current_user = harness.current_user(&boris).await;
    let sent = send_deletion_code(&harness, &current_user).await;
    let request = deletion(with_right_code(&sent));
    let last = harness.referral.delete_account(&current_user, request.clone()).await;
    assert_refused(last, Refusal::LastAdmin);
    let staff = harness.referral.host_administration();
    assert_refused(staff.delete_user(boris.user.id, because("x")).await, Refusal::LastAdmin);
    let block = UserChange { is_active: Some(false), ..UserChange::default() };
    assert_refused(staff.change_user(boris.user.id, block, because("x")).await, Refusal::LastAdmin);
    harness.enter(1).await;
    harness.referral.delete_account(&current_user, request).await.expect("Anna is an admin again");
}

/// Of two admins who delete their accounts concurrently, one stays.
pub async fn parallel_scheduled_deletions_leave_an_admin(storage: Arc<dyn Storage>) {
    let harness = harness(storage);
    let mut admins = Vec::new();
    for number in [1, 2] {
        harness.referral.make_staff(phone(number), StaffRole::Admin).await.expect("created");
        let current_user = harness.current_user(&harness.enter(number).await).await;
        let sent = send_deletion_code(&harness, &current_user).await;
        admins.push((current_user, deletion(with_right_code(&sent))));
    }
    let results = in_parallel(2, |number| {
        let (harness, (current_user, request)) = (harness.clone(), admins[number as usize].clone());
        async move { harness.referral.delete_account(&current_user, request).await }
    });
    let (deleted, refused): (Vec<_>, Vec<_>) = results.await.into_iter().partition(Result::is_ok);
    assert_eq!((deleted.len(), refused.len()), (1, 1));
    for refused in refused {
        assert_refused(refused, Refusal::LastAdmin);
    }
}

/// Staff cancel a scheduled deletion, which is recorded as a change of the user.
pub async fn staff_cancel_a_scheduled_deletion(storage: Arc<dyn Storage>) {
    let harness = harness(storage);
    let anna = harness.enter(1).await;
    harness.schedule(&anna).await;
    let scheduled = harness.stored(anna.user.id).await.expect("stored");
    let staff = harness.referral.host_administration();
    // The later entry is the first of the log.
    harness.advance(MICROSECOND);
    let cancel = UserChange { cancels_deletion: true, ..UserChange::default() };
    let kept = staff.change_user(anna.user.id, cancel.clone(), because("ticket 5")).await.expect("changed");
    assert_eq!(kept, User { deletion_at: None, ..scheduled.clone() });
    assert_eq!(harness.stored(anna.user.id).await.as_ref(), Some(&kept));
    let entry = harness.entries_about(anna.user.id).await.swap_remove(0);
    assert_eq!(entry.action, AuditAction::UserChanged);
    assert_eq!(entry.changes, FieldChange::between(&scheduled, &kept));
    harness.maintain().await;
    assert_eq!(harness.stored(anna.user.id).await, Some(kept.clone()));
    let again = staff.change_user(anna.user.id, cancel, because("ticket 5")).await.expect("no change");
    assert_eq!((again, harness.entries_about(anna.user.id).await.len()), (kept, 2));
}
