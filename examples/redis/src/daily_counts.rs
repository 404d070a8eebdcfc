//! Numbers of sign-ups and invitations of each day.

use referral_core::storage::{DailyCounts, Result};
use time::{Date, OffsetDateTime, UtcOffset};

use crate::transaction::Transaction;

/// Kind of the numbers of events of a day. They are not watched, so that sign-ups do not conflict because of
/// them.
const DAY: &str = "day";

/// Event that is counted on its day.
#[derive(Clone, Copy)]
pub(crate) enum DailyEvent {
    SignUp,
    Invitation,
}

impl DailyEvent {
    /// Returns the key of the number of these events on a day.
    fn key(self, day: Date) -> String {
        let event = match self {
            Self::SignUp => "sign_ups",
            Self::Invitation => "invitations",
        };
        format!("{DAY}/{day}/{event}")
    }
}

impl Transaction {
    /// Counts an event on the day of its time.
    pub(crate) fn count_on_day(&mut self, event: DailyEvent, at: OffsetDateTime) {
        self.add(&event.key(at.to_offset(UtcOffset::UTC).date()), 1);
    }

    /// Returns the counts of all days from `since` to `until`.
    pub(crate) async fn daily_counts(&mut self, since: Date, until: Date) -> Result<Vec<DailyCounts>> {
        let days = std::iter::successors(Some(since), |day| day.next_day());
        let days: Vec<_> = days.take_while(|day| *day <= until).collect();
        let keys = |event: DailyEvent| days.iter().map(|day| event.key(*day)).collect::<Vec<_>>();
        let sign_ups: Vec<Option<u64>> = self.load(&keys(DailyEvent::SignUp), false).await?;
        let invitations: Vec<Option<u64>> = self.load(&keys(DailyEvent::Invitation), false).await?;
        let counts = days.iter().zip(sign_ups).zip(invitations);
        let counts = counts.map(|((day, sign_ups), invitations)| DailyCounts {
            day: *day,
            sign_ups: sign_ups.unwrap_or_default(),
            invitations: invitations.unwrap_or_default(),
        });
        Ok(counts.collect())
    }
}
