//! The codes of all errors, each with its status and its meaning: the only place that knows which
//! refusal has which status.

use poem::http::StatusCode;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $status:ident, $field:expr;)+) => {
        /// What went wrong, by its stable name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(clippy::enum_variant_names, reason = "some are about codes")]
        pub(crate) enum Code { $($(#[doc = $doc])+ $variant,)+ }

        impl Code {
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            pub(crate) fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }

            /// The field of the request that is to blame, if there is just one that can be.
            pub(crate) fn field(self) -> Option<&'static str> {
                match self { $(Self::$variant => $field,)+ }
            }

            /// What the code means, in a sentence.
            pub(crate) fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii_start(),)+ }
            }
        }
    };
}

codes! {
    /// The body is not JSON, not an object, or has an object with the same key twice.
    MalformedJson = "malformed_json", BAD_REQUEST, None;
    /// Several fields are wrong; `errors` names each.
    ValidationFailed = "validation_failed", BAD_REQUEST, None;
    /// A field that must be there is not.
    Required = "required", BAD_REQUEST, None;
    /// A field is of another type than it must be.
    WrongType = "wrong_type", BAD_REQUEST, None;
    /// A field is not known here, or not the user's to set.
    UnknownField = "unknown_field", BAD_REQUEST, None;
    /// The phone cannot be read, or does not exist.
    InvalidPhone = "invalid_phone", BAD_REQUEST, Some("phone");
    /// The locale is not of the form that language tags have.
    InvalidLocale = "invalid_locale", BAD_REQUEST, Some("locale");
    /// The code has something else than digits, or too many of them.
    MalformedCode = "malformed_code", BAD_REQUEST, Some("code");
    /// The invite code is not of the form that codes have.
    InvalidInviteCode = "invalid_invite_code", BAD_REQUEST, Some("invited_by_code");
    /// The id is not a UUID.
    InvalidId = "invalid_id", BAD_REQUEST, Some("challenge_id");
    /// The setting of this service asks for `challenge_id`.
    ChallengeRequired = "challenge_required", BAD_REQUEST, Some("challenge_id");
    /// The token's kind is neither `access` nor `refresh`.
    InvalidTokenType = "invalid_token_type", BAD_REQUEST, Some("token_type");
    /// The name is too long, empty, or has control characters or invisible ones.
    InvalidName = "invalid_name", BAD_REQUEST, None;
    /// The e-mail address is not of the form that addresses have.
    InvalidEmail = "invalid_email", BAD_REQUEST, Some("email");
    /// The page size is not a whole number from 1 to 100.
    InvalidLimit = "invalid_limit", BAD_REQUEST, Some("limit");
    /// The offset must be a whole number from 0 to 100000, without a cursor. Follow the cursor in `next`
    /// to read further.
    InvalidOffset = "invalid_offset", BAD_REQUEST, Some("offset");
    /// The cursor was not made by this service.
    InvalidCursor = "invalid_cursor", BAD_REQUEST, Some("cursor");
    /// The text has control characters, or, of a search, more than 100 characters.
    InvalidText = "invalid_text", BAD_REQUEST, None;
    /// A search must have at most five different terms. One of several terms must have at least three
    /// characters.
    InvalidSearch = "invalid_search", BAD_REQUEST, Some("search");
    /// The list takes too long to find. Use longer or rarer search terms, other filters, or a cursor in place
    /// of the offset.
    SearchTooBroad = "search_too_broad", BAD_REQUEST, None;
    /// Nobody has this invite code.
    UnknownInviteCode = "unknown_invite_code", BAD_REQUEST, Some("invited_by_code");
    /// The invite code is the user's own.
    OwnInviteCode = "own_invite_code", BAD_REQUEST, Some("invited_by_code");
    /// The owner of the invite code was invited, directly or through others, by the user.
    InvitationLoop = "invitation_loop", BAD_REQUEST, Some("invited_by_code");
    /// No access token was sent.
    NotAuthenticated = "not_authenticated", UNAUTHORIZED, None;
    /// The token is garbage, expired, of another kind, or its session or user is not active.
    TokenNotValid = "token_not_valid", UNAUTHORIZED, None;
    /// The refresh token had been exchanged before; its session has been ended.
    RefreshReused = "refresh_reused", UNAUTHORIZED, None;
    /// The code is wrong, expired, used, or was never sent.
    InvalidCode = "invalid_code", FORBIDDEN, Some("code");
    /// The report is not signed as its gateway signs: see that both sides have the same secret and URL.
    InvalidSignature = "invalid_signature", FORBIDDEN, None;
    /// The code was right, but the account has been deactivated.
    UserInactive = "user_inactive", FORBIDDEN, None;
    /// No codes are sent to this kind of number.
    PhoneNotAllowed = "phone_not_allowed", FORBIDDEN, Some("phone");
    /// Only staff may see this.
    StaffOnly = "staff_only", FORBIDDEN, None;
    /// There is nothing here, or no such user or session.
    NotFound = "not_found", NOT_FOUND, None;
    /// The method is not served here; `Allow` has those that are.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, None;
    /// The request did not arrive in time.
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, None;
    /// Several fields conflict with what is there; `errors` names each.
    Conflict = "conflict", CONFLICT, None;
    /// Another user has this e-mail address.
    EmailTaken = "email_taken", CONFLICT, Some("email");
    /// Another inviter was named before.
    InvitationAlreadyAccepted = "invitation_already_accepted", CONFLICT, Some("invited_by_code");
    /// The body is larger than 16 KiB.
    PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE, None;
    /// The request is for another host than this machine, while codes are returned in responses. Send it to `localhost`, or configure a gateway for messages.
    MisdirectedRequest = "misdirected_request", MISDIRECTED_REQUEST, None;
    /// The body is not declared as `application/json` in UTF-8.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, None;
    /// Too often; `retry_after` and the header `Retry-After` say how long to wait.
    TooManyRequests = "too_many_requests", TOO_MANY_REQUESTS, None;
    /// The request is refused by the HTTP layer.
    BadRequest = "bad_request", BAD_REQUEST, None;
    /// Something broke here; the log has the cause under the request's id.
    Internal = "internal_error", INTERNAL_SERVER_ERROR, None;
    /// The message could not be sent; the code is void.
    SmsNotSent = "sms_not_sent", BAD_GATEWAY, None;
    /// The service is out of breath; it may have recovered after `Retry-After` seconds.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, None;
}
