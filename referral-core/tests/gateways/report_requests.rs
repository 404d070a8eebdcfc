//! Requests with reports for tests, and the readers of these requests.

use referral_core::{
    sms::{
        DeliveryStatus,
        http::{ReportError, ReportReader, ReportRequest},
    },
    test_util::ManualClock,
};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use time::OffsetDateTime;

use crate::fake::parse;

pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
pub(crate) const JSON: &str = "application/json";
pub(crate) const URL: &str = "https://example.org/sms/reports/g1/";

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

/// Ids and statuses of the reports of a request.
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

pub(crate) const TOKEN: &str = "0123456789abcdef";

/// Returns a reader for a gateway without signatures.
pub(crate) fn token_reader(shape: &str) -> ReportReader {
    let reports =
        format!("{shape}\ndelivered = [\"1\", \"true\"]\nfailed = [\"2\"]\nsignature.token = \"{TOKEN}\"");
    reader(&reports)
}

pub(crate) const FIELDS: &str = "id = \"id\"\nstatus = \"status\"";
