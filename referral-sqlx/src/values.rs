//! Values as they are stored, whichever the database.

use referral_core::{
    ClientAddress,
    storage::{FailedTry, Result, Retired, Stamp},
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::unreadable;

/// The bytes of an id or an address, and of a time.
const MARK_BYTES: usize = 16 + 8;

/// Microseconds since 1970. The core's times have no finer parts.
pub(crate) fn time_to_micros(time: OffsetDateTime) -> i64 {
    let micros = time.unix_timestamp_nanos().div_euclid(1_000);
    // Further than 292 thousand years away there is only *never*, which stays that.
    i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX })
}

pub(crate) fn time_from_micros(micros: i64) -> Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).map_err(unreadable)
}

/// The retired refresh tokens of a session, which nobody looks for but in their session.
pub(crate) fn retired_to_bytes(retired: &[Retired]) -> Vec<u8> {
    marks_to_bytes(retired.iter().map(|token| (token.refresh_id.into_bytes(), token.at)))
}

pub(crate) fn retired_from_bytes(bytes: &[u8]) -> Result<Vec<Retired>> {
    marks_from_bytes(bytes, |id, at| Retired { refresh_id: Uuid::from_bytes(id), at })
}

/// The wrong tries at a challenge.
pub(crate) fn failed_tries_to_bytes(tries: &[FailedTry]) -> Vec<u8> {
    marks_to_bytes(tries.iter().map(|failed| (failed.address.to_bytes(), failed.at)))
}

pub(crate) fn failed_tries_from_bytes(bytes: &[u8]) -> Result<Vec<FailedTry>> {
    marks_from_bytes(bytes, |address, at| FailedTry { address: ClientAddress::from_bytes(address), at })
}

fn marks_to_bytes(marks: impl Iterator<Item = ([u8; 16], OffsetDateTime)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, at) in marks {
        bytes.extend(id);
        bytes.extend(time_to_micros(at).to_be_bytes());
    }
    bytes
}

fn marks_from_bytes<T>(bytes: &[u8], make: impl Fn([u8; 16], OffsetDateTime) -> T) -> Result<Vec<T>> {
    let (marks, rest) = bytes.as_chunks::<MARK_BYTES>();
    if !rest.is_empty() {
        return Err(unreadable("a list of ids or addresses with their times is cut off"));
    }
    let read = |mark: &[u8; MARK_BYTES]| {
        let (id, at) = mark.split_first_chunk::<16>().expect("a mark has more than 16 bytes");
        let at = at.first_chunk().expect("8 bytes follow");
        Ok(make(*id, time_from_micros(i64::from_be_bytes(*at))?))
    };
    marks.iter().map(read).collect()
}

/// What was counted, each as [`stamp_to_text`] has it.
pub(crate) fn stamps_to_text(stamps: &[Stamp]) -> String {
    stamps.iter().map(|stamp| stamp_to_text(*stamp)).collect()
}

/// All have the same length, so that none is part of another and a database can take one out.
pub(crate) fn stamp_to_text(stamp: Stamp) -> String {
    format!("{:017},", stamp.to_number())
}

pub(crate) fn stamps_from_text(text: &str) -> Result<Vec<Stamp>> {
    let numbers = text.split_terminator(',');
    let read = |number: &str| {
        let number = number.parse().map_err(unreadable)?;
        Stamp::from_number(number).ok_or_else(|| unreadable("a counter has something unknown"))
    };
    numbers.map(read).collect()
}

#[cfg(test)]
mod tests {
    use referral_core::storage::Counted;
    use time::Duration;

    use super::*;

    #[test]
    fn times_come_back_to_the_microsecond() {
        for micros in [0, 1, -1, 1_700_000_000_123_456, -62_000_000_000_000_001] {
            let time = OffsetDateTime::UNIX_EPOCH + Duration::microseconds(micros);
            assert_eq!(time_to_micros(time), micros);
            assert_eq!(time_from_micros(micros).expect("a time"), time);
        }
        assert!(time_from_micros(i64::MAX).is_err());
    }

    #[test]
    fn retired_tokens_come_back_and_damaged_ones_are_an_error() {
        let token = |number: u8| Retired {
            refresh_id: Uuid::from_bytes([number; 16]),
            at: OffsetDateTime::UNIX_EPOCH + Duration::seconds(number.into()),
        };
        for retired in [vec![], vec![token(1)], vec![token(1), token(255)]] {
            let bytes = retired_to_bytes(&retired);
            assert_eq!(retired_from_bytes(&bytes).expect("readable"), retired);
        }
        assert!(retired_from_bytes(&[0; 25]).is_err());
    }

    #[test]
    fn wrong_tries_come_back() {
        let tries = [1, 255].map(|number| FailedTry {
            address: ClientAddress::new(std::net::Ipv4Addr::new(203, 0, 113, number).into()),
            at: OffsetDateTime::UNIX_EPOCH + Duration::seconds(number.into()),
        });
        let bytes = failed_tries_to_bytes(&tries);
        assert_eq!(failed_tries_from_bytes(&bytes).expect("readable"), tries);
    }

    #[test]
    fn stamps_come_back_and_are_as_long_as_one_another() {
        let stamps = Counted::ALL.map(|what| Stamp {
            at: OffsetDateTime::UNIX_EPOCH + Duration::days(20_000 * what as i64),
            what,
        });
        let text = stamps_to_text(&stamps);
        assert_eq!(text.len(), Counted::ALL.len() * 18);
        assert_eq!(stamps_from_text(&text).expect("readable"), stamps);
        assert_eq!(stamps_from_text("").expect("readable"), []);
        assert!(stamps_from_text("x,").is_err());
        assert!(stamps_from_text("7,").is_err());
    }
}
