//! The program `referral-server`: parses the command line and runs the command.

mod admission;
mod bodies;
mod cli;
mod connections;
mod development;
mod environment;
mod flags;
mod keys;
mod limits;
mod log;
mod open_files;
mod patience;
mod secrets;
mod serve;
mod sms;
mod test_numbers;

use std::{
    io::{self, Write},
    process::{self, ExitCode},
    sync::Arc,
};

use clap::{CommandFactory as _, FromArgMatches as _, error::ErrorKind};
use referral_core::{
    Peppers, PhoneNumber, Referral, SigningKeys, random::SystemRandom, sms::DevelopmentSender,
    storage::MemoryStorage,
};

use crate::{
    cli::{Cli, Command, Settings},
    log::Log,
    serve::Result,
    sms::Messages,
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
    // Does not wait for blocking tasks, such as name resolution.
    runtime.shutdown_background();
    if let Err(error) = &result {
        // Through the log, because its thread may be blocked in a write to standard error.
        log.print(&describe(&**error));
    }
    log.finish();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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

async fn run(cli: Cli, log: &Log) -> Result<()> {
    cli.settings.reject_postgres_flags()?;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::serve(&cli.settings, log.dropped_lines()).await,
        Command::Migrate => migrate(cli.settings).await,
        Command::Openapi => print_openapi(),
        Command::CreateSuperuser { phone } => create_superuser(&cli.settings, &phone).await,
        Command::Keys(command) => keys::run(&cli.settings, &command).await,
        Command::Sms(command) => sms::run(&cli.settings, command).await,
    }
}

/// Applies the migrations that are missing.
async fn migrate(mut settings: Settings) -> Result<()> {
    if settings.postgres.database_pooler == Some(true) && settings.postgres.database_migration_url.is_none() {
        return Err(
            "failed to migrate the database: a pooler cannot apply migrations; give the direct URL of the \
                    database with --database-migration-url"
                .into(),
        );
    }
    settings.store.migrate = true;
    let storage = serve::connect(&settings).await?;
    storage.close().await;
    Ok(writeln!(io::stdout(), "the schema of the database is up to date")?)
}

/// Prints the OpenAPI document. It does not depend on settings, so no database is opened.
fn print_openapi() -> Result<()> {
    let keys = SigningKeys::from_jwk_set(&SigningKeys::generate_jwk_set(&SystemRandom))?;
    let peppers = Peppers::from_jwk_set(&Peppers::generate_jwk_set(&SystemRandom))?;
    let storage = Arc::new(MemoryStorage::new());
    let referral = Referral::builder(storage, Arc::new(DevelopmentSender), keys, peppers).build()?;
    match io::stdout().write_all(referral_server::openapi(&referral).as_bytes()) {
        // The reader, such as `head`, may close the pipe early.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

async fn create_superuser(settings: &Settings, phone: &str) -> Result<()> {
    let phone = PhoneNumber::parse(phone, settings.policy().default_region)
        .map_err(|error| format!("--phone: {}", flags::phrase(&error.to_string())))?;
    let referral = serve::build(settings, Messages::none(), ()).await?;
    let user = referral.make_staff(phone).await?;
    referral.close().await;
    Ok(writeln!(io::stdout(), "{} is staff: user {}", user.phone.as_str(), user.id)?)
}

/// Returns an error and its sources in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let source_text = source.to_string();
        if !text.contains(&source_text) {
            text = format!("{text}: {source_text}");
        }
        next = source.source();
    }
    text
}
