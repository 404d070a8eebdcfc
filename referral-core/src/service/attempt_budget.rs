//! Limit on the rows that failed sign-ins add to the storage.

use std::sync::{Mutex, PoisonError};

use time::OffsetDateTime;

/// Number of failed sign-ins in a minute up to which a process counts attempts without a valid challenge.
/// Each of these attempts may add a row for each network of its address. Such an attempt cannot succeed, so
/// it is safe not to count a flood of them. Without the limit, a flood from addresses that are never used
/// again would fill the storage.
const MAX_PER_MINUTE: u32 = 1_000;

/// Number of failed sign-ins in the current minute.
#[derive(Default)]
pub(super) struct AttemptBudget(Mutex<Spent>);

#[derive(Clone, Copy, Default)]
struct Spent {
    minute: i64,
    attempts: u32,
}

impl AttemptBudget {
    /// Returns `true` if another attempt may be counted.
    pub(super) fn has_room(&self, now: OffsetDateTime) -> bool {
        let spent = self.spent();
        spent.minute != minute(now) || spent.attempts < MAX_PER_MINUTE
    }

    /// Records a failed sign-in.
    pub(super) fn spend(&self, now: OffsetDateTime) {
        let mut spent = self.spent();
        if spent.minute != minute(now) {
            *spent = Spent { minute: minute(now), attempts: 0 };
        }
        spent.attempts = spent.attempts.saturating_add(1);
    }

    fn spent(&self) -> std::sync::MutexGuard<'_, Spent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn minute(now: OffsetDateTime) -> i64 {
    now.unix_timestamp().div_euclid(60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_attempts_are_counted_in_a_minute() {
        let (budget, now) = (AttemptBudget::default(), OffsetDateTime::UNIX_EPOCH);
        for _ in 0..1_000 {
            assert!(budget.has_room(now));
            budget.spend(now);
        }
        assert!(!budget.has_room(now + time::Duration::seconds(59)));
        assert!(budget.has_room(now + time::Duration::MINUTE));
        budget.spend(now + time::Duration::MINUTE);
        assert!(budget.has_room(now + time::Duration::MINUTE));
    }
}
