//! Keys that sign tokens, of each algorithm.

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header,
    jwk::{AlgorithmParameters, Jwk, PublicKeyUse},
};
use zeroize::Zeroizing;

use crate::{
    keys::{
        backend,
        fingerprint::{Fingerprint, fingerprint},
        jwk::{KeyError, KeyPurpose, PrivateJwk, generate_id},
    },
    random::Random,
};

/// Prefix of the 32 bytes of an Ed25519 private key in PKCS #8 (RFC 8410, section 7).
const ED25519_PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Prefix of the 32 bytes of a P-256 private key in PKCS #8, without its public key (RFC 5915, section 3).
const P256_PKCS8_PREFIX: [u8; 35] = [
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
    0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04,
    0x20,
];

/// Key that signs tokens, with the header it writes.
pub(crate) struct SigningKey {
    pub(crate) header: Header,
    pub(crate) encoding: EncodingKey,
    pub(crate) decoding: DecodingKey,
    pub(super) fingerprint: Fingerprint,
    pub(super) private: PrivateJwk,
    /// Public key, or `None` for a symmetric key.
    pub(super) public: Option<Jwk>,
}

impl SigningKey {
    pub(super) fn new(key: PrivateJwk) -> Result<Self, KeyError> {
        backend::select();
        key.check_purpose(KeyPurpose::Signing)?;
        match (key.kty.as_str(), key.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => {
                key.check_algorithm(Some("EdDSA"), "a key of this type has \"alg\": \"EdDSA\"")?;
                let der = pkcs8(&ED25519_PKCS8_PREFIX, &key.scalar()?);
                Self::of_pair(key, Algorithm::EdDSA, EncodingKey::from_ed_der(&der))
            }
            ("EC", Some("P-256")) => {
                key.check_algorithm(Some("ES256"), "a key of this type has \"alg\": \"ES256\"")?;
                let der = pkcs8(&P256_PKCS8_PREFIX, &key.scalar()?);
                Self::of_pair(key, Algorithm::ES256, EncodingKey::from_ec_der(&der))
            }
            ("RSA", _) => {
                key.check_algorithm(Some("RS256"), "a key of this type has \"alg\": \"RS256\"")?;
                let der = key.rsa_der()?;
                Self::of_pair(key, Algorithm::RS256, EncodingKey::from_rsa_der(&der))
            }
            ("oct", _) => {
                key.check_algorithm(Some("HS256"), "a key of this type has \"alg\": \"HS256\"")?;
                let secret = key.secret_bytes()?;
                Ok(Self {
                    header: header(&key, Algorithm::HS256),
                    encoding: EncodingKey::from_secret(&secret),
                    decoding: DecodingKey::from_secret(&secret),
                    fingerprint: fingerprint(&secret),
                    private: key,
                    public: None,
                })
            }
            _ => Err(KeyError::UnknownType(
                key.kid.clone(),
                "OKP with Ed25519 (EdDSA), EC with P-256 (ES256), RSA (RS256) or oct (HS256)",
            )),
        }
    }

    /// Creates a key with a private and a public part.
    fn of_pair(key: PrivateJwk, algorithm: Algorithm, encoding: EncodingKey) -> Result<Self, KeyError> {
        let invalid = || key.broken("its private members are not a private key");
        let mut public = Jwk::from_encoding_key(&encoding, algorithm).map_err(|_| invalid())?;
        let decoding = DecodingKey::from_jwk(&public).map_err(|_| invalid())?;
        let members = public_members(&public);
        let stated = [&key.x, &key.y, &key.n];
        if stated.into_iter().flatten().any(|stated| !members.contains(&&**stated)) {
            return Err(key.broken("its public members are not the public key of its private members"));
        }
        let fingerprint = fingerprint(members.concat().as_bytes());
        public.common.key_id = Some(key.kid.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        let header = header(&key, algorithm);
        Ok(Self { header, encoding, decoding, fingerprint, private: key, public: Some(public) })
    }

    pub(super) fn generate_ed25519(random: &dyn Random) -> Self {
        Self::generate(random, PrivateJwk::ed25519)
    }

    pub(super) fn generate_p256(random: &dyn Random) -> Self {
        Self::generate(random, PrivateJwk::p256)
    }

    /// Generates a key from a random scalar. One of 2³² scalars is not valid for P-256.
    fn generate(random: &dyn Random, jwk: fn(String, &[u8]) -> PrivateJwk) -> Self {
        let mut key = loop {
            let scalar = Zeroizing::new(random.bytes::<32>());
            if let Ok(key) = Self::new(jwk(generate_id(random), &*scalar)) {
                break key;
            }
        };
        // The private key set contains the public members too, as RFC 7518 requires.
        let public = key.public.as_ref().map(|public| public.algorithm.clone());
        match public {
            Some(AlgorithmParameters::OctetKeyPair(pair)) => key.private.x = Some(pair.x),
            Some(AlgorithmParameters::EllipticCurve(point)) => {
                (key.private.x, key.private.y) = (Some(point.x), Some(point.y));
            }
            _ => {}
        }
        key
    }

    pub(crate) fn id(&self) -> &str {
        self.header.kid.as_deref().unwrap_or_default()
    }
}

fn header(key: &PrivateJwk, algorithm: Algorithm) -> Header {
    Header { kid: Some(key.kid.clone()), ..Header::new(algorithm) }
}

fn pkcs8(prefix: &[u8], scalar: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([prefix, scalar].concat())
}

/// Returns the members that distinguish a public key from others of its type.
fn public_members(public: &Jwk) -> Vec<&str> {
    match &public.algorithm {
        AlgorithmParameters::OctetKeyPair(pair) => vec![&pair.x],
        AlgorithmParameters::EllipticCurve(point) => vec![&point.x, &point.y],
        AlgorithmParameters::RSA(key) => vec![&key.n],
        _ => Vec::new(),
    }
}
