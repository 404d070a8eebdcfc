//! Sending messages in earnest: the gateways and the texts that a file describes.

mod commands;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

pub(crate) use commands::{SmsCommand, run};
use referral_core::{
    Policy, Region,
    sms::{
        AfterUnknown, DevelopmentSender, Failover, Observer, SmsSender, Texts,
        http::{ConfigError, GatewayConfig, GatewayReports, HttpSender},
    },
};

use referral_server::AppOptions;
use serde::{Deserialize, Deserializer, de};

use crate::cli::Settings;

/// What to do about gateways that nothing is known of.
pub(crate) const NO_CONFIG: &str = "name the gateways in a file: --sms-config sms.toml";

/// How messages go out, and what they say.
pub(crate) struct Messages {
    pub(crate) sender: Arc<dyn SmsSender>,
    pub(crate) texts: Texts,
}

impl Messages {
    /// For whoever sends none.
    pub(crate) fn none() -> Self {
        Self { sender: Arc::new(DevelopmentSender), texts: Texts::default() }
    }

    /// As they are configured, together with what the endpoint must know to read reports; without a
    /// configuration no message is sent.
    pub(crate) fn new(
        config: Option<&SmsConfig>,
        settings: &Settings,
        observer: impl Observer,
        options: &mut AppOptions,
    ) -> Result<Self, String> {
        let Some(config) = config else { return Ok(Self::none()) };
        let (time, limit) = (config.time(), settings.network.time_limit);
        if time >= limit {
            return Err(format!(
                "gateways may take {time:?} for a message, and an answer {limit:?}; give `time` less, or \
                 --time-limit more"
            ));
        }
        let texts = config.texts()?;
        for long in texts.too_long(longest_code(&settings.policy())) {
            let (locale, segments) = (long.locale, long.segments.segments);
            tracing::warn!(%locale, segments, "each of these messages is paid for as several; see `sms preview`");
        }
        let reports_urls = config.read_reports(options)?;
        for reports in &options.reports {
            tracing::info!(gateway = reports.gateway(), "what the gateway reports is read");
        }
        Ok(Self { sender: Arc::new(config.sender(observer, &reports_urls)?), texts })
    }
}

/// The most digits that a code may come to have.
fn longest_code(policy: &Policy) -> u8 {
    let lengthened = policy.lengthening.last().map_or(0, |step| step.code_length);
    policy.code_length.max(policy.attack_code_length).max(lengthened)
}

/// How messages are sent, and what they say.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SmsConfig {
    /// The gateways, in the order in which they are tried.
    order: Vec<String>,
    /// Other orders, by region.
    regions: BTreeMap<String, Vec<String>>,
    /// How long all of them together may take.
    #[serde(deserialize_with = "duration")]
    time: Option<Duration>,
    /// Whether another gateway gets the message when nobody knows what became of it at one.
    after_unknown: AfterUnknownName,
    /// What is known of each.
    gateways: BTreeMap<String, toml::Table>,
    texts: TextsConfig,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AfterUnknownName {
    #[default]
    Next,
    Stop,
}

/// What messages say.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TextsConfig {
    /// The host of the website that codes are typed into.
    host: Option<String>,
    /// By which Android knows the app.
    android_hash: Option<String>,
    /// The language for whoever reads none of the others.
    default_locale: Option<String>,
    /// By language.
    templates: BTreeMap<String, String>,
}

impl SmsConfig {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
        toml::from_str(&text).map_err(|error| {
            // Not the error's own text, which quotes the line: there may be a secret in it.
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            format!("{shown}, line {line}: {}", error.message())
        })
    }

    /// The sender, which tries one gateway after another. Each reports to the URL that stands beside its
    /// name.
    pub(crate) fn sender(
        &self,
        observer: impl Observer,
        reports_urls: &BTreeMap<String, String>,
    ) -> Result<Failover, String> {
        let after_unknown = match self.after_unknown {
            AfterUnknownName::Next => AfterUnknown::Next,
            AfterUnknownName::Stop => AfterUnknown::Stop,
        };
        // How long one of them may take is its own setting.
        let (time, time_per_gateway) = (self.time(), self.time());
        let failover = Failover::builder().observer(observer).after_unknown(after_unknown);
        let mut failover = failover.time(time).time_per_gateway(time_per_gateway);
        for name in self.ordered()? {
            let sender = HttpSender::new(self.gateway(name)?).map_err(|error| in_gateway(name, &error))?;
            let reports_url = reports_urls.get(name).cloned().unwrap_or_default();
            failover = failover.gateway(name, sender.reports_url(reports_url));
        }
        for (region, names) in &self.regions {
            let of_region = Region::parse(region).map_err(|error| format!("regions.{region}: {error}"))?;
            failover = failover.route(of_region, names.iter().map(String::as_str));
        }
        failover.build().map_err(|error| error.to_string())
    }

    /// Has the endpoint read what gateways report, and returns the URLs that they are to call, by name.
    pub(crate) fn read_reports(&self, options: &mut AppOptions) -> Result<BTreeMap<String, String>, String> {
        let mut urls = BTreeMap::new();
        for name in self.ordered()? {
            let reports = GatewayReports::new(name, &self.gateway(name)?);
            let Some(reports) = reports.map_err(|error| in_gateway(name, &error))? else { continue };
            match options.read_reports(reports) {
                Ok(Some(url)) => drop(urls.insert(name.to_owned(), url)),
                Ok(None) => {}
                Err(error) => tracing::warn!("no reports are read: {error}, with --public-url"),
            }
        }
        Ok(urls)
    }

    /// How long sending may take.
    pub(crate) fn time(&self) -> Duration {
        self.time.unwrap_or(Failover::TIME)
    }

    /// The texts.
    pub(crate) fn texts(&self) -> Result<Texts, String> {
        let TextsConfig { host, android_hash, default_locale, templates } = &self.texts;
        let wrong = |setting: &str| {
            let setting = setting.to_owned();
            move |error: referral_core::Invalid| format!("texts.{setting}: {error}")
        };
        let mut texts = Texts::default();
        for (locale, template) in templates {
            texts = texts.template(locale, template).map_err(wrong(&format!("templates.{locale}")))?;
        }
        if let Some(locale) = default_locale {
            texts = texts.default_locale(locale).map_err(wrong("default_locale"))?;
        }
        if let Some(host) = host {
            texts = texts.host(host).map_err(wrong("host"))?;
        }
        if let Some(hash) = android_hash {
            texts = texts.android_hash(hash).map_err(wrong("android_hash"))?;
        }
        Ok(texts)
    }

    /// The gateways in the order in which they are tried.
    pub(crate) fn order(&self) -> Vec<&str> {
        self.ordered().unwrap_or_default()
    }

    /// The names of the gateways in their order, which goes without saying for one.
    fn ordered(&self) -> Result<Vec<&str>, String> {
        if self.gateways.is_empty() {
            return Err("there is no gateway; describe one in a table such as [gateways.twilio]".into());
        }
        if self.order.is_empty() && self.gateways.len() == 1 {
            return Ok(self.gateways.keys().map(String::as_str).collect());
        }
        let left_out = self.gateways.keys().find(|name| !self.order.contains(name));
        if let Some(left_out) = left_out {
            return Err(format!("`order` lists the gateways, first the one to try first; add `{left_out}`"));
        }
        Ok(self.order.iter().map(String::as_str).collect())
    }

    fn gateway(&self, name: &str) -> Result<GatewayConfig, String> {
        let table = self.gateways.get(name);
        let table = table.ok_or_else(|| format!("order: there is no table [gateways.{name}]"))?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if name.len() > 64 || !name.bytes().all(is_plain) {
            return Err(format!("gateways.{name}: a name is 1 to 64 of a-z, A-Z, 0-9, - and _"));
        }
        GatewayConfig::try_from(table.clone()).map_err(|error| in_gateway(name, &error))
    }
}

fn in_gateway(name: &str, error: &ConfigError) -> String {
    format!("gateways.{name}: {error}")
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map(Some).map_err(de::Error::custom)
}
