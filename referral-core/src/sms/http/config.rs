//! Configuration of a gateway.

use std::{collections::BTreeMap, env, fmt, fs, path::PathBuf, time::Duration};

use reqwest::Url;
use serde::{Deserialize, Deserializer, de};
use toml::{Table, Value};
use zeroize::Zeroizing;

use super::{
    presets,
    report::Reports,
    response::ResponseRules,
    template::{JsonTemplate, Pairs, Template, Values},
};
use crate::{
    http_client::{ClientError, is_loopback},
    standard_webhooks::InvalidSecret,
};

/// Error of an invalid gateway configuration. It contains no secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    pub(super) fn missing(name: &str) -> Self {
        Self(format!("the setting `{name}` is missing; add it to `settings`"))
    }
}

impl From<ClientError> for ConfigError {
    fn from(error: ClientError) -> Self {
        Self(error.to_string())
    }
}

impl From<InvalidSecret> for ConfigError {
    fn from(error: InvalidSecret) -> Self {
        Self(error.to_string())
    }
}

/// Keeps the message of the TOML parser, except for the unexpected value, which may be a secret.
impl From<toml::de::Error> for ConfigError {
    fn from(error: toml::de::Error) -> Self {
        let message = error.message();
        let quotes = ["invalid type", "invalid value", "unknown variant"];
        let expected =
            message.find(", expected ").filter(|_| quotes.iter().any(|start| message.starts_with(start)));
        Self(expected.map_or(message, |at| &message[at + 2..]).to_owned())
    }
}

/// Configuration of a gateway: a table of TOML, or of another format that serde reads.
///
/// With `preset`, one of [`PRESETS`](super::PRESETS) is the base, and all other keys override the preset.
/// Tables are merged key by key, except for `auth`.
#[derive(Clone, Deserialize)]
#[serde(try_from = "Table")]
pub struct GatewayConfig(pub(super) Fields);

/// Shows no fields, because settings may be secret.
impl fmt::Debug for GatewayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatewayConfig(…)")
    }
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fields {
    /// Values that templates can name, including secrets.
    #[serde(default)]
    settings: BTreeMap<String, Setting>,
    /// Names of settings of which at least one must be given.
    #[serde(default)]
    one_of: Vec<String>,
    #[serde(default)]
    pub(super) method: Method,
    pub(super) url: Template,
    #[serde(default)]
    pub(super) query: Pairs,
    #[serde(default)]
    pub(super) headers: Pairs,
    #[serde(default)]
    pub(super) auth: Option<Auth>,
    #[serde(default)]
    pub(super) form: Option<Pairs>,
    #[serde(default)]
    pub(super) json: Option<JsonTemplate>,
    #[serde(default)]
    pub(super) response: ResponseRules,
    #[serde(default)]
    pub(super) reports: Option<Reports>,
    /// Time limit for connecting, including TLS. If it is exceeded, it is certain that nothing was sent.
    #[serde(default = "two_seconds", deserialize_with = "duration")]
    pub(super) connect_timeout: Duration,
    /// Time limit for the whole request.
    #[serde(default = "four_seconds", deserialize_with = "duration")]
    pub(super) timeout: Duration,
    /// URL of the proxy, or `none`. By default the usual environment variables apply, except for loopback
    /// addresses.
    #[serde(default)]
    pub(super) proxy: Option<Template>,
    /// File with certificates of further trusted authorities, as PEM.
    #[serde(default)]
    pub(super) ca_file: Option<PathBuf>,
    /// `true` if the gateway also sends notices, which have no code. By default a gateway does if its
    /// templates contain `{text}` and not `{code}`.
    #[serde(default)]
    pub(super) notices: Option<bool>,
    /// Allows sending phone numbers and codes to another host without encryption.
    #[serde(default)]
    pub(super) allow_http: bool,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Method {
    Get,
    #[default]
    Post,
    Put,
}

/// Authentication of requests to the gateway.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Auth {
    Basic {
        user: Template,
        #[serde(default)]
        password: Option<Template>,
    },
    Bearer(Template),
    Header {
        name: String,
        value: Template,
    },
    Query {
        name: String,
        value: Template,
    },
    /// Signature according to Standard Webhooks, with this secret.
    StandardWebhooks(Template),
}

/// Value of a setting, or its source.
#[derive(Clone, Deserialize)]
#[serde(untagged, expecting = "a setting must be a string, {env = \"VARIABLE\"} or {file = \"path\"}")]
enum Setting {
    Text(String),
    Env { env: String },
    File { file: PathBuf },
}

impl Setting {
    fn read(&self, name: &str) -> Result<Zeroizing<String>, ConfigError> {
        let (text, selector) = match self {
            Self::Text(text) => return Ok(Zeroizing::new(text.clone())),
            Self::Env { env } => {
                let selector = format!("the environment variable {env}");
                (env::var(env).map_err(|_| format!("{selector} is not set")), selector)
            }
            Self::File { file } => {
                let selector = file.display().to_string();
                (
                    fs::read_to_string(file).map_err(|error| format!("failed to read {selector}: {error}")),
                    selector,
                )
            }
        };
        let text = Zeroizing::new(text.map_err(|reason| ConfigError(format!("setting `{name}`: {reason}")))?);
        // Editors add a line feed to the end of a file.
        let text = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
        if text.is_empty() {
            return Err(ConfigError(format!("setting `{name}`: {selector} is empty")));
        }
        Ok(text)
    }
}

impl Fields {
    /// Reads the settings from their sources.
    pub(super) fn settings(&self) -> Result<BTreeMap<String, Zeroizing<String>>, ConfigError> {
        let read = self.settings.iter().map(|(name, setting)| Ok((name.clone(), setting.read(name)?)));
        let settings: BTreeMap<_, _> = read.collect::<Result<_, ConfigError>>()?;
        let is_given = |name: &String| settings.get(name).is_some_and(|value| !value.is_empty());
        if !self.one_of.is_empty() && !self.one_of.iter().any(is_given) {
            let names = self.one_of.join("` or `");
            return Err(ConfigError(format!(
                "the setting `{names}` is missing; add one of them to `settings`"
            )));
        }
        Ok(settings)
    }

    /// Returns the URL of the request. It must be encrypted or a loopback address, unless `allow_http` is
    /// set.
    pub(super) fn url(&self, values: &Values<'_>) -> Result<Url, ConfigError> {
        let url = Url::parse(&self.url.render_url(values)?)
            .map_err(|error| ConfigError::new(format!("`url` is not a URL: {error}")))?;
        let is_http = url.scheme() == "http" && (self.allow_http || is_loopback(&url));
        if url.scheme() == "https" || is_http {
            return Ok(url);
        }
        Err(ConfigError::new(
            "`url` must start with https://, since phones and codes would be sent without encryption; to allow this \
                 for an http:// URL, add `allow_http = true`",
        ))
    }
}

impl TryFrom<Table> for GatewayConfig {
    type Error = ConfigError;

    fn try_from(mut given: Table) -> Result<Self, ConfigError> {
        let mut table = match given.remove("preset") {
            None => Table::new(),
            Some(Value::String(name)) => presets::table(&name)?,
            Some(_) => return Err(ConfigError::new("`preset` must be a name, such as \"twilio\"")),
        };
        for (name, value) in given {
            match (table.get_mut(&name), value) {
                // `auth` has exactly one method, so it is not merged.
                (Some(Value::Table(known)), Value::Table(given)) if name != "auth" => known.extend(given),
                (_, value) => drop(table.insert(name, value)),
            }
        }
        let fields: Fields = table.try_into()?;
        if fields.form.is_some() && fields.json.is_some() {
            return Err(ConfigError::new("`form` and `json` must not be given both"));
        }
        if fields.connect_timeout >= fields.timeout {
            // If `timeout` passes first, it is unknown whether the request was sent.
            return Err(ConfigError::new("`connect_timeout` must be shorter than `timeout`"));
        }
        Ok(Self(fields))
    }
}

const fn two_seconds() -> Duration {
    Duration::from_secs(2)
}

const fn four_seconds() -> Duration {
    Duration::from_secs(4)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration = humantime::parse_duration(&text).map_err(de::Error::custom)?;
    if duration.is_zero() || duration > Duration::from_mins(1) {
        return Err(de::Error::custom(
            "a timeout must be longer than zero and at most a minute, such as \"4s\"",
        ));
    }
    Ok(duration)
}
