//! Requests, compared byte for byte.

use referral_core::{
    sms::{SmsError, SmsNotice, SmsSender as _},
    test_util::ManualClock,
};
use time::OffsetDateTime;
use wiremock::ResponseTemplate;

use crate::fake::{gateway, message, message_with, notice, received, sender};

#[tokio::test]
async fn form_is_escaped_and_keeps_the_configured_order() {
    let gateway = gateway(ResponseTemplate::new(200)).await;
    let config = format!(
        r#"
        url = "{}/v1/{{account}}/send"
        settings = {{ account = "a/b c?", sender = "", brand = "A&B=1" }}
        query = {{ z = "{{account}}", a = "1" }}
        form = {{ to = "{{phone}}", from = "{{sender}}", digits = "{{phone_digits}}", text = "{{text}}", by = "{{brand}}" }}
        "#,
        gateway.uri()
    );
    sender(&config).expect("valid configuration").send(&message()).await.expect("accepted");
    let request = received(&gateway).await;
    assert_eq!(request.method.as_str(), "POST");
    assert_eq!(request.url.path(), "/v1/a%2Fb%20c%3F/send");
    assert_eq!(request.url.query(), Some("z=a%2Fb+c%3F&a=1"));
    assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
    let body = String::from_utf8(request.body).expect("text");
    assert_eq!(
        body, "to=%2B79608543017&digits=79608543017&text=4711%3A+%D0%BA%D0%BE%D0%B4+%26+co&by=A%26B%3D1",
        "empty values are omitted"
    );
}

#[tokio::test]
async fn json_is_escaped_for_any_text() {
    let gateway = gateway(ResponseTemplate::new(200)).await;
    let config = format!(
        r#"
        url = "{}"
        method = "PUT"
        [settings]
        none = ""
        [json]
        z = "{{text}}"
        a = ["{{phone}}", 1, true, {{ b = "\\{{x\\}}", c = "{{none}}" }}]
        "#,
        gateway.uri()
    );
    let text = "\"}],\\\n\u{1}{phone}🙂";
    sender(&config).expect("valid configuration").send(&message_with(text)).await.expect("accepted");
    let request = received(&gateway).await;
    assert_eq!(request.method.as_str(), "PUT");
    assert_eq!(request.headers["content-type"], "application/json");
    let body = String::from_utf8(request.body).expect("text");
    assert_eq!(body, r#"{"z":"\"}],\\\n\u0001{phone}🙂","a":["+79608543017",1,true,{"b":"{x}"}]}"#);
}

#[tokio::test]
async fn each_authentication_method_matches_its_standard() {
    for (auth, header, value, query) in [
        // RFC 7617, section 2.
        (
            r#"basic = { user = "{user}", password = "{password}" }"#,
            "authorization",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            None,
        ),
        (r#"bearer = "{user}""#, "authorization", "Bearer Aladdin", None),
        (r#"header = { name = "X-Api-Key", value = "{user}" }"#, "x-api-key", "Aladdin", None),
        (
            r#"query = { name = "key", value = "{password}" }"#,
            "user-agent",
            concat!("referral/", env!("CARGO_PKG_VERSION")),
            Some("key=open+sesame"),
        ),
    ] {
        let gateway = gateway(ResponseTemplate::new(200)).await;
        let config = format!(
            "url = \"{}\"\nmethod = \"GET\"\nsettings = {{ user = \"Aladdin\", password = \"open sesame\" }}\nauth.{auth}",
            gateway.uri()
        );
        sender(&config).expect("valid configuration").send(&message()).await.expect("accepted");
        let request = received(&gateway).await;
        assert_eq!(request.headers[header], value, "{auth}");
        assert_eq!(request.url.query(), query, "{auth}");
        assert!(request.body.is_empty(), "{auth}");
    }
}

#[tokio::test]
async fn webhook_is_signed_according_to_the_standard() {
    let gateway = gateway(ResponseTemplate::new(200)).await;
    let config = format!(
        "preset = \"webhook\"\nurl = \"{}/sms\"\nsettings.secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"",
        gateway.uri()
    );
    let now = OffsetDateTime::from_unix_timestamp(1_614_265_330).expect("valid time");
    let sender = sender(&config).expect("valid configuration").clock(ManualClock::new(now));
    sender.send(&message()).await.expect("accepted");
    let request = received(&gateway).await;
    assert_eq!(
        String::from_utf8(request.body).expect("text"),
        r#"{"type":"sms.send","data":{"id":"01900000-0000-7000-8000-000000000001","phone":"+79608543017","text":"4711: код & co","code":"4711","purpose":"sign_in"}}"#
    );
    assert_eq!(request.headers["webhook-id"], "01900000-0000-7000-8000-000000000001");
    assert_eq!(request.headers["webhook-timestamp"], "1614265330");
    // Computed with openssl.
    assert_eq!(request.headers["webhook-signature"], "v1,fvUc2muX7bJ7+fUX6VFMsEDLjz4Dzz3nCiQaKxeWoEs=");
}

#[tokio::test]
async fn request_is_sent_through_the_proxy() {
    let proxy = gateway(ResponseTemplate::new(200)).await;
    let config = format!(
        "url = \"http://gateway.example/send\"\nallow_http = true\nproxy = \"{}\"\nform = {{ to = \"{{phone}}\" }}",
        proxy.uri().replace("http://", "http://{user}:{password}@")
    ) + "\nsettings = { user = \"us/er\", password = \"pass@word\" }";
    let table: toml::Table = config.parse().expect("TOML");
    let sender = referral_core::sms::http::HttpSender::new(table.try_into().expect("valid configuration"))
        .expect("valid configuration");
    sender.send(&message()).await.expect("accepted");
    let request = received(&proxy).await;
    assert_eq!(request.headers["host"], "gateway.example");
    assert_eq!(request.headers["proxy-authorization"], "Basic dXMvZXI6cGFzc0B3b3Jk");
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let elsewhere = gateway(ResponseTemplate::new(200)).await;
    let response = ResponseTemplate::new(307).insert_header("location", elsewhere.uri());
    let gateway = gateway(response).await;
    let sender = sender(&format!("url = \"{}\"\nform = {{ to = \"{{phone}}\" }}", gateway.uri()))
        .expect("valid configuration");
    let refused = sender.send(&message()).await;
    assert!(matches!(&refused, Err(SmsError::Temporary(reason)) if reason == "HTTP 307"), "{refused:?}");
    assert_eq!(elsewhere.received_requests().await.expect("recorded").len(), 0);
}

#[tokio::test]
async fn gateways_with_a_text_send_notices() {
    for (request, sends_notices) in [
        (r#"form = { text = "{text}" }"#, true),
        (
            r#"headers = { text = "{id}" }
            query = { text = "{text}" }"#,
            true,
        ),
        // The gateway may require the code.
        (r#"json = { text = "{text}", code = "{code}" }"#, false),
        (
            r#"json = { text = "{text}", code = "{code}" }
            notices = true"#,
            true,
        ),
        (
            r#"form = { text = "{text}" }
            notices = false"#,
            false,
        ),
        (r#"form = { code = "{code}" }"#, false),
    ] {
        let gateway = gateway(ResponseTemplate::new(200)).await;
        let sender = sender(&format!("url = \"{}\"\n{request}", gateway.uri())).expect("valid configuration");
        assert_eq!(sender.sends_notices(), sends_notices, "{request}");
        let sent = sender.send_notice(&notice()).await;
        assert_eq!(sent.is_ok(), sends_notices, "{request}");
        if !sends_notices {
            assert!(matches!(sent, Err(SmsError::NoticesUnsupported)), "{sent:?}");
            assert_eq!(gateway.received_requests().await.expect("recorded").len(), 0);
        }
    }
    let error = sender("url = \"https://a.example\"\nnotices = true\nform = { code = \"{code}\" }");
    assert!(error.expect_err("no text").to_string().contains("`{text}`"));
}

#[tokio::test]
async fn notice_has_a_purpose_and_no_code() {
    let gateway = gateway(ResponseTemplate::new(200)).await;
    let config = format!(
        "preset = \"webhook\"\nurl = \"{}\"\nsettings = {{ secret = \"whsec_{}\" }}",
        gateway.uri(),
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    );
    let notice: SmsNotice = notice();
    sender(&config).expect("valid configuration").send_notice(&notice).await.expect("accepted");
    let body = received(&gateway).await.body;
    let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let data = serde_json::json!({
        "id": notice.id.to_string(), "phone": notice.phone.as_str(), "text": notice.text.reveal(),
        "purpose": "phone_changed",
    });
    assert_eq!(body["data"], data);
}
