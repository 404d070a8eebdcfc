//! Gateways that are known, each as the configuration that anybody could have written.

use toml::Table;

use super::ConfigError;

/// The gateways that are known: their names, and their configuration as TOML, to be named by
/// `preset = "…"` or copied and changed.
pub const PRESETS: &[(&str, &str)] = &[
    ("mobizon", include_str!("presets/mobizon.toml")),
    ("smsc", include_str!("presets/smsc.toml")),
    ("smsru", include_str!("presets/smsru.toml")),
    ("twilio", include_str!("presets/twilio.toml")),
    ("vonage", include_str!("presets/vonage.toml")),
    ("webhook", include_str!("presets/webhook.toml")),
];

/// The configuration of the preset of that name, as TOML.
///
/// # Errors
///
/// If there is none: the error names those that there are.
pub fn preset(name: &str) -> Result<&'static str, ConfigError> {
    let preset = PRESETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
    preset.ok_or_else(|| {
        let names: Vec<_> = PRESETS.iter().map(|(name, _)| *name).collect();
        ConfigError::new(format!("there is no preset `{name}`; there are {}", names.join(", ")))
    })
}

/// The same, read.
pub(super) fn table(name: &str) -> Result<Table, ConfigError> {
    Ok(preset(name)?.parse().expect("presets are well-formed"))
}
