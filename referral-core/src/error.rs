//! Errors: input that does not parse ([`InvalidInput`](input::InvalidInput)), a request that a rule refuses
//! ([`Refusal`]), and all errors that [`ReferralService`](crate::ReferralService) returns ([`Error`]). The
//! catalog has their codes, kinds and messages.

pub(crate) mod catalog;
pub(crate) mod input;
pub(crate) mod refusal;

use std::time::Duration;

use self::{
    catalog::{ErrorCode, ErrorKind},
    refusal::Refusal,
};
use crate::{
    clock::ClockOffset,
    gate::{GateFailure, GateOperation},
    keys::registry::KeyMismatch,
    sms::SmsError,
    storage::error::{BoxError, StorageError},
    texts::Detail,
};

/// Error of a method of [`ReferralService`](crate::ReferralService).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A rule refused the request.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Several fields of a profile were refused. The profile was not changed.
    #[error("several fields of the profile were refused, and the profile was not changed")]
    ProfileRefused(Vec<Refusal>),
    /// The message with the code was not sent. The code is invalid.
    #[error("failed to send the message")]
    SmsNotSent(#[source] SmsError),
    /// The gate failed, and [`GateOptions::on_failure`](crate::gate::GateOptions::on_failure) rejects the
    /// request.
    #[error("failed to ask the gate at {operation}")]
    GateFailed {
        /// Method of the gate.
        operation: GateOperation,
        /// Failure of the gate.
        #[source]
        failure: GateFailure,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Other processes that share the storage use keys that this process does not have.
    #[error(transparent)]
    KeyMismatch(#[from] KeyMismatch),
    /// The clock of this host differs too much from the clock of the storage.
    #[error(
        "clock of this host differs from the clock of the database by {} ms, which is more than {} ms",
        measured.milliseconds(),
        max.as_millis()
    )]
    ClockOffset {
        /// Last measurement.
        measured: ClockOffset,
        /// Maximum that [`Policy::max_clock_offset`](crate::policy::Policy::max_clock_offset) allows.
        max: Duration,
    },
    /// A token was not signed.
    #[error("failed to sign a token")]
    Signing(#[source] BoxError),
    /// The task of the operation panicked, or the runtime of the [`Spawner`](crate::spawner::Spawner) ended.
    #[error("the task of the operation panicked or was aborted")]
    Aborted,
}

impl Error {
    /// Time to wait after a temporary failure that has no time of its own: one second, so that clients do not
    /// retry immediately.
    pub const RETRY_AFTER: Duration = Duration::from_secs(1);

    /// Returns the time after which the same request may succeed, for example for the header `Retry-After`.
    /// It is `Some` if the [`kind`](Self::kind) is [`TooMany`](ErrorKind::TooMany),
    /// [`NotSent`](ErrorKind::NotSent) or [`Unavailable`](ErrorKind::Unavailable).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self.kind() {
            ErrorKind::TooMany => match self {
                Self::Refused(refusal) => refusal.retry_after(),
                Self::ProfileRefused(refusals) => refusals.iter().filter_map(Refusal::retry_after).max(),
                _ => None,
            },
            ErrorKind::NotSent | ErrorKind::Unavailable => match self {
                Self::SmsNotSent(SmsError::Busy { retry_after, .. }) => {
                    Some(Self::RETRY_AFTER.max(*retry_after))
                }
                _ => Some(Self::RETRY_AFTER),
            },
            _ => None,
        }
    }

    /// Returns the kind of the error. A profile with several refusals of different kinds is invalid.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ProfileRefused(refusals) => match refusals.first().map(Refusal::kind) {
                Some(kind) if refusals.iter().all(|refusal| refusal.kind() == kind) => kind,
                _ => ErrorKind::Invalid,
            },
            _ => self.code().kind(),
        }
    }

    /// Returns the text for people.
    #[must_use]
    pub fn detail(&self) -> Detail {
        match self {
            Self::Refused(refusal) => refusal.detail(),
            _ => match self.retry_after() {
                Some(retry_after) => {
                    Detail::from(self.code()).with("seconds", refusal::whole_seconds(retry_after))
                }
                None => self.code().into(),
            },
        }
    }

    /// Returns the code of the error.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::ProfileRefused(_) => ErrorCode::ValidationFailed,
            Self::SmsNotSent(_) => ErrorCode::SmsNotSent,
            Self::Storage(StorageError::Unavailable(_))
            | Self::GateFailed { .. }
            | Self::ClockOffset { .. } => ErrorCode::Unavailable,
            Self::Storage(_) | Self::KeyMismatch(_) | Self::Signing(_) | Self::Aborted => {
                ErrorCode::InternalError
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate_limit::limits::LimitName;

    #[test]
    fn exactly_the_temporary_kinds_have_a_time_to_wait() {
        let too_many = |seconds| Refusal::TooManyRequests {
            retry_after: Duration::from_secs(seconds),
            limit: LimitName::CodesPerPhone,
        };
        let busy = |seconds| {
            let retry_after = Duration::from_secs(seconds);
            Error::SmsNotSent(SmsError::Busy { reason: String::new(), retry_after })
        };
        let failed = || Error::Storage(StorageError::Failed("disk".into()));
        let unavailable = || Error::Storage(StorageError::Unavailable("network".into()));
        let gate_failed =
            || Error::GateFailed { operation: GateOperation::BeforeSend, failure: GateFailure::TimedOut };
        for (error, status, seconds) in [
            (Error::Refused(Refusal::InvalidCode), 403, None),
            (Error::Refused(too_many(7)), 429, Some(7)),
            (Error::ProfileRefused(vec![too_many(7), too_many(9)]), 429, Some(9)),
            (Error::ProfileRefused(vec![Refusal::EmailTaken, too_many(9)]), 400, None),
            (Error::ProfileRefused(vec![Refusal::EmailTaken]), 409, None),
            (Error::SmsNotSent(SmsError::Temporary(String::new())), 503, Some(1)),
            (busy(0), 503, Some(1)),
            (busy(30), 503, Some(30)),
            (unavailable(), 503, Some(1)),
            (gate_failed(), 503, Some(1)),
            (failed(), 500, None),
        ] {
            assert_eq!(error.kind().http_status(), status, "{error:?}");
            assert_eq!(error.retry_after(), seconds.map(Duration::from_secs), "{error:?}");
        }
    }
}
