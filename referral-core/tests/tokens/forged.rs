//! Forged tokens, and the services that must reject them.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jsonwebtoken::{Algorithm, EncodingKey};
use referral_core::{
    ReferralService, Refusal,
    clock::Clock,
    keys::{Peppers, SigningKeys},
    sms::DevelopmentSender,
    storage::MemoryStorage,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const SECRET: [u8; 32] = [7; 32];

/// Ed25519 key: the prefix of PKCS #8, followed by the seed.
pub(crate) const PRIVATE_KEY: [u8; 48] = {
    let mut key = [9; 48];
    let prefix =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let mut place = 0;
    while place < prefix.len() {
        key[place] = prefix[place];
        place += 1;
    }
    key
};

/// Returns a service whose key `k1` is the secret.
pub(crate) fn hs256() -> ReferralService {
    service(SigningKeys::from_secret("k1", &SECRET).expect("sufficient length"))
}

/// Returns a service whose key `k1` is the private key.
pub(crate) fn eddsa() -> ReferralService {
    let key = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "k1", "d": BASE64.encode(&PRIVATE_KEY[16..]) });
    service(SigningKeys::from_jwk_set(&json!({ "keys": [key] }).to_string()).expect("usable"))
}

pub(crate) fn service(keys: SigningKeys) -> ReferralService {
    let peppers = Peppers::from_secret("p1", &[8; 32]).expect("sufficient length");
    ReferralService::builder(Arc::new(MemoryStorage::new()), Arc::new(DevelopmentSender), keys, peppers)
        .clock(Arc::new(Stopped))
        .issuer("issuer")
        .audience("audience")
        .build()
        .expect("valid policy and keys")
}

/// Clock that shows a fixed time 999 ms after the start of a second.
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> OffsetDateTime {
        let now = OffsetDateTime::from_unix_timestamp(NOW).expect("valid time");
        now + time::Duration::milliseconds(999)
    }
}

/// Returns `true` if the token is accepted as an access token.
pub(crate) fn passes(referral: &ReferralService, token: &str) -> bool {
    match referral.verify_without_storage(token) {
        Ok(_) => true,
        Err(Refusal::TokenNotValid) => false,
        Err(refusal) => panic!("{refusal}: {token:.400}"),
    }
}

#[track_caller]
pub(crate) fn assert_refused(referral: &ReferralService, token: &str, why: &str) {
    assert!(!passes(referral, token), "{why}: {token:.400}");
}

/// Returns a token with a correct signature and any content.
pub(crate) fn forged(header: &impl ToString, claims: &impl ToString) -> String {
    signed_with(&SECRET, header, claims)
}

/// Returns a token that is signed with a secret.
pub(crate) fn signed_with(secret: &[u8], header: &impl ToString, claims: &impl ToString) -> String {
    signed(&EncodingKey::from_secret(secret), Algorithm::HS256, &message(header, claims))
}

pub(crate) fn signed(key: &EncodingKey, algorithm: Algorithm, message: &str) -> String {
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).expect("signed");
    format!("{message}.{signature}")
}

/// Returns the signed part of a token.
pub(crate) fn message(header: &impl ToString, claims: &impl ToString) -> String {
    [header.to_string(), claims.to_string()].map(|part| BASE64.encode(part)).join(".")
}

pub(crate) fn header() -> Value {
    json!({ "typ": "at+jwt", "alg": "HS256", "kid": "k1" })
}

pub(crate) fn claims() -> Value {
    let id = uuid::Uuid::nil();
    json!({
        "iss": "issuer", "aud": "audience", "sub": id, "sid": id, "jti": id, "iat": NOW, "exp": NOW + 60,
        "token_type": "access"
    })
}

/// Returns the object with a changed or removed member.
pub(crate) fn with(mut object: Value, name: &str, value: Option<Value>) -> Value {
    let members = object.as_object_mut().expect("JSON object");
    match value {
        Some(value) => members.insert(name.to_owned(), value),
        None => members.remove(name),
    };
    object
}

/// Returns the public key as bytes, and the set that contains it.
pub(crate) fn public_key(referral: &ReferralService) -> (Vec<u8>, Value) {
    let set: Value = serde_json::from_str(&referral.public_jwk_set()).expect("JSON");
    let x = set["keys"][0]["x"].as_str().expect("public key");
    (BASE64.decode(x).expect("base64url"), set)
}
