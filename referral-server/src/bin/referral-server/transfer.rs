//! Files of users: rows of text fields, and their conversion to records.

pub(crate) mod csv;
pub(crate) mod django;
pub(crate) mod fields;
pub(crate) mod lines;
pub(crate) mod native;
pub(crate) mod report;
pub(crate) mod rows;
pub(crate) mod timestamp;

use std::path::Path;

use clap::ValueEnum;

/// Format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Comma-separated values (RFC 4180) in UTF-8, with the names of the columns in the first line
    Csv,
    /// JSON lines: one object in each line
    Jsonl,
}

impl Format {
    /// Returns the given format, or that of the name of a file. Other names are of CSV.
    pub(crate) fn of(given: Option<Self>, file: Option<&Path>) -> Self {
        let by_name = || {
            let extension = file.and_then(Path::extension).unwrap_or_default();
            let is = |name: &str| extension.eq_ignore_ascii_case(name);
            if is("jsonl") || is("ndjson") { Self::Jsonl } else { Self::Csv }
        };
        given.unwrap_or_else(by_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_follows_the_name_of_the_file_unless_it_is_given() {
        for (name, format) in [
            ("users.csv", Format::Csv),
            ("users.jsonl", Format::Jsonl),
            ("users.NDJSON", Format::Jsonl),
            ("users", Format::Csv),
            ("jsonl", Format::Csv),
        ] {
            assert_eq!(Format::of(None, Some(Path::new(name))), format, "{name}");
        }
        assert_eq!(Format::of(Some(Format::Jsonl), Some(Path::new("users.csv"))), Format::Jsonl);
        assert_eq!(Format::of(None, None), Format::Csv);
    }
}
