//! Claims of a token: issuer, audience, times, and the JSON object that contains them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;

use crate::forged::{NOW, SECRET, assert_refused, claims, forged, header, hs256, passes, signed, with};

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
