//! Parsers of timeouts and delays.

use std::time::Duration;

/// Parses a timeout between 100 ms and 24 h.
pub(crate) fn parse_timeout(input: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(input).map_err(|error| error.to_string())?;
    let range = Duration::from_millis(100)..=Duration::from_hours(24);
    if range.contains(&time) { Ok(time) } else { Err("give 100ms to 1d".into()) }
}

/// Parses a delay up to 24 hours.
pub(crate) fn parse_delay(input: &str) -> Result<Duration, String> {
    let delay = humantime::parse_duration(input).map_err(|error| error.to_string())?;
    if delay <= Duration::from_hours(24) { Ok(delay) } else { Err("give 0s to 1d".into()) }
}
