//! Configuration of message gateways and message texts.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use referral_core::{
    InvalidInput, Region,
    policy::Policy,
    sms::{
        DevelopmentSender, Failover, MessageTemplates, Observer, OnUnknownOutcome, SmsSender,
        http::{ConfigError, GatewayConfig, HttpSender, ReportReader},
    },
};
use referral_server::reports_url;
use serde::{Deserialize, Deserializer, de};

use crate::settings::Settings;

/// Error of a command that requires gateways if no file is given.
pub(crate) const NO_CONFIG: &str = "name the gateways in a file: --sms-config sms.toml";

/// Part of the time limit of a request that is reserved for work other than sending the message.
pub(crate) const TIME_FOR_THE_REST: Duration = Duration::from_secs(2);

/// Sender, texts and report readers of messages.
pub(crate) struct Messages {
    pub(crate) sender: Arc<dyn SmsSender>,
    pub(crate) texts: MessageTemplates,
    pub(crate) report_readers: Vec<ReportReader>,
}

impl Messages {
    /// Creates the development sender, which sends no messages.
    pub(crate) fn none() -> Self {
        Self {
            sender: Arc::new(DevelopmentSender),
            texts: MessageTemplates::default(),
            report_readers: Vec::new(),
        }
    }

    /// Creates the sender, texts and report readers from the configuration.
    pub(crate) fn new(
        config: SmsConfig,
        settings: &Settings,
        observer: impl Observer,
    ) -> Result<Self, String> {
        let (time, limit) = (config.time, settings.network.request_timeout);
        let of_gate = settings.gate_timeout();
        if !of_gate.is_zero() && of_gate + time + TIME_FOR_THE_REST > limit {
            return Err(format!(
                "`time` is {time:?} and --gate-timeout is {of_gate:?}, but together they must be at least \
                 {TIME_FOR_THE_REST:?} shorter than --request-timeout, which is {limit:?}; lower one of them, or raise \
                 --request-timeout"
            ));
        }
        if time + TIME_FOR_THE_REST > limit {
            return Err(format!(
                "`time` is {time:?}, but must be at least {TIME_FOR_THE_REST:?} shorter than --request-timeout, which is \
                 {limit:?}; lower `time`, or raise --request-timeout"
            ));
        }
        for long in config.texts.too_long(longest_code(&settings.policy())) {
            let (locale, segments) = (long.locale, long.segments.count);
            tracing::warn!(
                %locale,
                segments,
                "a message with this text costs as much as several messages; see `sms preview`"
            );
        }
        let public_url = settings.network.public_url.as_deref();
        let report_readers = config.report_readers(public_url)?;
        for reader in &report_readers {
            tracing::info!(gateway = reader.gateway(), "delivery reports of the gateway are accepted");
        }
        let sender = Arc::new(config.sender(observer, public_url, &report_readers)?);
        if !sender.sends_notices() {
            tracing::warn!(
                "no gateway sends notices, so a phone gets no message after it was changed; use `{{text}}` in a gateway"
            );
        }
        Ok(Self { sender, texts: config.texts, report_readers })
    }
}

/// Returns the largest number of digits that a code can have.
fn longest_code(policy: &Policy) -> u8 {
    let lengthened = policy.code_length_steps.last().map_or(0, |step| step.code_length);
    policy.code_length.max(policy.attack_code_length).max(lengthened)
}

/// Configuration of gateways, regions and texts from the file of `--sms-config`.
pub(crate) struct SmsConfig {
    /// Gateways in the order in which they are tried.
    gateways: Vec<(String, GatewayConfig)>,
    regions: Vec<(Region, Vec<String>)>,
    time: Duration,
    on_unknown_outcome: OnUnknownOutcome,
    pub(crate) texts: MessageTemplates,
}

impl SmsConfig {
    /// Reads the configuration from a file.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = fs::read_to_string(path).map_err(|error| format!("failed to read {shown}: {error}"))?;
        let file: File = toml::from_str(&text).map_err(|error| {
            // The text of the TOML error quotes the line, which may contain a secret, so it is not used.
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            format!("{shown}, line {line}: {}", ConfigError::from(error))
        })?;
        let regions = file.regions.iter().map(|(region, order)| {
            let region = Region::parse(region)
                .and_then(Region::require_mobile_numbers)
                .map_err(|error| format!("regions.{region}: {error}"))?;
            Ok((region, order.clone()))
        });
        Ok(Self {
            regions: regions.collect::<Result<_, String>>()?,
            time: file.time.unwrap_or(Failover::TIME),
            on_unknown_outcome: file.on_unknown_outcome,
            texts: file.texts.read()?,
            gateways: in_order(file.gateways, &file.order)?,
        })
    }

    /// Returns the names of the gateways, in the order in which they are tried.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.gateways.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Creates the sender, which tries the gateways sequentially. Gateways with a report reader get the URL
    /// for their reports.
    pub(crate) fn sender(
        &self,
        observer: impl Observer,
        public_url: Option<&str>,
        report_readers: &[ReportReader],
    ) -> Result<Failover, String> {
        if self.gateways.is_empty() {
            return Err("there is no gateway; add a table such as [gateways.twilio]".into());
        }
        // Each gateway has its own timeout in its configuration.
        let failover = Failover::builder().time(self.time).time_per_gateway(self.time);
        let mut failover = failover.on_unknown_outcome(self.on_unknown_outcome).observer(observer);
        for (name, config) in &self.gateways {
            let mut sender = HttpSender::new(config.clone()).map_err(|error| in_gateway(name, &error))?;
            let reader = report_readers.iter().find(|reader| reader.gateway() == name);
            if let Some((reader, public_url)) = reader.zip(public_url) {
                sender = sender.reports_url(reports_url(public_url, reader));
            }
            failover = failover.gateway(name, sender);
        }
        for (region, order) in &self.regions {
            failover = failover.order_for(*region, order);
        }
        failover.build().map_err(|error| error.to_string())
    }

    /// Creates the readers of delivery reports, for gateways whose reports can be authenticated.
    pub(crate) fn report_readers(&self, public_url: Option<&str>) -> Result<Vec<ReportReader>, String> {
        let mut readers = Vec::new();
        for (name, config) in &self.gateways {
            let reader = ReportReader::new(name, config).map_err(|error| in_gateway(name, &error))?;
            match reader {
                Some(reader) if reader.signs_url() && public_url.is_none() => tracing::warn!(
                    gateway = name,
                    "delivery reports of the gateway are not accepted: their signature covers the URL; set --public-url"
                ),
                reader => readers.extend(reader),
            }
        }
        Ok(readers)
    }
}

/// Returns the gateways in the given order. `order` is optional if there is only one gateway.
fn in_order(
    mut gateways: BTreeMap<String, toml::Table>,
    order: &[String],
) -> Result<Vec<(String, GatewayConfig)>, String> {
    let only = gateways.keys().next().cloned().filter(|_| gateways.len() == 1);
    let order = if order.is_empty() { only.as_slice() } else { order };
    let mut ordered = Vec::new();
    for name in order {
        let table = gateways.remove(name);
        let table = table.ok_or_else(|| {
            format!("order: the table [gateways.{name}] does not exist, or `order` names it twice")
        })?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !name.bytes().all(is_plain) {
            // The name is part of a URL.
            return Err(format!(
                "gateways.{name}: a name must have only the characters a-z, A-Z, 0-9, - and _"
            ));
        }
        let config = GatewayConfig::try_from(table).map_err(|error| in_gateway(name, &error))?;
        ordered.push((name.clone(), config));
    }
    match gateways.keys().next() {
        Some(name) => {
            Err(format!("`order` must list all gateways in the order in which they are tried; add `{name}`"))
        }
        None => Ok(ordered),
    }
}

fn in_gateway(name: &str, error: &ConfigError) -> String {
    format!("gateways.{name}: {error}")
}

/// Content of the file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    /// Names of the gateways, in the order in which they are tried.
    order: Vec<String>,
    /// Different orders for regions.
    regions: BTreeMap<String, Vec<String>>,
    /// Longest time that all gateways together may take.
    #[serde(deserialize_with = "duration")]
    time: Option<Duration>,
    /// Action after the outcome of a gateway is unknown: try the next gateway, or stop.
    on_unknown_outcome: OnUnknownOutcome,
    /// Configuration of each gateway.
    gateways: BTreeMap<String, toml::Table>,
    texts: FileTexts,
}

/// Texts of messages.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileTexts {
    /// Host of the website on which users enter codes.
    host: Option<String>,
    /// Hash that identifies the app on Android.
    android_hash: Option<String>,
    /// Language for clients that accept none of the other languages.
    default_locale: Option<String>,
    /// Templates of codes to sign in, by language.
    templates: BTreeMap<String, String>,
    /// Templates of codes that delete an account, by language.
    deletion_templates: BTreeMap<String, String>,
    /// Templates of codes that change a phone, by language.
    phone_change_templates: BTreeMap<String, String>,
    /// Templates of the notice that a phone was changed, by language.
    phone_changed_templates: BTreeMap<String, String>,
}

impl FileTexts {
    fn read(&self) -> Result<MessageTemplates, String> {
        let wrong = |setting: String| move |error: InvalidInput| format!("texts.{setting}: {error}");
        let mut texts = MessageTemplates::default();
        for (locale, template) in &self.templates {
            texts = texts.template(locale, template).map_err(wrong(format!("templates.{locale}")))?;
        }
        for (locale, template) in &self.deletion_templates {
            let wrong = wrong(format!("deletion_templates.{locale}"));
            texts = texts.deletion_template(locale, template).map_err(wrong)?;
        }
        for (locale, template) in &self.phone_change_templates {
            let wrong = wrong(format!("phone_change_templates.{locale}"));
            texts = texts.phone_change_template(locale, template).map_err(wrong)?;
        }
        for (locale, template) in &self.phone_changed_templates {
            let wrong = wrong(format!("phone_changed_templates.{locale}"));
            texts = texts.phone_changed_template(locale, template).map_err(wrong)?;
        }
        if let Some(locale) = &self.default_locale {
            texts = texts.default_locale(locale).map_err(wrong("default_locale".into()))?;
        }
        if let Some(host) = &self.host {
            texts = texts.host(host).map_err(wrong("host".into()))?;
        }
        if let Some(hash) = &self.android_hash {
            texts = texts.android_hash(hash).map_err(wrong("android_hash".into()))?;
        }
        Ok(texts)
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map(Some).map_err(de::Error::custom)
}
