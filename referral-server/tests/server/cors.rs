//! Tests of requests by pages of other origins, as a browser sends them.

use std::sync::Arc;

use referral_core::{policy::Policy, sms::DevelopmentSender, storage::MemoryStorage};
use referral_server::AppOptions;
use reqwest::{Method, header};
use serde_json::json;

use crate::service::{ANNA, Response, Service};

const APP: &str = "https://app.example.com";
const OTHER: &str = "https://example.com";

async fn service(origins: &str) -> Service {
    let mut options = AppOptions::default();
    options.cors_origins = origins.parse().expect("origins");
    let storage = Arc::new(MemoryStorage::new());
    Service::with_storage(storage, Policy::development(), Arc::new(DevelopmentSender), options).await
}

/// Sends the preflight request of a browser for a method.
async fn preflight(service: &Service, origin: &str, method: &str, path: &str) -> Response {
    let request = service.client.request(Method::OPTIONS, path).header(header::ORIGIN, origin);
    let request = request
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, method)
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,content-type");
    service.client.send(request).await
}

/// Returns the CORS headers of a response.
fn cors(response: &Response) -> Vec<(&str, &str)> {
    let headers = response.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text")));
    headers.filter(|(name, _)| name.starts_with("access-control-")).collect()
}

#[tokio::test]
async fn a_page_of_a_listed_origin_may_use_the_methods_and_headers_of_the_api() {
    let service = service(&format!("{APP},http://localhost:3000")).await;
    for (method, path, methods) in [
        ("POST", "/auth/send_code/", "POST"),
        ("PATCH", "/users/current_user/", "GET, PATCH, DELETE, HEAD"),
        ("GET", "/nothing/", "GET, HEAD"),
    ] {
        for origin in [APP, "http://localhost:3000"] {
            let response = preflight(&service, origin, method, path).await;
            assert_eq!((response.status, &*response.text), (204, ""));
            assert_eq!(response.header("access-control-allow-origin"), Some(origin));
            assert_eq!(response.header("access-control-allow-methods"), Some(methods));
            let headers = response.header("access-control-allow-headers").unwrap_or_default();
            for name in ["authorization", "content-type", "x-request-id", "x-requested-with", "traceparent"]
                .into_iter()
                .chain(["tracestate", "baggage", "sentry-trace", "*"])
            {
                assert!(headers.split(", ").any(|allowed| allowed == name), "{name}: {headers}");
            }
            assert_eq!(response.header("access-control-max-age"), Some("7200"));
            assert_eq!(response.header("access-control-allow-credentials"), None);
            assert_eq!(response.header("vary"), Some("origin"));
        }
    }
}

#[tokio::test]
async fn a_page_of_a_listed_origin_can_read_responses_and_problems() {
    let service = service(APP).await;
    let post = |path: &str| service.client.request(Method::POST, path).header(header::ORIGIN, APP);
    for (request, status) in [
        (post("/auth/send_code/").json(&json!({ "phone": ANNA })), 200),
        (post("/auth/send_code/").json(&json!({ "phone": 1 })), 400),
        (post("/auth/jwt/verify/").json(&json!({ "token": "x" })), 401),
        (post("/nothing/"), 404),
        (post("/users/"), 405),
        (post("/auth/send_code/").body(vec![b' '; 20_000]), 413),
        // Without the headers of a preflight request, OPTIONS is an ordinary method.
        (service.client.request(Method::OPTIONS, "/users/").header(header::ORIGIN, APP), 405),
    ] {
        let response = service.client.send(request).await;
        assert_eq!(response.status, status, "{}", response.text);
        let expected = [
            ("access-control-allow-origin", APP),
            ("access-control-expose-headers", "retry-after, x-request-id"),
        ];
        assert_eq!(cors(&response), expected);
        let vary = if status == 200 { "origin" } else { "accept-language, origin" };
        assert_eq!(response.header("vary"), Some(vary));
    }
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_read_the_response() {
    let service = service(APP).await;
    for origin in [OTHER, "https://app.example.com.example.org", "http://app.example.com", "null", ""] {
        let preflight = preflight(&service, origin, "POST", "/auth/send_code/").await;
        assert_eq!((preflight.status, cors(&preflight)), (204, vec![]), "{origin}");
        let request = service.client.request(Method::POST, "/auth/send_code/").header(header::ORIGIN, origin);
        let response = service.client.send(request.json(&json!({ "phone": ANNA }))).await;
        assert_eq!((response.status, cors(&response)), (200, vec![]), "{origin}");
        // A cache must not return this response to a page of a listed origin.
        assert_eq!(response.header("vary"), Some("origin"));
    }
}

#[tokio::test]
async fn any_origin_may_be_allowed() {
    let service = service("*").await;
    let preflight = preflight(&service, OTHER, "POST", "/auth/send_code/").await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, Some("*")));
    let request = service.client.request(Method::GET, "/users/").header(header::ORIGIN, OTHER);
    let response = service.client.send(request).await;
    assert_eq!((response.status, response.header("access-control-allow-origin")), (401, Some("*")));
    // The error depends on the language, and not on the origin.
    assert_eq!(response.header("vary"), Some("accept-language"));
    assert_eq!(response.header("access-control-allow-credentials"), None);
}

#[tokio::test]
async fn a_page_of_any_origin_can_read_the_public_keys() {
    for service in [Service::start().await, service(APP).await] {
        for origin in [APP, OTHER] {
            let request = service.client.http.get(service.client.url("/.well-known/jwks.json"));
            let response = service.client.send(request.header(header::ORIGIN, origin)).await;
            assert_eq!((response.status, response.header("access-control-allow-origin")), (200, Some("*")));
            assert_eq!(response.header("cross-origin-resource-policy"), Some("cross-origin"));
        }
    }
}

#[tokio::test]
async fn by_default_no_other_origin_is_allowed() {
    let service = Service::start().await;
    let preflight = preflight(&service, APP, "POST", "/auth/send_code/").await;
    preflight.assert_problem(405, "method_not_allowed");
    assert_eq!((cors(&preflight), preflight.header("vary")), (vec![], Some("accept-language")));
}
