//! Cases about the statistics for staff.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;

use super::harness::{Harness, assert_refused, in_parallel, phone, with_wrong_code};
use crate::{
    error::refusal::Refusal,
    policy::{Budget, Policy},
    service::sessions::CurrentUser,
    storage::Storage,
    user::staff_role::StaffRole,
};

impl Harness {
    /// Returns staff that are signed in, with the numbered phone.
    async fn signed_in_staff(&self, number: u32) -> CurrentUser {
        self.referral.make_staff(phone(number), StaffRole::Support).await.expect("created");
        let signed_in = self.enter(number).await;
        self.current_user(&signed_in).await
    }

    /// Returns the sign-ups and invitations of the last days.
    async fn last_days(&self, staff: &CurrentUser, days: u16) -> Vec<(u64, u64)> {
        let counts = self.referral.daily_counts(staff, days).await.expect("staff");
        let today = self.now().date();
        assert_eq!((counts.len(), counts.last().map(|counts| counts.day)), (days.into(), Some(today)));
        assert!(counts.is_sorted_by_key(|counts| counts.day));
        counts.iter().map(|counts| (counts.sign_ups, counts.invitations)).collect()
    }

    /// Sets the clock to this long before the end of the day in UTC.
    fn before_midnight(&self, duration: Duration) {
        let now = self.now();
        let midnight = now.date().next_day().expect("a day").midnight().assume_utc();
        let wait = midnight - now - duration;
        self.advance(wait.try_into().expect("the day has not ended"));
    }
}

/// Users and invitations are counted on their day in UTC. The days before and after have their own counts.
pub async fn sign_ups_and_invitations_are_counted_on_their_day(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let boss = harness.signed_in_staff(1).await;
    harness.before_midnight(Duration::from_micros(1));
    let anna = harness.enter(2).await.user;
    assert_eq!(harness.last_days(&boss, 2).await, [(0, 0), (2, 0)]);
    harness.advance(Duration::from_micros(1));
    assert_eq!(harness.last_days(&boss, 3).await, [(0, 0), (2, 0), (0, 0)]);
    harness.enter_invited(3, &anna).await;
    harness.enter_invited(4, &anna).await;
    assert_eq!(harness.last_days(&boss, 2).await, [(2, 0), (2, 2)]);
    harness.advance(Duration::from_hours(48));
    // Later sign-ins count nothing.
    harness.enter(3).await;
    assert_eq!(harness.last_days(&boss, 4).await, [(2, 0), (2, 2), (0, 0), (0, 0)]);
    assert_eq!(harness.last_days(&boss, 1).await, [(0, 0)]);
    let year = harness.last_days(&boss, 366).await;
    assert_eq!((year[362], year[363], year[..362].iter().any(|day| *day != (0, 0))), ((2, 0), (2, 2), false));
}

/// A late acceptance counts on its own day, and a deletion does not change the counts.
pub async fn late_acceptances_count_on_their_day_and_deletions_change_no_day(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let boss = harness.signed_in_staff(1).await;
    let anna = harness.enter(2).await.user;
    harness.enter(3).await;
    harness.advance(Duration::from_hours(24));
    harness.enter_invited(3, &anna).await;
    assert_eq!(harness.last_days(&boss, 2).await, [(3, 0), (0, 1)]);
    harness.referral.delete_user(anna.id).await.expect("deleted");
    assert_eq!(harness.last_days(&boss, 2).await, [(3, 0), (0, 1)]);
    harness.enter(2).await;
    assert_eq!(harness.last_days(&boss, 2).await, [(3, 0), (1, 1)]);
}

/// Concurrent sign-ups are all counted.
pub async fn parallel_sign_ups_are_all_counted_on_their_day(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let boss = harness.signed_in_staff(1).await;
    in_parallel(20, |number| {
        let (harness, inviter) = (harness.clone(), boss.user.clone());
        async move { harness.enter_invited(1_000 * (number + 1), &inviter).await.user.id }
    })
    .await;
    assert_eq!(harness.last_days(&boss, 1).await, [(21, 20)]);
}

/// The status shows an attack until it ends, and the numbers that limits depend on.
pub async fn status_shows_attacks_and_messages(storage: Arc<dyn Storage>) {
    let policy = Policy {
        attack_threshold: Some(1),
        messages_per_day: Some(Budget::Messages(1_000)),
        ..Policy::standard()
    };
    let harness = Harness::with_policy(storage, policy);
    let boss = harness.signed_in_staff(1).await;
    let status = |harness: Harness, boss: CurrentUser| async move {
        let status = harness.referral.status(&boss).await.expect("staff");
        assert_eq!(status.now, harness.now());
        status
    };
    let calm = status(harness.clone(), boss.clone()).await;
    assert_eq!((calm.under_attack, calm.attack_until), (false, None::<OffsetDateTime>));
    assert_eq!((calm.failed_attempts, calm.messages), (Some(0), Some(1)));

    for number in 2..4 {
        let sent = harness.sent_code(&phone(number)).await;
        assert_refused(harness.sign_in(with_wrong_code(&sent)).await, Refusal::InvalidCode);
    }
    let attacked = status(harness.clone(), boss.clone()).await;
    assert_eq!(
        (attacked.under_attack, attacked.failed_attempts, attacked.messages),
        (true, Some(2), Some(3))
    );
    harness.referral.run_maintenance().await.expect("checked");
    let recorded = status(harness.clone(), boss.clone()).await;
    assert_eq!(recorded.attack_until, Some(harness.now() + Duration::from_hours(1)));
    harness.advance(Duration::from_mins(11));
    let later = status(harness.clone(), boss.clone()).await;
    assert_eq!((later.under_attack, later.failed_attempts), (true, Some(0)));
    harness.advance(Duration::from_mins(49));
    let ended = status(harness.clone(), boss.clone()).await;
    assert_eq!((ended.under_attack, ended.attack_until), (false, None));

    let anna = harness.enter(5).await;
    let anna = harness.current_user(&anna).await;
    assert_refused(harness.referral.status(&anna).await, Refusal::StaffOnly);
    assert_refused(harness.referral.daily_counts(&anna, 30).await, Refusal::StaffOnly);
}
