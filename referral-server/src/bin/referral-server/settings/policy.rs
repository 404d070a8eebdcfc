//! Policy that results from the named policy and the flags.

use clap::ValueEnum;
use referral_core::policy::{Policy, Visibility};

use crate::settings::{Settings, limits::Number, set, sign_in::VisibilityName};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyName {
    /// Four digits
    Standard,
    /// Six digits, requires the challenge id; --regions and --messages-per-day must be set
    Strict,
    /// Like standard, without a resend interval and almost without limits
    Development,
}

impl PolicyName {
    /// Returns the value of `--policy`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Strict => "strict",
            Self::Development => "development",
        }
    }
}

impl Settings {
    /// Returns the name of the policy that provides the defaults.
    pub(crate) fn policy_name(&self) -> PolicyName {
        let by_sender = if self.sends_messages() { PolicyName::Standard } else { PolicyName::Development };
        self.sign_in.policy.unwrap_or(by_sender)
    }

    /// Returns the named policy, with the values of flags in place of its defaults.
    pub(crate) fn policy(&self) -> Policy {
        let Self { sign_in, tokens, .. } = self;
        let mut policy = match self.policy_name() {
            PolicyName::Standard => Policy::standard(),
            PolicyName::Strict => Policy::strict(),
            PolicyName::Development => Policy::development(),
        };
        set(&mut policy.code_length, sign_in.code_length);
        set(&mut policy.code_lifetime, sign_in.code_lifetime);
        set(&mut policy.attempts_per_code, sign_in.attempts_per_code);
        set(&mut policy.resend_interval, sign_in.resend_interval);
        set(&mut policy.require_challenge, sign_in.require_challenge);
        set(&mut policy.access_lifetime, tokens.access_lifetime);
        set(&mut policy.refresh_lifetime, tokens.refresh_lifetime);
        set(&mut policy.session_lifetime, tokens.session_lifetime);
        set(&mut policy.refresh_grace, tokens.refresh_grace);
        set(&mut policy.max_sessions, tokens.max_sessions.map(|Number(sessions)| sessions));
        policy.phones_recycled_after = tokens.phones_recycled_after;
        set(&mut policy.deletion_grace, sign_in.deletion_grace);
        self.limits.set(&mut policy);
        policy.default_region = sign_in.default_region;
        policy.additional_prefixes.clone_from(&sign_in.additional_prefixes);
        policy.visibility = match sign_in.visibility {
            VisibilityName::Full => Visibility::Full,
            VisibilityName::Masked => Visibility::Masked,
            VisibilityName::Staff => Visibility::Staff,
        };
        policy
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser as _;

    use crate::settings::Cli;

    #[test]
    fn flags_override_the_policy() {
        let cli = Cli::parse_from([
            "referral-server",
            "--policy",
            "strict",
            "--code-length=8",
            "--access-lifetime",
            "5m",
        ]);
        let policy = cli.settings.policy();
        assert_eq!(policy.code_length, 8);
        assert_eq!(policy.attempts_per_code, 5);
        assert_eq!(policy.access_lifetime, Duration::from_mins(5));
    }
}
