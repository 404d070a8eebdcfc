//! The command line: sub-commands and flags. Each flag has an environment variable.

pub(crate) mod development;
pub(crate) mod environment;
pub(crate) mod flags;
pub(crate) mod gate;
pub(crate) mod limits;
pub(crate) mod log;
pub(crate) mod network;
pub(crate) mod policy;
pub(crate) mod postgres;
pub(crate) mod sign_in;
pub(crate) mod store;
pub(crate) mod times;
pub(crate) mod tokens;

use clap::{Args, Parser, Subcommand};

use crate::{
    commands::{
        audit::AuditArguments, export::ExportCommand, import::ImportCommand, keys::KeysCommand,
        limits::LimitsCommand, sms::SmsCommand, users::UsersCommand,
    },
    settings::{
        gate::GateSettings, limits::LimitSettings, log::Log, network::Network, postgres::Postgres,
        sign_in::SignIn, store::Store, tokens::Tokens,
    },
};

/// HTTP server for sign-in by phone and one-time code, with a simple referral system.
///
/// Without settings, the server stores all data in `./referral-data`, listens on 127.0.0.1:8080 and
/// returns codes in responses instead of sending them, so that you can try the API in a browser. Each
/// flag can also be set by the environment variable next to it.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the API. The default.
    Serve,
    /// Apply the missing migrations to the database, and exit. Servers do so when they start, unless they
    /// have `--migrate=false`.
    Migrate,
    /// Print the OpenAPI document.
    Openapi,
    /// Make the user with a phone a member of staff. If there is no such user, it is created.
    ///
    /// Staff can see the data of all users, regardless of `--visibility`. They sign in like other users.
    CreateSuperuser {
        /// Phone of the user, in international form.
        #[arg(long)]
        phone: String,
    },
    /// Show the requests to send and to redeem codes of a phone in the last three days, with their outcomes.
    CodeRequests {
        /// Phone, in international form, or in national form with `--default-region`.
        #[arg(long)]
        phone: String,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Create, list and rotate the keys that sign tokens and the peppers that hash codes.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Test the gateways, and show the texts of messages.
    #[command(subcommand)]
    Sms(SmsCommand),
    /// Find, show and change users, and print the tree of their invitations.
    #[command(subcommand)]
    Users(UsersCommand),
    /// Reset the limits of a phone.
    #[command(subcommand)]
    Limits(LimitsCommand),
    /// Print the audit log, newest first.
    Audit(AuditArguments),
    /// Add the users of files, such as those that `export` writes.
    ///
    /// An import only adds: it changes no stored user, and a repeated import changes nothing. It can run
    /// while servers use the database. Rejected rows are reported with their lines and reasons, and the
    /// exit code is 2. See docs/import.md.
    Import(ImportCommand),
    /// Write all users with their invitations to a file or to standard output.
    ///
    /// The output has personal data. A new file can be read by its owner only. See docs/import.md.
    Export(ExportCommand),
}

#[derive(Debug, Args)]
pub(crate) struct Settings {
    #[command(flatten)]
    pub(crate) network: Network,
    #[command(flatten)]
    pub(crate) store: Store,
    #[command(flatten)]
    pub(crate) postgres: Postgres,
    #[command(flatten)]
    pub(crate) sign_in: SignIn,
    #[command(flatten)]
    pub(crate) gate: GateSettings,
    #[command(flatten)]
    pub(crate) limits: LimitSettings,
    #[command(flatten)]
    pub(crate) tokens: Tokens,
    #[command(flatten)]
    pub(crate) log: Log,
}

/// Replaces the default with the given value, if there is one.
fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_environment_variable() {
        for arg in Cli::command().get_arguments().filter(|arg| arg.get_long().is_some()) {
            let flag = arg.get_long().unwrap_or_default();
            let expected = format!("REFERRAL_{}", flag.replace('-', "_").to_uppercase());
            let variable = arg.get_env().and_then(|name| name.to_str());
            assert!(matches!(flag, "help" | "version") || variable == Some(&*expected), "--{flag}");
        }
    }
}
