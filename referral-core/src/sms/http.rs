//! Gateways with an HTTP API: one sender for all of them. The configuration describes the request and how to
//! interpret the response.
//!
//! ```
//! use referral_core::sms::http::{GatewayConfig, HttpSender};
//!
//! let config: toml::Table = r#"
//!     preset = "twilio"
//!     settings = { account_sid = "AC0123", auth_token = "secret", from = "+15005550006" }
//! "#.parse()?;
//! let sender = HttpSender::new(GatewayConfig::try_from(config)?)?;
//! # Ok::<_, referral_core::sms::http::ConfigError>(())
//! ```
//!
//! The [presets](PRESETS) are such configurations, and show every key. `docs/gateways.md` in the repository
//! describes each key.

mod client;
mod config;
mod presets;
mod report;
mod response;
mod selector;
mod template;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{
    Client, Request, Response,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use uuid::Uuid;
use zeroize::Zeroizing;

use self::{
    config::{Auth, Fields, Method},
    response::RawResponse,
    template::Values,
};
pub use self::{
    config::{ConfigError, GatewayConfig},
    presets::{PRESETS, preset},
    report::{ReportError, ReportReader, ReportRequest},
};
use super::{Encoding, Receipt, Segments, SmsError, SmsMessage, SmsNotice, SmsSender};
use crate::{
    clock::{Clock, SystemClock},
    otp::code::OneTimeCode,
    sms::locale::Locale,
    standard_webhooks,
    user::phone::PhoneNumber,
};

/// Maximum number of bytes that are read of a response. Responses of gateways have less than one KiB.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// Maximum of `Retry-After` that is accepted.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// Time for the request and the response, in addition to the time for connecting.
const RESPONSE_TIME: Duration = Duration::from_millis(500);

/// Sender for a gateway with an HTTP API.
///
/// It sends one request for each message and follows no redirect. Its errors contain nothing of the message.
/// If the connection could not be established, it is certain that nothing was sent. If the connection was
/// lost or the response is not understood, the result is unknown.
pub struct HttpSender {
    config: Fields,
    settings: BTreeMap<String, Zeroizing<String>>,
    sends_notices: bool,
    client: Client,
    clock: Arc<dyn Clock>,
    reports_url: String,
}

/// Shows no fields, because many of them are secret.
impl fmt::Debug for HttpSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpSender(…)")
    }
}

impl HttpSender {
    /// Creates a sender for a configured gateway. Settings are read from their files and environment
    /// variables.
    ///
    /// # Errors
    ///
    /// If a setting is missing, or the configuration does not produce a valid request.
    pub fn new(config: GatewayConfig) -> Result<Self, ConfigError> {
        let GatewayConfig(config) = config;
        let settings = config.settings()?;
        let sample = sample();
        let known = Content::from(&sample).values("");
        if let Some((name, _)) = known.iter().find(|(name, _)| settings.contains_key(*name)) {
            return Err(ConfigError::new(format!(
                "`{name}` is the name of a value of the message; rename the setting"
            )));
        }
        let client = client::new(&config, &Values { message: &known, settings: &settings })?;
        let (clock, reports_url) = (Arc::new(SystemClock), String::new());
        let mut sender = Self { config, settings, sends_notices: false, client, clock, reports_url };
        sender.request(sample.id, &known)?;
        let names = |name| sender.request(sample.id, &without(&known, name)).is_err();
        sender.sends_notices = match sender.config.notices {
            Some(true) if !names("text") => {
                return Err(ConfigError::new(
                    "`notices = true` requires the placeholder `{text}` in the request, which a notice consists of",
                ));
            }
            Some(given) => given,
            None => names("text") && !names("code"),
        };
        Ok(sender)
    }

    /// Sets the URL to which the gateway sends delivery reports. It is the placeholder `{reports_url}` of
    /// templates. By default it is empty.
    #[must_use]
    pub fn reports_url(mut self, url: impl Into<String>) -> Self {
        self.reports_url = url.into();
        self
    }

    /// Sets the source of the current time. The default is the system clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sends one request for a message.
    async fn pass(&self, content: Content<'_>) -> Result<Receipt, SmsError> {
        let request = self.request(content.id, &content.values(&self.reports_url));
        let request = request.map_err(|error| SmsError::Temporary(error.to_string()))?;
        match self.client.execute(request).await {
            Ok(response) => self.read(response, content.code).await,
            Err(error) => Err(client::failure(&error.without_url())),
        }
    }

    /// Returns the request for the message with the id `id` and the values `known`.
    fn request(&self, id: Uuid, known: &[(&'static str, Cow<'_, str>)]) -> Result<Request, ConfigError> {
        let values = Values { message: known, settings: &self.settings };
        let config = &self.config;
        let method = match config.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
        };
        let mut url = config.url(&values)?;
        let mut query = config.query.render(&values)?;
        if let Some(Auth::Query { name, value }) = &config.auth {
            query.push((name, value.render(&values)?));
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query.iter().map(|(name, value)| (name, value.as_str())));
        }

        let mut request = Request::new(method, url);
        if let Some((content_type, body)) = self.body(&values)? {
            request.headers_mut().insert(CONTENT_TYPE, content_type);
            *request.body_mut() = Some(body.into_bytes().into());
        }
        for (name, value) in config.headers.render(&values)? {
            request.headers_mut().insert(header_name(name)?, header_value(&value)?);
        }
        self.authenticate(&mut request, id, &values)?;
        Ok(request)
    }

    /// Returns the body and its content type.
    fn body(&self, values: &Values<'_>) -> Result<Option<(HeaderValue, String)>, ConfigError> {
        if let Some(form) = &self.config.form {
            let pairs = form.render(values)?;
            let pairs = pairs.iter().map(|(name, value)| (name, value.as_str()));
            let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
            return Ok(Some((HeaderValue::from_static("application/x-www-form-urlencoded"), body)));
        }
        let Some(json) = &self.config.json else { return Ok(None) };
        let body = serde_json::to_string(&json.render(values)?);
        let body = body.map_err(|_| ConfigError::new("`json` does not produce valid JSON"))?;
        Ok(Some((HeaderValue::from_static("application/json"), body)))
    }

    fn authenticate(&self, request: &mut Request, id: Uuid, values: &Values<'_>) -> Result<(), ConfigError> {
        let (name, value) = match &self.config.auth {
            None | Some(Auth::Query { .. }) => return Ok(()),
            Some(Auth::Basic { user, password }) => {
                let password = password.as_ref().map(|password| password.render(values)).transpose()?;
                let pair =
                    format!("{}:{}", *user.render(values)?, password.as_deref().map_or("", String::as_str));
                (AUTHORIZATION, format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())))
            }
            Some(Auth::Bearer(token)) => (AUTHORIZATION, format!("Bearer {}", *token.render(values)?)),
            Some(Auth::Header { name, value }) => (header_name(name)?, value.render(values)?.to_string()),
            Some(Auth::StandardWebhooks(secret)) => {
                let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default();
                let secret = standard_webhooks::Secret::parse(&secret.render(values)?)?;
                let headers = secret.sign(&id.to_string(), self.clock.now(), body);
                for (name, value) in headers {
                    request.headers_mut().insert(name, header_value(&value)?);
                }
                return Ok(());
            }
        };
        request.headers_mut().insert(name, header_value(&value)?);
        Ok(())
    }

    /// Reads the response to a message with this code, up to the maximum size.
    async fn read(&self, mut response: Response, code: &str) -> Result<Receipt, SmsError> {
        let mut body = Vec::new();
        let mut is_whole = false;
        while body.len() <= MAX_RESPONSE_BYTES {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => {
                    is_whole = true;
                    break;
                }
                // The part that was received may be sufficient.
                Err(_) => break,
            }
        }
        body.truncate(MAX_RESPONSE_BYTES);
        self.config.response.read(&RawResponse {
            status: response.status().as_u16(),
            body: &body,
            is_whole,
            code,
            retry_after: self.retry_after(response.headers()),
        })
    }

    /// Returns the time of `Retry-After`, which is a number of seconds or a date.
    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let seconds = text.parse().ok().map(Duration::from_secs);
        let until = || {
            let until = httpdate::parse_http_date(text).ok()?;
            until.duration_since(SystemTime::from(self.clock.now())).ok()
        };
        let time = seconds.or_else(until)?;
        // Zero is not a usable time, and a time of weeks is a mistake of the gateway.
        (!time.is_zero()).then_some(time.min(LONGEST_WAIT))
    }
}

#[async_trait]
impl SmsSender for HttpSender {
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError> {
        self.pass(message.into()).await
    }

    fn sends_notices(&self) -> bool {
        self.sends_notices
    }

    async fn send_notice(&self, notice: &SmsNotice) -> Result<Receipt, SmsError> {
        if !self.sends_notices {
            return Err(SmsError::NoticesUnsupported);
        }
        self.pass(notice.into()).await
    }

    fn min_timeout(&self) -> Duration {
        self.config.timeout.min(self.config.connect_timeout + RESPONSE_TIME)
    }
}

/// Content of a message with a code, or of a notice.
struct Content<'a> {
    id: Uuid,
    phone: &'a PhoneNumber,
    text: &'a str,
    /// Empty in a notice.
    code: &'a str,
    purpose: &'static str,
    locale: Option<&'a Locale>,
}

impl<'a> From<&'a SmsMessage> for Content<'a> {
    fn from(message: &'a SmsMessage) -> Self {
        Self {
            id: message.id,
            phone: &message.phone,
            text: message.text.reveal(),
            code: message.code.reveal(),
            purpose: message.purpose.as_str(),
            locale: message.locale.as_ref(),
        }
    }
}

impl<'a> From<&'a SmsNotice> for Content<'a> {
    fn from(notice: &'a SmsNotice) -> Self {
        Self {
            id: notice.id,
            phone: &notice.phone,
            text: notice.text.reveal(),
            code: "",
            purpose: notice.notice.as_str(),
            locale: notice.locale.as_ref(),
        }
    }
}

impl<'a> Content<'a> {
    /// Returns the values that templates can name.
    fn values(&self, reports_url: &'a str) -> [(&'static str, Cow<'a, str>); 9] {
        let phone = self.phone.as_str();
        let encoding = match Segments::of(self.text).encoding {
            Encoding::Gsm7 => "text",
            Encoding::Ucs2 => "unicode",
        };
        [
            ("id", self.id.to_string().into()),
            ("phone", phone.into()),
            ("phone_digits", phone.trim_start_matches('+').into()),
            ("text", self.text.into()),
            ("code", self.code.into()),
            ("purpose", self.purpose.into()),
            ("locale", self.locale.map_or("", Locale::as_str).into()),
            ("encoding", encoding.into()),
            ("reports_url", reports_url.into()),
        ]
    }
}

/// Returns the values without the one with this name.
fn without<'a>(values: &[(&'static str, Cow<'a, str>)], name: &str) -> Vec<(&'static str, Cow<'a, str>)> {
    values.iter().filter(|(known, _)| *known != name).cloned().collect()
}

fn header_name(name: &str) -> Result<HeaderName, ConfigError> {
    name.parse().map_err(|_| ConfigError::new(format!("`{name}` is not a valid header name")))
}

fn header_value(value: &str) -> Result<HeaderValue, ConfigError> {
    let value = HeaderValue::from_str(value);
    let mut value = value
        .map_err(|_| ConfigError::new("the value of a header contains a character that is not allowed"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns a message for testing whether a request can be built. Its text contains a line feed, which headers
/// reject.
fn sample() -> SmsMessage {
    let phone = PhoneNumber::from_stored("+79608543017".into()).expect("valid E.164 number");
    SmsMessage::new(
        Uuid::nil(),
        phone,
        OneTimeCode::from_static("0000"),
        "Код: 0000\n@example.com #0000".into(),
        None,
    )
}
