//! Statistics for staff: sign-ups and invitations of each day, and the state of the service.

use time::{Duration, OffsetDateTime};

use super::{ReferralService, sessions::CurrentUser};
use crate::{
    error::Error,
    user::daily_counts::{DailyCounts, complete},
};

/// State of the whole service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceStatus {
    /// Time of the status.
    pub now: OffsetDateTime,
    /// `true` if the service is under attack. Codes then have at least
    /// [`attack_code_length`](crate::policy::Policy::attack_code_length) digits.
    pub under_attack: bool,
    /// Time at which the attack ends, unless it continues.
    pub attack_until: Option<OffsetDateTime>,
    /// Number of wrong codes in the last ten minutes, or `None` if
    /// [`attack_threshold`](crate::policy::Policy::attack_threshold) is off.
    pub failed_attempts: Option<u64>,
    /// Number of messages in the last 24 hours, or `None` if there is no
    /// [budget](crate::policy::Policy::messages_per_day).
    pub messages: Option<u64>,
}

impl ReferralService {
    /// Largest number of days that [`daily_counts`](Self::daily_counts) returns.
    pub const MAX_DAYS: u16 = 366;

    /// Returns the numbers of sign-ups and invitations of each day in UTC, up to today. The last entry is
    /// today. The current user must be staff. `days` is limited to [`MAX_DAYS`](Self::MAX_DAYS).
    ///
    /// # Errors
    ///
    /// [`Refusal::StaffOnly`](crate::Refusal::StaffOnly).
    pub async fn daily_counts(
        &self,
        current_user: &CurrentUser,
        days: u16,
    ) -> Result<Vec<DailyCounts>, Error> {
        self.viewer(current_user).may_administrate()?;
        let days = days.clamp(1, Self::MAX_DAYS);
        let today = self.now().date();
        let since = today.saturating_sub(Duration::days(i64::from(days) - 1));
        let stored = self.inner.storage.daily_counts(since, today).await?;
        Ok(complete(since, days, &stored))
    }

    /// Returns the state of the service. The current user must be staff.
    ///
    /// # Errors
    ///
    /// [`Refusal::StaffOnly`](crate::Refusal::StaffOnly).
    pub async fn status(&self, current_user: &CurrentUser) -> Result<ServiceStatus, Error> {
        self.viewer(current_user).may_administrate()?;
        let (now, policy) = (self.now(), self.policy());
        let query = policy.global_counter_query(now);
        let facts = self.inner.storage.global_counters(query).await?;
        let under_attack = policy.attack_status(&facts, now).under_attack;
        let messages = facts.messages.iter().map(|(_, count)| count).sum();
        Ok(ServiceStatus {
            now,
            under_attack,
            attack_until: facts.attack_until.filter(|_| under_attack),
            failed_attempts: query.failed_attempts_since.map(|_| facts.failed_attempts),
            messages: query.messages_since.map(|_| messages),
        })
    }
}
