#![doc = include_str!("../README.md")]

mod accept_language;
mod auth;
mod bearer;
mod client;
mod code;
mod cors;
mod document;
mod draining;
mod edge;
mod example;
mod host;
mod input;
mod links;
mod metrics;
mod pages;
mod problem;
mod reports;
mod sessions;
mod users;

use std::{sync::Arc, time::Duration};

use poem::{Endpoint, EndpointExt, Request, Response, Route, endpoint::BoxEndpoint, http::HeaderMap};
use poem_openapi::{LicenseObject, OpenApiService};
use referral_core::{Referral, sms::http::ReportReader};

use crate::{
    auth::AuthApi,
    document::{BASE, Document},
    edge::Edge,
    links::Links,
    sessions::SessionsApi,
    users::UsersApi,
};
pub use crate::{
    client::{ClientAddresses, TrustedProxies},
    cors::CorsOrigins,
    draining::Draining,
    host::is_loopback_host,
    metrics::Metrics,
    reports::reports_url,
};

/// All groups of endpoints.
type Apis = (AuthApi, SessionsApi, UsersApi);

/// What the endpoint must know beside the handle.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AppOptions {
    /// Scheme and host that clients use, for links to other pages. Without, links are relative,
    /// except for clients on this machine.
    pub public_url: Option<String>,
    /// How long a body may take to arrive, and a handler to answer; each. Default: 10 s.
    pub time_limit: Duration,
    /// How the address of a client is found out. Default: it is the peer's.
    pub client_addresses: ClientAddresses,
    /// Whose pages may read what is answered. Default: none but the server's own.
    pub cors_origins: CorsOrigins,
    /// Where requests are counted. Default: nowhere.
    pub metrics: Option<Metrics>,
    /// Whether requests for other hosts than this machine are refused with 421 (Misdirected Request). For
    /// senders that return codes in responses: without it, a website whose name resolves to a loopback
    /// address could read them in the browser of a developer (DNS rebinding). Default: `false`.
    pub loopback_hosts_only: bool,
    /// Who reads what gateways report, at the URLs that [`reports_url`] gives. Default: nobody. One that
    /// [signs the URL](ReportReader::signs_url) takes a `public_url`.
    pub report_readers: Vec<ReportReader>,
    /// Flag that the server will shut down soon. Default: never set.
    pub draining: Draining,
}

impl Default for AppOptions {
    fn default() -> Self {
        Self {
            public_url: None,
            time_limit: Duration::from_secs(10),
            client_addresses: ClientAddresses::default(),
            cors_origins: CorsOrigins::None,
            metrics: None,
            loopback_hosts_only: false,
            report_readers: Vec::new(),
            draining: Draining::default(),
        }
    }
}

/// The whole HTTP interface as a poem endpoint, created by [`app`].
pub struct App(Edge<BoxEndpoint<'static, Response>>);

impl App {
    /// Creates the response to a request that is rejected because the server is overloaded: a 503
    /// `unavailable` with the headers that every response has.
    ///
    /// `headers` are those of the request. A server calls this in place of [`Endpoint::call`], so that a
    /// rejected request costs no more than its response. Nothing is logged, and the request is not counted.
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

/// The whole HTTP interface as a poem endpoint: the API and what stands beside it. To be served
/// at the root of a host.
#[must_use]
pub fn app(referral: Referral, options: AppOptions) -> App {
    let service = service(&referral, options.public_url.clone());
    let document = Arc::new(Document::of(&service));
    let pages = pages::add(Route::new(), &service, &document, &referral, &options.draining);
    let pages = reports::add(pages, &referral, &options);
    let route = pages.nest(BASE, service).data(referral.clone()).map_to_response();
    App(Edge::new(route.boxed(), referral, document, options))
}

/// The OpenAPI document, as served and as committed.
#[must_use]
pub fn openapi(referral: &Referral) -> String {
    Document::of(&service(referral, None)).text
}

fn service(referral: &Referral, public_url: Option<String>) -> OpenApiService<Apis, ()> {
    let auth = AuthApi { referral: referral.clone() };
    let sessions = SessionsApi { referral: referral.clone() };
    let users = UsersApi { referral: referral.clone(), links: Links { public_url } };
    OpenApiService::new((auth, sessions, users), "Referral", env!("CARGO_PKG_VERSION"))
        .description(include_str!("description.md"))
        .license(LicenseObject::new("MIT OR Apache-2.0").url("https://spdx.org/licenses/"))
        .server(BASE)
}
