//! Service with SMS gateways of its own.

use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

use crate::example::{ANNA, Example};

/// Starts a gateway that responds with this status.
async fn gateway(status: u16) -> MockServer {
    let gateway = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(status)).mount(&gateway).await;
    gateway
}

/// Returns the messages that a gateway received.
async fn received(gateway: &MockServer) -> Vec<Value> {
    let requests = gateway.received_requests().await.expect("recorded");
    requests.iter().map(|request| request.body_json().expect("JSON")).collect()
}

#[tokio::test]
async fn code_arrives_through_the_second_gateway_if_the_first_fails() {
    for status in [500, 400, 429] {
        let (first, second) = (gateway(status).await, gateway(202).await);
        let urls = [&*first.uri(), &*second.uri()];
        let example = Example::start(env!("CARGO_BIN_EXE_example-sms-sender"), &urls).await;
        let sent = example.post("/auth/send_code/", &json!({ "phone": ANNA })).await;

        let messages = received(&second).await;
        assert_eq!(messages, received(&first).await, "both gateways receive the same message");
        assert_eq!((messages.len(), &messages[0]["to"]), (1, &json!(ANNA)));
        let text = messages[0]["text"].as_str().expect("text");
        let code: String = text.chars().filter(char::is_ascii_digit).collect();
        assert_eq!(code.len() as u64, sent["code_length"], "{text}");
        assert_eq!(sent.get("code"), None, "the response has no code");

        let body = json!({ "phone": ANNA, "code": code, "challenge_id": sent["challenge_id"] });
        let signed_in = example.post("/auth/jwt/get_by_phone/", &body).await;
        assert!(signed_in["access"].is_string());
    }
}

#[tokio::test]
async fn gateway_that_is_not_reachable_is_skipped() {
    let second = gateway(200).await;
    // No program listens on the port 1.
    let urls = ["http://127.0.0.1:1", &*second.uri()];
    let example = Example::start(env!("CARGO_BIN_EXE_example-sms-sender"), &urls).await;
    example.post("/auth/send_code/", &json!({ "phone": ANNA })).await;
    assert_eq!(received(&second).await.len(), 1);
}
