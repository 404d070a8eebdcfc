//! Reports that the vendors document, which the presets read, and the time for which they are accepted.

use std::time::Duration;

use referral_core::{
    sms::{
        DeliveryStatus::{self, Delivered, Failed},
        http::{ReportError, ReportReader},
    },
    test_util::ManualClock,
};
use time::OffsetDateTime;

use crate::report_requests::{Called, FORM, JSON, reader_at};

/// Documented request and its reports.
pub(crate) struct Documented {
    pub(crate) preset: &'static str,
    settings: &'static str,
    pub(crate) now: i64,
    pub(crate) request: Called,
    reports: &'static [(&'static str, DeliveryStatus)],
    reply: &'static str,
}

impl Documented {
    pub(crate) fn reader(&self) -> ReportReader {
        self.reader_with(self.settings)
    }

    pub(crate) fn reader_with(&self, settings: &str) -> ReportReader {
        let Self { preset, now, .. } = self;
        let config =
            format!("preset = \"{preset}\"\nurl = \"https://a.example\"\nsettings = {{ {settings} }}");
        reader_at(&config, *now)
    }
}

pub(crate) fn documented() -> Vec<Documented> {
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

const VONAGE: &str = "api-key=a1234567&client-ref=a%26b%3Dc&err-code=0&message-timestamp=2020-07-17+02%3A35%3A01&\
    messageId=14000000F9DBBBBB&msisdn=14845552121&network-code=310004&\
    nonce=aaaaaaaa-bbbb-cccc-dddd-0123456789ab&price=0.00845000&scts=1234567890&status=delivered&\
    timestamp=1594953301&to=16105553939&\
    sig=2923A876D6F6FDC53A16A073C14B1D1133FFEDE00B9CA49D5DB4E57CB427B270";

#[test]
fn each_preset_reads_the_documented_reports() {
    for documented in documented() {
        let reader = documented.reader();
        let read = documented.request.read_by(&reader).expect(documented.preset);
        let read: Vec<_> = read.iter().map(|(id, status)| (&**id, *status)).collect();
        assert_eq!((&*read, reader.reply()), (documented.reports, documented.reply), "{}", documented.preset);
    }
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
                let expected = if is_believed { Ok(()) } else { Err(ReportError::Signature) };
                assert_eq!(read.map(drop), expected, "{preset} at {now}");
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
