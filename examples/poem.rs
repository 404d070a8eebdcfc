//! Service with poem: the HTTP API below `/auth`, and a route of its own for signed-in users.
//!
//! `cargo run -p referral-examples --bin example-poem` prints the URL of Swagger UI.
#![expect(clippy::print_stdout, reason = "the program prints its address")]

use poem::{
    EndpointExt as _, FromRequest, IntoResponse as _, Request, RequestBody, Route, Server, get,
    http::{StatusCode, header},
    listener::TcpAcceptor,
};
use referral_core::{CurrentUser, Error, ReferralService};
use referral_examples::{AnyError, Arguments, open};
use referral_server::{AppOptions, app};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let arguments = Arguments::parse()?;
    let referral = open(&arguments).await?;

    let mut options = AppOptions::default();
    // The development sender returns codes in responses, so requests for other hosts are rejected.
    options.loopback_hosts_only = true;
    let route =
        Route::new().nest("/auth", app(referral.clone(), options)).at("/hello", get(hello)).data(referral);

    let listener = TcpListener::bind(arguments.address).await?;
    println!("http://{}/auth/docs/", listener.local_addr()?);
    Server::new_with_acceptor(TcpAcceptor::from_tokio(listener)?).run(route).await?;
    Ok(())
}

/// Responds to signed-in users only.
#[poem::handler]
fn hello(SignedIn(current): SignedIn) -> String {
    format!("Hello, {}!", current.user.phone.as_str())
}

/// Extractor of the user and the session of the access token in the header `Authorization`.
struct SignedIn(CurrentUser);

impl<'a> FromRequest<'a> for SignedIn {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let scheme_and_token = request.header(header::AUTHORIZATION).and_then(|value| value.split_once(' '));
        let Some((_, token)) = scheme_and_token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        else {
            return Err(unauthorized());
        };
        let referral: &ReferralService = request.data().expect("the route has the service");
        referral.authenticate(token.trim()).await.map(Self).map_err(|error| match error {
            Error::Refused(_) => unauthorized(),
            // The storage is not available.
            _ => StatusCode::SERVICE_UNAVAILABLE.into(),
        })
    }
}

fn unauthorized() -> poem::Error {
    let response = StatusCode::UNAUTHORIZED.with_header(header::WWW_AUTHENTICATE, "Bearer");
    poem::Error::from_response(response.into_response())
}
