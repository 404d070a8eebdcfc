//! What is configured of a gateway.

use std::{collections::BTreeMap, env, fmt, fs, net::IpAddr, path::PathBuf, time::Duration};

use reqwest::Url;
use serde::{Deserialize, Deserializer, de};
use toml::{Table, Value};
use zeroize::Zeroizing;

use super::{
    answer::Answer,
    presets,
    report::Reports,
    template::{JsonTemplate, Pairs, Template, Values},
};

/// Why a gateway cannot be used as it is configured. No secret is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    pub(super) fn missing(name: &str) -> Self {
        Self(format!("there is no setting `{name}`; give it in `settings`"))
    }
}

/// What TOML has to say, but for what stands in the place of something else: that may be a secret.
impl From<toml::de::Error> for ConfigError {
    fn from(error: toml::de::Error) -> Self {
        let message = error.message();
        let quotes = ["invalid type", "invalid value", "unknown variant"];
        let expected =
            message.find(", expected ").filter(|_| quotes.iter().any(|start| message.starts_with(start)));
        Self(expected.map_or(message, |at| &message[at + 2..]).to_owned())
    }
}

/// A gateway as it is configured: a table of TOML, or of any other format that serde reads.
///
/// With `preset` it begins with one of [`PRESETS`](super::PRESETS), and whatever else is given goes
/// before what the preset says: of tables key by key, but for `auth`.
#[derive(Clone, Deserialize)]
#[serde(try_from = "Table")]
pub struct GatewayConfig(pub(super) Fields);

/// Shows nothing: settings may be secret.
impl fmt::Debug for GatewayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatewayConfig(…)")
    }
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fields {
    /// What the templates name, secrets among them.
    #[serde(default)]
    settings: BTreeMap<String, Setting>,
    /// Settings of which one at least must be given.
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
    pub(super) answer: Answer,
    #[serde(default)]
    pub(super) reports: Option<Reports>,
    /// How long connecting may take, TLS included. After that it is certain that nothing was sent.
    #[serde(default = "two_seconds", deserialize_with = "duration")]
    pub(super) connect_timeout: Duration,
    /// How long all of it may take.
    #[serde(default = "four_seconds", deserialize_with = "duration")]
    pub(super) timeout: Duration,
    /// Through which proxy, or `none`; without, as the usual environment variables say, except to this
    /// machine.
    #[serde(default)]
    pub(super) proxy: Option<Template>,
    /// Certificates of authorities to trust beside the public ones, as PEM.
    #[serde(default)]
    pub(super) ca_file: Option<PathBuf>,
    /// Whether phones and codes may travel unencrypted to another machine.
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

/// How the gateway knows who is asking.
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
    /// A signature as Standard Webhooks describes it, made with this secret.
    StandardWebhooks(Template),
}

/// A value, or where it stands.
#[derive(Clone, Deserialize)]
#[serde(untagged, expecting = "a setting is a text, or {env = \"VARIABLE\"}, or {file = \"path\"}")]
enum Setting {
    Text(String),
    Env { env: String },
    File { file: PathBuf },
}

impl Setting {
    fn read(&self, name: &str) -> Result<Zeroizing<String>, ConfigError> {
        let (text, place) = match self {
            Self::Text(text) => return Ok(Zeroizing::new(text.clone())),
            Self::Env { env } => {
                let place = format!("the environment variable {env}");
                (env::var(env).map_err(|_| format!("{place} is not set")), place)
            }
            Self::File { file } => {
                let place = file.display().to_string();
                (fs::read_to_string(file).map_err(|error| format!("cannot read {place}: {error}")), place)
            }
        };
        let text = Zeroizing::new(text.map_err(|reason| ConfigError(format!("setting `{name}`: {reason}")))?);
        // Editors end a file with a line end.
        let text = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
        if text.is_empty() {
            return Err(ConfigError(format!("setting `{name}`: {place} is empty")));
        }
        Ok(text)
    }
}

impl Fields {
    /// The settings, read from wherever they are.
    pub(super) fn settings(&self) -> Result<BTreeMap<String, Zeroizing<String>>, ConfigError> {
        let read = self.settings.iter().map(|(name, setting)| Ok((name.clone(), setting.read(name)?)));
        let settings: BTreeMap<_, _> = read.collect::<Result<_, ConfigError>>()?;
        let is_given = |name: &String| settings.get(name).is_some_and(|value| !value.is_empty());
        if !self.one_of.is_empty() && !self.one_of.iter().any(is_given) {
            let names = self.one_of.join("` or `");
            return Err(ConfigError(format!(
                "there is no setting `{names}`; give one of them in `settings`"
            )));
        }
        Ok(settings)
    }

    /// The URL to ask, which leads to a gateway and is seen by nobody on the way, unless that is allowed.
    pub(super) fn url(&self, values: &Values<'_>) -> Result<Url, ConfigError> {
        let url = Url::parse(&self.url.render_url(values)?)
            .map_err(|error| ConfigError::new(format!("`url` is not a URL: {error}")))?;
        let is_http = url.scheme() == "http" && (self.allow_http || is_loopback(&url));
        if url.scheme() == "https" || is_http {
            return Ok(url);
        }
        Err(ConfigError::new(
            "`url` does not begin with https://, so that phones and codes would be seen on the way; if that is \
             what you want of an http:// one, add `allow_http = true`",
        ))
    }
}

/// Whether that is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
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
                // Who asks is said in one way.
                (Some(Value::Table(known)), Value::Table(given)) if name != "auth" => known.extend(given),
                (_, value) => drop(table.insert(name, value)),
            }
        }
        let fields: Fields = table.try_into()?;
        if fields.form.is_some() && fields.json.is_some() {
            return Err(ConfigError::new("a body is a `form` or `json`, not both"));
        }
        if fields.connect_timeout >= fields.timeout {
            // Else it would not be known that nothing was sent.
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
        return Err(de::Error::custom("a time-out is at most a minute, such as \"4s\""));
    }
    Ok(duration)
}
