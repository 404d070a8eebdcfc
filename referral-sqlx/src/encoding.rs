//! Conversion of values to and from their stored form, which is the same in both databases.

use referral_core::{
    ClientAddress,
    storage::{CountedEvent, FailedAttempt, Result, SupersededToken},
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::unreadable;

/// Number of bytes of a mark: an id or an address, followed by a time.
const MARK_BYTES: usize = 16 + 8;

/// Converts a time to microseconds since 1970. The times of the core have microsecond precision.
pub(crate) fn time_to_micros(time: OffsetDateTime) -> i64 {
    let micros = time.unix_timestamp_nanos().div_euclid(1_000);
    // A time more than 292 thousand years away means "never". Clamping does not change that.
    i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX })
}

pub(crate) fn time_from_micros(micros: i64) -> Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).map_err(unreadable)
}

/// Encodes the superseded refresh tokens of a session. They are stored as bytes because no query searches for
/// them.
pub(crate) fn superseded_to_bytes(superseded: &[SupersededToken]) -> Vec<u8> {
    marks_to_bytes(superseded.iter().map(|token| (token.refresh_id.into_bytes(), token.at)))
}

pub(crate) fn superseded_from_bytes(bytes: &[u8]) -> Result<Vec<SupersededToken>> {
    marks_from_bytes(bytes, |id, at| SupersededToken { refresh_id: Uuid::from_bytes(id), at })
}

/// Encodes the failed attempts to redeem a challenge.
pub(crate) fn failed_attempts_to_bytes(attempts: &[FailedAttempt]) -> Vec<u8> {
    marks_to_bytes(attempts.iter().map(|failed| (failed.address.to_bytes(), failed.at)))
}

pub(crate) fn failed_attempts_from_bytes(bytes: &[u8]) -> Result<Vec<FailedAttempt>> {
    marks_from_bytes(bytes, |address, at| FailedAttempt { address: ClientAddress::from_bytes(address), at })
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
        return Err(unreadable("a list of ids or addresses with their times is truncated"));
    }
    let read = |mark: &[u8; MARK_BYTES]| {
        let (id, at) = mark.split_first_chunk::<16>().expect("a mark has more than 16 bytes");
        let at = at.first_chunk().expect("a mark has 8 more bytes");
        Ok(make(*id, time_from_micros(i64::from_be_bytes(*at))?))
    };
    marks.iter().map(read).collect()
}

/// Encodes the events of a counter.
pub(crate) fn events_to_numbers(events: &[CountedEvent]) -> Vec<i64> {
    events.iter().map(|event| event.to_number()).collect()
}

pub(crate) fn events_from_numbers(numbers: Vec<i64>) -> Result<Vec<CountedEvent>> {
    let read = |number| {
        CountedEvent::from_number(number).ok_or_else(|| unreadable("a counter has an unknown kind of event"))
    };
    numbers.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use referral_core::storage::{EventKind, StorageError};
    use time::Duration;

    use super::*;

    #[test]
    fn times_round_trip_with_microsecond_precision() {
        for micros in [0, 1, -1, 1_700_000_000_123_456, -62_000_000_000_000_001] {
            let time = OffsetDateTime::UNIX_EPOCH + Duration::microseconds(micros);
            assert_eq!(time_to_micros(time), micros);
            assert_eq!(time_from_micros(micros).expect("a time"), time);
        }
        assert!(time_from_micros(i64::MAX).is_err());
    }

    #[test]
    fn superseded_tokens_round_trip_and_damaged_bytes_are_an_error() {
        let token = |number: u8| SupersededToken {
            refresh_id: Uuid::from_bytes([number; 16]),
            at: OffsetDateTime::UNIX_EPOCH + Duration::seconds(number.into()),
        };
        for superseded in [vec![], vec![token(1)], vec![token(1), token(255)]] {
            let bytes = superseded_to_bytes(&superseded);
            assert_eq!(superseded_from_bytes(&bytes).expect("readable"), superseded);
        }
        assert!(superseded_from_bytes(&[0; 25]).is_err());
    }

    #[test]
    fn failed_attempts_round_trip() {
        let attempts = [1, 255].map(|number| FailedAttempt {
            address: ClientAddress::new(std::net::Ipv4Addr::new(203, 0, 113, number).into()),
            at: OffsetDateTime::UNIX_EPOCH + Duration::seconds(number.into()),
        });
        let bytes = failed_attempts_to_bytes(&attempts);
        assert_eq!(failed_attempts_from_bytes(&bytes).expect("readable"), attempts);
    }

    #[test]
    fn events_round_trip_and_an_unknown_kind_is_an_error() {
        let events = EventKind::ALL.map(|kind| CountedEvent {
            at: OffsetDateTime::UNIX_EPOCH + Duration::days(20_000 * kind as i64),
            kind,
        });
        assert_eq!(events_from_numbers(events_to_numbers(&events)).expect("readable"), events);
        let error = events_from_numbers(vec![7]).expect_err("an unknown kind");
        assert!(matches!(error, StorageError::Failed(_)), "{error}");
    }
}
