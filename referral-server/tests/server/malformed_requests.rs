//! Tests of malformed and malicious requests.

use std::sync::Arc;

use referral_core::{Policy, sms::DevelopmentSender};
use referral_server::AppOptions;
use referral_sqlx::SqliteOptions;
use reqwest::{Method, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::service::{ANNA, BORIS, Service};

const POSTS: [&str; 4] =
    ["/auth/send_code/", "/auth/jwt/get_by_phone/", "/auth/jwt/verify/", "/auth/jwt/refresh/"];

#[tokio::test]
async fn bodies_that_are_not_json_objects_are_rejected() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let deep = format!("{{\"phone\":{}{}}}", "[".repeat(7_000), "]".repeat(7_000));
    let bodies: [&[u8]; 14] = [
        b"",
        b"null",
        b"[]",
        b"1",
        b"\"text\"",
        b"{",
        b"{}}",
        b"{\"phone\":}",
        b"\xff\xfe",
        b"{\"phone\":\"\\ud800\"}",
        b"{\"phone\":\"\0\"}",
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        deep.as_bytes(),
        b"{'phone':'1'}",
    ];
    for body in bodies {
        for path in POSTS {
            let request =
                service.client.request(Method::POST, path).header(header::CONTENT_TYPE, "application/json");
            service.client.send(request.body(body.to_vec())).await.assert_problem(400, "malformed_json");
        }
        let request = service.client.request(Method::PATCH, "/users/current_user/").bearer_auth(&anna.access);
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_vec());
        service.client.send(request).await.assert_problem(400, "malformed_json");
    }
}

#[tokio::test]
async fn fields_of_a_wrong_type_are_rejected() {
    let service = Service::start().await;
    let fields = [
        ("/auth/send_code/", "phone"),
        ("/auth/send_code/", "locale"),
        ("/auth/jwt/get_by_phone/", "phone"),
        ("/auth/jwt/get_by_phone/", "code"),
        ("/auth/jwt/get_by_phone/", "invited_by_code"),
        ("/auth/jwt/get_by_phone/", "challenge_id"),
        ("/auth/jwt/verify/", "token"),
        ("/auth/jwt/verify/", "token_type"),
        ("/auth/jwt/refresh/", "refresh"),
    ];
    for (path, field) in fields {
        for value in
            [json!(true), json!([]), json!({}), json!(-1), json!(1.5), json!(["1"]), json!({ "a": 1 })]
        {
            let response = service.client.post(path, &json!({ (field): value })).await;
            assert_eq!(response.status, 400, "{path} {field} {value}");
            assert_eq!(response.body["errors"][field][0]["code"], "wrong_type", "{path} {field} {value}");
        }
    }
    for code in
        [json!(u64::MAX), json!("1".repeat(1_000)), json!(""), json!("12a4"), json!("\u{0}"), json!("½")]
    {
        let response =
            service.client.post("/auth/jwt/get_by_phone/", &json!({ "phone": ANNA, "code": code })).await;
        response.assert_field(400, "malformed_code", "code");
    }
}

#[tokio::test]
async fn duplicate_keys_are_rejected_with_their_position() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    for body in [
        format!("{{\"phone\":\"{BORIS}\",\"phone\":\"{ANNA}\"}}"),
        format!("{{\"phone\":\"{ANNA}\",\"ph\\u006fne\":\"{ANNA}\"}}"),
        "{\"x\":[{\"y\":{\"a\":1,\"a\":1}}]}".to_owned(),
    ] {
        for path in POSTS {
            let request = service.client.request(Method::POST, path).body(body.clone());
            let response =
                service.client.send(request.header(header::CONTENT_TYPE, "application/json")).await;
            response.assert_problem(400, "malformed_json");
            let detail = response.body["detail"].as_str().expect("a detail");
            assert!(detail.contains("same key twice (line 1, column "), "{detail}");
        }
        let request = service.client.request(Method::PATCH, "/users/current_user/").bearer_auth(&anna.access);
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        service.client.send(request).await.assert_problem(400, "malformed_json");
    }
}

#[tokio::test]
async fn a_byte_order_mark_before_the_body_is_skipped() {
    let service = Service::start().await;
    let request = service.client.request(Method::POST, "/auth/send_code/");
    let body = format!("\u{feff}{{\"phone\":\"{ANNA}\"}}");
    let request = request.header(header::CONTENT_TYPE, "application/json").body(body);
    assert_eq!(service.client.send(request).await.ok()["phone"], ANNA);
}

#[tokio::test]
async fn only_json_in_utf_8_is_accepted() {
    let service = Service::start().await;
    let body = json!({ "phone": ANNA }).to_string();
    for content_type in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("application/json; charset=latin1"),
        Some("application/jsonp"),
        Some("json"),
        Some(""),
    ] {
        let mut request = service.client.request(Method::POST, "/auth/send_code/").body(body.clone());
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        service.client.send(request).await.assert_problem(415, "unsupported_media_type");
    }
    for content_type in
        ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"]
    {
        let request = service.client.request(Method::POST, "/auth/send_code/").body(body.clone());
        service.client.send(request.header(header::CONTENT_TYPE, content_type)).await.ok();
    }
}

#[tokio::test]
async fn a_body_above_sixteen_kibibytes_is_rejected_with_a_response() {
    let service = Service::start().await;
    let padded = |size: usize| {
        let body = json!({ "phone": ANNA }).to_string();
        format!("{body}{}", " ".repeat(size - body.len()))
    };
    let request = || {
        service
            .client
            .request(Method::POST, "/auth/send_code/")
            .header(header::CONTENT_TYPE, "application/json")
    };
    service.client.send(request().body(padded(16 * 1024))).await.ok();
    for size in [16 * 1024 + 1, 1_000_000, 10_000_000] {
        service.client.send(request().body(padded(size))).await.assert_problem(413, "payload_too_large");
        // Without a declared length, in chunks.
        let chunks = futures_util::stream::iter(
            padded(size)
                .into_bytes()
                .chunks(10_000)
                .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
                .collect::<Vec<_>>(),
        );
        let request = request().body(reqwest::Body::wrap_stream(chunks));
        service.client.send(request).await.assert_problem(413, "payload_too_large");
    }
}

#[tokio::test]
async fn every_path_works_with_and_without_a_trailing_slash() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    for path in [
        "/users",
        "/users/current_user",
        &format!("/users/{}", anna.id),
        &format!("/users/{}/invited", anna.id),
    ] {
        let without = service.client.get(path, &anna.access).await.ok();
        let with = service.client.get(&format!("{path}/"), &anna.access).await.ok();
        assert_eq!(without, with, "{path}");
        let query = service.client.get(&format!("{path}?limit=0"), &anna.access).await;
        assert_eq!(query.status, service.client.get(&format!("{path}/?limit=0"), &anna.access).await.status);
    }
    for path in POSTS {
        let path = path.trim_end_matches('/');
        service.client.post(path, &json!({ "unknown": 1 })).await.assert_problem(400, "validation_failed");
    }
    service.client.patch(&anna.access, &json!({})).await.ok();
    for path in ["", "/", "/nothing", "/users//", "//users/", "/auth", "/auth/jwt", "/auth/send_code//"] {
        service.client.get(path, &anna.access).await.assert_problem(404, "not_found");
    }
}

#[tokio::test]
async fn the_response_to_a_wrong_method_lists_the_allowed_methods() {
    let service = Service::start().await;
    for (path, allow) in [
        ("/auth/send_code/", "POST"),
        ("/auth/jwt/get_by_phone", "POST"),
        ("/users/", "GET, HEAD"),
        ("/users/current_user/", "GET, PATCH, HEAD"),
        ("/users/00000000-0000-0000-0000-000000000000/", "GET, HEAD"),
        ("/users/x/invited/", "GET, HEAD"),
        ("/schema/", "GET, HEAD"),
    ] {
        for method in [Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE] {
            let response = service.client.send(service.client.request(method, path)).await;
            response.assert_problem(405, "method_not_allowed");
            assert_eq!(response.header("allow"), Some(allow), "{path}");
        }
    }
}

#[tokio::test]
async fn head_is_supported_wherever_get_is() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    for (path, status) in [
        ("/users/", 200),
        ("/users/current_user", 200),
        ("/users/x/", 404),
        ("/schema/", 200),
        ("/redoc", 200),
    ] {
        let request = service.client.request(Method::HEAD, path).bearer_auth(&anna.access);
        let response = service.client.send(request).await;
        assert_eq!((response.status, &*response.text), (status, ""), "{path}");
    }
}

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
    let request = service.client.request(Method::GET, "/users/current_user/").bearer_auth(&anna.access);
    service.client.send(request.bearer_auth(&anna.access)).await.assert_problem(401, "not_authenticated");

    for path in POSTS {
        let request =
            service.client.request(Method::POST, path).bearer_auth("stale").json(&json!({ "unknown": 1 }));
        service.client.send(request).await.assert_problem(400, "validation_failed");
    }
}

#[tokio::test]
async fn forged_tokens_are_rejected() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let parts: Vec<_> = anna.access.split('.').collect();
    let none = "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0";
    for token in [
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.{}.{}", parts[0], parts[1], "A".repeat(parts[2].len())),
        format!("{}.{}.{}.", parts[0], parts[1], parts[2]),
    ] {
        service.client.get("/users/current_user/", &token).await.assert_problem(401, "token_not_valid");
        let response = service.client.post("/auth/jwt/verify/", &json!({ "token": token })).await;
        response.assert_problem(401, "token_not_valid");
        let response = service.client.post("/auth/jwt/refresh/", &json!({ "refresh": token })).await;
        response.assert_problem(401, "token_not_valid");
    }
}

#[tokio::test]
async fn published_keys_cannot_sign_tokens() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let url = service.client.url("/.well-known/jwks.json");
    let published = service.client.send(service.client.http.get(url)).await;
    let key = &published.body["keys"][0];
    let x = key["x"].as_str().expect("a public key");
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(&anna.access).expect("claims").claims;
    let public = jsonwebtoken::EncodingKey::from_urlsafe_base64_secret(&format!("{x}=")).expect("base64url");
    let secrets = [x, &key.to_string(), &published.text]
        .map(|secret| jsonwebtoken::EncodingKey::from_secret(secret.as_bytes()));
    for secret in secrets.iter().chain([&public]) {
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        for id in [key["kid"].as_str(), None, Some("unknown")] {
            header.kid = id.map(str::to_owned);
            let token = jsonwebtoken::encode(&header, &claims, secret).expect("signed");
            let client = &service.client;
            client.get("/users/current_user/", &token).await.assert_problem(401, "token_not_valid");
            let response = client.post("/auth/jwt/verify/", &json!({ "token": token })).await;
            response.assert_problem(401, "token_not_valid");
        }
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
async fn fifty_concurrent_requests_of_each_kind_get_responses_from_memory() {
    send_fifty_requests_of_each_kind(Service::start().await).await;
}

#[tokio::test]
async fn fifty_concurrent_requests_of_each_kind_get_responses_from_sqlite() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("referral.db");
    let storage = referral_sqlx::connect_sqlite(&file, &SqliteOptions::default()).await.expect("a new file");
    let sender = Arc::new(DevelopmentSender);
    let service = Service::over(storage, Policy::development(), sender, AppOptions::default()).await;
    send_fifty_requests_of_each_kind(service).await;
}

async fn send_fifty_requests_of_each_kind(service: Service) {
    let anna = service.enter(ANNA, None).await;
    let sent = service.client.post("/auth/send_code/", &json!({ "phone": BORIS })).await.ok();
    let sign_in = json!({ "phone": BORIS, "code": sent["code"], "challenge_id": sent["challenge_id"] });
    let mut tasks = Vec::new();
    for _ in 0..50 {
        for kind in 0..6 {
            let (client, anna, sign_in) = (service.client.clone(), anna.clone(), sign_in.clone());
            tasks.push(tokio::spawn(async move {
                let response = match kind {
                    0 => client.post("/auth/send_code/", &json!({ "phone": ANNA })).await,
                    1 => client.post("/auth/jwt/get_by_phone/", &sign_in).await,
                    2 => client.post("/auth/jwt/verify/", &json!({ "token": anna.access })).await,
                    3 => client.post("/auth/jwt/refresh/", &json!({ "refresh": anna.refresh })).await,
                    4 => client.get("/users/", &anna.access).await,
                    _ => client.patch(&anna.access, &json!({ "email": "a@example.com" })).await,
                };
                (kind, response)
            }));
        }
    }
    let (mut sent, mut signed_in) = (0, 0);
    let mut refreshed: Vec<Value> = Vec::new();
    for task in tasks {
        let (kind, response) = task.await.expect("no task panics");
        match kind {
            0 if response.status == 200 => sent += 1,
            0 => response.assert_problem(429, "too_many_requests"),
            1 if response.status == 200 => signed_in += 1,
            1 => response.assert_problem(403, "invalid_code"),
            3 => refreshed.push(response.ok()),
            _ => {
                response.ok();
            }
        }
    }
    assert_eq!(
        (sent, signed_in),
        (9, 1),
        "ten codes are allowed for the phone of Anna, and one was sent before"
    );
    refreshed.dedup();
    assert_eq!(refreshed.len(), 1);
}

#[tokio::test]
async fn the_body_of_a_get_request_is_skipped_and_the_connection_stays_open() {
    let service = Service::start().await;
    let mut connection = TcpStream::connect(service.client.address).await.expect("connected");
    for size in [1, 100_000] {
        let head = format!("GET /health/live HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n");
        connection.write_all(head.as_bytes()).await.expect("written");
        connection.flush().await.expect("sent");
        connection.write_all(&vec![b' '; size]).await.expect("written");
        let mut response = Vec::new();
        while !response.ends_with(b"}") {
            assert_ne!(
                connection.read_buf(&mut response).await.expect("a response"),
                0,
                "the connection was closed"
            );
        }
        assert!(response.starts_with(b"HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn a_truncated_body_gets_a_response() {
    let service = Service::start().await;
    let mut connection = TcpStream::connect(service.client.address).await.expect("connected");
    let head = "POST /api/v1/auth/send_code/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 100\r\nConnection: close\r\n\r\n{";
    connection.write_all(head.as_bytes()).await.expect("written");
    connection.shutdown().await.expect("closed for writing");
    let mut response = String::new();
    connection.read_to_string(&mut response).await.expect("a response");
    assert!(response.starts_with("HTTP/1.1 400") && response.contains("bad_request"), "{response}");
}

/// Sends the text of a request and returns the text of the response.
async fn exchange(service: &Service, request: &str) -> String {
    let mut connection = TcpStream::connect(service.client.address).await.expect("connected");
    connection.write_all(request.as_bytes()).await.expect("written");
    connection.shutdown().await.expect("closed for writing");
    let mut response = String::new();
    connection.read_to_string(&mut response).await.expect("a response");
    response
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
            let response = exchange(&service, &request).await.replace("HTTP/1.0", "HTTP/1.1");
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
        let response = exchange(&service, &request).await;
        assert!(response.starts_with("HTTP/1.1 200"), "{host}: {response}");
    }
    // `Host` is not required in HTTP/1.0.
    let response = exchange(&service, "GET /health/live HTTP/1.0\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.0 200"), "{response}");
}
