//! Tests of the gate: the context in requests, and its rejections.

use std::sync::Arc;

use referral_core::{
    ReferralService,
    gate::{GateOptions, Rejection, Verdict},
    keys::{Peppers, SigningKeys},
    policy::Policy,
    random::SystemRandom,
    sms::DevelopmentSender,
    storage::MemoryStorage,
    test_util::{GateQuestion, RecordingGate},
};
use referral_server::AppOptions;
use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{ANNA, BORIS, Client, Service, serve};

/// Starts the API with a gate.
async fn gated(gate: &RecordingGate) -> Client {
    let (keys, peppers) = (SigningKeys::generate(&SystemRandom), Peppers::generate(&SystemRandom));
    let storage = Arc::new(MemoryStorage::new());
    let referral = ReferralService::builder(storage, Arc::new(DevelopmentSender), keys, peppers)
        .policy(Policy::development())
        .gate(Arc::new(gate.clone()), GateOptions::default())
        .build()
        .expect("a valid policy and a valid key");
    serve(referral, AppOptions::default()).await
}

#[tokio::test]
async fn context_is_an_object_of_at_most_four_kib() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let deep = (0..50).fold(json!(1), |inner, _| json!([inner]));
    for context in
        [json!(null), json!({}), json!({ "a\u{0}": ["\u{1f600}", 1.5, null] }), json!({ "a": deep })]
    {
        let body = json!({ "phone": BORIS, "context": context });
        service.client.post("/auth/send_code/", &body).await.ok();
        service.client.patch(&anna.access, &json!({ "context": context })).await.ok();
    }
    let long = json!({ "a": "x".repeat(4_096) });
    for context in [json!([]), json!("{}"), json!(""), json!(1), json!(true), long] {
        let sent =
            service.client.post("/auth/send_code/", &json!({ "phone": BORIS, "context": context })).await;
        sent.assert_field(400, "invalid_context", "context");
        let body = json!({ "phone": BORIS, "code": "0000", "context": context });
        let signed_in = service.client.post("/auth/jwt/get_by_phone/", &body).await;
        signed_in.assert_field(400, "invalid_context", "context");
        let edited = service.client.patch(&anna.access, &json!({ "context": context })).await;
        edited.assert_field(400, "invalid_context", "context");
    }
}

#[tokio::test]
async fn rejection_has_the_code_and_the_text_of_the_host() {
    let gate = RecordingGate::new(|question| {
        let (GateQuestion::Send(caller)
        | GateQuestion::SignUp(caller, _)
        | GateQuestion::Invitation(caller, _)) = question
        else {
            return Ok(Verdict::Allow);
        };
        if caller.context.get("captcha") == Some(&json!("solved")) {
            return Ok(Verdict::Allow);
        }
        let locale = caller.locales.first().map_or("none", |locale| locale.as_str());
        Ok(Verdict::Reject(Rejection::new("captcha_required", format!("Captcha ({locale})."))?))
    });
    let client = gated(&gate).await;
    let request = |method, path: &str, body: &Value| {
        let request = client.request(method, path).json(body).header("accept-language", "ru-RU");
        client.send(request.header("user-agent", "app/1.0"))
    };
    let assert_rejected = |response: &crate::service::Response| {
        response.assert_problem(403, "rejected_by_host");
        assert_eq!(response.body["reason"], "captcha_required");
        assert_eq!(response.body["detail"], "Captcha (ru-RU).");
        assert_eq!(response.body["type"], "urn:referral:problem:rejected_by_host");
    };
    let context = json!({ "captcha": "solved" });
    let send = "/auth/send_code/";
    assert_rejected(&request(Method::POST, send, &json!({ "phone": ANNA })).await);
    let body = json!({ "phone": ANNA, "context": context });
    let sent = request(Method::POST, send, &body).await.ok();

    let sign_in = "/auth/jwt/get_by_phone/";
    let mut body = json!({ "phone": ANNA, "code": sent["code"], "challenge_id": sent["challenge_id"] });
    assert_rejected(&request(Method::POST, sign_in, &body).await);
    body["context"] = context.clone();
    let anna = request(Method::POST, sign_in, &body).await.ok();
    let access = anna["access"].as_str().expect("a token");

    // Boris invites Anna.
    let sent = request(Method::POST, send, &json!({ "phone": BORIS, "context": context })).await.ok();
    body = json!({ "phone": BORIS, "code": sent["code"], "context": context });
    let boris = request(Method::POST, sign_in, &body).await.ok();
    let boris = client.get("/users/current_user/", boris["access"].as_str().expect("a token")).await.ok();
    let patch = |body: Value| {
        let request = client.request(Method::PATCH, "/users/current_user/").bearer_auth(access);
        client.send(request.json(&body).header("accept-language", "ru-RU"))
    };
    assert_rejected(&patch(json!({ "invited_by_code": boris["invite_code"] })).await);
    let edited = patch(json!({ "invited_by_code": boris["invite_code"], "context": context })).await.ok();
    assert_eq!(edited["invited_by_code"], boris["invite_code"]);
    let user_agents = gate.questions().into_iter().filter_map(|question| match question {
        GateQuestion::Send(caller) => caller.user_agent,
        _ => None,
    });
    assert!(user_agents.eq(["app/1.0"; 3]));
}
