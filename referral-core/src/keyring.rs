//! What a storage knows of the secrets of those who share it: enough to tell that a process lacks
//! one, and nothing of the secrets themselves.
//!
//! Processes that serve one database from several hosts must accept one another's tokens and codes.
//! So each says which keys it has before it serves, and one that lacks a key that is in use does
//! not begin.

use std::{fmt, time::Duration};

use time::OffsetDateTime;

use crate::keys::{Peppers, SigningKeys};

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyPurpose {
    /// It signs tokens.
    Signing,
    /// It hashes codes.
    Pepper,
}

impl KeyPurpose {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Signing, Self::Pepper];

    /// A stable name, as it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signing => "signing",
            Self::Pepper => "pepper",
        }
    }
}

impl fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signing => "signing key",
            Self::Pepper => "pepper",
        })
    }
}

/// Tells two keys with one id apart, and tells nothing of either.
pub type Fingerprint = [u8; 16];

/// A key that is, or was, the first of a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// What it is for.
    pub purpose: KeyPurpose,
    /// Its id.
    pub id: String,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// Until when everybody must have it, because of what was made with it; `None` while it is
    /// the first of a ring.
    pub needed_until: Option<OffsetDateTime>,
}

/// A process that says which keys it has, as
/// [`Storage::agree_on_keys`](crate::storage::Storage::agree_on_keys) gets it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyRequest {
    /// The time.
    pub now: OffsetDateTime,
    pub(crate) rings: [Ring; 2],
}

/// The keys of one purpose, the first first.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    purpose: KeyPurpose,
    keys: Vec<(String, Fingerprint)>,
    /// How long what the first key makes is good.
    lifetime: Duration,
}

/// Why a process cannot share a storage with others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyMismatch {
    /// It lacks a key that is in use.
    #[error(
        "the database is in use with the {purpose} `{id}`, which is not in the ring here; give every process \
         the same key files"
    )]
    Missing {
        /// What the key is for.
        purpose: KeyPurpose,
        /// The key's id.
        id: String,
    },
    /// It has another key with the same id.
    #[error(
        "the {purpose} `{id}` of the ring here is not the one that the database is in use with; give every \
         process the same key files, and each new key an id of its own"
    )]
    Different {
        /// What the key is for.
        purpose: KeyPurpose,
        /// The id of both keys.
        id: String,
    },
}

impl KeyRequest {
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

    /// Decides, knowing the keys that are stored: what to store of each key named, in place of
    /// what is known of it; or why the process must not begin.
    pub fn decide(&self, known: &[KnownKey]) -> Result<Vec<KnownKey>, KeyMismatch> {
        let mut changed = Vec::new();
        for ring in &self.rings {
            for key in known.iter().filter(|key| key.purpose == ring.purpose) {
                changed.extend(self.judge(ring, key)?);
            }
            let (id, fingerprint) = &ring.keys[0];
            if !known.iter().any(|key| key.purpose == ring.purpose && key.id == *id) {
                changed.push(KnownKey {
                    purpose: ring.purpose,
                    id: id.clone(),
                    fingerprint: *fingerprint,
                    needed_until: None,
                });
            }
        }
        Ok(changed)
    }

    /// What becomes of a key that is known, if anything.
    fn judge(&self, ring: &Ring, key: &KnownKey) -> Result<Option<KnownKey>, KeyMismatch> {
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
        let changed = KnownKey { needed_until, ..key.clone() };
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

    fn request(now: OffsetDateTime, signing: &[u8], pepper: &[u8]) -> KeyRequest {
        let set = |numbers: &[u8], purpose: &str| {
            let keys: Vec<_> = numbers.iter().map(|number| secret(*number, purpose)).collect();
            format!(r#"{{"keys":[{}]}}"#, keys.join(","))
        };
        let keys = SigningKeys::from_jwk_set(&set(signing, "sig")).expect("usable");
        let peppers = Peppers::from_jwk_set(&set(pepper, "pepper")).expect("usable");
        KeyRequest::new(now, &keys, 60 * MINUTE, &peppers, 5 * MINUTE)
    }

    /// What is stored after each of the requests in turn, all of which must be accepted.
    fn after(requests: &[KeyRequest]) -> Vec<KnownKey> {
        let mut known: Vec<KnownKey> = Vec::new();
        for request in requests {
            for changed in request.decide(&known).expect("accepted") {
                known.retain(|key| (key.purpose, &key.id) != (changed.purpose, &changed.id));
                known.push(changed);
            }
        }
        known
    }

    #[test]
    fn whoever_lacks_a_key_in_use_is_told_which() {
        let known = after(&[request(NOW, &[0], &[1])]);
        assert_eq!(request(NOW, &[0], &[1]).decide(&known), Ok(vec![]));
        for (signing, pepper, purpose, id) in
            [(2, 1, KeyPurpose::Signing, "k0"), (0, 2, KeyPurpose::Pepper, "k1")]
        {
            let missing = KeyMismatch::Missing { purpose, id: id.into() };
            assert_eq!(request(NOW, &[signing], &[pepper]).decide(&known), Err(missing));
        }
    }

    #[test]
    fn another_key_with_a_known_id_is_found_out() {
        let mut known = after(&[request(NOW, &[0], &[1])]);
        known[0].fingerprint[0] ^= 1;
        let different = KeyMismatch::Different { purpose: KeyPurpose::Signing, id: "k0".into() };
        assert_eq!(request(NOW, &[0], &[1]).decide(&known), Err(different));
    }

    #[test]
    fn a_key_is_needed_until_what_it_made_is_over() {
        let known = after(&[request(NOW, &[0], &[1]), request(NOW, &[2, 0], &[1])]);
        let without = |now| request(now, &[2], &[1]).decide(&known);
        assert!(without(NOW + 60 * MINUTE - Duration::from_secs(1)).is_err());
        assert_eq!(without(NOW + 60 * MINUTE), Ok(vec![]));
        // Saying it again does not put the end off.
        let again = after(&[
            request(NOW, &[0], &[1]),
            request(NOW, &[2, 0], &[1]),
            request(NOW + MINUTE, &[2, 0], &[1]),
        ]);
        assert_eq!(again, known);
    }

    #[test]
    fn a_key_that_waits_for_its_turn_is_not_asked_of_others() {
        let known = after(&[request(NOW, &[0, 2], &[1])]);
        assert_eq!(request(NOW, &[0], &[1]).decide(&known), Ok(vec![]));
    }
}
