//! Every error that the server answers with, as `application/problem+json` (RFC 9457). This is
//! the only place that knows which refusal has which status.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use poem::{
    Body, Response,
    error::{MethodNotAllowedError, NotFoundError, ResponseError},
    http::{HeaderName, HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object,
    error::{ParseParamError, ParsePathError},
    registry::{MetaResponses, Registry},
};
use referral_core::{Error, Invalid, Refusal, storage::StorageError};
use serde::Serialize;

/// How long to wait when the service is out of breath.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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
    /// The body is not JSON, or not an object.
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
    /// The name is too long, empty, or has control characters.
    InvalidName = "invalid_name", BAD_REQUEST, None;
    /// The e-mail address is not of the form that addresses have.
    InvalidEmail = "invalid_email", BAD_REQUEST, Some("email");
    /// The page size is not a whole number from 1 to 100.
    InvalidLimit = "invalid_limit", BAD_REQUEST, Some("limit");
    /// The offset is not a whole number from 0, or comes together with a cursor.
    InvalidOffset = "invalid_offset", BAD_REQUEST, Some("offset");
    /// The cursor was not made by this service.
    InvalidCursor = "invalid_cursor", BAD_REQUEST, Some("cursor");
    /// The text has control characters, or, of a search, more than 100 characters.
    InvalidText = "invalid_text", BAD_REQUEST, None;
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
    /// The code was right, but the account has been deactivated.
    UserInactive = "user_inactive", FORBIDDEN, None;
    /// No codes are sent to this kind of number.
    PhoneNotAllowed = "phone_not_allowed", FORBIDDEN, Some("phone");
    /// Only staff may see this.
    StaffOnly = "staff_only", FORBIDDEN, None;
    /// There is nothing here, or no such user.
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

/// One thing that is wrong with a field.
#[derive(Clone, Debug, Serialize, Object)]
pub(crate) struct FieldError {
    /// What is wrong, by its stable name.
    code: String,
    /// What is wrong, and what to do.
    detail: String,
}

impl From<Invalid> for FieldError {
    fn from(invalid: Invalid) -> Self {
        Self { code: invalid.code().to_owned(), detail: invalid.to_string() }
    }
}

/// All that is wrong with the fields of a request, by field.
pub(crate) type FieldErrors = BTreeMap<String, Vec<FieldError>>;

/// An error (RFC 9457).
#[derive(Object)]
#[oai(rename = "Problem")]
pub(crate) struct ProblemBody {
    /// A URI that names the kind of error.
    r#type: String,
    /// The status in words.
    title: String,
    /// The status.
    status: u16,
    /// What is wrong, and what to do.
    detail: String,
    /// The kind of error, by its stable name, for programs to branch on.
    code: String,
    /// What is wrong with which field, whenever fields of the request are to blame.
    errors: Option<FieldErrors>,
    /// After how many seconds to try again.
    retry_after: Option<u64>,
    /// The id of the request, as in the header `X-Request-Id` and in the log.
    request_id: String,
}

/// An error to answer with.
#[derive(Debug)]
pub(crate) struct Problem {
    code: Code,
    /// The name that clients branch on: that of `code`, or of the one field's error.
    name: Cow<'static, str>,
    detail: Cow<'static, str>,
    errors: FieldErrors,
    retry_after: Option<Duration>,
    pub(crate) allow: Option<String>,
    /// What really happened; for the log.
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Problem {
    pub(crate) fn new(code: Code) -> Self {
        Self::with_detail(code, code.meaning())
    }

    pub(crate) fn with_detail(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        let mut errors = FieldErrors::new();
        if let Some(field) = code.field() {
            let error = FieldError { code: code.name().to_owned(), detail: detail.clone().into_owned() };
            errors.insert(field.to_owned(), vec![error]);
        }
        let is_out_of_breath = code.status() == StatusCode::SERVICE_UNAVAILABLE;
        Self {
            code,
            name: code.name().into(),
            detail,
            errors,
            retry_after: is_out_of_breath.then_some(RETRY_AFTER),
            allow: None,
            cause: None,
        }
    }

    /// The problem of wrong fields: named by its error if there is just one.
    pub(crate) fn of_fields(errors: FieldErrors) -> Self {
        let mut all = errors.values().flatten();
        let problem = match (all.next(), all.next()) {
            (Some(FieldError { code, detail }), None) => Self {
                name: code.clone().into(),
                ..Self::with_detail(Code::ValidationFailed, detail.clone())
            },
            _ => Self::new(Code::ValidationFailed),
        };
        Self { errors, ..problem }
    }

    /// The problem of one wrong field.
    pub(crate) fn of_field(field: &str, invalid: Invalid) -> Self {
        Self::of_fields([(field.to_owned(), vec![invalid.into()])].into())
    }

    pub(crate) fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into()), ..Self::new(Code::Internal) }
    }

    pub(crate) fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into()), ..Self::new(Code::Unavailable) }
    }

    /// The answer, with the cause written into the log if it is nobody's business.
    pub(crate) fn into_response(self, request_id: &str) -> Response {
        let status = self.code.status();
        if status.is_server_error() {
            let mut causes = Vec::new();
            let mut next = self.cause.as_ref().map(|cause| &**cause as &dyn std::error::Error);
            while let Some(cause) = next {
                causes.push(cause.to_string());
                next = cause.source();
            }
            tracing::error!(request_id, code = &*self.name, cause = causes.join(": "), "request failed");
        }
        let retry_after = self.retry_after.map(whole_seconds);
        let body = Body::from_json(Wire {
            r#type: format!("urn:referral:problem:{}", self.name),
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: &self.detail,
            code: &self.name,
            errors: (!self.errors.is_empty()).then_some(&self.errors),
            retry_after,
            request_id,
        });
        let mut response = Response::builder()
            .status(status)
            .content_type("application/problem+json")
            .body(body.unwrap_or_default());
        let mut set = |name: HeaderName, value: String| {
            response.headers_mut().extend(HeaderValue::from_str(&value).map(|value| (name, value)));
        };
        if let Some(seconds) = retry_after {
            set(header::RETRY_AFTER, seconds.to_string());
        }
        if let Some(allow) = self.allow {
            set(header::ALLOW, allow);
        }
        match self.code {
            Code::NotAuthenticated => set(header::WWW_AUTHENTICATE, "Bearer".into()),
            _ if status == StatusCode::UNAUTHORIZED => {
                set(header::WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#.into());
            }
            _ => {}
        }
        response
    }
}

/// The body of an error as it is written.
#[derive(Serialize)]
struct Wire<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a FieldErrors>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    request_id: &'a str,
}

/// Rounded up: waiting that long must be enough.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::InvalidCode => Code::InvalidCode,
            Refusal::ChallengeRequired => Code::ChallengeRequired,
            Refusal::UserInactive => Code::UserInactive,
            Refusal::TooManyRequests { .. } => Code::TooManyRequests,
            Refusal::PhoneNotAllowed => Code::PhoneNotAllowed,
            Refusal::UnknownInviteCode => Code::UnknownInviteCode,
            Refusal::OwnInviteCode => Code::OwnInviteCode,
            Refusal::InvitationLoop => Code::InvitationLoop,
            Refusal::InvitationAlreadyAccepted => Code::InvitationAlreadyAccepted,
            Refusal::EmailTaken => Code::EmailTaken,
            Refusal::TokenNotValid => Code::TokenNotValid,
            Refusal::RefreshReused => Code::RefreshReused,
            Refusal::StaffOnly => Code::StaffOnly,
            Refusal::UserNotFound => Code::NotFound,
            Refusal::InvalidCursor => Code::InvalidCursor,
            other => return Self::internal(other),
        };
        let problem = Self::with_detail(code, refusal.to_string());
        match refusal {
            Refusal::TooManyRequests { retry_after } => Self { retry_after: Some(retry_after), ..problem },
            _ => problem,
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::ProfileRefused(refusals) => {
                let problems: Vec<_> = refusals.into_iter().map(Self::from).collect();
                let is_conflict =
                    problems.iter().all(|problem| problem.code.status() == StatusCode::CONFLICT);
                let code = if is_conflict { Code::Conflict } else { Code::ValidationFailed };
                let errors = problems.into_iter().flat_map(|problem| problem.errors).collect();
                Self { errors, ..Self::new(code) }
            }
            Error::SmsNotSent(cause) => Self { cause: Some(cause.into()), ..Self::new(Code::SmsNotSent) },
            Error::Storage(StorageError::Unavailable(cause)) => Self::unavailable(cause),
            other => Self::internal(other),
        }
    }
}

/// What poem itself refuses, told by the types of its errors.
impl From<poem::Error> for Problem {
    fn from(error: poem::Error) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(problem) => return problem,
            Err(error) => error,
        };
        let is_path = error.is::<ParsePathError>() || error.is::<poem::error::ParsePathError>();
        if error.is::<NotFoundError>() || is_path {
            return Self::new(Code::NotFound);
        }
        if error.is::<MethodNotAllowedError>() {
            return Self::new(Code::MethodNotAllowed);
        }
        if let Some(ParseParamError { name, .. }) = error.downcast_ref() {
            return Self::new(match *name {
                "limit" => Code::InvalidLimit,
                "offset" => Code::InvalidOffset,
                _ => Code::BadRequest,
            });
        }
        if error.status().is_client_error() {
            return Self::new(Code::BadRequest);
        }
        Self::internal(error.to_string())
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.detail)
    }
}

impl std::error::Error for Problem {}

/// Lets a handler return a problem; the edge writes it, with the id of the request.
impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.code.status()
    }
}

/// The document's errors are written by `document.rs`, each with its example.
impl ApiResponse for Problem {
    fn meta() -> MetaResponses {
        MetaResponses { responses: Vec::new() }
    }

    fn register(registry: &mut Registry) {
        <ProblemBody as poem_openapi::types::Type>::register(registry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_up() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
        assert_eq!(whole_seconds(Duration::from_micros(2_000_001)), 3);
    }

    #[test]
    fn one_wrong_field_names_the_problem_and_several_do_not() {
        let invalid = |code| FieldError::from(Invalid::new(code, "wrong"));
        let one = Problem::of_fields([("phone".into(), vec![invalid("invalid_phone")])].into());
        assert_eq!(one.name, "invalid_phone");
        let two =
            [("phone".into(), vec![invalid("invalid_phone")]), ("code".into(), vec![invalid("required")])];
        let two = Problem::of_fields(two.into());
        assert_eq!((&*two.name, two.errors.len()), ("validation_failed", 2));
    }

    #[test]
    fn several_refusals_of_a_profile_are_told_together() {
        let refusals = vec![Refusal::EmailTaken, Refusal::UnknownInviteCode];
        let problem = Problem::from(Error::ProfileRefused(refusals));
        assert_eq!(problem.status(), StatusCode::BAD_REQUEST);
        assert_eq!(problem.errors.keys().collect::<Vec<_>>(), ["email", "invited_by_code"]);
    }
}
