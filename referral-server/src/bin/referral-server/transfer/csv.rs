//! Rows of comma-separated values.

use std::io::BufRead;

use csv_core::{ReadRecordResult, Reader};

use super::{
    fields::{Fields, Problem, Source},
    rows::{FileError, MAX_ROW, Row, skip_byte_order_mark},
};

/// Largest number of fields of a row that are read. A row with more fields is rejected.
const MAX_FIELDS: usize = 64;

/// Rows of a file whose first line has the names of the columns.
pub(crate) struct CsvRows<R> {
    records: Records<R>,
    columns: &'static [&'static str],
    /// Indexes of the columns of the file in `columns`.
    order: Vec<usize>,
}

impl<R: BufRead> CsvRows<R> {
    /// Reads the names of the columns.
    pub(crate) fn new(mut input: R, source: &Source) -> Result<Self, FileError> {
        skip_byte_order_mark(&mut input)?;
        let mut records = Records::new(input);
        let at = |line, reason: String| FileError::Line { line, reason };
        let Some(line) = records.next()? else {
            return Err(at(
                1,
                "the file is empty; its first line must have the names of the columns".to_owned(),
            ));
        };
        let names = records.fields().ok_or_else(|| at(line, "the row has too many columns".to_owned()))?;
        let mut order = Vec::new();
        for name in names {
            let name = std::str::from_utf8(name).map_err(|_| at(line, "the text is not UTF-8".to_owned()))?;
            let name = name.trim();
            let index = source.columns.iter().position(|column| *column == name).ok_or_else(|| {
                let known = source.columns.join("`, `");
                at(
                    line,
                    format!("the column `{}` is unknown; the columns are `{known}`", name.escape_debug()),
                )
            })?;
            if order.contains(&index) {
                return Err(at(line, format!("the column `{name}` occurs twice")));
            }
            order.push(index);
        }
        for alternatives in source.required {
            let has = |name: &&str| order.iter().any(|index| source.columns[*index] == *name);
            if !alternatives.iter().any(has) {
                let reason = format!("the column `{}` is missing", alternatives.join("` or `"));
                return Err(at(line, reason));
            }
        }
        Ok(Self { records, columns: source.columns, order })
    }

    pub(crate) fn next(&mut self) -> Result<Option<Row>, FileError> {
        let Some(line) = self.records.next()? else { return Ok(None) };
        Ok(Some(Row { line, fields: self.fields() }))
    }

    fn fields(&self) -> Result<Fields, Problem> {
        let rejected = |reason: &str| Problem::new("", reason);
        let values = self.records.fields().ok_or_else(|| rejected("the row has too many fields"))?;
        let mut fields = Fields::new(self.columns);
        let mut number = 0;
        for (value, index) in values.zip(self.order.iter().map(Some).chain(std::iter::repeat(None))) {
            number += 1;
            let Some(index) = index else { continue };
            let value = std::str::from_utf8(value)
                .map_err(|_| Problem::new(self.columns[*index], "the text is not UTF-8"))?;
            fields.values[*index] = Some(value.to_owned()).filter(|value| !value.is_empty());
        }
        if number == self.order.len() {
            Ok(fields)
        } else {
            let expected = self.order.len();
            Err(rejected(&format!("the row has {number} fields instead of {expected}; check its quotes")))
        }
    }

    pub(crate) fn position(&self) -> u64 {
        self.records.position
    }
}

/// Records of a file. The size of a record is limited, so a quote that is not closed cannot use up the
/// memory.
struct Records<R> {
    input: R,
    parser: Reader,
    /// Number of line breaks that were read.
    line_breaks: u64,
    position: u64,
    output: Box<[u8]>,
    ends: Box<[usize]>,
    /// Number of fields of the record, or `None` if it has too many.
    number: Option<usize>,
}

impl<R: BufRead> Records<R> {
    fn new(input: R) -> Self {
        Self {
            input,
            parser: Reader::new(),
            line_breaks: 0,
            position: 0,
            output: vec![0; MAX_ROW].into(),
            ends: vec![0; MAX_FIELDS].into(),
            number: Some(0),
        }
    }

    /// Reads the next record and returns the number of its first line.
    fn next(&mut self) -> Result<Option<u64>, FileError> {
        self.skip_empty_lines()?;
        let line = self.line_breaks + 1;
        let (mut size, mut number, mut has_too_many) = (0, 0, false);
        loop {
            let input = self.input.fill_buf()?;
            let (result, read, written, ended) =
                self.parser.read_record(input, &mut self.output[size..], &mut self.ends[number..]);
            self.line_breaks += line_breaks(&input[..read]);
            self.position += read as u64;
            self.input.consume(read);
            (size, number) = (size + written, number + ended);
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => {
                    let reason = format!(
                        "the row is longer than {MAX_ROW} bytes; a quotation mark is probably not closed"
                    );
                    return Err(FileError::Line { line, reason });
                }
                ReadRecordResult::OutputEndsFull => (number, has_too_many) = (0, true),
                ReadRecordResult::Record => {
                    self.number = (!has_too_many).then_some(number);
                    return Ok(Some(line));
                }
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    fn skip_empty_lines(&mut self) -> Result<(), FileError> {
        loop {
            let input = self.input.fill_buf()?;
            let skipped = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            if skipped == 0 {
                return Ok(());
            }
            self.line_breaks += line_breaks(&input[..skipped]);
            self.position += skipped as u64;
            self.input.consume(skipped);
        }
    }

    /// Returns the fields of the record, or `None` if it has too many.
    fn fields(&self) -> Option<impl Iterator<Item = &[u8]>> {
        let ends = &self.ends[..self.number?];
        let starts = std::iter::once(0).chain(ends.iter().copied());
        Some(starts.zip(ends).map(|(start, end)| &self.output[start..*end]))
    }
}

fn line_breaks(bytes: &[u8]) -> u64 {
    (bytes.split(|byte| *byte == b'\n').count() - 1) as u64
}

/// Appends a row. A value with a separator, a quotation mark or a line break is quoted.
pub(crate) fn push_row<'v>(text: &mut String, values: impl Iterator<Item = &'v str>) {
    for (index, value) in values.enumerate() {
        if index > 0 {
            text.push(',');
        }
        if value.contains(['"', ',', '\r', '\n']) {
            text.push('"');
            text.push_str(&value.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(value);
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::{
        Format,
        rows::tests::{ReadRow, rows},
    };

    fn read(text: &str) -> Vec<ReadRow> {
        rows(text.as_bytes(), Format::Csv).expect("readable")
    }

    fn values(line: u64, values: [&str; 3]) -> ReadRow {
        (line, Ok(values.map(str::to_owned).into()))
    }

    #[test]
    fn rows_have_the_numbers_of_their_lines() {
        let text =
            "\u{feff}name,id\r\nAnna,1\r\n\r\n\n\"two\nlines\r\nand \"\"three\"\"\",2\n,3\n\"\",\"4,4\"";
        let expected = [
            values(2, ["1", "Anna", ""]),
            values(5, ["2", "two\nlines\r\nand \"three\"", ""]),
            values(8, ["3", "", ""]),
            values(9, ["4,4", "", ""]),
        ];
        assert_eq!(read(text), expected);
        assert_eq!(read("id\n"), []);
        assert_eq!(read("id"), []);
    }

    #[test]
    fn rows_of_the_wrong_length_are_rejected_alone() {
        let many = "x,".repeat(100);
        let text = format!("id,name\n1\n2,b,c\n{many}\n3,c\n");
        let read = read(&text);
        let lines: Vec<_> = read.iter().map(|(line, row)| (*line, row.is_ok())).collect();
        assert_eq!(lines, [(2, false), (3, false), (4, false), (5, true)]);
        let reason = read[0].1.as_ref().expect_err("rejected");
        assert_eq!(reason, "the row has 1 fields instead of 2; check its quotes");
        let row = rows(b"id,name\n1,\xff\n2,b\n", Format::Csv).expect("readable");
        assert_eq!(row[0], (2, Err("the text is not UTF-8".to_owned())));
        assert_eq!(row[1], values(3, ["2", "b", ""]));
    }

    #[test]
    fn files_with_wrong_columns_are_rejected() {
        for (text, expected) in [
            ("", "line 1: the file is empty"),
            ("\n\n", "line 1: the file is empty"),
            ("\u{feff}", "line 1: the file is empty"),
            ("id,title\n", "line 1: the column `title` is unknown; the columns are `id`, `name`, `metadata`"),
            ("\nid,name,id\n", "line 2: the column `id` occurs twice"),
            ("name\n", "line 1: the column `id` is missing"),
            ("id;name\n", "line 1: the column `id;name` is unknown"),
        ] {
            let error = rows(text.as_bytes(), Format::Csv).expect_err("rejected").to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(rows(b"\xff\xfei\0d\0", Format::Csv).is_err(), "UTF-16");
    }

    #[test]
    fn quotation_mark_that_is_not_closed_ends_the_import_with_its_line() {
        let text = format!("id,name\n1,a\n2,\"{}", "b\n".repeat(MAX_ROW));
        let error = rows(text.as_bytes(), Format::Csv).expect_err("too long").to_string();
        assert!(error.starts_with("line 3: the row is longer than 65536 bytes"), "{error}");
    }

    #[test]
    fn written_rows_are_read_unchanged() {
        for row in [
            ["1", "a", "b"],
            ["", "", ""],
            ["\"", ",", "\r\n"],
            ["\n", " a ", "\"\"\"a\",\"b\""],
            ["'", ";", "\t\u{feff}"],
            ["\r", "Ж🙂", "{\"a\":\"\\n\"}"],
        ] {
            let mut text = "id,name,metadata\n".to_owned();
            push_row(&mut text, row.into_iter());
            let line = text.lines().count().min(2) as u64;
            assert_eq!(read(&text), [values(line, row)], "{text:?}");
        }
    }
}
