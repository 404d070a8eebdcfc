//! Batches of rows, which a thread reads and parses while the storage imports the batch before.

use std::{fs::File, sync::Arc};

use referral_core::{Region, storage::ImportBatch};
use tokio::sync::mpsc;

use super::Waiting;
use crate::{
    commands::serve::Result,
    transfer::{
        Format,
        fields::{Parsed, Problem, Source},
        rows::{FileError, Rows},
    },
};

/// Number of batches that wait for the storage.
const QUEUE: usize = 2;

/// Number of rows of a batch whose inviters followed. It is smaller, because such a batch excludes other
/// invitations of existing users, and loads all users above its inviters.
const SECOND_PASS_RECORDS: usize = 250;

/// File to import.
pub(super) struct InputFile {
    pub(super) name: String,
    pub(super) file: File,
    pub(super) size: u64,
    pub(super) format: Format,
}

/// Rows of one file.
pub(super) struct Batch {
    /// Index of the file.
    pub(super) file: u16,
    pub(super) rows: Vec<ParsedRow>,
    /// Number of bytes that were read for the batch.
    pub(super) bytes: u64,
}

pub(super) struct ParsedRow {
    /// Number of the row in its file.
    pub(super) number: u32,
    /// Number of the first line of the row.
    pub(super) line: u64,
    pub(super) parsed: Result<Parsed, Problem>,
}

/// Batches of all files.
pub(super) struct Batches {
    queue: mpsc::Receiver<Result<Batch, String>>,
}

impl Batches {
    /// Reads all rows, or only those of `waiting`, which are in ascending order.
    pub(super) fn read(
        files: Arc<[InputFile]>,
        source: &'static Source,
        default_region: Option<Region>,
        waiting: Option<Arc<[Waiting]>>,
    ) -> Self {
        let (batches, queue) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || {
            let mut waiting = waiting.as_deref();
            for (index, file) in (0..).zip(files.iter()) {
                let reader = Reader { file, index, source, default_region, batches: &batches };
                if let Err(error) = reader.read(&mut waiting) {
                    let error = referral_server::with_sources(&error);
                    // The import has ended if the channel is closed.
                    let _ = batches.blocking_send(Err(format!("{}: {error}", file.name)));
                    break;
                }
            }
        });
        Self { queue }
    }

    /// Returns the next batch, or `None` after the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Batch>> {
        Ok(self.queue.recv().await.transpose()?)
    }
}

/// Reader of one file.
struct Reader<'f> {
    file: &'f InputFile,
    index: u16,
    source: &'static Source,
    default_region: Option<Region>,
    batches: &'f mpsc::Sender<Result<Batch, String>>,
}

impl Reader<'_> {
    fn read(&self, waiting: &mut Option<&[Waiting]>) -> Result<(), FileError> {
        let mut rows = Rows::of_file(&self.file.file, self.file.format, self.source)?;
        let size = if waiting.is_some() { SECOND_PASS_RECORDS } else { ImportBatch::MAX_RECORDS };
        let (mut batch, mut start) = (Vec::new(), 0);
        let mut number = 0;
        while let Some(row) = rows.next()? {
            let this = Waiting { file: self.index, row: number };
            number = number.checked_add(1).ok_or_else(|| FileError::Line {
                line: row.line,
                reason: "the file has too many rows; divide it".to_owned(),
            })?;
            if let Some(waiting) = waiting {
                match waiting.split_first() {
                    Some((first, rest)) if *first == this => *waiting = rest,
                    _ => continue,
                }
            }
            let parsed = row.fields.and_then(|fields| (self.source.parse)(&fields, self.default_region));
            batch.push(ParsedRow { number: this.row, line: row.line, parsed });
            if batch.len() == size {
                let bytes = rows.position() - start;
                start = rows.position();
                if !self.send(std::mem::take(&mut batch), bytes) {
                    return Ok(());
                }
            }
        }
        self.send(batch, rows.position() - start);
        Ok(())
    }

    /// Returns `false` if the import has ended.
    fn send(&self, rows: Vec<ParsedRow>, bytes: u64) -> bool {
        self.batches.blocking_send(Ok(Batch { file: self.index, rows, bytes })).is_ok()
    }
}
