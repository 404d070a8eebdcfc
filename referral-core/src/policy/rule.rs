//! Numbers of a limit as text.

use std::time::Duration;

use super::{DAY, HOUR, MAX_QUESTIONS_PER_HOUR, Policy, TEST_FAILURES_PER_DAY};
use crate::rate_limit::{
    counters::{EventKind, Subject},
    limits::{LimitName, Limits, Span},
};

impl Policy {
    /// Returns the numbers of a limit that required a wait of `retry_after`, such as `3/15m,5/1h`, or `None`
    /// if this policy has no such limit. Limits of a name whose time window is shorter than the wait are
    /// omitted. IPv6 networks wider than a /64 have higher limits than these.
    pub(crate) fn rule_of(&self, name: LimitName, retry_after: Duration) -> Option<String> {
        const ONE_ADDRESS: u32 = 1;
        let of = |subject, kind| self.limits(subject, kind);
        let of_address = |kind| of(Subject::Address { widening: ONE_ADDRESS }, kind);
        let limits = match name {
            LimitName::ResendInterval => return Some(Span(self.resend_interval).to_string()),
            LimitName::Lockout => match self.lockout_threshold {
                Some(failed_attempts) => Limits::of([(failed_attempts, self.failed_attempt_window)]),
                None => Limits::of([(TEST_FAILURES_PER_DAY, DAY)]),
            },
            LimitName::CodesPerPhone => of(Subject::Phone, EventKind::Code),
            LimitName::CodesPerPhoneAndAddress => of(Subject::PhoneAndAddress, EventKind::Code),
            LimitName::CodesPerAddress => of_address(EventKind::Code),
            LimitName::CodesPerNumberRange => of(Subject::NumberRange, EventKind::Code),
            LimitName::CodesPerNumberRangeAndAddress => of(Subject::NumberRangeAndAddress, EventKind::Code),
            // The messages are counted by the hour, so the wait can be up to an hour longer than the day.
            LimitName::MessagesPerDay => {
                return self.budget().map(|budget| format!("{budget}/{}", Span(DAY)));
            }
            LimitName::MessagesPerDayAndAddress => self.budget_share(),
            LimitName::FailedAttemptsPerAddress => of_address(EventKind::FailedAttempt),
            LimitName::AttemptsWithoutChallenge => of_address(EventKind::AttemptWithoutChallenge),
            LimitName::UnknownInviteCodes => of_address(EventKind::UnknownInvite),
            LimitName::EmailChanges => of(Subject::Phone, EventKind::EmailChange),
            LimitName::GateQuestions => Limits::of([(MAX_QUESTIONS_PER_HOUR, HOUR)]),
        };
        let limits = limits.with_wait(retry_after);
        (!limits.is_off()).then(|| limits.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Budget;

    #[test]
    fn numbers_of_each_limit_are_known() {
        let policy = Policy { messages_per_day: Some(Budget::Messages(1_000)), ..Policy::strict() };
        let second = Duration::from_secs(1);
        for (name, wait, rule) in [
            (LimitName::ResendInterval, second, "1m"),
            (LimitName::Lockout, second, "100/31d"),
            (LimitName::CodesPerPhone, second, "3/15m,5/1h,10/24h"),
            (LimitName::CodesPerPhone, Duration::from_mins(20), "5/1h,10/24h"),
            (LimitName::CodesPerPhoneAndAddress, second, "3/24h,2/15m,4/1h,9/24h"),
            (LimitName::CodesPerAddress, second, "10/1h,50/24h"),
            (LimitName::CodesPerNumberRange, second, "10/1h"),
            (LimitName::CodesPerNumberRangeAndAddress, second, "3/1h"),
            (LimitName::MessagesPerDay, Duration::from_hours(25), "1000/24h"),
            (LimitName::MessagesPerDayAndAddress, second, "50/24h"),
            (LimitName::FailedAttemptsPerAddress, second, "20/1h,60/24h"),
            (LimitName::AttemptsWithoutChallenge, second, "200/1h"),
            (LimitName::UnknownInviteCodes, second, "10/1h"),
            (LimitName::EmailChanges, second, "10/1h"),
            (LimitName::GateQuestions, second, "10/1h"),
        ] {
            assert_eq!(policy.rule_of(name, wait).as_deref(), Some(rule), "{}", name.as_str());
        }
        let standard = Policy::standard();
        assert_eq!(
            standard.rule_of(LimitName::Lockout, second).as_deref(),
            Some("60/24h"),
            "of a test number"
        );
        assert_eq!(standard.rule_of(LimitName::MessagesPerDay, second), None);
        assert_eq!(Policy::development().rule_of(LimitName::CodesPerAddress, second), None);
    }
}
