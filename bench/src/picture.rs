//! Draws the most important measurements as bars: readable on a phone, and in dark mode.

use std::{fmt::Write as _, fs, io, path::Path};

use crate::report::Report;

/// Bars with a common scale.
struct Group {
    title: &'static str,
    note: [&'static str; 2],
    /// Section, measurement, and name of each bar.
    bars: &'static [(&'static str, &'static str, &'static str)],
    /// Ratio of a bar of the full width.
    full: f64,
    /// Ratio at which a line is drawn.
    reference: f64,
}

const GROUPS: [Group; 3] = [
    Group {
        title: "How close to the limit?",
        note: ["Rate as a share of a minimal program that does the same work.", "Longer is better."],
        bars: &[
            ("Floors", "`GET current_user`, PostgreSQL", "Read a profile, PostgreSQL, against pgbench"),
            ("Floors", "sign-in, PostgreSQL", "Sign in, PostgreSQL, against pgbench"),
            ("Floors", "sign-up, PostgreSQL", "Sign up, PostgreSQL, against pgbench"),
            ("Floors", "`GET current_user`, SQLite", "Read a profile, SQLite, against a fixed response"),
        ],
        full: 1.0,
        reference: 1.0,
    },
    Group {
        title: "What do grouped commits gain?",
        note: [
            "Durable sign-ins with 32 clients. The line is the rate of one",
            "transaction at a time. Longer is better.",
        ],
        bars: &[("Floors", "sign-in at 32 connections, SQLite", "Sign in, SQLite")],
        full: 4.0,
        reference: 1.0,
    },
    Group {
        title: "Does it stay fast with 1 250 000 users?",
        note: ["Time of a request. The line is the time with 1 000 users.", "Shorter is better."],
        bars: &[
            ("PostgreSQL", "sign-in", "Sign in, PostgreSQL"),
            ("SQLite", "sign-in", "Sign in, SQLite"),
            ("PostgreSQL", "search by phone", "Search, PostgreSQL"),
            ("SQLite", "search by phone", "Search, SQLite"),
        ],
        full: 3.0,
        reference: 1.0,
    },
];

const WIDTH: f64 = 640.0;
const MARGIN: f64 = 20.0;

/// Colors for both modes. A bar is drawn on a track, which is the full width.
const STYLE: &str = "\
    text { font-family: system-ui, sans-serif; font-size: 20px; fill: #1f2328 } \
    .title { font-size: 26px; font-weight: 700 } .note { font-size: 18px; fill: #59636e } \
    .value { font-weight: 700; text-anchor: end } \
    .page { fill: #ffffff } .track { fill: #e7ebef } .bar { fill: #1a7f52 } .line { stroke: #1f2328 } \
    @media (prefers-color-scheme: dark) { \
        text { fill: #f0f6fc } .note { fill: #9198a1 } \
        .page { fill: #0d1117 } .track { fill: #262c36 } .bar { fill: #2ea36b } .line { stroke: #f0f6fc } \
    }";

/// Writes the picture. Omits bars that were not measured.
pub(crate) fn draw(report: &Report, path: &Path) -> io::Result<()> {
    let mut body = String::new();
    let mut y = MARGIN;
    for group in &GROUPS {
        let of = |&(section, what, name)| Some((name, report.ratio(section, what)?));
        let bars: Vec<(&str, f64)> = group.bars.iter().filter_map(of).collect();
        if !bars.is_empty() {
            y = draw_group(&mut body, group, &bars, y);
        }
    }
    fs::write(
        path,
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" role=\"img\">\n\
             <title>Measurements of the benchmark</title>\n<style>{STYLE}</style>\n\
             <rect class=\"page\" width=\"{WIDTH}\" height=\"{y}\" rx=\"8\"/>\n{body}</svg>\n"
        ),
    )
}

/// Draws a group below `y`, and returns its end.
fn draw_group(body: &mut String, group: &Group, bars: &[(&str, f64)], mut y: f64) -> f64 {
    let (width, right) = (WIDTH - 2.0 * MARGIN, WIDTH - MARGIN);
    let text = |body: &mut String, class: &str, x: f64, y: f64, text: &str| {
        let _ = writeln!(body, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>");
    };
    y += 26.0;
    text(body, "title", MARGIN, y, group.title);
    for line in group.note {
        y += 25.0;
        text(body, "note", MARGIN, y, line);
    }
    for (name, ratio) in bars {
        y += 34.0;
        text(body, "name", MARGIN, y, name);
        // A bar that is longer than the picture ends with an arrow.
        let mark = if *ratio > group.full { " →" } else { "" };
        text(body, "value", right, y, &format!("{ratio:.2}{mark}"));
        y += 8.0;
        for (class, length) in [("track", width), ("bar", width * (ratio / group.full).min(1.0))] {
            let _ = writeln!(
                body,
                "<rect class=\"{class}\" x=\"{MARGIN}\" y=\"{y}\" width=\"{length:.1}\" height=\"16\" rx=\"3\"/>"
            );
        }
        if group.reference < group.full {
            let x = MARGIN + width * group.reference / group.full;
            let end = y + 20.0;
            let _ = writeln!(
                body,
                "<line class=\"line\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{end}\" stroke-width=\"2\"/>",
                y - 4.0
            );
        }
        y += 16.0;
    }
    y + 2.0 * MARGIN
}
