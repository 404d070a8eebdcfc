use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::user::tests::user;

const NAME: &str = "https://example.com/claims";

fn named(name: &str) -> ClaimsFn {
    ClaimsFn::new(name.to_owned(), |_, _| 1)
}

fn call<C: Serialize>(value: impl Fn() -> C + Send + Sync + 'static) -> Result<Option<String>, ClaimsError> {
    let claims = ClaimsFn::new(NAME.to_owned(), move |_, _| value());
    let claims = claims.call(&user(1), SessionId(Uuid::nil()))?;
    let Some(claims) = claims else { return Ok(None) };
    assert_eq!(CustomClaims::from_stored(claims.as_str()).as_ref(), Ok(&claims), "restored");
    Ok(Some(claims.as_str().to_owned()))
}

#[test]
fn any_json_value_is_written_in_a_fixed_order() {
    // The fields of a struct are sorted as well, at each depth.
    #[derive(Clone, Serialize)]
    struct Unsorted {
        role: &'static str,
        inner: BTreeMap<&'static str, u8>,
        #[serde(rename = "Имя")]
        name: &'static str,
    }
    let unsorted = Unsorted { role: "a\"\\\0", inner: [("y", 2), ("x", 1)].into(), name: "Анна 🙂" };
    for (value, expected) in [
        (json!("admin"), r#""admin""#),
        (json!(false), "false"),
        (json!(0.1), "0.1"),
        (json!(u64::MAX), "18446744073709551615"),
        (json!([[], {}]), "[[],{}]"),
        (json!(unsorted), r#"{"inner":{"x":1,"y":2},"role":"a\"\\\u0000","Имя":"Анна 🙂"}"#),
    ] {
        let text = call(move || value.clone()).expect("a JSON value");
        assert_eq!(text, Some(format!(r#"{{"{NAME}":{expected}}}"#)));
    }
}

#[test]
fn null_means_no_claims() {
    assert_eq!(call(|| ()).expect("null"), None);
    assert_eq!(call(|| None::<u8>).expect("null"), None);
    assert_eq!(call(|| f64::NAN).expect("null"), None);
}

#[test]
fn size_is_limited_to_2048_bytes_with_the_name() {
    let others = format!(r#"{{"{NAME}":""}}"#).len();
    let longest = call(move || "x".repeat(2_048 - others)).expect("not too large").expect("claims");
    assert_eq!(longest.len(), 2_048);
    assert_eq!(named(NAME).largest().expect("not too large").as_str(), longest);
    assert!(named(&format!("a:{}", "b".repeat(253))).largest().is_ok());
    let too_large = call(move || "x".repeat(2_049 - others));
    assert!(matches!(too_large, Err(ClaimsError::TooLarge { bytes: 2_049 })), "{too_large:?}");
    // Bytes are counted, and not characters.
    let in_cyrillic = call(|| "я".repeat(1_024));
    assert!(matches!(in_cyrillic, Err(ClaimsError::TooLarge { .. })), "{in_cyrillic:?}");
}

#[test]
fn value_that_is_not_json_is_an_error() {
    let bytes_as_key = call(|| BTreeMap::from([(vec![1_u8], 1)]));
    assert!(matches!(bytes_as_key, Err(ClaimsError::NotJson(_))), "{bytes_as_key:?}");
    let nested = |depth| call(move || (1..depth).fold(json!([]), |inner, _| json!([inner])));
    assert!(nested(126).is_ok());
    let too_deep = nested(127);
    assert!(matches!(too_deep, Err(ClaimsError::NotJson(_))), "{too_deep:?}");
}

#[test]
fn panic_of_the_function_is_an_error() {
    let panicked = call(|| -> u8 { panic!("a fault of the host") });
    assert!(matches!(panicked, Err(ClaimsError::Panicked)), "{panicked:?}");
}

#[test]
fn name_must_be_a_uri() {
    for valid in [NAME, "urn:example:claims", "a:b", "tag:example.com,2026:a?b#c"] {
        assert!(named(valid).has_valid_name(), "{valid}");
    }
    let reserved = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "token_type", "scope", "roles"];
    let malformed =
        ["", ":", "a:", ":b", "1:b", "/a:b", "a b:c", "a:b c", "a:\0", "a:\"", "a:\\", "я:b", "a:я"];
    for invalid in reserved.into_iter().chain(malformed).chain([&*format!("a:{}", "b".repeat(254))]) {
        assert!(!named(invalid).has_valid_name(), "{invalid}");
    }
}
