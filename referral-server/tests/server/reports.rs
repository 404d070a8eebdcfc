//! Tests of delivery reports of gateways.

use std::sync::Arc;

use async_trait::async_trait;
use referral_core::{
    PhoneNumber, ReferralService, SendCode,
    keys::{Peppers, SigningKeys},
    policy::Policy,
    sms::{
        DevelopmentSender, Receipt, SmsError, SmsMessage, SmsSender,
        http::{GatewayConfig, ReportReader},
    },
    storage::{MemoryStorage, Storage},
};
use referral_server::{AppOptions, Metrics, reports_url};
use reqwest::Method;

use crate::service::{ANNA, Client, Response, Service, serve};

const PATH: &str = "/sms/reports/acme";
const TOKEN: &str = "token=0123456789abcdef";
const FORM: &str = "application/x-www-form-urlencoded";

const ACME: &str = r#"{
    "url": "https://acme.example",
    "reports": {
        "id": "id", "status": "status", "delivered": ["1"], "failed": ["2"], "reply": "100",
        "signature": {"token": "0123456789abcdef"}
    }
}"#;
const TWILIO: &str = r#"{"preset": "twilio", "settings": {"from": "Acme", "auth_token": "12345"}}"#;

fn reader(gateway: &str, config: &str) -> ReportReader {
    let config: GatewayConfig = serde_json::from_str(config).expect("a valid configuration");
    ReportReader::new(gateway, &config).expect("a valid configuration").expect("a secret")
}

fn options() -> AppOptions {
    const PUBLIC_URL: &str = "https://example.org/";
    let (acme, twilio) = (reader("acme", ACME), reader("twilio", TWILIO));
    assert_eq!(reports_url(PUBLIC_URL, &acme), format!("https://example.org{PATH}/?{TOKEN}"));
    assert_eq!(reports_url(PUBLIC_URL, &twilio), "https://example.org/sms/reports/twilio/");
    assert!(twilio.signs_url() && !acme.signs_url());
    let mut options = AppOptions::default();
    options.public_url = Some(PUBLIC_URL.into());
    options.report_readers = vec![acme, twilio];
    options
}

async fn service(storage: Arc<dyn Storage>, options: AppOptions) -> Service {
    Service::with_storage(storage, Policy::development(), Arc::new(DevelopmentSender), options).await
}

async fn start() -> Service {
    service(Arc::new(MemoryStorage::new()), options()).await
}

async fn call(
    client: &Client,
    method: Method,
    path: &str,
    content_type: &str,
    body: impl Into<reqwest::Body>,
) -> Response {
    let request = client.http.request(method, client.url(path)).body(body);
    client.send(request.header("Content-Type", content_type)).await
}

#[tokio::test]
async fn reports_in_all_formats_get_the_configured_reply() {
    let service = start().await;
    for (method, path, content_type, body) in [
        (Method::POST, format!("{PATH}/?{TOKEN}"), FORM, "id=m1&status=1"),
        (Method::POST, format!("{PATH}?{TOKEN}"), "application/json", r#"{"id": "m1", "status": 1}"#),
        (Method::POST, format!("{PATH}/?{TOKEN}&id=m1&status=2"), FORM, ""),
        (Method::GET, format!("{PATH}/?{TOKEN}&id=m1&status=2"), "", ""),
        (Method::POST, format!("{PATH}/?{TOKEN}"), FORM, "nothing=here"),
    ] {
        let response = call(&service.client, method, &path, content_type, body).await;
        assert_eq!((response.status, &*response.text), (200, "100"), "{path}");
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn invalid_reports_are_rejected() {
    let service = start().await;
    let right = format!("{PATH}/?{TOKEN}");
    let large = vec![b'a'; 17 * 1024];
    for (method, path, content_type, body, status, code) in [
        (Method::POST, PATH, FORM, b"id=m1&status=1".to_vec(), 403, "invalid_signature"),
        (
            Method::GET,
            "/sms/reports/acme?token=0123456789abcdeg&id=m1",
            "",
            Vec::new(),
            403,
            "invalid_signature",
        ),
        (Method::POST, "/sms/reports/twilio/", FORM, b"MessageSid=m1".to_vec(), 403, "invalid_signature"),
        (Method::POST, &right, "text/xml", b"<id>m1</id>".to_vec(), 400, "bad_request"),
        (Method::POST, &right, "application/json", b"\xff".to_vec(), 400, "bad_request"),
        (Method::POST, &right, FORM, large, 413, "payload_too_large"),
        (Method::POST, "/sms/reports/unknown/", FORM, Vec::new(), 404, "not_found"),
        (Method::POST, "/sms/reports/", FORM, Vec::new(), 404, "not_found"),
        (Method::POST, "/sms/reports/acme/x/", FORM, Vec::new(), 404, "not_found"),
        (Method::POST, "/sms/reports/%FF/", FORM, Vec::new(), 404, "not_found"),
    ] {
        call(&service.client, method, path, content_type, body).await.assert_problem(status, code);
    }
    let response = call(&service.client, Method::PUT, &right, FORM, "").await;
    response.assert_problem(405, "method_not_allowed");
    assert_eq!(response.header("allow"), Some("GET, HEAD, POST"));

    let service = Service::start().await;
    call(&service.client, Method::POST, &right, FORM, "id=m1&status=1")
        .await
        .assert_problem(404, "not_found");
}

#[tokio::test]
async fn a_signature_must_cover_the_public_url() {
    let service = start().await;
    let body = "MessageSid=SM0123&MessageStatus=delivered&To=%2B14155550100";
    for (path, signature, status) in [
        ("/sms/reports/twilio/?ref=a%20b", "MuerPx3fWvVVAt7NNAOtre9Rxjs=", 200),
        ("/sms/reports/twilio", "wxbEWurRAZCJScRMdvT9iKv1Qd8=", 200),
        ("/sms/reports/twilio?ref=a%20b", "MuerPx3fWvVVAt7NNAOtre9Rxjs=", 403),
        ("/sms/reports/twilio/", "wxbEWurRAZCJScRMdvT9iKv1Qd8=", 403),
    ] {
        let request = service.client.http.post(service.client.url(path)).body(body);
        let request = request.header("Content-Type", FORM).header("X-Twilio-Signature", signature);
        assert_eq!(service.client.send(request).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_report_that_cannot_be_stored_is_rejected_as_unavailable() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", directory.path().join("referral.db").display());
    let service = service(referral_sqlx::connect(&url).await.expect("a new file"), options()).await;
    service.referral.close().await;
    let path = format!("{PATH}/?{TOKEN}");
    call(&service.client, Method::POST, &path, FORM, "id=m1&status=1")
        .await
        .assert_problem(503, "unavailable");
}

#[tokio::test]
async fn metrics_contain_no_gateway_names_invented_by_callers() {
    let metrics = Metrics::new();
    let mut options = options();
    options.metrics = Some(metrics.clone());
    let service = service(Arc::new(MemoryStorage::new()), options).await;
    for path in ["/sms/reports/made-up/", "/sms/reports/acme", "/sms/reports/acme/made-up"] {
        call(&service.client, Method::POST, path, FORM, "").await;
    }
    let page = metrics.page().into_body().into_string().await.expect("a page");
    let line = |status: u16| {
        format!(
            "referral_http_requests_total{{method=\"POST\",route=\"/sms/reports/{{gateway}}/\",status=\"{status}\"}} 1"
        )
    };
    assert!(page.contains(&line(403)) && page.contains(&line(404)) && !page.contains("made-up"), "{page}");
}

/// Sender that accepts messages for the gateway `acme` with the id `m1`.
struct Acme;

#[async_trait]
impl SmsSender for Acme {
    async fn send(&self, _: &SmsMessage) -> Result<Receipt, SmsError> {
        Ok(Receipt::new("m1").gateway("acme"))
    }
}

#[tokio::test]
async fn a_report_is_counted_once_and_only_for_a_sent_message() {
    let metrics = Metrics::new();
    let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("long enough");
    let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
    let referral = ReferralService::builder(Arc::new(MemoryStorage::new()), Arc::new(Acme), keys, peppers)
        .policy(Policy::development())
        .hook(Arc::new(metrics.clone()))
        .build()
        .expect("a valid policy and a valid key");
    let phone = PhoneNumber::parse(ANNA, None).expect("a number");
    referral.send_code(SendCode::new(phone)).await.expect("sent");
    let client = serve(referral, options()).await;
    for body in ["id=m1&status=1", "id=m1&status=1", "id=m1&status=2", "id=m2&status=2"] {
        call(&client, Method::POST, &format!("{PATH}/?{TOKEN}"), FORM, body).await.ok();
    }
    let page = metrics.page().into_body().into_string().await.expect("a page");
    let statuses: Vec<_> =
        page.lines().filter(|line| line.starts_with("referral_message_statuses_total{")).collect();
    let line = |status| {
        format!("referral_message_statuses_total{{gateway=\"acme\",region=\"RU\",status=\"{status}\"}} 1")
    };
    assert_eq!(statuses.len(), 2, "{statuses:?}");
    assert!(statuses.contains(&&*line("sent")) && statuses.contains(&&*line("delivered")), "{statuses:?}");
}
