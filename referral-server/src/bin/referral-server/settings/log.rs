//! Flags of the log.

use clap::{Args, ValueEnum};

use crate::log::check_filter;

#[derive(Debug, Args)]
#[command(next_help_heading = "Log (written to standard error, without phones, codes and tokens)")]
pub(crate) struct Log {
    /// Log filter: a level (off, error, warn, info, debug, trace), or levels by module, such as
    /// `info,sqlx=debug`
    #[arg(
        long = "log",
        env = "REFERRAL_LOG",
        global = true,
        value_name = "FILTER",
        default_value = "info,poem=warn",
        value_parser = check_filter
    )]
    pub(crate) filter: String,
    /// Log format
    #[arg(long = "log-format", env = "REFERRAL_LOG_FORMAT", global = true, default_value = "text")]
    pub(crate) format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text for people
    Text,
    /// JSON, one object per line
    Json,
}
