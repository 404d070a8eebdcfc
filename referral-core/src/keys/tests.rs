//! Tests of keys and peppers.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde_json::json;

use jsonwebtoken::Algorithm;

use super::*;
use crate::{keys::jwk::MIN_SECRET_BYTES, random::SystemRandom};

/// Key of 2048 bits for tests, in PKCS #1.
const RSA: &str = include_str!("../../tests/data/rsa_key.txt");

/// Returns a key ring with an RSA key.
pub(crate) fn rsa() -> SigningKeys {
    SigningKeys::from_rsa_der("rsa", &rsa_der()).expect("an RSA key")
}

/// Returns a key ring of peppers with these ids. Each id has its own secret.
pub(crate) fn pepper_ring(ids: &[&str]) -> Peppers {
    let key = |id: &&str| {
        let secret: Vec<u8> = id.bytes().cycle().take(MIN_SECRET_BYTES).collect();
        json!({ "kty": "oct", "kid": id, "use": "pepper", "k": BASE64.encode(secret) })
    };
    let keys: Vec<_> = ids.iter().map(key).collect();
    Peppers::from_jwk_set(&json!({ "keys": keys }).to_string()).expect("usable")
}

fn rsa_der() -> Vec<u8> {
    let lines: String = RSA.lines().filter(|line| !line.starts_with('#')).collect();
    base64::engine::general_purpose::STANDARD.decode(lines).expect("Base64")
}

#[test]
fn generated_key_sets_can_be_parsed() {
    let set = SigningKeys::generate(&SystemRandom).to_jwk_set();
    let keys = SigningKeys::from_jwk_set(&set).expect("usable");
    assert_eq!(keys.current().header.alg, Algorithm::EdDSA);
    for (keys, algorithm) in [
        (SigningKeys::generate_symmetric(&SystemRandom), Algorithm::HS256),
        (SigningKeys::generate_p256(&SystemRandom), Algorithm::ES256),
        (rsa(), Algorithm::RS256),
    ] {
        let stored = SigningKeys::from_jwk_set(&keys.to_jwk_set()).expect("usable");
        assert_eq!(stored.current().header.alg, algorithm);
        assert_eq!(stored.public_jwk_set(), keys.public_jwk_set());
        assert_eq!(stored.fingerprints(), keys.fingerprints());
    }
    assert!(Peppers::from_jwk_set(&Peppers::generate(&SystemRandom).to_jwk_set()).is_ok());
}

#[test]
fn public_key_set_has_no_private_member() {
    for (keys, algorithm, members) in [
        (SigningKeys::generate(&SystemRandom), "EdDSA", &["crv", "x"][..]),
        (SigningKeys::generate_p256(&SystemRandom), "ES256", &["crv", "x", "y"]),
        (rsa(), "RS256", &["e", "n"]),
    ] {
        let public: serde_json::Value = serde_json::from_str(&keys.public_jwk_set()).expect("JSON");
        let key = public["keys"][0].as_object().expect("a key");
        assert_eq!(key["kid"], keys.current().id());
        assert_eq!(key["alg"], algorithm);
        let mut names: Vec<_> = key.keys().map(String::as_str).collect();
        names.retain(|name| !["kid", "alg", "use", "kty"].contains(name));
        names.sort_unstable();
        assert_eq!(names, members);
    }

    let symmetric = SigningKeys::from_secret("a", &[7; 32]).expect("long enough");
    assert_eq!(symmetric.public_jwk_set(), r#"{"keys":[]}"#);
}

#[test]
fn invalid_key_sets_are_rejected_with_a_reason() {
    let twice = format!(r#"{{"keys":[{0},{0}]}}"#, r#"{"kty":"oct","kid":"a","k":"AAAA"}"#);
    let p384 = r#"{"keys":[{"kty":"EC","crv":"P-384","kid":"a"}]}"#;
    for (set, reason) in [
        ("", "not a JSON Web Key Set: it is empty"),
        ("\u{feff}{}", "byte order mark"),
        ("{", "not a JSON Web Key Set"),
        (r#"{"keys":[]}"#, "has no key"),
        (&twice, "two keys have the id `a`"),
        (p384, "the type of the key `a` is not supported"),
    ] {
        let error = SigningKeys::from_jwk_set(set).expect_err(set).to_string();
        assert!(error.contains(reason), "{error}");
        let error = Peppers::from_jwk_set(set).expect_err(set).to_string();
        assert!(error.contains(reason), "{error}");
    }
    let short =
        |purpose: &str| format!(r#"{{"keys":[{{"kty":"oct","kid":"a","use":"{purpose}","k":"c2hvcnQ"}}]}}"#);
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
    let peppers = Peppers::generate(&SystemRandom).to_jwk_set();
    let error = SigningKeys::from_jwk_set(&peppers).expect_err("peppers").to_string();
    assert!(error.contains(r#"has "use": "pepper", so it is not a signing key"#), "{error}");
    for keys in [
        SigningKeys::generate(&SystemRandom).to_jwk_set(),
        SigningKeys::generate_symmetric(&SystemRandom).to_jwk_set(),
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
    let set = SigningKeys::generate(&SystemRandom).to_jwk_set();
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
    let peppers = Peppers::generate(&SystemRandom).to_jwk_set();
    assert!(!peppers.contains("alg"), "{}", &*peppers);
    let set = SigningKeys::generate(&SystemRandom).to_jwk_set().replace("EdDSA", "HS256");
    let error = SigningKeys::from_jwk_set(&set).expect_err("HS256").to_string();
    assert!(error.contains("EdDSA"), "{error}");
}

#[test]
fn public_key_of_another_private_key_is_rejected() {
    for (generate, members) in [
        (SigningKeys::generate as fn(&dyn Random) -> SigningKeys, &["x"][..]),
        (SigningKeys::generate_p256, &["x", "y"]),
    ] {
        let set = || serde_json::from_str(&generate(&SystemRandom).to_jwk_set()).expect("JSON");
        let other: serde_json::Value = set();
        for member in members {
            let mut one: serde_json::Value = set();
            one["keys"][0][member] = other["keys"][0][member].clone();
            let error = SigningKeys::from_jwk_set(&one.to_string()).expect_err("mismatch");
            assert!(error.to_string().contains("not the public key"), "{error}");
        }
    }
}

#[test]
fn invalid_rsa_keys_are_rejected() {
    let set: serde_json::Value = serde_json::from_str(&rsa().to_jwk_set()).expect("JSON");
    for (member, value, reason) in [
        ("n", json!("AQAB"), "2048 to 4096 bits"),
        ("p", json!(null), "must be numbers"),
        ("qi", json!(""), "must be numbers"),
        ("d", json!("AAAA"), "must be numbers"),
        ("dq", json!("=="), "must be numbers"),
        ("alg", json!("RS512"), "RS256"),
    ] {
        let mut set = set.clone();
        set["keys"][0][member] = value;
        let error = SigningKeys::from_jwk_set(&set.to_string()).expect_err(member).to_string();
        assert!(error.contains(reason), "{error}");
    }
    let der = rsa_der();
    for der in [&[][..], &der[..100], &[0x30; 2_000]] {
        let error = SigningKeys::from_rsa_der("a", der).expect_err("broken").to_string();
        assert!(error.contains("not an RSA private key"), "{error}");
    }
}

#[test]
fn hash_depends_on_the_boundaries_of_its_parts() {
    let peppers = Peppers::from_secret("a", &[7; 32]).expect("long enough");
    assert_ne!(peppers.hash("a", &[b"ab", b"c"]), peppers.hash("a", &[b"a", b"bc"]));
    assert_eq!(peppers.hash("b", &[b"ab"]), None);
}
