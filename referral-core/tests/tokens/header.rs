//! Header of a token: unknown algorithms, keys and members.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde_json::json;

use crate::forged::{SECRET, assert_refused, claims, eddsa, forged, header, hs256, public_key, with};

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
