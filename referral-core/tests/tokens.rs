//! Forged tokens, after the list of RFC 8725. Nearly all are signed with the right key, so that what
//! refuses them is what their line says, and not the signature.

use std::sync::Arc;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64},
};
use jsonwebtoken::{Algorithm, EncodingKey};
use referral_core::{
    CodeInput, Error, Peppers, Referral, Refusal, SendCode, SignIn, SigningKeys, TokenKind, TokenPair,
    clock::Clock, sms::DevelopmentSender, storage::MemoryStorage,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

const NOW: i64 = 1_800_000_000;
const SECRET: [u8; 32] = [7; 32];

/// The seed of an Ed25519 key, after what PKCS #8 has before it.
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

/// A clock that stands still, in the midst of a second.
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> OffsetDateTime {
        let now = OffsetDateTime::from_unix_timestamp(NOW).expect("a time");
        now + time::Duration::milliseconds(999)
    }
}

fn service(keys: SigningKeys) -> Referral {
    let peppers = Peppers::from_secret("p1", &[8; 32]).expect("long enough");
    Referral::builder(Arc::new(MemoryStorage::new()), Arc::new(DevelopmentSender), keys, peppers)
        .clock(Stopped)
        .issuer("issuer")
        .audience("audience")
        .build()
        .expect("a sound policy and a sound key")
}

/// A service whose key `k1` is the secret.
fn hs256() -> Referral {
    service(SigningKeys::from_secret("k1", &SECRET).expect("long enough"))
}

/// A service whose key `k1` is the private one.
fn eddsa() -> Referral {
    let key = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "k1", "d": BASE64.encode(&PRIVATE_KEY[16..]) });
    service(SigningKeys::from_jwk_set(&json!({ "keys": [key] }).to_string()).expect("usable"))
}

/// Whether a token passes for an access token.
fn passes(referral: &Referral, token: &str) -> bool {
    referral.verify_without_storage(token).is_ok()
}

#[track_caller]
fn assert_refused(referral: &Referral, token: &str, why: &str) {
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

/// The object with another value in a place, or with none.
fn with(mut object: Value, name: &str, value: Option<Value>) -> Value {
    let members = object.as_object_mut().expect("an object");
    match value {
        Some(value) => members.insert(name.to_owned(), value),
        None => members.remove(name),
    };
    object
}

/// What a signature is made of.
fn message(header: &impl ToString, claims: &impl ToString) -> String {
    [header.to_string(), claims.to_string()].map(|part| BASE64.encode(part)).join(".")
}

/// The same with a signature by a secret.
fn signed_with(secret: &[u8], header: &impl ToString, claims: &impl ToString) -> String {
    signed(&EncodingKey::from_secret(secret), Algorithm::HS256, &message(header, claims))
}

fn signed(key: &EncodingKey, algorithm: Algorithm, message: &str) -> String {
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).expect("signed");
    format!("{message}.{signature}")
}

/// A token that is right in all but what it says.
fn forged(header: &impl ToString, claims: &impl ToString) -> String {
    signed_with(&SECRET, header, claims)
}

/// The public half of the private key: its bytes, and what holds them.
fn public_key(referral: &Referral) -> (Vec<u8>, Value) {
    let set: Value = serde_json::from_str(&referral.public_jwk_set()).expect("JSON");
    let x = set["keys"][0]["x"].as_str().expect("a public key");
    (BASE64.decode(x).expect("base64url"), set)
}

#[test]
fn what_is_forged_here_is_right_but_for_what_is_changed() {
    assert!(passes(&hs256(), &forged(&header(), &claims())));
    let ed_header = with(header(), "alg", Some(json!("EdDSA")));
    let key = EncodingKey::from_ed_der(&PRIVATE_KEY);
    let token = signed(&key, Algorithm::EdDSA, &message(&ed_header, &claims()));
    assert!(passes(&eddsa(), &token));
    // The order of members and the space between them are nobody's business.
    let spaced = r#" { "kid" : "k1", "alg": "HS256",  "typ":"at+jwt" } "#;
    assert!(passes(&hs256(), &forged(&spaced, &claims())));
}

#[test]
fn a_token_without_a_signature_is_refused() {
    for referral in [hs256(), eddsa()] {
        for name in ["none", "None", "NONE", "nOnE", "none ", "", "null"] {
            for key in [Some(json!("k1")), Some(json!("")), None] {
                let header = with(with(header(), "alg", Some(json!(name))), "kid", key);
                let message = message(&header, &claims());
                for end in ["", ".", "..", ".AA", ".bm9uZQ"] {
                    assert_refused(&referral, &format!("{message}{end}"), "no signature");
                }
                assert_refused(&referral, &forged(&header, &claims()), "a right one under no algorithm");
            }
        }
        let message = message(&header(), &claims());
        assert_refused(&referral, &message, "left out");
        assert_refused(&referral, &format!("{message}."), "empty");
    }
}

#[test]
fn a_public_key_is_no_secret_in_whatever_form() {
    let referral = eddsa();
    let (public, set) = public_key(&referral);
    let jwk = &set["keys"][0];
    let spki = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], &*public].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", STANDARD.encode(&spki));
    let secrets: [Vec<u8>; 9] = [
        public.clone(),
        jwk["x"].as_str().expect("a public key").into(),
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
        // And under the name of the algorithm that the key has.
        let header = with(header(), "alg", Some(json!("EdDSA")));
        assert_refused(&referral, &signed_with(secret, &header, &claims()), "EdDSA");
    }
}

#[test]
fn each_key_verifies_with_its_own_algorithm_and_what_it_signed() {
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
fn a_header_that_is_not_the_one_that_the_key_writes_is_refused() {
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
fn only_tokens_of_this_issuer_for_this_audience_are_honoured() {
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
            // A Cyrillic letter that looks like the Latin one.
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
async fn one_kind_never_passes_as_the_other_whatever_its_header_says() {
    let referral = hs256();
    let phone = referral.parse_phone("+79608543017").expect("a mobile number");
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
    referral.authenticate(&access).await.expect("as what it is");
    referral.refresh(&refresh).await.expect("as what it is");
}

/// What a resource server checks that knows no more than the keys, the issuer and its own name.
#[tokio::test]
async fn a_generic_verifier_takes_an_access_token_and_no_refresh_token() {
    let referral = hs256();
    let phone = referral.parse_phone("+79608543017").expect("a mobile number");
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
    let header = jsonwebtoken::decode_header(&tokens.refresh).expect("a header");
    assert_eq!(header.typ.as_deref(), Some("rt+jwt"));
}

#[test]
fn the_audience_of_refresh_tokens_is_no_audience_of_access_tokens() {
    let keys = SigningKeys::from_secret("k1", &SECRET).expect("long enough");
    let peppers = Peppers::from_secret("p1", &[8; 32]).expect("long enough");
    let builder =
        Referral::builder(Arc::new(MemoryStorage::new()), Arc::new(DevelopmentSender), keys, peppers);
    let built = builder.issuer("issuer").audience("issuer:refresh").build();
    assert!(matches!(built, Err(referral_core::BuildError::Audience)));
}

#[test]
fn a_token_is_of_one_of_two_kinds() {
    let referral = hs256();
    let refresh = with(claims(), "token_type", Some(json!("refresh")));
    assert_refused(&referral, &forged(&header(), &refresh), "it is for refreshing");
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
    assert_refused(&referral, &forged(&header(), &both), "of both kinds");
}

#[test]
fn a_token_is_honoured_to_the_second() {
    // The clock shows 999 ms more than NOW.
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
fn times_are_whole_seconds_that_a_calendar_has() {
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
fn claims_are_an_object_that_says_each_thing_once() {
    let right = claims();
    for (name, value) in right.as_object().expect("an object") {
        let missing = with(right.clone(), name, None);
        assert_refused(&hs256(), &forged(&header(), &missing), name);
        // The same again, at the end and at the beginning.
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
fn a_token_is_written_in_one_way_only() {
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

        // Every other character in every place of the signature, the last one's unused bits among them.
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
        // Signed, and with the alphabet of base64 that is not for URLs, or padded.
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
        assert!(passes(&referral, &token), "and it is still good itself");
    }
    // What is signed counts as it is written: padded, it is another message, and not one of ours.
    let padded = [header().to_string(), with(claims(), "pad", Some(json!("x"))).to_string()]
        .map(|part| base64::engine::general_purpose::URL_SAFE.encode(part));
    assert!(padded.iter().any(|part| part.ends_with('=')), "{padded:?}");
    let token = signed(&EncodingKey::from_secret(&SECRET), Algorithm::HS256, &padded.join("."));
    assert_refused(&hs256(), &token, "padded and signed");
}

#[test]
fn a_token_of_4096_bytes_is_read_and_a_longer_one_is_not() {
    let long = |length: usize| {
        let padded =
            |padding: usize| forged(&header(), &with(claims(), "x", Some(json!("x".repeat(padding)))));
        (0..4_000).map(padded).find(|token| token.len() == length)
    };
    let [longest, longer] = [4_096, 4_098].map(|length| long(length).expect("such a one"));
    assert!(passes(&hs256(), &longest));
    assert_refused(&hs256(), &longer, "right in all but its length");
    // Whatever is in it: nothing looks.
    for huge in ["A", ".", "[", "🙂"] {
        assert_refused(&hs256(), &huge.repeat(1_000_000), "huge");
    }
}
