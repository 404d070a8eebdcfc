//! Checks that only tokens that this service signed, with the claims of an access token, are accepted.
//!
//! An input of two lines is a header and claims. They are signed with each key of the service, and with the
//! public part of a key as an HMAC secret. Any other input is taken as a token. Only one token of each key,
//! which is among the seeds, is accepted: the fuzzer derives other inputs from it.

#![no_main]

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use libfuzzer_sys::fuzz_target;
use referral_core::{ReferralService, VerifiedToken, policy::Policy};
use referral_fuzz::{START, Standing, service};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

const KEYS: &str = r#"{"keys":[
    {"kty":"oct","kid":"hs","use":"sig","k":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"},
    {"kty":"OKP","crv":"Ed25519","kid":"ed","d":"CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk"}]}"#;

/// Bytes before the 32 bytes of an Ed25519 private key in PKCS #8 (RFC 8410, section 7).
const PKCS8: &[u8] = &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// Claims of an access token of this service that is valid from [`START`] for 15 minutes.
const CLAIMS: &str = r#"{"iss":"referral","aud":"referral","sub":"01a205db-5716-7487-8833-9f4e232f2f0d","sid":"01a205db-5716-7487-8833-9f4e232f2f0d","jti":"01a205db-5716-7487-8833-9f4e232f2f0d","iat":1795342530,"exp":1795343430,"token_type":"access"}"#;

/// Key that signs, and the only header that is accepted with it.
struct Key {
    encoding: EncodingKey,
    algorithm: Algorithm,
    header: Option<&'static str>,
}

struct Fixture {
    referral: ReferralService,
    keys: Vec<Key>,
    /// Tokens of [`CLAIMS`], one for each key of the service.
    signed: Vec<String>,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let referral = service(KEYS, Policy::standard(), 1)
        .clock(std::sync::Arc::new(Standing))
        .build()
        .expect("valid keys");
    let public: Value = serde_json::from_str(&referral.public_jwk_set()).expect("a key set");
    let public = BASE64.decode(public["keys"][0]["x"].as_str().expect("a point")).expect("base64");
    let keys = vec![
        Key {
            encoding: EncodingKey::from_secret(&[7; 32]),
            algorithm: Algorithm::HS256,
            header: Some(r#"{"typ":"at+jwt","alg":"HS256","kid":"hs"}"#),
        },
        Key {
            encoding: EncodingKey::from_ed_der(&[PKCS8, &[9; 32]].concat()),
            algorithm: Algorithm::EdDSA,
            header: Some(r#"{"typ":"at+jwt","alg":"EdDSA","kid":"ed"}"#),
        },
        // A public key must not work as a secret.
        Key { encoding: EncodingKey::from_secret(&public), algorithm: Algorithm::HS256, header: None },
    ];
    let signed: Vec<_> = keys.iter().filter_map(|key| Some(sign(key.header?, CLAIMS, key))).collect();
    for token in &signed {
        assert!(
            referral.verify_without_storage(token).is_ok(),
            "the service must accept its own token: {token}"
        );
    }
    Fixture { referral, keys, signed }
});

fuzz_target!(|input: &str| {
    let Fixture { referral, keys, signed } = &*FIXTURE;
    let Some((header, claims)) = input.split_once('\n') else {
        assert_eq!(referral.verify_without_storage(input).is_ok(), signed.iter().any(|token| token == input));
        return;
    };
    for key in keys {
        let token = sign(header, claims, key);
        if let Ok(verified) = referral.verify_without_storage(&token) {
            assert!(is_ours(header, key), "{header}");
            assert!(is_valid(claims, &verified), "{claims}");
        }
    }
});

fn sign(header: &str, claims: &str, key: &Key) -> String {
    let message = [header, claims].map(|part| BASE64.encode(part)).join(".");
    let signature = crypto::sign(message.as_bytes(), &key.encoding, key.algorithm).expect("signed");
    format!("{message}.{signature}")
}

/// Returns `true` if a header is the header of `key`, apart from members that are `null`.
fn is_ours(header: &str, key: &Key) -> bool {
    let read = |header| serde_json::from_str::<Map<String, Value>>(header).ok();
    let mut given = read(header).unwrap_or_default();
    given.retain(|_, value| !value.is_null());
    key.header.is_some_and(|ours| read(ours) == Some(given))
}

/// Claims that an access token must have. Other claims are ignored. The type is derived with serde, which
/// also accepts a list for a struct and an object for the name of a variant.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: Uuid,
    sid: Uuid,
    jti: Uuid,
    iat: i64,
    exp: i64,
    token_type: Value,
}

/// Returns `true` if claims are those of an access token of this service that is valid at [`START`].
fn is_valid(claims: &str, verified: &VerifiedToken) -> bool {
    let Ok(claims) = serde_json::from_str::<Claims>(claims) else {
        return false;
    };
    let now = START.unix_timestamp();
    claims.iss == "referral"
        && claims.aud == "referral"
        && (claims.token_type == "access" || claims.token_type == json!({ "access": null }))
        && claims.exp > now
        && claims.iat <= now + 5
        && [claims.sub, claims.sid, claims.jti] == [verified.user.0, verified.session.0, verified.id]
        && claims.exp == verified.expires_at.unix_timestamp()
}
