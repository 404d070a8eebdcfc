//! Fingerprints, by which processes compare their keys.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Value that distinguishes two keys with the same id, and reveals neither.
pub type Fingerprint = [u8; 16];

/// Returns the fingerprint of a key: its hash of a fixed text. It distinguishes keys without revealing them.
/// An attacker who could find the key from its fingerprint could find it from any token or code as well.
pub(super) fn fingerprint(key: &[u8]) -> Fingerprint {
    fingerprint_of(hmac_sha256(key))
}

pub(super) fn fingerprint_of(mut key: Hmac<Sha256>) -> Fingerprint {
    key.update(b"fingerprint of a key of referral-core");
    *key.finalize().into_bytes().first_chunk().expect("the hash has 32 bytes")
}

pub(super) fn hmac_sha256(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC accepts a key of any length")
}
