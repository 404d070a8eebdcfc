#![doc = include_str!("../README.md")]

mod api;
mod client_ip;
mod cors;
mod delivery_reports;
mod draining;
mod error;
mod error_code;
mod error_sources;
mod host;
mod metrics;
mod middleware;
mod openapi;
mod options;
mod pages;

use std::sync::Arc;

use poem::{Endpoint, EndpointExt, Request, Response, Route, endpoint::BoxEndpoint, http::HeaderMap};
use poem_openapi::{ContactObject, LicenseObject, OpenApiService};
use referral_core::ReferralService;

/// For the program of this crate only.
#[doc(hidden)]
pub use crate::error_sources::with_sources;
use crate::{
    api::{Apis, auth::AuthApi, pagination::Links, sessions::SessionsApi, users::UsersApi},
    middleware::Middleware,
    openapi::{BASE, Document},
};
pub use crate::{
    client_ip::{ClientAddresses, TrustedProxies},
    cors::CorsOrigins,
    delivery_reports::reports_url,
    draining::Draining,
    host::is_loopback_host,
    metrics::Metrics,
    options::AppOptions,
};

/// Compiles the example for Rust in `docs/tokens.md`.
#[cfg(doctest)]
#[doc = include_str!("../../docs/tokens.md")]
struct TokensPage;

/// Poem endpoint with the complete HTTP interface, created by [`app`].
pub struct App(Middleware<BoxEndpoint<'static, Response>>);

impl App {
    /// Creates the response to a request that is rejected because the server is overloaded: a 503
    /// `unavailable` with the headers that every response has.
    ///
    /// `headers` are the headers of the request. A server calls this method instead of [`Endpoint::call`], so
    /// that a rejected request costs no more than its response. The request is neither logged nor counted.
    #[must_use]
    pub fn unavailable(&self, headers: &HeaderMap) -> Response {
        self.0.unavailable(headers)
    }
}

impl Endpoint for App {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        self.0.call(request).await
    }
}

/// Creates a poem endpoint with the complete HTTP interface: the API, its documentation, the public keys, the
/// health checks and the delivery reports. It must be served at the root path `/`.
#[must_use]
pub fn app(referral: ReferralService, options: AppOptions) -> App {
    let service = service(&referral, options.public_url.clone());
    let document = Arc::new(Document::of(&service));
    let pages = pages::add(Route::new(), &service, &document, &referral, &options.draining);
    let pages = delivery_reports::add(pages, &referral, &options);
    let route = pages.nest(BASE, service).data(referral.clone()).map_to_response();
    App(Middleware::new(route.boxed(), referral, document, options))
}

/// Returns the OpenAPI document, as served and as committed in `openapi.json`.
#[must_use]
pub fn openapi(referral: &ReferralService) -> String {
    Document::of(&service(referral, None)).text
}

fn service(referral: &ReferralService, public_url: Option<String>) -> OpenApiService<Apis, ()> {
    // Tools that import the document need an absolute URL.
    let base = public_url.as_deref().unwrap_or_default().trim_end_matches('/');
    let server = format!("{base}{BASE}");
    let auth = AuthApi { referral: referral.clone() };
    let sessions = SessionsApi { referral: referral.clone() };
    let users = UsersApi { referral: referral.clone(), links: Links { public_url } };
    OpenApiService::new((auth, sessions, users), "Referral", env!("CARGO_PKG_VERSION"))
        .description(include_str!("description.md"))
        .contact(ContactObject::new().name("referral").url(env!("CARGO_PKG_REPOSITORY")))
        .license(LicenseObject::new("MIT OR Apache-2.0").url("https://spdx.org/licenses/"))
        .server(server)
}
