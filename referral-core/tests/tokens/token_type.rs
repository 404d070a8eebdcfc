//! Type of a token: access tokens and refresh tokens are not interchangeable.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jsonwebtoken::Algorithm;
use referral_core::{
    BuildError, Error, ReferralService, Refusal, TokenKind, TokenPair,
    keys::{Peppers, SigningKeys},
    sms::DevelopmentSender,
    storage::MemoryStorage,
};
use serde_json::{Value, json};

use crate::{
    forged::{SECRET, assert_refused, claims, forged, header, hs256, passes, with},
    sign_in::enter,
};

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

#[tokio::test]
async fn access_and_refresh_tokens_are_not_interchangeable_with_any_header() {
    let referral = hs256();
    let TokenPair { access, refresh, .. } = enter(&referral, 1, None).await.tokens;
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
    let tokens = enter(&referral, 1, None).await.tokens;
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
    assert!(matches!(built, Err(BuildError::Audience)));
}
