//! Command `import`.

mod batches;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{self, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use referral_core::storage::{
    ImportBatch, ImportOutcome, ImportRejection, ImportedInvitation, Storage, UserRecord,
};

use self::batches::{Batch, Batches, InputFile};
use crate::{
    commands::serve::{self, Result, StopSignals},
    settings::Settings,
    transfer::{
        Format, django,
        fields::{Parsed, Problem, Source},
        native,
        report::{Report, Severity, print},
    },
};

/// Exit code if rows were rejected.
const SOME_REJECTED: u8 = 2;

/// Part of the time of a batch for which an import into SQLite pauses. In the pause, the writes of a server
/// get the lock of the file, for which they poll.
const PAUSE: u32 = 8;

/// Size in KiB of the page cache of an import into SQLite. A batch changes up to 5 000 pages of 4 KiB in a
/// database with a million users, because phones and codes are not sorted. The rest are pages that the next
/// batches need.
const SQLITE_CACHE: u32 = 64 << 10;

/// Shortest time limit of a statement of an import into PostgreSQL. A statement adds up to 1000 rows, and took
/// more than the usual five seconds on a busy machine.
const POSTGRES_STATEMENT_TIMEOUT: Duration = Duration::from_mins(1);

#[derive(Debug, Args)]
pub(crate) struct ImportCommand {
    /// Files to import
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// System that wrote the files
    #[arg(long, value_enum, default_value = "referral", value_name = "SYSTEM")]
    from: System,
    /// Format of the files [default: by the name of each file: `jsonl` for `*.jsonl` and `*.ndjson`,
    /// otherwise `csv`]
    // `--log-format` has the id `format`.
    #[arg(id = "file_format", long = "format", value_name = "FORMAT", value_enum)]
    format: Option<Format>,
    /// File for the rejected rows and the warnings, as JSON lines [default: the first 20 of each are printed]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// System that wrote a file.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum System {
    /// This service, by `referral-server export`, or a program that writes the same columns
    Referral,
    /// Table `users_user` of the former service in Django
    Django,
}

impl System {
    fn source(self) -> &'static Source {
        match self {
            Self::Referral => &native::SOURCE,
            Self::Django => &django::SOURCE,
        }
    }
}

/// Imports the files, and returns the exit code.
pub(crate) async fn run(settings: &Settings, command: &ImportCommand) -> Result<ExitCode> {
    let files = command.files.iter().map(|path| open(path, command.format)).collect::<Result<Vec<_>>>()?;
    let at_report = |error: io::Error| {
        let path = command.report.as_deref().unwrap_or(Path::new("")).display();
        format!("--report: failed to write {path}: {error}")
    };
    let report = Report::new(command.report.as_deref()).map_err(at_report)?;
    let stopped_by = stop_signal()?;
    let mut sqlite = settings.sqlite_options();
    sqlite.write_cache = SQLITE_CACHE;
    let mut postgres = settings.postgres_options();
    postgres.statement_timeout = postgres.statement_timeout.max(POSTGRES_STATEMENT_TIMEOUT);
    let storage = serve::connect_with(settings, &sqlite, &postgres).await?;
    let mut import = Import {
        storage: &*storage,
        files: files.into(),
        source: command.from.source(),
        settings,
        report,
        progress: ProgressBar::no_length(),
        waiting: Vec::new(),
        stopped_by,
    };
    let imported = import.run().await;
    import.progress.finish_and_clear();
    let Import { report, progress, stopped_by, .. } = import;
    let (counts, summary) = report.finish().map_err(at_report)?;
    print(&progress, &summary);
    storage.close().await;
    imported?;
    Ok(match stopped_by.load(Ordering::Relaxed) {
        0 if counts.rejected > 0 => SOME_REJECTED.into(),
        0 => ExitCode::SUCCESS,
        code => {
            print(&progress, "the import was stopped; repeat it to continue");
            code.into()
        }
    })
}

fn open(path: &Path, format: Option<Format>) -> Result<InputFile> {
    let failed = |error: io::Error| format!("failed to read {}: {error}", path.display());
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(format!("{} must be a file; it is read twice", path.display()).into());
    }
    Ok(InputFile {
        name: path.display().to_string(),
        file,
        size: metadata.len(),
        format: Format::of(format, Some(path)),
    })
}

/// Handles signals to stop: the first one stops the import after its batch, and sets the returned exit code.
/// The second one ends the process.
fn stop_signal() -> io::Result<Arc<AtomicU8>> {
    let mut signals = StopSignals::new()?;
    let code = Arc::new(AtomicU8::new(0));
    let stopped_by = Arc::clone(&code);
    tokio::spawn(async move {
        let code = signals.next().await;
        stopped_by.store(u8::try_from(code).unwrap_or(u8::MAX), Ordering::Relaxed);
        process::exit(signals.next().await)
    });
    Ok(code)
}

/// Row whose inviter was unknown when its user was imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    file: u16,
    /// Number of the row in its file.
    row: u32,
}

struct Import<'i> {
    storage: &'i dyn Storage,
    files: Arc<[InputFile]>,
    source: &'static Source,
    settings: &'i Settings,
    report: Report,
    progress: ProgressBar,
    /// Rows for the second pass, in ascending order.
    waiting: Vec<Waiting>,
    /// Exit code of the signal to stop, or 0.
    stopped_by: Arc<AtomicU8>,
}

impl Import<'_> {
    /// Imports all rows. The rows whose inviter follows in a later batch are then read and imported again.
    async fn run(&mut self) -> Result<()> {
        let bytes = self.files.iter().map(|file| file.size).sum();
        self.start_progress("{bar:40} {percent} %, {msg} rows, {eta} left", bytes)?;
        self.pass(None).await?;
        if !self.waiting.is_empty() && !self.is_stopped() {
            let waiting: Arc<[_]> = std::mem::take(&mut self.waiting).into();
            self.start_progress("{bar:40} {percent} % of the invitations, {eta} left", waiting.len() as u64)?;
            self.pass(Some(waiting)).await?;
        }
        Ok(())
    }

    /// Shows a progress bar, if standard error is a terminal.
    fn start_progress(&mut self, template: &str, length: u64) -> Result<()> {
        self.progress = ProgressBar::new(length).with_style(ProgressStyle::with_template(template)?);
        self.progress.enable_steady_tick(Duration::from_millis(500));
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.stopped_by.load(Ordering::Relaxed) != 0
    }

    /// Imports the rows of all files, or only those of `waiting`.
    async fn pass(&mut self, waiting: Option<Arc<[Waiting]>>) -> Result<()> {
        let is_second = waiting.is_some();
        let default_region = self.settings.policy().default_region;
        let mut batches = Batches::read(Arc::clone(&self.files), self.source, default_region, waiting);
        while !self.is_stopped() {
            let Some(batch) = batches.next().await? else { break };
            let start = Instant::now();
            let parsed = batch.rows.iter().filter_map(|row| row.parsed.as_ref().ok());
            let records: Vec<UserRecord> = parsed.map(|parsed| parsed.record.clone()).collect();
            let outcomes = self.storage.import_users(&ImportBatch::new(records)).await?;
            if is_second {
                self.report_second(&batch, outcomes)?;
                self.progress.inc(batch.rows.len() as u64);
            } else {
                self.report_first(&batch, outcomes)?;
                self.progress.set_message(self.report.counts.read.to_string());
                self.progress.inc(batch.bytes);
            }
            if !self.settings.store.is_postgres() {
                tokio::time::sleep(start.elapsed() / PAUSE).await;
            }
        }
        Ok(())
    }

    fn report_first(&mut self, batch: &Batch, outcomes: Vec<ImportOutcome>) -> io::Result<()> {
        let mut outcomes = outcomes.into_iter();
        for row in &batch.rows {
            self.report.counts.read += 1;
            let outcome = match &row.parsed {
                Ok(Parsed { warnings, .. }) => {
                    let Some(outcome) = outcomes.next() else { break };
                    if !matches!(outcome, ImportOutcome::Rejected(_)) {
                        for warning in warnings {
                            self.report(Severity::Warning, batch, row.line, warning)?;
                        }
                    }
                    outcome
                }
                Err(problem) => {
                    self.report(Severity::Rejected, batch, row.line, problem)?;
                    continue;
                }
            };
            let invitation = match outcome {
                ImportOutcome::Added(invitation) => {
                    self.report.counts.added += 1;
                    invitation
                }
                ImportOutcome::Stored(invitation) => {
                    self.report.counts.unchanged += 1;
                    invitation
                }
                ImportOutcome::Rejected(rejection) => {
                    self.report(Severity::Rejected, batch, row.line, &reason_of(&rejection))?;
                    continue;
                }
            };
            if invitation == ImportedInvitation::UnknownInviter {
                self.waiting.push(Waiting { file: batch.file, row: row.number });
            } else {
                self.report_invitation(batch, row.line, invitation)?;
            }
        }
        Ok(())
    }

    /// Reports the rows of the second pass, whose users are stored.
    fn report_second(&mut self, batch: &Batch, outcomes: Vec<ImportOutcome>) -> io::Result<()> {
        let parsed = batch.rows.iter().filter(|row| row.parsed.is_ok());
        for (row, outcome) in parsed.zip(outcomes) {
            match outcome {
                ImportOutcome::Added(invitation) | ImportOutcome::Stored(invitation) => {
                    self.report_invitation(batch, row.line, invitation)?;
                }
                ImportOutcome::Rejected(_) => {
                    let reason = "the user has changed during the import, and has no inviter";
                    self.report(
                        Severity::Warning,
                        batch,
                        row.line,
                        &Problem::new("invited_by_code", reason),
                    )?;
                }
            }
        }
        Ok(())
    }

    fn report_invitation(
        &mut self,
        batch: &Batch,
        line: u64,
        invitation: ImportedInvitation,
    ) -> io::Result<()> {
        let reason = match invitation {
            ImportedInvitation::None | ImportedInvitation::Stored => return Ok(()),
            ImportedInvitation::Added => {
                self.report.counts.invitations += 1;
                return Ok(());
            }
            ImportedInvitation::UnknownInviter => "the inviter with this code is unknown",
            ImportedInvitation::OwnCode => "the code is that of the user",
            ImportedInvitation::Loop => "the inviters form a circle",
        };
        let reason = format!("{reason}; the user is imported without an inviter");
        self.report(Severity::Warning, batch, line, &Problem::new("invited_by_code", reason))
    }

    fn report(&mut self, severity: Severity, batch: &Batch, line: u64, problem: &Problem) -> io::Result<()> {
        let file = &self.files[usize::from(batch.file)];
        let file = (self.files.len() > 1).then_some(file.name.as_str());
        self.report.add(severity, file, line, problem, &self.progress)
    }
}

/// Describes a conflict. The text has ids only, and no values of users.
fn reason_of(rejection: &ImportRejection) -> Problem {
    match rejection {
        ImportRejection::Differs(fields) => {
            let reason = format!("a user with this id is stored with other data: {}", fields.join(", "));
            Problem::new("id", reason)
        }
        ImportRejection::Deleted => Problem::new("id", "the user has been deleted"),
        ImportRejection::NotDeleted => Problem::new("id", "the user is stored, and has not been deleted"),
        ImportRejection::PhoneTaken(owner) => taken("phone", "phone", owner),
        ImportRejection::InviteCodeTaken(owner) => taken("invite_code", "invite code", owner),
        ImportRejection::EmailTaken(owner) => taken("email", "email address", owner),
        ImportRejection::ExternalIdTaken(owner) => taken("external_id", "external id", owner),
    }
}

fn taken(field: &'static str, value: &str, owner: &referral_core::UserId) -> Problem {
    Problem::new(field, format_args!("the user {owner} has this {value}"))
}
