//! Reasons why a rule refuses a valid request.

use std::time::Duration;

use super::catalog::{ErrorCode, ErrorKind};
use crate::{
    gate::Rejection,
    rate_limit::limits::LimitName,
    texts::{Detail, Language, Text},
};

/// Reason why a rule refuses a valid request.
///
/// A refusal is a normal response and not a failure: writes that belong to it, such as a counted attempt,
/// are committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
#[non_exhaustive]
pub enum Refusal {
    /// The code is wrong, expired or already used, or was never sent. The response is the same in all cases.
    InvalidCode,
    /// The code has another number of digits than the code that was sent. The attempt is not counted.
    MalformedCode,
    /// The policy requires the id of the challenge, and the request does not have it.
    ChallengeRequired,
    /// The code is correct, but the account is deactivated.
    UserInactive,
    /// There were too many recent requests from this address or for this phone.
    TooManyRequests {
        /// Time to wait. After it, this limit no longer refuses the same request.
        retry_after: Duration,
        /// Limit with the longest wait.
        limit: LimitName,
    },
    /// No messages are sent to this kind of number.
    PhoneNotAllowed,
    /// The number is a landline of Argentina, and the mobile number has a 9 after the calling code.
    MobilePrefixMissing,
    /// All gateways that were tried report that the phone can never receive messages.
    PhoneUnreachable,
    /// The [gate](crate::gate) of the host rejected the request.
    RejectedByHost(Rejection),
    /// The phone is a test number, whose fixed code is known to several people.
    TestNumber,
    /// No user has this invite code.
    UnknownInviteCode,
    /// The invite code is the user's own.
    OwnInviteCode,
    /// The invitation would make a user an inviter of their own inviter, directly or through other users.
    InvitationLoop,
    /// The user already has another inviter, which only staff can change.
    InvitationAlreadyAccepted,
    /// The new phone is the phone of the user.
    OwnPhone,
    /// The code is correct, but another user has this phone.
    PhoneTaken,
    /// Another user has this email address.
    EmailTaken,
    /// Another user has this external id.
    ExternalIdTaken,
    /// The token is malformed, expired or of another kind, or its session or user is not active.
    TokenNotValid,
    /// The refresh token was already exchanged, longer ago than the grace period. Its session is revoked.
    RefreshReused,
    /// Only staff may do or see this.
    StaffOnly,
    /// Only staff with the role of an admin may do this.
    AdminOnly,
    /// The change would leave no active admin.
    LastAdmin,
    /// There is no user with this id.
    UserNotFound,
    /// There is no session with this id, or it belongs to another user, or it has ended.
    SessionNotFound,
    /// The page cursor was not created by this service.
    InvalidCursor,
    /// The page starts beyond [`ListUsers::MAX_OFFSET`](crate::ListUsers::MAX_OFFSET).
    InvalidOffset,
    /// The search does not pass [`FilterInput::check_search`](crate::FilterInput::check_search).
    InvalidSearch,
    /// The storage did not find the users of a list within its time limit.
    SearchTooBroad,
}

impl Refusal {
    /// Returns the kind of the refusal.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.code().kind()
    }

    /// Returns the code of the refusal.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidCode => ErrorCode::InvalidCode,
            Self::MalformedCode => ErrorCode::MalformedCode,
            Self::ChallengeRequired => ErrorCode::ChallengeRequired,
            Self::UserInactive => ErrorCode::UserInactive,
            Self::TooManyRequests { .. } => ErrorCode::TooManyRequests,
            Self::PhoneNotAllowed | Self::MobilePrefixMissing => ErrorCode::PhoneNotAllowed,
            Self::PhoneUnreachable => ErrorCode::PhoneUnreachable,
            Self::RejectedByHost(_) => ErrorCode::RejectedByHost,
            Self::TestNumber => ErrorCode::TestNumber,
            Self::UnknownInviteCode => ErrorCode::UnknownInviteCode,
            Self::OwnInviteCode => ErrorCode::OwnInviteCode,
            Self::InvitationLoop => ErrorCode::InvitationLoop,
            Self::InvitationAlreadyAccepted => ErrorCode::InvitationAlreadyAccepted,
            Self::OwnPhone => ErrorCode::OwnPhone,
            Self::PhoneTaken => ErrorCode::PhoneTaken,
            Self::EmailTaken => ErrorCode::EmailTaken,
            Self::ExternalIdTaken => ErrorCode::ExternalIdTaken,
            Self::TokenNotValid => ErrorCode::TokenNotValid,
            Self::RefreshReused => ErrorCode::RefreshReused,
            Self::StaffOnly => ErrorCode::StaffOnly,
            Self::AdminOnly => ErrorCode::AdminOnly,
            Self::LastAdmin => ErrorCode::LastAdmin,
            Self::UserNotFound | Self::SessionNotFound => ErrorCode::NotFound,
            Self::InvalidCursor => ErrorCode::InvalidCursor,
            Self::InvalidOffset => ErrorCode::InvalidOffset,
            Self::InvalidSearch => ErrorCode::InvalidSearch,
            Self::SearchTooBroad => ErrorCode::SearchTooBroad,
        }
    }

    /// Returns the time to wait of [`TooManyRequests`](Self::TooManyRequests).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// Returns the message for developers and logs: that of the code, a more precise one, or the text of the
    /// host.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::RejectedByHost(rejection) => rejection.detail(),
            Self::MobilePrefixMissing => Text::MobilePrefixMissing.template(Language::English),
            _ => self.code().message(),
        }
    }

    /// Returns the text for people: that of the code, a more precise one, or the text of the host.
    #[must_use]
    pub fn detail(&self) -> Detail {
        match self {
            Self::RejectedByHost(rejection) => Detail::of_host(rejection.detail().to_owned()),
            Self::MobilePrefixMissing => Text::MobilePrefixMissing.into(),
            Self::TooManyRequests { retry_after, .. } => {
                Detail::from(self.code()).with("seconds", whole_seconds(*retry_after))
            }
            _ => self.code().into(),
        }
    }

    /// Returns the name of the limit for [`TooManyRequests`](Self::TooManyRequests), and the
    /// [`code`](Self::code) otherwise. It is meant for logs and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooManyRequests { limit, .. } => limit.as_str(),
            _ => self.code().as_str(),
        }
    }
}

/// Returns the duration in seconds, rounded up: after that time the caller must be able to continue.
pub(super) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
