//! Flags of signing in: gateways, codes, phones and peppers.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum, builder::BoolishValueParser};
use referral_core::{Region, policy::NumberPrefix};

use crate::{
    settings::{Settings, policy::PolicyName},
    sms_config::SmsConfig,
};

#[derive(Debug, Args)]
#[command(next_help_heading = "Signing in")]
pub(crate) struct SignIn {
    /// File with the gateways that send messages, and with the texts of messages [default: none, so codes are
    /// returned in responses, and any client can sign in as any user]
    #[arg(long, env = "REFERRAL_SMS_CONFIG", global = true, value_name = "FILE")]
    pub(crate) sms_config: Option<PathBuf>,
    /// Allow other machines to use the development sender, which returns the code of any phone to any client.
    /// With this flag, the server accepts a listen address other than loopback, PostgreSQL, a public URL,
    /// trusted proxies, a policy other than development, and requests for any host
    #[arg(long, env = "REFERRAL_RETURN_CODES_TO_ANYONE", global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub(crate) return_codes_to_anyone: bool,
    /// Defaults of the flags below and of the limits [default: standard with --sms-config, otherwise
    /// development]
    #[arg(long, env = "REFERRAL_POLICY", global = true)]
    pub(crate) policy: Option<PolicyName>,
    /// Number of digits of a code, 4 to 10 [default: 4; strict: 6]
    #[arg(long, env = "REFERRAL_CODE_LENGTH", global = true, value_name = "DIGITS", value_parser = clap::value_parser!(u8).range(4..=10))]
    pub(crate) code_length: Option<u8>,
    /// Time after which a code expires, 1 to 10 minutes [default: 300s]
    #[arg(long, env = "REFERRAL_CODE_LIFETIME", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) code_lifetime: Option<Duration>,
    /// Number of wrong attempts that invalidate a code, 1 to 10 [default: 3; strict: 5]
    #[arg(long, env = "REFERRAL_ATTEMPTS_PER_CODE", global = true, value_name = "ATTEMPTS", value_parser = clap::value_parser!(u32).range(1..=10))]
    pub(crate) attempts_per_code: Option<u32>,
    /// Shortest time between two codes for one phone [default: 60s; development: 0s]
    #[arg(long, env = "REFERRAL_RESEND_INTERVAL", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) resend_interval: Option<Duration>,
    /// Require the `challenge_id` to sign in [default: false; strict: true]
    #[arg(long, env = "REFERRAL_REQUIRE_CHALLENGE", global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub(crate) require_challenge: Option<bool>,
    /// Phones that sign in with a fixed code and get no message, each with its last day (UTC): a
    /// comma-separated list such as `+79608543017=47110815@2026-12-31`. Use the environment variable: other
    /// users of the host can read arguments [default: none]
    #[arg(long, env = "REFERRAL_TEST_NUMBERS", global = true, value_name = "LIST", hide_env_values = true)]
    pub(crate) test_numbers: Option<String>,
    /// Region of phone numbers without a country code, such as `RU` [default: none, so only international
    /// numbers are accepted]
    #[arg(long, env = "REFERRAL_DEFAULT_REGION", global = true, value_name = "REGION")]
    pub(crate) default_region: Option<Region>,
    /// First digits of mobile numbers that the numbering plans do not have yet: a comma-separated list such
    /// as `+4915410`. Codes are sent to them regardless of --regions [default: none]
    #[arg(
        long,
        env = "REFERRAL_ADDITIONAL_PREFIXES",
        global = true,
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub(crate) additional_prefixes: Vec<NumberPrefix>,
    /// Visibility of phones and email addresses for other users. Staff always see all data
    #[arg(long, env = "REFERRAL_VISIBILITY", global = true, default_value = "full")]
    pub(crate) visibility: VisibilityName,
    /// Time between the deletion of the own account and the erasure of its data, up to 90 days. A sign-in in this
    /// time cancels the deletion [default: 0s, so the data are erased immediately]
    #[arg(long, env = "REFERRAL_DELETION_GRACE", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) deletion_grace: Option<Duration>,
    /// File with the peppers that hash codes, a JSON Web Key Set. The first pepper hashes, all verify
    /// [default: `peppers.json` in the data directory, created if it does not exist]
    #[arg(long, env = "REFERRAL_PEPPER_FILE", global = true, value_name = "FILE")]
    pub(crate) pepper_file: Option<PathBuf>,
    /// The peppers, instead of a file. Use the environment variable: other users of the host can read
    /// arguments
    #[arg(
        long,
        env = "REFERRAL_PEPPERS",
        global = true,
        value_name = "JSON",
        hide_env_values = true,
        conflicts_with = "pepper_file"
    )]
    pub(crate) peppers: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum VisibilityName {
    /// All signed-in users see all data
    Full,
    /// Phones of other users are masked, and their email addresses are hidden
    Masked,
    /// Only staff see other users
    Staff,
}

impl Settings {
    /// Returns `true` if messages are sent. Otherwise codes are returned in responses.
    pub(crate) fn sends_messages(&self) -> bool {
        self.sign_in.sms_config.is_some()
    }

    /// Reads the configuration of gateways and texts, if a file is named.
    pub(crate) fn sms_config(&self) -> Result<Option<SmsConfig>, String> {
        self.sign_in.sms_config.as_deref().map(SmsConfig::read).transpose()
    }
}
