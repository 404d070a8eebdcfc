//! Records of the keys that the processes on a storage use. The records show that a process lacks a key, and
//! reveal nothing about the secrets.
//!
//! Processes on several hosts that share a database must accept the tokens and codes of each other. Each
//! process therefore records its keys before it serves requests. A process that lacks a key in use does not
//! start.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    decision::Decision,
    keys::{Peppers, SigningKeys, fingerprint::Fingerprint, jwk::KeyPurpose},
};

/// Key that is, or was, the first key of a key ring. The first key signs new tokens or hashes new codes, so all
/// processes must have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredKey {
    /// Purpose of the key.
    pub purpose: KeyPurpose,
    /// Id of the key.
    pub id: String,
    /// Fingerprint of the key.
    pub fingerprint: Fingerprint,
    /// Time until which all processes must have the key, because of the tokens or codes it signed or hashed.
    /// `None` while the key is the first one of a key ring.
    #[serde(with = "crate::stored::optional_micros")]
    pub needed_until: Option<OffsetDateTime>,
}

/// Keys of a process that starts, as
/// [`MaintenanceStorage::register_keys`](crate::storage::MaintenanceStorage::register_keys) receives them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyRegistration {
    /// Current time.
    pub now: OffsetDateTime,
    pub(crate) rings: [Ring; 2],
}

/// Keys of one purpose, in the order of the key ring.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    purpose: KeyPurpose,
    keys: Vec<(String, Fingerprint)>,
    /// Lifetime of the tokens or codes of the first key.
    lifetime: Duration,
}

/// Error of a process that cannot share a storage with others because of its keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyMismatch {
    /// The process lacks a key that is in use.
    #[error(
        "the database is in use with the {purpose} `{id}`, which is not in the key ring of this process; \
         give every process the same key files"
    )]
    Missing {
        /// Purpose of the key.
        purpose: KeyPurpose,
        /// Id of the key.
        id: String,
    },
    /// The process has another key with the same id.
    #[error(
        "the {purpose} `{id}` of this process differs from the one that the database is in use with; give \
         every process the same key files, and each new key its own id"
    )]
    Different {
        /// Purpose of the key.
        purpose: KeyPurpose,
        /// Id of both keys.
        id: String,
    },
}

impl KeyRegistration {
    pub(crate) fn new(
        now: OffsetDateTime,
        keys: &SigningKeys,
        token_lifetime: Duration,
        peppers: &Peppers,
        code_lifetime: Duration,
    ) -> Self {
        let signing =
            Ring { purpose: KeyPurpose::Signing, keys: keys.fingerprints(), lifetime: token_lifetime };
        let pepper =
            Ring { purpose: KeyPurpose::Pepper, keys: peppers.fingerprints(), lifetime: code_lifetime };
        Self { now, rings: [signing, pepper] }
    }

    /// Decides whether the process may start, based on the stored keys. The changes to store are keys, each
    /// in place of the stored one with the same purpose and id. The outcome is the reason why the process
    /// must not start.
    #[must_use]
    pub fn decide(&self, known: &[RegisteredKey]) -> Decision<Vec<RegisteredKey>, Result<(), KeyMismatch>> {
        match self.changes(known) {
            Ok(writes) => Decision { writes, outcome: Ok(()) },
            Err(mismatch) => Decision::refuse(mismatch),
        }
    }

    fn changes(&self, known: &[RegisteredKey]) -> Result<Vec<RegisteredKey>, KeyMismatch> {
        let mut changed = Vec::new();
        for ring in &self.rings {
            for key in known.iter().filter(|key| key.purpose == ring.purpose) {
                changed.extend(self.updated(ring, key)?);
            }
            let (id, fingerprint) = &ring.keys[0];
            if !known.iter().any(|key| key.purpose == ring.purpose && key.id == *id) {
                changed.push(RegisteredKey {
                    purpose: ring.purpose,
                    id: id.clone(),
                    fingerprint: *fingerprint,
                    needed_until: None,
                });
            }
        }
        Ok(changed)
    }

    /// Returns the new version of a stored key, or `None` if it does not change.
    fn updated(&self, ring: &Ring, key: &RegisteredKey) -> Result<Option<RegisteredKey>, KeyMismatch> {
        let (purpose, id) = (ring.purpose, key.id.clone());
        let Some(place) = ring.keys.iter().position(|(id, _)| *id == key.id) else {
            return match key.needed_until {
                Some(until) if until <= self.now => Ok(None),
                _ => Err(KeyMismatch::Missing { purpose, id }),
            };
        };
        if ring.keys[place].1 != key.fingerprint {
            return Err(KeyMismatch::Different { purpose, id });
        }
        let needed_until = match (place, key.needed_until) {
            (0, _) => None,
            (_, None) => Some(self.now + ring.lifetime),
            (_, known) => known,
        };
        let changed = RegisteredKey { needed_until, ..key.clone() };
        Ok((changed != *key).then_some(changed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn secret(number: u8, purpose: &str) -> String {
        format!(
            r#"{{"kty":"oct","kid":"k{number}","use":"{purpose}","k":"{}"}}"#,
            char::from(b'A' + number).to_string().repeat(42) + "A"
        )
    }

    fn request(now: OffsetDateTime, signing: &[u8], pepper: &[u8]) -> KeyRegistration {
        let set = |numbers: &[u8], purpose: &str| {
            let keys: Vec<_> = numbers.iter().map(|number| secret(*number, purpose)).collect();
            format!(r#"{{"keys":[{}]}}"#, keys.join(","))
        };
        let keys = SigningKeys::from_jwk_set(&set(signing, "sig")).expect("usable");
        let peppers = Peppers::from_jwk_set(&set(pepper, "pepper")).expect("usable");
        KeyRegistration::new(now, &keys, 60 * MINUTE, &peppers, 5 * MINUTE)
    }

    /// Returns the keys that are stored after these requests, sequentially. All of them must be accepted.
    fn after(requests: &[KeyRegistration]) -> Vec<RegisteredKey> {
        let mut known: Vec<RegisteredKey> = Vec::new();
        for request in requests {
            for changed in request.changes(&known).expect("accepted") {
                known.retain(|key| (key.purpose, &key.id) != (changed.purpose, &changed.id));
                known.push(changed);
            }
        }
        known
    }

    #[test]
    fn missing_key_in_use_is_named_in_the_error() {
        let known = after(&[request(NOW, &[0], &[1])]);
        assert_eq!(request(NOW, &[0], &[1]).changes(&known), Ok(vec![]));
        for (signing, pepper, purpose, id) in
            [(2, 1, KeyPurpose::Signing, "k0"), (0, 2, KeyPurpose::Pepper, "k1")]
        {
            let missing = KeyMismatch::Missing { purpose, id: id.into() };
            assert_eq!(request(NOW, &[signing], &[pepper]).changes(&known), Err(missing));
        }
    }

    #[test]
    fn different_key_with_a_known_id_is_rejected() {
        let mut known = after(&[request(NOW, &[0], &[1])]);
        known[0].fingerprint[0] ^= 1;
        let different = KeyMismatch::Different { purpose: KeyPurpose::Signing, id: "k0".into() };
        assert_eq!(request(NOW, &[0], &[1]).changes(&known), Err(different));
    }

    #[test]
    fn key_is_required_until_its_last_token_expires() {
        let known = after(&[request(NOW, &[0], &[1]), request(NOW, &[2, 0], &[1])]);
        let without = |now| request(now, &[2], &[1]).changes(&known);
        assert!(without(NOW + 60 * MINUTE - Duration::from_secs(1)).is_err());
        assert_eq!(without(NOW + 60 * MINUTE), Ok(vec![]));
        // A repeated request does not move the end.
        let again = after(&[
            request(NOW, &[0], &[1]),
            request(NOW, &[2, 0], &[1]),
            request(NOW + MINUTE, &[2, 0], &[1]),
        ]);
        assert_eq!(again, known);
    }

    #[test]
    fn key_that_was_never_first_is_not_required_of_other_processes() {
        let known = after(&[request(NOW, &[0, 2], &[1])]);
        assert_eq!(request(NOW, &[0], &[1]).changes(&known), Ok(vec![]));
    }
}
