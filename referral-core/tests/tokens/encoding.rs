//! Encoding of a token: each token has one text form of at most 4096 bytes.

use base64::Engine as _;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;

use crate::forged::{
    PRIVATE_KEY, SECRET, assert_refused, claims, eddsa, forged, header, hs256, message, passes, signed, with,
};

#[test]
fn token_has_exactly_one_encoding() {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let ed_header = with(header(), "alg", Some(json!("EdDSA")));
    let private = EncodingKey::from_ed_der(&PRIVATE_KEY);
    for (referral, token) in [
        (hs256(), forged(&header(), &claims())),
        (eddsa(), signed(&private, Algorithm::EdDSA, &message(&ed_header, &claims()))),
    ] {
        assert!(passes(&referral, &token));
        let parts: Vec<_> = token.split('.').collect();
        let [head, body, signature] = parts[..] else { panic!("three parts") };

        // Every other character at every position of the signature, including the unused bits of the last
        // one.
        for place in 0..signature.len() {
            for other in ALPHABET.iter().filter(|other| **other != signature.as_bytes()[place]) {
                let mut changed = signature.as_bytes().to_vec();
                changed[place] = *other;
                let changed = String::from_utf8(changed).expect("ASCII");
                assert_refused(&referral, &format!("{head}.{body}.{changed}"), "another signature");
            }
        }
        let replaced = |place: usize, text: &str| {
            let mut parts = [head, body, signature].map(str::to_owned);
            text.clone_into(&mut parts[place]);
            parts.join(".")
        };
        for (place, part) in parts.iter().enumerate() {
            for extra in ["=", "==", "A", "AA", "AAAA", ".", "\0", "\n", " ", "%3D", "\u{200b}", "é"] {
                assert_refused(&referral, &replaced(place, &format!("{part}{extra}")), "something after it");
                assert_refused(&referral, &replaced(place, &format!("{extra}{part}")), "something before it");
            }
            for cut in ["", &part[1..], &part[..part.len() - 1]] {
                assert_refused(&referral, &replaced(place, cut), "something missing");
            }
        }
        // A valid signature in the standard alphabet of Base64, instead of the one for URLs.
        let other_alphabet = signature.replace('-', "+").replace('_', "/");
        if other_alphabet != signature {
            assert_refused(&referral, &format!("{head}.{body}.{other_alphabet}"), "another alphabet");
        }
        for changed in [
            String::new(),
            ".".into(),
            "..".into(),
            "...".into(),
            "\0".into(),
            "🙂".into(),
            format!("{token}.{signature}"),
            format!("{token}.x"),
            format!("{token}\0"),
            format!("{token}&x=1"),
            format!("{token},{token}"),
            format!("{token}{token}"),
            format!("Bearer {token}"),
            format!("\"{token}\""),
            format!("\u{feff}{token}"),
            format!("{head}.{body}.{signature}.{head}.{body}"),
            format!("{body}.{head}.{signature}"),
            token.replace('.', ".."),
            token.replace('.', "\u{ff0e}"),
            token.replacen('.', "\n.", 1),
            token.to_uppercase(),
            token.chars().rev().collect(),
        ] {
            assert_refused(&referral, &changed, "not a token");
        }
        let object = json!({ "protected": head, "payload": body, "signature": signature });
        assert_refused(&referral, &object.to_string(), "as JSON");
        assert!(passes(&referral, &token), "the token itself is still valid");
    }
    // The signature covers the encoded text. A padded token with a valid signature is still rejected.
    let padded = [header().to_string(), with(claims(), "pad", Some(json!("x"))).to_string()]
        .map(|part| base64::engine::general_purpose::URL_SAFE.encode(part));
    assert!(padded.iter().any(|part| part.ends_with('=')), "{padded:?}");
    let token = signed(&EncodingKey::from_secret(&SECRET), Algorithm::HS256, &padded.join("."));
    assert_refused(&hs256(), &token, "padded and signed");
}

#[test]
fn token_of_4096_bytes_is_accepted_and_a_longer_one_is_rejected() {
    let long = |length: usize| {
        let padded =
            |padding: usize| forged(&header(), &with(claims(), "x", Some(json!("x".repeat(padding)))));
        (0..4_000).map(padded).find(|token| token.len() == length)
    };
    let [longest, longer] = [4_096, 4_098].map(|length| long(length).expect("a token of this length"));
    assert!(passes(&hs256(), &longest));
    assert_refused(&hs256(), &longer, "valid except for its length");
    // The content is not read.
    for huge in ["A", ".", "[", "🙂"] {
        assert_refused(&hs256(), &huge.repeat(1_000_000), "huge");
    }
}
