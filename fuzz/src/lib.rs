//! Code that the targets share: a service in memory with a deterministic clock and deterministic random
//! bytes. The same input has the same effect in each run.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use referral_core::{
    ReferralService, ReferralServiceBuilder,
    clock::Clock,
    keys::{Peppers, SigningKeys},
    policy::Policy,
    random::Random,
    sms::DevelopmentSender,
    storage::MemoryStorage,
};
use time::{OffsetDateTime, macros::datetime};
use tokio::runtime::{self, Runtime};

/// Time at which the clock of every service starts.
pub const START: OffsetDateTime = datetime!(2026-11-22 10:15:30 UTC);

/// Returns the builder of a service without users, whose random bytes come from `seed`.
///
/// # Panics
///
/// Panics if `signing_keys` is not a key set.
#[must_use]
pub fn service(signing_keys: &str, policy: Policy, seed: u64) -> ReferralServiceBuilder {
    let keys = SigningKeys::from_jwk_set(signing_keys).expect("a key set");
    let peppers = Peppers::from_secret("pepper", &[2; 32]).expect("long enough");
    ReferralService::builder(Arc::new(MemoryStorage::new()), Arc::new(DevelopmentSender), keys, peppers)
        .policy(policy)
        .random(Arc::new(Seeded(AtomicU64::new(seed))))
}

/// Runs a future that needs no I/O.
pub fn run<F: Future>(future: F) -> F::Output {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        runtime::Builder::new_current_thread().enable_time().build().expect("a runtime without I/O")
    });
    RUNTIME.block_on(future)
}

/// Clock that always shows [`START`].
pub struct Standing;

impl Clock for Standing {
    fn now(&self) -> OffsetDateTime {
        START
    }
}

/// Clock that advances by one microsecond with each reading, so that ids sort in the order of creation.
#[derive(Default)]
pub struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> OffsetDateTime {
        START + Duration::from_micros(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// `SplitMix64`: predictable, but all of its bits look random.
struct Seeded(AtomicU64);

impl Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        for chunk in bytes.chunks_mut(8) {
            let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Returns `true` for the ASCII characters that are ignored in codes.
pub fn is_ignored(c: char) -> bool {
    c.is_whitespace() || "-./()[]~\"'`<>*,:;!?".contains(c)
}
