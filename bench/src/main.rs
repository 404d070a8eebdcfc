//! Measures the server: against floors, which are minimal programs that do the same work; with a thousand and
//! with 1.25 million users; and the resources that it needs. Absolute numbers depend on the machine. So the two
//! sides of a comparison are measured alternately, in several rounds, and the result is the median of the
//! ratios.
//!
//! `cargo run --release -p referral-bench` takes all measurements. Most of the time is spent on filling
//! databases. The program needs Linux, PostgreSQL (with pgbench) and wrk. It starts the servers that it
//! measures.

#![expect(clippy::print_stdout, reason = "the measurements are printed")]

mod floors;
mod growth;
mod hooks;
mod load;
mod memory_route;
mod picture;
mod report;
mod scripts;
mod secrecy;
mod seed;
mod servers;
mod weight;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{floors::Rounds, report::Report, servers::Postgres};

/// Measures the server.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Duration of each measurement in seconds
    #[arg(long, global = true, default_value_t = 4)]
    seconds: u64,
    /// Number of rounds; each round measures both sides of a comparison
    #[arg(long, global = true, default_value_t = 3)]
    rounds: u32,
    /// Number of users in the large database
    #[arg(long, global = true, default_value_t = seed::LARGE)]
    users: u64,
    /// Minutes of sign-ins after which the memory is measured again
    #[arg(long, global = true, default_value_t = 0)]
    soak: u64,
    /// Directory to which the table and the chart are written
    #[arg(long, global = true)]
    output: Option<PathBuf>,
}

#[derive(Clone, Subcommand)]
enum Command {
    /// Take all measurements (default)
    All,
    /// Compare sign-ups with and without a transaction hook
    Hooks,
    /// Compare response times of phones with and without an account
    Secrecy,
    /// Compare the server with minimal programs that do the same work
    Floors,
    /// Compare a database with a thousand users to a large one
    Growth {
        /// Measure only this database
        database: Option<Database>,
    },
    /// Measure the resources that the program needs
    Weight,
    /// Fill a database with users, for other measurements
    Seed {
        /// URL of a database that is empty or does not exist: `sqlite:…` or `postgres:…`
        url: String,
    },
    /// Draw the chart of a page again, for example of a page that combines the tables of several runs
    Draw {
        /// Path of the page; the chart is written next to it
        page: PathBuf,
    },
    /// Serve a response from memory, to which the server is compared
    #[command(hide = true)]
    MemoryRoute,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Database {
    Sqlite,
    Postgres,
}

#[tokio::main]
async fn main() {
    let cli = Cli::parse();
    let rounds = Rounds { time: Duration::from_secs(cli.seconds), rounds: cli.rounds };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut report = Report::default();
    let command = cli.command.clone().unwrap_or(Command::All);
    match command {
        Command::Seed { url } => return seed::fill(&url, cli.users).await,
        Command::MemoryRoute => return memory_route::serve().await,
        Command::Draw { page } => {
            let report = Report::read(&std::fs::read_to_string(&page).expect("a page"));
            return picture::draw(&report, &page.with_extension("svg")).expect("drawn");
        }
        Command::All
        | Command::Hooks
        | Command::Secrecy
        | Command::Floors
        | Command::Growth { .. }
        | Command::Weight => {}
    }
    if matches!(command, Command::All | Command::Weight) {
        report.start_section("Weight");
        weight::weigh(directory.path(), Duration::from_secs(cli.soak * 60), &mut report).await;
    }
    if matches!(command, Command::All | Command::Floors) {
        report.start_section("Floors: comparison with minimal programs");
        floors::core(rounds, &mut report).await;
        let data = tempfile::tempdir().expect("a directory");
        floors::sqlite(rounds, data.path(), &mut report).await;
        let server = Postgres::start();
        let data = tempfile::tempdir().expect("a directory");
        floors::postgres(&server, rounds, data.path(), &mut report).await;
        growth::pages(&server, rounds, &mut report).await;
    }
    if matches!(command, Command::All | Command::Hooks) {
        report.start_section("Hooks: cost of a row of the host in the transaction of a sign-up");
        let data = tempfile::tempdir().expect("a directory");
        hooks::sqlite(data.path(), rounds, &mut report).await;
        hooks::postgres(&Postgres::start(), rounds, &mut report).await;
    }
    if matches!(command, Command::All | Command::Secrecy) {
        report.start_section("Secrecy: response times with and without an account");
        let data = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}", data.path().join("secrecy.db").display());
        secrecy::compare("SQLite", referral_sqlx::connect(&url).await.expect("opened"), &mut report).await;
        let server = Postgres::start();
        let url = server.create("secrecy");
        secrecy::compare("PostgreSQL", referral_sqlx::connect(&url).await.expect("opened"), &mut report)
            .await;
    }
    let grows_on = |wanted: Database| match command {
        Command::All => true,
        Command::Growth { database } => database.is_none_or(|database| database == wanted),
        _ => false,
    };
    if grows_on(Database::Sqlite) {
        report.start_section(&format!("Growth: from {} users to {}, SQLite", seed::SMALL, cli.users));
        growth::sqlite(cli.users, rounds, &mut report).await;
    }
    if grows_on(Database::Postgres) {
        report.start_section(&format!("Growth: from {} users to {}, PostgreSQL", seed::SMALL, cli.users));
        let server = Postgres::start();
        growth::postgres(&server, cli.users, rounds, &mut report).await;
    }
    println!("{}", report.table());
    if let Some(output) = cli.output {
        let page = format!("{}{}", include_str!("introduction.md"), report.table());
        std::fs::write(output.join("benchmark.md"), page).expect("written");
        picture::draw(&report, &output.join("benchmark.svg")).expect("drawn");
    }
}
