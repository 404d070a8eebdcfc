//! Report of an import: rejected rows, warnings and counts.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use indicatif::ProgressBar;
use serde_json::json;

use super::fields::Problem;

/// Number of rejected rows, and of warnings, that are printed. The file of the report has all of them.
const PRINTED: u64 = 20;

/// Severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The row was not imported.
    Rejected,
    /// The row was imported without one of its values.
    Warning,
}

/// Counts of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) read: u64,
    pub(crate) added: u64,
    pub(crate) unchanged: u64,
    pub(crate) invitations: u64,
    pub(crate) rejected: u64,
    pub(crate) warnings: u64,
}

/// Report that is written during an import.
pub(crate) struct Report {
    file: Option<BufWriter<File>>,
    pub(crate) counts: Counts,
}

impl Report {
    /// Creates the file of the report, which only its owner can read. A file that exists is not replaced: it
    /// could be an input.
    pub(crate) fn new(file: Option<&Path>) -> io::Result<Self> {
        let create =
            |path| File::options().write(true).create_new(true).mode(0o600).open(path).map(BufWriter::new);
        Ok(Self { file: file.map(create).transpose()?, counts: Counts::default() })
    }

    /// Reports a problem in a line of a file. The file is named if there are several.
    pub(crate) fn add(
        &mut self,
        severity: Severity,
        file: Option<&str>,
        line: u64,
        problem: &Problem,
        progress: &ProgressBar,
    ) -> io::Result<()> {
        let Problem { field, reason } = problem;
        let (name, count) = match severity {
            Severity::Rejected => ("rejected", &mut self.counts.rejected),
            Severity::Warning => ("warning", &mut self.counts.warnings),
        };
        *count += 1;
        if let Some(report) = &mut self.file {
            let entry =
                json!({ "file": file, "line": line, "result": name, "field": field, "reason": reason });
            writeln!(report, "{entry}")?;
        }
        let place = file.map(|file| format!("{file}: ")).unwrap_or_default();
        let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
        if *count <= PRINTED {
            print(progress, &format!("{place}line {line}: {name}: {field}{reason}"));
        } else if *count == PRINTED + 1 {
            let advice = if self.file.is_some() { "" } else { "; --report FILE writes all of them" };
            print(progress, &format!("further rows with the result `{name}` are not printed{advice}"));
        }
        Ok(())
    }

    /// Writes the rest of the report, and returns the summary.
    pub(crate) fn finish(mut self) -> io::Result<(Counts, String)> {
        if let Some(report) = &mut self.file {
            report.flush()?;
        }
        let Counts { read, added, unchanged, invitations, rejected, warnings } = self.counts;
        let summary = format!(
            "read {read} rows: {added} added, {unchanged} unchanged, {rejected} rejected; {invitations} invitations \
             added; {warnings} warnings"
        );
        Ok((self.counts, summary))
    }
}

/// Prints a line on standard error, above the progress bar.
pub(crate) fn print(progress: &ProgressBar, line: &str) {
    // A closed standard error is not an error.
    progress.suspend(|| drop(writeln!(io::stderr(), "{line}")));
}
