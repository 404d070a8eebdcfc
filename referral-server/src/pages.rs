//! Routes outside the API: documentation pages, public keys and health checks.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use poem::{IntoEndpoint, IntoResponse, Response, Route, endpoint::make_sync, get, http::header};
use poem_openapi::OpenApiService;
use referral_core::ReferralService;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    api::Apis,
    delivery_reports,
    draining::Draining,
    error::{self, Problem},
    mount::{Prefix, Root, Template},
    openapi::{BASE, Document},
};

/// Number of seconds for which other services may cache the public keys.
const KEYS_MAX_AGE: u32 = 300;

/// Paths of the routes, without those of reports.
const ROUTES: [&str; 7] = [
    "/",
    "/docs/",
    "/api/v1/redoc/",
    "/api/v1/schema/",
    "/.well-known/jwks.json",
    "/health/live",
    "/health/ready",
];

/// Returns the route of a path, or `none` if it has none of these routes.
pub(crate) fn route(path: &str) -> &'static str {
    if delivery_reports::is_at(path) {
        return delivery_reports::ROUTE;
    }
    let is_same = |route: &&str| route.trim_end_matches('/') == path.trim_end_matches('/');
    ROUTES.into_iter().find(is_same).unwrap_or("none")
}

/// Returns the methods of a path outside the API.
pub(crate) fn allowed(path: &str) -> &'static str {
    if delivery_reports::is_at(path) { delivery_reports::METHODS } else { "GET, HEAD" }
}

/// Adds the routes outside the API.
pub(crate) fn add(
    route: Route,
    root: &Root,
    service: &OpenApiService<Apis, ()>,
    document: &Arc<Document>,
    referral: &ReferralService,
    draining: &Draining,
) -> Route {
    let schema = Template::new(&document.text, |_| String::new());
    let schema = make_sync(move |request| {
        let schema = schema.at(&Prefix::found(&request)).text;
        Response::builder().content_type("application/json").body(schema)
    });
    let home = include_str!("index.html").replace("{version}", env!("CARGO_PKG_VERSION"));
    let home = home.replace("{root}", root.marked_path());
    let swagger_ui = finish(&service.swagger_ui_html(), "Swagger UI", service, document);
    let redoc = finish(&service.redoc_html(), "Redoc", service, document);
    route
        .at("/", get(page(&home)))
        .at("/docs", get(page(&swagger_ui)))
        .at(format!("{BASE}/redoc"), get(page(&redoc)))
        .at(format!("{BASE}/schema"), get(schema))
        .at("/.well-known/jwks.json", get(keys(referral)))
        .at("/health/live", get(make_sync(|_| health())))
        .at("/health/ready", get(ready(referral.clone(), draining.clone())))
}

/// Returns an endpoint with a page that depends only on the prefix.
fn page(html: &str) -> impl IntoEndpoint<Endpoint: 'static> + use<> {
    let page = Template::new(html, content_security_policy);
    make_sync(move |request| {
        let page = page.at(&Prefix::found(&request));
        Response::builder()
            .content_type("text/html; charset=utf-8")
            .header(header::CONTENT_SECURITY_POLICY, page.description)
            .header(header::CACHE_CONTROL, "no-cache")
            .header(header::CONTENT_LANGUAGE, "en")
            .body(page.text)
    })
}

/// Returns the content security policy of a page. It allows the inline scripts and styles of the page, by
/// their hashes, and requests to this server.
fn content_security_policy(html: &str) -> String {
    let (scripts, mut styles) = hashes(html);
    let mut workers = "'none'";
    if html.contains("Redoc.init(") {
        // ReDoc creates styles at runtime, and a worker for search from an embedded script.
        "'unsafe-inline'".clone_into(&mut styles);
        workers = "blob:";
    }
    format!(
        "default-src 'none'; script-src {scripts}; style-src {styles}; worker-src {workers}; \
         connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// Returns the hashes of the inline scripts and styles of a page, in the format of the policy.
fn hashes(html: &str) -> (String, String) {
    let (mut scripts, mut styles) = (Vec::new(), Vec::new());
    let mut rest = html;
    while let Some((_, tag)) = rest.split_once('<') {
        rest = tag;
        let (hashes, end) = match tag.split(['>', ' ']).next() {
            Some("script") => (&mut scripts, "</script>"),
            Some("style") => (&mut styles, "</style>"),
            _ => continue,
        };
        let piece = tag.split_once('>').and_then(|(_, rest)| rest.split_once(end));
        let (piece, after) = piece.expect("each script and style element is closed");
        hashes.push(format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(piece))));
        rest = after;
    }
    let list = |hashes: Vec<String>| if hashes.is_empty() { "'none'".to_owned() } else { hashes.join(" ") };
    (list(scripts), list(styles))
}

/// Adapts a page of `poem-openapi` with the given title. The page gets the corrected document and the name of
/// the service. It requests no fonts from other hosts and no icon from this host.
fn finish(html: &str, title: &str, service: &OpenApiService<Apis, ()>, document: &Document) -> String {
    let is_font = |line: &&str| line.trim_start().starts_with("<link") && line.contains("fonts.googleapis");
    let html: Vec<_> = html.lines().filter(|line| !is_font(line)).collect();
    html.join("\n")
        .replace(&service.spec(), &document.text)
        .replace(
            &format!("<title>{title}</title>"),
            &format!("<title>Referral · {title}</title><link rel=\"icon\" href=\"data:,\">"),
        )
        .replace("scrollYOffset: 50", "scrollYOffset: 0")
}

/// Returns an endpoint with the public keys, which pages of any origin may read: they are public.
fn keys(referral: &ReferralService) -> impl IntoEndpoint<Endpoint: 'static> + use<> {
    let referral = referral.clone();
    make_sync(move |_| {
        Response::builder()
            .content_type("application/jwk-set+json")
            .header(header::CACHE_CONTROL, format!("public, max-age={KEYS_MAX_AGE}"))
            .header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")
            .header("cross-origin-resource-policy", "cross-origin")
            .body(referral.public_jwk_set())
    })
}

fn health() -> Response {
    poem::web::Json(json!({ "status": "ok" })).into_response()
}

fn ready(referral: ReferralService, draining: Draining) -> impl IntoEndpoint<Endpoint: 'static> {
    poem::endpoint::make(move |_| {
        let (referral, draining) = (referral.clone(), draining.clone());
        async move {
            Problem::reject_if_draining(&draining)?;
            let readiness = referral.readiness().await;
            if !readiness.is_ready() {
                return Err(Problem::not_ready(&readiness));
            }
            let checks: BTreeMap<_, _> = error::checks(&readiness).into();
            Ok(poem::web::Json(json!({ "status": "ok", "checks": checks })).into_response())
        }
    })
}
