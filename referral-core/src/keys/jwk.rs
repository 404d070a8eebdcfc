//! Private JSON Web Keys and sets of them (RFC 7517, RFC 7518 and RFC 8037), with the members that are used
//! here.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use pkcs1::RsaPrivateKey;
use pkcs8::{
    PrivateKeyInfo,
    der::{Encode as _, asn1::UintRef},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::random::Random;

/// Purpose of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

/// Smallest size in bytes of a symmetric key: the output size of its hash (RFC 7518, section 3.2).
pub(crate) const MIN_SECRET_BYTES: usize = 32;

/// Sizes in bytes of the modulus of an RSA key: at least 2048 bits (RFC 7518, section 3.3), and at most the
/// size with which a token still fits into the headers of a request.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

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
#[derive(Clone, Default, Serialize, Deserialize)]
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
    pub(crate) y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) e: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) d: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) q: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dp: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dq: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) qi: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) k: Option<Zeroizing<String>>,
}

impl PrivateJwk {
    pub(crate) fn secret(kid: String, bytes: &[u8], purpose: KeyPurpose) -> Self {
        // A pepper has no algorithm, so that no library uses it as a signing key.
        let alg = (purpose == KeyPurpose::Signing).then(|| "HS256".into());
        let (purpose, k) = (Some(use_of(purpose).into()), Some(Zeroizing::new(BASE64.encode(bytes))));
        Self { kty: "oct".into(), kid, purpose, alg, k, ..Self::default() }
    }

    pub(crate) fn generate_secret(random: &dyn Random, purpose: KeyPurpose) -> Self {
        let secret = Zeroizing::new(random.bytes::<MIN_SECRET_BYTES>());
        Self::secret(generate_id(random), &*secret, purpose)
    }

    /// Creates a signing key of a curve, without its public members.
    fn of_curve(kid: String, [kty, crv, alg]: [&str; 3], scalar: &[u8]) -> Self {
        Self {
            d: Some(Zeroizing::new(BASE64.encode(scalar))),
            crv: Some(crv.into()),
            ..Self::signing(kid, kty, alg)
        }
    }

    fn signing(kid: String, kty: &str, alg: &str) -> Self {
        let purpose = Some(use_of(KeyPurpose::Signing).into());
        Self { kty: kty.into(), kid, purpose, alg: Some(alg.into()), ..Self::default() }
    }

    pub(crate) fn ed25519(kid: String, seed: &[u8]) -> Self {
        Self::of_curve(kid, ["OKP", "Ed25519", "EdDSA"], seed)
    }

    pub(crate) fn p256(kid: String, scalar: &[u8]) -> Self {
        Self::of_curve(kid, ["EC", "P-256", "ES256"], scalar)
    }

    /// Creates an RSA key from the DER encoding of PKCS #1 or PKCS #8.
    pub(crate) fn rsa(kid: String, der: &[u8]) -> Result<Self, KeyError> {
        let pkcs1 = PrivateKeyInfo::try_from(der).map_or(der, |info| info.private_key);
        let Ok(key) = RsaPrivateKey::try_from(pkcs1) else {
            return Err(KeyError::Broken(
                kid,
                "it is not an RSA private key in the encoding of PKCS #1 or PKCS #8",
            ));
        };
        let public = |number: UintRef<'_>| Some(BASE64.encode(number.as_bytes()));
        let secret = |number| public(number).map(Zeroizing::new);
        Ok(Self {
            n: public(key.modulus),
            e: public(key.public_exponent),
            d: secret(key.private_exponent),
            p: secret(key.prime1),
            q: secret(key.prime2),
            dp: secret(key.exponent1),
            dq: secret(key.exponent2),
            qi: secret(key.coefficient),
            ..Self::signing(kid, "RSA", "RS256")
        })
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
        bytes_of(self.k.as_deref())
            .filter(|bytes| bytes.len() >= MIN_SECRET_BYTES)
            .ok_or_else(|| self.broken("`k` must be 32 bytes or more in base64url without padding"))
    }

    /// Returns the DER encoding (PKCS #1) of an RSA key.
    pub(crate) fn rsa_der(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let public = [&self.n, &self.e].map(Option::as_ref);
        let secret = [&self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi].map(Option::as_deref);
        // A number has no leading zeros.
        let is_number = |bytes: &Zeroizing<Vec<u8>>| bytes.first().is_some_and(|first| *first > 0);
        let numbers = public.into_iter().chain(secret).map(|member| bytes_of(member).filter(is_number));
        let numbers: Option<Vec<_>> = numbers.collect();
        let numbers = numbers.ok_or_else(|| {
            self.broken(
                "`n`, `e`, `d`, `p`, `q`, `dp`, `dq` and `qi` must be numbers in base64url without padding",
            )
        })?;
        if !RSA_BYTES.contains(&numbers[0].len()) {
            return Err(self.broken("an RSA key must have 2048 to 4096 bits"));
        }
        rsa_der(&numbers).map(Zeroizing::new).map_err(|_| self.broken("a member has too many digits"))
    }

    /// Returns the bytes of the private key of a curve.
    pub(crate) fn scalar(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        bytes_of(self.d.as_deref())
            .filter(|bytes| bytes.len() == 32)
            .ok_or_else(|| self.broken("`d` must be 32 bytes in base64url without padding"))
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

/// Returns the bytes of a member in base64url, if it is present and valid.
fn bytes_of(member: Option<&String>) -> Option<Zeroizing<Vec<u8>>> {
    BASE64.decode(member?).map(Zeroizing::new).ok()
}

/// Returns the DER encoding (PKCS #1) of an RSA key with these numbers, in the order of the encoding.
fn rsa_der(numbers: &[Zeroizing<Vec<u8>>]) -> Result<Vec<u8>, pkcs8::der::Error> {
    let number = |index: usize| UintRef::new(&numbers[index]);
    let key = RsaPrivateKey {
        modulus: number(0)?,
        public_exponent: number(1)?,
        private_exponent: number(2)?,
        prime1: number(3)?,
        prime2: number(4)?,
        exponent1: number(5)?,
        exponent2: number(6)?,
        coefficient: number(7)?,
        other_prime_infos: None,
    };
    key.to_der()
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
