//! All error codes of the API: those of the library, and those of HTTP.

use poem::http::StatusCode;
use referral_core::{ErrorCode as LibraryCode, ErrorKind, texts::Text};

macro_rules! codes {
    (
        library { $($library:ident),+ $(,)? }
        http { $($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $status:ident;)+ }
    ) => {
        /// Stable code of an error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum ErrorCode {
            $(#[doc = "See the library."] $library,)+
            $($(#[doc = $doc])+ $variant,)+
        }

        impl ErrorCode {
            /// All codes.
            pub(crate) const ALL: &[Self] = &[$(Self::$library,)+ $(Self::$variant,)+];

            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$library => LibraryCode::$library.as_str(),)+
                    $(Self::$variant => $code,)+
                }
            }

            pub(crate) fn status(self) -> StatusCode {
                match self {
                    $(Self::$library => status_of(LibraryCode::$library.kind()),)+
                    $(Self::$variant => StatusCode::$status,)+
                }
            }

            /// Returns the text of the code for people, which is the default `detail`.
            pub(crate) fn text(self) -> Text {
                match self {
                    $(Self::$library => LibraryCode::$library.into(),)+
                    $(Self::$variant => Text::$variant,)+
                }
            }

            /// Returns the meaning of the code for developers.
            pub(crate) fn meaning(self) -> &'static str {
                match self {
                    $(Self::$library => LibraryCode::$library.message(),)+
                    $(Self::$variant => concat!($($doc),+).trim_ascii_start(),)+
                }
            }
        }

        impl From<LibraryCode> for ErrorCode {
            fn from(code: LibraryCode) -> Self {
                match code {
                    $(LibraryCode::$library => Self::$library,)+
                    // Errors of the configuration, which no request can cause.
                    _ => Self::InternalError,
                }
            }
        }
    };
}

codes! {
    library {
        ValidationFailed,
        InvalidPhone,
        MalformedCode,
        InvalidInviteCode,
        InvalidId,
        ChallengeRequired,
        InvalidName,
        InvalidEmail,
        InvalidExternalId,
        InvalidMetadata,
        InvalidContext,
        InvalidRole,
        InvalidReason,
        InvalidAction,
        InvalidLimit,
        InvalidOffset,
        InvalidCursor,
        InvalidText,
        InvalidSearch,
        SearchTooBroad,
        UnknownInviteCode,
        OwnInviteCode,
        InvitationLoop,
        OwnPhone,
        TokenNotValid,
        RefreshReused,
        InvalidCode,
        UserInactive,
        PhoneNotAllowed,
        PhoneUnreachable,
        RejectedByHost,
        StaffOnly,
        AdminOnly,
        NotFound,
        PhoneTaken,
        EmailTaken,
        ExternalIdTaken,
        LastAdmin,
        TestNumber,
        InvitationAlreadyAccepted,
        TooManyRequests,
        InternalError,
        SmsNotSent,
        Unavailable,
    }
    http {
        /// The body is not valid JSON, is not an object, or has an object with a duplicate key. Send one JSON
        /// object.
        MalformedJson = "malformed_json", BAD_REQUEST;
        /// A required field is missing. Add the field.
        Required = "required", BAD_REQUEST;
        /// A field has the wrong type. Send it with the type in the OpenAPI document.
        WrongType = "wrong_type", BAD_REQUEST;
        /// A field is unknown or cannot be set. Remove the field.
        UnknownField = "unknown_field", BAD_REQUEST;
        /// A query parameter is unknown. Correct its name or remove it.
        UnknownParameter = "unknown_parameter", BAD_REQUEST;
        /// The token type is invalid. Send `access` or `refresh`.
        InvalidTokenType = "invalid_token_type", BAD_REQUEST;
        /// The request has no access token. Send it in the header `Authorization: Bearer …`.
        NotAuthenticated = "not_authenticated", UNAUTHORIZED;
        /// The signature of the report is invalid. Configure the same secret and URL on both sides.
        InvalidSignature = "invalid_signature", FORBIDDEN;
        /// The path does not support this method. Use a method from the header `Allow`.
        MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED;
        /// The request was not received in time. Send it again.
        RequestTimeout = "request_timeout", REQUEST_TIMEOUT;
        /// Several fields conflict with existing data. Change the fields in `errors`.
        Conflict = "conflict", CONFLICT;
        /// The body is larger than 16 KiB. Send a smaller body.
        PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE;
        /// This server returns codes in responses, so it accepts only requests for hosts of this machine. Send
        /// the request to `localhost`, or configure a gateway for messages.
        MisdirectedRequest = "misdirected_request", MISDIRECTED_REQUEST;
        /// The media type of the body is not supported. Send the body as `application/json` in UTF-8.
        UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE;
        /// The request is malformed. Correct its path, query and headers.
        BadRequest = "bad_request", BAD_REQUEST;
    }
}

/// Returns the status of a kind of error.
fn status_of(kind: ErrorKind) -> StatusCode {
    StatusCode::from_u16(kind.http_status()).expect("each kind has a status from 400 to 503")
}

impl ErrorCode {
    /// Returns `true` if responses with this code have the header `Retry-After`.
    pub(crate) fn has_retry_after(self) -> bool {
        matches!(self.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
    }

    /// Returns the field of the request that the error belongs to, if it is always the same one.
    pub(crate) fn field(self) -> Option<&'static str> {
        match self {
            Self::InvalidPhone
            | Self::PhoneNotAllowed
            | Self::PhoneUnreachable
            | Self::OwnPhone
            | Self::PhoneTaken => Some("phone"),
            Self::MalformedCode | Self::InvalidCode => Some("code"),
            Self::InvalidInviteCode
            | Self::UnknownInviteCode
            | Self::OwnInviteCode
            | Self::InvitationLoop
            | Self::InvitationAlreadyAccepted => Some("invited_by_code"),
            Self::InvalidId | Self::ChallengeRequired => Some("challenge_id"),
            Self::InvalidContext => Some("context"),
            Self::InvalidTokenType => Some("token_type"),
            Self::InvalidEmail | Self::EmailTaken => Some("email"),
            Self::InvalidExternalId | Self::ExternalIdTaken => Some("external_id"),
            Self::InvalidMetadata => Some("metadata"),
            Self::InvalidRole => Some("staff_role"),
            Self::InvalidReason => Some("reason"),
            Self::InvalidLimit => Some("limit"),
            Self::InvalidOffset => Some("offset"),
            Self::InvalidCursor => Some("cursor"),
            Self::InvalidSearch => Some("search"),
            _ => None,
        }
    }
}
