//! Command `export`.

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use referral_core::storage::{Storage, UserRecord};

use crate::{
    commands::{
        private_file::PrivateFile,
        serve::{self, Result},
    },
    settings::Settings,
    transfer::{Format, csv, lines, native},
};

/// Number of users that are read from the database at once.
const PAGE: u32 = 1_000;

#[derive(Debug, Args)]
pub(crate) struct ExportCommand {
    /// File to create, with mode 0600 [default: standard output]
    file: Option<PathBuf>,
    /// Format of the output [default: by the name of the file: `jsonl` for `*.jsonl` and `*.ndjson`,
    /// otherwise `csv`]
    // `--log-format` has the id `format`.
    #[arg(id = "file_format", long = "format", value_name = "FORMAT", value_enum)]
    format: Option<Format>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

/// Writes all users in ascending order of their ids.
pub(crate) async fn run(settings: &Settings, command: &ExportCommand) -> Result<()> {
    let ExportCommand { file, format, force } = command;
    let format = Format::of(*format, file.as_deref());
    let file = file.as_deref().map(|path| PrivateFile::create(path, *force)).transpose()?;
    let storage = serve::connect(settings).await?;
    let exported = match file {
        None => match write(&*storage, format, io::stdout().lock()).await {
            // The reader, such as `head`, may close the pipe early.
            Err(error) if is_broken_pipe(&*error) => Ok(()),
            written => written.map(drop),
        },
        Some(file) => {
            let number = write(&*storage, format, file.as_file()).await?;
            let path = file.finish()?;
            Ok(writeln!(io::stderr(), "exported {number} users to {}", path.display())?)
        }
    };
    storage.close().await;
    exported
}

pub(crate) fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Writes all users, and returns their number with that of erased users.
async fn write(storage: &dyn Storage, format: Format, output: impl Write) -> Result<u64> {
    let progress = ProgressBar::new_spinner();
    progress.set_style(ProgressStyle::with_template("{spinner} {human_pos} users, {per_sec}")?);
    progress.enable_steady_tick(Duration::from_millis(200));
    let mut output = BufWriter::new(output);
    if format == Format::Csv {
        let mut header = String::new();
        csv::push_row(&mut header, native::COLUMNS.iter().copied());
        output.write_all(header.as_bytes())?;
    }
    let (mut after, mut number) = (None, 0);
    loop {
        let records = storage.export_users(after, PAGE).await?;
        let Some(last) = records.last() else { break };
        after = Some(last.user.id());
        number += records.len() as u64;
        output.write_all(text_of(&records, format).as_bytes())?;
        progress.inc(records.len() as u64);
    }
    output.flush()?;
    progress.finish_and_clear();
    Ok(number)
}

fn text_of(records: &[UserRecord], format: Format) -> String {
    let mut text = String::new();
    for record in records {
        let fields = native::fields(record);
        match format {
            Format::Csv => {
                let values = fields.values.iter().map(|value| value.as_deref().unwrap_or_default());
                csv::push_row(&mut text, values);
            }
            Format::Jsonl => lines::push_row(&mut text, &fields),
        }
    }
    text
}
