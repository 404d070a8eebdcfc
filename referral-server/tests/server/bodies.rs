//! Tests of request bodies: malformed JSON, media types, sizes, and incomplete bodies.

use reqwest::{Method, header};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::service::{ANNA, BORIS, POSTS, Service};

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
