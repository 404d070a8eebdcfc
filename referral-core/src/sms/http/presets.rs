//! Configurations of known gateways. A custom configuration can do the same.

use toml::Table;

use super::ConfigError;

/// Names of the known gateways and their configurations as TOML. `preset = "…"` uses one of them. They can
/// also be copied and changed.
pub const PRESETS: &[(&str, &str)] = &[
    ("mobizon", include_str!("presets/mobizon.toml")),
    ("smsc", include_str!("presets/smsc.toml")),
    ("smsru", include_str!("presets/smsru.toml")),
    ("twilio", include_str!("presets/twilio.toml")),
    ("vonage", include_str!("presets/vonage.toml")),
    ("webhook", include_str!("presets/webhook.toml")),
];

/// Returns the configuration of the preset with this name, as TOML.
///
/// # Errors
///
/// If there is no such preset. The error lists the known presets.
pub fn preset(name: &str) -> Result<&'static str, ConfigError> {
    let preset = PRESETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
    preset.ok_or_else(|| {
        let names: Vec<_> = PRESETS.iter().map(|(name, _)| *name).collect();
        ConfigError::new(format!("unknown preset `{name}`; the presets are {}", names.join(", ")))
    })
}

/// Returns the parsed configuration of a preset.
pub(super) fn table(name: &str) -> Result<Table, ConfigError> {
    Ok(preset(name)?.parse().expect("presets are valid TOML"))
}
