//! Tests of concurrent requests of each kind.

use std::sync::Arc;

use referral_core::{policy::Policy, sms::DevelopmentSender};
use referral_server::AppOptions;
use referral_sqlx::SqliteOptions;
use serde_json::{Value, json};

use crate::service::{ANNA, BORIS, Service};

#[tokio::test]
async fn fifty_concurrent_requests_of_each_kind_get_responses_from_memory() {
    send_fifty_requests_of_each_kind(Service::start().await).await;
}

#[tokio::test]
async fn fifty_concurrent_requests_of_each_kind_get_responses_from_sqlite() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("referral.db");
    let storage =
        referral_sqlx::SqliteStorage::open(&file, &SqliteOptions::default()).await.expect("a new file");
    let sender = Arc::new(DevelopmentSender);
    let service =
        Service::with_storage(Arc::new(storage), Policy::development(), sender, AppOptions::default()).await;
    send_fifty_requests_of_each_kind(service).await;
}

async fn send_fifty_requests_of_each_kind(service: Service) {
    let anna = service.enter(ANNA, None).await;
    let sent = service.client.post("/auth/send_code/", &json!({ "phone": BORIS })).await.ok();
    let sign_in = json!({ "phone": BORIS, "code": sent["code"], "challenge_id": sent["challenge_id"] });
    let mut tasks = Vec::new();
    for _ in 0..50 {
        for kind in 0..6 {
            let (client, anna, sign_in) = (service.client.clone(), anna.clone(), sign_in.clone());
            tasks.push(tokio::spawn(async move {
                let response = match kind {
                    0 => client.post("/auth/send_code/", &json!({ "phone": ANNA })).await,
                    1 => client.post("/auth/jwt/get_by_phone/", &sign_in).await,
                    2 => client.post("/auth/jwt/verify/", &json!({ "token": anna.access })).await,
                    3 => client.post("/auth/jwt/refresh/", &json!({ "refresh": anna.refresh })).await,
                    4 => client.get("/users/", &anna.access).await,
                    _ => client.patch(&anna.access, &json!({ "email": "a@example.com" })).await,
                };
                (kind, response)
            }));
        }
    }
    let (mut sent, mut signed_in) = (0, 0);
    let mut refreshed: Vec<Value> = Vec::new();
    for task in tasks {
        let (kind, response) = task.await.expect("no task panics");
        match kind {
            0 if response.status == 200 => sent += 1,
            0 => response.assert_problem(429, "too_many_requests"),
            1 if response.status == 200 => signed_in += 1,
            1 => response.assert_problem(403, "invalid_code"),
            3 => refreshed.push(response.ok()),
            _ => {
                response.ok();
            }
        }
    }
    assert_eq!(
        (sent, signed_in),
        (9, 1),
        "ten codes are allowed for the phone of Anna, and one was sent before"
    );
    refreshed.dedup();
    assert_eq!(refreshed.len(), 1);
}
