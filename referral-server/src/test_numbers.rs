//! Test numbers: how they are given, and that nobody overlooks them.

use std::io::{self, Write};

use referral_core::TestNumber;
use time::OffsetDateTime;

use crate::flags;

/// Reads a list such as `+79608543017=47110815@2026-12-31,…`. An error names the place of an entry and
/// not what is there, which holds a code.
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

/// Writes a warning into the log for each of them.
pub(crate) fn warn(numbers: &[TestNumber], now: OffsetDateTime) {
    for number in numbers {
        let (phone, last_day) = (&number.phone, number.last_day());
        if now < number.until {
            tracing::warn!(?phone, %last_day, "a test number signs in with a fixed code");
        } else {
            tracing::warn!(?phone, %last_day, "a test number has expired: take it out of --test-numbers");
        }
    }
}

/// Says how many there are, if there are any.
pub(crate) fn greet(out: &mut impl Write, numbers: &[TestNumber], now: OffsetDateTime) -> io::Result<()> {
    let days = numbers.iter().filter(|number| now < number.until).map(TestNumber::last_day);
    match days.clone().max() {
        None => Ok(()),
        Some(last_day) => writeln!(
            out,
            "  Test numbers {}, until {last_day}: each signs in with a fixed code, and gets no messages",
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
    fn a_list_is_read_and_its_errors_name_the_place() {
        assert_eq!(read(LIST).expect("two").len(), 2);
        assert_eq!(read(" "), Ok(Vec::new()));
        for (list, place) in [
            ("+79608543017=47110815@2026-12-31,", "entry 2"),
            (",+79608543017=47110815@2026-12-31", "entry 1"),
            ("+79608543017=47110815@2026-12-31,+14155552671=08154711@tomorrow", "entry 2"),
            ("+79608543017=4711;815@2026-12-31", "entry 1"),
        ] {
            let error = read(list).expect_err(list);
            let told = error.replace("+79608543017=47110815@2026-12-31", "");
            assert!(error.contains(place) && !told.contains("4711"), "{error}");
        }
    }

    #[test]
    fn the_greeting_counts_those_that_are_not_over() {
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
