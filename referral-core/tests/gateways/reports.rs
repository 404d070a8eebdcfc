//! Reports of gateways: where they are in a request, and their configuration.

use referral_core::sms::{
    DeliveryStatus::{Delivered, Failed},
    http::{ReportError, ReportReader},
};

use crate::{
    fake::parse,
    report_requests::{Called, FIELDS, FORM, JSON, TOKEN, URL, reader, token_reader},
};

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
