//! Error responses as `application/problem+json` (RFC 9457), and the conversion of other errors to them.

use std::{collections::BTreeMap, time::Duration};

use poem::{
    Body, Response,
    error::{MethodNotAllowedError, NotFoundError, ResponseError},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object,
    error::{ParseParamError, ParsePathError},
    registry::{MetaResponses, Registry},
};
use referral_core::{
    Check, Error, InvalidInput, Readiness, Refusal,
    gate::Rejection,
    storage::StorageError,
    texts::{Detail, Language, Text},
};
use serde::Serialize;

use crate::{draining::Draining, error_code::ErrorCode, error_sources::with_sources};

/// An error of one field.
#[derive(Serialize, Object)]
#[oai(rename = "FieldError")]
pub(crate) struct FieldErrorBody {
    /// The stable error code.
    code: String,
    /// A description of the error and of its correction, in the language of the response.
    detail: String,
}

/// Error of one field, whose detail has no language yet.
#[derive(Clone, Debug)]
pub(crate) struct FieldError {
    code: ErrorCode,
    detail: Detail,
}

impl FieldError {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<Detail>) -> Self {
        Self { code, detail: detail.into() }
    }

    fn write(&self, language: Language) -> FieldErrorBody {
        FieldErrorBody { code: self.code.name().to_owned(), detail: self.detail.write(language).into_owned() }
    }
}

/// Returns the error with the text of its code.
impl From<ErrorCode> for FieldError {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.text())
    }
}

impl From<InvalidInput> for FieldError {
    fn from(invalid: InvalidInput) -> Self {
        Self::new(invalid.code().into(), invalid.detail().clone())
    }
}

/// Errors of a request by field.
pub(crate) type FieldErrors = BTreeMap<String, Vec<FieldError>>;

/// An error (RFC 9457).
#[derive(Serialize, Object)]
#[oai(rename = "Problem")]
pub(crate) struct ProblemBody {
    /// A URI that identifies the kind of error.
    r#type: String,
    /// The reason phrase of the status. It is always in English.
    title: String,
    /// The HTTP status.
    status: u16,
    /// A description of the error and of its correction, in the language of the response.
    detail: String,
    /// The stable error code. Programs should branch on it.
    code: String,
    /// The code of the operator for the rejection, in `snake_case`. Present if `code` is `rejected_by_host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The errors by field, if fields of the request are invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<BTreeMap<String, Vec<FieldErrorBody>>>,
    /// The outcome of each check, in the response of `/health/ready`, which is not in the document.
    #[oai(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<BTreeMap<&'static str, &'static str>>,
    /// The number of seconds to wait before the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    /// The id of the request, as in the header `X-Request-Id` and in the log.
    request_id: String,
}

/// An error response.
#[derive(Debug)]
pub(crate) struct Problem {
    code: ErrorCode,
    /// Stable error code in the response: the name of `code`, or the error code of the only invalid field.
    name: &'static str,
    detail: Detail,
    errors: FieldErrors,
    retry_after: Option<Duration>,
    /// Rejection of the gate. It is boxed, because it is rare.
    rejection: Option<Box<Rejection>>,
    /// Outcome of each check, if the server is not ready.
    checks: Option<Box<Checks>>,
    pub(crate) allow: Option<String>,
    /// Cause of the error. It is written to the log and not to the response.
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// The error is part of normal operation, so it is not logged as an error.
    is_expected: bool,
}

impl Problem {
    pub(crate) fn new(code: ErrorCode) -> Self {
        Self::with_detail(code, code.text())
    }

    pub(crate) fn with_detail(code: ErrorCode, detail: impl Into<Detail>) -> Self {
        let detail = detail.into();
        let mut errors = FieldErrors::new();
        if let Some(field) = code.field() {
            let error = FieldError::new(code, detail.clone());
            errors.insert(field.to_owned(), vec![error]);
        }
        let is_unavailable = code.status() == StatusCode::SERVICE_UNAVAILABLE;
        Self {
            code,
            name: code.name(),
            detail,
            errors,
            retry_after: is_unavailable.then_some(Error::RETRY_AFTER),
            rejection: None,
            checks: None,
            allow: None,
            cause: None,
            is_expected: false,
        }
    }

    /// Creates the problem of invalid fields. A single error gives the problem its code and detail.
    pub(crate) fn of_fields(errors: FieldErrors) -> Self {
        let mut all = errors.values().flatten();
        let problem = match (all.next(), all.next()) {
            (Some(FieldError { code, detail }), None) => {
                Self { name: code.name(), ..Self::with_detail(ErrorCode::ValidationFailed, detail.clone()) }
            }
            _ => Self::new(ErrorCode::ValidationFailed),
        };
        Self { errors, ..problem }
    }

    /// Creates the problem of one invalid field.
    pub(crate) fn of_field(field: &str, error: impl Into<FieldError>) -> Self {
        Self::of_fields([(shown_name(field), vec![error.into()])].into())
    }

    pub(crate) fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into()), ..Self::new(ErrorCode::InternalError) }
    }

    /// Creates the error of a request whose peer address the host has not passed.
    pub(crate) fn without_peer() -> Self {
        let problem = Self::internal(
            "the host passed no peer address, so limits per address would not apply; pass it, or set \
             `ClientAddresses::none()` if the host has none",
        );
        Self { detail: Text::PeerAddressMissing.into(), ..problem }
    }

    /// Returns an error if the server is about to shut down.
    pub(crate) fn reject_if_draining(draining: &Draining) -> Result<(), Self> {
        if draining.is_started() {
            let problem = Self::with_detail(ErrorCode::Unavailable, Text::Draining);
            return Err(Self { is_expected: true, ..problem });
        }
        Ok(())
    }

    pub(crate) fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into()), ..Self::new(ErrorCode::Unavailable) }
    }

    /// Creates the problem of a server that is not ready. The response contains the outcome of each check,
    /// such as `failed`. The log contains the errors of the failed checks, which the response must not
    /// reveal.
    pub(crate) fn not_ready(readiness: &Readiness) -> Self {
        let causes = readiness.checks().into_iter().filter_map(|(name, check)| match check {
            Check::Failed(error) => Some(format!("{name}: {}", with_sources(error))),
            Check::Passed | Check::Skipped => None,
        });
        let causes = causes.collect::<Vec<_>>().join("; ");
        Self { checks: Some(Box::new(checks(readiness))), ..Self::unavailable(causes) }
    }

    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }

    /// Returns the text for people in a language.
    pub(crate) fn text(&self, language: Language) -> String {
        self.complete_detail().write(language).into_owned()
    }

    /// Returns the detail with its values.
    fn complete_detail(&self) -> Detail {
        self.detail.clone().with("seconds", self.retry_after.map(whole_seconds).unwrap_or_default())
    }

    /// Creates the response in a language. The cause of a server error is written to the log.
    pub(crate) fn into_response(self, request_id: &str, language: Language) -> Response {
        self.log();
        self.write(request_id, language)
    }

    /// Writes the cause of a server error to the log.
    pub(crate) fn log(&self) {
        let status = self.code.status();
        if self.is_expected {
            tracing::debug!(code = self.name, "request rejected");
        } else if status.is_server_error() {
            let cause = self.cause.as_ref().map(|cause| with_sources(&**cause));
            tracing::error!(code = self.name, cause, "request failed");
        }
    }

    /// Creates the response in a language, without writing to the log.
    pub(crate) fn write(self, request_id: &str, language: Language) -> Response {
        let status = self.code.status();
        let mut headers = HeaderMap::new();
        self.add_headers(&mut headers);
        // A host may choose the language of its text by the same header.
        headers.insert(header::VARY, HeaderValue::from_static("accept-language"));
        let detail = self.complete_detail();
        if detail.is_translated() {
            headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
        }
        let errors: BTreeMap<_, Vec<_>> = self
            .errors
            .iter()
            .map(|(field, errors)| {
                (field.clone(), errors.iter().map(|error| error.write(language)).collect())
            })
            .collect();
        let body = Body::from_json(ProblemBody {
            r#type: format!("urn:referral:problem:{}", self.name),
            title: status.canonical_reason().unwrap_or_default().into(),
            status: status.as_u16(),
            detail: detail.write(language).into_owned(),
            code: self.name.into(),
            reason: self.rejection.map(|rejection| rejection.code().to_owned()),
            errors: Some(errors).filter(|errors| !errors.is_empty()),
            checks: self.checks.map(|checks| BTreeMap::from(*checks)),
            retry_after: self.retry_after.map(whole_seconds),
            request_id: request_id.into(),
        });
        let mut response = Response::builder()
            .status(status)
            .content_type("application/problem+json")
            .body(body.unwrap_or_default());
        response.headers_mut().extend(headers);
        response
    }

    /// Adds the headers that belong to the error.
    pub(crate) fn add_headers(&self, headers: &mut HeaderMap) {
        let mut set = |name: HeaderName, value: String| {
            headers.extend(HeaderValue::from_str(&value).map(|value| (name, value)));
        };
        if let Some(retry_after) = self.retry_after {
            set(header::RETRY_AFTER, whole_seconds(retry_after).to_string());
        }
        if let Some(allow) = &self.allow {
            set(header::ALLOW, allow.clone());
        }
        match self.code {
            ErrorCode::NotAuthenticated => set(header::WWW_AUTHENTICATE, "Bearer".into()),
            _ if self.code.status() == StatusCode::UNAUTHORIZED => {
                set(header::WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#.into());
            }
            _ => {}
        }
    }
}

/// Returns the name of a field of a client for a response. Its length is limited, and it has no control
/// characters.
pub(crate) fn shown_name(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// The name and the outcome of each check.
pub(crate) type Checks = [(&'static str, &'static str); 5];

/// Returns the name and the outcome of each check.
pub(crate) fn checks(readiness: &Readiness) -> Checks {
    readiness.checks().map(|(name, check)| {
        let outcome = match check {
            Check::Passed => "ok",
            Check::Failed(_) => "failed",
            Check::Skipped => "skipped",
        };
        (name, outcome)
    })
}

/// Returns the duration in seconds, rounded up: after that time the client must be able to continue.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = ErrorCode::from(refusal.code());
        if code == ErrorCode::InternalError {
            return Self::internal(refusal);
        }
        let (detail, retry_after) = (refusal.detail(), refusal.retry_after());
        let rejection = match refusal {
            Refusal::RejectedByHost(rejection) => Some(Box::new(rejection)),
            _ => None,
        };
        Self { retry_after, rejection, ..Self::with_detail(code, detail) }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let retry_after = error.retry_after();
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::ProfileRefused(refusals) => {
                let problems: Vec<_> = refusals.into_iter().map(Self::from).collect();
                let is_conflict =
                    problems.iter().all(|problem| problem.code.status() == StatusCode::CONFLICT);
                let code = if is_conflict { ErrorCode::Conflict } else { ErrorCode::ValidationFailed };
                let errors = problems.into_iter().flat_map(|problem| problem.errors).collect();
                Self { errors, ..Self::new(code) }
            }
            Error::SmsNotSent(cause) => {
                let problem = Self::new(ErrorCode::SmsNotSent);
                Self { cause: Some(cause.into()), retry_after, ..problem }
            }
            Error::Storage(StorageError::Unavailable(cause)) => Self::unavailable(cause),
            Error::GateFailed { .. } => Self::unavailable(error),
            other => Self::internal(other),
        }
    }
}

/// Converts errors of poem, which are identified by their types.
impl From<poem::Error> for Problem {
    fn from(error: poem::Error) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(problem) => return problem,
            Err(error) => error,
        };
        let is_path = error.is::<ParsePathError>() || error.is::<poem::error::ParsePathError>();
        if error.is::<NotFoundError>() || is_path {
            return Self::new(ErrorCode::NotFound);
        }
        if error.is::<MethodNotAllowedError>() {
            return Self::new(ErrorCode::MethodNotAllowed);
        }
        if let Some(ParseParamError { name, .. }) = error.downcast_ref() {
            if *name == "phone" {
                return Self::of_field(name, ErrorCode::Required);
            }
            return Self::new(match *name {
                "limit" => ErrorCode::InvalidLimit,
                "offset" => ErrorCode::InvalidOffset,
                _ => ErrorCode::BadRequest,
            });
        }
        if error.status().is_client_error() {
            return Self::new(ErrorCode::BadRequest);
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

/// Lets a handler return a problem. The middleware adds the id of the request and creates the response.
impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.code.status()
    }
}

/// Registers nothing: `openapi.rs` adds the errors and their schema to the document.
impl ApiResponse for Problem {
    fn meta() -> MetaResponses {
        MetaResponses { responses: Vec::new() }
    }

    fn register(_: &mut Registry) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
        assert_eq!(whole_seconds(Duration::from_micros(2_000_001)), 3);
    }

    #[test]
    fn a_single_invalid_field_determines_the_code_of_the_problem() {
        let invalid = FieldError::from;
        let one = Problem::of_fields([("phone".into(), vec![invalid(ErrorCode::InvalidPhone)])].into());
        assert_eq!(one.name, "invalid_phone");
        let two = [
            ("phone".into(), vec![invalid(ErrorCode::InvalidPhone)]),
            ("code".into(), vec![invalid(ErrorCode::Required)]),
        ];
        let two = Problem::of_fields(two.into());
        assert_eq!((two.name, two.errors.len()), ("validation_failed", 2));
    }

    #[test]
    fn all_rejected_profile_fields_are_in_one_problem() {
        let refusals = vec![Refusal::EmailTaken, Refusal::UnknownInviteCode];
        let problem = Problem::from(Error::ProfileRefused(refusals));
        assert_eq!(problem.status(), StatusCode::BAD_REQUEST);
        assert_eq!(problem.errors.keys().collect::<Vec<_>>(), ["email", "invited_by_code"]);
    }

    #[test]
    fn the_api_has_each_code_of_the_library_that_a_request_can_cause() {
        let other: Vec<_> = referral_core::ErrorCode::ALL
            .iter()
            .filter(|code| ErrorCode::from(**code).name() != code.as_str())
            .map(|code| code.as_str())
            .collect();
        let of_configuration = [
            "invalid_region",
            "invalid_locale",
            "invalid_address",
            "invalid_test_number",
            "invalid_template",
            "invalid_host",
            "invalid_android_hash",
            "invalid_policy",
        ];
        assert_eq!(other, of_configuration);
    }
}
