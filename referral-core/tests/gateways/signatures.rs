//! Signatures of reports, with the test data of the vendors' libraries and with forged reports.

use referral_core::sms::{
    DeliveryStatus::{self, Delivered, Failed},
    http::{ReportError, ReportReader},
};

use crate::report_requests::{Called, FORM, JSON, reader, reader_at};

fn delivered(id: &str) -> Vec<(String, DeliveryStatus)> {
    vec![(id.into(), Delivered)]
}

/// Returns a reader for the test data of Twilio, which are no reports.
fn twilio() -> ReportReader {
    reader(
        "id = \"CallSid\"\nstatus = \"Digits\"\ndelivered = [\"1234\"]\nfailed = []\n\
         signature.twilio = \"12345\"",
    )
}

const CALL: &str =
    "CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309";
const PAGE: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";

/// twilio-python, `tests/unit/test_request_validator.py`.
#[test]
fn twilio_signs_the_url_with_or_without_its_port() {
    for (url, signature) in [
        (PAGE, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("https://mycompany.com:1234/myapp.php?foo=1&bar=2", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("http://mycompany.com:1234/myapp.php?foo=1&bar=2", "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="),
        (PAGE, "kvajT1Ptam85bY51eRf/AJRuM3w="),
        ("http://mycompany.com/myapp.php?foo=1&bar=2", "0ZXoZLH/DfblKGATFgpif+LLRf4="),
    ] {
        let request = Called::post(FORM, CALL).at(url).with("x-twilio-signature", signature);
        assert_eq!(request.read_by(&twilio()), Ok(delivered("CA1234567890ABCDE")), "{url}");
    }
    assert!(twilio().signs_url());
}

#[test]
fn twilio_signature_is_invalid_for_another_url() {
    for url in [
        "http://mycompany.com/myapp.php?foo=1&bar=2",
        "https://mycompany.com/myapp.php?foo=1&bar=3",
        "https://mycompany.com/myapp.php",
        "https://mycompany.org/myapp.php?foo=1&bar=2",
        "/myapp.php?foo=1&bar=2",
        "",
    ] {
        let request =
            Called::post(FORM, CALL).at(url).with("x-twilio-signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
        assert_eq!(request.read_by(&twilio()), Err(ReportError::Signature), "{url}");
    }
    assert_eq!(Called::post(FORM, CALL).at(PAGE).read_by(&twilio()), Err(ReportError::Signature));
}

#[test]
fn twilio_signs_each_value_of_a_field_once() {
    let form = "Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234";
    let request =
        Called::post(FORM, form).at(PAGE).with("x-twilio-signature", "IK+Dwps556ElfBT0I3Rgjkr1wJU=");
    let reader = reader(
        "id = \"Sid\"\nstatus = \"SidAccount\"\ndelivered = [\"AC123\"]\nfailed = []\n\
         signature.twilio = \"12345\"",
    );
    assert_eq!(request.read_by(&reader), Ok(delivered("CA123")));
}

#[test]
fn twilio_signs_json_by_its_hash_in_the_url() {
    let json = r#"{"property": "value", "boolean": true}"#;
    let reader = reader(
        "id = \"property\"\nstatus = \"boolean\"\ndelivered = [\"true\"]\nfailed = []\n\
         signature.twilio = \"12345\"",
    );
    let hash = "bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
    let at = |body: &str, url: &str, signature| {
        Called::post(JSON, body).at(url).with("x-twilio-signature", signature).read_by(&reader)
    };
    let signature = "a9nBmqA0ju/hNViExpshrM61xv4=";
    assert_eq!(at(json, &format!("{PAGE}&{hash}"), signature), Ok(delivered("value")));
    let other = json.replace("value", "other");
    assert_eq!(at(&other, &format!("{PAGE}&{hash}"), signature), Err(ReportError::Signature));
    // Only the URL is signed, so the body is not verified.
    let bare = "https://example.org/r";
    assert_eq!(at(json, bare, "fI004iZvAgXCHSikL3svjQYB0EE="), Err(ReportError::Signature));
    let get = Called::get("").at(bare).with("x-twilio-signature", "fI004iZvAgXCHSikL3svjQYB0EE=");
    assert_eq!(get.read_by(&reader), Ok(Vec::new()), "the signature of the URL is valid");
}

/// vonage-php-sdk-core `test/Client/SignatureTest.php`, and vonage-python-sdk
/// `http_client/tests/test_auth.py`.
#[test]
fn vonage_signs_all_fields() {
    let reads = |id: &str, status: &str, secret: &str, now, query: &str| {
        let config = format!(
            "url = \"https://a.example\"\n[reports]\nid = \"{id}\"\nstatus = \"{status}\"\ndelivered = [\"text\", \"2\"]\n\
             failed = [\"value2\"]\nsignature.vonage = \"{secret}\""
        );
        Called::get(query).read_by(&reader_at(&config, now))
    };
    let secret = "my_secret_key_for_testing";
    let sms = "message-timestamp=2013-11-21+15%3A27%3A30&messageId=020000001B0FE827&msisdn=14843472194&\
               text=Test+again&timestamp=1385047698&to=13239877404&type=text&\
               sig=DDB8397C2B90AAC7F3882D306475C9A5058C92322EEF43C92B298B6E0FC0D330";
    assert_eq!(reads("messageId", "type", secret, 1_385_047_698, sms), Ok(delivered("020000001B0FE827")));
    let more = format!("{sms}&x=");
    assert_eq!(reads("messageId", "type", secret, 1_385_047_698, &more), Err(ReportError::Signature));
    let none = sms.split_once("&sig").map_or("", |(fields, _)| fields);
    assert_eq!(reads("messageId", "type", secret, 1_385_047_698, none), Err(ReportError::Signature));

    let params = "param1=value1&param2=value2&timestamp=1234567890&\
                  sig=280c4320703dbc98bfa22db676655ed2acfbfe8792b062ff7622e67f1183c287";
    let read = reads("param1", "param2", "signature_secret", 1_234_567_890, params);
    assert_eq!(read, Ok(vec![("value1".into(), Failed)]));
}

/// standard-webhooks, `libraries/python/tests` and `libraries/go/webhook_test.go`.
#[test]
fn webhook_with_several_signatures_is_accepted_if_one_is_valid() {
    let config = "url = \"https://a.example\"\n[reports]\nid = \"test\"\nstatus = \"test\"\ndelivered = [\"2432232314\"]\n\
        failed = []\nsignature.standard_webhooks = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
    let signed = |signature, body: &str| {
        Called::post(JSON, body)
            .with("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
            .with("webhook-timestamp", "1614265330")
            .with("webhook-signature", signature)
            .read_by(&reader_at(config, 1_614_265_330))
    };
    let body = r#"{"test": 2432232314}"#;
    for right in [
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v2,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= \
         v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=",
    ] {
        assert_eq!(signed(right, body), Ok(delivered("2432232314")), "{right}");
    }
    for wrong in [
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA=",
        "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "v1,",
        "",
    ] {
        assert_eq!(signed(wrong, body), Err(ReportError::Signature), "{wrong}");
    }
    assert_eq!(signed("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "{}"), Err(ReportError::Signature));
    // An empty body contains no report, even if the query does.
    let empty = Called::get("test=2432232314")
        .with("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
        .with("webhook-timestamp", "1614265330")
        .with("webhook-signature", "v1,v48jdbgvh29KJz2Qc+ghw8G6vG3nAKnujWBg8oM/62A=");
    assert_eq!(empty.read_by(&reader_at(config, 1_614_265_330)), Err(ReportError::Signature));
}

#[test]
fn smsru_signature_does_not_allow_appending_data() {
    let reader = reader(
        "each = \"data\"\npattern = '^sms_status\\n(?<id>.+)\\n(?<status>\\d+)\\n'\ndelivered = [\"103\"]\nfailed = []\n\
         signature.smsru = \"11111111-2222-3333-4444-555555555555\"",
    );
    let signed = "data[0]=sms_status%0A000000-1%0A103%0A1782469893&\
                  hash=0b5c0c6681a4dc6655a376c14f87b437ac7a5970757a5e9f8ca6148ec5a34521";
    assert_eq!(Called::post(FORM, signed).read_by(&reader), Ok(delivered("000000-1")));
    // A length extension of the hash must contain its padding, which starts with this byte.
    let padded = "data[0]=sms_status%0A000000-1%0A103%0A1%80&\
                  hash=f7fcfa6ccac45db1653d6a2e8ac9b8afac41d1691c25ea2041ea647832018335";
    assert_eq!(Called::post(FORM, padded).read_by(&reader), Err(ReportError::Signature));
    for unsigned in ["hash=", "data[0]=sms_status%0A1%0A103%0A1", ""] {
        assert_eq!(Called::post(FORM, unsigned).read_by(&reader), Err(ReportError::Signature));
    }
}

#[test]
fn value_of_a_field_must_not_contain_the_separator() {
    let reader = reader(
        "id = \"id\"\nstatus = \"status\"\ndelivered = [\"1\"]\nfailed = []\n\
         signature.sha1 = { of = [\"id\", \"phone\", \"status\"], separator = \":\", at = \"sha1\", secret = \"secret123\" }",
    );
    let read = |fields: &str, sha1: &str| Called::get(&format!("{fields}&sha1={sha1}")).read_by(&reader);
    let sha1 = "AA1DE96102BFC3D84713731E42CFCD85B6520D45";
    assert_eq!(read("id=33&phone=79998887766&status=1", sha1), Ok(delivered("33")));
    for forged in ["id=33&phone=79998887766&status=1&status=1", "id=33&status=1", ""] {
        assert_eq!(read(forged, sha1), Err(ReportError::Signature), "{forged}");
    }
    // The hash is the same, but the fields are ambiguous.
    let sha1 = "294e08c0d938de1a2261e312c6505267f935750e";
    for unclear in ["id=33:7&phone=9&status=1", "id=33&phone=7:9&status=1"] {
        assert_eq!(read(unclear, sha1), Err(ReportError::Signature), "{unclear}");
    }
}

#[test]
fn token_is_part_of_the_url() {
    let reader = reader(
        "id = \"id\"\nstatus = \"status\"\ndelivered = [\"1\"]\nfailed = []\nsignature.token = \"0123456789abcd&=\"",
    );
    let url = reader.url("https://example.org/r/");
    let form = "id=a&status=1";
    assert_eq!(Called::post(FORM, form).at(&url).read_by(&reader), Ok(delivered("a")));
    for wrong in [
        Called::post(FORM, form),
        Called::post(FORM, format!("{form}&token=0123456789abcd%26%3D")),
        Called::post(FORM, form).at("https://example.org/r/?token="),
        Called::post(FORM, form).at(&url.replace("abcd", "abce")),
        Called::post(FORM, form).at(&format!("{url}&token=0123456789abcd%26%3D")),
    ] {
        assert_eq!(wrong.read_by(&reader), Err(ReportError::Signature), "{}", wrong.url);
    }
}
