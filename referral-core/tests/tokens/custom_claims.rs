//! Custom claims, and their verification by other programs as in `docs/tokens.md`.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, jwk::JwkSet};
use referral_core::{
    BuildError, ReferralService, ReferralServiceBuilder,
    keys::{Peppers, SigningKeys},
    random::SystemRandom,
    sms::DevelopmentSender,
    storage::MemoryStorage,
};
use serde_json::json;

use crate::sign_in::enter;

const DOCS: &str = include_str!("../../../docs/tokens.md");

#[rustfmt::skip]
mod host {
use referral_core::ReferralServiceBuilder;
use serde_json::json;

/// Adds the role of the user to the access tokens.
pub(super) fn with_role(builder: ReferralServiceBuilder) -> ReferralServiceBuilder {
    builder.claims("https://example.com/claims", |user, _session| {
        json!({ "role": if user.is_staff() { "admin" } else { "user" } })
    })
}
}

#[rustfmt::skip]
mod resource_server {
#[derive(serde::Deserialize)]
pub(super) struct Claims {
    pub(super) sub: String,
    #[serde(rename = "https://example.com/claims")]
    pub(super) custom: CustomClaims,
}

#[derive(serde::Deserialize)]
pub(super) struct CustomClaims {
    pub(super) role: String,
}
}

fn builder() -> ReferralServiceBuilder {
    let (keys, peppers) = (SigningKeys::generate(&SystemRandom), Peppers::generate(&SystemRandom));
    ReferralService::builder(Arc::new(MemoryStorage::new()), Arc::new(DevelopmentSender), keys, peppers)
}

#[test]
fn examples_are_the_same_as_in_the_documentation() {
    let source = include_str!("custom_claims.rs").replace("pub(super) ", "");
    let blocks: Vec<_> = DOCS.split("## Custom claims").nth(1).expect("the section").split("```").collect();
    for block in [blocks[1], blocks[3]] {
        let code = block.strip_prefix("rust\n").expect("a block of Rust").trim();
        let indented = code.replace('\n', "\n    ");
        assert!(source.contains(code) || source.contains(&indented), "{code}");
    }
}

#[tokio::test]
async fn resource_server_reads_the_custom_claims_of_access_tokens() {
    let referral = host::with_role(builder()).build().expect("valid name");
    let anna = enter(&referral, 1, None).await;
    let keys: JwkSet = serde_json::from_str(&referral.public_jwk_set()).expect("a key set");
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&["referral"]);
    let key = DecodingKey::from_jwk(&keys.keys[0]).expect("a public key");
    let verified = decode::<resource_server::Claims>(&anna.tokens.access, &key, &validation).expect("valid");
    assert_eq!((verified.claims.custom.role, verified.claims.sub), ("user".into(), anna.user.id.to_string()));

    let [access, refresh] = [&anna.tokens.access, &anna.tokens.refresh].map(|token| {
        let payload = token.split('.').nth(1).expect("a payload");
        String::from_utf8(BASE64.decode(payload).expect("base64url")).expect("UTF-8")
    });
    let last = r#","token_type":"access","https://example.com/claims":{"role":"user"}}"#;
    assert!(access.ends_with(last), "{access}");
    assert!(refresh.ends_with(r#","token_type":"refresh"}"#), "{refresh}");

    let access = referral.verify(&anna.tokens.access, None).await.expect("valid");
    assert_eq!(access.claim("https://example.com/claims"), Some(&json!({ "role": "user" })));
    for absent in ["https://example.com/other", "sub", ""] {
        assert_eq!(access.claim(absent), None);
    }
    let refresh = referral.verify(&anna.tokens.refresh, None).await.expect("valid");
    assert_eq!(refresh.claim("https://example.com/claims"), None);
}

#[test]
fn service_whose_claims_cannot_be_issued_is_not_built() {
    for name in ["", "sub", "roles", "not a uri"] {
        let built = builder().claims(name, |_, _| 1).build();
        assert!(matches!(built, Err(BuildError::ClaimsName)), "{name}");
    }
    let long = || builder().issuer("i".repeat(500)).audience("a".repeat(500));
    assert!(long().build().is_ok());
    let built = long().claims("https://example.com/claims", |_, _| 1).build();
    assert!(matches!(built, Err(BuildError::SigningKey)), "tokens with the largest claims are too large");
}
