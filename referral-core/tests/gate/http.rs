//! Gate with an HTTP endpoint. The requests and responses are those in `docs/gate.md`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use referral_core::{
    Client, Error, ProfileChange, Refusal, SendCode,
    clock::Clock as _,
    gate::{Context, GateFailure, GateOptions, HttpGate, HttpGateError, Rejection},
    storage::MemoryStorage,
    test_util::TestService,
};
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use sha2::Sha256;
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers::any};

use crate::decisions::ANNA;

const KEY: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

fn secret() -> String {
    format!("whsec_{}", BASE64_STANDARD.encode(KEY))
}

/// Returns the JSON blocks of the document.
fn documented() -> Vec<Value> {
    let text = include_str!("../../../docs/gate.md");
    let blocks = text.split("```json\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.map(|block| serde_json::from_str(block).expect("JSON")).collect()
}

async fn endpoint(response: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(response).mount(&server).await;
    server
}

fn service(gate: HttpGate, options: GateOptions) -> TestService {
    TestService::with_builder(Arc::new(MemoryStorage::new()), |builder| builder.gate(Arc::new(gate), options))
}

async fn send(service: &TestService) -> Result<(), Error> {
    let phone = service.referral.parse_phone(ANNA).expect("valid");
    service.referral.send_code(SendCode::new(phone)).await.map(drop)
}

/// Sends a code with an endpoint that returns this response.
async fn send_with(response: ResponseTemplate) -> Result<(), Error> {
    let server = endpoint(response).await;
    let gate = HttpGate::new(&server.uri(), &secret()).expect("valid");
    send(&service(gate, GateOptions::default().timeout(Duration::from_secs(30)))).await
}

/// Checks the signature of a request as a host does, and returns the body.
fn verified(request: &Request) -> Value {
    let header = |name| request.headers.get(name).and_then(|value| value.to_str().ok()).expect("a header");
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).expect("any length");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(&request.body);
    let expected = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(header("webhook-signature"), expected);
    assert_eq!((request.method.as_str(), header("content-type")), ("POST", "application/json"));
    serde_json::from_slice(&request.body).expect("JSON")
}

#[tokio::test]
async fn requests_are_signed_and_as_documented() {
    let [documented_send, documented_invitation, allowed, ..] = &documented()[..] else {
        panic!("the document has examples");
    };
    let server = endpoint(ResponseTemplate::new(200).set_body_json(allowed)).await;
    let clock = TestService::new().clock;
    let gate = HttpGate::new(&server.uri(), &secret()).expect("valid").clock(clock.clone());
    let service = service(gate, GateOptions::default());
    let boris = service.sign_in_as("+77011234567").await;
    let anna = service.sign_in_as(ANNA).await;

    let client = Client::default().address("203.0.113.7".parse::<std::net::IpAddr>().expect("an address"));
    let phone = service.referral.parse_phone(ANNA).expect("valid");
    let request = SendCode::new(phone)
        .client(client.user_agent("ExampleApp/4.2".to_owned()))
        .locales(["ru-RU", "en"].map(|locale| locale.parse().expect("a locale")))
        .context(Context::try_from(json!({ "captcha": "03AFcWeA" })).expect("valid"));
    service.referral.send_code(request).await.expect("sent");
    let current_user = service.referral.authenticate(&anna.tokens.access).await.expect("valid");
    let invited_by_code = Some(boris.user.invite_code.clone());
    let change = ProfileChange { invited_by_code, ..ProfileChange::default() };
    let edit = referral_core::EditProfile::new(change);
    service.referral.edit_profile(&current_user, edit).await.expect("accepted");

    let requests = server.received_requests().await.expect("recorded");
    let bodies: Vec<_> = requests.iter().map(verified).collect();
    let types: Vec<_> = bodies.iter().map(|body| body["type"].as_str().expect("a type")).collect();
    let [send, sign_up, invitation] = ["before_send", "before_sign_up", "before_invitation"];
    assert_eq!(types, [send, sign_up, send, sign_up, send, invitation]);
    assert_eq!(bodies[1]["data"]["invitation"], Value::Null);
    let ids: BTreeSet<_> =
        requests.iter().map(|request| &request.headers["webhook-id"]).map(HeaderValue::as_bytes).collect();
    assert_eq!(ids.len(), requests.len(), "each question has its own id");

    let with_time = |documented: &Value| {
        let mut expected = documented.clone();
        expected["timestamp"] = json!("2026-01-01T00:00:00Z");
        expected
    };
    assert_eq!(clock.now().unix_timestamp().to_string(), requests[0].headers["webhook-timestamp"]);
    assert_eq!(bodies[4], with_time(documented_send));
    let mut expected = with_time(documented_invitation);
    let invitation = &mut expected["data"]["invitation"];
    invitation["inviter_id"] = json!(boris.user.id.to_string());
    invitation["invitee_id"] = json!(anna.user.id.to_string());
    invitation["invite_code"] = json!(boris.user.invite_code.to_string());
    assert_eq!(bodies[5], expected);
}

#[tokio::test]
async fn documented_responses_allow_and_reject() {
    let [_, _, allowed, rejected, ..] = &documented()[..] else { panic!("the document has examples") };
    send_with(ResponseTemplate::new(200).set_body_json(allowed)).await.expect("sent");
    let refused = send_with(ResponseTemplate::new(200).set_body_json(rejected)).await;
    let expected = Rejection::new("captcha_required", "Solve the captcha and try again.").expect("valid");
    assert!(
        matches!(&refused, Err(Error::Refused(Refusal::RejectedByHost(actual))) if *actual == expected),
        "{refused:?}"
    );
}

#[tokio::test]
async fn other_responses_are_failures() {
    let body = |status: u16, body: &str| ResponseTemplate::new(status).set_body_string(body);
    let other = endpoint(body(200, r#"{"allow": true}"#)).await;
    let long = format!(r#"{{"allow": true, "padding": "{}"}}"#, "x".repeat(8 * 1024));
    let rejects =
        |code: &str, detail: &str| json!({"allow": false, "code": code, "detail": detail}).to_string();
    for (response, expected) in [
        (body(201, r#"{"allow": true}"#), "HTTP 201"),
        (body(204, ""), "HTTP 204"),
        (body(302, r#"{"allow": true}"#).insert_header("location", other.uri()), "HTTP 302"),
        (body(403, r#"{"allow": false}"#), "HTTP 403"),
        (body(500, "secret"), "HTTP 500"),
        (body(200, ""), "must be JSON"),
        (body(200, "{}"), "must be JSON"),
        (body(200, "null"), "must be JSON"),
        (body(200, r#"{"allow": "true"}"#), "must be JSON"),
        (body(200, r#"{"allow": 1}"#), "must be JSON"),
        (body(200, r#"{"allow": true, "allow": false}"#), "must be JSON"),
        (body(200, r#"{"allow": true} x"#), "must be JSON"),
        (body(200, &long), "more than 8192 bytes"),
        (body(200, r#"{"allow": false}"#), "code of a rejection"),
        (body(200, &rejects("Bad Code", "No.")), "code of a rejection"),
        (body(200, &rejects("no", "")), "text of a rejection"),
        (body(200, &rejects("no", "a\u{0}b")), "text of a rejection"),
    ] {
        let failed = send_with(response).await;
        let Err(Error::GateFailed { failure: GateFailure::Failed(reason), .. }) = failed else {
            panic!("{expected}: {failed:?}");
        };
        assert!(reason.contains(expected) && !reason.contains("secret"), "{reason}");
    }
    assert_eq!(other.received_requests().await.expect("recorded").len(), 0, "redirects are not followed");
}

#[tokio::test]
async fn unreachable_and_silent_endpoints_are_failures() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", unused.local_addr().expect("an address"));
    // The connection is accepted by the backlog, and no response follows.
    let gate = HttpGate::new(&url, &secret()).expect("valid");
    let failed = send(&service(gate, GateOptions::default().timeout(Duration::from_millis(50)))).await;
    assert!(matches!(&failed, Err(Error::GateFailed { failure: GateFailure::TimedOut, .. })), "{failed:?}");

    drop(unused);
    let gate = HttpGate::new(&url, &secret()).expect("valid");
    let failed = send(&service(gate, GateOptions::default().timeout(Duration::from_secs(30)))).await;
    let Err(Error::GateFailed { failure: GateFailure::Failed(reason), .. }) = failed else {
        panic!("{failed:?}");
    };
    assert!(reason.starts_with("failed to connect: ") && !reason.contains("http://"), "{reason}");
}

#[test]
fn url_is_encrypted_or_on_loopback() {
    for url in ["https://a.example/gate?x=1", "http://127.0.0.1:1", "http://localhost/", "http://[::1]/"] {
        assert!(HttpGate::new(url, &secret()).is_ok(), "{url}");
    }
    for url in [
        "",
        "a.example",
        "http://a.example/",
        "http://10.0.0.1/",
        "ftp://127.0.0.1/",
        "https://u:p@a.example/",
    ] {
        assert_eq!(HttpGate::new(url, &secret()).err(), Some(HttpGateError::Url), "{url}");
    }
    for secret in ["", "whsec_", "whsec_c2hvcnQ=", &secret()[6..]] {
        let error = HttpGate::new("https://a.example/", secret).expect_err("invalid");
        assert!(matches!(error, HttpGateError::Secret(_)), "{error}");
    }
    let gate = HttpGate::new("https://a.example/", &secret()).expect("valid");
    assert_eq!(format!("{gate:?}"), "HttpGate(…)");
    assert!(matches!(gate.trust("/does/not/exist".as_ref()), Err(HttpGateError::Client(_))));
}
