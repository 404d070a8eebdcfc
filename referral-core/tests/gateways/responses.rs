//! Responses of gateways and their interpretation.

use referral_core::{
    sms::{SmsError, SmsSender as _},
    test_util::ManualClock,
};
use time::macros::datetime;
use wiremock::ResponseTemplate;

use crate::fake::{self, message, sender};

const RULES: &str = r#"
    form = { to = "{phone}" }
    [response]
    accepted = { status = [200, 201], at = "/items/0/status", is = ["0", "true"] }
    message_id = "/items/0/id"
    error_code = ["/error", "/items/0/status"]
    permanent = [{ status = [404] }, { at = "/items/0/status", is = ["7"] }]
    temporary = [{ status = [500], at = "/items/0/status", is = ["8"] }]
    busy = [{ at = "/items/0/status", is = ["9"] }]
    unknown = [{ text = "(?i)try to find out" }]
"#;

/// Returns the sender's interpretation of a response, in short form.
async fn read(rules: &str, response: ResponseTemplate) -> String {
    let gateway = fake::gateway(response).await;
    let sender = sender(&format!("url = \"{}\"\n{rules}", gateway.uri())).expect("valid configuration");
    let sender = sender.clock(ManualClock::new(datetime!(2026-11-25 08:00 UTC)));
    let read = fake::meaning(&sender.send(&message()).await);
    assert_eq!(gateway.received_requests().await.expect("recorded").len(), 1, "one request");
    read
}

#[tokio::test]
async fn response_is_interpreted_by_the_rules_and_then_by_its_status() {
    for (status, body, meaning) in [
        (200, r#"{"items":[{"status":"0","id":"m1"}]}"#, "accepted m1"),
        (201, r#"{"items":[{"status":0,"id":17}]}"#, "accepted 17"),
        (200, r#"{"items":[{"status":true}]}"#, "accepted -"),
        (200, r#"{"items":[{"status":"0","id":{"no":"id"}}]}"#, "accepted -"),
        // An error in the body.
        (200, r#"{"items":[{"status":"7"}]}"#, "permanent: HTTP 200, code 7"),
        (200, r#"{"items":[{"status":"5"}]}"#, "temporary: HTTP 200, code 5"),
        (200, r#"{"items":[{"status":"9"}]}"#, "temporary: HTTP 200, code 9"),
        // Accepted according to the body, but with another status.
        (202, r#"{"items":[{"status":"0"}]}"#, "unknown: HTTP 202, code 0"),
        (404, "", "permanent: HTTP 404"),
        (400, "no JSON", "temporary: HTTP 400"),
        (401, r#"{"items":[{"status":"79608543017"}]}"#, "temporary: HTTP 401"),
        (401, r#"{"items":[{"status":"wrong number +79608543017"}]}"#, "temporary: HTTP 401"),
        (401, r#"{"items":[{"status":"4711"}]}"#, "temporary: HTTP 401"),
        (500, r#"{"items":[{"status":"8"}]}"#, "temporary: HTTP 500, code 8"),
        // Unknown results.
        (500, "", "unknown: HTTP 500"),
        (502, "<html>", "unknown: HTTP 502"),
        (504, "", "unknown: HTTP 504"),
        (200, "", "unknown: HTTP 200"),
        (200, "<html>all is well</html>", "unknown: HTTP 200"),
        (200, r#"{"items":[]}"#, "unknown: HTTP 200"),
        (200, r#"{"items":[{"status":null}]}"#, "unknown: HTTP 200"),
        (200, r#"{"items":[{"status":"0","id":"m1"}"#, "unknown: HTTP 200"),
        (400, "Try to find out", "unknown: HTTP 400"),
        (503, "", "temporary: HTTP 503"),
        (429, "", "temporary: HTTP 429"),
    ] {
        let response = ResponseTemplate::new(status).set_body_string(body);
        assert_eq!(read(RULES, response).await, meaning, "{status} {body}");
    }
}

#[tokio::test]
async fn retry_after_of_a_busy_gateway_is_read() {
    for (status, body, retry_after, meaning) in [
        (429, "", "17", "busy 17s: HTTP 429"),
        (503, "", "17", "busy 17s: HTTP 503"),
        (200, r#"{"items":[{"status":"9"}]}"#, "5", "busy 5s: HTTP 200, code 9"),
        (429, "", "Wed, 25 Nov 2026 08:02:00 GMT", "busy 120s: HTTP 429"),
        // A date in the past, or not a valid time.
        (429, "", "Wed, 25 Nov 2026 07:00:00 GMT", "temporary: HTTP 429"),
        (429, "", "-5", "temporary: HTTP 429"),
        (429, "", "0", "temporary: HTTP 429"),
        (429, "", "18446744073709551615", "busy 3600s: HTTP 429"),
        (429, "", "soon", "temporary: HTTP 429"),
        // An accepted message stays accepted.
        (200, r#"{"items":[{"status":"0","id":"m1"}]}"#, "5", "accepted m1"),
    ] {
        let response =
            ResponseTemplate::new(status).set_body_string(body).insert_header("retry-after", retry_after);
        assert_eq!(read(RULES, response).await, meaning, "{status} {body} {retry_after}");
    }
}

#[tokio::test]
async fn status_decides_without_rules() {
    let rules = "form = { to = \"{phone}\" }\nresponse.message_id = { text = \"^OK (\\\\d+)\" }";
    for (status, body, meaning) in [
        (200, "OK 17", "accepted 17"),
        (204, "", "accepted -"),
        (302, "OK 17", "unknown: HTTP 302"),
        (307, "OK 17", "temporary: HTTP 307"),
        (403, "OK 17", "temporary: HTTP 403"),
        (500, "OK 17", "unknown: HTTP 500"),
    ] {
        let response = ResponseTemplate::new(status).set_body_string(body);
        assert_eq!(read(rules, response).await, meaning, "{status} {body}");
    }
}

#[tokio::test]
async fn response_that_is_not_understood_is_not_a_rejection() {
    for (rules, status, body, expected) in [
        ("response.accepted = { status = [200] }", 202, "", "unknown: HTTP 202"),
        ("response.accepted = { status = [200] }", 303, "", "unknown: HTTP 303"),
        ("response.accepted = { text = \"^OK\" }", 200, "Thanks", "unknown: HTTP 200"),
        (
            "response = { accepted = { text = \"^OK\" }, temporary = [{ text = \"^ERR\" }] }",
            200,
            "ERR",
            "temporary: HTTP 200",
        ),
        ("response.accepted = { without = \"/error\" }", 200, r#"{"error":"x"}"#, "temporary: HTTP 200"),
    ] {
        let response = ResponseTemplate::new(status).set_body_string(body);
        assert_eq!(read(rules, response).await, expected, "{rules} {body}");
    }
}

#[tokio::test]
async fn endless_response_is_read_up_to_a_maximum() {
    let huge = "x".repeat(10 * 1024 * 1024);
    assert_eq!(
        read(RULES, ResponseTemplate::new(200).set_body_string(huge.clone())).await,
        "unknown: HTTP 200"
    );
    assert_eq!(read(RULES, ResponseTemplate::new(400).set_body_string(huge)).await, "temporary: HTTP 400");
}

/// Returns the sender's interpretation of an invalid response.
async fn read_raw(response: Option<&'static [u8]>, more: &str) -> Result<(), SmsError> {
    let url = fake::raw(response).await;
    let config = format!(
        "url = \"{url}\"\n{more}\njson = {{ to = \"{{phone}}\", end = 1 }}\n\
         response = {{ accepted = {{ at = \"/ok\", is = [\"true\"] }} }}"
    );
    sender(&config).expect("valid configuration").send(&message()).await.map(drop)
}

#[tokio::test]
async fn result_is_unknown_after_an_incomplete_response() {
    for (response, reason) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"ok\":tr"[..], "HTTP 200"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"ok\"", "HTTP 200"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "the connection was lost"),
        (b"\x00\xff garbage \r\n\r\n", "the connection was lost"),
        (b"", "the connection was lost"),
    ] {
        let read = read_raw(Some(response), "").await;
        assert!(matches!(&read, Err(SmsError::Unknown(actual)) if actual == reason), "{read:?}");
    }
    // The received part is sufficient.
    let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"ok\":true}";
    read_raw(Some(whole), "").await.expect("accepted");
}

#[tokio::test]
async fn request_without_a_response_is_canceled() {
    let read = read_raw(None, "timeout = \"1s\"\nconnect_timeout = \"900ms\"").await;
    assert!(matches!(&read, Err(SmsError::Unknown(actual)) if actual == "no response in time"), "{read:?}");
    // The same applies if a part of the response was received.
    let url = fake::raw_then_silent(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{").await;
    let config = format!(
        "url = \"{url}\"\ntimeout = \"1s\"\nconnect_timeout = \"900ms\"\njson = {{ end = 1 }}\n\
         response = {{ accepted = {{ at = \"/ok\" }} }}"
    );
    let read = sender(&config).expect("valid configuration").send(&message()).await;
    assert!(matches!(&read, Err(SmsError::Unknown(_))), "{read:?}");
}

#[tokio::test]
async fn nothing_was_sent_without_a_connection() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("free port");
        listener.local_addr().expect("local address")
    };
    let speaks_no_tls = fake::gateway(ResponseTemplate::new(200)).await;
    for url in
        [format!("http://{closed}/{{text}}"), format!("https://{}/?text={{text}}", speaks_no_tls.address())]
    {
        let sender = sender(&format!("url = \"{url}\"\nform = {{ text = \"{{text}}\" }}"))
            .expect("valid configuration");
        let error = sender.send(&message()).await.expect_err("unreachable");
        assert!(
            matches!(&error, SmsError::Temporary(actual) if actual.starts_with("failed to connect: ")),
            "{error:?}"
        );
        for hidden in ["4711", "9608543017"] {
            assert!(!format!("{error:?}").contains(hidden), "{error:?}");
        }
    }
}

#[test]
fn timeouts_have_limits() {
    let sender = |times: &str| sender(&format!("url = \"https://gateway.example\"\n{times}"));
    let bounds = "a timeout must be longer than zero and at most a minute";
    let order = "`connect_timeout` must be shorter than `timeout`";
    for (times, expected) in [
        ("timeout = \"2m\"", bounds),
        ("timeout = \"0s\"", bounds),
        ("timeout = \"1s\"", order),
        ("connect_timeout = \"4s\"", order),
        ("timeout = 5", "expected a string"),
    ] {
        let error = sender(times).expect_err(times).to_string();
        assert!(error.contains(expected), "{times}: {error}");
    }
    sender("timeout = \"60s\"\nconnect_timeout = \"30s\"").expect("valid configuration");
}
