//! Secrets of a service: keys that sign tokens and peppers that hash codes. Both are key rings, written as
//! JSON Web Key Sets (RFC 7517). The first key signs or hashes new values, and all keys verify existing ones.
//! So a new key in front of the others ends no session.
//!
//! The member `use` of a key states its purpose: `sig` for a key that signs tokens, `pepper` for a pepper. A
//! set of the other purpose is rejected. A symmetric key must have the member, since nothing else
//! distinguishes the two purposes. Any other key can only sign, so the member is optional.

mod backend;
pub(crate) mod fingerprint;
pub(crate) mod jwk;
pub(crate) mod registry;
mod signing_key;

use std::fmt;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

pub use self::{
    jwk::{KeyError, KeyPurpose},
    registry::KeyMismatch,
};
use crate::{
    keys::{
        fingerprint::{Fingerprint, fingerprint_of, hmac_sha256},
        jwk::{PrivateJwk, PrivateJwkSet, generate_id},
        signing_key::SigningKey,
    },
    random::Random,
};

/// Key ring that signs and verifies tokens. Its keys have a public part that can be given to other services
/// (`EdDSA` with Ed25519, `ES256` with P-256, `RS256` with RSA), or are symmetric (`HS256`).
pub struct SigningKeys {
    keys: Vec<SigningKey>,
}

impl SigningKeys {
    /// Generates a key ring with one Ed25519 key (`EdDSA`). Store its [key set](Self::to_jwk_set), since
    /// tokens of the key are invalid without it.
    ///
    /// # Panics
    ///
    /// If the operating system provides no randomness, or `jsonwebtoken` has no crypto backend.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        Self { keys: vec![SigningKey::generate_ed25519(random)] }
    }

    /// Generates a key ring with one key of the curve P-256 (`ES256`), for other services whose libraries do
    /// not support `EdDSA`. Two signatures of the same content differ, so the same tokens may have different
    /// signatures.
    ///
    /// # Panics
    ///
    /// Like [`generate`](Self::generate).
    #[must_use]
    pub fn generate_p256(random: &dyn Random) -> Self {
        Self { keys: vec![SigningKey::generate_p256(random)] }
    }

    /// Creates a key ring with one RSA key (`RS256`) of 2048 to 4096 bits, in the DER encoding of PKCS #1 or
    /// PKCS #8. It is for other services that support neither `EdDSA` nor `ES256`: its tokens are 1.6
    /// times as long, and signing takes much longer.
    ///
    /// # Errors
    ///
    /// [`KeyError::Broken`] if the encoding is not that of such a key.
    pub fn from_rsa_der(id: &str, der: &[u8]) -> Result<Self, KeyError> {
        let key = SigningKey::new(PrivateJwk::rsa(id.to_owned(), der)?)?;
        Ok(Self { keys: vec![key] })
    }

    /// Generates a short id for a key, which is independent of the key.
    #[must_use]
    pub fn generate_id(random: &dyn Random) -> String {
        generate_id(random)
    }

    /// Generates a key ring with one symmetric key (`HS256`). A service that can verify tokens of this key
    /// can sign tokens too.
    ///
    /// # Panics
    ///
    /// If the operating system provides no randomness.
    #[must_use]
    pub fn generate_symmetric(random: &dyn Random) -> Self {
        let key = PrivateJwk::generate_secret(random, KeyPurpose::Signing);
        Self { keys: vec![SigningKey::new(key).expect("a generated key is valid")] }
    }

    /// Returns the private keys as a JSON Web Key Set, for [`from_jwk_set`](Self::from_jwk_set).
    #[must_use]
    pub fn to_jwk_set(&self) -> Zeroizing<String> {
        PrivateJwkSet::format(self.keys.iter().map(|key| key.private.clone()).collect())
    }

    /// Parses a private JSON Web Key Set. Symmetric keys must have `"use": "sig"`.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the text is not a key set, the set has no key, two keys have the same id, or a key is
    /// not a valid signing key.
    pub fn from_jwk_set(json: &str) -> Result<Self, KeyError> {
        let keys = PrivateJwkSet::parse(json)?;
        let keys = keys.into_iter().map(SigningKey::new).collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }

    /// Creates a key ring with one symmetric key (`HS256`) of 32 bytes or more.
    ///
    /// # Errors
    ///
    /// [`KeyError::Broken`] if the secret has fewer than 32 bytes.
    pub fn from_secret(id: &str, secret: &[u8]) -> Result<Self, KeyError> {
        let key = SigningKey::new(PrivateJwk::secret(id.to_owned(), secret, KeyPurpose::Signing))?;
        Ok(Self { keys: vec![key] })
    }

    /// Returns the public keys of the key ring, in its order, as a JSON Web Key Set. Another service needs
    /// nothing else to verify access tokens.
    #[must_use]
    pub fn public_jwk_set(&self) -> String {
        let keys = self.keys.iter().filter_map(|key| key.public.clone()).collect();
        serde_json::json!(jsonwebtoken::jwk::JwkSet { keys }).to_string()
    }

    pub(crate) fn fingerprints(&self) -> Vec<(String, Fingerprint)> {
        self.keys.iter().map(|key| (key.id().to_owned(), key.fingerprint)).collect()
    }

    /// Returns the key that signs.
    pub(crate) fn current(&self) -> &SigningKey {
        &self.keys[0]
    }

    /// Returns `true` if verification uses public-key arithmetic, which is slow.
    pub(crate) fn has_public(&self) -> bool {
        self.keys.iter().any(|key| key.public.is_some())
    }

    pub(crate) fn find(&self, id: &str) -> Option<&SigningKey> {
        self.keys.iter().find(|key| key.id() == id)
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(SigningKey::id)).finish()
    }
}

/// Key ring of peppers. A pepper is a secret that is not in the database, without which the hashes in the
/// database reveal nothing. Four digits have only ten thousand values, so a hash without a secret does not
/// protect a code.
pub struct Peppers {
    keys: Vec<Pepper>,
}

struct Pepper {
    private: PrivateJwk,
    hmac: Hmac<Sha256>,
}

impl Peppers {
    /// Generates a key ring with one pepper. Store its [key set](Self::to_jwk_set), since codes that were
    /// hashed with the pepper are invalid without it.
    ///
    /// # Panics
    ///
    /// If the operating system provides no randomness.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        let key = PrivateJwk::generate_secret(random, KeyPurpose::Pepper);
        Self { keys: vec![Pepper::new(key).expect("a generated pepper is valid")] }
    }

    /// Returns the peppers as a JSON Web Key Set, for [`from_jwk_set`](Self::from_jwk_set).
    #[must_use]
    pub fn to_jwk_set(&self) -> Zeroizing<String> {
        PrivateJwkSet::format(self.keys.iter().map(|key| key.private.clone()).collect())
    }

    /// Parses a JSON Web Key Set of symmetric keys of 32 bytes or more each, with `"use": "pepper"`.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the text is not a key set, the set has no key, two keys have the same id, or a key is
    /// not a valid pepper.
    pub fn from_jwk_set(json: &str) -> Result<Self, KeyError> {
        let keys = PrivateJwkSet::parse(json)?;
        let keys = keys.into_iter().map(Pepper::new).collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }

    /// Creates a key ring with one pepper of 32 bytes or more.
    ///
    /// # Errors
    ///
    /// [`KeyError::Broken`] if the secret has fewer than 32 bytes.
    pub fn from_secret(id: &str, secret: &[u8]) -> Result<Self, KeyError> {
        let key = PrivateJwk::secret(id.to_owned(), secret, KeyPurpose::Pepper);
        Ok(Self { keys: vec![Pepper::new(key)?] })
    }

    /// Returns the id of the pepper that new hashes use.
    pub(crate) fn current_id(&self) -> &str {
        &self.keys[0].private.kid
    }

    /// Returns the keyed hash of `parts`, or `None` if the pepper is not in the key ring. The length of each
    /// part is hashed before the part, so that no two lists of parts give the same input.
    pub(crate) fn hash(&self, id: &str, parts: &[&[u8]]) -> Option<[u8; 32]> {
        let mut mac = self.keys.iter().find(|pepper| pepper.private.kid == id)?.hmac.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        Some(mac.finalize().into_bytes().into())
    }

    pub(crate) fn fingerprints(&self) -> Vec<(String, Fingerprint)> {
        let fingerprint = |pepper: &Pepper| (pepper.private.kid.clone(), fingerprint_of(pepper.hmac.clone()));
        self.keys.iter().map(fingerprint).collect()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|pepper| pepper.private.kid.as_str())
    }
}

impl Pepper {
    fn new(key: PrivateJwk) -> Result<Self, KeyError> {
        key.check_purpose(KeyPurpose::Pepper)?;
        if key.kty != "oct" {
            return Err(KeyError::UnknownType(key.kid.clone(), "oct"));
        }
        key.check_algorithm(None, "remove the member `alg`, which a pepper does not have")?;
        Ok(Self { hmac: hmac_sha256(&key.secret_bytes()?), private: key })
    }
}

impl fmt::Debug for Peppers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

#[cfg(test)]
pub(crate) mod tests;
