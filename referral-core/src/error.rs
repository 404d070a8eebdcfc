//! What can go wrong, in three shapes: input that does not parse ([`Invalid`]), a request that
//! the rules refuse ([`Refusal`]), and everything together as a caller of the handle sees it
//! ([`Error`]).

use std::{borrow::Cow, time::Duration};

use crate::{
    clock::ClockOffset,
    keyring::KeyMismatch,
    limits::LimitName,
    sms::SmsError,
    storage::{BoxError, StorageError},
};

/// An input that could not be read as what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Invalid {
    code: &'static str,
    detail: Cow<'static, str>,
}

impl Invalid {
    /// An error with a stable `snake_case` `code` for programs and a sentence for people, which
    /// says what was wrong and what to do. The sentence must not repeat the input.
    pub fn new(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// The stable `snake_case` name of the error, such as `invalid_phone`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }
}

/// Reads the id of a user, a session or a challenge.
pub(crate) fn parse_id(input: &str) -> Result<uuid::Uuid, Invalid> {
    let invalid = |_| Invalid::new("invalid_id", "An id is a UUID. Give it as it was given.");
    uuid::Uuid::try_parse(input).map_err(invalid)
}

/// A request that was understood and that a rule refuses. It is an answer, not a failure: what
/// had to be written along with it (a counted try, say) has been committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The one answer for a code that is wrong, expired, used or was never sent.
    #[error("The code is wrong, expired or already used. Ask for a new one.")]
    InvalidCode,
    /// The policy asks for the id of the challenge, and it was not given.
    #[error("Give the `challenge_id` that came back when the code was asked for.")]
    ChallengeRequired,
    /// The code was right, but the account has been deactivated.
    #[error("This account has been deactivated.")]
    UserInactive,
    /// There were too many of these from this address, or for this phone, of late.
    #[error("There were too many of these requests. Wait before trying again.")]
    TooManyRequests {
        /// How long to wait; after this long the same request is no longer refused for this.
        retry_after: Duration,
        /// The limit that takes longest.
        limit: LimitName,
    },
    /// No messages go to this kind of number.
    #[error("No codes are sent to this phone: its region or its kind of line is not served.")]
    PhoneNotAllowed,
    /// The phone is a test number, whose fixed code several people know.
    #[error("This phone is a test number, so it cannot be staff's. Take it out of the test numbers first.")]
    TestNumber,
    /// Nobody has this invite code.
    #[error("Nobody has this invite code. Check it, or leave it out.")]
    UnknownInviteCode,
    /// The invite code is the user's own.
    #[error("This invite code is your own. Use the code of the person who invited you.")]
    OwnInviteCode,
    /// Accepting would make somebody an inviter of their own inviter, over however many steps.
    #[error("The owner of this invite code was invited, directly or through others, by you.")]
    InvitationLoop,
    /// Another inviter was named before; an inviter is named once and for good.
    #[error("An inviter has already been named, and is named once and for good.")]
    InvitationAlreadyAccepted,
    /// Another user has this e-mail address.
    #[error("Another user has this e-mail address.")]
    EmailTaken,
    /// The token is garbage, expired, of another kind, or its session or user is no longer active.
    #[error("The token is not valid, or no longer. Refresh it or sign in again.")]
    TokenNotValid,
    /// The refresh token had been exchanged long ago; its session has been revoked.
    #[error("The refresh token was used before, so its session was ended. Sign in again.")]
    RefreshReused,
    /// Only staff may do or see this.
    #[error("Only staff may see this.")]
    StaffOnly,
    /// There is no user with this id.
    #[error("There is no such user.")]
    UserNotFound,
    /// There is no such session, or it is somebody else's, or it has ended.
    #[error("You have no such session.")]
    SessionNotFound,
    /// The page cursor was not made by this service.
    #[error("The cursor was not made by this service. Follow `next` and `previous` as given.")]
    InvalidCursor,
    /// The page begins beyond [`MAX_OFFSET`](crate::MAX_OFFSET).
    #[error("An offset is at most 100000. Use the cursor in `next`, which leads to any depth.")]
    InvalidOffset,
    /// The search does not pass [`check_search`](crate::check_search).
    #[error(
        "A search has at most 100 characters and 5 different terms. One of several terms must have at least \
         3 characters. Shorten the search, or use longer terms."
    )]
    InvalidSearch,
    /// The storage could not find the users of a list in the time that it has for that.
    #[error(
        "Too many users match a part of this. Use longer or rarer search terms, other filters, or a cursor in \
         place of the offset."
    )]
    SearchTooBroad,
}

/// What sort of thing went wrong: all that a host must know to choose a status. The set is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot be carried out as it is.
    Invalid,
    /// Whoever asks did not show who they are.
    Unauthenticated,
    /// Whoever asks may not.
    Forbidden,
    /// What is asked for is not there.
    NotFound,
    /// It is at odds with what is there.
    Conflict,
    /// It was asked for too often; later it may work.
    TooMany,
    /// A message could not be sent.
    NotSent,
    /// The storage is out of reach; later it may work.
    Unavailable,
    /// Something is broken.
    Internal,
}

impl Refusal {
    /// What sort of refusal it is.
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

    /// The stable `snake_case` name of the refusal, for programs to branch on.
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

    /// The same, or the name of the limit, for those who watch over the service.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooManyRequests { limit, .. } => limit.as_str(),
            _ => self.code(),
        }
    }
}

/// Why a call of the handle did not give what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A rule refused the request.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Several fields of a profile were refused at once. Nothing was changed.
    #[error("Several fields were refused; nothing was changed.")]
    ProfileRefused(Vec<Refusal>),
    /// The message with the code was not sent; the code is void.
    #[error("the message could not be sent")]
    SmsNotSent(#[source] SmsError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Others who share the storage use keys that are not here.
    #[error(transparent)]
    KeyMismatch(#[from] KeyMismatch),
    /// The clock of this host differs too much from the clock of the storage.
    #[error(
        "clock of this host differs from the clock of the database by {} ms, which is more than {} ms",
        measured.milliseconds(),
        max.as_millis()
    )]
    ClockOffset {
        /// The last measurement.
        measured: ClockOffset,
        /// The most that [`Policy::max_clock_offset`](crate::Policy::max_clock_offset) allows.
        max: Duration,
    },
    /// A token could not be signed.
    #[error("a token could not be signed")]
    Signing(#[source] BoxError),
}

impl Error {
    /// What sort of error it is.
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

    /// The stable `snake_case` name of the error, for programs to branch on.
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
