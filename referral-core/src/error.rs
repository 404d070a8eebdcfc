//! Errors: input that does not parse ([`Invalid`]), a request that a rule refuses ([`Refusal`]), and all
//! errors that the handle returns ([`Error`]).

use std::{borrow::Cow, time::Duration};

use crate::{
    clock::ClockOffset,
    rate_limit::limits::LimitName,
    session::key_registry::KeyMismatch,
    sms::SmsError,
    storage::{BoxError, StorageError},
};

/// Error of an input that failed to parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Invalid {
    code: &'static str,
    detail: Cow<'static, str>,
}

impl Invalid {
    /// Creates an error with a stable `snake_case` `code` for programs and a `detail` for people. The detail
    /// states what is wrong and what to do. It must not repeat the input.
    pub fn new(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// Returns the stable `snake_case` name of the error, such as `invalid_phone`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }
}

/// Parses the id of a user, a session or a challenge.
pub(crate) fn parse_id(input: &str) -> Result<uuid::Uuid, Invalid> {
    let invalid = |_| {
        Invalid::new("invalid_id", "An id must be a UUID. Send the id exactly as the service returned it.")
    };
    uuid::Uuid::try_parse(input).map_err(invalid)
}

/// Reason why a rule refuses a valid request.
///
/// A refusal is a normal response and not a failure: writes that belong to it, such as a counted attempt,
/// are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The code is wrong, expired or already used, or was never sent. The response is the same in all cases.
    #[error("The code is wrong, expired or already used. Request a new code.")]
    InvalidCode,
    /// The policy requires the id of the challenge, and the request does not have it.
    #[error("The `challenge_id` is missing. Send the `challenge_id` from the response to the code request.")]
    ChallengeRequired,
    /// The code is correct, but the account is deactivated.
    #[error("This account is deactivated. Contact the operator of the service.")]
    UserInactive,
    /// There were too many recent requests from this address or for this phone.
    #[error("There were too many requests of this kind. Retry after `retry_after` seconds.")]
    TooManyRequests {
        /// Time to wait. After it, this limit no longer refuses the same request.
        retry_after: Duration,
        /// Limit with the longest wait.
        limit: LimitName,
    },
    /// No messages are sent to this kind of number.
    #[error("No codes are sent to the region or the line type of this phone. Use another phone.")]
    PhoneNotAllowed,
    /// The phone is a test number, whose fixed code is known to several people.
    #[error("A user with a test number cannot be staff. Remove the phone from the test numbers first.")]
    TestNumber,
    /// No user has this invite code.
    #[error("No user has this invite code. Check the code, or leave it out.")]
    UnknownInviteCode,
    /// The invite code is the user's own.
    #[error("This invite code is your own. Use the code of the user who invited you.")]
    OwnInviteCode,
    /// The invitation would make a user an inviter of their own inviter, directly or through other users.
    #[error("You invited the owner of this invite code, directly or through other users. Use another code.")]
    InvitationLoop,
    /// The user already has another inviter, and an inviter never changes.
    #[error("You already have another inviter, and an inviter never changes. Leave out the invite code.")]
    InvitationAlreadyAccepted,
    /// Another user has this email address.
    #[error("Another user has this email address. Use another address.")]
    EmailTaken,
    /// The token is malformed, expired or of another kind, or its session or user is not active.
    #[error("The token is invalid or has expired. Refresh it or sign in again.")]
    TokenNotValid,
    /// The refresh token was already exchanged, longer ago than the grace period. Its session is revoked.
    #[error("The refresh token was already used, so its session was revoked. Sign in again.")]
    RefreshReused,
    /// Only staff may do or see this.
    #[error("Only staff may access this. Sign in as a staff user.")]
    StaffOnly,
    /// There is no user with this id.
    #[error("There is no user with this id. Check the id.")]
    UserNotFound,
    /// There is no session with this id, or it belongs to another user, or it has ended.
    #[error("You have no active session with this id. Check the id.")]
    SessionNotFound,
    /// The page cursor was not created by this service.
    #[error("The cursor was not created by this service. Use `next` and `previous` exactly as returned.")]
    InvalidCursor,
    /// The page starts beyond [`MAX_OFFSET`](crate::MAX_OFFSET).
    #[error("The offset must be at most 100000. To read further, use the cursor in `next`.")]
    InvalidOffset,
    /// The search does not pass [`check_search`](crate::check_search).
    #[error(
        "A search must have at most 100 characters and 5 different terms, and one of several terms must have \
         at least 3 characters. Shorten the search, or use longer terms."
    )]
    InvalidSearch,
    /// The storage did not find the users of a list within its time limit.
    #[error(
        "The list takes too long to find, because too many users match one of its conditions. Use longer or \
         rarer search terms, other filters, or a cursor in place of the offset."
    )]
    SearchTooBroad,
}

/// Kind of an error, from which a host chooses the status of its response. The set is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is invalid.
    Invalid,
    /// The caller is not authenticated.
    Unauthenticated,
    /// The caller does not have permission.
    Forbidden,
    /// The requested item does not exist.
    NotFound,
    /// The request conflicts with stored data.
    Conflict,
    /// There were too many requests. The request may succeed later.
    TooMany,
    /// A message was not sent.
    NotSent,
    /// The storage is unavailable. The request may succeed later.
    Unavailable,
    /// The service has an internal error.
    Internal,
}

impl Refusal {
    /// Returns the kind of the refusal.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ChallengeRequired
            | Self::UnknownInviteCode
            | Self::OwnInviteCode
            | Self::InvitationLoop
            | Self::InvalidCursor
            | Self::InvalidOffset
            | Self::InvalidSearch
            | Self::SearchTooBroad => ErrorKind::Invalid,
            Self::TokenNotValid | Self::RefreshReused => ErrorKind::Unauthenticated,
            Self::InvalidCode | Self::UserInactive | Self::PhoneNotAllowed | Self::StaffOnly => {
                ErrorKind::Forbidden
            }
            Self::UserNotFound | Self::SessionNotFound => ErrorKind::NotFound,
            Self::EmailTaken | Self::InvitationAlreadyAccepted | Self::TestNumber => ErrorKind::Conflict,
            Self::TooManyRequests { .. } => ErrorKind::TooMany,
        }
    }

    /// Returns the stable `snake_case` name of the refusal, on which programs can branch.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidCode => "invalid_code",
            Self::ChallengeRequired => "challenge_required",
            Self::UserInactive => "user_inactive",
            Self::TooManyRequests { .. } => "too_many_requests",
            Self::PhoneNotAllowed => "phone_not_allowed",
            Self::TestNumber => "test_number",
            Self::UnknownInviteCode => "unknown_invite_code",
            Self::OwnInviteCode => "own_invite_code",
            Self::InvitationLoop => "invitation_loop",
            Self::InvitationAlreadyAccepted => "invitation_already_accepted",
            Self::EmailTaken => "email_taken",
            Self::TokenNotValid => "token_not_valid",
            Self::RefreshReused => "refresh_reused",
            Self::StaffOnly => "staff_only",
            Self::UserNotFound | Self::SessionNotFound => "not_found",
            Self::InvalidCursor => "invalid_cursor",
            Self::InvalidOffset => "invalid_offset",
            Self::InvalidSearch => "invalid_search",
            Self::SearchTooBroad => "search_too_broad",
        }
    }

    /// Returns the name of the limit for [`TooManyRequests`](Self::TooManyRequests), and the
    /// [`code`](Self::code) otherwise. It is meant for logs and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooManyRequests { limit, .. } => limit.as_str(),
            _ => self.code(),
        }
    }
}

/// Error of a call of the handle.
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
        /// Maximum that [`Policy::max_clock_offset`](crate::Policy::max_clock_offset) allows.
        max: Duration,
    },
    /// A token was not signed.
    #[error("failed to sign a token")]
    Signing(#[source] BoxError),
}

impl Error {
    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(refusal) => refusal.kind(),
            Self::ProfileRefused(refusals) => match refusals.first().map(Refusal::kind) {
                Some(kind) if refusals.iter().all(|refusal| refusal.kind() == kind) => kind,
                _ => ErrorKind::Invalid,
            },
            Self::SmsNotSent(_) => ErrorKind::NotSent,
            Self::Storage(StorageError::Unavailable(_)) | Self::ClockOffset { .. } => ErrorKind::Unavailable,
            Self::Storage(_) | Self::KeyMismatch(_) | Self::Signing(_) => ErrorKind::Internal,
        }
    }

    /// Returns the stable `snake_case` name of the error, on which programs can branch.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::ProfileRefused(_) => "validation_failed",
            Self::SmsNotSent(_) => "sms_not_sent",
            Self::Storage(StorageError::Unavailable(_)) | Self::ClockOffset { .. } => "unavailable",
            Self::Storage(_) | Self::KeyMismatch(_) | Self::Signing(_) => "internal_error",
        }
    }
}
