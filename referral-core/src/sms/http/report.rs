//! Delivery reports, which gateways send as HTTP requests.

mod fields;
mod signature;

use std::{borrow::Cow, fmt, sync::Arc};

use reqwest::header::HeaderMap;
use serde::Deserialize;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use self::{
    fields::{Body, Fields, in_json},
    signature::{Signature, is_recent},
};
use super::{
    ConfigError, GatewayConfig,
    selector::{Pattern, Pointer},
    template::Values,
};
use crate::{
    clock::{Clock, SystemClock},
    sms::delivery::{DeliveryReport, DeliveryStatus, ReportEvidence},
};

/// Maximum number of reports in one request. SMS.ru sends a hundred.
const MAX_REPORTS: usize = 200;

/// Rules for reading reports.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reports {
    /// Location of the reports if a request contains several: a JSON pointer to a list, or a name such as
    /// `data` of fields such as `data[0]`.
    each: Option<String>,
    /// Locations of the id that the gateway gave to the message, and of its status, in a report: the name of
    /// a field, or a JSON pointer.
    id: Option<String>,
    status: Option<String>,
    /// Pattern for reports that are texts, with the groups `id` and `status`, and with `time` if the text
    /// contains the time of the report. Reports that are too old are dropped.
    pattern: Option<Pattern>,
    /// Values of the status that mean delivered and failed. Other values are ignored.
    delivered: Vec<String>,
    failed: Vec<String>,
    /// Body of the response that the gateway expects.
    #[serde(default)]
    reply: String,
    /// Signature of the reports. Without a signature, or with an empty secret, reports are not accepted.
    signature: Option<Signature>,
}

/// Format of a request with reports.
#[derive(Clone)]
enum Shape {
    One { id: String, status: String },
    List { at: String, id: String, status: String },
    MessageTemplates { name: String, pattern: Pattern },
}

impl Reports {
    fn shape(&self) -> Result<Shape, ConfigError> {
        match (self.each.clone(), self.id.clone(), self.status.clone(), self.pattern.clone()) {
            (None, Some(id), Some(status), None) => Ok(Shape::One { id, status }),
            (Some(at), Some(id), Some(status), None) if at.is_empty() || at.starts_with('/') => {
                Ok(Shape::List { at, id, status })
            }
            (Some(name), None, None, Some(pattern))
                if ["id", "status"].iter().all(|group| has_group(&pattern, group)) =>
            {
                Ok(Shape::MessageTemplates { name, pattern })
            }
            _ => Err(ConfigError::new(
                "`reports` must have `id` and `status`, and for several reports `each` with a JSON pointer; or \
                 `each` with the name of fields, and a `pattern` with the groups (?<id>…) and (?<status>…)",
            )),
        }
    }

    fn status(&self, status: &str) -> Option<DeliveryStatus> {
        let is_in = |statuses: &[String]| statuses.iter().any(|known| known == status);
        if is_in(&self.delivered) {
            return Some(DeliveryStatus::Delivered);
        }
        is_in(&self.failed).then_some(DeliveryStatus::Failed)
    }
}

/// Returns the evidence that a report is the gateway's once its signature was checked.
fn evidence(signature: &Signature, shape: &Shape) -> ReportEvidence {
    let is_strong = match (signature, shape) {
        // These sign all fields that are read, and the time, which is checked.
        (Signature::Vonage(_) | Signature::StandardWebhooks(_), _) => true,
        (Signature::Smsru(_), Shape::MessageTemplates { pattern, .. }) => has_group(pattern, "time"),
        (Signature::Sha1 { of, time: Some(_), .. }, Shape::One { id, status }) => {
            of.contains(id) && of.contains(status)
        }
        // Twilio signs everything except the time. A token signs nothing.
        _ => false,
    };
    if is_strong { ReportEvidence::Strong } else { ReportEvidence::Weak }
}

fn has_group(pattern: &Pattern, group: &str) -> bool {
    pattern.0.capture_names().flatten().any(|name| name == group)
}

/// Reader of the delivery reports of a gateway.
///
/// Only reports that are signed with the shared secret are accepted. All other fields of a report, such as
/// the phone number, are neither stored nor shown.
///
/// ```
/// use referral_core::sms::http::{GatewayConfig, ReportReader, ReportRequest};
/// use reqwest::header::{HeaderMap, HeaderValue};
///
/// let config: toml::Table = r#"
///     preset = "twilio"
///     settings = { account_sid = "AC0123", auth_token = "12345", from = "+15005550006" }
/// "#.parse()?;
/// let reports = ReportReader::new("twilio", &GatewayConfig::try_from(config)?)?.expect("valid secret");
/// let mut headers = HeaderMap::new();
/// headers.insert("X-Twilio-Signature", HeaderValue::from_static("YG1VVaL5gzjpFeRQz/58OVVDlRI="));
/// let request = ReportRequest {
///     url: "https://example.com/sms/reports/twilio/",
///     headers: &headers,
///     body: b"MessageSid=SM0123&MessageStatus=delivered",
/// };
/// for report in reports.read(&request)? {
///     assert_eq!((&*report.message_id, report.status.as_str()), ("SM0123", "delivered"));
///     // referral.report_delivery(report).await?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ReportReader {
    gateway: String,
    config: Reports,
    shape: Shape,
    signature: Signature,
    evidence: ReportEvidence,
    secret: Zeroizing<String>,
    clock: Arc<dyn Clock>,
}

/// Shows the name of the gateway and no secrets.
impl fmt::Debug for ReportReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReportReader").field(&self.gateway).finish()
    }
}

/// Request that may contain reports of a gateway.
#[derive(Clone, Copy, Debug)]
pub struct ReportRequest<'a> {
    /// URL that the gateway called, including the query. Behind a proxy it differs from the URL of the
    /// received request.
    pub url: &'a str,
    /// Headers of the request, of the crate `http`, which reqwest, axum and poem share.
    pub headers: &'a HeaderMap,
    /// Body of the request, which may be empty. The caller must limit its size.
    pub body: &'a [u8],
}

/// Error of a request with reports that are not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The request is not signed, is signed with another secret, or was signed too long ago.
    #[error("the report has no valid signature; check that both sides use the same secret and URL")]
    Signature,
    /// The request is not a query, a form or JSON, or contains more than 200 reports.
    #[error("the report must be a query, a form or JSON, with at most 200 reports in one request")]
    Malformed,
}

impl ReportReader {
    /// Creates a reader of the reports of the gateway with this name. Returns `None` if reports are not
    /// configured, or if the secret of the signature is empty.
    ///
    /// # Errors
    ///
    /// If the configuration is invalid, or the secret is missing in the settings.
    pub fn new(gateway: impl Into<String>, config: &GatewayConfig) -> Result<Option<Self>, ConfigError> {
        let GatewayConfig(config) = config;
        let Some(reports) = config.reports.clone() else { return Ok(None) };
        let shape = reports.shape()?;
        let Some(signature) = reports.signature.clone() else { return Ok(None) };
        if matches!(signature, Signature::Smsru(_)) && !matches!(shape, Shape::MessageTemplates { .. }) {
            return Err(ConfigError::new("`smsru` signs texts; set `each` and `pattern` to select them"));
        }
        let settings = config.settings()?;
        let secret = signature.secret().render(&Values { message: &[], settings: &settings })?;
        if secret.is_empty() {
            return Ok(None);
        }
        signature.check(&secret)?;
        let (evidence, clock) = (evidence(&signature, &shape), Arc::new(SystemClock));
        Ok(Some(Self { gateway: gateway.into(), config: reports, shape, signature, evidence, secret, clock }))
    }

    /// Sets the source of the current time. The default is the system clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Returns the name of the gateway.
    #[must_use]
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// Returns the URL that the gateway must call, given the URL where reports are received. It contains the
    /// token if the gateway authenticates by one.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        match self.signature {
            Signature::Token(_) => {
                let query = form_urlencoded::Serializer::new(String::new())
                    .append_pair("token", &self.secret)
                    .finish();
                format!("{url}?{query}")
            }
            _ => url.to_owned(),
        }
    }

    /// Returns `true` if the signature covers the URL, which then must be known.
    #[must_use]
    pub fn signs_url(&self) -> bool {
        matches!(self.signature, Signature::Twilio(_))
    }

    /// Returns the body of the response with status 200, to be sent after the reports were recorded.
    #[must_use]
    pub fn reply(&self) -> &str {
        &self.config.reply
    }

    /// Returns the reports in a request. A message may be reported several times, and the result may be
    /// empty.
    ///
    /// # Errors
    ///
    /// [`ReportError::Signature`] if the request has no valid signature, otherwise
    /// [`ReportError::Malformed`].
    pub fn read(&self, request: &ReportRequest<'_>) -> Result<Vec<DeliveryReport>, ReportError> {
        let fields = Fields::of(request).ok_or(ReportError::Malformed)?;
        let texts = match &self.shape {
            Shape::MessageTemplates { name, .. } => fields.list(name),
            _ => Vec::new(),
        };
        let now = self.clock.now();
        if !self.signature.is_right(&self.secret, request, &fields, &texts, now) {
            return Err(ReportError::Signature);
        }
        let found: Vec<_> = match &self.shape {
            Shape::One { id, status } => vec![fields.get(id).zip(fields.get(status))],
            Shape::List { at, id, status } => {
                let Body::Json(json) = &fields.body else { return Err(ReportError::Malformed) };
                // The empty pointer is the whole body.
                let list = Pointer::parse(at).map_or(Some(json), |pointer| pointer.find(json));
                let list = list.and_then(|list| list.as_array());
                let reports = list.into_iter().flatten();
                reports.map(|report| in_json(report, id).zip(in_json(report, status))).collect()
            }
            Shape::MessageTemplates { pattern, .. } => {
                texts.iter().map(|text| in_text(text, pattern, now)).collect()
            }
        };
        if found.len() > MAX_REPORTS {
            return Err(ReportError::Malformed);
        }
        let reports = found.into_iter().flatten();
        let reports = reports.filter_map(|(id, status)| {
            let status = self.config.status(&status)?;
            Some(DeliveryReport {
                gateway: self.gateway.clone(),
                message_id: id.into_owned(),
                status,
                evidence: self.evidence,
            })
        });
        Ok(reports.collect())
    }
}

/// Returns the id and the status in the text of a report, unless the report is too old.
fn in_text<'t>(
    text: &'t str,
    pattern: &Pattern,
    now: OffsetDateTime,
) -> Option<(Cow<'t, str>, Cow<'t, str>)> {
    let found = pattern.0.captures(text)?;
    if has_group(pattern, "time") && !found.name("time").is_some_and(|time| is_recent(time.as_str(), now)) {
        return None;
    }
    let group = |name| found.name(name).map(|group| group.as_str().into());
    group("id").zip(group("status"))
}
