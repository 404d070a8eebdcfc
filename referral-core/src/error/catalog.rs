//! Catalog of all error codes, each with its kind and its message.

use crate::texts::Text;

/// Kind of an error, from which the embedding service chooses the status of its response: see
/// [`http_status`](Self::http_status). The set is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the embedding service maps each kind to a status")]
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
    /// A message was not sent. The request may succeed later.
    NotSent,
    /// The storage or the gate is unavailable. The request may succeed later.
    Unavailable,
    /// The service has an internal error.
    Internal,
}

impl ErrorKind {
    /// Returns the suggested HTTP status of a response, such as 400.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooMany => 429,
            // Proxies replace the bodies of responses with the status 502 or 504.
            Self::NotSent | Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }
}

macro_rules! catalog {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $kind:ident;)+) => {
        /// Stable code of an error, on which programs can branch.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode { $($(#[doc = $doc])+ $variant,)+ }

        impl ErrorCode {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the `snake_case` name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// Returns the kind of the error.
            #[must_use]
            pub fn kind(self) -> ErrorKind {
                match self { $(Self::$variant => ErrorKind::$kind,)+ }
            }

            /// Returns the message for developers and logs, in English: one sentence that states what is wrong,
            /// and one that states the correction. The texts for users are a [`Text`].
            #[must_use]
            pub fn message(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii_start(),)+ }
            }
        }

        /// Returns the text whose id is the code.
        impl From<ErrorCode> for Text {
            fn from(code: ErrorCode) -> Self {
                match code { $(ErrorCode::$variant => Self::$variant,)+ }
            }
        }
    };
}

catalog! {
    /// The phone is not a valid number. Send it in international form, such as +79608543017.
    InvalidPhone = "invalid_phone", Invalid;
    /// The region is not known. Use an ISO region code such as `RU`.
    InvalidRegion = "invalid_region", Invalid;
    /// The locale is not a valid language tag. Send a tag such as `ru` or `pt-BR`.
    InvalidLocale = "invalid_locale", Invalid;
    /// The code has other characters than digits, or too few or too many digits. Send the code from the
    /// message.
    MalformedCode = "malformed_code", Invalid;
    /// The invite code has an invalid form. Send the code as the inviter sees it.
    InvalidInviteCode = "invalid_invite_code", Invalid;
    /// The id is not a UUID. Send the id exactly as the service returned it.
    InvalidId = "invalid_id", Invalid;
    /// The name is empty, too long, or has control or invisible characters. Correct the name.
    InvalidName = "invalid_name", Invalid;
    /// The email address has an invalid form. Correct the address.
    InvalidEmail = "invalid_email", Invalid;
    /// The external id is empty, has more than 255 bytes, or has control characters or white space at its
    /// start or end. Correct the id.
    InvalidExternalId = "invalid_external_id", Invalid;
    /// The role is unknown. Use `support` or `admin`.
    InvalidRole = "invalid_role", Invalid;
    /// The metadata are not an object, or they have more than 4096 bytes, more than 32 nested objects and
    /// arrays, the character U+0000, or a number that would be rounded. Correct the metadata. Send large
    /// numbers as texts.
    InvalidMetadata = "invalid_metadata", Invalid;
    /// The text has control characters, or a search has more than 100 characters. Shorten the search or
    /// remove the control characters.
    InvalidText = "invalid_text", Invalid;
    /// The page size is out of range or not a number. Use a whole number from 1 to 100.
    InvalidLimit = "invalid_limit", Invalid;
    /// The offset must be a whole number from 0 to 100000, without a cursor. Follow the cursor in `next` to
    /// read further.
    InvalidOffset = "invalid_offset", Invalid;
    /// The cursor is invalid. Use the URLs in `next` and `previous` unchanged.
    InvalidCursor = "invalid_cursor", Invalid;
    /// The search has more than five different terms, or several terms that are all shorter than three
    /// characters. Use at most five terms, and at least one longer term if there are several.
    InvalidSearch = "invalid_search", Invalid;
    /// The query exceeds its time limit. Use longer or rarer search terms, other filters, or a cursor
    /// instead of the offset.
    SearchTooBroad = "search_too_broad", Invalid;
    /// The address is not an IP address. Send an IPv4 or IPv6 address.
    InvalidAddress = "invalid_address", Invalid;
    /// The kind of change is unknown. Use a value that the documentation lists.
    InvalidAction = "invalid_action", Invalid;
    /// The reason is empty, too long, or has control characters. Send a text of 1 to 500 characters.
    InvalidReason = "invalid_reason", Invalid;
    /// The test number is invalid. Give a phone, a code and a date.
    InvalidTestNumber = "invalid_test_number", Invalid;
    /// The template of a message is invalid. The template of a code must contain `{code}`.
    InvalidTemplate = "invalid_template", Invalid;
    /// The host is not an ASCII name. Leave out scheme, port and path.
    InvalidHost = "invalid_host", Invalid;
    /// The hash of the Android app has an invalid form. Use 11 characters of Base64, such as `FA+9qCX9VSu`.
    InvalidAndroidHash = "invalid_android_hash", Invalid;
    /// The context is not a JSON object, or has more than 4096 bytes. Send a smaller object or omit it.
    InvalidContext = "invalid_context", Invalid;
    /// A field of the policy is out of bounds. Correct the field.
    InvalidPolicy = "invalid_policy", Invalid;
    /// The id of the challenge is missing. Send the `challenge_id` that the service returned when it sent the
    /// code.
    ChallengeRequired = "challenge_required", Invalid;
    /// No user has this invite code. Correct the code or omit it.
    UnknownInviteCode = "unknown_invite_code", Invalid;
    /// The invite code belongs to the user. Send the code of another user or omit it.
    OwnInviteCode = "own_invite_code", Invalid;
    /// The user invited the owner of the invite code, directly or indirectly. Send the code of another user
    /// or omit it.
    InvitationLoop = "invitation_loop", Invalid;
    /// The phone is the current phone of the user. Send another phone.
    OwnPhone = "own_phone", Invalid;
    /// Several fields are invalid. Correct the fields in `errors`.
    ValidationFailed = "validation_failed", Invalid;
    /// The token is malformed, expired, of another type, or its session or user is not active. Refresh the
    /// tokens or sign in again.
    TokenNotValid = "token_not_valid", Unauthenticated;
    /// The refresh token was exchanged before, so its session has been ended. Sign in again.
    RefreshReused = "refresh_reused", Unauthenticated;
    /// The code is wrong, expired, used, or was never sent. Check the digits in the newest message.
    InvalidCode = "invalid_code", Forbidden;
    /// The code is correct, but the account is deactivated. Contact the operator of the service.
    UserInactive = "user_inactive", Forbidden;
    /// The service sends no codes to this kind of number. Use another phone.
    PhoneNotAllowed = "phone_not_allowed", Forbidden;
    /// The phone cannot receive messages: the number is not in use, or it blocks them. Use another phone.
    PhoneUnreachable = "phone_unreachable", Forbidden;
    /// The operator of the service rejected the request, for the reason in `reason`. Follow the advice in
    /// `detail`.
    RejectedByHost = "rejected_by_host", Forbidden;
    /// This resource is available to staff only. Sign in as a member of staff.
    StaffOnly = "staff_only", Forbidden;
    /// This operation is available to admins only. Ask an admin to perform it or to give you the role.
    AdminOnly = "admin_only", Forbidden;
    /// The path, user or session does not exist. Correct the URL.
    NotFound = "not_found", NotFound;
    /// Another user has this phone. Use another phone, or sign in with this one.
    PhoneTaken = "phone_taken", Conflict;
    /// Another user has this email address. Use another address.
    EmailTaken = "email_taken", Conflict;
    /// Another user has this external id. Use another id, or change the other user first.
    ExternalIdTaken = "external_id_taken", Conflict;
    /// The user already has another inviter. Omit the invite code: the inviter cannot be changed.
    InvitationAlreadyAccepted = "invitation_already_accepted", Conflict;
    /// The user is the last active admin. Make another user an admin first.
    LastAdmin = "last_admin", Conflict;
    /// A user with a test number cannot be staff. Remove the phone from the test numbers first.
    TestNumber = "test_number", Conflict;
    /// Too many requests were sent. Retry after `Retry-After` seconds.
    TooManyRequests = "too_many_requests", TooMany;
    /// The message could not be sent, and the code is invalid. Request a new code.
    SmsNotSent = "sms_not_sent", NotSent;
    /// The service is temporarily unavailable. Retry after `Retry-After` seconds.
    Unavailable = "unavailable", Unavailable;
    /// The service failed to process the request. Its log has the cause under the `request_id`.
    InternalError = "internal_error", Internal;
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
