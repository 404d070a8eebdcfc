//! Tests of the change of the own phone.

use referral_core::policy::Policy;
use serde_json::{Value, json};

use crate::service::{ANNA, BORIS, MINUTE, Response, Service, SignedIn, VERA};

const CURRENT_USER: &str = "/users/current_user/";
const SEND_CODE: &str = "/users/current_user/phone/send_code/";
const PHONE: &str = "/users/current_user/phone/";

async fn post(service: &Service, path: &str, signed_in: &SignedIn, body: &Value) -> Response {
    let request =
        service.client.request(reqwest::Method::POST, path).bearer_auth(&signed_in.access).json(body);
    service.client.send(request).await
}

async fn send_code(service: &Service, signed_in: &SignedIn, phone: &str) -> Value {
    post(service, SEND_CODE, signed_in, &json!({ "phone": phone })).await.ok()
}

/// Returns the body that redeems a code.
fn with_code(sent: &Value) -> Value {
    json!({ "phone": sent["phone"], "code": sent["code"], "challenge_id": sent["challenge_id"] })
}

#[tokio::test]
async fn a_changed_phone_signs_in_and_the_former_phone_signs_up() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let elsewhere = service.enter(ANNA, None).await;
    let before = service.client.get(CURRENT_USER, &anna.access).await.ok();
    let sent = send_code(&service, &anna, "+7 701 123-45-67").await;
    assert_eq!(sent["phone"], BORIS);

    let changed = post(&service, PHONE, &anna, &with_code(&sent)).await.ok();
    assert_eq!(changed["phone"], BORIS);
    assert_eq!((&changed["id"], &changed["invite_code"]), (&before["id"], &before["invite_code"]));
    assert_eq!(service.client.get(CURRENT_USER, &anna.access).await.ok(), changed);
    service.client.get(CURRENT_USER, &elsewhere.access).await.assert_problem(401, "token_not_valid");
    post(&service, PHONE, &anna, &with_code(&sent)).await.assert_field(400, "own_phone", "phone");

    let again = service.enter(BORIS, None).await;
    assert_eq!((&again.id, &again.body["created"]), (&anna.id, &json!(false)));
    let other = service.enter(ANNA, None).await;
    assert_ne!(other.id, anna.id);
    assert_eq!(other.body["created"], true);
}

#[tokio::test]
async fn a_taken_phone_is_refused_after_the_correct_code_only() {
    let service = Service::start().await;
    let [anna, boris] = [service.enter(ANNA, None).await, service.enter(BORIS, None).await];
    let sent = send_code(&service, &anna, BORIS).await;
    let free = send_code(&service, &anna, VERA).await;
    let names = |body: &Value| body.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&sent), names(&free));
    let mut wrong = with_code(&sent);
    wrong["code"] = json!(if sent["code"] == "0000" { "0001" } else { "0000" });
    post(&service, PHONE, &anna, &wrong).await.assert_problem(403, "invalid_code");
    post(&service, PHONE, &anna, &with_code(&sent)).await.assert_field(409, "phone_taken", "phone");
    post(&service, PHONE, &anna, &with_code(&sent)).await.assert_problem(403, "invalid_code");
    assert_eq!(service.client.get(CURRENT_USER, &anna.access).await.ok()["phone"], ANNA);
    assert_eq!(service.client.get(CURRENT_USER, &boris.access).await.ok()["phone"], BORIS);
    post(&service, SEND_CODE, &anna, &json!({ "phone": ANNA })).await.assert_field(400, "own_phone", "phone");
}

#[tokio::test]
async fn codes_of_different_purposes_are_separate() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let to_sign_in = service.client.post("/auth/send_code/", &json!({ "phone": BORIS })).await.ok();
    post(&service, PHONE, &anna, &with_code(&to_sign_in)).await.assert_problem(403, "invalid_code");
    let sent = send_code(&service, &anna, BORIS).await;
    let refused = service.client.post("/auth/jwt/get_by_phone/", &with_code(&sent)).await;
    refused.assert_problem(403, "invalid_code");
    // The newest code to sign in is found without its challenge.
    let body = json!({ "phone": BORIS, "code": to_sign_in["code"] });
    service.client.post("/auth/jwt/get_by_phone/", &body).await.ok();
}

#[tokio::test]
async fn a_change_needs_a_token_a_phone_a_code_and_its_challenge() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let sent = send_code(&service, &anna, BORIS).await;
    let right = with_code(&sent);
    for path in [SEND_CODE, PHONE] {
        service.client.post(path, &right).await.assert_problem(401, "not_authenticated");
        let request = service.client.request(reqwest::Method::POST, path).bearer_auth(&anna.access);
        service.client.send(request).await.assert_problem(415, "unsupported_media_type");
    }
    for (field, value, code) in [
        ("phone", Value::Null, "wrong_type"),
        ("phone", json!("1"), "invalid_phone"),
        ("code", Value::Null, "wrong_type"),
        ("code", json!(""), "malformed_code"),
        ("challenge_id", Value::Null, "wrong_type"),
        ("challenge_id", json!("x"), "invalid_id"),
        ("locale", json!("ru"), "unknown_field"),
    ] {
        let mut body = right.clone();
        body[field] = value;
        post(&service, PHONE, &anna, &body).await.assert_field(400, code, field);
    }
    for field in ["phone", "code", "challenge_id"] {
        let mut body = right.clone();
        body.as_object_mut().expect("an object").remove(field);
        post(&service, PHONE, &anna, &body).await.assert_field(400, "required", field);
    }
    for (body, code, field) in [
        (json!({}), "required", "phone"),
        (json!({ "phone": BORIS, "locale": 7 }), "wrong_type", "locale"),
        (json!({ "phone": BORIS, "context": 7 }), "invalid_context", "context"),
        (json!({ "phone": "12" }), "invalid_phone", "phone"),
    ] {
        post(&service, SEND_CODE, &anna, &body).await.assert_field(400, code, field);
    }
    // A landline.
    let refused = post(&service, SEND_CODE, &anna, &json!({ "phone": "+78121234567" })).await;
    refused.assert_field(403, "phone_not_allowed", "phone");
    let unknown = json!({ "phone": BORIS, "code": sent["code"], "challenge_id": anna.id });
    post(&service, PHONE, &anna, &unknown).await.assert_problem(403, "invalid_code");
    post(&service, PHONE, &anna, &right).await.ok();
}

#[tokio::test]
async fn codes_of_a_change_and_wrong_codes_are_limited() {
    let service = Service::with_policy(Policy::standard()).await;
    let anna = service.enter(ANNA, None).await;
    let sent = send_code(&service, &anna, BORIS).await;
    let refused = post(&service, SEND_CODE, &anna, &json!({ "phone": BORIS })).await;
    refused.assert_problem(429, "too_many_requests");
    assert!(refused.header("retry-after").is_some());
    let refused = service.client.post("/auth/send_code/", &json!({ "phone": BORIS })).await;
    refused.assert_problem(429, "too_many_requests");
    let mut wrong = with_code(&sent);
    wrong["code"] = json!(if sent["code"] == "0000" { "0001" } else { "0000" });
    for _ in 0..3 {
        post(&service, PHONE, &anna, &wrong).await.assert_problem(403, "invalid_code");
    }
    post(&service, PHONE, &anna, &with_code(&sent)).await.assert_problem(403, "invalid_code");
    service.clock.advance(MINUTE);
    let sent = send_code(&service, &anna, BORIS).await;
    post(&service, PHONE, &anna, &with_code(&sent)).await.ok();
}
