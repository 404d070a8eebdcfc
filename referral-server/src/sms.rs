//! Sending messages in earnest: the gateways and the texts that a file describes.

mod commands;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use referral_core::{
    Invalid, Policy, Region,
    sms::{
        AfterUnknown, DevelopmentSender, Failover, Observer, SmsSender, Texts,
        http::{ConfigError, GatewayConfig, HttpSender, ReportReader},
    },
};
use referral_server::reports_url;
use serde::{Deserialize, Deserializer, de};

pub(crate) use self::commands::{SmsCommand, run};
use crate::cli::Settings;

/// Said where gateways are needed and no file names them.
const NO_CONFIG: &str = "name the gateways in a file: --sms-config sms.toml";

/// What an answer takes beside its message.
const TIME_FOR_THE_REST: Duration = Duration::from_secs(2);

/// How messages go out, what they say, and who reads what became of them.
pub(crate) struct Messages {
    pub(crate) sender: Arc<dyn SmsSender>,
    pub(crate) texts: Texts,
    pub(crate) report_readers: Vec<ReportReader>,
}

impl Messages {
    /// For whoever sends none.
    pub(crate) fn none() -> Self {
        Self { sender: Arc::new(DevelopmentSender), texts: Texts::default(), report_readers: Vec::new() }
    }

    /// As they are configured.
    pub(crate) fn new(
        config: SmsConfig,
        settings: &Settings,
        observer: impl Observer,
    ) -> Result<Self, String> {
        let (time, limit) = (config.time, settings.network.time_limit);
        if time + TIME_FOR_THE_REST > limit {
            return Err(format!(
                "gateways may take {time:?} for a message, and an answer {limit:?}, of which \
                 {TIME_FOR_THE_REST:?} are for the rest; give `time` less, or --time-limit more"
            ));
        }
        for long in config.texts.too_long(longest_code(&settings.policy())) {
            let (locale, segments) = (long.locale, long.segments.count);
            tracing::warn!(%locale, segments, "each of these messages is paid for as several; see `sms preview`");
        }
        let public_url = settings.network.public_url.as_deref();
        let report_readers = config.report_readers(public_url)?;
        for reader in &report_readers {
            tracing::info!(gateway = reader.gateway(), "what the gateway reports is read");
        }
        let sender = Arc::new(config.sender(observer, public_url, &report_readers)?);
        Ok(Self { sender, texts: config.texts, report_readers })
    }
}

/// The most digits that a code may come to have.
fn longest_code(policy: &Policy) -> u8 {
    let lengthened = policy.lengthening.last().map_or(0, |step| step.code_length);
    policy.code_length.max(policy.attack_code_length).max(lengthened)
}

/// What the file says.
pub(crate) struct SmsConfig {
    /// In the order in which they are tried.
    gateways: Vec<(String, GatewayConfig)>,
    regions: Vec<(Region, Vec<String>)>,
    time: Duration,
    after_unknown: AfterUnknown,
    texts: Texts,
}

impl SmsConfig {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
        let file: File = toml::from_str(&text).map_err(|error| {
            // Not the error's own text, which quotes the line: there may be a secret in it.
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            format!("{shown}, line {line}: {}", ConfigError::from(error))
        })?;
        let regions = file.regions.iter().map(|(region, order)| {
            let region = Region::parse(region).map_err(|error| format!("regions.{region}: {error}"))?;
            Ok((region, order.clone()))
        });
        Ok(Self {
            regions: regions.collect::<Result<_, String>>()?,
            time: file.time.unwrap_or(Failover::TIME),
            after_unknown: file.after_unknown,
            texts: file.texts.read()?,
            gateways: in_order(file.gateways, &file.order)?,
        })
    }

    /// The names of the gateways, in the order in which they are tried.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.gateways.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The sender, which tries one gateway after another. Each whose reports are read is told where to
    /// report.
    fn sender(
        &self,
        observer: impl Observer,
        public_url: Option<&str>,
        report_readers: &[ReportReader],
    ) -> Result<Failover, String> {
        if self.gateways.is_empty() {
            return Err("there is no gateway; describe one in a table such as [gateways.twilio]".into());
        }
        // How long each of them may take is its own setting.
        let failover = Failover::builder().time(self.time).time_per_gateway(self.time);
        let mut failover = failover.after_unknown(self.after_unknown).observer(observer);
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

    /// Those who read what gateways report, as far as it can be known that it is theirs.
    fn report_readers(&self, public_url: Option<&str>) -> Result<Vec<ReportReader>, String> {
        let mut readers = Vec::new();
        for (name, config) in &self.gateways {
            let reader = ReportReader::new(name, config).map_err(|error| in_gateway(name, &error))?;
            match reader {
                Some(reader) if reader.signs_url() && public_url.is_none() => tracing::warn!(
                    gateway = name,
                    "what the gateway reports is not read: it signs the URL that it calls; set --public-url"
                ),
                reader => readers.extend(reader),
            }
        }
        Ok(readers)
    }
}

/// The gateways in this order, which goes without saying for one.
fn in_order(
    mut gateways: BTreeMap<String, toml::Table>,
    order: &[String],
) -> Result<Vec<(String, GatewayConfig)>, String> {
    let only = gateways.keys().next().cloned().filter(|_| gateways.len() == 1);
    let order = if order.is_empty() { only.as_slice() } else { order };
    let mut ordered = Vec::new();
    for name in order {
        let table = gateways.remove(name);
        let table =
            table.ok_or_else(|| format!("order: there is no table [gateways.{name}], or not twice"))?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !name.bytes().all(is_plain) {
            // It is part of a URL.
            return Err(format!("gateways.{name}: a name has no characters but a-z, A-Z, 0-9, - and _"));
        }
        let config = GatewayConfig::try_from(table).map_err(|error| in_gateway(name, &error))?;
        ordered.push((name.clone(), config));
    }
    match gateways.keys().next() {
        Some(name) => Err(format!("`order` lists the gateways, first the one to try first; add `{name}`")),
        None => Ok(ordered),
    }
}

fn in_gateway(name: &str, error: &ConfigError) -> String {
    format!("gateways.{name}: {error}")
}

/// The file as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    /// The gateways, in the order in which they are tried.
    order: Vec<String>,
    /// Other orders, by region.
    regions: BTreeMap<String, Vec<String>>,
    /// How long all of them together may take.
    #[serde(deserialize_with = "duration")]
    time: Option<Duration>,
    /// Whether another gateway gets the message when nobody knows what became of it at one.
    after_unknown: AfterUnknown,
    /// What is known of each.
    gateways: BTreeMap<String, toml::Table>,
    texts: FileTexts,
}

/// What messages say.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileTexts {
    /// The host of the website that codes are typed into.
    host: Option<String>,
    /// By which Android knows the app.
    android_hash: Option<String>,
    /// The language for whoever reads none of the others.
    default_locale: Option<String>,
    /// By language.
    templates: BTreeMap<String, String>,
}

impl FileTexts {
    fn read(&self) -> Result<Texts, String> {
        let wrong = |setting: String| move |error: Invalid| format!("texts.{setting}: {error}");
        let mut texts = Texts::default();
        for (locale, template) in &self.templates {
            texts = texts.template(locale, template).map_err(wrong(format!("templates.{locale}")))?;
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
