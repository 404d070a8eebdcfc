//! Endpoint `/admin/code_requests`, by which staff find out why no code arrived.

use poem_openapi::{Object, OpenApi, param::Query, types::Example};
use referral_core::{Administration, CodeRequestKind, CodeRequestOutcome, CodeRequestView, ReferralService};
use serde::Serialize;
use time::Duration;

use crate::{
    api::{Refusals, Tag, bearer::Authorized, examples, json_response::Json, timestamp::Timestamp},
    error::Problem,
    error_code::ErrorCode,
};

/// Error codes of each operation, in addition to those that every operation can return.
pub(crate) const REFUSALS: &[Refusals] =
    &[("listCodeRequests", &[ErrorCode::Required, ErrorCode::InvalidPhone, ErrorCode::StaffOnly])];

/// Generates an enum of the document with the values of an enum of the core.
macro_rules! mirrored {
    ($(#[doc = $doc:literal])+ $name:ident of $core:ident { $($variant:ident,)+ }) => {
        $(#[doc = $doc])+
        #[derive(poem_openapi::Enum, Serialize)]
        #[oai(rename_all = "snake_case")]
        #[serde(rename_all = "snake_case")]
        enum $name { $($variant,)+ }

        impl From<$core> for $name {
            fn from(value: $core) -> Self {
                match value { $($core::$variant => Self::$variant,)+ }
            }
        }
    };
}

mirrored! {
    /// Kind of a request about a code.
    Kind of CodeRequestKind { Send, Redeem, }
}

mirrored! {
    /// Outcome of a request about a code.
    Outcome of CodeRequestOutcome {
        Sent,
        Unknown,
        TestNumber,
        NotSent,
        Redeemed,
        Refused,
        RejectedByHost,
        GateFailed,
        Failed,
    }
}

/// The limit that refused a request.
#[derive(Object, Serialize)]
#[oai(example)]
struct ReachedLimit {
    /// The stable name of the limit.
    name: String,
    /// The numbers of the limit at the time of the request. `3/15m,5/1h` is 3 in any 15 minutes and 5 in any
    /// hour.
    rule: Option<String>,
    /// The time from which the limit no longer refuses the same request.
    free_at: Timestamp,
}

impl Example for ReachedLimit {
    fn example() -> Self {
        Self {
            name: "codes_per_phone".into(),
            rule: Some("3/15m".into()),
            free_at: (examples::TIME.0 + Duration::minutes(12)).into(),
        }
    }
}

/// A request to send or to redeem a code.
#[derive(Object, Serialize)]
#[oai(rename = "CodeRequestRecord", example)]
pub(crate) struct CodeRequest {
    /// The time of the request.
    requested_at: Timestamp,
    /// `send` for a request to send a code, `redeem` for a request with a code.
    kind: Kind,
    /// The purpose of the code, such as `sign_in`.
    purpose: String,
    /// The outcome. `sent`: a gateway accepted the message. `unknown`: it is unknown whether the message was
    /// sent. `test_number`: the phone has a fixed code and gets no message. `not_sent`: no gateway accepted
    /// the message. `redeemed`: the code was correct. `refused`: a rule refused the request.
    /// `rejected_by_host`: the gate of the operator rejected it. `gate_failed`: the gate failed. `failed`:
    /// the service failed, or the request was aborted.
    outcome: Outcome,
    /// The reason of the outcome, if it has one: the error code of the response, the code of the operator if
    /// the gate rejected the request, or `aborted`.
    reason: Option<String>,
    /// The limit that refused the request.
    limit: Option<ReachedLimit>,
    /// The gateway that accepted the message.
    gateway: Option<String>,
    /// The id of the message at the gateway.
    message_id: Option<String>,
    /// The newest status of the message, as its gateway reported it: `sent`, `failed` or `delivered`.
    message_status: Option<String>,
    /// The id of the request, as in the header `X-Request-Id` and in the log.
    request_id: Option<String>,
    /// One or two sentences that state what happened.
    explanation: String,
}

impl Example for CodeRequest {
    fn example() -> Self {
        Self {
            requested_at: examples::TIME,
            kind: Kind::Send,
            purpose: "sign_in".into(),
            outcome: Outcome::Refused,
            reason: Some(ErrorCode::TooManyRequests.name().into()),
            limit: Some(ReachedLimit::example()),
            gateway: None,
            message_id: None,
            message_status: None,
            request_id: Some(examples::SESSION_ID.to_string()),
            explanation:
                "The limit codes_per_phone (3/15m) refused the request. It allows another request from \
                          2026-11-22T10:27:31Z."
                    .into(),
        }
    }
}

impl From<CodeRequestView> for CodeRequest {
    fn from(view: CodeRequestView) -> Self {
        let explanation = view.explanation();
        let request = view.request;
        Self {
            requested_at: request.at.into(),
            kind: request.kind.into(),
            purpose: request.purpose,
            outcome: request.outcome.into(),
            reason: request.reason,
            limit: request.limit.map(|limit| ReachedLimit {
                name: limit.name,
                rule: limit.rule,
                free_at: limit.free_at.into(),
            }),
            gateway: request.gateway,
            message_id: request.message_id,
            message_status: view.message_status.map(|status| status.to_string()),
            request_id: request.request_id,
            explanation,
        }
    }
}

/// The requests about a phone.
#[derive(Object, Serialize)]
#[oai(example)]
pub(crate) struct CodeRequests {
    /// The requests, newest first. At most 100.
    results: Vec<CodeRequest>,
}

impl Example for CodeRequests {
    fn example() -> Self {
        Self { results: vec![CodeRequest::example()] }
    }
}

pub(crate) struct CodeRequestsApi {
    pub(crate) referral: ReferralService,
}

#[OpenApi(prefix_path = "/admin", tag = "Tag::Admin")]
impl CodeRequestsApi {
    /// List requests for codes
    ///
    /// Lists the newest requests to send and to redeem codes of a phone, with their outcomes. It answers why
    /// no code arrived, or why a code was refused. The requests are stored for three days. Only staff can do
    /// this.
    #[oai(path = "/code_requests", method = "get", operation_id = "listCodeRequests")]
    async fn list(
        &self,
        Authorized(staff): Authorized<Administration>,
        /// The phone, in any form. The national form is accepted if the service has a default region.
        Query(phone): Query<String>,
    ) -> Result<Json<CodeRequests>, Problem> {
        let phone =
            self.referral.parse_phone(&phone).map_err(|invalid| Problem::of_field("phone", invalid))?;
        let requests = staff.code_requests(&phone).await?;
        Ok(Json(CodeRequests { results: requests.into_iter().map(CodeRequest::from).collect() }))
    }
}
