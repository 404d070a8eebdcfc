//! All error codes, each with its HTTP status, the field that it belongs to, and its meaning.

use poem::http::StatusCode;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $status:ident, $field:expr;)+) => {
        /// Stable code of an error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum ErrorCode { $($(#[doc = $doc])+ $variant,)+ }

        impl ErrorCode {
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            pub(crate) fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }

            /// Returns the field of the request that the error belongs to, if it is always the same one.
            pub(crate) fn field(self) -> Option<&'static str> {
                match self { $(Self::$variant => $field,)+ }
            }

            /// Returns the meaning of the code, which is also the default `detail`.
            pub(crate) fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii_start(),)+ }
            }
        }
    };
}

codes! {
    /// The body is not valid JSON, is not an object, or has an object with a duplicate key. Send one JSON
    /// object.
    MalformedJson = "malformed_json", BAD_REQUEST, None;
    /// Several fields are invalid. Correct the fields in `errors`.
    ValidationFailed = "validation_failed", BAD_REQUEST, None;
    /// A required field is missing. Add the field.
    Required = "required", BAD_REQUEST, None;
    /// A field has the wrong type. Send it with the type in the OpenAPI document.
    WrongType = "wrong_type", BAD_REQUEST, None;
    /// A field is unknown or cannot be set. Remove the field.
    UnknownField = "unknown_field", BAD_REQUEST, None;
    /// The phone is not a valid number. Send it in international form, such as +79608543017.
    InvalidPhone = "invalid_phone", BAD_REQUEST, Some("phone");
    /// The locale is not a valid language tag. Send a tag such as `ru` or `pt-BR`.
    InvalidLocale = "invalid_locale", BAD_REQUEST, Some("locale");
    /// The code has other characters than digits, or too many digits. Send the code from the message.
    MalformedCode = "malformed_code", BAD_REQUEST, Some("code");
    /// The invite code has an invalid form. Send the code as the inviter sees it.
    InvalidInviteCode = "invalid_invite_code", BAD_REQUEST, Some("invited_by_code");
    /// The id is not a UUID. Send the `challenge_id` from the response to `POST /auth/send_code/`.
    InvalidId = "invalid_id", BAD_REQUEST, Some("challenge_id");
    /// This service requires `challenge_id`. Send the value from the response to `POST /auth/send_code/`.
    ChallengeRequired = "challenge_required", BAD_REQUEST, Some("challenge_id");
    /// The token type is invalid. Send `access` or `refresh`.
    InvalidTokenType = "invalid_token_type", BAD_REQUEST, Some("token_type");
    /// The name is empty, too long, or has control or invisible characters. Correct the name.
    InvalidName = "invalid_name", BAD_REQUEST, None;
    /// The email address has an invalid form. Correct the address.
    InvalidEmail = "invalid_email", BAD_REQUEST, Some("email");
    /// The page size must be a whole number from 1 to 100.
    InvalidLimit = "invalid_limit", BAD_REQUEST, Some("limit");
    /// The offset must be a whole number from 0 to 100000, without a cursor. Follow the cursor in `next`
    /// to read further.
    InvalidOffset = "invalid_offset", BAD_REQUEST, Some("offset");
    /// The cursor is invalid. Use the URLs in `next` and `previous` unchanged.
    InvalidCursor = "invalid_cursor", BAD_REQUEST, Some("cursor");
    /// The text has control characters, or a search has more than 100 characters. Shorten the search or
    /// remove the control characters.
    InvalidText = "invalid_text", BAD_REQUEST, None;
    /// A search must have at most five different terms. If it has several, at least one must have three
    /// characters or more.
    InvalidSearch = "invalid_search", BAD_REQUEST, Some("search");
    /// The query exceeds its time limit. Use longer or rarer search terms, other filters, or a cursor instead
    /// of the offset.
    SearchTooBroad = "search_too_broad", BAD_REQUEST, None;
    /// No user has this invite code. Correct the code or omit it.
    UnknownInviteCode = "unknown_invite_code", BAD_REQUEST, Some("invited_by_code");
    /// The invite code belongs to the user. Send the code of another user or omit it.
    OwnInviteCode = "own_invite_code", BAD_REQUEST, Some("invited_by_code");
    /// The user invited the owner of the invite code, directly or indirectly. Send the code of another user
    /// or omit it.
    InvitationLoop = "invitation_loop", BAD_REQUEST, Some("invited_by_code");
    /// The request has no access token. Send it in the header `Authorization: Bearer …`.
    NotAuthenticated = "not_authenticated", UNAUTHORIZED, None;
    /// The token is malformed, expired, of another type, or its session or user is not active. Refresh the
    /// tokens or sign in again.
    TokenNotValid = "token_not_valid", UNAUTHORIZED, None;
    /// The refresh token was exchanged before, so its session has been ended. Sign in again.
    RefreshReused = "refresh_reused", UNAUTHORIZED, None;
    /// The code is wrong, expired, used, or was never sent. Correct the code or request a new one.
    InvalidCode = "invalid_code", FORBIDDEN, Some("code");
    /// The signature of the report is invalid. Configure the same secret and URL on both sides.
    InvalidSignature = "invalid_signature", FORBIDDEN, None;
    /// The code is correct, but the account is deactivated. Contact the operator of the service.
    UserInactive = "user_inactive", FORBIDDEN, None;
    /// The service sends no codes to this kind of number. Use another phone.
    PhoneNotAllowed = "phone_not_allowed", FORBIDDEN, Some("phone");
    /// This resource is available to staff only. Sign in as a member of staff.
    StaffOnly = "staff_only", FORBIDDEN, None;
    /// The path, user or session does not exist. Correct the URL.
    NotFound = "not_found", NOT_FOUND, None;
    /// The path does not support this method. Use a method from the header `Allow`.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, None;
    /// The request was not received in time. Send it again.
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, None;
    /// Several fields conflict with existing data. Change the fields in `errors`.
    Conflict = "conflict", CONFLICT, None;
    /// Another user has this email address. Use another address.
    EmailTaken = "email_taken", CONFLICT, Some("email");
    /// The user already has another inviter. Omit the invite code: the inviter cannot be changed.
    InvitationAlreadyAccepted = "invitation_already_accepted", CONFLICT, Some("invited_by_code");
    /// The body is larger than 16 KiB. Send a smaller body.
    PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE, None;
    /// This server returns codes in responses, so it accepts only requests for hosts of this machine. Send
    /// the request to `localhost`, or configure a gateway for messages.
    MisdirectedRequest = "misdirected_request", MISDIRECTED_REQUEST, None;
    /// The media type of the body is not supported. Send the body as `application/json` in UTF-8.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, None;
    /// Too many requests were sent. Retry after `Retry-After` seconds.
    TooManyRequests = "too_many_requests", TOO_MANY_REQUESTS, None;
    /// The request is malformed. Correct its path, query and headers.
    BadRequest = "bad_request", BAD_REQUEST, None;
    /// The server failed to process the request. The server log has the cause under the `request_id`.
    Internal = "internal_error", INTERNAL_SERVER_ERROR, None;
    /// The message could not be sent, and the code is invalid. Request a new code.
    SmsNotSent = "sms_not_sent", BAD_GATEWAY, None;
    /// The service is temporarily unavailable. Retry after `Retry-After` seconds.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, None;
}
