//! The program `referral-server`: parses the command line and runs the command.

mod commands;
mod key_files;
mod listener;
mod log;
mod open_files;
mod settings;
mod sms_config;
mod test_numbers;
mod transfer;

use std::{
    io::{self, Write},
    process::{self, ExitCode},
};

use clap::{CommandFactory as _, FromArgMatches as _, error::ErrorKind};
use referral_server::with_sources;

use crate::{
    commands::{
        audit, code_requests, create_superuser, export, import, keys, limits, migrate, openapi, serve,
        serve::Result, sms, users,
    },
    log::Log,
    settings::{Cli, Command, environment, flags},
};

/// Memory allocator. Requests make many small allocations, for which the allocator of glibc is slower: the
/// profile of the current user was read 8 % faster with this one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = parse_command_line();
    if let Err(error) = environment::reject_unknown_variables(&Cli::command()) {
        return fail(&error);
    }
    let mut log = match Log::start(&cli.settings.log) {
        Ok(log) => log,
        Err(error) => return fail(&*error),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let result = runtime.block_on(run(cli, &log));
    // This call does not wait for blocking tasks, such as name resolution.
    runtime.shutdown_background();
    if let Err(error) = &result {
        // The log prints the error, because its thread may be blocked in a write to standard error.
        log.print(&describe(&**error));
    }
    log.finish();
    result.unwrap_or(ExitCode::FAILURE)
}

/// Parses flags and environment variables. On error or for `--help`, prints the text and exits.
fn parse_command_line() -> Cli {
    let command = environment::ignore_empty_variables(Cli::command());
    // Otherwise the error about `--max-requests -5` does not name the flag.
    let command = command.mut_args(|arg| arg.allow_negative_numbers(true));
    let matches = command.try_get_matches();
    matches.and_then(|matches| Cli::from_arg_matches(&matches)).unwrap_or_else(|error| {
        use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand};
        if matches!(error.kind(), DisplayHelp | DisplayHelpOnMissingArgumentOrSubcommand) {
            // The help must name all variables, including those that are empty.
            Cli::command().get_matches();
        }
        if !error.use_stderr() || error.kind() == DisplayHelpOnMissingArgumentOrSubcommand {
            error.exit();
        }
        let _ = writeln!(io::stderr(), "referral-server: {}", flags::describe(&error));
        process::exit(error.exit_code())
    })
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    let _ = writeln!(io::stderr(), "{}", describe(error));
    ExitCode::FAILURE
}

fn describe(error: &dyn std::error::Error) -> String {
    format!("referral-server: {}", with_sources(error))
}

/// Runs the command, and returns the exit code.
async fn run(cli: Cli, log: &Log) -> Result<ExitCode> {
    cli.settings.reject_postgres_flags()?;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::serve(&cli.settings, log.dropped_lines()).await,
        Command::Migrate => migrate::run(cli.settings).await,
        Command::Openapi => openapi::run(),
        Command::CreateSuperuser { phone } => create_superuser::run(&cli.settings, &phone).await,
        Command::CodeRequests { phone, json } => code_requests::run(&cli.settings, &phone, json).await,
        Command::Keys(command) => keys::run(&cli.settings, &command).await,
        Command::Sms(command) => sms::run(&cli.settings, command).await,
        Command::Users(command) => users::run(&cli.settings, command).await,
        Command::Limits(command) => limits::run(&cli.settings, &command).await,
        Command::Audit(arguments) => audit::run(&cli.settings, &arguments).await,
        Command::Import(command) => return import::run(&cli.settings, &command).await,
        Command::Export(command) => export::run(&cli.settings, &command).await,
    }?;
    Ok(ExitCode::SUCCESS)
}
