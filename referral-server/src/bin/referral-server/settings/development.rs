//! Checks of the settings for the development sender, which returns codes in responses and serves this
//! machine only.

use poem::http::Uri;
use referral_server::is_loopback_host;

use crate::settings::{Settings, policy::PolicyName};

/// Error of settings that let the development sender return codes to other machines, or that belong to a
/// service in production.
#[derive(Debug, thiserror::Error)]
#[error(
    "without --sms-config the server returns the code of any phone to any client, so it does not start with \
     settings for production: {}; to send codes, name the gateways with --sms-config (REFERRAL_SMS_CONFIG); to \
     try the server on this machine, change these settings as stated; to let any client sign in as any user, add \
     --return-codes-to-anyone",
    .0.join("; ")
)]
pub(crate) struct Exposed(Vec<String>);

/// Returns `true` if the server must respond only to clients of this machine, because responses contain
/// codes.
pub(crate) fn serves_loopback_only(settings: &Settings) -> bool {
    !settings.sends_messages() && !settings.sign_in.return_codes_to_anyone
}

/// Rejects settings that must not be used with the development sender.
pub(crate) fn reject_exposed(settings: &Settings) -> Result<(), Exposed> {
    if !serves_loopback_only(settings) {
        return Ok(());
    }
    let Settings { network, store, .. } = settings;
    let mut exposed = Vec::new();
    if !network.listen.ip().is_loopback() {
        let listen = network.listen;
        exposed.push(format!("--listen {listen} is not a loopback address, use 127.0.0.1:{}", listen.port()));
    }
    if let Some(url) = network.public_url.as_deref().filter(|url| !is_loopback_url(url)) {
        exposed.push(format!("--public-url {url} is another host than localhost, remove it"));
    }
    if network.trusted_proxies.is_some() {
        exposed.push("--trusted-proxies forwards requests of other machines, remove it".into());
    }
    if network.client_address_header.is_some() {
        exposed.push("--client-address-header belongs to requests of other machines, remove it".into());
    }
    if store.is_postgres() {
        exposed
            .push("--database-url is PostgreSQL, remove it or name a file such as sqlite:referral.db".into());
    }
    let policy = settings.policy_name();
    if policy != PolicyName::Development {
        exposed.push(format!("--policy {} is not for development, remove it", policy.name()));
    }
    if exposed.is_empty() { Ok(()) } else { Err(Exposed(exposed)) }
}

fn is_loopback_url(url: &str) -> bool {
    let uri: Option<Uri> = url.parse().ok();
    uri.as_ref().and_then(Uri::authority).is_some_and(|authority| is_loopback_host(authority.as_str()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::settings::Cli;

    fn check(arguments: &[&str]) -> Result<(), Exposed> {
        reject_exposed(&Cli::parse_from(["referral-server"].iter().chain(arguments)).settings)
    }

    const EXPOSED: [(&str, &str); 8] = [
        ("--listen", "0.0.0.0:8080"),
        ("--listen", "[::]:80"),
        ("--public-url", "https://api.example.com"),
        ("--trusted-proxies", "127.0.0.1"),
        ("--client-address-header", "X-Forwarded-For"),
        ("--database-url", "postgres://user:hunter2@127.0.0.1/referral"),
        ("--database-url", "postgresql:///referral"),
        ("--policy", "standard"),
    ];

    #[test]
    fn each_setting_for_production_is_rejected_by_name_without_its_secret() {
        for (flag, value) in EXPOSED {
            let error = check(&[flag, value]).expect_err(value).to_string();
            assert!(error.contains(flag) && error.contains("--sms-config"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
            assert!(check(&[flag, value, "--return-codes-to-anyone"]).is_ok(), "{value}");
            assert!(check(&[flag, value, "--sms-config", "sms.toml"]).is_ok(), "{value}");
        }
    }

    #[test]
    fn one_error_names_all_settings_for_production() {
        let flags = [0, 2, 3, 4, 5, 7].map(|index| EXPOSED[index]);
        let arguments: Vec<_> = flags.iter().flat_map(|(flag, value)| [*flag, *value]).collect();
        let error = check(&arguments).expect_err("exposed").to_string();
        for (flag, _) in flags {
            assert!(error.contains(flag), "{flag}: {error}");
        }
    }

    #[test]
    fn settings_for_this_machine_are_accepted() {
        for arguments in [
            &[][..],
            &["--listen", "[::1]:0"],
            &["--public-url", "http://localhost:8080"],
            &["--public-url", "http://app.localhost"],
            &["--public-url", "http://[::1]:8080"],
            &["--policy", "development"],
            &["--database-url", "sqlite:postgres.db"],
        ] {
            assert!(check(arguments).is_ok(), "{arguments:?}");
        }
    }
}
