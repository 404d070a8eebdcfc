//! Service with axum: the HTTP API below `/auth`, and a route of its own for signed-in users.
//!
//! `cargo run -p referral-examples --bin example-axum` prints the URL of Swagger UI.
#![expect(clippy::print_stdout, reason = "the program prints its address")]

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{FromRef, FromRequestParts},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use referral_core::{CurrentUser, Error, ReferralService};
use referral_examples::{AnyError, Arguments, open};
use referral_server::{AppOptions, TowerService, app};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let arguments = Arguments::parse()?;
    let referral = open(&arguments).await?;

    let mut options = AppOptions::default();
    // The development sender returns codes in responses, so requests for other hosts are rejected.
    options.loopback_hosts_only = true;
    let api = TowerService::new(app(referral.clone(), options));
    let router = Router::new().route("/hello", get(hello)).with_state(referral).nest_service("/auth", api);

    let listener = TcpListener::bind(arguments.address).await?;
    println!("http://{}/auth/docs/", listener.local_addr()?);
    // The limits per address need the connection information.
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

/// Responds to signed-in users only.
async fn hello(SignedIn(current): SignedIn) -> String {
    format!("Hello, {}!", current.user.phone.as_str())
}

/// Extractor of the user and the session of the access token in the header `Authorization`.
struct SignedIn(CurrentUser);

impl<S> FromRequestParts<S> for SignedIn
where
    ReferralService: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let value = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let scheme_and_token = value.and_then(|value| value.split_once(' '));
        let Some((_, token)) = scheme_and_token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        else {
            return Err(unauthorized());
        };
        let referral = ReferralService::from_ref(state);
        referral.authenticate(token.trim()).await.map(Self).map_err(|error| match error {
            Error::Refused(_) => unauthorized(),
            // The storage is not available.
            _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        })
    }
}

fn unauthorized() -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response()
}
