//! Command `code-requests`, which shows why no code arrived.

use std::io::{self, Write as _};

use referral_core::{CodeRequest, CodeRequestView, PhoneNumber};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    commands::serve::{self, Result},
    settings::{Settings, flags},
    sms_config::Messages,
};

/// Headings of the columns. The explanation is last, because it is long.
const HEADINGS: [&str; 5] = ["TIME", "KIND", "OUTCOME", "REQUEST ID", "EXPLANATION"];

/// Prints the requests of a phone, newest first.
pub(crate) async fn run(settings: &Settings, phone: &str, is_json: bool) -> Result<()> {
    let phone = PhoneNumber::parse(phone, settings.policy().default_region)
        .map_err(|error| format!("--phone: {}", flags::phrase(&error.to_string())))?;
    let referral = serve::build(settings, Messages::none(), None, ()).await?;
    let requests = referral.code_requests(&phone).await?;
    referral.close().await;
    let text = if is_json {
        let requests: Vec<_> = requests.iter().map(to_json).collect();
        format!("{:#}\n", Value::from(requests))
    } else if requests.is_empty() {
        format!("no requests for codes of {} in the last three days\n", phone.as_str())
    } else {
        table(&requests)
    };
    Ok(io::stdout().write_all(text.as_bytes())?)
}

/// Formats requests as a table. Request ids and reasons have no control characters.
fn table(requests: &[CodeRequestView]) -> String {
    let row = |view: &CodeRequestView| {
        let request = &view.request;
        let seconds = request.at.replace_nanosecond(0).unwrap_or(request.at);
        let request_id = request.request_id.clone().unwrap_or_else(|| "-".into());
        let kind = match &*request.purpose {
            "sign_in" => request.kind.to_string(),
            purpose => format!("{} {purpose}", request.kind),
        };
        [timestamp(seconds), kind, request.outcome.to_string(), request_id, view.explanation()]
    };
    let rows = [HEADINGS.map(str::to_owned)].into_iter().chain(requests.iter().map(row));
    let rows: Vec<_> = rows.collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(width);
    let line = |row: &[String; HEADINGS.len()]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn to_json(view: &CodeRequestView) -> Value {
    let CodeRequest { at, kind, purpose, outcome, reason, limit, gateway, message_id, request_id, .. } =
        &view.request;
    let limit = limit
        .as_ref()
        .map(|limit| json!({ "name": limit.name, "rule": limit.rule, "free_at": timestamp(limit.free_at) }));
    json!({
        "requested_at": timestamp(*at),
        "kind": kind.as_str(),
        "purpose": purpose,
        "outcome": outcome.as_str(),
        "reason": reason,
        "limit": limit,
        "gateway": gateway,
        "message_id": message_id,
        "message_status": view.message_status.map(referral_core::sms::DeliveryStatus::as_str),
        "request_id": request_id,
        "explanation": view.explanation(),
    })
}

fn timestamp(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use referral_core::{SendCode, policy::Policy, storage::MemoryStorage, test_util::TestService};

    use super::*;

    async fn requests() -> Vec<CodeRequestView> {
        let service = TestService::with_builder(std::sync::Arc::new(MemoryStorage::new()), |builder| {
            builder.policy(Policy::standard())
        });
        let phone = PhoneNumber::parse("+79608543017", None).expect("valid");
        let client = referral_core::Client::default().request_id("r1".to_owned());
        service.referral.send_code(SendCode::new(phone.clone()).client(client)).await.expect("sent");
        service.clock.advance(std::time::Duration::from_millis(1_500));
        service.referral.send_code(SendCode::new(phone.clone())).await.expect_err("refused");
        service.referral.code_requests(&phone).await.expect("the storage responds")
    }

    #[tokio::test]
    async fn columns_of_the_table_are_aligned() {
        let expected = "\
TIME                  KIND  OUTCOME  REQUEST ID  EXPLANATION
2026-01-01T00:00:01Z  send  refused  -           The limit resend_interval (1m) refused the request. It allows another request from 2026-01-01T00:01:00Z.
2026-01-01T00:00:00Z  send  sent     r1          The sender accepted the message. It named no gateway.
";
        assert_eq!(table(&requests().await), expected);
    }

    #[tokio::test]
    async fn json_has_all_fields() {
        let requests = requests().await;
        let refused = to_json(&requests[0]);
        assert_eq!(refused["requested_at"], "2026-01-01T00:00:01.5Z");
        assert_eq!(refused["limit"]["name"], "resend_interval");
        assert_eq!(refused["limit"]["free_at"], "2026-01-01T00:01:00Z");
        let sent = to_json(&requests[1]);
        assert_eq!((&sent["outcome"], &sent["request_id"]), (&json!("sent"), &json!("r1")));
        assert_eq!(sent.as_object().map(serde_json::Map::len), Some(11));
    }
}
