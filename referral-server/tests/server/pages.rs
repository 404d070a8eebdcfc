//! Tests of the pages and endpoints outside the API.

use std::sync::Arc;

use referral_core::{
    ReferralService,
    keys::{Peppers, SigningKeys},
    policy::Policy,
    sms::DevelopmentSender,
    storage::MemoryStorage,
};
use referral_server::AppOptions;
use reqwest::Method;
use serde_json::json;

use crate::service::{ANNA, Response, Service};

async fn get(service: &Service, path: &str) -> Response {
    service.client.send(service.client.http.request(Method::GET, service.client.url(path))).await
}

#[tokio::test]
async fn pages_are_served_with_and_without_a_trailing_slash_and_load_nothing_external() {
    let service = Service::start().await;
    for path in ["/", "/docs/", "/docs", "/api/v1/redoc/", "/api/v1/redoc"] {
        let page = get(&service, path).await;
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        for loads in
            ["<script src", "<link rel=\"stylesheet\"", "<link href=\"http", "fonts.googleapis.com/css"]
        {
            assert!(!page.text.contains(loads), "{path} contains {loads}");
        }
    }
    let home = get(&service, "/").await.text;
    for link in ["/docs/", "/api/v1/redoc/", "/api/v1/schema/", env!("CARGO_PKG_VERSION")] {
        assert!(home.contains(link), "{link}");
    }
    let document = referral_server::openapi(&service.referral);
    assert!(
        get(&service, "/docs/").await.text.contains(&document),
        "the page must contain the same document"
    );
    assert!(
        get(&service, "/api/v1/redoc/").await.text.contains(&document),
        "the page must contain the same document"
    );
}

#[tokio::test]
async fn the_content_security_policy_permits_only_the_inline_scripts_of_a_page() {
    let service = Service::start().await;
    for (path, count) in [("/", 0), ("/docs/", 2), ("/api/v1/redoc/", 2)] {
        let page = get(&service, path).await;
        let policy = page.header("content-security-policy").expect("a policy");
        let scripts = policy.split("; ").find_map(|part| part.strip_prefix("script-src ")).expect("scripts");
        let hashes = scripts.split(' ').filter(|source| source.starts_with("'sha256-")).count();
        assert_eq!((hashes, scripts == "'none'"), (count, count == 0), "{scripts}");
        assert_eq!(scripts.split(' ').count(), count.max(1), "{scripts}");
    }
}

#[tokio::test]
async fn hsts_is_sent_if_the_public_url_uses_https() {
    for (url, header) in [
        (None, None),
        (Some("http://api.example.com"), None),
        (Some("https://api.example.com"), Some("max-age=63072000")),
    ] {
        let mut options = AppOptions::default();
        options.public_url = url.map(str::to_owned);
        let storage = Arc::new(MemoryStorage::new());
        let sender = Arc::new(DevelopmentSender);
        let service = Service::with_storage(storage, Policy::development(), sender, options).await;
        for path in ["/", "/health/live", "/nothing"] {
            assert_eq!(get(&service, path).await.header("strict-transport-security"), header);
        }
    }
}

#[tokio::test]
async fn another_service_can_verify_tokens_with_only_the_public_keys() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let keys = get(&service, "/.well-known/jwks.json").await;
    assert_eq!(keys.header("cache-control"), Some("public, max-age=300"));
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(keys.ok()).expect("a key set");
    let header = jsonwebtoken::decode_header(&anna.access).expect("a token");
    let key = keys.find(header.kid.as_deref().expect("an id")).expect("the key that signed");
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    validation.set_audience(&["referral"]);
    validation.set_issuer(&["referral"]);
    // The test sets the clock of the service.
    validation.validate_exp = false;
    let key = jsonwebtoken::DecodingKey::from_jwk(key).expect("a key");
    let token = jsonwebtoken::decode::<serde_json::Value>(&anna.access, &key, &validation).expect("verified");
    assert_eq!(token.claims["sub"], json!(anna.id));
}

#[tokio::test]
async fn a_secret_key_is_not_published() {
    let keys = SigningKeys::from_secret("k1", &[7; 32]).expect("long enough");
    let peppers = Peppers::from_secret("p1", &[8; 32]).expect("long enough");
    let storage = Arc::new(MemoryStorage::new());
    let sender = Arc::new(DevelopmentSender);
    let referral =
        ReferralService::builder(storage, sender, keys, peppers).policy(Policy::standard()).build();
    let keys = referral.expect("a valid key").public_jwk_set();
    assert_eq!(keys, r#"{"keys":[]}"#);
}

#[tokio::test]
async fn health_endpoints_return_the_status() {
    let service = Service::start().await;
    assert_eq!(get(&service, "/health/live").await.ok(), json!({ "status": "ok" }));
    let checks = json!({ "database": "ok", "schema": "ok", "disk": "ok", "keys": "ok", "clock": "ok" });
    let ready = json!({ "status": "ok", "checks": checks });
    assert_eq!(get(&service, "/health/ready/").await.ok(), ready);
    get(&service, "/health").await.assert_problem(404, "not_found");
}
