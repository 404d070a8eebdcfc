#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod api;
mod client_ip;
mod console;
mod cors;
mod delivery_reports;
mod draining;
mod error;
mod error_code;
mod error_sources;
mod host;
mod metrics;
mod middleware;
mod mount;
mod openapi;
mod options;
mod pages;
mod tower;

use std::sync::Arc;

use poem::{Endpoint, EndpointExt, Request, Response, Route, endpoint::BoxEndpoint, http::HeaderMap};
use poem_openapi::{ContactObject, LicenseObject, OpenApiService};
use referral_core::ReferralService;

/// For the program of this crate only.
#[doc(hidden)]
pub use crate::{api::personal_data::PersonalDataText, error_sources::with_sources};
use crate::{
    api::{
        Apis,
        account::AccountApi,
        admin::{AdminApi, audit_log::AuditLogApi, code_requests::CodeRequestsApi},
        auth::AuthApi,
        pagination::Links,
        phone::PhoneApi,
        sessions::SessionsApi,
        texts::TextsApi,
        users::UsersApi,
    },
    console::Console,
    middleware::Middleware,
    mount::{MARK, Root},
    openapi::{BASE, Document},
};
pub use crate::{
    client_ip::{ClientAddresses, TrustedProxies},
    cors::CorsOrigins,
    delivery_reports::reports_url,
    draining::Draining,
    host::is_loopback_host,
    metrics::Metrics,
    middleware::REQUEST_SPAN,
    options::AppOptions,
    tower::TowerService,
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
/// health checks, the delivery reports and, if it is enabled, the web console for staff.
///
/// A host serves it at the root path, or below any prefix: `Route::new().nest("/auth", app)`. Links, the
/// documentation pages and the OpenAPI document then contain the prefix. If a proxy removes a prefix from the
/// path, set [`AppOptions::public_url`].
///
/// The log events of a request are in a span that has its id: see [`REQUEST_SPAN`].
#[must_use]
pub fn app(referral: ReferralService, options: AppOptions) -> App {
    let root = Root::new(options.public_url.as_deref());
    let service = service(&referral, root.clone());
    let document = Arc::new(Document::of(&service));
    let pages = pages::add(Route::new(), &root, &service, &document, &referral, &options.draining);
    let pages = delivery_reports::add(pages, &root, &referral, &options);
    let console = options.console.then(|| Console::new(referral.clone(), root));
    let pages = match &console {
        Some(console) => console.add(pages),
        None => pages,
    };
    let route = pages.nest(BASE, service).data(referral.clone()).map_to_response();
    App(Middleware::new(route.boxed(), referral, document, console, options))
}

/// Returns the OpenAPI document, as served and as committed in `openapi.json`.
#[must_use]
pub fn openapi(referral: &ReferralService) -> String {
    Document::of(&service(referral, Root::default())).text.replace(MARK, "")
}

fn service(referral: &ReferralService, root: Root) -> OpenApiService<Apis, ()> {
    // Tools that import the document need an absolute URL.
    let server = format!("{}{BASE}", root.marked_url());
    let auth = AuthApi { referral: referral.clone() };
    let sessions = SessionsApi { referral: referral.clone() };
    let account = AccountApi { referral: referral.clone() };
    let phone = PhoneApi { referral: referral.clone() };
    let links = Links { root };
    let users = UsersApi { referral: referral.clone(), links: links.clone() };
    let admin = AdminApi { referral: referral.clone(), links: links.clone() };
    let audit_log = AuditLogApi { links };
    let code_requests = CodeRequestsApi { referral: referral.clone() };
    OpenApiService::new(
        (auth, sessions, account, phone, users, admin, audit_log, code_requests, TextsApi),
        "Referral",
        env!("CARGO_PKG_VERSION"),
    )
    .description(include_str!("description.md"))
    .contact(ContactObject::new().name("referral").url(env!("CARGO_PKG_REPOSITORY")))
    .license(LicenseObject::new("MIT OR Apache-2.0").url("https://spdx.org/licenses/"))
    .server(server)
}
