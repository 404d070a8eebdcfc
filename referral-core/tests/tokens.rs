//! Tests with forged tokens, based on the list of RFC 8725. Nearly all tokens are signed with the correct
//! key, so that they are rejected for the tested reason and not for the signature.

use std::sync::Arc;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64},
};
use jsonwebtoken::{Algorithm, EncodingKey};
use referral_core::{
    CodeInput, Error, Peppers, ReferralService, Refusal, SendCode, SignIn, SigningKeys, TokenKind, TokenPair,
    clock::Clock, sms::DevelopmentSender, storage::MemoryStorage,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

const NOW: i64 = 1_800_000_000;
const SECRET: [u8; 32] = [7; 32];

/// Ed25519 key: the prefix of PKCS #8, followed by the seed.
const PRIVATE_KEY: [u8; 48] = {
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

/// Clock that shows a fixed time 999 ms after the start of a second.
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> OffsetDateTime {
        let now = OffsetDateTime::from_unix_timestamp(NOW).expect("valid time");
        now + time::Duration::milliseconds(999)
    }
}

fn service(keys: SigningKeys) -> ReferralService {
    let peppers = Peppers::from_secret("p1", &[8; 32]).expect("sufficient length");
    ReferralService::builder(Arc::new(MemoryStorage::new()), Arc::new(DevelopmentSender), keys, peppers)
        .clock(Stopped)
        .issuer("issuer")
        .audience("audience")
        .build()
        .expect("valid policy and keys")
}

/// Returns a service whose key `k1` is the secret.
fn hs256() -> ReferralService {
    service(SigningKeys::from_secret("k1", &SECRET).expect("sufficient length"))
}

/// Returns a service whose key `k1` is the private key.
fn eddsa() -> ReferralService {
    let key = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "k1", "d": BASE64.encode(&PRIVATE_KEY[16..]) });
    service(SigningKeys::from_jwk_set(&json!({ "keys": [key] }).to_string()).expect("usable"))
}

/// Returns `true` if the token is accepted as an access token.
fn passes(referral: &ReferralService, token: &str) -> bool {
    referral.verify_without_storage(token).is_ok()
}

#[track_caller]
fn assert_refused(referral: &ReferralService, token: &str, why: &str) {
    assert!(!passes(referral, token), "{why}: {token:.400}");
}

fn header() -> Value {
    json!({ "typ": "at+jwt", "alg": "HS256", "kid": "k1" })
}

fn claims() -> Value {
    let id = uuid::Uuid::nil();
    json!({
        "iss": "issuer", "aud": "audience", "sub": id, "sid": id, "jti": id, "iat": NOW, "exp": NOW + 60,
        "token_type": "access"
    })
}

/// Returns the object with a changed or removed member.
fn with(mut object: Value, name: &str, value: Option<Value>) -> Value {
    let members = object.as_object_mut().expect("JSON object");
    match value {
        Some(value) => members.insert(name.to_owned(), value),
        None => members.remove(name),
    };
    object
}

/// Returns the signed part of a token.
fn message(header: &impl ToString, claims: &impl ToString) -> String {
    [header.to_string(), claims.to_string()].map(|part| BASE64.encode(part)).join(".")
}

/// Returns a token that is signed with a secret.
fn signed_with(secret: &[u8], header: &impl ToString, claims: &impl ToString) -> String {
    signed(&EncodingKey::from_secret(secret), Algorithm::HS256, &message(header, claims))
}

fn signed(key: &EncodingKey, algorithm: Algorithm, message: &str) -> String {
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).expect("signed");
    format!("{message}.{signature}")
}

/// Returns a token with a correct signature and any content.
fn forged(header: &impl ToString, claims: &impl ToString) -> String {
    signed_with(&SECRET, header, claims)
}

/// Returns the public key as bytes, and the set that contains it.
fn public_key(referral: &ReferralService) -> (Vec<u8>, Value) {
    let set: Value = serde_json::from_str(&referral.public_jwk_set()).expect("JSON");
    let x = set["keys"][0]["x"].as_str().expect("public key");
    (BASE64.decode(x).expect("base64url"), set)
}

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

#[test]
fn unexpected_header_is_rejected() {
    let key = json!({ "kty": "oct", "kid": "k1", "use": "sig", "k": BASE64.encode(SECRET) });
    let (_, public) = public_key(&eddsa());
    for (name, value) in [
        ("alg", None),
        ("alg", Some(json!(null))),
        ("alg", Some(json!("hs256"))),
        ("alg", Some(json!("HS384"))),
        ("alg", Some(json!("HS512"))),
        ("alg", Some(json!("RS256"))),
        ("alg", Some(json!("ES256"))),
        ("alg", Some(json!("PS256"))),
        ("alg", Some(json!("EdDSA"))),
        ("alg", Some(json!("dir"))),
        ("alg", Some(json!(["HS256"]))),
        ("kid", None),
        ("kid", Some(json!(null))),
        ("kid", Some(json!(""))),
        ("kid", Some(json!("k2"))),
        ("kid", Some(json!("K1"))),
        ("kid", Some(json!("k1\0"))),
        ("kid", Some(json!("k1 "))),
        ("kid", Some(json!("../../../../dev/null"))),
        ("kid", Some(json!("k1' OR '1'='1"))),
        ("kid", Some(json!(1))),
        ("kid", Some(json!(["k1"]))),
        ("jwk", Some(key.clone())),
        ("jwk", Some(public["keys"][0].clone())),
        ("jku", Some(json!("https://example.com/.well-known/jwks.json"))),
        ("jku", Some(json!("http://127.0.0.1/keys"))),
        ("x5u", Some(json!("https://example.com/certificate.pem"))),
        ("x5c", Some(json!(["MIIB"]))),
        ("x5c", Some(json!([]))),
        ("x5t", Some(json!("AAAA"))),
        ("x5t#S256", Some(json!("AAAA"))),
        ("crit", Some(json!([]))),
        ("crit", Some(json!(["exp"]))),
        ("crit", Some(json!(["b64"]))),
        ("crit", Some(json!(["unheard-of"]))),
        ("b64", Some(json!(false))),
        ("b64", Some(json!(true))),
        ("zip", Some(json!("DEF"))),
        ("enc", Some(json!("A128GCM"))),
        ("cty", Some(json!("JWT"))),
        ("typ", None),
        ("typ", Some(json!("jwt"))),
        ("typ", Some(json!("JWT"))),
        ("typ", Some(json!("AT+JWT"))),
        ("typ", Some(json!("application/at+jwt"))),
        ("typ", Some(json!("rt+jwt"))),
        ("typ", Some(json!("refresh+jwt"))),
        ("typ", Some(json!("access"))),
        ("nonce", Some(json!("1"))),
        ("unheard-of", Some(json!({}))),
        ("", Some(json!(null))),
    ] {
        let header = with(header(), name, value);
        assert_refused(&hs256(), &forged(&header, &claims()), &header.to_string());
    }
    for text in [
        r#"{"typ":"at+jwt","alg":"HS256","kid":"k2","kid":"k1"}"#,
        r#"{"typ":"at+jwt","alg":"HS256","kid":"k1","kid":"k1"}"#,
        r#"{"typ":"at+jwt","alg":"none","alg":"HS256","kid":"k1"}"#,
        r#"{"typ":"at+jwt","alg":"HS256","kid":"k1"}{}"#,
        r#"{"typ":"at+jwt","alg":"HS256","kid":"k1"} x"#,
        r#"{"typ":"at+jwt","alg":"HS256","kid":"k1"#,
        r#"{"typ":"at+jwt","alg":"HS256","kid":"k1",}"#,
        r#"["at+jwt","HS256","k1"]"#,
        r#""HS256""#,
        "null",
        "",
        &"[".repeat(2_000),
    ] {
        assert_refused(&hs256(), &forged(&text, &claims()), text);
    }
}

#[test]
fn only_tokens_of_this_issuer_for_this_audience_are_accepted() {
    for (name, right) in [("iss", "issuer"), ("aud", "audience")] {
        for value in [
            None,
            Some(json!(null)),
            Some(json!("")),
            Some(json!("another")),
            Some(json!(right.to_uppercase())),
            Some(json!(format!("{right} "))),
            Some(json!(format!("{right}/"))),
            Some(json!(format!("{right}\0"))),
            // A Cyrillic letter that looks like the Latin letter.
            Some(json!(right.replace(['i', 'e'], "\u{0435}"))),
            Some(json!([right])),
            Some(json!([right, "another"])),
            Some(json!([])),
            Some(json!({ right: right })),
            Some(json!(true)),
        ] {
            let claims = with(claims(), name, value);
            assert_refused(&hs256(), &forged(&header(), &claims), &claims.to_string());
        }
    }
}

#[tokio::test]
async fn access_and_refresh_tokens_are_not_interchangeable_with_any_header() {
    let referral = hs256();
    let phone = referral.parse_phone("+79608543017").expect("valid number");
    let sent = referral.send_code(SendCode::new(phone.clone())).await.expect("sent");
    let code = CodeInput::parse(sent.revealed_code.expect("revealed").reveal()).expect("digits");
    let TokenPair { access, refresh, .. } =
        referral.sign_in(SignIn::new(phone, code)).await.expect("signed in").tokens;
    let not_valid = |error: &Error| matches!(error, Error::Refused(Refusal::TokenNotValid));
    for typ in ["JWT", "at+jwt", "rt+jwt", "access", "refresh"] {
        let header = with(header(), "typ", Some(json!(typ)));
        let [access, refresh] = [&access, &refresh].map(|token| {
            let claims = BASE64.decode(token.split('.').nth(1).expect("claims")).expect("base64url");
            forged(&header, &String::from_utf8(claims).expect("UTF-8"))
        });
        assert!(referral.refresh(&access).await.is_err_and(|error| not_valid(&error)), "{typ}");
        assert!(referral.authenticate(&refresh).await.is_err_and(|error| not_valid(&error)), "{typ}");
        assert_refused(&referral, &refresh, typ);
        for (token, other) in [(&access, TokenKind::Refresh), (&refresh, TokenKind::Access)] {
            assert!(referral.verify(token, Some(other)).await.is_err_and(|error| not_valid(&error)), "{typ}");
        }
        assert_eq!(passes(&referral, &access), typ == "at+jwt");
    }
    referral.authenticate(&access).await.expect("as an access token");
    referral.refresh(&refresh).await.expect("as a refresh token");
}

/// Checks of a resource server that has only the keys, the issuer and its own name.
#[tokio::test]
async fn generic_verifier_accepts_access_tokens_and_rejects_refresh_tokens() {
    let referral = hs256();
    let phone = referral.parse_phone("+79608543017").expect("valid number");
    let sent = referral.send_code(SendCode::new(phone.clone())).await.expect("sent");
    let code = CodeInput::parse(sent.revealed_code.expect("revealed").reveal()).expect("digits");
    let tokens = referral.sign_in(SignIn::new(phone, code)).await.expect("signed in").tokens;
    let mut validation = jsonwebtoken::Validation::new(Algorithm::HS256);
    validation.set_issuer(&["issuer"]);
    validation.set_audience(&["audience"]);
    let key = jsonwebtoken::DecodingKey::from_secret(&SECRET);
    let verify = |token: &str| jsonwebtoken::decode::<Value>(token, &key, &validation);
    let access = verify(&tokens.access).expect("an access token for this audience");
    assert_eq!(access.header.typ.as_deref(), Some("at+jwt"));
    let refused = verify(&tokens.refresh).expect_err("a refresh token is for the issuer");
    assert!(matches!(refused.kind(), jsonwebtoken::errors::ErrorKind::InvalidAudience), "{refused}");
    let header = jsonwebtoken::decode_header(&tokens.refresh).expect("valid header");
    assert_eq!(header.typ.as_deref(), Some("rt+jwt"));
}

#[test]
fn audience_of_refresh_tokens_is_rejected_for_access_tokens() {
    let keys = SigningKeys::from_secret("k1", &SECRET).expect("sufficient length");
    let peppers = Peppers::from_secret("p1", &[8; 32]).expect("sufficient length");
    let builder =
        ReferralService::builder(Arc::new(MemoryStorage::new()), Arc::new(DevelopmentSender), keys, peppers);
    let built = builder.issuer("issuer").audience("issuer:refresh").build();
    assert!(matches!(built, Err(referral_core::BuildError::Audience)));
}

#[test]
fn token_has_exactly_one_of_two_types() {
    let referral = hs256();
    let refresh = with(claims(), "token_type", Some(json!("refresh")));
    assert_refused(&referral, &forged(&header(), &refresh), "refresh token");
    for kind in [
        None,
        Some(json!(null)),
        Some(json!("id")),
        Some(json!("Access")),
        Some(json!("access ")),
        Some(json!(["access"])),
        Some(json!(["refresh", "access"])),
        Some(json!({ "access": null, "refresh": null })),
        Some(json!(0)),
    ] {
        let claims = with(claims(), "token_type", kind);
        assert_refused(&referral, &forged(&header(), &claims), &claims.to_string());
    }
    let both = claims().to_string().replace(r#""access""#, r#""refresh","token_type":"access""#);
    assert_refused(&referral, &forged(&header(), &both), "both types");
}

#[test]
fn token_times_are_checked_to_the_second() {
    // The clock shows 999 ms after NOW.
    for (name, value, is_right) in [
        ("exp", json!(NOW + 1), true),
        ("exp", json!(NOW), false),
        ("exp", json!(NOW - 1), false),
        ("exp", json!(0), false),
        ("exp", json!(-1), false),
        ("exp", json!(i64::MIN), false),
        ("iat", json!(NOW + 5), true),
        ("iat", json!(NOW + 6), false),
        ("iat", json!(i64::MAX), false),
        ("iat", json!(0), true),
    ] {
        let claims = with(claims(), name, Some(value));
        assert_eq!(passes(&hs256(), &forged(&header(), &claims)), is_right, "{claims}");
    }
}

#[test]
fn times_must_be_whole_seconds_within_the_calendar() {
    for name in ["exp", "iat"] {
        let time = claims()[name].to_string();
        for text in [
            "null",
            "true",
            "\"\"",
            "[]",
            "{}",
            &format!("\"{time}\""),
            &format!("[{time}]"),
            &format!("{time}.0"),
            &format!("{time}.5"),
            "18e8",
            "1.8e9",
            "1e300",
            "1e999",
            "-1e300",
            "9223372036854775808",
            "18446744073709551615",
            "340282366920938463463374607431768211456",
            &"9".repeat(1_000),
            "0x6b49d200",
            "01800000000",
            "NaN",
            "Infinity",
        ] {
            let claims =
                claims().to_string().replace(&format!(r#""{name}":{time}"#), &format!(r#""{name}":{text}"#));
            assert_refused(&hs256(), &forged(&header(), &claims), &claims);
        }
    }
    for beyond in [i64::MAX, 253_402_300_800] {
        let claims = with(claims(), "exp", Some(json!(beyond)));
        assert_refused(&hs256(), &forged(&header(), &claims), "after the year 9999");
    }
}

#[test]
fn claims_must_be_an_object_without_duplicates() {
    let right = claims();
    for (name, value) in right.as_object().expect("JSON object") {
        let missing = with(right.clone(), name, None);
        assert_refused(&hs256(), &forged(&header(), &missing), name);
        // The same member again, at the end and at the start.
        let text = right.to_string();
        let inner = &text[1..text.len() - 1];
        for twice in [format!(r#"{{{inner},"{name}":{value}}}"#), format!(r#"{{"{name}":{value},{inner}}}"#)]
        {
            assert_refused(&hs256(), &forged(&header(), &twice), &twice);
        }
        let escaped = format!(r#"{{{inner},"\u{:04x}{}":{value}}}"#, name.as_bytes()[0], &name[1..]);
        assert_refused(&hs256(), &forged(&header(), &escaped), &escaped);
    }
    for name in ["sub", "sid", "jti"] {
        for value in
            [json!("anna"), json!(""), json!(null), json!(1), json!(["00000000-0000-0000-0000-000000000000"])]
        {
            let claims = with(claims(), name, Some(value));
            assert_refused(&hs256(), &forged(&header(), &claims), &claims.to_string());
        }
    }
    let listed = json!(
        ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "token_type"].map(|name| right[name].clone())
    );
    for text in [
        "",
        "null",
        "{}",
        "[]",
        &listed.to_string(),
        &json!([right]).to_string(),
        &json!(right.to_string()).to_string(),
        &format!("{right}{right}"),
        &format!("{right}\0"),
        &right.to_string().replace('"', "'"),
        &format!("\u{feff}{right}"),
        &"{\"a\":".repeat(500),
    ] {
        assert_refused(&hs256(), &forged(&header(), &text), text);
    }
    let not_utf_8 = [b"{\"iss\":\"issuer\xff\"}".as_slice(), right.to_string().as_bytes()].map(|claims| {
        let message = format!("{}.{}", BASE64.encode(header().to_string()), BASE64.encode(claims));
        signed(&EncodingKey::from_secret(&SECRET), Algorithm::HS256, &message)
    });
    assert_eq!(not_utf_8.map(|token| passes(&hs256(), &token)), [false, true]);
}

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
