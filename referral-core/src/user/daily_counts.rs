//! Numbers of sign-ups and invitations of each day.

use time::Date;

/// Numbers of sign-ups and invitations of one day in UTC. Later deletions do not change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DailyCounts {
    /// Day in UTC.
    pub day: Date,
    /// Number of users with this day in [`User::date_joined`](crate::User::date_joined).
    pub sign_ups: u64,
    /// Number of invitations with this day in [`Invitation::accepted_at`](crate::Invitation::accepted_at).
    pub invitations: u64,
}

impl DailyCounts {
    /// Returns the day without events.
    pub(crate) fn none(day: Date) -> Self {
        Self { day, sign_ups: 0, invitations: 0 }
    }
}

/// Returns one entry for each of the `days` from `since` on, with the stored counts of the days that have any.
pub(crate) fn complete(since: Date, days: u16, stored: &[DailyCounts]) -> Vec<DailyCounts> {
    let day_after = |day: &Date| day.next_day();
    let days = std::iter::successors(Some(since), day_after).take(days.into());
    days.map(|day| stored.iter().find(|counts| counts.day == day).copied().unwrap_or(DailyCounts::none(day)))
        .collect()
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn days_without_events_have_zeros() {
        let stored = DailyCounts { day: date!(2028 - 02 - 29), sign_ups: 3, invitations: 1 };
        let counts = complete(date!(2028 - 02 - 28), 3, &[stored]);
        let [first, last] = [date!(2028 - 02 - 28), date!(2028 - 03 - 01)].map(DailyCounts::none);
        assert_eq!(counts, [first, stored, last]);
    }
}
