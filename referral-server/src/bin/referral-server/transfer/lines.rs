//! Rows of JSON lines.

use std::io::{BufRead, Read as _};

use serde_json::{Map, Value};

use super::{
    fields::{Fields, Problem, Source},
    rows::{FileError, MAX_ROW, Row, skip_byte_order_mark},
};

/// Rows of a file that has one JSON object in each line.
pub(crate) struct JsonRows<R> {
    input: R,
    columns: &'static [&'static str],
    line: u64,
    position: u64,
    text: Vec<u8>,
}

impl<R: BufRead> JsonRows<R> {
    pub(crate) fn new(mut input: R, source: &Source) -> Result<Self, FileError> {
        skip_byte_order_mark(&mut input)?;
        Ok(Self { input, columns: source.columns, line: 0, position: 0, text: Vec::new() })
    }

    pub(crate) fn next(&mut self) -> Result<Option<Row>, FileError> {
        loop {
            self.text.clear();
            let limit = MAX_ROW as u64 + 1;
            let read = self.input.by_ref().take(limit).read_until(b'\n', &mut self.text)?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            self.position += read as u64;
            let fields = if self.text.len() > MAX_ROW {
                self.skip_line()?;
                Err(Problem::new("", format_args!("the line is longer than {MAX_ROW} bytes")))
            } else if self.text.trim_ascii().is_empty() {
                continue;
            } else {
                self.fields()
            };
            return Ok(Some(Row { line: self.line, fields }));
        }
    }

    /// Skips the rest of a line, which is of any length.
    fn skip_line(&mut self) -> Result<(), FileError> {
        while self.text.last() != Some(&b'\n') {
            self.text.clear();
            let read = self.input.by_ref().take(MAX_ROW as u64).read_until(b'\n', &mut self.text)?;
            self.position += read as u64;
            if read == 0 {
                break;
            }
        }
        Ok(())
    }

    fn fields(&self) -> Result<Fields, Problem> {
        let rejected = |reason: String| Problem::new("", reason);
        let text =
            std::str::from_utf8(&self.text).map_err(|_| rejected("the text is not UTF-8".to_owned()))?;
        let object: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| rejected(format!("the line is not a JSON object: column {}", error.column())))?;
        let mut fields = Fields::new(self.columns);
        for (name, value) in object {
            let index = self.columns.iter().position(|column| *column == name);
            let index =
                index.ok_or_else(|| rejected(format!("the field `{}` is unknown", name.escape_debug())))?;
            let value = match value {
                Value::Null => None,
                Value::String(text) => Some(text),
                // The text of an array is rejected by the field.
                value => Some(value.to_string()),
            };
            fields.values[index] = value.filter(|value| !value.is_empty());
        }
        Ok(fields)
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }
}

/// Appends the fields of a row that are not empty as an object. Those of [`UNQUOTED`] are JSON already.
pub(crate) fn push_row(text: &mut String, fields: &Fields) {
    /// Fields that are not texts.
    const UNQUOTED: [&str; 2] = ["is_active", "metadata"];

    text.push('{');
    let mut separator = "";
    for (column, value) in fields.columns.iter().zip(&fields.values) {
        if let Some(value) = value {
            text.push_str(separator);
            separator = ",";
            text.push_str(&Value::from(*column).to_string());
            text.push(':');
            if UNQUOTED.contains(column) {
                text.push_str(value);
            } else {
                text.push_str(&Value::from(value.as_str()).to_string());
            }
        }
    }
    text.push_str("}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::{
        Format,
        rows::tests::{ReadRow, TEST_SOURCE, rows},
    };

    fn values(line: u64, values: [&str; 3]) -> ReadRow {
        (line, Ok(values.map(str::to_owned).into()))
    }

    #[test]
    fn values_of_each_type_become_texts() {
        let text = "\u{feff}{\"id\":42,\"name\":\"Ж\\n\\\"\",\"metadata\":{\"b\":1.50,\"a\":[true,null]}}\r\n\
                    \n  \n{\"name\":null,\"metadata\":\"{}\"}\n{}";
        let expected = [
            values(1, ["42", "Ж\n\"", r#"{"b":1.5,"a":[true,null]}"#]),
            values(4, ["", "", "{}"]),
            values(5, ["", "", ""]),
        ];
        assert_eq!(rows(text.as_bytes(), Format::Jsonl).expect("readable"), expected);
        assert_eq!(rows(b"", Format::Jsonl).expect("readable"), []);
    }

    #[test]
    fn invalid_lines_are_rejected_alone() {
        let long = format!("{{\"name\":\"{}\"}}", "x".repeat(10 * MAX_ROW));
        let lines = ["[]", "{", "{\"title\":1}", "\u{0}", &long, "{\"id\":1}{}", "{\"id\":\"1\"}"];
        let mut text = lines.join("\n").into_bytes();
        text.extend(b"\n{\"name\":\"\xff\"}\n{\"id\":2}");
        let read = rows(&text, Format::Jsonl).expect("readable");
        let valid: Vec<_> = read.iter().map(|(line, row)| (*line, row.is_ok())).collect();
        let (no, yes) = (false, true);
        assert_eq!(
            valid,
            [(1, no), (2, no), (3, no), (4, no), (5, no), (6, no), (7, yes), (8, no), (9, yes)]
        );
        let reasons: Vec<_> = read.into_iter().filter_map(|(_, row)| row.err()).collect();
        assert_eq!(reasons[2], "the field `title` is unknown");
        assert_eq!(reasons[4], "the line is longer than 65536 bytes");
        assert_eq!(reasons[6], "the text is not UTF-8");
    }

    #[test]
    fn written_rows_are_read_unchanged() {
        for row in [["1", "Ж\n\"\\", r#"{"a":"\n"}"#], ["", "", ""], ["2", "\u{0}\u{2028}", ""]] {
            let values_of = row.map(|value| Some(value.to_owned()).filter(|value| !value.is_empty()));
            let fields = Fields { columns: TEST_SOURCE.columns, values: values_of.into() };
            let mut text = String::new();
            push_row(&mut text, &fields);
            assert_eq!(text.lines().count(), 1);
            assert_eq!(rows(text.as_bytes(), Format::Jsonl).expect("readable"), [values(1, row)], "{text}");
        }
    }
}
