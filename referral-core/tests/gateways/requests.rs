//! What is asked: byte for byte.

use referral_core::{
    conformance::ManualClock,
    sms::{SmsError, SmsSender as _},
};
use time::OffsetDateTime;
use wiremock::ResponseTemplate;

use crate::fake::{gateway, message, message_with, received, sender};

#[tokio::test]
async fn a_form_is_escaped_in_the_order_in_which_it_is_written() {
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
    sender(&config).expect("sound").send(&message()).await.expect("accepted");
    let request = received(&gateway).await;
    assert_eq!(request.method.as_str(), "POST");
    assert_eq!(request.url.path(), "/v1/a%2Fb%20c%3F/send");
    assert_eq!(request.url.query(), Some("z=a%2Fb+c%3F&a=1"));
    assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
    let body = String::from_utf8(request.body).expect("text");
    assert_eq!(
        body, "to=%2B79608543017&digits=79608543017&text=4711%3A+%D0%BA%D0%BE%D0%B4+%26+co&by=A%26B%3D1",
        "what is empty is left out"
    );
}

#[tokio::test]
async fn json_is_escaped_whatever_the_text_holds() {
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
    sender(&config).expect("sound").send(&message_with(text)).await.expect("accepted");
    let request = received(&gateway).await;
    assert_eq!(request.method.as_str(), "PUT");
    assert_eq!(request.headers["content-type"], "application/json");
    let body = String::from_utf8(request.body).expect("text");
    assert_eq!(body, r#"{"z":"\"}],\\\n\u0001{phone}🙂","a":["+79608543017",1,true,{"b":"{x}"}]}"#);
}

#[tokio::test]
async fn each_way_to_say_who_asks_is_as_its_standard_has_it() {
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
        sender(&config).expect("sound").send(&message()).await.expect("accepted");
        let request = received(&gateway).await;
        assert_eq!(request.headers[header], value, "{auth}");
        assert_eq!(request.url.query(), query, "{auth}");
        assert!(request.body.is_empty(), "{auth}");
    }
}

#[tokio::test]
async fn a_webhook_is_signed_so_that_others_can_check_it() {
    let gateway = gateway(ResponseTemplate::new(200)).await;
    let config = format!(
        "preset = \"webhook\"\nurl = \"{}/sms\"\nsettings.secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"",
        gateway.uri()
    );
    let now = OffsetDateTime::from_unix_timestamp(1_614_265_330).expect("a time");
    let sender = sender(&config).expect("sound").clock(ManualClock::new(now));
    sender.send(&message()).await.expect("accepted");
    let request = received(&gateway).await;
    assert_eq!(
        String::from_utf8(request.body).expect("text"),
        r#"{"type":"sms.send","data":{"id":"01900000-0000-7000-8000-000000000001","phone":"+79608543017","text":"4711: код & co","code":"4711"}}"#
    );
    assert_eq!(request.headers["webhook-id"], "01900000-0000-7000-8000-000000000001");
    assert_eq!(request.headers["webhook-timestamp"], "1614265330");
    // Computed with openssl.
    assert_eq!(request.headers["webhook-signature"], "v1,JiUalWVFqaRj9Cu8z44YIi5SLW8OpX/nvCE8PFsnmPc=");
}

#[tokio::test]
async fn a_proxy_is_asked_in_place_of_the_gateway() {
    let proxy = gateway(ResponseTemplate::new(200)).await;
    let config = format!(
        "url = \"http://gateway.example/send\"\nallow_http = true\nproxy = \"{}\"\nform = {{ to = \"{{phone}}\" }}",
        proxy.uri().replace("http://", "http://{user}:{password}@")
    ) + "\nsettings = { user = \"us/er\", password = \"pass@word\" }";
    let table: toml::Table = config.parse().expect("TOML");
    let sender = referral_core::sms::http::HttpSender::new(table.try_into().expect("sound")).expect("sound");
    sender.send(&message()).await.expect("accepted");
    let request = received(&proxy).await;
    assert_eq!(request.headers["host"], "gateway.example");
    assert_eq!(request.headers["proxy-authorization"], "Basic dXMvZXI6cGFzc0B3b3Jk");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = gateway(ResponseTemplate::new(200)).await;
    let answer = ResponseTemplate::new(307).insert_header("location", elsewhere.uri());
    let gateway = gateway(answer).await;
    let sender =
        sender(&format!("url = \"{}\"\nform = {{ to = \"{{phone}}\" }}", gateway.uri())).expect("sound");
    let refused = sender.send(&message()).await;
    assert!(matches!(&refused, Err(SmsError::Temporary(reason)) if reason == "HTTP 307"), "{refused:?}");
    assert_eq!(elsewhere.received_requests().await.expect("recorded").len(), 0);
}
