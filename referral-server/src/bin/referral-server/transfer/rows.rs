//! Rows of a file, with the numbers of their lines.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek as _, SeekFrom},
};

use super::{
    Format,
    csv::CsvRows,
    fields::{Fields, Problem, Source},
    lines::JsonRows,
};

/// Size of the buffer of a file.
const BUFFER: usize = 1 << 18;

/// Largest size of a row in bytes. The values of a user have less than half as many, also if each character
/// is escaped.
pub(crate) const MAX_ROW: usize = 1 << 16;

/// Row of a file.
#[derive(Debug)]
pub(crate) struct Row {
    /// Number of the first line of the row, from 1 on.
    pub(crate) line: u64,
    pub(crate) fields: Result<Fields, Problem>,
}

/// Error that makes the rest of a file unreadable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("failed to read the file")]
    Io(#[from] io::Error),
    #[error("line {line}: {reason}")]
    Line { line: u64, reason: String },
}

/// Rows of a file, from its start.
pub(crate) enum Rows<R: Read = File> {
    Csv(Box<CsvRows<BufReader<R>>>),
    Json(JsonRows<BufReader<R>>),
}

impl Rows {
    /// Reads a file from its start.
    pub(crate) fn of_file(file: &File, format: Format, source: &Source) -> Result<Self, FileError> {
        let mut file = file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Self::new(file, format, source)
    }
}

impl<R: Read> Rows<R> {
    pub(crate) fn new(input: R, format: Format, source: &Source) -> Result<Self, FileError> {
        let input = BufReader::with_capacity(BUFFER, input);
        Ok(match format {
            Format::Csv => Self::Csv(Box::new(CsvRows::new(input, source)?)),
            Format::Jsonl => Self::Json(JsonRows::new(input, source)?),
        })
    }

    /// Returns the next row, or `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<Row>, FileError> {
        match self {
            Self::Csv(rows) => rows.next(),
            Self::Json(rows) => rows.next(),
        }
    }

    /// Returns the number of bytes that were read.
    pub(crate) fn position(&self) -> u64 {
        match self {
            Self::Csv(rows) => rows.position(),
            Self::Json(rows) => rows.position(),
        }
    }
}

/// Skips the byte order mark that some programs write at the start of a file.
pub(crate) fn skip_byte_order_mark(input: &mut impl io::BufRead) -> io::Result<()> {
    if input.fill_buf()?.starts_with("\u{feff}".as_bytes()) {
        input.consume("\u{feff}".len());
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Columns of test files.
    pub(crate) const TEST_SOURCE: Source = Source {
        columns: &["id", "name", "metadata"],
        required: &[&["id"]],
        parse: |_, _| Err(Problem::new("", "not parsed")),
    };

    /// Reader that returns few bytes at a time, so that rows are split at any place.
    pub(crate) struct Slow<'b>(pub(crate) &'b [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = buffer.len().min(self.0.len()).min(3);
            buffer[..size].copy_from_slice(&self.0[..size]);
            self.0 = &self.0[size..];
            Ok(size)
        }
    }

    /// Line of a row, with its values or the reason of its problem.
    pub(crate) type ReadRow = (u64, Result<Vec<String>, String>);

    /// Reads all rows.
    pub(crate) fn rows(text: &[u8], format: Format) -> Result<Vec<ReadRow>, FileError> {
        let mut rows = Rows::new(Slow(text), format, &TEST_SOURCE)?;
        let mut read = Vec::new();
        while let Some(Row { line, fields }) = rows.next()? {
            let values = |fields: Fields| fields.values.into_iter().map(Option::unwrap_or_default).collect();
            read.push((line, fields.map(values).map_err(|problem| problem.reason)));
        }
        Ok(read)
    }
}
