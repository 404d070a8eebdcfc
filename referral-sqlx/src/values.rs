//! Values as they are stored, whichever the database.

use referral_core::storage::{Result, Retired};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::unreadable;

/// The bytes of one refresh token among [`retired_to_bytes`]: its id and its time.
const RETIRED_BYTES: usize = 16 + 8;

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
    let mut bytes = Vec::with_capacity(retired.len() * RETIRED_BYTES);
    for token in retired {
        bytes.extend(token.refresh_id.as_bytes());
        bytes.extend(time_to_micros(token.at).to_be_bytes());
    }
    bytes
}

pub(crate) fn retired_from_bytes(bytes: &[u8]) -> Result<Vec<Retired>> {
    let (tokens, rest) = bytes.as_chunks::<RETIRED_BYTES>();
    if !rest.is_empty() {
        return Err(unreadable("the retired refresh tokens of a session are cut off"));
    }
    let read = |token: &[u8; RETIRED_BYTES]| {
        let (id, at) = token.split_first_chunk::<16>().expect("a token has more than 16 bytes");
        let at = at.first_chunk().expect("8 bytes follow the id");
        Ok(Retired { refresh_id: Uuid::from_bytes(*id), at: time_from_micros(i64::from_be_bytes(*at))? })
    };
    tokens.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
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
}
