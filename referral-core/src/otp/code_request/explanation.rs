//! Explanation of a recorded request for people.

use time::{OffsetDateTime, UtcOffset};

use super::{
    CodeRequest, CodeRequestKind,
    CodeRequestOutcome::{
        Failed, GateFailed, NotSent, Redeemed, Refused, RejectedByHost, Sent, TestNumber, Unknown,
    },
    CodeRequestView, ReachedLimit,
};
use crate::{error::catalog::ErrorCode, sms::delivery::DeliveryStatus};

impl CodeRequestView {
    /// Returns one or two English sentences that state what happened to the request, for support.
    ///
    /// ```
    /// # #[cfg(not(feature = "test-util"))] fn main() {}
    /// # #[cfg(feature = "test-util")] #[tokio::main] async fn main() {
    /// use std::sync::Arc;
    ///
    /// use referral_core::{SendCode, policy::Policy, storage::MemoryStorage, test_util::TestService};
    ///
    /// let service = TestService::with_builder(Arc::new(MemoryStorage::new()), |builder| {
    ///     builder.policy(Policy::standard())
    /// });
    /// let phone = service.referral.parse_phone("+79608543017").unwrap();
    /// service.referral.send_code(SendCode::new(phone.clone())).await.unwrap();
    /// service.referral.send_code(SendCode::new(phone.clone())).await.unwrap_err();
    ///
    /// let requests = service.referral.code_requests(&phone).await.unwrap();
    /// let explanations = requests.iter().map(|request| request.explanation());
    /// assert!(explanations.eq([
    ///     "The limit resend_interval (1m) refused the request. \
    ///      It allows another request from 2026-01-01T00:01:00Z.",
    ///     "The sender accepted the message. It named no gateway.",
    /// ]));
    /// # }
    /// ```
    #[must_use]
    pub fn explanation(&self) -> String {
        let CodeRequest { kind, outcome, reason, limit, .. } = &self.request;
        let reason = reason.as_deref().unwrap_or_default();
        match outcome {
            Sent => self.explain_delivery(),
            Unknown => {
                "The gateway did not respond in time. The message may arrive, and its code is valid.".into()
            }
            TestNumber => "The phone is a test number. Its code is fixed, and no message is sent.".into(),
            NotSent => {
                "No gateway accepted the message. The code is invalid and does not count for the phone."
                    .into()
            }
            Redeemed => "The code was correct and was redeemed.".into(),
            Refused => explain_refusal(reason, limit.as_ref()),
            RejectedByHost => format!("The gate of the host rejected the request with the code {reason}."),
            GateFailed => "The gate of the host failed, so the request was rejected.".into(),
            Failed if reason == CodeRequest::ABORTED => {
                let effect = match kind {
                    CodeRequestKind::Send => "The message may have been sent.",
                    CodeRequestKind::Redeem => "The code may have been redeemed.",
                };
                format!("The request exceeded its time limit, or its client disconnected. {effect}")
            }
            Failed => format!(
                "The service failed to process the request ({reason}). The log has the cause under the request id."
            ),
        }
    }

    fn explain_delivery(&self) -> String {
        let Some(gateway) = &self.request.gateway else {
            return "The sender accepted the message. It named no gateway.".into();
        };
        match self.message_status {
            None => format!("The gateway {gateway} accepted the message. Its delivery is not tracked."),
            Some(DeliveryStatus::Sent) => {
                format!(
                    "The gateway {gateway} accepted the message. It has not reported whether the message arrived."
                )
            }
            Some(DeliveryStatus::Failed) => {
                format!(
                    "The gateway {gateway} accepted the message. It reports that the message was not delivered."
                )
            }
            Some(DeliveryStatus::Delivered) => {
                format!(
                    "The gateway {gateway} accepted the message. It reports that the message is on the phone."
                )
            }
        }
    }
}

impl CodeRequest {
    /// Reason of a request whose task was dropped before it had an outcome.
    pub(crate) const ABORTED: &str = "aborted";
}

fn explain_refusal(reason: &str, limit: Option<&ReachedLimit>) -> String {
    if let Some(ReachedLimit { name, rule, free_at }) = limit {
        let rule = rule.as_ref().map(|rule| format!(" ({rule})")).unwrap_or_default();
        return format!(
            "The limit {name}{rule} refused the request. It allows another request from {}.",
            to_seconds_in_utc(*free_at)
        );
    }
    let code = ErrorCode::ALL.iter().find(|code| code.as_str() == reason);
    code.map_or_else(|| format!("The request was refused: {reason}."), |code| code.message().to_owned())
}

/// Formats a time as `2026-01-01T00:00:00Z`. A fraction is rounded up, so that the limit is free then.
fn to_seconds_in_utc(time: OffsetDateTime) -> String {
    let whole = time.replace_nanosecond(0).unwrap_or(time);
    let whole = if whole < time { whole + time::Duration::SECOND } else { whole };
    let at = whole.to_offset(UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;
    use uuid::Uuid;

    use super::{
        super::{CodeRequestOutcome, PhoneHash},
        *,
    };

    fn view(outcome: CodeRequestOutcome) -> CodeRequestView {
        let request = CodeRequest {
            id: Uuid::nil(),
            at: OffsetDateTime::UNIX_EPOCH,
            phone: PhoneHash([0; 16]),
            kind: CodeRequestKind::Send,
            purpose: "sign_in".into(),
            outcome,
            reason: None,
            limit: None,
            gateway: None,
            message_id: None,
            request_id: None,
        };
        CodeRequestView { request, message_status: None }
    }

    #[test]
    fn each_outcome_has_its_own_explanation() {
        let mut all: Vec<_> =
            CodeRequestOutcome::ALL.iter().map(|outcome| view(*outcome).explanation()).collect();
        let mut sent = view(Sent);
        sent.request.gateway = Some("g1".into());
        all.push(sent.explanation());
        for status in DeliveryStatus::ALL {
            sent.message_status = Some(status);
            all.push(sent.explanation());
        }
        for (index, explanation) in all.iter().enumerate() {
            assert!(explanation.ends_with('.'), "{explanation}");
            assert!(!all[..index].contains(explanation), "{explanation}");
        }
    }

    #[test]
    fn a_refusal_is_explained_by_its_limit_or_its_error_code() {
        let mut refused = view(Refused);
        let limit = ReachedLimit {
            name: "codes_per_phone".into(),
            rule: Some("3/15m".into()),
            free_at: datetime!(2026-12-01 10:15:29.5 UTC),
        };
        refused.request.reason = Some("too_many_requests".into());
        refused.request.limit = Some(limit.clone());
        let expected = "The limit codes_per_phone (3/15m) refused the request. It allows another request from \
                        2026-12-01T10:15:30Z.";
        assert_eq!(refused.explanation(), expected);
        refused.request.limit =
            Some(ReachedLimit { rule: None, free_at: datetime!(2026-12-01 0:00 UTC), ..limit });
        let expected = "The limit codes_per_phone refused the request. It allows another request from 2026-12-01T00:00:00Z.";
        assert_eq!(refused.explanation(), expected);

        refused.request.limit = None;
        for (reason, expected) in [
            ("phone_not_allowed", ErrorCode::PhoneNotAllowed.message()),
            ("of_a_newer_version", "The request was refused: of_a_newer_version."),
        ] {
            refused.request.reason = Some(reason.into());
            assert_eq!(refused.explanation(), expected);
        }
    }
}
