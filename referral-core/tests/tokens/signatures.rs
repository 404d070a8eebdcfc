//! Signatures: tokens without one, and keys that are used with another algorithm.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64},
};
use jsonwebtoken::{Algorithm, EncodingKey};
use referral_core::keys::SigningKeys;
use serde_json::json;

use crate::forged::{
    PRIVATE_KEY, SECRET, assert_refused, claims, eddsa, forged, header, hs256, message, passes, public_key,
    service, signed, signed_with, with,
};

#[test]
fn unmodified_test_tokens_are_accepted() {
    assert!(passes(&hs256(), &forged(&header(), &claims())));
    let ed_header = with(header(), "alg", Some(json!("EdDSA")));
    let key = EncodingKey::from_ed_der(&PRIVATE_KEY);
    let token = signed(&key, Algorithm::EdDSA, &message(&ed_header, &claims()));
    assert!(passes(&eddsa(), &token));
    // The order of members and the white space are irrelevant.
    let spaced = r#" { "kid" : "k1", "alg": "HS256",  "typ":"at+jwt" } "#;
    assert!(passes(&hs256(), &forged(&spaced, &claims())));
}

#[test]
fn token_without_a_signature_is_rejected() {
    for referral in [hs256(), eddsa()] {
        for name in ["none", "None", "NONE", "nOnE", "none ", "", "null"] {
            for key in [Some(json!("k1")), Some(json!("")), None] {
                let header = with(with(header(), "alg", Some(json!(name))), "kid", key);
                let message = message(&header, &claims());
                for end in ["", ".", "..", ".AA", ".bm9uZQ"] {
                    assert_refused(&referral, &format!("{message}{end}"), "no signature");
                }
                assert_refused(
                    &referral,
                    &forged(&header, &claims()),
                    "valid signature without an algorithm",
                );
            }
        }
        let message = message(&header(), &claims());
        assert_refused(&referral, &message, "no signature part");
        assert_refused(&referral, &format!("{message}."), "empty signature part");
    }
}

#[test]
fn public_key_in_any_encoding_is_not_accepted_as_a_secret() {
    let referral = eddsa();
    let (public, set) = public_key(&referral);
    let jwk = &set["keys"][0];
    let spki = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], &*public].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", STANDARD.encode(&spki));
    let secrets: [Vec<u8>; 9] = [
        public.clone(),
        jwk["x"].as_str().expect("public key").into(),
        STANDARD.encode(&public).into(),
        jwk.to_string().into(),
        referral.public_jwk_set().into(),
        format!("{pem}\n").into(),
        pem.into(),
        spki,
        Vec::new(),
    ];
    for secret in &secrets {
        for (name, algorithm) in
            [("HS256", Algorithm::HS256), ("HS384", Algorithm::HS384), ("HS512", Algorithm::HS512)]
        {
            let header = with(header(), "alg", Some(json!(name)));
            let token = signed(&EncodingKey::from_secret(secret), algorithm, &message(&header, &claims()));
            assert_refused(&referral, &token, name);
        }
        // Also with the algorithm of the key in the header.
        let header = with(header(), "alg", Some(json!("EdDSA")));
        assert_refused(&referral, &signed_with(secret, &header, &claims()), "EdDSA");
    }
}

#[test]
fn each_key_verifies_only_its_own_signatures_and_algorithm() {
    let keys = json!({ "keys": [
        { "kty": "OKP", "crv": "Ed25519", "kid": "public", "d": BASE64.encode(&PRIVATE_KEY[16..]) },
        { "kty": "oct", "kid": "secret", "use": "sig", "k": BASE64.encode(SECRET) },
    ] });
    let referral = service(SigningKeys::from_jwk_set(&keys.to_string()).expect("usable"));
    let private = (EncodingKey::from_ed_der(&PRIVATE_KEY), Algorithm::EdDSA, "public");
    let secret = (EncodingKey::from_secret(&SECRET), Algorithm::HS256, "secret");
    for (key, algorithm, own) in [&private, &secret] {
        for name in ["EdDSA", "HS256"] {
            for id in ["public", "secret"] {
                let header = json!({ "typ": "at+jwt", "alg": name, "kid": id });
                let token = signed(key, *algorithm, &message(&header, &claims()));
                let is_right = id == *own && name == format!("{algorithm:?}");
                assert_eq!(passes(&referral, &token), is_right, "{own}: {header}");
            }
        }
    }
}
