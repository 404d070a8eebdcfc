//! Tests that each log line of a request has its id.

use std::{fs, path::Path};

use reqwest::Method;
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::{
    program::{Program, directory},
    service::{ANNA, Client},
    sms::{SMSRU_REFUSES, gateway},
};

/// Writes a configuration with a gateway that is out of order.
async fn configure(directory: &Path) -> wiremock::MockServer {
    let gateway = gateway(ResponseTemplate::new(200).set_body_string(SMSRU_REFUSES)).await;
    let config = format!(
        "[gateways.g1]\npreset = \"smsru\"\nurl = \"{}/sms/send\"\nsettings.api_id = \"x\"\nproxy = \"none\"\n",
        gateway.uri()
    );
    fs::write(directory.join("sms.toml"), config).expect("written");
    gateway
}

/// Sends a request for a code that fails, a sign-in that is refused, and a request that reads.
async fn send_requests(client: &Client) {
    let post = |path, id, body: Value| {
        client.send(client.request(Method::POST, path).header("x-request-id", id).json(&body))
    };
    let sent = post("/auth/send_code/", "id-of-the-code", json!({ "phone": ANNA })).await;
    assert_eq!(sent.status, 503, "{}", sent.text);
    let wrong =
        post("/auth/jwt/get_by_phone/", "id-of-the-sign-in", json!({ "phone": ANNA, "code": "0000" })).await;
    wrong.assert_problem(403, "invalid_code");
    let read = client.request(Method::GET, "/users/current_user/").header("x-request-id", "id-of-the-read");
    client.send(read).await.assert_problem(401, "not_authenticated");
}

/// Returns the log lines of the requests at a level.
async fn log(level: &str, format: &str) -> Vec<String> {
    let directory = directory();
    let _gateway = configure(directory.path()).await;
    let arguments = ["--sms-config", "sms.toml", "--log", level, "--log-format", format];
    let program = Program::start(directory.path(), &arguments);
    let before = program.logged().lines().count();
    send_requests(&program.client).await;
    program.stop().lines().skip(before).map(str::to_owned).collect()
}

/// Texts of log lines, and the ids of their requests.
const LINES: [(&str, &str); 7] = [
    ("the gateway failed to accept a message", "id-of-the-code"),
    ("code not sent", "id-of-the-code"),
    ("request failed", "id-of-the-code"),
    ("\"sendCode\"", "id-of-the-code"),
    ("sign-in refused", "id-of-the-sign-in"),
    ("\"signIn\"", "id-of-the-sign-in"),
    ("GET", "id-of-the-read"),
];

#[tokio::test]
async fn each_json_line_of_a_request_has_its_id() {
    let lines = log("debug", "json").await;
    for (text, id) in LINES {
        let line =
            lines.iter().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {lines:?}"));
        let line: Value = serde_json::from_str(line).expect("a JSON object");
        assert_eq!(line["request_id"], id, "{line}");
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["target"].is_string());
    }
    for line in &lines {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        // Maintenance belongs to no request.
        let is_of_core = line["target"].as_str().is_some_and(|target| target.starts_with("referral_core"));
        let is_of_request = is_of_core && line["message"] != "clock measured";
        assert!(!is_of_request || line["request_id"].is_string(), "{line}");
    }
}

#[tokio::test]
async fn each_text_line_of_a_request_has_its_id() {
    let lines = log("info", "text").await;
    for (text, id) in LINES {
        let text = text.trim_matches('"');
        let line =
            lines.iter().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {lines:?}"));
        let id = format!("request_id=\"{id}\"");
        assert_eq!(line.matches(&*id).count(), 1, "{line}");
    }
}

#[tokio::test]
async fn filter_does_not_hide_the_id_of_a_request() {
    for filter in ["warn", "off,referral_core=warn", "referral_core::sms=warn"] {
        let lines = log(filter, "json").await;
        let line = lines.iter().find(|line| line.contains("the gateway failed to accept a message"));
        let line: Value =
            serde_json::from_str(line.unwrap_or_else(|| panic!("{filter}: {lines:?}"))).expect("JSON");
        assert_eq!(line["request_id"], "id-of-the-code", "{filter}");
    }
    assert_eq!(log("off", "text").await, Vec::<String>::new());
}
