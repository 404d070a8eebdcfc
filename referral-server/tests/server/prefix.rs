//! Tests of the endpoint below a path prefix.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use referral_core::sms::http::{GatewayConfig, ReportReader};
use referral_server::{AppOptions, Metrics, reports_url};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::service::{ANNA, BORIS, Client, Response, Service, VERA};

const PREFIXES: [&str; 3] = ["/auth", "/a/b-c", "/%D0%B0"];

async fn get(client: &Client, path: &str) -> Response {
    client.send(client.http.get(client.url(path))).await
}

fn with_public_url(url: &str) -> AppOptions {
    let mut options = AppOptions::default();
    options.public_url = Some(url.into());
    options
}

/// Returns the texts between `start` and `end`.
fn between<'a>(text: &'a str, start: &str, end: &'static str) -> Vec<&'a str> {
    let pieces = text.split(start).skip(1);
    pieces.map(|piece| piece.split(end).next().unwrap_or_default()).collect()
}

/// Returns the committed document with this URL of the server.
fn document(server: &str) -> String {
    let document = include_str!("../../../openapi.json");
    assert_eq!(document.matches("\"url\": \"/api/v1\"").count(), 1);
    document.replace("\"url\": \"/api/v1\"", &format!("\"url\": \"{server}\""))
}

#[tokio::test]
async fn users_sign_in_below_any_prefix() {
    for prefix in PREFIXES {
        let service = Service::start().await;
        let client = service.mount(prefix, AppOptions::default()).await;
        let anna = client.enter(ANNA, None).await;
        let invite = client.invite_code(&anna).await;
        let boris = client.enter(BORIS, Some(&invite)).await;
        let refreshed = client.post("/auth/jwt/refresh/", &json!({ "refresh": boris.refresh })).await.ok();
        let access = refreshed["access"].as_str().expect("a token");
        let user = client.get("/users/current_user", access).await.ok();
        assert_eq!(user["invited_by_code"], json!(invite));
    }
}

#[tokio::test]
async fn each_link_of_the_start_page_leads_to_a_page_below_the_prefix() {
    let service = Service::start().await;
    for prefix in PREFIXES {
        let client = service.mount(prefix, AppOptions::default()).await;
        // With and without a trailing slash.
        for root in ["", "/"] {
            let home = get(&client, root).await;
            assert_eq!(home.status, 200, "{prefix}{root}");
            let links = between(&home.text, "<a href=\"", "\"");
            assert_eq!(links.len(), 4, "{links:?}");
            for link in links {
                let path = link.strip_prefix(prefix).expect("a link with the prefix");
                assert_eq!(get(&client, path).await.status, 200, "{link}");
            }
        }
        let keys = get(&client, "/.well-known/jwks.json").await.ok();
        assert_eq!(keys.to_string(), service.referral.public_jwk_set());
        assert_eq!(get(&client, "/health/ready").await.ok()["status"], "ok");
    }
}

#[tokio::test]
async fn the_document_and_its_pages_name_the_prefix() {
    let service = Service::start().await;
    for (prefix, public_url, server) in [
        ("/auth", None, "/auth/api/v1"),
        ("/auth", Some("https://example.com"), "https://example.com/auth/api/v1"),
        // A proxy has removed a part of the prefix.
        ("/auth", Some("https://example.com/a/auth/"), "https://example.com/a/auth/api/v1"),
    ] {
        let client =
            service.mount(prefix, public_url.map_or_else(AppOptions::default, with_public_url)).await;
        let document = document(server);
        assert!(get(&client, "/api/v1/schema/").await.text == document, "{server}");
        for page in ["/docs", "/docs/", "/api/v1/redoc", "/api/v1/redoc/"] {
            let page = get(&client, page).await;
            assert_eq!(page.status, 200);
            assert!(page.text.contains(&document), "{server}");
        }
    }
}

#[tokio::test]
async fn the_content_security_policy_allows_the_scripts_of_pages_below_a_prefix() {
    let service = Service::start().await;
    let client = service.mount("/auth", AppOptions::default()).await;
    for path in ["/docs/", "/api/v1/redoc/"] {
        let page = get(&client, path).await;
        let policy = page.header("content-security-policy").expect("a policy");
        let (mut rest, mut scripts) = (&*page.text, 0);
        while let Some((_, element)) = rest.split_once("<script") {
            let (script, after) = element.split_once("</script>").expect("the element is closed");
            let (_, script) = script.split_once('>').expect("the tag is closed");
            let hash = format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(script)));
            assert!(policy.contains(&hash), "{path}: {policy}");
            (rest, scripts) = (after, scripts + 1);
        }
        assert_eq!(scripts, 2, "{path}");
    }
}

#[tokio::test]
async fn a_proxy_that_removes_the_prefix_is_described_by_the_public_url() {
    let service = Service::start().await;
    let options = with_public_url("https://example.com/sign-in/");
    let client = crate::service::serve(service.referral.clone(), options).await;
    let home = get(&client, "/").await.text;
    let links = between(&home, "<a href=\"", "\"");
    assert_eq!(
        links,
        [
            "/sign-in/docs/",
            "/sign-in/api/v1/redoc/",
            "/sign-in/api/v1/schema/",
            "/sign-in/.well-known/jwks.json"
        ]
    );
    let document = document("https://example.com/sign-in/api/v1");
    assert!(get(&client, "/api/v1/schema").await.text == document);
    assert!(get(&client, "/docs").await.text.contains(&document));
    let anna = client.enter(ANNA, None).await;
    client.enter(BORIS, None).await;
    let users = client.get("/users/?limit=1", &anna.access).await.ok();
    let next = users["next"].as_str().expect("a link");
    assert!(next.starts_with("https://example.com/sign-in/api/v1/users/?limit=1&"), "{next}");
}

/// Returns the links `next` and `previous` of a page in the middle of the list of users.
async fn links(client: &Client, access: &str, host: Option<&str>) -> [String; 2] {
    let mut request = client.request(Method::GET, "/users/?limit=1&offset=1").bearer_auth(access);
    if let Some(host) = host {
        request = request.header("host", host);
    }
    let page: Value = client.send(request).await.ok();
    ["next", "previous"].map(|name| page[name].as_str().expect("a link").to_owned())
}

#[tokio::test]
async fn the_links_of_lists_keep_the_prefix() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let invite = service.client.invite_code(&anna).await;
    for phone in [BORIS, VERA] {
        service.enter(phone, Some(&invite)).await;
    }
    let client = service.mount("/auth", AppOptions::default()).await;
    let local = format!("http://{}/auth/api/v1/users/?", client.address);
    for link in links(&client, &anna.access, None).await {
        assert!(link.starts_with(&local), "{link}");
        let page = client.send(client.http.get(&link).bearer_auth(&anna.access)).await.ok();
        assert_eq!(page["results"].as_array().map(Vec::len), Some(1), "{link}");
    }
    for link in links(&client, &anna.access, Some("example.com")).await {
        assert!(link.starts_with("/auth/api/v1/users/?"), "{link}");
    }
    let invited = client.get(&format!("/users/{}/invited?limit=1", anna.id), &anna.access).await.ok();
    let next = invited["next"].as_str().expect("a link");
    assert!(next.starts_with(&format!("http://{}/auth/api/v1/users/{}/", client.address, anna.id)), "{next}");

    for (public_url, root) in [
        ("https://example.com/", "https://example.com/auth"),
        ("https://example.com/a/auth", "https://example.com/a/auth"),
    ] {
        let client = service.mount("/auth", with_public_url(public_url)).await;
        for link in links(&client, &anna.access, None).await {
            assert!(link.starts_with(&format!("{root}/api/v1/users/?")), "{link}");
        }
    }
}

#[tokio::test]
async fn errors_below_a_prefix_are_those_of_the_root() {
    let service = Service::start().await;
    let client = service.mount("/auth", AppOptions::default()).await;
    for path in ["/nothing", "/api/v1/nothing/", "/auth/", "/health"] {
        get(&client, path).await.assert_problem(404, "not_found");
    }
    let response = client.send(client.request(Method::PUT, "/users/current_user/")).await;
    response.assert_problem(405, "method_not_allowed");
    assert_eq!(response.header("allow"), Some("GET, PATCH, DELETE, HEAD"));
    let anna = client.enter(ANNA, None).await;
    let response = client.get("/users/?serach=a", &anna.access).await;
    response.assert_field(400, "unknown_parameter", "serach");
    let large = client.post("/auth/send_code/", &json!({ "phone": "1".repeat(17_000) })).await;
    large.assert_problem(413, "payload_too_large");
}

#[tokio::test]
async fn metrics_name_routes_without_the_prefix() {
    let service = Service::start().await;
    let mut options = AppOptions::default();
    let metrics = Metrics::new();
    options.metrics = Some(metrics.clone());
    let client = service.mount("/auth", options).await;
    let anna = client.enter(ANNA, None).await;
    client.get(&format!("/users/{}", anna.id), &anna.access).await.ok();
    get(&client, "/health/live").await.ok();
    let page = metrics.page().into_body().into_string().await.expect("text");
    for route in ["/api/v1/auth/send_code/", "/api/v1/users/{id}/", "/health/live"] {
        assert!(page.contains(&format!("route=\"{route}\",status=\"200\"}} 1")), "{route}: {page}");
    }
}

#[tokio::test]
async fn a_signature_of_a_report_covers_the_prefix() {
    const TWILIO: &str = r#"{"preset": "twilio", "settings": {"from": "Acme", "auth_token": "12345"}}"#;
    let config: GatewayConfig = serde_json::from_str(TWILIO).expect("a valid configuration");
    let reader = || ReportReader::new("twilio", &config).expect("a valid configuration").expect("a secret");
    let full = "https://example.com/auth";
    assert_eq!(reports_url(full, &reader()), "https://example.com/auth/sms/reports/twilio/");
    let service = Service::start().await;
    for (public_url, status) in [(full, 200), ("https://example.com/", 200), ("https://example.com/b", 403)] {
        let mut options = with_public_url(public_url);
        options.report_readers = vec![reader()];
        let client = service.mount("/auth", options).await;
        let request =
            client.http.post(client.url("/sms/reports/twilio/")).header("X-Twilio-Signature", SIGNATURE);
        let request = request.header("Content-Type", "application/x-www-form-urlencoded");
        let response = client.send(request.body("MessageSid=m1&MessageStatus=delivered")).await;
        assert_eq!(response.status, status, "{public_url}: {}", response.text);
    }
}

/// HMAC-SHA1 with the key `12345` of the URL `https://example.com/auth/sms/reports/twilio/` and the fields.
const SIGNATURE: &str = "vib2UyVyO/aTAdfMkAtGvGVSsLQ=";
