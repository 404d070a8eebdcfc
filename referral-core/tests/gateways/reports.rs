//! Reports of gateways: tests of the presets with documented requests, and of requests from any sender.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use proptest::prelude::*;
use referral_core::{
    DeliveryReport,
    DeliveryStatus::{self, Delivered, Failed},
    Event, Hook, Peppers, PhoneNumber, Policy, ReferralService,
    ReportEvidence::{Strong, Weak},
    SendCode, SigningKeys,
    conformance::ManualClock,
    sms::{
        Receipt, SmsError, SmsMessage, SmsSender,
        http::{ReportError, ReportReader, ReportRequest},
    },
    storage::{MemoryStorage, Retention, Storage as _},
};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use time::OffsetDateTime;

use crate::fake::parse;

pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
pub(crate) const JSON: &str = "application/json";
const URL: &str = "https://example.org/sms/reports/g1/";

/// Request with reports.
#[derive(Clone)]
pub(crate) struct Called {
    pub(crate) url: String,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    pub(crate) body: Vec<u8>,
}

impl Called {
    pub(crate) fn get(query: &str) -> Self {
        Self { url: format!("{URL}?{query}"), headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn post(content_type: &'static str, body: impl AsRef<[u8]>) -> Self {
        let headers = vec![("content-type", content_type)];
        Self { url: URL.into(), headers, body: body.as_ref().to_vec() }
    }

    pub(crate) fn at(self, url: &str) -> Self {
        Self { url: url.into(), ..self }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn read_by(&self, reports: &ReportReader) -> Read {
        let headers = self.headers.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("valid header"))
        });
        let headers: HeaderMap = headers.collect();
        let read = reports.read(&ReportRequest { url: &self.url, headers: &headers, body: &self.body })?;
        assert!(read.iter().all(|report| report.gateway == "g1"));
        Ok(read.into_iter().map(|report| (report.message_id, report.status)).collect())
    }
}

pub(crate) type Read = Result<Vec<(String, DeliveryStatus)>, ReportError>;

/// Returns a reader with this configuration and this time.
pub(crate) fn reader_at(config: &str, now: i64) -> ReportReader {
    let now = OffsetDateTime::from_unix_timestamp(now).expect("valid time");
    let reports =
        ReportReader::new("g1", &parse(config).expect(config)).expect(config).expect("a configured secret");
    reports.clock(ManualClock::new(now))
}

/// Returns a reader where the time does not matter.
pub(crate) fn reader(reports: &str) -> ReportReader {
    reader_at(&format!("url = \"https://a.example\"\n[reports]\n{reports}"), 0)
}

/// Documented request and its reports.
struct Documented {
    preset: &'static str,
    settings: &'static str,
    now: i64,
    request: Called,
    reports: &'static [(&'static str, DeliveryStatus)],
    reply: &'static str,
}

impl Documented {
    fn reader(&self) -> ReportReader {
        self.reader_with(self.settings)
    }

    fn reader_with(&self, settings: &str) -> ReportReader {
        let Self { preset, now, .. } = self;
        let config =
            format!("preset = \"{preset}\"\nurl = \"https://a.example\"\nsettings = {{ {settings} }}");
        reader_at(&config, *now)
    }
}

const VONAGE: &str = "api-key=a1234567&client-ref=a%26b%3Dc&err-code=0&message-timestamp=2020-07-17+02%3A35%3A01&\
    messageId=14000000F9DBBBBB&msisdn=14845552121&network-code=310004&\
    nonce=aaaaaaaa-bbbb-cccc-dddd-0123456789ab&price=0.00845000&scts=1234567890&status=delivered&\
    timestamp=1594953301&to=16105553939&\
    sig=2923A876D6F6FDC53A16A073C14B1D1133FFEDE00B9CA49D5DB4E57CB427B270";

fn documented() -> Vec<Documented> {
    let vonage = |request| Documented {
        preset: "vonage",
        settings: r#"signature_secret = "my_secret_key_for_testing""#,
        now: 1_594_953_301,
        request,
        reports: &[("14000000F9DBBBBB", Delivered)],
        reply: "",
    };
    let in_json = r#"{"api-key":"a1234567","client-ref":"a&b=c","err-code":"0",
        "message-timestamp":"2020-07-17 02:35:01","messageId":"14000000F9DBBBBB","msisdn":"14845552121",
        "network-code":"310004","nonce":"aaaaaaaa-bbbb-cccc-dddd-0123456789ab","price":"0.00845000",
        "scts":"1234567890","status":"delivered","timestamp":"1594953301","to":"16105553939",
        "sig":"2923A876D6F6FDC53A16A073C14B1D1133FFEDE00B9CA49D5DB4E57CB427B270"}"#;
    vec![
        vonage(Called::get(VONAGE)),
        vonage(Called::post("application/x-www-form-urlencoded; charset=UTF-8", VONAGE)),
        vonage(Called::post(JSON, in_json)),
        Documented {
            preset: "twilio",
            settings: r#"from = "Acme", auth_token = "12345""#,
            now: 0,
            request: Called::post(
                FORM,
                "AccountSid=ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa&ApiVersion=2010-04-01&ErrorCode=30005&\
                 From=%2B14155552345&MessageSid=SMaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa&\
                 MessageStatus=undelivered&SmsSid=SMaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa&\
                 SmsStatus=undelivered&To=%2B14155550100",
            )
            .at("https://example.org/sms/dlr?ref=abc")
            .with("x-twilio-signature", "apg6FrRRkQKsNkl7tH+4qz7hVMM="),
            reports: &[("SMaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Failed)],
            reply: "",
        },
        Documented {
            preset: "smsru",
            settings: r#"api_id = "11111111-2222-3333-4444-555555555555""#,
            now: 1_782_469_897,
            request: Called::post(
                FORM,
                "data%5B0%5D=sms_status%0A000000-1%0A103%0A1782469893&\
                 data%5B1%5D=sms_status%0A000000-2%0A104%0A1782469894&data%5B2%5D=test%0A1782469895&\
                 data%5B3%5D=callcheck_status%0A000000-3%0A401%0A1782469896&\
                 data%5B4%5D=sms_status%0A000000-4%0A102%0A1782469897&\
                 hash=f3820f19305c4b1c2bb3cf0ccb65724000fdf38436addd25cba46d00e77f57f0",
            ),
            reports: &[("000000-1", Delivered), ("000000-2", Failed)],
            reply: "100",
        },
        Documented {
            preset: "smsc",
            settings: r#"apikey = "k", report_secret = "secret123""#,
            now: 0,
            request: Called::post(
                FORM,
                "id=33&phone=79998887766&status=1&time=18.10.2016+15%3A34%3A12&err=0&cnt=1&type=0&\
                 md5=05446cfd724729b09f61d5183ae712fc&sha1=aa1de96102bfc3d84713731e42cfcd85b6520d45",
            ),
            reports: &[("33", Delivered)],
            reply: "",
        },
        Documented {
            preset: "mobizon",
            settings: r#"api_key = "k", report_secret = "secret123""#,
            now: 1_768_477_348,
            request: Called::post(
                JSON,
                r#"{"eventId":26,"eventType":"sms-delivery-report","eventCreateTs":"2026-01-15 11:42:28",
                    "webhookId":1,"attempt":1,"data":{"campaignId":245455096,"messageId":169275418,
                    "segNum":3,"statusUpdateTs":"2026-01-15 11:42:08","status":"DELIVRD",
                    "to":"380737893456"},"sign":"5cdebbb611d765bad163d765e8637830b6fd4060"}"#,
            ),
            reports: &[("169275418", Delivered)],
            reply: "",
        },
        Documented {
            preset: "webhook",
            settings: r#"secret = "-", report_secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw""#,
            now: 1_614_265_330,
            request: Called::post(JSON, r#"{"type":"sms.status","data":{"id":"7f3a","status":"delivered"}}"#)
                .with("webhook-id", "msg_1")
                .with("webhook-timestamp", "1614265330")
                .with("webhook-signature", "v1,8Vu/5yJ3kpnfGQSVQEwmZCF6JB+VRMjHHmqURNv02wg="),
            reports: &[("7f3a", Delivered)],
            reply: "",
        },
    ]
}

#[test]
fn each_preset_reads_the_documented_reports() {
    for documented in documented() {
        let reader = documented.reader();
        let read = documented.request.read_by(&reader).expect(documented.preset);
        let read: Vec<_> = read.iter().map(|(id, status)| (&**id, *status)).collect();
        assert_eq!((&*read, reader.reply()), (documented.reports, documented.reply), "{}", documented.preset);
    }
}

#[test]
fn modified_report_is_rejected() {
    for documented in documented() {
        // Its signature covers the event, but not the data of the message.
        if documented.preset == "mobizon" {
            continue;
        }
        let reader = documented.reader();
        let read = documented.request.read_by(&reader).expect(documented.preset);
        for at in 0..documented.request.body.len() {
            let mut request = documented.request.clone();
            request.body[at] ^= 1;
            let forged = request.read_by(&reader);
            // Fields that are not read may have any value.
            assert!(
                forged.is_err() || forged.as_ref() == Ok(&read),
                "{} {at}: {forged:?}",
                documented.preset
            );
        }
    }
}

#[test]
fn report_signed_with_another_secret_is_rejected() {
    let other =
        r#"apikey = "k", from = "Acme", auth_token = "54321", api_id = "other", signature_secret = "other",
        report_secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA""#
            .replace('\n', "");
    for documented in documented() {
        let reader = documented.reader_with(&other);
        assert_eq!(documented.request.read_by(&reader), Err(ReportError::Signature), "{}", documented.preset);
    }
}

#[test]
fn reports_are_not_accepted_without_a_secret() {
    for settings in ["", "settings = { auth_token = \"\", report_secret = \"\" }"] {
        for preset in ["mobizon", "smsc", "smsru", "twilio", "vonage", "webhook"] {
            let config = parse(&format!("preset = \"{preset}\"\nurl = \"https://a.example\"\n{settings}"));
            let config = config.expect("valid preset");
            // SMSC.ru requires one of two settings.
            let reports = ReportReader::new("g1", &config);
            assert!(!matches!(reports, Ok(Some(_))), "{preset}");
        }
    }
    for reports in ["", "[reports]\nid = \"id\"\nstatus = \"status\"\ndelivered = [\"1\"]\nfailed = []"] {
        let config = parse(&format!("url = \"https://a.example\"\n{reports}")).expect("valid configuration");
        assert!(ReportReader::new("g1", &config).expect("valid configuration").is_none(), "{reports}");
    }
}

const TOKEN: &str = "0123456789abcdef";

/// Returns a reader for a gateway without signatures.
fn token_reader(shape: &str) -> ReportReader {
    let reports =
        format!("{shape}\ndelivered = [\"1\", \"true\"]\nfailed = [\"2\"]\nsignature.token = \"{TOKEN}\"");
    reader(&reports)
}

const FIELDS: &str = "id = \"id\"\nstatus = \"status\"";

#[test]
fn reports_are_read_from_the_configured_locations() {
    let at =
        reader("id = \"x\"\nstatus = \"x\"\ndelivered = []\nfailed = []\nsignature.twilio = \"s\"").url(URL);
    assert_eq!(at, URL);
    let url = token_reader(FIELDS).url(URL);
    assert_eq!(url, format!("{URL}?token={TOKEN}"));
    let in_json = "id = \"/message/id\"\nstatus = \"ok\"";
    let list = "each = \"/results\"\nid = \"id\"\nstatus = \"/status/code\"";
    let whole = "each = \"\"\nid = \"id\"\nstatus = \"status\"";
    let texts = "each = \"r\"\npattern = '^(?<id>\\w+):(?<status>\\d)?'";
    for (shape, request, expected) in [
        (FIELDS, Called::get(&format!("token={TOKEN}&id=a&status=2")), &[("a", Failed)] as &[_]),
        (FIELDS, Called::post(FORM, "id=a%20b&status=1&to=7").at(&url), &[("a b", Delivered)]),
        (FIELDS, Called::post(FORM, "id=a&status=3").at(&url), &[]),
        (FIELDS, Called::post(FORM, "status=1").at(&url), &[]),
        (FIELDS, Called::post(JSON, r#"{"id": 5, "status": 1}"#).at(&url), &[("5", Delivered)]),
        (FIELDS, Called::post(JSON, r#"{"id": ["a"], "status": 1}"#).at(&url), &[]),
        (FIELDS, Called::post(JSON, "null").at(&url), &[]),
        // It is ambiguous which of the two values is meant.
        (FIELDS, Called::post(FORM, "id=a&status=1&id=b").at(&url), &[]),
        // The body has priority over the query.
        (FIELDS, Called::post(FORM, "x=1").at(&format!("{url}&id=a&status=1")), &[]),
        (in_json, Called::post(JSON, r#"{"message": {"id": "a"}, "ok": true}"#).at(&url), &[("a", Delivered)]),
        (
            list,
            Called::post(JSON, r#"{"results": [{"id": "a", "status": {"code": "1"}}, 7, {"id": "b"}, {"id": "c", "status": {"code": "2"}}]}"#)
                .at(&url),
            &[("a", Delivered), ("c", Failed)],
        ),
        (list, Called::post(JSON, r#"{"results": {"id": "a"}}"#).at(&url), &[]),
        (whole, Called::post(JSON, r#"[{"id": "a", "status": "1"}]"#).at(&url), &[("a", Delivered)]),
        (texts, Called::post(FORM, "r[0]=a:1&r[x]=b:2&r=c:1&rr[0]=d:1&r[1]=e:&r[2]").at(&url), &[("a", Delivered), ("b", Failed)]),
    ] {
        let read = request.read_by(&token_reader(shape)).expect(shape);
        let read: Vec<_> = read.iter().map(|(id, status)| (&**id, *status)).collect();
        assert_eq!(read, expected, "{} {}", request.url, String::from_utf8_lossy(&request.body));
    }
}

#[test]
fn unreadable_or_too_many_reports_are_malformed() {
    let url = token_reader(FIELDS).url(URL);
    for request in [
        Called::post(JSON, "{"),
        Called::post(JSON, b"{\"id\": \"\xff\"}"),
        Called::post(JSON, "[".repeat(16 * 1024)),
        Called::post("text/xml", "<id>a</id>"),
        Called::post("multipart/form-data; boundary=x", "--x--"),
    ] {
        assert_eq!(request.at(&url).read_by(&token_reader(FIELDS)), Err(ReportError::Malformed));
    }
    let many = |count: usize| {
        let reports = vec![r#"{"id":"a","status":1}"#; count].join(",");
        Called::post(JSON, format!("[{reports}]")).at(&url)
    };
    let reader = token_reader(&format!("each = \"\"\n{FIELDS}"));
    assert_eq!(many(200).read_by(&reader).expect("not too many").len(), 200);
    assert_eq!(many(201).read_by(&reader), Err(ReportError::Malformed));
}

#[test]
fn invalid_configuration_of_reports_is_rejected_with_a_reason() {
    let shape = "`reports` must have `id` and `status`";
    for (reports, expected) in [
        ("", shape),
        ("id = \"a\"", shape),
        ("each = \"data\"\nid = \"a\"\nstatus = \"b\"", shape),
        ("each = \"data\"\npattern = '(?<id>.)'", shape),
        ("pattern = '(?<id>.)(?<status>.)'", shape),
        ("each = \"data\"\npattern = '('", "regex"),
        ("id = \"a\"\nstatus = \"b\"\nsent = []", "unknown field `sent`"),
        ("id = \"a\"\nstatus = \"b\"\nsignature.md5 = \"c\"", "expected one of `twilio`"),
        ("id = \"a\"\nstatus = \"b\"\nsignature.smsru = \"c\"", "`smsru` signs texts"),
        ("id = \"a\"\nstatus = \"b\"\nsignature.token = \"short\"", "at least 16 characters"),
        ("id = \"a\"\nstatus = \"b\"\nsignature.standard_webhooks = \"c\"", "whsec_"),
        (
            "id = \"a\"\nstatus = \"b\"\nsignature.sha1 = { of = [\"c\"], separator = \":\", at = \"d\", time = \"t\", secret = \"e\" }",
            "`time` of the signature must be one",
        ),
        (
            "id = \"a\"\nstatus = \"b\"\nsignature.sha1 = { of = [], separator = \"\", at = \"c\", secret = \"d\" }",
            "`separator` must not be empty",
        ),
    ] {
        let config =
            format!("url = \"https://a.example\"\n[reports]\ndelivered = []\nfailed = []\n{reports}");
        let refused = parse(&config).and_then(|config| ReportReader::new("g1", &config));
        let refused = refused.map(|_| ()).expect_err(reports).to_string();
        assert!(refused.contains(expected), "{reports}: {refused}");
    }
}

#[test]
fn debug_output_does_not_contain_the_secret() {
    let reader = token_reader(FIELDS);
    assert_eq!(format!("{reader:?}"), "ReportReader(\"g1\")");
    assert_eq!((reader.gateway(), reader.signs_url()), ("g1", false));
}

/// Each preset is read at the limits of the accepted time.
#[test]
fn report_is_accepted_as_long_as_its_gateway_repeats_it() {
    const HOUR: i64 = 60 * 60;
    // Mobizon does not document the time zone of its times.
    for (preset, ahead, behind) in
        [("webhook", 300, 300), ("vonage", 300, 24 * HOUR), ("mobizon", 300 + 14 * HOUR, (24 + 12) * HOUR)]
    {
        for documented in documented().iter().filter(|documented| documented.preset == preset) {
            for (now, is_believed) in [
                (documented.now - ahead - 1, false),
                (documented.now - ahead, true),
                (documented.now + behind, true),
                (documented.now + behind + 1, false),
            ] {
                let clock = ManualClock::new(OffsetDateTime::UNIX_EPOCH);
                clock.advance(Duration::from_secs(now.unsigned_abs()));
                let read = documented.request.read_by(&documented.reader().clock(clock));
                assert_eq!(read.is_ok(), is_believed, "{preset} at {now}");
            }
        }
    }
}

/// The other reports of the same request are accepted.
#[test]
fn reports_that_are_too_old_are_dropped() {
    let documented = documented().into_iter().find(|documented| documented.preset == "smsru");
    let documented = documented.expect("known preset");
    let read_at = |now| {
        let clock = ManualClock::new(OffsetDateTime::from_unix_timestamp(now).expect("valid time"));
        documented.request.read_by(&documented.reader().clock(clock)).expect("signed")
    };
    let both = vec![("000000-1".to_owned(), Delivered), ("000000-2".to_owned(), Failed)];
    let first = 1_782_469_893;
    for (now, expected) in [
        (first - 301, &[] as &[_]),
        (first - 300, &both[..1]),
        (first, &both),
        (first + 24 * 60 * 60, &both),
        (first + 24 * 60 * 60 + 1, &both[1..]),
        (first + 24 * 60 * 60 + 2, &[]),
    ] {
        assert_eq!(read_at(now), expected, "{now}");
    }
}

#[test]
fn evidence_is_strong_only_if_id_status_and_a_recent_time_are_signed() {
    for documented in documented() {
        let headers = documented.request.headers.iter();
        let headers =
            headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let request = ReportRequest {
            url: &documented.request.url,
            headers: &headers.collect(),
            body: &documented.request.body,
        };
        let evidence = match documented.preset {
            "vonage" | "smsru" | "webhook" => Strong,
            _ => Weak,
        };
        for report in documented.reader().read(&request).expect(documented.preset) {
            assert_eq!(report.evidence, evidence, "{}", documented.preset);
        }
    }
    // SHA-1 of `7:1:1768477348:s`, and of fewer fields.
    for (of, time, sha1, evidence) in [
        (r#""id", "status", "at""#, ", time = \"at\"", "706533fd70342fc6b1498a519336d2e7f985c538", Strong),
        (r#""id", "status", "at""#, "", "706533fd70342fc6b1498a519336d2e7f985c538", Weak),
        (r#""id", "at""#, ", time = \"at\"", "c5a5d9d50a90787ac2cbde2211f0388006023948", Weak),
        (r#""status", "at""#, ", time = \"at\"", "8ba457cc0862e82133bd182287ecc1ecb95764d0", Weak),
    ] {
        let config = format!(
            "url = \"https://a.example\"\n[reports]\n{FIELDS}\ndelivered = [\"1\"]\nfailed = []\n\
             signature.sha1 = {{ of = [{of}], separator = \":\", at = \"sha1\"{time}, secret = \"s\" }}"
        );
        let url = format!("{URL}?id=7&status=1&at=1768477348&sha1={sha1}");
        let request = ReportRequest { url: &url, headers: &HeaderMap::new(), body: b"" };
        let read = reader_at(&config, 1_768_477_348).read(&request).expect(of);
        assert_eq!(read.iter().map(|report| report.evidence).collect::<Vec<_>>(), [evidence], "{of}{time}");
    }
}

/// Returns a service that receives reports of `g1` at this time, its storage, its clock, and the emitted
/// statuses.
fn receiver(now: i64) -> (ReferralService, Arc<MemoryStorage>, ManualClock, Statuses) {
    let statuses = Statuses::default();
    let storage = Arc::new(MemoryStorage::new());
    let clock = ManualClock::new(OffsetDateTime::from_unix_timestamp(now).expect("valid time"));
    let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("sufficient length");
    let peppers = Peppers::from_secret("p1", &[2; 32]).expect("sufficient length");
    let referral = ReferralService::builder(storage.clone(), Arc::new(Gateway), keys, peppers)
        .policy(Policy::development())
        .clock(clock.clone())
        .hook(statuses.clone())
        .build();
    (referral.expect("valid policy and keys"), storage, clock, statuses)
}

/// Hook that records the emitted statuses.
#[derive(Clone, Default)]
struct Statuses(Arc<Mutex<Vec<DeliveryStatus>>>);

#[async_trait]
impl Hook for Statuses {
    async fn on_event(&self, event: &Event) {
        if let Event::MessageStatus { status, .. } = event {
            self.0.lock().expect("not poisoned").push(*status);
        }
    }
}

/// Gateway that accepts every message as `m1`.
struct Gateway;

#[async_trait]
impl SmsSender for Gateway {
    async fn send(&self, _: &SmsMessage) -> Result<Receipt, SmsError> {
        Ok(Receipt::new("m1").gateway("g1"))
    }
}

/// Deletes all stored messages and returns their number.
async fn count_messages(storage: &MemoryStorage) -> u64 {
    let (never, ever) =
        (OffsetDateTime::UNIX_EPOCH, OffsetDateTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 100));
    let delete_expired = Retention {
        ended_before: never,
        global_counters_before: never,
        messages_before: ever,
        batch: u32::MAX,
    };
    storage.delete_expired(&delete_expired).await.expect("deleted")
}

#[tokio::test]
async fn captured_report_with_forged_ids_does_not_fill_the_table() {
    let mobizon =
        documented().into_iter().find(|documented| documented.preset == "mobizon").expect("known preset");
    let captured = String::from_utf8(mobizon.request.body.clone()).expect("JSON");
    let at = token_reader(FIELDS).url(URL);
    let forge_mobizon = |id: u32| Called::post(JSON, captured.replace("169275418", &id.to_string()));
    let forge_token = |id: u32| Called::post(FORM, format!("id={id}&status=1")).at(&at);
    let forgeries: [(ReportReader, &dyn Fn(u32) -> Called); 2] =
        [(mobizon.reader(), &forge_mobizon), (token_reader(FIELDS), &forge_token)];
    for (reader, forge) in forgeries {
        let (referral, storage, clock, _) = receiver(mobizon.now);
        for minute in 0..2 {
            for id in 0..5_000 {
                let forged = forge(minute * 5_000 + id);
                let content_type = HeaderValue::from_static(forged.headers[0].1);
                let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
                let request = ReportRequest { url: &forged.url, headers: &headers, body: &forged.body };
                // The sender gets no information, since each report is accepted.
                for report in reader.read(&request).expect("accepted") {
                    referral.report_delivery(report).await.expect("accepted");
                }
            }
            clock.advance(Duration::from_mins(1));
        }
        assert_eq!(count_messages(&storage).await, 2 * 30, "{reader:?}");
    }
}

#[tokio::test]
async fn flood_of_unknown_messages_does_not_suppress_reports_of_known_ones() {
    let (referral, storage, _, emitted) = receiver(0);
    let report = |id: &str, evidence| {
        referral.report_delivery(DeliveryReport {
            gateway: "g1".into(),
            message_id: id.into(),
            status: Delivered,
            evidence,
        })
    };
    for id in 0..100 {
        report(&format!("unknown{id}"), Weak).await.expect("accepted");
    }
    let phone = PhoneNumber::parse("+79608543017", None).expect("valid");
    referral.send_code(SendCode::new(phone)).await.expect("sent");
    report("m1", Weak).await.expect("accepted");
    assert_eq!(*emitted.0.lock().expect("not poisoned"), [DeliveryStatus::Sent, Delivered]);
    report("early", Strong).await.expect("accepted");
    assert_eq!(count_messages(&storage).await, 30 + 2);
}

proptest! {
    #[test]
    fn unsigned_request_is_never_accepted(
        query in ".{0,40}",
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "(data\\[[0-9]\\]|id|sig|hash|sha1|timestamp)=[%0-9a-f\\n&=]{0,40}".prop_map(String::into_bytes),
            "\\{\"(id|sig|hash|timestamp)\":(\"|-?[0-9]{1,30}|\\{\\}|null)[\"\\}]{0,3}".prop_map(String::into_bytes),
        ],
        content_type in prop_oneof![Just(FORM), Just(JSON), Just(""), Just("text/plain")],
        signature in "[ -~]{0,40}",
    ) {
        let headers: HeaderMap = ["content-type", "x-twilio-signature", "webhook-id", "webhook-timestamp", "webhook-signature"]
            .into_iter()
            .map(|name| {
                let value = if name == CONTENT_TYPE.as_str() { content_type } else { &signature };
                (HeaderName::from_static(name), HeaderValue::from_str(value).expect("valid header"))
            })
            .collect();
        for documented in documented() {
            for url in [format!("{URL}?{query}"), query.clone()] {
                let request = ReportRequest { url: &url, headers: &headers, body: &body };
                prop_assert!(documented.reader().read(&request).is_err());
            }
        }
    }
}
