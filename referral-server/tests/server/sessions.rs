//! Tests of the list of sessions, and of signing out.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{ANNA, BORIS, Response, Service, SignedIn};

const LOGOUT: &str = "/auth/logout/";
const SESSIONS: &str = "/auth/sessions/";
const CURRENT_USER: &str = "/users/current_user/";

async fn delete(service: &Service, path: &str, access: &str) -> Response {
    service.client.send(service.client.request(Method::DELETE, path).bearer_auth(access)).await
}

async fn session_id(service: &Service, signed_in: &SignedIn) -> String {
    let body = json!({ "token": signed_in.access });
    let verified = service.client.post("/auth/jwt/verify/", &body).await.ok();
    verified["session_id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn signing_out_invalidates_tokens_immediately_and_can_be_repeated() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let body = json!({ "refresh": anna.refresh });
    assert_eq!(service.client.post(LOGOUT, &body).await.ok(), json!({ "ended": 1 }));
    service.client.get(CURRENT_USER, &anna.access).await.assert_problem(401, "token_not_valid");
    service.client.post("/auth/jwt/refresh/", &body).await.assert_problem(401, "token_not_valid");
    let verify = json!({ "token": anna.access });
    service.client.post("/auth/jwt/verify/", &verify).await.assert_problem(401, "token_not_valid");
    assert_eq!(service.client.post(LOGOUT, &body).await.ok(), json!({ "ended": 0 }));
}

#[tokio::test]
async fn only_a_refresh_token_signs_out_after_the_access_token_has_expired() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    service.clock.advance(Duration::from_mins(20));
    for token in [&*anna.access, "garbage"] {
        service
            .client
            .post(LOGOUT, &json!({ "refresh": token }))
            .await
            .assert_problem(401, "token_not_valid");
    }
    service.client.post(LOGOUT, &json!({})).await.assert_field(400, "required", "refresh");
    let body = json!({ "refresh": anna.refresh, "all": true });
    service.client.post(LOGOUT, &body).await.assert_field(400, "unknown_field", "all");
    service.client.post(LOGOUT, &json!({ "refresh": anna.refresh })).await.ok();
}

#[tokio::test]
async fn sessions_are_listed_newest_first_with_address_and_user_agent() {
    let service = Service::start().await;
    let first = service.enter(ANNA, None).await;
    service.clock.advance(Duration::from_mins(5));
    let request =
        service.client.request(Method::POST, "/auth/jwt/refresh/").header("user-agent", "Фирефокс/1.0");
    let refreshed = service.client.send(request.json(&json!({ "refresh": first.refresh }))).await.ok();
    let second = service.enter(ANNA, None).await;
    service.enter(BORIS, None).await;

    let list = service.client.get(SESSIONS, &second.access).await.ok();
    let results = list["results"].as_array().expect("a list");
    let ids: Vec<_> = results.iter().map(|session| session["id"].as_str().expect("an id")).collect();
    assert_eq!(ids, [session_id(&service, &second).await, session_id(&service, &first).await]);
    let current: Vec<_> = results.iter().map(|session| &session["current"]).collect();
    assert_eq!(current, [&Value::Bool(true), &Value::Bool(false)]);
    assert_eq!(results[1]["last_used_at"], "2026-11-22T10:20:30.000000Z");
    assert_eq!(results[1]["expires_at"], "2026-12-22T10:20:30.000000Z");
    assert_eq!(results[1]["user_agent"], "Фирефокс/1.0");
    assert_eq!(results[1]["address"], "127.0.0.1");
    service.client.get(SESSIONS, refreshed["access"].as_str().expect("a token")).await.ok();
}

#[tokio::test]
async fn a_user_can_end_only_sessions_of_their_own() {
    let service = Service::start().await;
    let [first, second] = [service.enter(ANNA, None).await, service.enter(ANNA, None).await];
    let boris = service.enter(BORIS, None).await;
    let path = format!("/auth/sessions/{}/", session_id(&service, &first).await);
    delete(&service, &path, &boris.access).await.assert_problem(404, "not_found");
    assert_eq!(delete(&service, &path, &second.access).await.ok(), json!({ "ended": 1 }));
    service.client.get(CURRENT_USER, &first.access).await.assert_problem(401, "token_not_valid");
    delete(&service, &path, &second.access).await.assert_problem(404, "not_found");
    delete(&service, "/auth/sessions/7/", &second.access).await.assert_problem(404, "not_found");
    delete(&service, &path, "garbage").await.assert_problem(401, "token_not_valid");

    let own = format!("/auth/sessions/{}", session_id(&service, &second).await);
    delete(&service, &own, &second.access).await.ok();
    service.client.get(CURRENT_USER, &second.access).await.assert_problem(401, "token_not_valid");
}

#[tokio::test]
async fn all_other_sessions_are_ended_together() {
    let service = Service::start().await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(service.enter(ANNA, None).await);
    }
    let here = service.enter(ANNA, None).await;
    let boris = service.enter(BORIS, None).await;
    assert_eq!(delete(&service, SESSIONS, &here.access).await.ok(), json!({ "ended": 3 }));
    for other in others {
        service.client.get(CURRENT_USER, &other.access).await.assert_problem(401, "token_not_valid");
    }
    for kept in [&here, &boris] {
        service.client.get(CURRENT_USER, &kept.access).await.ok();
    }
    assert_eq!(delete(&service, SESSIONS, &here.access).await.ok(), json!({ "ended": 0 }));
}
