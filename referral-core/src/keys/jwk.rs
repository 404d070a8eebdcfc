//! Private JSON Web Keys and sets of them (RFC 7517 and RFC 8037), with the members that are used here.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::random::Random;

/// Purpose of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a storage has each purpose in its schema")]
pub enum KeyPurpose {
    /// Key that signs tokens.
    Signing,
    /// Key that hashes codes.
    Pepper,
}

impl KeyPurpose {
    /// All purposes.
    pub const ALL: [Self; 2] = [Self::Signing, Self::Pepper];

    /// Returns the stable name that is stored.
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

/// Value that distinguishes two keys with the same id, and reveals neither.
pub type Fingerprint = [u8; 16];

/// Smallest size in bytes of a symmetric key: the output size of its hash (RFC 7518, section 3.2).
pub(crate) const MIN_SECRET_BYTES: usize = 32;

/// Error of a key set that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is not a JSON Web Key Set.
    #[error("not a JSON Web Key Set: {0}")]
    NotAKeySet(String),
    /// The set has no key.
    #[error("the key set has no key; add at least one")]
    Empty,
    /// Two keys have the same id.
    #[error("two keys have the id `{0}`; give each key its own id")]
    DuplicateId(String),
    /// The type of a key is not supported for its purpose.
    #[error("the type of the key `{0}` is not supported; use {1}")]
    UnknownType(String, &'static str),
    /// A symmetric key does not state its purpose.
    #[error(
        "the key `{id}` does not state its purpose; if it is a {expected}, add the member \"use\": \"{}\" to it",
        use_of(*expected)
    )]
    MissingPurpose {
        /// Id of the key.
        id: String,
        /// Purpose that the key must have.
        expected: KeyPurpose,
    },
    /// The purpose of a key is not the expected one.
    #[error(
        "the key `{id}` has \"use\": {found:?}, so it is not a {expected}, which has \"use\": \"{}\"; use a \
         key set of {expected}s",
        use_of(*expected)
    )]
    WrongPurpose {
        /// Id of the key.
        id: String,
        /// Member `use` of the key.
        found: String,
        /// Purpose that the key must have.
        expected: KeyPurpose,
    },
    /// The member `alg` of a key is not the algorithm that the key is used with.
    #[error("the key `{id}` has \"alg\": {found:?}; {fix}")]
    WrongAlgorithm {
        /// Id of the key.
        id: String,
        /// Member `alg` of the key.
        found: String,
        /// Instruction to correct the key.
        fix: &'static str,
    },
    /// The bytes of a key are missing, malformed, or fewer than its type requires.
    #[error("the key `{0}` is invalid: {1}")]
    Broken(String, &'static str),
}

/// Private JSON Web Key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(expecting = "an object with the members of a key")]
pub(crate) struct PrivateJwk {
    pub(crate) kty: String,
    pub(crate) kid: String,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub(crate) purpose: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) d: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) k: Option<String>,
}

impl PrivateJwk {
    pub(crate) fn secret(kid: String, bytes: &[u8], purpose: KeyPurpose) -> Self {
        // A pepper has no algorithm, so that no library uses it as a signing key.
        let alg = (purpose == KeyPurpose::Signing).then(|| "HS256".into());
        let (purpose, k) = (Some(use_of(purpose).into()), Some(BASE64.encode(bytes)));
        Self { kty: "oct".into(), kid, purpose, alg, crv: None, x: None, d: None, k }
    }

    pub(crate) fn generate_secret(random: &dyn Random, purpose: KeyPurpose) -> Self {
        let secret = Zeroizing::new(random.bytes::<MIN_SECRET_BYTES>());
        Self::secret(generate_id(random), &*secret, purpose)
    }

    pub(crate) fn ed25519(kid: String, seed: &[u8], public: String) -> Self {
        let (crv, x, d) = (Some("Ed25519".into()), Some(public), Some(BASE64.encode(seed)));
        let (purpose, alg) = (Some(use_of(KeyPurpose::Signing).into()), Some("EdDSA".into()));
        Self { kty: "OKP".into(), kid, purpose, alg, crv, x, d, k: None }
    }

    /// Checks that the key states the expected purpose.
    pub(crate) fn check_purpose(&self, expected: KeyPurpose) -> Result<(), KeyError> {
        match self.purpose.as_deref() {
            Some(found) if found == use_of(expected) => Ok(()),
            Some(found) => {
                Err(KeyError::WrongPurpose { id: self.kid.clone(), found: found.to_owned(), expected })
            }
            None if self.kty == "oct" => Err(KeyError::MissingPurpose { id: self.kid.clone(), expected }),
            None => Ok(()),
        }
    }

    /// Checks that the key names the expected algorithm, or none.
    pub(crate) fn check_algorithm(&self, expected: Option<&str>, fix: &'static str) -> Result<(), KeyError> {
        match self.alg.as_deref() {
            Some(found) if Some(found) != expected => {
                Err(KeyError::WrongAlgorithm { id: self.kid.clone(), found: found.to_owned(), fix })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn broken(&self, reason: &'static str) -> KeyError {
        KeyError::Broken(self.kid.clone(), reason)
    }

    /// Returns the bytes of a symmetric key.
    pub(crate) fn secret_bytes(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let bytes = BASE64.decode(self.k.as_deref().unwrap_or_default()).map(Zeroizing::new);
        bytes
            .ok()
            .filter(|bytes| bytes.len() >= MIN_SECRET_BYTES)
            .ok_or_else(|| self.broken("`k` must be 32 bytes or more in base64url without padding"))
    }

    /// Returns the bytes of an Ed25519 private key.
    pub(crate) fn ed25519_seed(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let bytes = BASE64.decode(self.d.as_deref().unwrap_or_default()).map(Zeroizing::new);
        bytes
            .ok()
            .filter(|bytes| bytes.len() == 32)
            .ok_or_else(|| self.broken("`d` must be 32 bytes in base64url without padding"))
    }
}

impl Drop for PrivateJwk {
    fn drop(&mut self) {
        self.d.zeroize();
        self.k.zeroize();
    }
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "an object with the member `keys`")]
pub(crate) struct PrivateJwkSet {
    keys: Vec<PrivateJwk>,
}

impl PrivateJwkSet {
    pub(crate) fn parse(json: &str) -> Result<Vec<PrivateJwk>, KeyError> {
        if json.trim().is_empty() {
            return Err(KeyError::NotAKeySet("it is empty".into()));
        }
        if json.starts_with('\u{feff}') {
            return Err(KeyError::NotAKeySet(
                "it starts with a byte order mark; save it as UTF-8 without one".into(),
            ));
        }
        let Self { keys } =
            serde_json::from_str(json).map_err(|error| KeyError::NotAKeySet(without_value(&error)))?;
        if keys.is_empty() {
            return Err(KeyError::Empty);
        }
        for (index, key) in keys.iter().enumerate() {
            if keys[..index].iter().any(|other| other.kid == key.kid) {
                return Err(KeyError::DuplicateId(key.kid.clone()));
            }
        }
        Ok(keys)
    }

    /// Formats keys as a set.
    pub(crate) fn format(keys: Vec<PrivateJwk>) -> Zeroizing<String> {
        let json = serde_json::to_string_pretty(&Self { keys });
        Zeroizing::new(json.expect("strings are JSON"))
    }
}

/// Returns the value of the member `use` for a purpose.
///
/// RFC 7517, section 4.2, permits other values than `sig` and `enc`. Libraries for JSON Web Tokens do not
/// sign with keys that have other values.
fn use_of(purpose: KeyPurpose) -> &'static str {
    match purpose {
        KeyPurpose::Signing => "sig",
        KeyPurpose::Pepper => "pepper",
    }
}

/// Describes why a key set cannot be parsed, without the value at that position, which may be a secret.
fn without_value(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match (text.split_once(": "), text.rsplit_once(", expected ")) {
        (Some((problem @ ("invalid type" | "invalid value"), _)), Some((_, expected))) => {
            format!("{problem}, expected {expected}")
        }
        _ => text,
    }
}

/// Generates a short key id that is independent of the key.
pub(crate) fn generate_id(random: &dyn Random) -> String {
    BASE64.encode(random.bytes::<9>())
}
