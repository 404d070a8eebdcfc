//! Writes the measurements as a table.

use std::fmt::Write as _;

/// Line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    what: String,
    against: String,
    measured: String,
    other: String,
    /// Ratio of the measurement to the other one, or to the goal.
    value: f64,
    /// Limit of the ratio.
    goal: f64,
    /// `true` if the goal is a maximum, `false` if it is a minimum.
    is_most: bool,
}

impl Row {
    /// Creates the row of a rate that must be at least `goal` times another rate.
    pub(crate) fn floor(what: &str, against: &str, [value, measured, other]: [f64; 3], goal: f64) -> Self {
        let rate = |rate: f64| format!("{rate:.0}/s");
        let (what, against) = (what.into(), against.into());
        Self { what, against, measured: rate(measured), other: rate(other), value, goal, is_most: false }
    }

    /// Creates the row of a rate that must be at least `goal`.
    pub(crate) fn rate(what: &str, rate: f64, goal: f64) -> Self {
        let (measured, other) = (format!("{rate:.0}/s"), format!("{goal:.0}/s"));
        let value = rate / goal;
        Self {
            what: what.into(),
            against: "the goal".into(),
            measured,
            other,
            value,
            goal: 1.0,
            is_most: false,
        }
    }

    /// Creates the row of a count that must be at least `goal`.
    pub(crate) fn count(what: &str, count: f64, goal: f64) -> Self {
        let (measured, other) = (format!("{count:.0}"), format!("{goal:.0}"));
        let value = count / goal;
        Self {
            what: what.into(),
            against: "the goal".into(),
            measured,
            other,
            value,
            goal: 1.0,
            is_most: false,
        }
    }

    /// Creates the row of two times that must differ by at most 10 %.
    pub(crate) fn equal_times(what: &str, against: &str, one: f64, other: f64) -> Self {
        let time = |seconds: f64| format!("{:.0} µs", seconds * 1_000_000.0);
        let value = (one / other).max(other / one);
        let (what, against) = (what.into(), against.into());
        Self { what, against, measured: time(one), other: time(other), value, goal: 1.1, is_most: true }
    }

    /// Creates the row of a time that may be at most 1.5 times as long in the large database as in the
    /// small one.
    pub(crate) fn growth(what: &str, small: f64, large: f64, value: f64) -> Self {
        let time = |rate: f64| format!("{:.2} ms", 1_000.0 / rate);
        let (measured, other) = (time(large), time(small));
        Self {
            what: what.into(),
            against: "with a thousand".into(),
            measured,
            other,
            value,
            goal: 1.5,
            is_most: true,
        }
    }

    /// Creates the row of a quantity that must be at most `goal`.
    pub(crate) fn weight(what: &str, value: f64, unit: &str, goal: f64) -> Self {
        let (measured, other) = (format!("{value:.1} {unit}"), format!("{goal:.0} {unit}"));
        let value = value / goal;
        Self {
            what: what.into(),
            against: "the goal".into(),
            measured,
            other,
            value,
            goal: 1.0,
            is_most: true,
        }
    }

    fn is_reached(&self) -> bool {
        if self.is_most { self.value <= self.goal } else { self.value >= self.goal }
    }
}

/// Sections with a heading and a table.
#[derive(Default)]
pub(crate) struct Report {
    sections: Vec<(String, Vec<Row>)>,
}

impl Report {
    pub(crate) fn start_section(&mut self, heading: &str) {
        self.sections.push((heading.to_owned(), Vec::new()));
    }

    /// Adds a row and prints it.
    pub(crate) fn push(&mut self, row: Row) {
        println!("{}", line(&row));
        self.sections.last_mut().expect("a heading").1.push(row);
    }

    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for (heading, rows) in &self.sections {
            let _ = write!(text, "\n## {heading}\n\n");
            text += "| Measurement | | Compared to | | Ratio | Goal | |\n|---|---|---|---|---|---|---|\n";
            for row in rows {
                text += &line(row);
                text.push('\n');
            }
        }
        text
    }

    /// Parses the tables of a page, which may combine several runs.
    pub(crate) fn read(page: &str) -> Self {
        let mut report = Self::default();
        for line in page.lines() {
            if let Some(heading) = line.strip_prefix("## ") {
                report.start_section(heading);
            }
            let cells: Vec<_> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
            let [_, what, measured, against, other, value, goal, _, _] = &cells[..] else { continue };
            let Some((sign, goal)) = goal.split_once(' ') else { continue };
            if let (Ok(value), Ok(goal)) = (value.parse(), goal.parse()) {
                let [what, against, measured, other] = [what, against, measured, other].map(Clone::clone);
                let row = Row { what, against, measured, other, value, goal, is_most: sign == "≤" };
                report.sections.last_mut().expect("a table has a heading").1.push(row);
            }
        }
        report
    }

    /// Returns the ratio of a row, if it was measured.
    pub(crate) fn ratio(&self, section: &str, what: &str) -> Option<f64> {
        let of_section = self.sections.iter().filter(|(heading, _)| heading.contains(section));
        of_section.flat_map(|(_, rows)| rows).find(|row| row.what == what).map(|row| row.value)
    }
}

fn line(row: &Row) -> String {
    let Row { what, against, measured, other, value, goal, .. } = row;
    let (sign, mark) = (if row.is_most { "≤" } else { "≥" }, if row.is_reached() { "✓" } else { "✗" });
    format!("| {what} | {measured} | {against} | {other} | {value:.2} | {sign} {goal} | {mark} |")
}

/// Returns the median of the values.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
