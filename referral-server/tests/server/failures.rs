//! Tests of responses to clients if a dependency of the server fails.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use referral_core::{
    clock::{Clock, SystemClock},
    policy::Policy,
    sms::{DevelopmentSender, Receipt, SmsError, SmsMessage, SmsSender},
    storage::MemoryStorage,
};
use referral_server::AppOptions;
use reqwest::Method;
use serde_json::json;
use time::OffsetDateTime;

use crate::service::{ANNA, Service};

const SEND: &str = "/auth/send_code/";

/// Sender that panics while it sends.
struct PanickingSender;

#[async_trait]
impl SmsSender for PanickingSender {
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError> {
        panic!("to {}: {}", message.phone.as_str(), message.text.reveal());
    }
}

/// Sender that never returns.
struct SilentSender;

#[async_trait]
impl SmsSender for SilentSender {
    async fn send(&self, _: &SmsMessage) -> Result<Receipt, SmsError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn an_unreachable_database_makes_the_service_unavailable_and_not_ready() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", directory.path().join("referral.db").display());
    let storage = referral_sqlx::connect(&url).await.expect("a new file");
    let service = Service::with_storage(
        storage,
        Policy::development(),
        Arc::new(DevelopmentSender),
        AppOptions::default(),
    )
    .await;
    let anna = service.enter(ANNA, None).await;

    service.referral.close().await;
    for response in [
        service.client.post(SEND, &json!({ "phone": ANNA })).await,
        service.client.get("/users/", &anna.access).await,
        service.client.send(service.client.http.get(service.client.url("/health/ready"))).await,
    ] {
        response.assert_problem(503, "unavailable");
        assert_eq!(response.header("retry-after"), Some("1"));
        assert!(
            !response.text.contains("pool"),
            "the response must not contain the cause: {}",
            response.text
        );
    }
    service.client.send(service.client.http.get(service.client.url("/health/live"))).await.ok();
}

/// Clock that is ten seconds behind the clock of the system.
struct Behind;

impl Clock for Behind {
    fn now(&self) -> OffsetDateTime {
        SystemClock.now() - Duration::from_secs(10)
    }
}

#[tokio::test]
async fn a_host_with_a_large_clock_offset_is_not_ready() {
    let storage = Arc::new(MemoryStorage::with_clock(Behind));
    let service = Service::with_storage(
        storage,
        Policy::development(),
        Arc::new(DevelopmentSender),
        AppOptions::default(),
    )
    .await;
    let ready = || service.client.send(service.client.http.get(service.client.url("/health/ready")));
    ready().await.ok();
    service.referral.measure_clock().await.expect("measured");
    let response = ready().await;
    response.assert_problem(503, "unavailable");
    let checks = json!({ "database": "ok", "schema": "ok", "disk": "ok", "keys": "ok", "clock": "failed" });
    assert_eq!(response.body["checks"], checks);
    assert!(!response.text.contains("ms"), "the response must not contain the cause: {}", response.text);
}

#[tokio::test]
async fn a_panic_fails_only_its_request_and_reveals_nothing() {
    let service = Service::with(Policy::development(), Arc::new(PanickingSender)).await;
    for _ in 0..2 {
        let request = service.client.request(Method::POST, SEND).json(&json!({ "phone": ANNA }));
        let response = request.send().await.expect("a response");
        assert_eq!(response.status(), 500);
        let problem: serde_json::Value = response.json().await.expect("a problem");
        assert_eq!(problem["code"], "internal_error");
        assert!(problem["request_id"].is_string());
        assert!(!problem.to_string().contains("9608543017"), "{problem}");
    }
}

#[tokio::test]
async fn a_request_that_exceeds_the_time_limit_is_aborted() {
    let mut options = AppOptions::default();
    options.request_timeout = Duration::from_millis(50);
    let storage = Arc::new(MemoryStorage::new());
    let service =
        Service::with_storage(storage, Policy::development(), Arc::new(SilentSender), options).await;
    service.client.post(SEND, &json!({ "phone": ANNA })).await.assert_problem(503, "unavailable");
}
