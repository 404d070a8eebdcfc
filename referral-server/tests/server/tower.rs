//! Tests of the tower service, alone and in axum.

use std::{convert::Infallible, net::SocketAddr};

use axum::Router;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};
use poem::{Route, http};
use referral_core::policy::{Limits, Policy};
use referral_server::{AppOptions, ClientAddresses, TowerService, app};
use reqwest::{Method, header::HOST};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_service::Service as _;

use crate::service::{ANNA, BORIS, Client, MINUTE, Service};

const PREFIX: &str = "/auth";

fn router(service: &Service, options: AppOptions) -> Router {
    let api = TowerService::new(app(service.referral.clone(), options));
    Router::new().nest_service(PREFIX, api).route("/hello", axum::routing::get("hello"))
}

/// Serves a router of axum on a free port, and returns a client of the API below the prefix.
async fn serve(router: Router) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let client = Client::new(listener.local_addr().expect("an address")).below(PREFIX);
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, router).await });
    client
}

async fn start() -> (Service, Client) {
    let service = Service::start().await;
    let client = serve(router(&service, AppOptions::default())).await;
    (service, client)
}

/// Returns a client whose connections come from this address.
fn from(address: &str, client: &Client) -> Client {
    let address: std::net::IpAddr = address.parse().expect("an address");
    let http = reqwest::Client::builder().no_proxy().local_address(address).build().expect("a client");
    Client { http, ..client.clone() }
}

#[tokio::test]
async fn users_sign_in_below_a_prefix_of_axum() {
    let (_service, client) = start().await;
    let anna = client.enter(ANNA, None).await;
    let invite = client.invite_code(&anna).await;
    let boris = client.enter(BORIS, Some(&invite)).await;
    let user = client.get("/users/current_user", &boris.access).await.ok();
    assert_eq!(user["invited_by_code"], json!(invite));
    let users = client.get("/users/?limit=1", &anna.access).await.ok();
    let next = users["next"].as_str().expect("a link");
    let rest = client.send(client.http.get(next).bearer_auth(&anna.access)).await.ok();
    assert_eq!(rest["results"].as_array().map(Vec::len), Some(1), "{next}");
}

#[tokio::test]
async fn pages_and_documents_below_a_prefix_of_axum_name_the_prefix() {
    let (service, client) = start().await;
    for root in ["", "/"] {
        let home = client.send(client.http.get(client.url(root))).await.text;
        for link in
            ["/auth/docs/", "/auth/api/v1/redoc/", "/auth/api/v1/schema/", "/auth/.well-known/jwks.json"]
        {
            assert!(home.contains(&format!("<a href=\"{link}\">")), "{link}");
            let page = client.http.get(format!("http://{}{link}", client.address));
            assert_eq!(client.send(page).await.status, 200, "{link}");
        }
    }
    let document = client.send(client.request(Method::GET, "/schema/")).await;
    assert_eq!(document.body["servers"], json!([{ "url": "/auth/api/v1" }]));
    assert!(client.send(client.http.get(client.url("/docs"))).await.text.contains(&document.text));
    let keys = client.send(client.http.get(client.url("/.well-known/jwks.json"))).await.ok();
    assert_eq!(keys.to_string(), service.referral.public_jwk_set());
}

#[tokio::test]
async fn each_peer_of_axum_has_its_own_limits_and_is_recorded() {
    let mut policy = Policy::development();
    policy.codes_per_address = Limits::new([(1, 60 * MINUTE)]).expect("valid");
    let service = Service::with_policy(policy).await;
    let client = serve(router(&service, AppOptions::default())).await;
    let (one, other) = (from("127.0.0.1", &client), from("127.0.0.2", &client));
    let send = async |client: &Client, phone: &str| {
        client.post("/auth/send_code/", &json!({ "phone": phone })).await
    };
    send(&one, ANNA).await.ok();
    send(&one, BORIS).await.assert_problem(429, "too_many_requests");
    send(&other, BORIS).await.ok();

    let third = from("127.0.0.3", &client);
    let anna = third.enter("+79608540000", None).await;
    let sessions = client.get("/auth/sessions/", &anna.access).await.ok();
    assert!(sessions.to_string().contains("127.0.0.3"), "{sessions}");
}

#[tokio::test]
async fn axum_without_connection_information_is_rejected_unless_it_is_allowed() {
    let service = Service::start().await;
    let mut allowed = AppOptions::default();
    allowed.client_addresses = ClientAddresses::none();
    for (options, status) in [(AppOptions::default(), 500), (allowed, 200)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let client = Client::new(listener.local_addr().expect("an address")).below(PREFIX);
        let router = router(&service, options);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let request = client.request(Method::POST, "/auth/send_code/").json(&json!({ "phone": ANNA }));
        let response = request.send().await.expect("a response");
        assert_eq!(response.status(), status);
        let body: Value = response.json().await.expect("JSON");
        assert_eq!(body["code"] == "internal_error", status == 500, "{body}");
    }
}

#[tokio::test]
async fn a_large_body_is_rejected_as_at_the_root() {
    let (service, client) = start().await;
    let large = json!({ "phone": "1".repeat(17_000) }).to_string();
    for client in [&client, &service.client] {
        let request =
            || client.request(Method::POST, "/auth/send_code/").header("Content-Type", "application/json");
        client.send(request().body(large.clone())).await.assert_problem(413, "payload_too_large");
        // In chunks, without a length.
        let chunks: Vec<_> =
            large.as_bytes().chunks(1_000).map(|chunk| Ok::<_, Infallible>(chunk.to_vec())).collect();
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
        client.send(request().body(body)).await.assert_problem(413, "payload_too_large");
    }
}

#[tokio::test]
async fn head_and_unknown_paths_get_the_responses_of_the_api() {
    let (_service, client) = start().await;
    let get = client.send(client.request(Method::GET, "/schema/")).await;
    let head = client.send(client.request(Method::HEAD, "/schema/")).await;
    assert_eq!((head.status, &*head.text), (200, ""));
    assert_eq!(head.header("content-type"), get.header("content-type"));
    let response = client.send(client.request(Method::DELETE, "/schema/")).await;
    response.assert_problem(405, "method_not_allowed");
    assert_eq!(response.header("allow"), Some("GET, HEAD"));
    for path in ["/nothing", "/api/v1/nothing/", "/auth/hello"] {
        client.send(client.http.get(client.url(path))).await.assert_problem(404, "not_found");
    }
    // Paths beside the prefix are those of the host.
    let url = |path| format!("http://{}{path}", client.address);
    let hello = client.http.get(url("/hello")).send().await.expect("a response");
    assert_eq!(hello.text().await.expect("a text"), "hello");
    let beside = client.http.get(url("/authors")).send().await.expect("a response");
    assert!(beside.status() == 404 && beside.headers().get("x-request-id").is_none());
}

/// Calls the service without axum.
async fn call<B>(service: &mut TowerService, request: http::Request<B>) -> (u16, Value)
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let response = service.call(request).await.expect("infallible");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).expect("JSON"))
}

#[tokio::test]
async fn other_hosts_pass_the_address_in_the_extensions_and_the_whole_path() {
    let service = Service::start().await;
    let endpoint = app(service.referral.clone(), AppOptions::default());
    let mut tower = TowerService::new(Route::new().nest(PREFIX, endpoint));
    let peer: SocketAddr = "203.0.113.7:4711".parse().expect("an address");
    let request = |path: &str| http::Request::post(path).header(HOST, "localhost").extension(peer);
    let send = request("/auth/api/v1/auth/send_code/").header("content-type", "application/json");
    let body = Full::new(Bytes::from(json!({ "phone": ANNA }).to_string()));
    let (status, sent) = call(&mut tower, send.body(body).expect("a request")).await;
    assert_eq!(status, 200, "{sent}");

    let schema = http::Request::get("/auth/api/v1/schema").header(HOST, "localhost").extension(peer);
    let (_, document) = call(&mut tower.clone(), schema.body(Empty::new()).expect("a request")).await;
    assert_eq!(document["servers"][0]["url"], "/auth/api/v1");

    let without_peer = http::Request::get("/auth/health/live").header(HOST, "localhost");
    let (status, _) = call(&mut tower, without_peer.body(Empty::new()).expect("a request")).await;
    assert_eq!(status, 500);
}
