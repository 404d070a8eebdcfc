//! Flags of the gate.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use referral_core::gate::{Gate, GateOptions, HttpGate, HttpGateError, OnGateFailure};

use crate::{
    key_files,
    settings::{Settings, flags::with_variable},
    sms_config::TIME_FOR_THE_REST,
};

#[derive(Debug, Args)]
#[command(next_help_heading = "Gate")]
#[expect(clippy::struct_field_names, reason = "the fields have the names of the flags")]
pub(crate) struct GateSettings {
    /// URL of the endpoint that allows or rejects codes, sign-ups and invitations: `https`, or `http` on a
    /// loopback address. See docs/gate.md [default: none]
    #[arg(long, env = "REFERRAL_GATE_URL", global = true, value_name = "URL")]
    pub(crate) gate_url: Option<String>,
    /// File with the secret that signs the requests to the gate: `whsec_` and 24 to 64 random bytes in Base64
    /// [default: none; required by --gate-url]
    #[arg(long, env = "REFERRAL_GATE_SECRET_FILE", global = true, value_name = "FILE")]
    pub(crate) gate_secret_file: Option<PathBuf>,
    /// Time limit for each question to the gate, 100 ms to 30 s. A sign-up with an invite code has two
    /// questions [default: 2s]
    #[arg(long, env = "REFERRAL_GATE_TIMEOUT", global = true, value_name = "TIME", value_parser = parse_time)]
    pub(crate) gate_timeout: Option<Duration>,
    /// Result of a question if the gate fails [default: reject]
    #[arg(long, env = "REFERRAL_GATE_ON_FAILURE", global = true)]
    pub(crate) gate_on_failure: Option<OnFailureName>,
    /// File with certificates (PEM) of further authorities that issue certificates for the gate [default:
    /// none]
    #[arg(long, env = "REFERRAL_GATE_CA_FILE", global = true, value_name = "FILE")]
    pub(crate) gate_ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OnFailureName {
    /// The client gets 503 and can retry
    Reject,
    /// The request continues as if there were no gate
    Allow,
}

/// Gate with its options.
pub(crate) type ConfiguredGate = (Arc<dyn Gate>, GateOptions);

impl Settings {
    /// Returns the time limit for each question, or zero if there is no gate.
    pub(crate) fn gate_timeout(&self) -> Duration {
        match self.gate.gate_url {
            Some(_) => self.gate.gate_timeout.unwrap_or(GateOptions::TIMEOUT),
            None => Duration::ZERO,
        }
    }

    /// Creates the gate, if there is one.
    pub(crate) fn gate(&self) -> Result<Option<ConfiguredGate>, String> {
        let GateSettings { gate_url, gate_secret_file, gate_timeout, gate_on_failure, gate_ca_file } =
            &self.gate;
        let Some(url) = gate_url else {
            let others = [
                ("--gate-secret-file", gate_secret_file.is_some()),
                ("--gate-timeout", gate_timeout.is_some()),
                ("--gate-on-failure", gate_on_failure.is_some()),
                ("--gate-ca-file", gate_ca_file.is_some()),
            ];
            return match others.into_iter().find(|(_, is_given)| *is_given) {
                Some((flag, _)) => Err(format!(
                    "{} has no effect without a gate; add {}",
                    with_variable(flag),
                    with_variable("--gate-url")
                )),
                None => Ok(None),
            };
        };
        let timeout = self.gate_timeout();
        let limit = self.network.request_timeout;
        if 2 * timeout + TIME_FOR_THE_REST > limit {
            return Err(format!(
                "{} is {timeout:?}, but a sign-up with two questions must be at least {TIME_FOR_THE_REST:?} shorter than \
                 --request-timeout, which is {limit:?}; lower it, or raise --request-timeout",
                with_variable("--gate-timeout")
            ));
        }
        let Some(file) = gate_secret_file else {
            return Err(format!(
                "{} requires a secret, with which the requests are signed; add {}",
                with_variable("--gate-url"),
                with_variable("--gate-secret-file")
            ));
        };
        let at_secret = |error: String| format!("{}: {error}", with_variable("--gate-secret-file"));
        let secret = key_files::read_private(file).map_err(|error| at_secret(error.to_string()))?;
        let mut gate = HttpGate::new(url, secret.trim()).map_err(|error| match error {
            HttpGateError::Url => format!("{}: {error}", with_variable("--gate-url")),
            _ => at_secret(error.to_string()),
        })?;
        if let Some(file) = gate_ca_file {
            gate =
                gate.trust(file).map_err(|error| format!("{}: {error}", with_variable("--gate-ca-file")))?;
        }
        let on_failure = match gate_on_failure {
            None | Some(OnFailureName::Reject) => OnGateFailure::Reject,
            Some(OnFailureName::Allow) => OnGateFailure::Allow,
        };
        let options = GateOptions::default().timeout(timeout).on_failure(on_failure);
        Ok(Some((Arc::new(gate), options)))
    }
}

/// Parses a time limit between 100 ms and 30 s, which is longer than a client waits.
fn parse_time(input: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(input).map_err(|error| error.to_string())?;
    let range = Duration::from_millis(100)..=Duration::from_secs(30);
    if range.contains(&time) { Ok(time) } else { Err("give 100ms to 30s".into()) }
}
