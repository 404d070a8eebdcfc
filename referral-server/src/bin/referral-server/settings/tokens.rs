//! Flags of tokens: their keys, names and lifetimes.

use std::{path::PathBuf, time::Duration};

use clap::{Args, builder::NonEmptyStringValueParser};

use super::limits::{Number, number_or_off};

#[derive(Debug, Args)]
#[command(next_help_heading = "Tokens")]
pub(crate) struct Tokens {
    /// File with the keys that sign tokens, a JSON Web Key Set. The first key signs, all verify [default:
    /// `keys.json` in the data directory, created if it does not exist]
    #[arg(long, env = "REFERRAL_KEY_FILE", global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The keys, instead of a file. Use the environment variable: other users of the host can read arguments
    #[arg(
        long,
        env = "REFERRAL_KEYS",
        global = true,
        value_name = "JSON",
        hide_env_values = true,
        conflicts_with = "key_file"
    )]
    pub(crate) keys: Option<String>,
    /// Issuer of tokens (`iss`)
    #[arg(long, env = "REFERRAL_ISSUER", global = true, value_name = "NAME", default_value = "referral", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) issuer: String,
    /// Audience of tokens (`aud`)
    #[arg(long, env = "REFERRAL_AUDIENCE", global = true, value_name = "NAME", default_value = "referral", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) audience: String,
    /// Lifetime of an access token [default: 15m]
    #[arg(long, env = "REFERRAL_ACCESS_LIFETIME", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) access_lifetime: Option<Duration>,
    /// Lifetime of a refresh token. A session that is not used for this time ends [default: 30d]
    #[arg(long, env = "REFERRAL_REFRESH_LIFETIME", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) refresh_lifetime: Option<Duration>,
    /// Longest lifetime of a session, even if it is used [default: 180d]
    #[arg(long, env = "REFERRAL_SESSION_LIFETIME", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) session_lifetime: Option<Duration>,
    /// Largest number of active sessions of a user, or off. A sign-in beyond it ends the oldest session
    /// [default: off]
    #[arg(long, env = "REFERRAL_MAX_SESSIONS", global = true, value_name = "NUMBER", value_parser = number_or_off)]
    pub(crate) max_sessions: Option<Number>,
    /// Time without a sign-in or refresh after which a phone may belong to another person: a code alone then
    /// creates a new account, and the old one loses the phone. At least a day longer than --refresh-lifetime
    /// [default: off]
    #[arg(long, env = "REFERRAL_PHONES_RECYCLED_AFTER", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) phones_recycled_after: Option<Duration>,
    /// Time during which a refresh token may be exchanged again without ending the session [default: 30s]
    #[arg(long, env = "REFERRAL_REFRESH_GRACE", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) refresh_grace: Option<Duration>,
}
