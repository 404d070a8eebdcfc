//! Parsing of test numbers, and warnings about them.

use std::io::{self, Write};

use referral_core::policy::TestNumber;
use time::OffsetDateTime;

use crate::settings::flags;

/// Parses a list such as `+79608543017=47110815@2026-12-31,…`. An error names the position of an entry and
/// not its text, which contains a code.
pub(crate) fn read(list: &str) -> Result<Vec<TestNumber>, String> {
    if list.trim().is_empty() {
        return Ok(Vec::new());
    }
    let read = |(index, entry): (usize, &str)| {
        entry.parse().map_err(|error| {
            format!("{}, entry {}: {error}", flags::with_variable("--test-numbers"), index + 1)
        })
    };
    list.split(',').enumerate().map(read).collect()
}

/// Logs a warning for each test number.
pub(crate) fn warn(numbers: &[TestNumber], now: OffsetDateTime) {
    for number in numbers {
        let (phone, last_day) = (&number.phone, number.last_day());
        if now < number.until {
            tracing::warn!(?phone, %last_day, "a test number signs in with a fixed code");
        } else {
            tracing::warn!(?phone, %last_day, "a test number has expired: remove it from --test-numbers");
        }
    }
}

/// Prints the number of active test numbers, if there are any.
pub(crate) fn greet(out: &mut impl Write, numbers: &[TestNumber], now: OffsetDateTime) -> io::Result<()> {
    let days = numbers.iter().filter(|number| now < number.until).map(TestNumber::last_day);
    match days.clone().max() {
        None => Ok(()),
        Some(last_day) => writeln!(
            out,
            "  Test numbers {}, until {last_day}: each signs in with a fixed code and gets no messages",
            days.count()
        ),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const LIST: &str = "+79608543017=47110815@2026-12-31, +14155552671=081547@2026-06-30";

    #[test]
    fn a_list_is_parsed_and_errors_name_the_position() {
        assert_eq!(read(LIST).expect("two").len(), 2);
        assert_eq!(read(" "), Ok(Vec::new()));
        for (list, place) in [
            ("+79608543017=47110815@2026-12-31,", "entry 2"),
            (",+79608543017=47110815@2026-12-31", "entry 1"),
            ("+79608543017=47110815@2026-12-31,+14155552671=08154711@tomorrow", "entry 2"),
            ("+79608543017=4711;815@2026-12-31", "entry 1"),
        ] {
            let error = read(list).expect_err(list);
            let text = error.replace("+79608543017=47110815@2026-12-31", "");
            assert!(error.contains(place) && !text.contains("4711"), "{error}");
        }
    }

    #[test]
    fn the_start_up_summary_counts_active_test_numbers() {
        let greeting = |now| {
            let mut out = Vec::new();
            greet(&mut out, &read(LIST).expect("two"), now).expect("written");
            String::from_utf8(out).expect("text")
        };
        assert!(greeting(datetime!(2026-06-30 23:59 UTC)).contains("Test numbers 2, until 2026-12-31:"));
        assert!(greeting(datetime!(2026-07-01 0:00 UTC)).contains("Test numbers 1, until 2026-12-31:"));
        assert_eq!(greeting(datetime!(2027-01-01 0:00 UTC)), "");
    }
}
