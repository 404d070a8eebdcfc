//! Secrets of a service: keys that sign tokens and peppers that hash codes. Both are rings, written as JSON
//! Web Key Sets (RFC 7517). The first key signs or hashes new values, and all keys verify existing ones. A
//! new key in front of the others thus ends no session.
//!
//! The member `use` of a key states its purpose: `sig` for a key that signs tokens, `pepper` for a pepper. A
//! set of the other purpose is rejected. A symmetric key must have the member, since nothing else
//! distinguishes the two purposes. An Ed25519 key can only sign, so the member is optional.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, jwk::Jwk};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    random::Random,
    session::key_registry::{Fingerprint, KeyPurpose},
};

/// Smallest size in bytes of a symmetric key: the output size of its hash (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Prefix of the 32 bytes of an Ed25519 private key in PKCS #8 (RFC 8410, section 7).
const ED25519_PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

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
    /// Two keys have the same ID.
    #[error("two keys have the ID `{0}`; give each key its own ID")]
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
        /// Identifier of the key.
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
        /// Identifier of the key.
        id: String,
        /// Member `use` of the key.
        found: String,
        /// Purpose that the key must have.
        expected: KeyPurpose,
    },
    /// The member `alg` of a key is not the algorithm that the key is used with.
    #[error("the key `{id}` has \"alg\": {found:?}; {fix}")]
    WrongAlgorithm {
        /// Identifier of the key.
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

/// Private JSON Web Key (RFC 7517 and RFC 8037), with the members that are used here.
#[derive(Serialize, Deserialize)]
#[serde(expecting = "an object with the members of a key")]
struct PrivateJwk {
    kty: String,
    kid: String,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    d: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<String>,
}

impl PrivateJwk {
    fn secret(kid: String, bytes: &[u8], purpose: KeyPurpose) -> Self {
        // A pepper has no algorithm, so that no library uses it as a signing key.
        let alg = (purpose == KeyPurpose::Signing).then(|| "HS256".into());
        let (purpose, k) = (Some(use_of(purpose).into()), Some(BASE64.encode(bytes)));
        Self { kty: "oct".into(), kid, purpose, alg, crv: None, x: None, d: None, k }
    }

    fn draw_secret(random: &dyn Random, purpose: KeyPurpose) -> Self {
        let secret = Zeroizing::new(random.bytes::<MIN_SECRET_BYTES>());
        Self::secret(generate_id(random), &*secret, purpose)
    }

    fn ed25519(kid: String, seed: &[u8], public: String) -> Self {
        let (crv, x, d) = (Some("Ed25519".into()), Some(public), Some(BASE64.encode(seed)));
        let (purpose, alg) = (Some(use_of(KeyPurpose::Signing).into()), Some("EdDSA".into()));
        Self { kty: "OKP".into(), kid, purpose, alg, crv, x, d, k: None }
    }

    /// Checks that the key states the expected purpose.
    fn check_purpose(&self, expected: KeyPurpose) -> Result<(), KeyError> {
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
    fn check_algorithm(&self, expected: Option<&str>, fix: &'static str) -> Result<(), KeyError> {
        match self.alg.as_deref() {
            Some(found) if Some(found) != expected => {
                Err(KeyError::WrongAlgorithm { id: self.kid.clone(), found: found.to_owned(), fix })
            }
            _ => Ok(()),
        }
    }

    fn broken(&self, what: &'static str) -> KeyError {
        KeyError::Broken(self.kid.clone(), what)
    }

    /// Returns the bytes of a symmetric key.
    fn secret_bytes(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let bytes = BASE64.decode(self.k.as_deref().unwrap_or_default()).map(Zeroizing::new);
        bytes
            .ok()
            .filter(|bytes| bytes.len() >= MIN_SECRET_BYTES)
            .ok_or_else(|| self.broken("`k` must be 32 bytes or more in base64url without padding"))
    }

    /// Returns the bytes of an Ed25519 private key.
    fn ed25519_seed(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
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
struct PrivateJwkSet {
    keys: Vec<PrivateJwk>,
}

impl PrivateJwkSet {
    fn parse(json: &str) -> Result<Vec<PrivateJwk>, KeyError> {
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

    fn of(key: PrivateJwk) -> Zeroizing<String> {
        let json = serde_json::to_string_pretty(&Self { keys: vec![key] });
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

/// Generates a short key ID that is independent of the key.
fn generate_id(random: &dyn Random) -> String {
    BASE64.encode(random.bytes::<9>())
}

/// Key that signs tokens, with the header it writes.
pub(crate) struct SigningKey {
    pub(crate) header: Header,
    pub(crate) encoding: EncodingKey,
    pub(crate) decoding: DecodingKey,
    fingerprint: Fingerprint,
    /// Public key, or `None` for a symmetric key.
    public: Option<Jwk>,
}

impl SigningKey {
    fn new(key: &PrivateJwk) -> Result<Self, KeyError> {
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
                Ok(Self {
                    header: header(Algorithm::EdDSA),
                    encoding,
                    decoding,
                    fingerprint,
                    public: Some(public),
                })
            }
            ("oct", _) => {
                key.check_algorithm(Some("HS256"), "a key of this type has \"alg\": \"HS256\"")?;
                let secret = key.secret_bytes()?;
                Ok(Self {
                    header: header(Algorithm::HS256),
                    encoding: EncodingKey::from_secret(&secret),
                    decoding: DecodingKey::from_secret(&secret),
                    fingerprint: fingerprint(&secret),
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

/// Ring of keys that sign and verify tokens. They are Ed25519 keys (`EdDSA`), whose public keys can be given
/// to other services, or symmetric keys (`HS256`).
pub struct SigningKeys {
    keys: Vec<SigningKey>,
}

impl SigningKeys {
    /// Generates a new Ed25519 key and returns a key set with it. Store the set and pass it to
    /// [`from_jwk_set`](Self::from_jwk_set).
    ///
    /// # Panics
    ///
    /// If the operating system provides no randomness, or `jsonwebtoken` has no crypto backend.
    #[must_use]
    pub fn generate_jwk_set(random: &dyn Random) -> Zeroizing<String> {
        let seed = Zeroizing::new(random.bytes::<32>());
        let (_, public) = ed25519(&*seed).expect("any 32 bytes are a valid Ed25519 private key");
        let x = ed25519_x(&public).expect("the public key of an Ed25519 key has the member `x`");
        PrivateJwkSet::of(PrivateJwk::ed25519(generate_id(random), &*seed, x))
    }

    /// Generates a new symmetric key (`HS256`) and returns a key set with it. A service that can verify
    /// tokens of this key can sign tokens too.
    ///
    /// # Panics
    ///
    /// If the operating system provides no randomness.
    #[must_use]
    pub fn generate_secret_jwk_set(random: &dyn Random) -> Zeroizing<String> {
        PrivateJwkSet::of(PrivateJwk::draw_secret(random, KeyPurpose::Signing))
    }

    /// Parses a private JSON Web Key Set. Symmetric keys must have `"use": "sig"`.
    pub fn from_jwk_set(json: &str) -> Result<Self, KeyError> {
        let keys = PrivateJwkSet::parse(json)?;
        let keys = keys.iter().map(SigningKey::new).collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }

    /// Creates a ring of one symmetric key (`HS256`) of 32 bytes or more.
    pub fn from_secret(id: &str, secret: &[u8]) -> Result<Self, KeyError> {
        let key = SigningKey::new(&PrivateJwk::secret(id.to_owned(), secret, KeyPurpose::Signing))?;
        Ok(Self { keys: vec![key] })
    }

    /// Returns the public keys of the ring, in its order, as a JSON Web Key Set. Another service needs
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

/// Ring of peppers. A pepper is a secret that is not in the database, without which the hashes in the
/// database reveal nothing. Four digits have only ten thousand values, so a hash without a secret does not
/// protect a code.
pub struct Peppers {
    keys: Vec<(String, Hmac<Sha256>)>,
}

impl Peppers {
    /// Generates a new pepper and returns a key set with it. Store the set and pass it to
    /// [`from_jwk_set`](Self::from_jwk_set).
    ///
    /// # Panics
    ///
    /// If the operating system provides no randomness.
    #[must_use]
    pub fn generate_jwk_set(random: &dyn Random) -> Zeroizing<String> {
        PrivateJwkSet::of(PrivateJwk::draw_secret(random, KeyPurpose::Pepper))
    }

    /// Parses a JSON Web Key Set of symmetric keys of 32 bytes or more each, with `"use": "pepper"`.
    pub fn from_jwk_set(json: &str) -> Result<Self, KeyError> {
        let keys = PrivateJwkSet::parse(json)?;
        let keys = keys.iter().map(pepper).collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }

    /// Creates a ring of one pepper of 32 bytes or more.
    pub fn from_secret(id: &str, secret: &[u8]) -> Result<Self, KeyError> {
        let key = PrivateJwk::secret(id.to_owned(), secret, KeyPurpose::Pepper);
        Ok(Self { keys: vec![pepper(&key)?] })
    }

    /// Returns the ID of the pepper that new hashes use.
    pub(crate) fn current_id(&self) -> &str {
        &self.keys[0].0
    }

    /// Returns the keyed hash of `parts`, or `None` if the pepper is not in the ring. The length of each part
    /// is hashed before the part, so that no two lists of parts give the same input.
    pub(crate) fn hash(&self, id: &str, parts: &[&[u8]]) -> Option<[u8; 32]> {
        let (_, key) = self.keys.iter().find(|(key_id, _)| key_id == id)?;
        let mut mac = key.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        Some(mac.finalize().into_bytes().into())
    }

    pub(crate) fn fingerprints(&self) -> Vec<(String, Fingerprint)> {
        self.keys.iter().map(|(id, key)| (id.clone(), fingerprint_of(key.clone()))).collect()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(id, _)| id.as_str())
    }
}

/// Parses a pepper.
fn pepper(key: &PrivateJwk) -> Result<(String, Hmac<Sha256>), KeyError> {
    key.check_purpose(KeyPurpose::Pepper)?;
    if key.kty != "oct" {
        return Err(KeyError::UnknownType(key.kid.clone(), "oct"));
    }
    key.check_algorithm(None, "remove the member `alg`, which a pepper does not have")?;
    Ok((key.kid.clone(), hmac_sha256(&key.secret_bytes()?)))
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
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    #[test]
    fn generated_key_sets_can_be_parsed() {
        let set = SigningKeys::generate_jwk_set(&SystemRandom);
        let keys = SigningKeys::from_jwk_set(&set).expect("usable");
        assert_eq!(keys.current().header.alg, Algorithm::EdDSA);
        let set = SigningKeys::generate_secret_jwk_set(&SystemRandom);
        let keys = SigningKeys::from_jwk_set(&set).expect("usable");
        assert_eq!(keys.current().header.alg, Algorithm::HS256);
        assert!(Peppers::from_jwk_set(&Peppers::generate_jwk_set(&SystemRandom)).is_ok());
    }

    #[test]
    fn public_key_set_has_no_private_member() {
        let set = SigningKeys::generate_jwk_set(&SystemRandom);
        let keys = SigningKeys::from_jwk_set(&set).expect("usable");
        let public: serde_json::Value = serde_json::from_str(&keys.public_jwk_set()).expect("JSON");
        let key = public["keys"][0].as_object().expect("a key");
        assert_eq!(key["kid"], keys.current().id());
        assert_eq!(key["alg"], "EdDSA");
        assert!(!key.contains_key("d"));

        let symmetric = SigningKeys::from_secret("a", &[7; 32]).expect("long enough");
        assert_eq!(symmetric.public_jwk_set(), r#"{"keys":[]}"#);
    }

    #[test]
    fn invalid_key_sets_are_rejected_with_a_reason() {
        let twice = format!(r#"{{"keys":[{0},{0}]}}"#, r#"{"kty":"oct","kid":"a","k":"AAAA"}"#);
        let rsa = r#"{"keys":[{"kty":"RSA","kid":"a"}]}"#;
        for (set, reason) in [
            ("", "not a JSON Web Key Set: it is empty"),
            ("\u{feff}{}", "byte order mark"),
            ("{", "not a JSON Web Key Set"),
            (r#"{"keys":[]}"#, "has no key"),
            (&twice, "two keys have the ID `a`"),
            (rsa, "the type of the key `a` is not supported"),
        ] {
            let error = SigningKeys::from_jwk_set(set).expect_err(set).to_string();
            assert!(error.contains(reason), "{error}");
            let error = Peppers::from_jwk_set(set).expect_err(set).to_string();
            assert!(error.contains(reason), "{error}");
        }
        let short = |purpose: &str| {
            format!(r#"{{"keys":[{{"kty":"oct","kid":"a","use":"{purpose}","k":"c2hvcnQ"}}]}}"#)
        };
        let errors = [
            SigningKeys::from_jwk_set(&short("sig")).expect_err("short"),
            Peppers::from_jwk_set(&short("pepper")).expect_err("short"),
        ];
        for error in errors.map(|error| error.to_string()) {
            assert!(error.contains("32 bytes or more"), "{error}");
        }
    }

    #[test]
    fn parse_error_does_not_contain_a_secret() {
        for set in [r#""hunter2, expected""#, r#"{"keys":["hunter2"]}"#, r#"{"keys":{"kid":"hunter2"}}"#] {
            let error = SigningKeys::from_jwk_set(set).expect_err(set);
            let text = format!("{error} {error:?}");
            assert!(text.contains("expected ") && !text.contains("hunter2"), "{text}");
        }
    }

    /// Returns a set of one symmetric key with these additional members.
    fn secret_set(members: &str) -> String {
        let secret = BASE64.encode([7; MIN_SECRET_BYTES]);
        format!(r#"{{"keys":[{{"kty":"oct","kid":"a","k":"{secret}"{members}}}]}}"#)
    }

    #[test]
    fn key_set_of_the_other_purpose_is_rejected() {
        let peppers = Peppers::generate_jwk_set(&SystemRandom);
        let error = SigningKeys::from_jwk_set(&peppers).expect_err("peppers").to_string();
        assert!(error.contains(r#"has "use": "pepper", so it is not a signing key"#), "{error}");
        for keys in [
            SigningKeys::generate_jwk_set(&SystemRandom),
            SigningKeys::generate_secret_jwk_set(&SystemRandom),
        ] {
            let error = Peppers::from_jwk_set(&keys).expect_err("signing keys").to_string();
            assert!(error.contains(r#"has "use": "sig", so it is not a pepper"#), "{error}");
        }
    }

    #[test]
    fn symmetric_key_without_a_purpose_is_rejected() {
        for members in ["", r#","alg":"HS256""#] {
            let set = secret_set(members);
            let error = SigningKeys::from_jwk_set(&set).expect_err("ambiguous").to_string();
            assert!(error.contains(r#"signing key, add the member "use": "sig""#), "{error}");
            let error = Peppers::from_jwk_set(&set).expect_err("ambiguous").to_string();
            assert!(error.contains(r#"pepper, add the member "use": "pepper""#), "{error}");
        }
        assert!(SigningKeys::from_jwk_set(&secret_set(r#","use":"sig""#)).is_ok());
        assert!(Peppers::from_jwk_set(&secret_set(r#","use":"pepper""#)).is_ok());
    }

    #[test]
    fn ed25519_key_without_a_purpose_is_accepted() {
        let set = SigningKeys::generate_jwk_set(&SystemRandom);
        let mut set: serde_json::Value = serde_json::from_str(&set).expect("JSON");
        assert_eq!([&set["keys"][0]["use"], &set["keys"][0]["alg"]], ["sig", "EdDSA"]);
        for member in ["use", "alg"] {
            set["keys"][0].as_object_mut().expect("a key").remove(member);
            let keys = SigningKeys::from_jwk_set(&set.to_string()).expect(member);
            let public: serde_json::Value = serde_json::from_str(&keys.public_jwk_set()).expect("JSON");
            assert_eq!([&public["keys"][0]["use"], &public["keys"][0]["alg"]], ["sig", "EdDSA"]);
        }
    }

    #[test]
    fn key_with_another_algorithm_is_rejected() {
        let set = secret_set(r#","use":"sig","alg":"HS512""#);
        let error = SigningKeys::from_jwk_set(&set).expect_err("HS512").to_string();
        assert!(error.contains(r#"has "alg": "HS512""#) && error.contains("HS256"), "{error}");
        let set = secret_set(r#","use":"pepper","alg":"HS256""#);
        let error = Peppers::from_jwk_set(&set).expect_err("HS256").to_string();
        assert!(error.contains("remove the member `alg`"), "{error}");
        let peppers = Peppers::generate_jwk_set(&SystemRandom);
        assert!(!peppers.contains("alg"), "{}", &*peppers);
        let set = SigningKeys::generate_jwk_set(&SystemRandom).replace("EdDSA", "HS256");
        let error = SigningKeys::from_jwk_set(&set).expect_err("HS256").to_string();
        assert!(error.contains("EdDSA"), "{error}");
    }

    #[test]
    fn public_key_of_another_private_key_is_rejected() {
        let one = SigningKeys::generate_jwk_set(&SystemRandom);
        let other = SigningKeys::generate_jwk_set(&SystemRandom);
        let [mut one, other]: [serde_json::Value; 2] =
            [one, other].map(|set| serde_json::from_str(&set).expect("JSON"));
        one["keys"][0]["x"] = other["keys"][0]["x"].clone();
        let error = SigningKeys::from_jwk_set(&one.to_string()).expect_err("mismatch");
        assert!(error.to_string().contains("not the public key"), "{error}");
    }

    #[test]
    fn hash_depends_on_the_boundaries_of_its_parts() {
        let peppers = Peppers::from_secret("a", &[7; 32]).expect("long enough");
        assert_ne!(peppers.hash("a", &[b"ab", b"c"]), peppers.hash("a", &[b"a", b"bc"]));
        assert_eq!(peppers.hash("b", &[b"ab"]), None);
    }
}
