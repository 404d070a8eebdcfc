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
    keys::registry::KeyMismatch,
    sms::SmsError,
    storage::error::{BoxError, StorageError},
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
}

impl Error {
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

    /// Returns the code of the error.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::ProfileRefused(_) => ErrorCode::ValidationFailed,
            Self::SmsNotSent(_) => ErrorCode::SmsNotSent,
            Self::Storage(StorageError::Unavailable(_)) | Self::ClockOffset { .. } => ErrorCode::Unavailable,
            Self::Storage(_) | Self::KeyMismatch(_) | Self::Signing(_) => ErrorCode::InternalError,
        }
    }
}
