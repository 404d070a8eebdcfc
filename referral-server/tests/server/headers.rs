//! Tests of the request headers `Authorization`, `X-Request-Id` and `Host`.

use reqwest::{Method, header};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::service::{ANNA, POSTS, Service};

#[tokio::test]
async fn the_authorization_header_must_have_exactly_one_bearer_token() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let get = |value: String| {
        let request = service.client.request(Method::GET, "/users/current_user/");
        service.client.send(request.header(header::AUTHORIZATION, value))
    };
    for scheme in ["Bearer", "bearer", "BEARER", "Bearer "] {
        get(format!("{scheme} {}", anna.access)).await.ok();
    }
    for value in [
        String::new(),
        "Bearer".into(),
        anna.access.clone(),
        format!("Basic {}", anna.access),
        format!("Token {}", anna.access),
    ] {
        let response = get(value).await;
        response.assert_problem(401, "not_authenticated");
        assert_eq!(response.header("www-authenticate"), Some("Bearer"));
    }
    for token in ["x", "a.b.c", "🙂", &anna.refresh, &format!("{}x", anna.access), &"A".repeat(10_000)] {
        let request = service.client.request(Method::GET, "/users/current_user/");
        let value = header::HeaderValue::from_bytes(format!("Bearer {token}").as_bytes()).expect("a header");
        let response = service.client.send(request.header(header::AUTHORIZATION, value)).await;
        assert_eq!(response.status, 401, "{token:.20}");
    }
    let twice = format!("Bearer {}", anna.access);
    let response = service.client.get("/users/current_user/", &twice).await;
    response.assert_problem(401, "token_not_valid");
    let detail = response.body["detail"].as_str().expect("a detail");
    assert!(detail.contains("`Bearer` twice"), "{detail}");
    let request = service.client.request(Method::GET, "/users/current_user/").bearer_auth(&anna.access);
    service.client.send(request.bearer_auth(&anna.access)).await.assert_problem(401, "not_authenticated");

    for path in POSTS {
        let request =
            service.client.request(Method::POST, path).bearer_auth("stale").json(&json!({ "unknown": 1 }));
        service.client.send(request).await.assert_problem(400, "validation_failed");
    }
}

#[tokio::test]
async fn only_a_valid_request_id_is_adopted() {
    let service = Service::start().await;
    let get = |id: String| {
        let request = service.client.request(Method::GET, "/users/");
        service.client.send(request.header("x-request-id", id))
    };
    assert_eq!(get("abc-1_2.3".into()).await.header("x-request-id"), Some("abc-1_2.3"));
    for id in ["", "a b", "<script>", "é", &"x".repeat(65)] {
        assert_ne!(get(id.into()).await.header("x-request-id"), Some(id));
    }
}

#[tokio::test]
async fn a_request_must_have_exactly_one_valid_host() {
    let service = Service::start().await;
    let is_bad = |response: &str| {
        response.starts_with("HTTP/1.1 400")
            && response.contains(r#""code":"bad_request""#)
            && response.contains("Host")
    };
    for (version, lines) in [
        ("1.1", &[][..]),
        ("1.1", &[""]),
        ("1.1", &[" "]),
        ("1.1", &["localhost", "localhost"]),
        ("1.1", &["localhost", "example.com"]),
        ("1.0", &["localhost", "localhost"]),
        ("1.0", &[""]),
        ("1.1", &["local host"]),
        ("1.1", &["localhost, example.com"]),
        ("1.1", &["http://localhost"]),
        ("1.1", &["localhost/"]),
        ("1.1", &["localhost?x"]),
        ("1.1", &["localhost#x"]),
        ("1.1", &["user@localhost"]),
        ("1.1", &["@localhost"]),
        ("1.1", &[":80"]),
        ("1.1", &["localhost:http"]),
        ("1.1", &["localhost:65536"]),
        ("1.1", &["localhost:-1"]),
        ("1.1", &["localhost:+80"]),
        ("1.1", &["a:b:80"]),
        ("1.1", &["::1"]),
        ("1.1", &["[::1"]),
        ("1.1", &["[::1]x"]),
        ("1.1", &["[]"]),
        ("1.1", &["[localhost]"]),
        ("1.1", &["a%00b"]),
        ("1.1", &["<script>"]),
        ("1.1", &["\\"]),
        ("1.1", &["пример.рф"]),
    ] {
        for path in ["/health/live", "http://localhost/health/live"] {
            let hosts = lines.iter().fold(String::new(), |hosts, host| format!("{hosts}Host: {host}\r\n"));
            let request = format!("GET {path} HTTP/{version}\r\n{hosts}Connection: close\r\n\r\n");
            let response = response_text(&service, &request).await.replace("HTTP/1.0", "HTTP/1.1");
            assert!(is_bad(&response), "{lines:?}: {response}");
        }
    }
    for host in [
        "localhost",
        "LOCALHOST:8080",
        "127.0.0.1:1",
        "[::1]:8080",
        "[::1]",
        "localhost:",
        "a_b",
        "x-1.example.com.",
    ] {
        let request = format!("GET /health/live HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let response = response_text(&service, &request).await;
        assert!(response.starts_with("HTTP/1.1 200"), "{host}: {response}");
    }
    // `Host` is not required in HTTP/1.0.
    let response = response_text(&service, "GET /health/live HTTP/1.0\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.0 200"), "{response}");
}

/// Sends the text of a request and returns the text of the response.
async fn response_text(service: &Service, request: &str) -> String {
    let mut connection = TcpStream::connect(service.client.address).await.expect("connected");
    connection.write_all(request.as_bytes()).await.expect("written");
    connection.shutdown().await.expect("closed for writing");
    let mut response = String::new();
    connection.read_to_string(&mut response).await.expect("a response");
    response
}
