//! Tests of messages through gateways that a configuration file describes.

use std::{fs, path::Path};

use serde_json::json;
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers::any};

use crate::{
    keys::commanded,
    program::{Program, directory, run, run_with},
    service::{ANNA, BORIS},
};

const SECRET: &str = "hunter2-and-then-some";

/// Starts a gateway that sends this response to every request.
pub(crate) async fn gateway(response: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(response).mount(&server).await;
    server
}

/// Returns the forms that a gateway has received.
pub(crate) async fn received(server: &MockServer) -> Vec<Vec<(String, String)>> {
    let requests = server.received_requests().await.expect("requests are recorded");
    let form = |request: &Request| form_urlencoded::parse(&request.body).into_owned().collect();
    requests.iter().map(form).collect()
}

pub(crate) fn value<'a>(form: &'a [(String, String)], name: &str) -> &'a str {
    form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
}

/// Writes a configuration with two gateways, of which the first is for Russia only.
fn configure(directory: &Path, first: &MockServer, second: &MockServer) {
    let config = format!(
        r#"
        order = ["second", "first"]
        [regions]
        RU = ["first", "second"]

        [gateways.first]
        preset = "smsru"
        url = "{}/sms/send"
        settings.api_id = {{ env = "API_ID" }}
        proxy = "none"

        [gateways.second]
        preset = "twilio"
        url = "{}/{{account_sid}}/Messages.json"
        settings = {{ account_sid = "AC1", auth_token = {{ file = "token" }}, from = "Acme" }}
        proxy = "none"

        [texts]
        host = "app.example.com"
        templates.de = "{{code}} ist Ihr Code."
        "#,
        first.uri(),
        second.uri()
    );
    fs::write(directory.join("sms.toml"), config).expect("written");
    fs::write(directory.join("token"), format!("{SECRET}\n")).expect("written");
}

const SMSRU_ACCEPTS: &str = r#"{"status":"OK","status_code":100,"sms":{"79608543017":{"status":"OK","status_code":100,"sms_id":"000-17"}}}"#;
pub(crate) const SMSRU_REFUSES: &str = r#"{"status":"ERROR","status_code":201,"status_text":"no money"}"#;

fn response(status: u16, body: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_string(body)
}

#[tokio::test]
async fn a_code_is_sent_to_the_phone_and_not_logged() {
    let directory = directory();
    let (first, second) =
        (gateway(response(200, SMSRU_ACCEPTS)).await, gateway(response(201, r#"{"sid":"SM1"}"#)).await);
    configure(directory.path(), &first, &second);
    let arguments = ["--sms-config", "sms.toml", "--code-length", "10", "--log", "trace"];
    let program = Program::start_with(directory.path(), &arguments, &[("API_ID", SECRET)]);
    let send = |phone: &'static str, language: &'static str| {
        let request = program.client.request(reqwest::Method::POST, "/auth/send_code/");
        program.client.send(request.json(&json!({ "phone": phone })).header("accept-language", language))
    };
    let sent = send(ANNA, "de-AT,ru;q=0.9").await.ok();
    assert!(sent.get("code").is_none(), "{sent}");
    let forms = received(&first).await;
    let [form] = &forms[..] else { panic!("one message: {forms:?}") };
    assert_eq!(value(form, "to"), "79608543017");
    let text = value(form, "msg");
    let code = text.split(' ').next().expect("a word").to_owned();
    assert_eq!(text, format!("{code} ist Ihr Code.\n@app.example.com #{code}"));

    // The number of Boris is in Kazakhstan, for which the second gateway is used.
    send(BORIS, "kk").await.ok();
    let forms = received(&second).await;
    assert_eq!(value(&forms[0], "To"), BORIS);
    assert!(value(&forms[0], "Body").starts_with("Кіру коды: "), "{forms:?}");
    assert_eq!(received(&first).await.len(), 1);

    let body = json!({ "phone": ANNA, "code": code, "challenge_id": sent["challenge_id"] });
    program.client.post("/auth/jwt/get_by_phone/", &body).await.ok();
    let other = value(&forms[0], "Body").trim_start_matches("Кіру коды: ")[..10].to_owned();

    let log = program.stop();
    assert!(
        log.contains("code sent") && log.contains("--regions") && log.contains("--messages-per-day"),
        "{log}"
    );
    for hidden in [SECRET, &code, &other, "9608543017", "7011234567"] {
        assert!(!log.contains(hidden), "the log contains {hidden}");
    }
}

#[tokio::test]
async fn the_next_gateway_is_used_if_one_fails_and_the_code_is_invalid_if_all_fail() {
    let directory = directory();
    let (first, second) =
        (gateway(response(200, SMSRU_REFUSES)).await, gateway(response(401, r#"{"code":20003}"#)).await);
    configure(directory.path(), &first, &second);
    let program = Program::start_with(directory.path(), &["--sms-config", "sms.toml"], &[("API_ID", SECRET)]);
    let body = json!({ "phone": ANNA });
    program.client.post("/auth/send_code/", &body).await.assert_problem(503, "sms_not_sent");

    // A permanent rejection concerns the phone and not the gateway.
    second.reset().await;
    Mock::given(any()).respond_with(response(400, r#"{"code":21610}"#)).mount(&second).await;
    let refused = program.client.post("/auth/send_code/", &body).await;
    refused.assert_field(403, "phone_unreachable", "phone");
    assert_eq!(refused.header("retry-after"), None);

    second.reset().await;
    Mock::given(any()).respond_with(response(201, r#"{"sid":"SM1"}"#)).mount(&second).await;
    program.client.post("/auth/send_code/", &body).await.ok();
    let forms = received(&second).await;
    assert!(value(&forms[0], "Body").contains(" is your code to sign in.\n@app.example.com #"), "{forms:?}");
    assert_eq!(received(&first).await.len(), 3);
    program.client.post("/auth/send_code/", &body).await.assert_problem(429, "too_many_requests");
}

#[tokio::test]
async fn a_test_message_prints_the_result_of_each_gateway() {
    let directory = directory();
    let (first, second) =
        (gateway(response(200, SMSRU_REFUSES)).await, gateway(response(201, r#"{"sid":"SM17"}"#)).await);
    configure(directory.path(), &first, &second);
    let arguments = ["--sms-config", "sms.toml", "sms", "test", "+7 960 854-30-17", "--locale", "ru"];

    let printed = commanded(directory.path(), &arguments, &[("API_ID", SECRET)]);
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines[..3], ["To +79608543017 (RU):", "  | Код для входа 0000", "  | @app.example.com #0000"]);
    assert!(
        lines[3].starts_with("  first: temporary after ") && lines[3].ends_with("HTTP 200, code 201"),
        "{printed}"
    );
    assert!(lines[4].starts_with("  second: accepted after "), "{printed}");
    assert_eq!(lines[5], "accepted by second with the message id SM17");
    assert!(!directory.path().join("referral-data").exists(), "no data directory must be created");

    second.reset().await;
    Mock::given(any()).respond_with(response(401, "{}")).mount(&second).await;
    let output = run_with(directory.path(), &arguments, &[("API_ID", SECRET)]);
    assert!(!output.status.success());
    let (printed, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let text = format!("{printed}{error}");
    assert!(text.contains("rejected the message temporarily: HTTP 401") && !text.contains(SECRET), "{text}");
}

#[tokio::test]
async fn delivery_reports_and_sign_ins_are_counted_by_gateway() {
    let directory = directory();
    let gateway = gateway(response(200, r#"{"id": "m1"}"#)).await;
    let config = format!(
        r#"
        [gateways.acme]
        url = "{}"
        proxy = "none"
        settings.token = {{ env = "TOKEN" }}
        form = {{ text = "{{text}}", report = "{{reports_url}}" }}
        response.message_id = "/id"
        reports = {{ id = "id", status = "status", delivered = ["ok"], failed = ["no"], signature.token = "{{token}}" }}
        "#,
        gateway.uri()
    );
    fs::write(directory.path().join("sms.toml"), config).expect("written");
    let arguments = [
        "--sms-config",
        "sms.toml",
        "--public-url",
        "https://api.example.com",
        "--metrics-listen",
        "127.0.0.1:0",
    ];
    let printed =
        commanded(directory.path(), &[&arguments[..4], &["sms", "reports"]].concat(), &[("TOKEN", SECRET)]);
    let url = format!("https://api.example.com/sms/reports/acme/?token={SECRET}");
    assert_eq!(printed, format!("acme: {url}\n"));

    let program = Program::start_with(directory.path(), &arguments, &[("TOKEN", SECRET)]);
    let sent = program.client.post("/auth/send_code/", &json!({ "phone": ANNA })).await.ok();
    let forms = received(&gateway).await;
    assert_eq!(value(&forms[0], "report"), url);
    let report = |query: &str| {
        let url = program.client.url(&format!("/sms/reports/acme/?{query}"));
        program.client.send(program.client.http.get(url))
    };
    report("token=guessed-0123456789&id=m1&status=ok").await.assert_problem(403, "invalid_signature");
    for _ in 0..2 {
        assert_eq!(report(&format!("token={SECRET}&id=m1&status=ok")).await.status, 200);
    }
    let code = value(&forms[0], "text")[..4].to_owned();
    let body = json!({ "phone": ANNA, "code": code, "challenge_id": sent["challenge_id"] });
    program.client.post("/auth/jwt/get_by_phone/", &body).await.ok();

    let page = program.metrics().await;
    for metric in [
        "referral_message_attempts_total{gateway=\"acme\",region=\"RU\",outcome=\"accepted\"} 1",
        "referral_message_statuses_total{gateway=\"acme\",region=\"RU\",status=\"sent\"} 1",
        "referral_message_statuses_total{gateway=\"acme\",region=\"RU\",status=\"delivered\"} 1",
        "referral_message_sign_ins_total{gateway=\"acme\",region=\"RU\"} 1",
    ] {
        assert!(page.lines().any(|line| line == metric), "{metric}: {page}");
    }
    assert!(!program.stop().contains(SECRET), "the log contains the token");
}

#[test]
fn messages_and_presets_can_be_printed() {
    let directory = directory();
    let printed = commanded(directory.path(), &["sms", "preview"], &[]);
    assert!(
        printed.contains("ru: 1 segment, 24 of 70 characters in UCS-2\n  | Код для входа 0000000000\n"),
        "{printed}"
    );
    let long = "x".repeat(160);
    fs::write(directory.path().join("sms.toml"), format!("texts.templates.en = \"{long}{{code}}\""))
        .expect("written");
    let printed = commanded(directory.path(), &["--sms-config", "sms.toml", "sms", "preview"], &[]);
    assert!(printed.contains("en: 2 SEGMENTS, 170 of 160 characters in GSM-7\n"), "{printed}");

    let names = commanded(directory.path(), &["sms", "presets"], &[]);
    assert_eq!(names, "mobizon\nsmsc\nsmsru\ntwilio\nvonage\nwebhook\n");
    for name in names.lines() {
        assert!(commanded(directory.path(), &["sms", "presets", name], &[]).contains("[response]"), "{name}");
    }
    assert!(!run(directory.path(), &["sms", "presets", "unknown"]).status.success());
}

#[test]
fn an_invalid_configuration_is_rejected_before_files_are_created() {
    let directory = directory();
    let gateway = "[gateways.a]\nurl = \"https://a.example\"";
    for (config, expected) in [
        (String::new(), "there is no gateway"),
        ("orders = []".into(), "sms.toml, line 1: unknown field `orders`"),
        (format!("{gateway}\n\ntexts = 5"), "unknown field `texts`"),
        ("\n\ntime = \"soon\"".into(), "sms.toml, line 3: "),
        ("[gateways.a]\nurl = 'hunter2".into(), "sms.toml, line 2: "),
        ("[gateways.a]".into(), "gateways.a: missing field `url`"),
        (format!("order = [\"a\", \"b\"]\n{gateway}"), "the table [gateways.b] does not exist"),
        (format!("{gateway}\n[gateways.b]\nurl = \"https://b.example\""), "`order` must list all gateways"),
        (format!("order = [\"a\"]\n{gateway}\n[gateways.b]\nurl = \"https://b.example\""), "add `b`"),
        (format!("{gateway}\n[regions]\nXX = [\"a\"]"), "regions.XX: "),
        (
            format!("{gateway}\n[regions]\nAX = [\"a\"]"),
            "regions.AX: No mobile number belongs to the region AX. Use FI",
        ),
        (format!("{gateway}\n[regions]\nRU = [\"b\"]"), "the order for the region RU"),
        (format!("{gateway}\n[texts]\nhost = \"https://a.example\""), "texts.host: "),
        (format!("{gateway}\n[texts]\ntemplates.de = \"Hallo!\""), "texts.templates.de: "),
        (format!("{gateway}\n[texts]\ndefault_locale = \"de\""), "texts.default_locale: "),
        (format!("{gateway}\n[texts]\nandroid_hash = \"short\""), "texts.android_hash: "),
        ("[gateways.\"a/b\"]\nurl = \"https://a.example\"".into(), "gateways.a/b: a name must have"),
        (format!("time = \"10s\"\n{gateway}"), "lower `time`, or raise --request-timeout"),
        (format!("time = \"1ms\"\n{gateway}"), "must be at least 2.5s"),
    ] {
        fs::write(directory.path().join("sms.toml"), &config).expect("written");
        let output = run(directory.path(), &["--sms-config", "sms.toml"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(expected), "{config}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
        assert!(!directory.path().join("referral-data").exists(), "{config}");
    }
    for (arguments, expected) in [
        (&["--sms-config", "nowhere.toml"][..], "failed to read nowhere.toml"),
        (&["sms", "test", "+79608543017"], "--sms-config sms.toml"),
    ] {
        let output = run(directory.path(), arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(expected), "{arguments:?}: {error}");
    }
}

/// Returns the TOML blocks of a page that are complete files.
fn configurations(page: &str) -> impl Iterator<Item = &str> {
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.contains("[gateways.") || block.contains("[texts]"))
}

#[test]
fn the_configurations_in_the_guides_are_valid() {
    let directory = directory();
    fs::write(directory.path().join("secret"), SECRET).expect("written");
    let pages = [
        include_str!("../../../README.md"),
        include_str!("../../../docs/sms.md"),
        include_str!("../../../docs/gateways.md"),
    ];
    let mut printed = Vec::new();
    for config in pages.into_iter().flat_map(configurations) {
        fs::write(directory.path().join("sms.toml"), config.replace("/run/secrets/acme", "secret"))
            .expect("written");
        let arguments =
            ["--sms-config", "sms.toml", "--public-url", "https://api.example.com", "sms", "reports"];
        let environment = [("TWILIO_AUTH_TOKEN", SECRET), ("ACME_REPORT_TOKEN", SECRET)];
        printed.push(commanded(directory.path(), &arguments, &environment));
        commanded(directory.path(), &["--sms-config", "sms.toml", "sms", "preview"], &[]);
    }
    let twilio = "twilio: https://api.example.com/sms/reports/twilio/\n".to_owned();
    let acme = format!("acme: https://api.example.com/sms/reports/acme/?token={SECRET}\n");
    assert_eq!(printed, [twilio.clone(), twilio, String::new(), acme]);
}
