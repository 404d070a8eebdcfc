//! Source of randomness, from which all codes, ids and keys are generated.

use std::convert::Infallible;

#[expect(clippy::disallowed_types, reason = "this is the generator that all other code uses")]
use rand::rngs::SysRng;
use rand::{RngExt, TryRng, seq::IndexedRandom};
use time::OffsetDateTime;
use uuid::Uuid;

/// Source of random bytes. They must be unpredictable. An attacker that predicts them can sign in as any
/// user.
pub trait Random: Send + Sync + 'static {
    /// Fills `bytes` with random bytes.
    ///
    /// # Panics
    ///
    /// If no randomness is available. Predictable codes and keys would be worse than a panic.
    fn fill(&self, bytes: &mut [u8]);
}

/// Random number generator of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        SysRng.try_fill_bytes(bytes).expect("the operating system provides randomness");
    }
}

/// Number of bytes that are generated per call: enough for an invite code in nearly all cases.
pub(crate) const BUFFER_LENGTH: usize = 32;

/// Adapter from [`Random`] to the `rand` crate, whose distributions are uniform.
struct Generator<'a> {
    random: &'a dyn Random,
    buffer: [u8; BUFFER_LENGTH],
    used: usize,
}

impl<'a> Generator<'a> {
    fn new(random: &'a dyn Random) -> Self {
        Self { random, buffer: [0; BUFFER_LENGTH], used: BUFFER_LENGTH }
    }

    fn next<const N: usize>(&mut self) -> [u8; N] {
        if self.used + N > BUFFER_LENGTH {
            self.random.fill(&mut self.buffer);
            self.used = 0;
        }
        let bytes = self.buffer[self.used..].first_chunk().copied();
        self.used += N;
        bytes.expect("a number has at most `BUFFER_LENGTH` bytes")
    }
}

impl TryRng for Generator<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.next()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.next()))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        self.random.fill(dst);
        Ok(())
    }
}

impl dyn Random {
    /// Returns an array of random bytes.
    pub(crate) fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// Returns a number of exactly `length` decimal digits, including leading zeros. All numbers are equally
    /// likely.
    pub(crate) fn digits(&self, length: u8) -> String {
        let number = Generator::new(self).random_range(0..10_u64.pow(u32::from(length)));
        format!("{number:0width$}", width = usize::from(length))
    }

    /// Returns `length` symbols of `alphabet`. All symbols are equally likely.
    pub(crate) fn symbols(&self, alphabet: &[u8], length: usize) -> String {
        let mut generator = Generator::new(self);
        (0..length)
            .map(|_| {
                let symbol = alphabet.choose(&mut generator);
                char::from(*symbol.expect("the alphabet is not empty"))
            })
            .collect()
    }

    /// Returns a random UUID (version 4).
    pub(crate) fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }

    /// Returns a UUID that sorts by time (version 7). The twelve bits after the milliseconds are the fraction
    /// of the millisecond (RFC 9562, section 6.2, method 3), so ids that one process creates a microsecond
    /// apart sort in the order of creation.
    pub(crate) fn time_ordered_uuid(&self, now: OffsetDateTime) -> Uuid {
        const NANOS_PER_MILLI: u128 = 1_000_000;
        let nanos = u128::try_from(now.unix_timestamp_nanos()).unwrap_or(0);
        let millis = u64::try_from(nanos / NANOS_PER_MILLI).unwrap_or(u64::MAX);
        let fraction = (nanos % NANOS_PER_MILLI) * 4_096 / NANOS_PER_MILLI;
        let [.., high, low] = fraction.to_be_bytes();

        let mut bytes: [u8; 10] = self.bytes();
        bytes[0] = high;
        bytes[1] = low;
        uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_have_the_requested_length_and_any_first_digit() {
        let random: &dyn Random = &SystemRandom;
        let mut seen = [false; 10];
        for _ in 0..1_000 {
            let code = random.digits(4);
            assert_eq!(code.len(), 4);
            seen[usize::from(code.as_bytes()[0] - b'0')] = true;
        }
        assert_eq!(seen, [true; 10], "zero occurs as the first digit too");
    }

    #[test]
    fn ids_sort_by_time_within_a_millisecond() {
        let random: &dyn Random = &SystemRandom;
        let start = OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000);
        let ids: Vec<_> = (0..1_000)
            .map(|step| random.time_ordered_uuid(start + time::Duration::microseconds(step)))
            .collect();
        assert!(ids.is_sorted());
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
    }
}
