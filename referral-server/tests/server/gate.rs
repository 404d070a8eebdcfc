//! Tests of the gate: the context in requests, its rejections, and the endpoint that the program asks.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD};
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
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers::any};

use crate::{
    program::{Program, directory, run},
    service::{ANNA, BORIS, Client, Service, serve},
};

const KEY: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

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

/// Starts an endpoint that checks the signature, and requires a captcha for codes and a device for sign-ups.
async fn endpoint() -> MockServer {
    let server = MockServer::start().await;
    let respond = |request: &Request| {
        let header = |name| request.headers[name].to_str().expect("text");
        let signed = [header("webhook-id").as_bytes(), header("webhook-timestamp").as_bytes(), &request.body];
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), &signed.join(&b'.'));
        if header("webhook-signature") != format!("v1,{}", BASE64_STANDARD.encode(signature)) {
            return ResponseTemplate::new(401);
        }
        let question: Value = serde_json::from_slice(&request.body).expect("JSON");
        let required = match question["type"].as_str() {
            Some("before_send") => "captcha",
            Some("before_sign_up") => "device",
            _ => return ResponseTemplate::new(500),
        };
        ResponseTemplate::new(200).set_body_json(match question["data"]["context"][required].as_str() {
            Some(_) => json!({ "allow": true }),
            None => json!({ "allow": false, "code": format!("{required}_required"), "detail": "Нет." }),
        })
    };
    Mock::given(any()).respond_with(respond).mount(&server).await;
    server
}

fn write_secret(directory: &Path, mode: u32) {
    let path = directory.join("gate.secret");
    fs::write(&path, format!("whsec_{}\n", BASE64_STANDARD.encode(KEY))).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
}

#[tokio::test]
async fn program_asks_the_endpoint_and_logs_neither_phone_nor_context() {
    let (directory, server) = (directory(), endpoint().await);
    write_secret(directory.path(), 0o600);
    let url = server.uri();
    let arguments =
        ["--gate-url", &url, "--gate-secret-file", "gate.secret", "--metrics-listen", "127.0.0.1:0"];
    let program = Program::start(directory.path(), &[&arguments[..], &["--log", "trace"]].concat());
    let client = &program.client;
    let rejected = client.post("/auth/send_code/", &json!({ "phone": ANNA })).await;
    rejected.assert_problem(403, "rejected_by_host");
    assert_eq!(
        (&rejected.body["reason"], &rejected.body["detail"]),
        (&json!("captcha_required"), &json!("Нет."))
    );

    let send = json!({ "phone": ANNA, "context": { "captcha": "Secret-Captcha" } });
    let sent = client.post("/auth/send_code/", &send).await.ok();
    let mut sign_in = json!({ "phone": ANNA, "code": sent["code"] });
    let rejected = client.post("/auth/jwt/get_by_phone/", &sign_in).await;
    assert_eq!(rejected.body["reason"], "device_required");
    sign_in["context"] = json!({ "device": "Secret-Device" });
    let anna = client.post("/auth/jwt/get_by_phone/", &sign_in).await.ok();

    let sent =
        client.post("/auth/send_code/", &json!({ "phone": BORIS, "context": { "captcha": "x" } })).await.ok();
    let mut sign_in = json!({ "phone": BORIS, "code": sent["code"], "context": { "device": "x" } });
    let anna = client.get("/users/current_user/", anna["access"].as_str().expect("a token")).await.ok();
    sign_in["invited_by_code"] = anna["invite_code"].clone();
    // The endpoint fails for invitations.
    let failed = client.post("/auth/jwt/get_by_phone/", &sign_in).await;
    failed.assert_problem(503, "unavailable");
    assert_eq!(failed.header("retry-after"), Some("1"));

    let page = program.metrics().await;
    for (operation, outcome, count) in [
        ("before_send", "rejected", 1),
        ("before_send", "allowed", 2),
        ("before_sign_up", "rejected", 1),
        ("before_sign_up", "allowed", 2),
        ("before_invitation", "failed", 1),
    ] {
        let labels = format!("operation=\"{operation}\",outcome=\"{outcome}\"");
        let line = format!("referral_gate_questions_total{{{labels}}} {count}");
        assert!(page.lines().any(|metric| metric == line), "{line} is not in:\n{page}");
    }
    let log = program.stop();
    assert!(log.contains("failed to ask the gate") && log.contains("before_invitation"), "{log}");
    for hidden in ["Secret-Captcha", "Secret-Device", "9608543017", "7011234567", "whsec_"] {
        assert!(!log.contains(hidden), "the log contains {hidden}");
    }
}

#[tokio::test]
async fn failed_endpoint_allows_if_configured() {
    let directory = directory();
    write_secret(directory.path(), 0o600);
    let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/gate", unused.local_addr().expect("an address"));
    drop(unused);
    let arguments = ["--gate-url", &url, "--gate-secret-file", "gate.secret", "--gate-on-failure", "allow"];
    let program = Program::start(directory.path(), &arguments);
    program.client.enter(ANNA, None).await;
    let log = program.stop();
    assert!(log.contains("failed to ask the gate") && log.contains("before_sign_up"), "{log}");
}

#[test]
fn mistakes_are_reported_with_the_flag_and_the_correction() {
    let directory = directory();
    write_secret(directory.path(), 0o600);
    let (valid, secret) = ("--gate-url=https://a.example/", "--gate-secret-file=gate.secret");
    let sms = "[gateways.a]\npreset = \"twilio\"\nsettings = { account_sid = \"AC1\", auth_token = \"t\", from = \"A\" }";
    fs::write(directory.path().join("sms.toml"), sms).expect("written");
    fs::write(directory.path().join("empty"), "").expect("written");
    for (arguments, expected) in [
        (&[valid][..], "--gate-url (REFERRAL_GATE_URL) requires a secret"),
        (&[secret], "has no effect without a gate; add --gate-url (REFERRAL_GATE_URL)"),
        (&["--gate-on-failure=allow"], "--gate-on-failure (REFERRAL_GATE_ON_FAILURE) has no effect"),
        (
            &["--gate-url=http://a.example/", secret],
            "--gate-url (REFERRAL_GATE_URL): the URL must start with https://",
        ),
        (
            &[valid, "--gate-secret-file=none"],
            "--gate-secret-file (REFERRAL_GATE_SECRET_FILE): failed to use none",
        ),
        (
            &[valid, "--gate-secret-file=sms.toml"],
            "so other users can read or write it; run: chmod 600 sms.toml",
        ),
        (&[valid, secret, "--gate-timeout=5s"], "raise --request-timeout"),
        (&[valid, secret, "--gate-timeout=0s"], "give 100ms to 30s"),
        (&[valid, secret, "--gate-on-failure=ignore"], "--gate-on-failure (REFERRAL_GATE_ON_FAILURE)"),
        (
            &[valid, secret, "--gate-ca-file=empty"],
            "--gate-ca-file (REFERRAL_GATE_CA_FILE): empty contains no certificate",
        ),
        (&[valid, secret, "--sms-config=sms.toml"], "`time` is 8s and --gate-timeout is 2s"),
    ] {
        let output = run(directory.path(), arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(expected), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(!directory.path().join("referral-data").exists(), "{arguments:?}");
    }
    fs::write(directory.path().join("gate.secret"), "whsec_hunter2").expect("written");
    let output = run(directory.path(), &[valid, secret]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("the secret for Standard Webhooks") && !error.contains("hunter2"), "{error}");
}
