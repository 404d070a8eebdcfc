//! Valid and invalid configurations.

use referral_core::sms::SmsSender as _;

use crate::fake::{parse, sender};

fn refused(config: &str) -> String {
    sender(config).map(|_| ()).expect_err(config).to_string()
}

#[test]
fn invalid_configuration_is_rejected_with_a_reason() {
    for (config, expected) in [
        ("", "missing field `url`"),
        ("url = \"https://a.example/{account}\"", "the setting `account` is missing"),
        ("url = \"https://a.example\"\nform = { to = \"{phone\" }", "unexpected brace or backslash"),
        ("url = \"https://a.example\"\nform = { a = \"b\" }\njson = { a = \"b\" }", "must not be given both"),
        ("url = \"http://a.example\"", "allow_http"),
        ("url = \"gopher://a.example\"", "https://"),
        ("url = \"a.example\"", "`url` is not a URL"),
        ("url = \"https://a.example\"\nheaders = { \"a b\" = \"c\" }", "is not a valid header name"),
        ("url = \"https://a.example\"\nheaders = { a = \"b\\nc\" }", "a character that is not allowed"),
        ("url = \"https://a.example\"\nresponse = { message_id = \"id\" }", "JSON pointer"),
        ("url = \"https://a.example\"\nresponse = { accepted = { text = \"(\" } }", "regex"),
        ("url = \"https://a.example\"\nresponses = {}", "unknown field `responses`"),
        ("url = \"https://a.example\"\nresponse = { accept = {} }", "unknown field `accept`"),
        ("url = \"https://a.example\"\nca_file = \"/nowhere\"", "failed to read /nowhere"),
        ("url = \"https://a.example\"\nca_file = \"Cargo.toml\"", "Cargo.toml contains no certificate"),
        (
            "url = \"https://a.example\"\nsettings = { a = { env = \"REFERRAL_NO_SUCH\" } }",
            "REFERRAL_NO_SUCH is not set",
        ),
        (
            "url = \"https://a.example\"\nsettings = { a = { file = \"/nowhere\" } }",
            "failed to read /nowhere",
        ),
        ("url = \"https://a.example\"\nsettings = { a = { file = \"/dev/null\" } }", "/dev/null is empty"),
        ("url = \"https://a.example\"\nsettings = { a = 5 }", "a setting must be a string"),
        ("preset = \"unknown\"", "unknown preset `unknown`; the presets are mobizon, "),
        ("preset = 5", "must be a name"),
        ("url = \"https://a.example\"\nheaders = { a = \"{text}\" }", "a character that is not allowed"),
        ("url = \"https://a.example\"\nsettings = { code = \"x\" }", "rename the setting"),
        ("preset = \"twilio\"", "the setting `from` or `messaging_service_sid` is missing"),
        ("preset = \"twilio\"\nsettings.from = \"Acme\"", "the setting `account_sid` is missing"),
        (
            "preset = \"webhook\"\nurl = \"https://a.example\"\nsettings.secret = \"hunter2hunter2hunter2\"",
            "whsec_",
        ),
    ] {
        let error = refused(config);
        assert!(error.contains(expected), "{config}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn debug_output_contains_no_secrets() {
    let config = "url = \"https://a.example/{key}\"\nsettings = { key = \"hunter2\" }";
    let shown = format!(
        "{:?} {:?}",
        parse(config).expect("valid configuration"),
        sender(config).expect("valid configuration")
    );
    assert!(!shown.contains("hunter2") && !shown.contains("a.example"), "{shown}");
}

#[test]
fn line_end_of_a_secret_file_is_removed() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("secret");
    std::fs::write(&file, "a b\r\n").expect("written");
    let config = format!(
        "url = \"https://a.example\"\nheaders = {{ key = \"{{key}}\" }}\nsettings.key.file = {file:?}"
    );
    sender(&config).expect("a line feed would be invalid in a header");
}

#[test]
fn loopback_needs_no_encryption() {
    for url in ["http://127.0.0.1:1/", "http://[::1]:1/", "http://localhost:1/"] {
        sender(&format!("url = \"{url}\"")).expect(url);
    }
    for url in ["http://127.0.0.1.example/", "http://10.0.0.1/", "http://localhost.example/"] {
        let error = refused(&format!("url = \"{url}\""));
        assert!(error.contains("allow_http"), "{url}: {error}");
    }
}

#[test]
fn unexpected_values_are_not_shown_in_errors() {
    for config in [
        "auth = \"hunter2\"",
        "auth.bearer = 4815162342",
        "headers = { Authorization = 4815162342 }",
        "settings = \"hunter2\"",
        "method = \"hunter2\"",
        "reports = { id = \"a\", status = \"b\", delivered = [], failed = [], signature = \"hunter2\" }",
    ] {
        let error = refused(&format!("url = \"https://a.example\"\n{config}"));
        assert!(error.contains("expected"), "{config}: {error}");
        assert!(!error.contains("hunter2") && !error.contains("4815162342"), "{config}: {error}");
    }
}

#[test]
fn proxy_must_be_an_http_url() {
    for proxy in ["socks5://127.0.0.1:1080", "127.0.0.1:3128", "http://"] {
        let config = format!("url = \"https://a.example\"\nproxy = \"{proxy}\"");
        let error = referral_core::sms::http::HttpSender::new(parse(&config).expect("valid configuration"))
            .map(|_| ());
        assert!(error.expect_err(proxy).to_string().contains("`proxy`"), "{proxy}");
    }
    assert!(refused("url = \"ftp://127.0.0.1\"").contains("https://"));
}

#[tokio::test]
async fn preset_is_merged_key_by_key() {
    let gateway = crate::fake::gateway(wiremock::ResponseTemplate::new(200).set_body_string(
        r#"{"status":"OK","status_code":100,"sms":{"79608543017":{"status":"ERROR","status_code":230}}}"#,
    ))
    .await;
    let config = format!(
        "preset = \"smsru\"\nurl = \"{}\"\nsettings.api_id = \"x\"\nform.ttl = \"5\"\n\
         response.busy = [{{ at = \"/sms/*/status_code\", is = [\"220\"] }}]",
        gateway.uri()
    );
    let sent = sender(&config).expect("valid configuration").send(&crate::fake::message_with("4711")).await;
    assert_eq!(crate::fake::meaning(&sent), "temporary: HTTP 200, code 230", "the other rules still apply");
    let body = String::from_utf8(crate::fake::received(&gateway).await.body).expect("text");
    assert_eq!(body, "api_id=x&to=79608543017&msg=4711&json=1&ttl=5");
}

#[test]
fn settings_of_a_preset_are_merged() {
    let config = "preset = \"smsru\"\nsettings = { api_id = \"x\" }\ntimeout = \"3s\"";
    sender(config).expect("`from` stays empty");
    let error = refused("preset = \"smsru\"\nsettings = { from = \"x\" }");
    assert!(error.contains("the setting `api_id` is missing"), "{error}");
}
