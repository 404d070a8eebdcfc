//! Measures the server: against floors, which do the same work and nothing else; with a thousand
//! users and with a million; and what it weighs. Everything is a ratio of two figures that were
//! measured in turn, the median of some rounds, since absolute figures tell of the machine.
//!
//! `cargo run --release -p referral-bench` does all of it, most of the time filling databases. It takes Linux,
//! PostgreSQL (with pgbench) and wrk, and starts what it measures by itself.

#![expect(clippy::print_stdout, reason = "what is measured is printed")]

mod floors;
mod growth;
mod load;
mod memory_route;
mod report;
/// The columns of the storage, for its statements.
#[path = "../../referral-sqlx/src/rows.rs"]
#[expect(unused_macros, unused_imports, reason = "only the columns are of use here")]
mod rows;
mod scripts;
mod secrecy;
mod seed;
mod servers;
/// The very statements of the storage, for pgbench.
#[path = "../../referral-sqlx/src/postgres/statements.rs"]
#[expect(dead_code, reason = "only some of them are measured alone")]
mod statements;
mod weight;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{floors::Rounds, report::Report, servers::Postgres};

/// Measures the server.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Seconds of each measurement
    #[arg(long, global = true, default_value_t = 4)]
    seconds: u64,
    /// How often each is repeated, in turn with what it is compared to
    #[arg(long, global = true, default_value_t = 3)]
    rounds: u32,
    /// Users of the large crowd
    #[arg(long, global = true, default_value_t = seed::MILLION)]
    users: u64,
    /// Minutes of sign-ins after which the memory is looked at once more
    #[arg(long, global = true, default_value_t = 0)]
    soak: u64,
    /// Folder where the table and the picture are left
    #[arg(long, global = true)]
    output: Option<PathBuf>,
}

#[derive(Clone, Subcommand)]
enum Command {
    /// All of it. The default.
    All,
    /// Only whether times tell who has an account.
    Secrecy,
    /// Only how near to the limit.
    Floors,
    /// Only what grows with the crowd.
    Growth {
        /// On this database alone
        database: Option<Database>,
    },
    /// Only what it weighs.
    Weight,
    /// Fill a database with users, to look at by other means.
    Seed {
        /// `sqlite:…` or `postgres:…`, empty or not there yet
        url: String,
    },
    /// Draw the picture of a page anew, which was put together from the tables of several runs
    Draw {
        /// The page; the picture is left beside it
        page: PathBuf,
    },
    /// Serve the answer that the server is compared to.
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
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut report = Report::default();
    let command = cli.command.clone().unwrap_or(Command::All);
    match command {
        Command::Seed { url } => return seed::fill(&url, cli.users).await,
        Command::MemoryRoute => return memory_route::serve().await,
        Command::Draw { page } => {
            let report = Report::read(&std::fs::read_to_string(&page).expect("a page"));
            return report.draw(&page.with_extension("svg")).expect("drawn");
        }
        Command::All | Command::Secrecy | Command::Floors | Command::Growth { .. } | Command::Weight => {}
    }
    if matches!(command, Command::All | Command::Weight) {
        report.begin("Weight");
        weight::weigh(folder.path(), Duration::from_secs(cli.soak * 60), &mut report).await;
    }
    if matches!(command, Command::All | Command::Floors) {
        report.begin("Floors: how near to the limit");
        floors::core(rounds, &mut report).await;
        let data = tempfile::tempdir().expect("a folder");
        floors::sqlite(rounds, data.path(), &mut report).await;
        let server = Postgres::start();
        let data = tempfile::tempdir().expect("a folder");
        floors::postgres(&server, rounds, data.path(), &mut report).await;
    }
    if matches!(command, Command::All | Command::Secrecy) {
        report.begin("Secrecy: whether times tell who has an account");
        let data = tempfile::tempdir().expect("a folder");
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
        report.begin(&format!("Growth: from {} users to {}, SQLite", seed::THOUSAND, cli.users));
        growth::sqlite(cli.users, rounds, &mut report).await;
    }
    if grows_on(Database::Postgres) {
        report.begin(&format!("Growth: from {} users to {}, PostgreSQL", seed::THOUSAND, cli.users));
        let server = Postgres::start();
        growth::postgres(&server, cli.users, rounds, &mut report).await;
    }
    println!("{}", report.table());
    if let Some(output) = cli.output {
        let page = format!("{}{}", include_str!("introduction.md"), report.table());
        std::fs::write(output.join("benchmark.md"), page).expect("written");
        report.draw(&output.join("benchmark.svg")).expect("drawn");
    }
}
