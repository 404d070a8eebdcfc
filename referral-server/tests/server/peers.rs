//! Tests of requests for which the host knows no peer address.

use poem::{Endpoint as _, Request, http::StatusCode};
use referral_server::{AppOptions, ClientAddresses, TrustedProxies, app};
use reqwest::header::{HOST, HeaderName};
use serde_json::Value;

use crate::service::Service;

async fn health(options: AppOptions) -> (StatusCode, Value) {
    let service = Service::start().await;
    let request = Request::builder().uri_str("/health/live").header(HOST, "localhost").finish();
    let response = app(service.referral, options).get_response(request).await;
    let status = response.status();
    (status, response.into_body().into_json().await.expect("JSON"))
}

#[tokio::test]
async fn a_request_without_a_peer_address_is_rejected() {
    let proxies: TrustedProxies = "10.0.0.0/8".parse().expect("a network");
    let header = HeaderName::from_static("x-forwarded-for");
    for source in [ClientAddresses::default(), ClientAddresses::forwarded(proxies, header)] {
        let mut options = AppOptions::default();
        options.client_addresses = source;
        let (status, problem) = health(options).await;
        assert_eq!((status.as_u16(), problem["code"].as_str()), (500, Some("internal_error")));
        let detail = problem["detail"].as_str().expect("a text");
        assert!(detail.contains("addresses of clients"), "{detail}");
    }
}

#[tokio::test]
async fn a_host_without_peer_addresses_is_served_if_it_states_so() {
    let mut options = AppOptions::default();
    options.client_addresses = ClientAddresses::none();
    assert_eq!(health(options).await.0, 200);
}
