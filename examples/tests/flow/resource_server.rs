//! Resource server that verifies the tokens of the example for axum.

use std::{fs, time::Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::process::Child;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

use crate::example::{ANNA, Example, client, get, start};

/// Start of a private Ed25519 key in PKCS #8 (RFC 8410, section 7).
const ED25519_PKCS8: [u8; 16] = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];

/// Running resource server.
pub(crate) struct ResourceServer {
    /// Ends with the server.
    _child: Child,
    pub(crate) url: String,
    http: reqwest::Client,
}

impl ResourceServer {
    pub(crate) async fn start(keys: &str) -> Self {
        let program = env!("CARGO_BIN_EXE_example-resource-server");
        let (child, url) = start(program, &[keys, "127.0.0.1:0"]).await;
        Self { _child: child, url, http: client() }
    }

    async fn hello(&self, token: &str) -> reqwest::Response {
        get(&self.http, &self.url, Some(&format!("Bearer {token}"))).await
    }

    async fn assert_refused(&self, token: &str, reason: &str) {
        let response = self.hello(token).await;
        assert_eq!(response.status(), 401, "{reason}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
    }
}

/// Returns the part of a token with this index as JSON.
fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).expect("a part of the token");
    serde_json::from_slice(&BASE64.decode(part).expect("base64url")).expect("JSON")
}

fn with(mut object: Value, name: &str, value: Option<Value>) -> Value {
    let members = object.as_object_mut().expect("an object");
    match value {
        Some(value) => members.insert(name.to_owned(), value),
        None => members.remove(name),
    };
    object
}

/// Signing key of an example.
struct Signer(EncodingKey);

impl Signer {
    fn of(example: &Example) -> Self {
        let keys = fs::read(example.directory.path().join("keys.json")).expect("the keys");
        let keys: Value = serde_json::from_slice(&keys).expect("JSON");
        let secret = BASE64.decode(keys["keys"][0]["d"].as_str().expect("a private key")).expect("base64url");
        Self(EncodingKey::from_ed_der(&[&ED25519_PKCS8[..], &secret].concat()))
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let header: Header = serde_json::from_value(header.clone()).expect("a header");
        encode(&header, claims, &self.0).expect("signed")
    }
}

#[tokio::test]
async fn resource_server_accepts_access_tokens_only() {
    let example = Example::start(env!("CARGO_BIN_EXE_example-axum"), &[]).await;
    let server = ResourceServer::start(&example.keys_url()).await;
    let tokens = example.sign_in(ANNA, None).await;
    let [access, refresh] = ["access", "refresh"].map(|kind| tokens[kind].as_str().expect("a token"));

    let hello = server.hello(access).await;
    assert_eq!(hello.status(), 200);
    let (header, claims) = (part(access, 0), part(access, 1));
    let user = claims["sub"].as_str().expect("an id");
    assert_eq!(hello.text().await.expect("text"), format!("Hello, user {user}!"));

    let without = get(&server.http, &server.url, None).await;
    assert_eq!(without.status(), 401);
    server.assert_refused("invalid", "no token").await;
    server.assert_refused(refresh, "a refresh token").await;
    let (signed, _) = access.rsplit_once('.').expect("a signature");
    server.assert_refused(&format!("{signed}.{}", BASE64.encode([1; 64])), "another signature").await;

    let signer = Signer::of(&example);
    let resigned = signer.sign(&header, &claims);
    assert_eq!(server.hello(&resigned).await.status(), 200, "the signer has the key");
    let wrong_claims = [
        ("exp", Some(json!(1))),
        ("exp", None),
        ("aud", Some(json!("referral:refresh"))),
        ("aud", Some(json!("another"))),
        ("aud", None),
        ("iss", Some(json!("another"))),
        ("iss", None),
    ];
    for (name, value) in wrong_claims {
        let reason = format!("{name} is {value:?}");
        server.assert_refused(&signer.sign(&header, &with(claims.clone(), name, value)), &reason).await;
    }
    for (name, value) in [("typ", json!("JWT")), ("typ", json!("rt+jwt")), ("kid", json!("another"))] {
        let reason = format!("{name} is {value}");
        server.assert_refused(&signer.sign(&with(header.clone(), name, Some(value)), &claims), &reason).await;
    }

    let public = example.get("/auth/.well-known/jwks.json").await.json::<Value>().await.expect("JSON");
    let public = BASE64.decode(public["keys"][0]["x"].as_str().expect("a public key")).expect("base64url");
    let (mut symmetric, id) = (Header::new(Algorithm::HS256), header["kid"].as_str().expect("an id"));
    (symmetric.typ, symmetric.kid) = (Some("at+jwt".to_owned()), Some(id.to_owned()));
    let forged = encode(&symmetric, &claims, &EncodingKey::from_secret(&public)).expect("signed");
    server.assert_refused(&forged, "the public key as a secret").await;
    let other = EncodingKey::from_ed_der(&[&ED25519_PKCS8[..], &[7; 32]].concat());
    server.assert_refused(&Signer(other).sign(&header, &claims), "another key").await;
}

#[tokio::test]
async fn unknown_keys_cause_few_fetches() {
    let example = Example::start(env!("CARGO_BIN_EXE_example-axum"), &[]).await;
    let tokens = example.sign_in(ANNA, None).await;
    let access = tokens["access"].as_str().expect("a token");
    let keys = example.get("/auth/.well-known/jwks.json").await.text().await.expect("text");
    let issuer = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200).set_body_string(keys)).mount(&issuer).await;

    let server = ResourceServer::start(&issuer.uri()).await;
    let (signer, started) = (Signer::of(&example), Instant::now());
    for number in 0..50 {
        let header = with(part(access, 0), "kid", Some(json!(format!("unknown {number}"))));
        server.assert_refused(&signer.sign(&header, &part(access, 1)), "an unknown key").await;
    }
    assert_eq!(server.hello(access).await.status(), 200);
    let fetches = issuer.received_requests().await.expect("recorded").len() as u64;
    // At most one each five seconds, on a machine of any speed.
    assert!((1..=1 + started.elapsed().as_secs() / 5).contains(&fetches), "{fetches}");
}

#[tokio::test]
async fn resource_server_is_unavailable_without_keys() {
    let example = Example::start(env!("CARGO_BIN_EXE_example-axum"), &[]).await;
    let tokens = example.sign_in(ANNA, None).await;
    let issuer = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(500)).mount(&issuer).await;
    let server = ResourceServer::start(&issuer.uri()).await;
    assert_eq!(server.hello(tokens["access"].as_str().expect("a token")).await.status(), 503);
}

#[test]
fn function_is_the_same_as_in_the_documentation() {
    let function = |text: &'static str| {
        let (_, rest) = text.split_once("\nfn user_of(").expect("the function");
        rest.split_once("\n}\n").expect("the end of the function").0
    };
    let documented = function(include_str!("../../../docs/tokens.md"));
    assert_eq!(function(include_str!("../../resource_server.rs")), documented);
}
