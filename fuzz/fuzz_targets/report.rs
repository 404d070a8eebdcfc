//! Checks that a report without a valid signature of its gateway is rejected, and that a report with a valid
//! token, from a gateway without signatures, is parsed or rejected.
//!
//! An input is a query, a content type, a signature and a body. Each of the first three is one line.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use poem::http::{HeaderMap, HeaderName, HeaderValue};
use referral_core::sms::{
    DeliveryStatus,
    http::{GatewayConfig, PRESETS, ReportReader, ReportRequest},
};
use referral_fuzz::Standing;
use serde_json::{Value, json};

const TOKEN: &str = "0123456789abcdef";

struct Fixture {
    /// Readers of gateways that sign their reports.
    signing: Vec<ReportReader>,
    /// Readers of gateways that do not sign their reports.
    bare: Vec<ReportReader>,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let settings = json!({
        "api_id": "a", "apikey": "a", "auth_token": "a", "from": "a", "signature_secret": "a",
        "report_secret": "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="
    });
    let signing = PRESETS.iter().map(|(preset, _)| {
        reader(&json!({ "preset": preset, "url": "https://a.example", "settings": settings }))
    });
    let signing = signing.collect();
    let bare = [
        json!({ "id": "id", "status": "/status" }),
        json!({ "each": "/list", "id": "id", "status": "status" }),
        json!({ "each": "data", "pattern": "^(?<id>.*)\n(?<status>[0-9])?" }),
    ];
    let bare = bare.map(|mut reports| {
        reports["delivered"] = json!(["1", "true"]);
        reports["failed"] = json!(["2"]);
        reports["signature"] = json!({ "token": TOKEN });
        reader(&json!({ "url": "https://a.example", "reports": reports }))
    });
    Fixture { signing, bare: bare.into() }
});

fuzz_target!(|input: &str| {
    let mut parts = input.splitn(4, '\n');
    let [query, content_type, signature, body] = [(); 4].map(|()| parts.next().unwrap_or_default());
    let headers = [
        ("content-type", content_type),
        ("x-twilio-signature", signature),
        ("webhook-id", "a"),
        ("webhook-timestamp", "1795342530"),
        ("webhook-signature", signature),
    ];
    let headers = headers.into_iter().filter_map(|(name, value)| {
        Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?))
    });
    let headers: HeaderMap = headers.collect();

    let url = format!("https://example.org/sms/reports/a/?{query}");
    let request = ReportRequest { url: &url, headers: &headers, body: body.as_bytes() };
    for reports in &FIXTURE.signing {
        assert!(reports.read(&request).is_err(), "{reports:?} accepted a report without a valid signature");
    }
    let url = format!("https://example.org/sms/reports/a/?token={TOKEN}&{query}");
    let request = ReportRequest { url: &url, ..request };
    for reports in &FIXTURE.bare {
        let read = reports.read(&request).unwrap_or_default();
        assert!(read.len() <= 200);
        assert!(read.iter().all(|report| report.gateway == "a" && report.status != DeliveryStatus::Sent));
    }
});

fn reader(config: &Value) -> ReportReader {
    let config: GatewayConfig = serde_json::from_value(config.clone()).expect("a valid configuration");
    ReportReader::new("a", &config).expect("a valid configuration").expect("a secret").clock(Standing)
}
