//! Reports without a valid signature, and the evidence of the valid ones.

use proptest::prelude::*;
use referral_core::sms::{
    ReportEvidence::{Strong, Weak},
    http::{ReportError, ReportReader, ReportRequest},
};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::{
    documented_reports::documented,
    fake::parse,
    report_requests::{FIELDS, FORM, JSON, URL, reader_at},
};

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
            let refusal = match documented.request.headers.first() {
                Some((_, JSON)) if !is_json(&request.body) => ReportError::Malformed,
                _ => ReportError::Signature,
            };
            // Fields that are not read may have any value.
            assert!(
                forged == Err(refusal) || forged.as_ref() == Ok(&read),
                "{} {at}: {forged:?}",
                documented.preset
            );
        }
    }
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(body).is_ok()
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
            match ReportReader::new("g1", &config) {
                Ok(reports) => assert!(reports.is_none() && preset != "smsc", "{preset}"),
                // SMSC.ru requires one of two settings.
                Err(error) => assert!(error.to_string().contains("` is missing"), "{preset}: {error}"),
            }
        }
    }
    for reports in ["", "[reports]\nid = \"id\"\nstatus = \"status\"\ndelivered = [\"1\"]\nfailed = []"] {
        let config = parse(&format!("url = \"https://a.example\"\n{reports}")).expect("valid configuration");
        assert!(ReportReader::new("g1", &config).expect("valid configuration").is_none(), "{reports}");
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
        let is_readable = match content_type {
            _ if body.is_empty() => true,
            JSON => is_json(&body),
            content_type => matches!(content_type, FORM | ""),
        };
        let refusal = if is_readable { ReportError::Signature } else { ReportError::Malformed };
        for documented in documented() {
            for url in [format!("{URL}?{query}"), query.clone()] {
                let request = ReportRequest { url: &url, headers: &headers, body: &body };
                prop_assert_eq!(documented.reader().read(&request).map(drop), Err(refusal));
            }
        }
    }
}
