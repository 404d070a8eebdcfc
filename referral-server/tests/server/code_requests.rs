//! Tests of the records of requests for codes: the endpoint for staff, and the command.

use std::fs;

use referral_core::{PhoneNumber, StaffRole, policy::Policy};
use reqwest::Method;
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::{
    program::{Program, directory, run},
    service::{ANNA, BORIS, Client, Response, Service, VERA},
    sms::{SMSRU_REFUSES, gateway},
};

/// Requests a code with a request id.
async fn send_code(client: &Client, phone: &str, request_id: &str) -> Response {
    let request = client.request(Method::POST, "/auth/send_code/").header("x-request-id", request_id);
    client.send(request.json(&json!({ "phone": phone }))).await
}

async fn sign_in(client: &Client, sent: &Value, code: &str, request_id: &str) -> Response {
    let body = json!({ "phone": sent["phone"], "code": code, "challenge_id": sent["challenge_id"] });
    let request = client.request(Method::POST, "/auth/jwt/get_by_phone/").header("x-request-id", request_id);
    client.send(request.json(&body)).await
}

#[tokio::test]
async fn staff_list_the_requests_of_a_phone() {
    let mut policy = Policy::standard();
    policy.codes_per_address = referral_core::policy::Limits::off();
    let service = Service::with_policy(policy).await;
    let staff = PhoneNumber::parse(VERA, None).expect("valid");
    service.referral.make_staff(staff, StaffRole::Support).await.expect("created");
    let staff = service.enter(VERA, None).await;
    let sent = send_code(&service.client, ANNA, "r1").await.ok();
    send_code(&service.client, ANNA, "r2").await.assert_problem(429, "too_many_requests");
    let right = sent["code"].as_str().expect("a code");
    let wrong = if right == "0000" { "0001" } else { "0000" };
    sign_in(&service.client, &sent, wrong, "r3").await.assert_problem(403, "invalid_code");
    sign_in(&service.client, &sent, right, "r4").await.ok();

    let path = "/admin/code_requests/?phone=%2B7%20(960)%20854-30-17";
    let listed = service.client.get(path, &staff.access).await.ok();
    let listed = listed["results"].as_array().expect("requests").clone();
    let summary = |request: &Value| {
        ["request_id", "kind", "outcome", "reason"].map(|field| request[field].as_str().map(str::to_owned))
    };
    let expected = [
        [Some("r4"), Some("redeem"), Some("redeemed"), None],
        [Some("r3"), Some("redeem"), Some("refused"), Some("invalid_code")],
        [Some("r2"), Some("send"), Some("refused"), Some("too_many_requests")],
        [Some("r1"), Some("send"), Some("sent"), None],
    ];
    let expected = expected.map(|row| row.map(|text| text.map(str::to_owned)));
    assert_eq!(listed.iter().map(summary).collect::<Vec<_>>(), expected);
    let limit = &listed[2]["limit"];
    assert_eq!((&limit["name"], &limit["rule"]), (&json!("resend_interval"), &json!("1m")));
    assert!(limit["free_at"].as_str() > listed[2]["requested_at"].as_str(), "{limit}");
    let explanation = listed[2]["explanation"].as_str().expect("a text");
    assert!(explanation.starts_with("The limit resend_interval (1m) refused the request."), "{explanation}");
    for request in &listed {
        assert_eq!(request["purpose"], "sign_in");
        assert_eq!(request["message_status"], Value::Null);
    }
    let none = service.client.get("/admin/code_requests?phone=%2B77011234567", &staff.access).await.ok();
    assert_eq!(none, json!({ "results": [] }));
}

#[tokio::test]
async fn only_staff_can_list_requests_and_the_phone_must_be_valid() {
    let service = Service::start().await;
    let staff = PhoneNumber::parse(VERA, None).expect("valid");
    service.referral.make_staff(staff, StaffRole::Support).await.expect("created");
    let staff = service.enter(VERA, None).await;
    let anna = service.enter(ANNA, None).await;
    let own = "/admin/code_requests/?phone=%2B79608543017";
    service.client.get(own, &anna.access).await.assert_problem(403, "staff_only");
    service.client.get(own, "x").await.assert_problem(401, "token_not_valid");
    service.client.get(own, &staff.access).await.ok();
    for phone in ["", "12", "89608543017", "%00"] {
        let path = format!("/admin/code_requests/?phone={phone}");
        service.client.get(&path, &staff.access).await.assert_field(400, "invalid_phone", "phone");
    }
    let missing = service.client.get("/admin/code_requests/", &staff.access).await;
    missing.assert_field(400, "required", "phone");
    let unknown = service.client.get(&format!("{own}&limit=1"), &staff.access).await;
    unknown.assert_field(400, "unknown_parameter", "limit");
}

#[tokio::test]
async fn requests_are_shown_by_the_command_after_the_server_has_stopped() {
    let directory = directory();
    let gateway = gateway(ResponseTemplate::new(200).set_body_string(SMSRU_REFUSES)).await;
    let config = format!(
        "[gateways.g1]\npreset = \"smsru\"\nurl = \"{}/sms/send\"\nsettings.api_id = \"x\"\nproxy = \"none\"\n",
        gateway.uri()
    );
    fs::write(directory.path().join("sms.toml"), config).expect("written");
    let program = Program::start(directory.path(), &["--sms-config", "sms.toml", "--regions", "RU"]);
    let not_sent = send_code(&program.client, ANNA, "r1").await;
    assert_eq!(not_sent.status, 503, "{}", not_sent.text);
    send_code(&program.client, BORIS, "r2").await.assert_field(403, "phone_not_allowed", "phone");
    program.stop();

    let show = |arguments: &[&str]| {
        let output = run(directory.path(), &[&["code-requests", "--phone"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let table = show(&["+7 960 854-30-17"]);
    let [heading, row] = table.lines().collect::<Vec<_>>()[..] else { panic!("{table}") };
    for (column, value) in [
        ("KIND", "send"),
        ("OUTCOME", "not_sent"),
        ("REQUEST ID", "r1"),
        ("EXPLANATION", "No gateway accepted the message."),
    ] {
        let start = heading.find(column).expect("a column");
        assert!(row[start..].starts_with(value), "{table}");
    }
    let shown: Value = serde_json::from_str(&show(&[BORIS, "--json"])).expect("JSON");
    assert_eq!(shown.as_array().map(Vec::len), Some(1));
    assert_eq!(shown[0]["request_id"], "r2");
    assert_eq!((&shown[0]["outcome"], &shown[0]["reason"]), (&json!("refused"), &json!("phone_not_allowed")));
    assert_eq!(show(&[VERA]), format!("no requests for codes of {VERA} in the last three days\n"));
    assert_eq!(show(&[VERA, "--json"]), "[]\n");
    let invalid = run(directory.path(), &["code-requests", "--phone", "12"]);
    assert!(!invalid.status.success());
}
