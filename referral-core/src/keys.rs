//! Secrets of a service: keys that sign tokens and peppers that hash codes. Both are key rings, written as
//! JSON Web Key Sets (RFC 7517). The first key signs or hashes new values, and all keys verify existing ones.
//! So a new key in front of the others ends no session.
//!
//! The member `use` of a key states its purpose: `sig` for a key that signs tokens, `pepper` for a pepper. A
//! set of the other purpose is rejected. A symmetric key must have the member, since nothing else
//! distinguishes the two purposes. An Ed25519 key can only sign, so the member is optional.

pub(crate) mod jwk;
pub(crate) mod registry;

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, jwk::Jwk};
use sha2::Sha256;
use zeroize::Zeroizing;

pub use self::{
    jwk::{KeyError, KeyPurpose},
    registry::KeyMismatch,
};
use crate::{
    keys::jwk::{Fingerprint, PrivateJwk, PrivateJwkSet, generate_id},
    random::Random,
};

/// Prefix of the 32 bytes of an Ed25519 private key in PKCS #8 (RFC 8410, section 7).
const ED25519_PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Key that signs tokens, with the header it writes.
pub(crate) struct SigningKey {
    pub(crate) header: Header,
    pub(crate) encoding: EncodingKey,
    pub(crate) decoding: DecodingKey,
    fingerprint: Fingerprint,
    private: PrivateJwk,
    /// Public key, or `None` for a symmetric key.
    public: Option<Jwk>,
}

impl SigningKey {
    fn new(key: PrivateJwk) -> Result<Self, KeyError> {
        key.check_purpose(KeyPurpose::Signing)?;
        let header = |algorithm| Header { kid: Some(key.kid.clone()), ..Header::new(algorithm) };
        match (key.kty.as_str(), key.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => {
                key.check_algorithm(Some("EdDSA"), "a key of this type has \"alg\": \"EdDSA\"")?;
                let seed = key.ed25519_seed()?;
                let (encoding, mut public) =
                    ed25519(&seed).ok_or_else(|| key.broken("`d` is not a private key"))?;
                let decoding =
                    DecodingKey::from_jwk(&public).map_err(|_| key.broken("`d` is not a private key"))?;
                if key.x.is_some() && key.x != ed25519_x(&public) {
                    return Err(key.broken("`x` is not the public key of `d`"));
                }
                let fingerprint = fingerprint(ed25519_x(&public).unwrap_or_default().as_bytes());
                public.common.key_id = Some(key.kid.clone());
                public.common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Signature);
                let header = header(Algorithm::EdDSA);
                Ok(Self { header, encoding, decoding, fingerprint, private: key, public: Some(public) })
            }
            ("oct", _) => {
                key.check_algorithm(Some("HS256"), "a key of this type has \"alg\": \"HS256\"")?;
                let secret = key.secret_bytes()?;
                Ok(Self {
                    header: header(Algorithm::HS256),
                    encoding: EncodingKey::from_secret(&secret),
                    decoding: DecodingKey::from_secret(&secret),
                    fingerprint: fingerprint(&secret),
                    private: key,
                    public: None,
                })
            }
            _ => Err(KeyError::UnknownType(key.kid.clone(), "OKP with Ed25519 (EdDSA) or oct (HS256)")),
        }
    }

    pub(crate) fn id(&self) -> &str {
        self.header.kid.as_deref().unwrap_or_default()
    }
}

/// Returns the private and the public part of an Ed25519 key.
fn ed25519(seed: &[u8]) -> Option<(EncodingKey, Jwk)> {
    let der = Zeroizing::new([&ED25519_PKCS8_PREFIX, seed].concat());
    let encoding = EncodingKey::from_ed_der(&der);
    let public = Jwk::from_encoding_key(&encoding, Algorithm::EdDSA).ok()?;
    Some((encoding, public))
}

fn ed25519_x(public: &Jwk) -> Option<String> {
    match &public.algorithm {
        jsonwebtoken::jwk::AlgorithmParameters::OctetKeyPair(pair) => Some(pair.x.clone()),
        _ => None,
    }
}

/// Key ring that signs and verifies tokens. Its keys are Ed25519 keys (`EdDSA`), whose public keys can be
/// given to other services, or symmetric keys (`HS256`).
pub struct SigningKeys {
    keys: Vec<SigningKey>,
}

impl SigningKeys {
    /// Generates a key ring with one Ed25519 key. Store its [key set](Self::to_jwk_set), since tokens of the
    /// key are invalid without it.
    ///
    /// # Panics
    ///
    /// If the operating system provides no randomness, or `jsonwebtoken` has no crypto backend.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        let seed = Zeroizing::new(random.bytes::<32>());
        let (_, public) = ed25519(&*seed).expect("any 32 bytes are a valid Ed25519 private key");
        let x = ed25519_x(&public).expect("the public key of an Ed25519 key has the member `x`");
        Self::of_generated(PrivateJwk::ed25519(generate_id(random), &*seed, x))
    }

    /// Generates a key ring with one symmetric key (`HS256`). A service that can verify tokens of this key
    /// can sign tokens too.
    ///
    /// # Panics
    ///
    /// If the operating system provides no randomness.
    #[must_use]
    pub fn generate_symmetric(random: &dyn Random) -> Self {
        Self::of_generated(PrivateJwk::generate_secret(random, KeyPurpose::Signing))
    }

    fn of_generated(key: PrivateJwk) -> Self {
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

fn hmac_sha256(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC accepts a key of any length")
}

/// Returns the fingerprint of a key: its hash of a fixed text. It distinguishes keys without revealing them.
/// An attacker who could find the key from its fingerprint could find it from any token or code as well.
fn fingerprint(key: &[u8]) -> Fingerprint {
    fingerprint_of(hmac_sha256(key))
}

fn fingerprint_of(mut key: Hmac<Sha256>) -> Fingerprint {
    key.update(b"fingerprint of a key of referral-core");
    *key.finalize().into_bytes().first_chunk().expect("the hash has 32 bytes")
}

impl fmt::Debug for Peppers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

#[cfg(test)]
mod tests;
