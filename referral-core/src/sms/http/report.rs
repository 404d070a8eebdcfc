//! What gateways report of the messages that they took, by calling an address of ours.

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
    place::{Pattern, Pointer},
    template::Values,
};
use crate::{
    DeliveryReport, DeliveryStatus, ReportEvidence,
    clock::{Clock, SystemClock},
};

/// The most reports in one request. SMS.ru sends a hundred.
const MAX_REPORTS: usize = 200;

/// How reports are read.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reports {
    /// Where several reports stand, if there are: a JSON pointer to a list, or a name such as `data` of
    /// fields such as `data[0]`.
    each: Option<String>,
    /// Where in a report the gateway's id of the message stands, and what became of it: the name of a
    /// field, or a JSON pointer.
    id: Option<String>,
    status: Option<String>,
    /// For reports that are texts: a pattern with the groups `id` and `status`, and `time` if the text has
    /// the time of the report. Reports that are too old are dropped.
    pattern: Option<Pattern>,
    /// What the gateway calls these. It may call the status something else, and then nothing is reported.
    delivered: Vec<String>,
    failed: Vec<String>,
    /// What it wants to hear.
    #[serde(default)]
    reply: String,
    /// How it is known that it said so. Without that, or with an empty secret, there are no reports.
    signature: Option<Signature>,
}

/// What a request with reports looks like.
#[derive(Clone)]
enum Shape {
    One { id: String, status: String },
    List { at: String, id: String, status: String },
    Texts { name: String, pattern: Pattern },
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
                Ok(Shape::Texts { name, pattern })
            }
            _ => Err(ConfigError::new(
                "`reports` has `id` and `status`, and where there are several `each`, a JSON pointer; or \
                 `each`, the name of fields, and a `pattern` with the groups (?<id>…) and (?<status>…)",
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
        // These sign all that is read, with the time, which is checked.
        (Signature::Vonage(_) | Signature::StandardWebhooks(_), _) => true,
        (Signature::Smsru(_), Shape::Texts { pattern, .. }) => has_group(pattern, "time"),
        (Signature::Sha1 { of, time: Some(_), .. }, Shape::One { id, status }) => {
            of.contains(id) && of.contains(status)
        }
        // Twilio signs all but a time. A token signs nothing.
        _ => false,
    };
    if is_strong { ReportEvidence::Strong } else { ReportEvidence::Weak }
}

fn has_group(pattern: &Pattern, group: &str) -> bool {
    pattern.0.capture_names().flatten().any(|name| name == group)
}

/// Reads what a gateway reports of the messages that it took.
///
/// Nothing is believed that is not signed with a secret which the gateway shares. Whatever else a
/// report says, such as a phone, is neither kept nor shown.
///
/// ```
/// use referral_core::sms::http::{GatewayConfig, ReportReader, ReportRequest};
/// use reqwest::header::{HeaderMap, HeaderValue};
///
/// let config: toml::Table = r#"
///     preset = "twilio"
///     settings = { account_sid = "AC0123", auth_token = "12345", from = "+15005550006" }
/// "#.parse()?;
/// let reports = ReportReader::new("twilio", &GatewayConfig::try_from(config)?)?.expect("a secret");
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

/// Shows whose they are, and nothing that is secret.
impl fmt::Debug for ReportReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReportReader").field(&self.gateway).finish()
    }
}

/// A request that may be a gateway's.
#[derive(Clone, Copy, Debug)]
pub struct ReportRequest<'a> {
    /// The URL as the gateway called it, with its query. Where something stands between, that is not the
    /// URL that arrives here.
    pub url: &'a str,
    /// Its headers, of the crate `http`, which reqwest, axum and poem share.
    pub headers: &'a HeaderMap,
    /// Its body, which may be empty. It is for the caller to see that it is not huge.
    pub body: &'a [u8],
}

/// Why a request has no report that anybody should believe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// It is not signed, or not with our secret, or too long ago.
    #[error(
        "the report is not signed as the gateway signs; see that both sides have the same secret and URL"
    )]
    Signature,
    /// It is neither a query, nor a form, nor JSON, or has more than 200 reports.
    #[error("the report is neither a query, nor a form, nor JSON, or there are too many in one request")]
    Malformed,
}

impl ReportReader {
    /// A reader of what the gateway of that name reports; `None` if it is not configured how it does, or
    /// if the secret is empty with which it signs.
    ///
    /// # Errors
    ///
    /// If the configuration makes no sense, or the secret is not among the settings.
    pub fn new(gateway: impl Into<String>, config: &GatewayConfig) -> Result<Option<Self>, ConfigError> {
        let GatewayConfig(config) = config;
        let Some(reports) = config.reports.clone() else { return Ok(None) };
        let shape = reports.shape()?;
        let Some(signature) = reports.signature.clone() else { return Ok(None) };
        if matches!(signature, Signature::Smsru(_)) && !matches!(shape, Shape::Texts { .. }) {
            return Err(ConfigError::new("`smsru` signs texts; say with `each` and `pattern` which"));
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

    /// What tells the time; by default the system's clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Whose reports these are.
    #[must_use]
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// The URL that the gateway is to call, of one where its reports are read: with the token in it, if
    /// that is how it is known.
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

    /// Whether the gateway signs the URL that it calls, which then must be known.
    #[must_use]
    pub fn signs_url(&self) -> bool {
        matches!(self.signature, Signature::Twilio(_))
    }

    /// What the gateway wants to be answered, with status 200, once its reports are noted.
    #[must_use]
    pub fn reply(&self) -> &str {
        &self.config.reply
    }

    /// What the gateway reports. A message may be reported on again, and there may be nothing that matters.
    ///
    /// # Errors
    ///
    /// [`ReportError::Signature`] if the request may be anybody's, else [`ReportError::Malformed`].
    pub fn read(&self, request: &ReportRequest<'_>) -> Result<Vec<DeliveryReport>, ReportError> {
        let fields = Fields::of(request).ok_or(ReportError::Malformed)?;
        let texts = match &self.shape {
            Shape::Texts { name, .. } => fields.list(name),
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
                // Without a pointer it is all of it.
                let list = Pointer::parse(at).map_or(Some(json), |pointer| pointer.find(json));
                let list = list.and_then(|list| list.as_array());
                let reports = list.into_iter().flatten();
                reports.map(|report| in_json(report, id).zip(in_json(report, status))).collect()
            }
            Shape::Texts { pattern, .. } => texts.iter().map(|text| in_text(text, pattern, now)).collect(),
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

/// What a report says that is a text, unless it is too old.
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
