//! Resource server with axum: verifies access tokens with the public keys of the issuer. It needs neither the
//! database nor the signing keys.
//!
//! `cargo run -p referral-examples --bin example-resource-server` accepts the tokens of `example-axum`.
#![expect(clippy::print_stdout, reason = "the program prints its address")]

use std::{
    env,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::FromRequestParts,
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use referral_examples::AnyError;
use tokio::{net::TcpListener, sync::Mutex};

/// Time after which the keys are fetched again.
const MAX_AGE: Duration = Duration::from_mins(5);

/// Minimum time between two fetches, so that tokens with unknown keys cause few of them.
const MIN_INTERVAL: Duration = Duration::from_secs(5);

/// `example-resource-server [URL OF THE KEYS] [ADDRESS]`
#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let mut arguments = env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "http://127.0.0.1:8080/auth/.well-known/jwks.json".into());
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8081".into());

    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
    let keys = Arc::new(Keys { url, http, cached: RwLock::default(), attempted_at: Mutex::default() });
    let router = Router::new().route("/hello", get(hello)).with_state(keys);
    let listener = TcpListener::bind(address).await?;
    println!("http://{}/hello", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}

/// Responds to signed-in users only.
async fn hello(UserId(id): UserId) -> String {
    format!("Hello, user {id}!")
}

/// Id of the user of the access token in the request.
struct UserId(String);

#[derive(serde::Deserialize)]
struct Claims {
    sub: String,
}

/// Returns the user of a valid access token. The same function is in `docs/tokens.md`.
fn user_of(token: &str, keys: &JwkSet) -> Option<UserId> {
    let header = decode_header(token).ok()?;
    let key = keys.find(header.kid.as_deref()?)?;
    let algorithm = Algorithm::try_from(key.common.key_algorithm?).ok()?;
    let mut validation = Validation::new(algorithm);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.set_issuer(&["referral"]);
    validation.set_audience(&["referral"]);
    validation.leeway = 0;
    let is_access = header.typ.as_deref() == Some("at+jwt");
    let token = decode::<Claims>(token, &DecodingKey::from_jwk(key).ok()?, &validation).ok()?;
    is_access.then_some(UserId(token.claims.sub))
}

impl FromRequestParts<Arc<Keys>> for UserId {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, keys: &Arc<Keys>) -> Result<Self, Response> {
        let value = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let scheme_and_token = value.and_then(|value| value.split_once(' '));
        let Some((_, token)) = scheme_and_token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        else {
            return Err(unauthorized());
        };
        let key_id = decode_header(token.trim()).ok().and_then(|header| header.kid);
        let key_id = key_id.ok_or_else(unauthorized)?;
        // The task completes a fetch even if the client disconnects.
        match tokio::spawn(Arc::clone(keys).current(key_id)).await {
            Ok(Some(keys)) => user_of(token.trim(), &keys).ok_or_else(unauthorized),
            _ => Err(StatusCode::SERVICE_UNAVAILABLE.into_response()),
        }
    }
}

fn unauthorized() -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response()
}

/// Public keys of the issuer, cached.
struct Keys {
    url: String,
    http: reqwest::Client,
    /// Keys, with the time at which they were fetched.
    cached: RwLock<Option<(Instant, Arc<JwkSet>)>>,
    /// Time of the last fetch, even if it failed. Locked during a fetch.
    attempted_at: Mutex<Option<Instant>>,
}

impl Keys {
    /// Returns the keys, or `None` if they are not available. Fetches them if they are too old or have no key
    /// with this id, but only once in [`MIN_INTERVAL`].
    async fn current(self: Arc<Self>, key_id: String) -> Option<Arc<JwkSet>> {
        let known = |keys: &Arc<JwkSet>| keys.find(&key_id).is_some();
        if let Some(keys) = self.valid().filter(known) {
            return Some(keys);
        }
        // Requests with known keys do not wait for a fetch.
        let mut attempted_at = self.attempted_at.lock().await;
        let (now, valid) = (Instant::now(), self.valid());
        if valid.as_ref().is_some_and(known) || attempted_at.is_some_and(|at| now < at + MIN_INTERVAL) {
            return valid;
        }
        *attempted_at = Some(now);
        let keys = Arc::new(self.fetch().await.ok()?);
        *self.cached.write().expect("no panic") = Some((now, Arc::clone(&keys)));
        Some(keys)
    }

    /// Returns the cached keys, unless they are too old.
    fn valid(&self) -> Option<Arc<JwkSet>> {
        let keys = self.cached.read().expect("no panic");
        keys.as_ref().filter(|(at, _)| at.elapsed() < MAX_AGE).map(|(_, keys)| Arc::clone(keys))
    }

    async fn fetch(&self) -> reqwest::Result<JwkSet> {
        self.http.get(&self.url).send().await?.error_for_status()?.json().await
    }
}
