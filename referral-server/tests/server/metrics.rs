//! Tests of metrics and log, and of data that must not be in them.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use referral_core::{
    CodeInput, PhoneNumber, ReferralService, Region, SendCode, SignIn,
    clock::Clock,
    keys::{Peppers, SigningKeys},
    policy::Policy,
    sms::{
        DeliveryReport, DeliveryStatus, DevelopmentSender, Failover, Receipt, ReportEvidence, SmsError,
        SmsMessage, SmsSender,
    },
    storage::MemoryStorage,
};
use referral_server::Metrics;
use reqwest::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    program::{Program, directory},
    service::{ANNA, BORIS, Client, VERA},
};

const METRICS: &[&str] = &["--metrics-listen", "127.0.0.1:0"];

fn assert_metric(page: &str, line: &str) {
    assert!(page.lines().any(|metric| metric == line), "{line} is not in:\n{page}");
}

#[tokio::test]
async fn metrics_count_requests_messages_and_rejections() {
    let directory = directory();
    let arguments =
        [METRICS, &["--policy", "standard", "--codes-per-address", "2/1h", "--return-codes-to-anyone"]]
            .concat();
    let program = Program::start(directory.path(), &arguments);
    let anna = program.client.enter(ANNA, None).await;
    program.client.get("/users/current_user/", &anna.access).await.ok();
    program.client.get(&format!("/users/{}/", anna.id), &anna.access).await.ok();
    let code = program.client.invite_code(&anna).await;
    program.client.enter(BORIS, Some(&code)).await;
    let body = json!({ "phone": ANNA, "code": "000000" });
    program.client.post("/auth/jwt/get_by_phone/", &body).await.assert_problem(403, "invalid_code");
    for phone in [VERA, VERA, "+78121234567"] {
        program.client.post("/auth/send_code/", &json!({ "phone": phone })).await;
    }
    program.client.post("/auth/logout/", &json!({ "refresh": anna.refresh })).await.ok();
    for path in ["/health/live", "/docs/", "/no/such/path?phone=79608543017"] {
        program.client.http.get(program.client.url(path)).send().await.expect("a response");
    }
    let unknown = Method::from_bytes(b"BREW").expect("a method");
    program.client.http.request(unknown, program.client.url("/pot")).send().await.expect("a response");

    let page = program.metrics().await;
    for line in [
        "referral_codes_sent_total 3",
        "referral_codes_not_sent_total{reason=\"resend_interval\"} 1",
        "referral_codes_not_sent_total{reason=\"phone_not_allowed\"} 1",
        "referral_sign_ins_total 2",
        "referral_sign_ins_refused_total{reason=\"invalid_code\"} 1",
        "referral_users_created_total 2",
        "referral_invitations_accepted_total 1",
        "referral_sessions_ended_total{reason=\"signed_out\"} 1",
        "referral_under_attack 0",
        "referral_http_requests_total{method=\"POST\",route=\"/api/v1/auth/send_code/\",status=\"200\"} 3",
        "referral_http_requests_total{method=\"POST\",route=\"/api/v1/auth/send_code/\",status=\"429\"} 1",
        "referral_http_requests_total{method=\"GET\",route=\"/api/v1/users/{id}/\",status=\"200\"} 1",
        "referral_http_requests_total{method=\"GET\",route=\"/health/live\",status=\"200\"} 1",
        "referral_http_requests_total{method=\"GET\",route=\"/docs/\",status=\"200\"} 1",
        "referral_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"} 1",
        "referral_http_requests_total{method=\"other\",route=\"none\",status=\"404\"} 1",
        "referral_http_request_duration_seconds_count{route=\"/api/v1/users/{id}/\"} 1",
    ] {
        assert_metric(&page, line);
    }
    // Metrics are served only on a separate address.
    let here = program.client.http.get(program.client.url("/metrics")).send().await.expect("a response");
    assert_eq!(here.status(), 404);
}

/// Gateway for Russian numbers, or for all numbers. It numbers messages from 1.
struct Gateway {
    russian_only: bool,
    sent: AtomicU32,
}

impl Gateway {
    fn new(russian_only: bool) -> Self {
        Self { russian_only, sent: AtomicU32::new(0) }
    }
}

#[async_trait]
impl SmsSender for Gateway {
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError> {
        if self.russian_only && message.phone.region() != Region::parse("RU").ok() {
            return Err(SmsError::Temporary("region not supported".into()));
        }
        let mut receipt = Receipt::new(format!("m{}", self.sent.fetch_add(1, Ordering::Relaxed) + 1));
        receipt.revealed_code = Some(message.code.clone());
        Ok(receipt)
    }
}

#[tokio::test]
async fn metrics_distinguish_gateways_and_regions() {
    let metrics = Metrics::new();
    let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("long enough");
    let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
    let sender = Failover::builder()
        .gateway("first", Gateway::new(true))
        .gateway("second", Gateway::new(false))
        .circuit_breaker(1, Duration::from_mins(1))
        .observer(metrics.clone())
        .build()
        .expect("two gateways");
    let referral = ReferralService::builder(Arc::new(MemoryStorage::new()), Arc::new(sender), keys, peppers)
        .policy(Policy::development())
        .hook(Arc::new(metrics.clone()))
        .build()
        .expect("a valid policy and a valid key");
    let phone = |phone| PhoneNumber::parse(phone, None).expect("a number");
    for phone in [ANNA, ANNA, BORIS, VERA].map(phone) {
        referral.send_code(SendCode::new(phone)).await.expect("sent");
    }
    // The circuit of the first gateway is open now, because it failed for Boris.
    let sent = referral.send_code(SendCode::new(phone(ANNA))).await.expect("sent again");
    let code = CodeInput::parse(sent.revealed_code.expect("revealed").reveal()).expect("digits");
    referral.sign_in(SignIn::new(sent.phone, code)).await.expect("signed in");
    let report = |gateway: &str, status| {
        let (gateway, message_id) = (gateway.to_owned(), "m1".to_owned());
        referral.report_delivery(DeliveryReport {
            gateway,
            message_id,
            status,
            evidence: ReportEvidence::Strong,
        })
    };
    for _ in 0..2 {
        report("first", DeliveryStatus::Delivered).await.expect("recorded");
        report("invented", DeliveryStatus::Failed).await.expect("recorded");
    }

    let page = metrics.page().into_body().into_string().await.expect("text");
    for line in [
        "referral_message_statuses_total{gateway=\"first\",region=\"RU\",status=\"sent\"} 2",
        "referral_message_statuses_total{gateway=\"first\",region=\"RU\",status=\"delivered\"} 1",
        "referral_message_statuses_total{gateway=\"second\",region=\"KZ\",status=\"sent\"} 1",
        "referral_message_statuses_total{gateway=\"second\",region=\"US\",status=\"sent\"} 1",
        "referral_message_sign_ins_total{gateway=\"second\",region=\"RU\"} 1",
        "referral_message_attempts_total{gateway=\"first\",region=\"RU\",outcome=\"accepted\"} 2",
        "referral_message_attempts_total{gateway=\"first\",region=\"KZ\",outcome=\"temporary\"} 1",
        "referral_message_attempts_total{gateway=\"first\",region=\"US\",outcome=\"skipped\"} 1",
        "referral_message_attempts_total{gateway=\"second\",region=\"US\",outcome=\"accepted\"} 1",
        "referral_message_duration_seconds_count{gateway=\"first\"} 3",
    ] {
        assert_metric(&page, line);
    }
    assert!(!page.contains("invented"), "a report must not create metrics: {page}");
    Secrets([ANNA, BORIS, VERA].map(|phone| phone[1..].to_owned()).into()).assert_not_in(&page, "a metric");
}

/// Values that must not be disclosed.
#[derive(Default)]
struct Secrets(BTreeSet<String>);

impl Secrets {
    /// Adds the values of fields of a response.
    fn keep(&mut self, response: &Value, fields: &[&str]) {
        self.0.extend(fields.iter().filter_map(|field| response[field].as_str()).map(str::to_owned));
    }

    #[track_caller]
    fn assert_not_in(&self, text: &str, what: &str) {
        for secret in &self.0 {
            let at = text.find(secret.as_str());
            let line = at.map(|at| text[..at].lines().last().unwrap_or_default());
            assert!(at.is_none(), "{what} contains {secret} after: {line:?}");
        }
    }
}

async fn enter(client: &Client, phone: &str, codes: &mut Secrets, tokens: &mut Secrets) -> Value {
    let sent = client.post("/auth/send_code/", &json!({ "phone": phone })).await.ok();
    codes.keep(&sent, &["code"]);
    let wrong = json!({ "phone": phone, "code": "9876543210" });
    codes.keep(&wrong, &["code"]);
    client.post("/auth/jwt/get_by_phone/", &wrong).await.assert_problem(403, "invalid_code");
    let body = json!({ "phone": phone, "code": sent["code"], "challenge_id": sent["challenge_id"] });
    let signed_in = client.post("/auth/jwt/get_by_phone/", &body).await.ok();
    tokens.keep(&signed_in, &["access", "refresh"]);
    signed_in
}

/// Searches the written data for codes of ten digits, which do not occur by chance.
#[tokio::test]
async fn metrics_log_and_stored_data_contain_no_secrets() {
    let directory = directory();
    let arguments = [
        METRICS,
        &["--log", "trace", "--code-length", "10", "--policy", "standard", "--return-codes-to-anyone"],
    ]
    .concat();
    let program = Program::start(directory.path(), &arguments);
    let client = &program.client;
    let (mut codes, mut tokens) = (Secrets::default(), Secrets::default());
    let phones = Secrets([ANNA, BORIS, VERA].map(|phone| phone[1..].to_owned()).into());

    let mut signed_in = Vec::new();
    for phone in [ANNA, BORIS, VERA] {
        signed_in.push(enter(client, phone, &mut codes, &mut tokens).await);
    }
    let access = |index: usize| signed_in[index]["access"].as_str().expect("a token");
    for phone in [ANNA, "+79608543018 or so", "79608543017;DROP"] {
        client.post("/auth/send_code/", &json!({ "phone": phone })).await;
    }
    for path in ["/users/?search=79608543017", "/users/?phone=%2B77011234567", "/auth/sessions/"] {
        client.get(path, access(0)).await.ok();
    }
    client.get("/users/79608543017/", access(0)).await.assert_problem(404, "not_found");
    client.patch(access(1), &json!({ "first_name": "Boris", "email": "boris@example.com" })).await.ok();
    let refresh = json!({ "refresh": signed_in[2]["refresh"] });
    for path in ["/auth/jwt/refresh/", "/auth/jwt/refresh/", "/auth/logout/", "/auth/jwt/refresh/"] {
        let response = client.post(path, &refresh).await;
        tokens.keep(&response.body, &["access", "refresh"]);
    }
    let verify = json!({ "token": signed_in[0]["access"] });
    client.post("/auth/jwt/verify/", &verify).await.ok();

    let metrics = program.metrics().await;
    let log = program.stop();
    assert!(log.contains("code sent") && log.contains("sqlx::query"), "the log must be complete: {log}");
    for (text, what) in [(&metrics, "a metric"), (&log, "the log")] {
        codes.assert_not_in(text, what);
        tokens.assert_not_in(text, what);
        phones.assert_not_in(text, what);
    }
    let mut stored = String::new();
    for entry in std::fs::read_dir(directory.path().join("referral-data")).expect("a directory") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        stored += &String::from_utf8_lossy(&bytes);
    }
    assert!(stored.contains(ANNA), "the data directory must contain phones");
    codes.assert_not_in(&stored, "the data directory");
    tokens.assert_not_in(&stored, "the data directory");
    // Signatures must not be stored either: a token could be reconstructed from its signature.
    let signature = |token: &String| token.rsplit('.').next().unwrap_or_default().to_owned();
    Secrets(tokens.0.iter().map(signature).collect()).assert_not_in(&stored, "the data directory");
}

/// Clock that is two seconds behind the clock of the host.
struct Behind;

impl Clock for Behind {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH - Duration::from_secs(2)
    }
}

/// Clock of a host, which does not advance.
struct Host;

impl Clock for Host {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH
    }
}

#[tokio::test]
async fn the_clock_offset_is_a_metric() {
    let metrics = Metrics::new();
    let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("long enough");
    let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
    let storage = Arc::new(MemoryStorage::with_clock(Behind));
    let referral = ReferralService::builder(storage, Arc::new(DevelopmentSender), keys, peppers)
        .hook(Arc::new(metrics.clone()))
        .clock(Arc::new(Host))
        .build()
        .expect("a valid policy and a valid key");
    for (measured, line) in
        [(false, "referral_clock_offset_seconds 0.0"), (true, "referral_clock_offset_seconds 2.0")]
    {
        if measured {
            referral.measure_clock().await.expect("measured");
        }
        let page = metrics.page().into_body().into_string().await.expect("text");
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }
}
