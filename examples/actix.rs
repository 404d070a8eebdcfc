//! Service with actix-web: the HTTP API below `/auth`, and a route of its own for signed-in users.
//!
//! actix-web has its own types of requests and responses, so `serve_api` converts them for the tower service.
//! `cargo run -p referral-examples --bin example-actix` prints the URL of Swagger UI.
#![expect(clippy::print_stdout, reason = "the program prints its address")]

use std::pin::Pin;

use actix_web::{
    App, FromRequest, HttpRequest, HttpResponse, HttpServer,
    dev::Payload,
    error::{ErrorBadRequest, ErrorInternalServerError, ErrorServiceUnavailable, InternalError},
    http::{StatusCode, header},
    web::{self, Bytes, Data},
};
use http_body_util::{BodyExt as _, Full};
use poem::{Route, http};
use referral_core::{CurrentUser, Error, ReferralService};
use referral_examples::{AnyError, Arguments, open};
use referral_server::{AppOptions, TowerService, app};
use tower_service::Service as _;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let arguments = Arguments::parse()?;
    let referral = open(&arguments).await?;

    let mut options = AppOptions::default();
    // The development sender returns codes in responses, so requests for other hosts are rejected.
    options.loopback_hosts_only = true;
    // actix-web does not remove the prefix from the path.
    let api = TowerService::new(Route::new().nest("/auth", app(referral.clone(), options)));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(api.clone()))
            .app_data(Data::new(referral.clone()))
            .service(web::scope("/auth").default_service(web::to(serve_api)))
            .route("/hello", web::get().to(hello))
    });
    let server = server.bind(arguments.address)?;
    for address in server.addrs() {
        println!("http://{address}/auth/docs/");
    }
    Ok(server.run().await?)
}

/// Passes a request to the API, and its response back. The body is buffered: actix-web limits it to 256 KiB,
/// and the API to 16 KiB.
async fn serve_api(
    request: HttpRequest,
    body: Bytes,
    api: Data<TowerService>,
) -> actix_web::Result<HttpResponse> {
    let mut inner = http::Request::builder().method(request.method().as_str()).uri(request.uri().to_string());
    if request.version() == actix_web::http::Version::HTTP_2 {
        inner = inner.version(http::Version::HTTP_2);
    }
    for (name, value) in request.headers() {
        inner = inner.header(name.as_str(), value.as_bytes());
    }
    // The limits per address need the address of the peer.
    if let Some(peer) = request.peer_addr() {
        inner = inner.extension(peer);
    }
    let inner = inner.body(Full::new(body)).map_err(ErrorBadRequest)?;
    let Ok(response) = TowerService::clone(&api).call(inner).await;

    let status = StatusCode::from_u16(response.status().as_u16()).map_err(ErrorInternalServerError)?;
    let mut outer = HttpResponse::build(status);
    for (name, value) in response.headers() {
        outer.append_header((name.as_str(), value.as_bytes()));
    }
    let body = response.into_body().collect().await.map_err(ErrorInternalServerError)?;
    Ok(outer.body(body.to_bytes()))
}

/// Responds to signed-in users only.
async fn hello(SignedIn(current): SignedIn) -> String {
    format!("Hello, {}!", current.user.phone.as_str())
}

/// Extractor of the user and the session of the access token in the header `Authorization`.
struct SignedIn(CurrentUser);

impl FromRequest for SignedIn {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = actix_web::Result<Self>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let value = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let scheme_and_token = value.and_then(|value| value.split_once(' '));
            let Some((_, token)) =
                scheme_and_token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            else {
                return Err(unauthorized());
            };
            let referral: &Data<ReferralService> =
                request.app_data().expect("the service has `ReferralService`");
            referral.authenticate(token.trim()).await.map(Self).map_err(|error| match error {
                Error::Refused(_) => unauthorized(),
                // The storage is not available.
                _ => ErrorServiceUnavailable("the service is temporarily unavailable"),
            })
        })
    }
}

fn unauthorized() -> actix_web::Error {
    let response = HttpResponse::Unauthorized().insert_header((header::WWW_AUTHENTICATE, "Bearer")).finish();
    InternalError::from_response("the request has no valid access token", response).into()
}
