//! Output of commands: aligned tables for people, with colors on a terminal, and JSON for programs.

use std::{
    env,
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
};

use clap::Args;
use serde::Serialize;

use crate::commands::serve::Result;

/// Flag of all commands that print data.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputFormat {
    /// Print JSON for programs instead of text for people
    #[arg(long)]
    pub(crate) json: bool,
}

/// Prints a value as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    print_text(&escaped(&serde_json::to_string_pretty(value)?))
}

/// Escapes the control characters that JSON permits in texts and that a terminal would execute.
pub(crate) fn escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, '\u{7f}'..='\u{9f}') {
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Prints a text and a line feed. A closed pipe, such as that of `head`, is not an error.
pub(crate) fn print_text(text: &str) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Emphasis of a text on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Bold,
    /// Secondary data.
    Dim,
    /// State that needs attention.
    Alert,
}

/// Colors of the output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Colors {
    are_enabled: bool,
}

impl Colors {
    /// Returns colors if standard output is a terminal that supports them and the user has not set `NO_COLOR`
    /// (<https://no-color.org>).
    pub(crate) fn of_standard_output() -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        Self { are_enabled: io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb }
    }

    /// Returns the text with the escape sequences of a style.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Alert => "31",
            Style::Plain => "",
        };
        if !self.are_enabled || code.is_empty() || text.is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Cell of a table.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: shown(&text.into()), style: Style::Plain }
    }

    pub(crate) fn style(self, style: Style) -> Self {
        Self { style, ..self }
    }
}

/// Returns a text without control characters, which a terminal would execute, and without characters that change
/// the direction of the text after them.
pub(crate) fn shown(text: &str) -> String {
    let is_unsafe = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect()
}

/// Table whose columns are aligned.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Creates a table with a header.
    pub(crate) fn with_header(names: &[&str]) -> Self {
        Self { rows: vec![names.iter().map(|name| Cell::new(*name).style(Style::Bold)).collect()] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Returns the lines of the table, without spaces at their ends.
    pub(crate) fn write(&self, colors: Colors) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width_of = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..columns).map(width_of).collect();
        let line = |row: &Vec<Cell>| {
            let last = row.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |last| last + 1);
            let cells = row.iter().take(last).enumerate().map(|(column, cell)| {
                let missing = widths[column] - cell.text.chars().count();
                let padding = if column + 1 == last { 0 } else { missing };
                format!("{}{}", colors.paint(cell.style, &cell.text), " ".repeat(padding))
            });
            cells.collect::<Vec<_>>().join("  ")
        };
        self.rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::with_header(&["PHONE", "NAME", "STATE"]);
        table.row([Cell::new("+77011234567"), Cell::new("Айгүл"), Cell::new("inactive").style(Style::Alert)]);
        table.row([Cell::new("+1"), Cell::new("a\u{1b}[31m"), Cell::new("")]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_spaces_at_their_ends() {
        assert_eq!(
            table().write(Colors { are_enabled: false }),
            "PHONE         NAME    STATE\n\
             +77011234567  Айгүл   inactive\n\
             +1            a\u{fffd}[31m"
        );
        assert_eq!(Table::default().write(Colors { are_enabled: false }), "");
    }

    #[test]
    fn colors_do_not_change_the_alignment() {
        let colored = table().write(Colors { are_enabled: true });
        assert!(colored.contains("\x1b[1mPHONE\x1b[0m         \x1b[1mNAME"), "{colored:?}");
        assert!(colored.contains("Айгүл   \x1b[31minactive\x1b[0m\n"), "{colored:?}");
    }
}
