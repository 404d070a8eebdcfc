//! Tests of the deletion of the own account.

use std::time::Duration;

use referral_core::policy::Policy;
use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{ANNA, BORIS, MINUTE, Response, Service, SignedIn, VERA, with_grace};

const DAY: Duration = Duration::from_hours(24);

const CURRENT_USER: &str = "/users/current_user/";
const SEND_DELETION_CODE: &str = "/users/current_user/deletion/send_code/";

async fn send(service: &Service, method: Method, path: &str, access: &str, body: &Value) -> Response {
    let request = service.client.request(method, path).bearer_auth(access).json(body);
    service.client.send(request).await
}

async fn send_deletion_code(service: &Service, signed_in: &SignedIn) -> Value {
    send(service, Method::POST, SEND_DELETION_CODE, &signed_in.access, &json!({})).await.ok()
}

async fn delete(service: &Service, signed_in: &SignedIn, body: &Value) -> Response {
    send(service, Method::DELETE, CURRENT_USER, &signed_in.access, body).await
}

async fn start_with_grace() -> Service {
    Service::with_policy(with_grace(7 * DAY)).await
}

/// Returns the body that redeems a code.
fn with_code(sent: &Value) -> Value {
    json!({ "code": sent["code"], "challenge_id": sent["challenge_id"] })
}

#[tokio::test]
async fn a_deleted_account_is_gone_and_its_phone_can_sign_up_again() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let code = service.client.invite_code(&anna).await;
    service.clock.advance(MINUTE / 60);
    let boris = service.enter(BORIS, Some(&code)).await;
    let boris_code = service.client.invite_code(&boris).await;
    service.clock.advance(MINUTE / 60);
    let vera = service.enter(VERA, Some(&boris_code)).await;

    let sent = send_deletion_code(&service, &boris).await;
    assert_eq!(sent["phone"], BORIS);
    assert_eq!(delete(&service, &boris, &with_code(&sent)).await.ok(), json!({ "ended": 1 }));

    service.client.get(CURRENT_USER, &boris.access).await.assert_problem(401, "token_not_valid");
    delete(&service, &boris, &with_code(&sent)).await.assert_problem(401, "token_not_valid");
    let by_id = format!("/users/{}/", boris.id);
    service.client.get(&by_id, &anna.access).await.assert_problem(404, "not_found");
    let invited = format!("{by_id}invited/");
    service.client.get(&invited, &anna.access).await.assert_problem(404, "not_found");
    let profile = service.client.get(CURRENT_USER, &anna.access).await.ok();
    assert_eq!((&profile["invited"], &profile["invited_count"]), (&json!([]), &json!(1)));
    let invited = format!("/users/{}/invited/", anna.id);
    let invited = service.client.get(&invited, &anna.access).await.ok();
    assert_eq!(invited, json!({ "count": 1, "next": null, "results": [] }));
    let list = service.client.get("/users/", &anna.access).await.ok();
    assert_eq!(list["count"], 2);
    let profile = service.client.get(CURRENT_USER, &vera.access).await.ok();
    assert_eq!(profile["invited_by_code"], boris_code);

    let sent = service.client.post("/auth/send_code/", &json!({ "phone": VERA })).await.ok();
    let body = json!({
        "phone": VERA, "code": sent["code"], "challenge_id": sent["challenge_id"], "invited_by_code": boris_code,
    });
    let refused = service.client.post("/auth/jwt/get_by_phone/", &body).await;
    refused.assert_field(400, "unknown_invite_code", "invited_by_code");
    let again = service.enter(BORIS, None).await;
    assert_ne!(again.id, boris.id);
    assert_eq!(again.body["created"], true);
}

#[tokio::test]
async fn an_account_is_deleted_at_the_end_of_its_grace_period() {
    let service = start_with_grace().await;
    let [anna, boris] = [service.enter(ANNA, None).await, service.enter(BORIS, None).await];
    let deleted = service.client.delete_account(&boris).await;
    assert_eq!(deleted["ended"], 1);
    let deletion_at = deleted["deletion_at"].as_str().expect("a time");
    assert!(deletion_at.starts_with("2026-11-29T10:15:30."), "{deletion_at}");
    service.client.get(CURRENT_USER, &boris.access).await.assert_problem(401, "token_not_valid");
    let refresh = json!({ "refresh": boris.refresh });
    let refreshed = service.client.post("/auth/jwt/refresh/", &refresh).await;
    refreshed.assert_problem(401, "token_not_valid");

    // Other users see the user, and not the time of the deletion.
    let by_id = format!("/users/{}/", boris.id);
    let seen = service.client.get(&by_id, &anna.access).await.ok();
    assert_eq!((&seen["phone"], seen.get("deletion_at")), (&json!(BORIS), None));
    service.clock.advance((7 * DAY).saturating_sub(MINUTE));
    service.referral.run_maintenance().await.expect("maintained");
    let anna = service.enter(ANNA, None).await;
    service.client.get(&by_id, &anna.access).await.ok();
    service.clock.advance(MINUTE);
    service.referral.run_maintenance().await.expect("maintained");
    service.client.get(&by_id, &anna.access).await.assert_problem(404, "not_found");
    let again = service.enter(BORIS, None).await;
    assert_eq!(again.body["created"], true);
}

#[tokio::test]
async fn a_sign_in_in_the_grace_period_keeps_the_account() {
    let service = start_with_grace().await;
    let boris = service.enter(BORIS, None).await;
    service.client.delete_account(&boris).await;
    service.clock.advance((7 * DAY).saturating_sub(MINUTE));
    let again = service.enter(BORIS, None).await;
    assert_eq!((&again.id, &again.body["created"]), (&boris.id, &json!(false)));
    service.clock.advance(2 * MINUTE);
    service.referral.run_maintenance().await.expect("maintained");
    service.client.get(CURRENT_USER, &again.access).await.ok();
}

#[tokio::test]
async fn a_code_to_sign_in_deletes_no_account() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let sent = service.client.post("/auth/send_code/", &json!({ "phone": ANNA })).await.ok();
    delete(&service, &anna, &with_code(&sent)).await.assert_problem(403, "invalid_code");

    let sent = send_deletion_code(&service, &anna).await;
    let mut body = with_code(&sent);
    body["phone"] = json!(ANNA);
    let refused = service.client.post("/auth/jwt/get_by_phone/", &body).await;
    refused.assert_problem(403, "invalid_code");
    delete(&service, &anna, &with_code(&sent)).await.ok();
}

#[tokio::test]
async fn a_deletion_needs_a_token_a_code_and_its_challenge() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let sent = send_deletion_code(&service, &anna).await;
    let right = with_code(&sent);
    for (method, path) in [(Method::POST, SEND_DELETION_CODE), (Method::DELETE, CURRENT_USER)] {
        let request = service.client.request(method.clone(), path).json(&right);
        service.client.send(request).await.assert_problem(401, "not_authenticated");
        let request = service.client.request(method, path).bearer_auth(&anna.access);
        service.client.send(request).await.assert_problem(415, "unsupported_media_type");
    }
    for (field, value, code) in [
        ("code", Value::Null, "wrong_type"),
        ("code", json!(""), "malformed_code"),
        ("code", json!("47\u{0}11"), "malformed_code"),
        ("code", json!({ "digits": 4711 }), "wrong_type"),
        ("challenge_id", Value::Null, "wrong_type"),
        ("challenge_id", json!("x"), "invalid_id"),
        ("challenge_id", json!(1), "wrong_type"),
        ("phone", json!(ANNA), "unknown_field"),
    ] {
        let mut body = right.clone();
        body[field] = value;
        delete(&service, &anna, &body).await.assert_field(400, code, field);
    }
    for field in ["code", "challenge_id"] {
        let mut body = right.clone();
        body.as_object_mut().expect("an object").remove(field);
        delete(&service, &anna, &body).await.assert_field(400, "required", field);
    }
    delete(&service, &anna, &json!({ "code": "4", "challenge_id": sent["challenge_id"] }))
        .await
        .assert_problem(400, "malformed_code");
    let unknown = json!({ "code": sent["code"], "challenge_id": anna.id });
    delete(&service, &anna, &unknown).await.assert_problem(403, "invalid_code");
    let body = json!({ "locale": 7 });
    let refused = send(&service, Method::POST, SEND_DELETION_CODE, &anna.access, &body).await;
    refused.assert_field(400, "wrong_type", "locale");
    delete(&service, &anna, &right).await.ok();
}

#[tokio::test]
async fn deletion_codes_and_wrong_deletion_codes_are_limited() {
    let service = Service::with_policy(Policy::standard()).await;
    let anna = service.enter(ANNA, None).await;
    let sent = send_deletion_code(&service, &anna).await;
    let body = json!({});
    let refused = send(&service, Method::POST, SEND_DELETION_CODE, &anna.access, &body).await;
    refused.assert_problem(429, "too_many_requests");
    assert!(refused.header("retry-after").is_some());
    let mut wrong = with_code(&sent);
    wrong["code"] = json!(if sent["code"] == "0000" { "0001" } else { "0000" });
    for _ in 0..3 {
        delete(&service, &anna, &wrong).await.assert_problem(403, "invalid_code");
    }
    delete(&service, &anna, &with_code(&sent)).await.assert_problem(403, "invalid_code");
    service.client.get(CURRENT_USER, &anna.access).await.ok();
}
