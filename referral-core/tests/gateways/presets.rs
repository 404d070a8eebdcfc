//! Tests of the presets with the requests and responses that the vendors document. Examples of the vendors
//! are copied literally.

use referral_core::sms::{SmsSender as _, http::PRESETS};
use wiremock::ResponseTemplate;

use crate::fake::{gateway, meaning, message, received, sender};

/// Request as it is documented.
struct Documented {
    preset: &'static str,
    settings: &'static str,
    host: &'static str,
    path: &'static str,
    query: Option<&'static str>,
    authorization: Option<&'static str>,
    content_type: &'static str,
    body: &'static str,
}

const REQUESTS: &[Documented] = &[
    Documented {
        preset: "twilio",
        settings: r#"account_sid = "AC0123", auth_token = "secret", from = "+15005550006""#,
        host: "api.twilio.com",
        path: "/2010-04-01/Accounts/AC0123/Messages.json",
        query: None,
        authorization: Some("Basic QUMwMTIzOnNlY3JldA=="),
        content_type: "application/x-www-form-urlencoded",
        body: "To=%2B79608543017&From=%2B15005550006&Body=4711%3A+%D0%BA%D0%BE%D0%B4+%26+co",
    },
    Documented {
        preset: "twilio",
        settings: r#"account_sid = "AC0123", auth_token = "secret", messaging_service_sid = "MG0123""#,
        host: "api.twilio.com",
        path: "/2010-04-01/Accounts/AC0123/Messages.json",
        query: None,
        authorization: Some("Basic QUMwMTIzOnNlY3JldA=="),
        content_type: "application/x-www-form-urlencoded",
        body: "To=%2B79608543017&MessagingServiceSid=MG0123&Body=4711%3A+%D0%BA%D0%BE%D0%B4+%26+co",
    },
    Documented {
        preset: "vonage",
        settings: r#"api_key = "abcd1234", api_secret = "secret", from = "Acme""#,
        host: "rest.nexmo.com",
        path: "/sms/json",
        query: None,
        authorization: None,
        content_type: "application/x-www-form-urlencoded",
        body: "api_key=abcd1234&api_secret=secret&to=79608543017&from=Acme&\
               text=4711%3A+%D0%BA%D0%BE%D0%B4+%26+co&type=unicode&\
               client-ref=01900000-0000-7000-8000-000000000001",
    },
    Documented {
        preset: "smsru",
        settings: r#"api_id = "1111-2222", from = "Acme""#,
        host: "sms.ru",
        path: "/sms/send",
        query: None,
        authorization: None,
        content_type: "application/x-www-form-urlencoded",
        body: "api_id=1111-2222&to=79608543017&msg=4711%3A+%D0%BA%D0%BE%D0%B4+%26+co&json=1&from=Acme",
    },
    Documented {
        preset: "smsc",
        settings: r#"login = "acme", password = "secret""#,
        host: "smsc.ru",
        path: "/sys/send.php",
        query: None,
        authorization: None,
        content_type: "application/x-www-form-urlencoded",
        body: "login=acme&psw=secret&phones=79608543017&mes=4711%3A+%D0%BA%D0%BE%D0%B4+%26+co&charset=utf-8&fmt=3",
    },
    Documented {
        preset: "smsc",
        settings: r#"apikey = "secret", sender = "Acme""#,
        host: "smsc.ru",
        path: "/sys/send.php",
        query: None,
        authorization: None,
        content_type: "application/x-www-form-urlencoded",
        body: "apikey=secret&phones=79608543017&mes=4711%3A+%D0%BA%D0%BE%D0%B4+%26+co&sender=Acme&charset=utf-8&fmt=3",
    },
    Documented {
        preset: "mobizon",
        settings: r#"api_key = "kz0123""#,
        host: "api.mobizon.kz",
        path: "/service/message/sendSmsMessage",
        query: Some("output=json&api=v1&apiKey=kz0123"),
        authorization: None,
        content_type: "application/x-www-form-urlencoded",
        body: "recipient=79608543017&text=4711%3A+%D0%BA%D0%BE%D0%B4+%26+co",
    },
];

/// Returns the configuration of a preset with these settings and the address of a local gateway.
fn config(preset: &str, settings: &str, host: &str, address: &str) -> String {
    let (_, text) = PRESETS.iter().find(|(name, _)| *name == preset).expect("known preset");
    let url = text.lines().find_map(|line| line.strip_prefix("url = \"")).expect("the URL of the preset");
    let path =
        url.strip_prefix("https://").and_then(|url| url.strip_prefix(host)).expect("the documented host");
    format!("preset = \"{preset}\"\nsettings = {{ {settings} }}\nurl = \"{address}{path}")
}

#[tokio::test]
async fn each_preset_sends_the_documented_request() {
    for expected in REQUESTS {
        let gateway = gateway(ResponseTemplate::new(200)).await;
        let sender = sender(&config(expected.preset, expected.settings, expected.host, &gateway.uri()));
        // The response does not matter here.
        let _ = sender.expect("valid configuration").send(&message()).await;
        let request = received(&gateway).await;
        assert_eq!(request.method.as_str(), "POST", "{}", expected.preset);
        assert_eq!(request.url.path(), expected.path, "{}", expected.preset);
        assert_eq!(request.url.query(), expected.query, "{}", expected.preset);
        assert_eq!(request.headers["content-type"], expected.content_type, "{}", expected.preset);
        let authorization = request.headers.get("authorization").map(|value| value.to_str().expect("text"));
        assert_eq!(authorization, expected.authorization, "{}", expected.preset);
        assert_eq!(String::from_utf8(request.body).expect("text"), expected.body, "{}", expected.preset);
    }
}

/// A preset, a status, a body and the expected interpretation.
const RESPONSES: &[(&str, u16, &str, &str)] = &[
    (
        "smsru",
        200,
        r#"{"status":"OK","status_code":100,"sms":{"79608543017":{"status":"ERROR","status_code":209}}}"#,
        "permanent: HTTP 200, code 209",
    ),
    ("smsc", 200, r#"{"error":"cannot be delivered","error_code":8}"#, "temporary: HTTP 200, code 8"),
    (
        "mobizon",
        200,
        r#"{"code":1,"data":{"recipient":"Sending to this direction is forbidden."},"message":""}"#,
        "temporary: HTTP 200, code 1",
    ),
    ("twilio", 400, r#"{"code":21635,"message":"landline"}"#, "permanent: HTTP 400, code 21635"),
    (
        "twilio",
        201,
        r#"{"account_sid":"AC0123","body":"4711","sid":"SM0123","status":"queued","error_code":null}"#,
        "accepted SM0123",
    ),
    (
        "twilio",
        400,
        r#"{"code":21211,"message":"The 'To' number +79608543017 is not a valid phone number.","more_info":"https://www.twilio.com/docs/errors/21211","status":400}"#,
        "permanent: HTTP 400, code 21211",
    ),
    (
        "twilio",
        400,
        r#"{"code":21610,"message":"unsubscribed","status":400}"#,
        "permanent: HTTP 400, code 21610",
    ),
    (
        "twilio",
        400,
        r#"{"code":21408,"message":"Permission to send an SMS has not been enabled","status":400}"#,
        "temporary: HTTP 400, code 21408",
    ),
    (
        "twilio",
        401,
        r#"{"code":20003,"message":"Authenticate","status":401}"#,
        "temporary: HTTP 401, code 20003",
    ),
    (
        "twilio",
        429,
        r#"{"code":20429,"message":"Too Many Requests","status":429}"#,
        "busy 9s: HTTP 429, code 20429",
    ),
    (
        "twilio",
        500,
        r#"{"code":20500,"message":"Internal Server Error","status":500}"#,
        "unknown: HTTP 500, code 20500",
    ),
    (
        "vonage",
        200,
        r#"{"message-count":"1","messages":[{"to":"79608543017","message-id":"0A0000000123ABCD1","status":"0","remaining-balance":"3.14159265","message-price":"0.03330000","network":"12345"}]}"#,
        "accepted 0A0000000123ABCD1",
    ),
    (
        "vonage",
        200,
        r#"{"message-count":"1","messages":[{"status":"2","error-text":"Missing to param"}]}"#,
        "temporary: HTTP 200, code 2",
    ),
    (
        "vonage",
        200,
        r#"{"message-count":"1","messages":[{"status":"1","error-text":"Throughput Rate Exceeded"}]}"#,
        "busy 9s: HTTP 200, code 1",
    ),
    (
        "vonage",
        200,
        r#"{"message-count":"1","messages":[{"status":"7","error-text":"Number barred"}]}"#,
        "permanent: HTTP 200, code 7",
    ),
    (
        "vonage",
        200,
        r#"{"message-count":"1","messages":[{"status":"9","error-text":"Partner quota violation"}]}"#,
        "temporary: HTTP 200, code 9",
    ),
    (
        "vonage",
        200,
        r#"{"message-count":"1","messages":[{"status":"5","error-text":"Internal error"}]}"#,
        "unknown: HTTP 200, code 5",
    ),
    (
        "smsru",
        200,
        r#"{"status":"OK","status_code":100,"sms":{"79608543017":{"status":"OK","status_code":100,"sms_id":"000000-10000000"}},"balance":4122.56}"#,
        "accepted 000000-10000000",
    ),
    (
        "smsru",
        200,
        r#"{"status":"OK","status_code":100,"sms":{"79608543017":{"status":"ERROR","status_code":207,"status_text":"На этот номер (или один из номеров) нельзя отправлять сообщения, либо указано более 100 номеров в списке получателей"}},"balance":4122.56}"#,
        "temporary: HTTP 200, code 207",
    ),
    (
        "smsru",
        200,
        r#"{"status":"OK","status_code":100,"sms":{"79608543017":{"status":"ERROR","status_code":221,"status_text":"…","sms_id":"202626-1000002"}},"balance":1000.0}"#,
        "temporary: HTTP 200, code 221",
    ),
    (
        "smsru",
        200,
        r#"{"status":"ERROR","status_code":201,"status_text":"Не хватает средств на лицевом счету"}"#,
        "temporary: HTTP 200, code 201",
    ),
    ("smsru", 200, "", "unknown: HTTP 200"),
    ("smsc", 200, "{\n\"id\": 33,\n\"cnt\": 1\n}", "accepted 33"),
    (
        "smsc",
        200,
        "{\n\"error\": \"invalid number\",\n\"error_code\": 7,\n\"id\": 34\n}",
        "permanent: HTTP 200, code 7",
    ),
    (
        "smsc",
        200,
        "{\n\"error\": \"duplicate request, wait a minute\",\n\"error_code\": 9\n}",
        "busy 9s: HTTP 200, code 9",
    ),
    ("smsc", 200, "{\n\"error\": \"authorise error\",\n\"error_code\": 2\n}", "temporary: HTTP 200, code 2"),
    ("smsc", 200, "{}", "unknown: HTTP 200"),
    (
        "mobizon",
        200,
        r#"{"code":0,"data":{"campaignId":245455096,"messageId":169275418,"status":2},"message":""}"#,
        "accepted 169275418",
    ),
    (
        "mobizon",
        200,
        r#"{"code":0,"data":{"campaignId":"1","messageId":"17","status":"1"},"message":""}"#,
        "accepted 17",
    ),
    (
        "mobizon",
        200,
        r#"{"code":1,"data":{"recipient":"На данное направление отправка запрещена."},"message":""}"#,
        "temporary: HTTP 200, code 1",
    ),
    (
        "mobizon",
        200,
        r#"{"code":1,"data":{"recipient":"Номер указан неверно."},"message":""}"#,
        "permanent: HTTP 200, code 1",
    ),
    ("mobizon", 200, r#"{"code":8,"data":null,"message":"…"}"#, "temporary: HTTP 200, code 8"),
    ("mobizon", 200, r#"{"code":30,"data":null,"message":"…"}"#, "busy 9s: HTTP 200, code 30"),
    ("mobizon", 200, r#"{"code":999,"data":null,"message":"…"}"#, "unknown: HTTP 200, code 999"),
    ("webhook", 204, "", "accepted -"),
    ("webhook", 202, r#"{"id":"m-17"}"#, "accepted m-17"),
    ("webhook", 422, "", "permanent: HTTP 422"),
    ("webhook", 400, "", "temporary: HTTP 400"),
    ("webhook", 500, "", "unknown: HTTP 500"),
];

#[tokio::test]
async fn each_preset_interprets_the_documented_responses() {
    let mut wrong = Vec::new();
    for (preset, status, body, expected) in RESPONSES {
        // The sender reads this header only if the response means that the gateway is busy.
        let response =
            ResponseTemplate::new(*status).set_body_string(*body).insert_header("retry-after", "9");
        let gateway = gateway(response).await;
        let config = match REQUESTS.iter().find(|request| request.preset == *preset) {
            Some(request) => config(preset, request.settings, request.host, &gateway.uri()),
            None => format!(
                "preset = \"webhook\"\nurl = \"{}\"\n\
                 settings.secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"",
                gateway.uri()
            ),
        };
        let read = meaning(&sender(&config).expect("valid configuration").send(&message()).await);
        if read != *expected {
            wrong.push(format!("{preset} {status} {body}: {read}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_preset_reports_missing_settings() {
    for (name, text) in PRESETS {
        assert!(text.starts_with("# ") && text.contains("https://"), "{name} links to its documentation");
        let error = sender(&format!("preset = \"{name}\"")).map(|_| ()).expect_err(name).to_string();
        assert!(error.contains("setting `") || error.contains("field `url`"), "{name}: {error}");
    }
}
