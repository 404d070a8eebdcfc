//! Tests of connections: their number, their protocols, and clients that stall.

use reqwest::{Method, Version};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    program::{Program, directory},
    service::{ANNA, Client, MINUTE},
};

const GET: &[u8] = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn connect(client: &Client) -> TcpStream {
    TcpStream::connect(client.address).await.expect("connected")
}

/// Waits until the server closes a connection. Fails if the connection is still open after a minute.
async fn assert_closed(mut connection: TcpStream) {
    let mut rest = Vec::new();
    // An error is also an end: the server may not have read the last bytes.
    let _ =
        timeout(MINUTE, connection.read_to_end(&mut rest)).await.expect("the server closes the connection");
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
}

/// Sends a request and reads the response, on a connection that stays open.
async fn exchange(connection: &mut TcpStream) {
    connection.write_all(GET).await.expect("written");
    let mut response = Vec::new();
    while !response.ends_with(b"}") {
        assert_ne!(
            connection.read_buf(&mut response).await.expect("readable"),
            0,
            "the connection was closed"
        );
    }
    assert!(response.starts_with(b"HTTP/1.1 200"));
}

async fn assert_served(client: &Client) {
    client.send(client.http.request(Method::GET, client.url("/health/live"))).await.ok();
}

#[tokio::test]
async fn connections_without_complete_headers_are_closed_and_other_clients_are_served() {
    let directory = directory();
    let program = Program::start(directory.path(), &["--header-timeout", "100ms", "--max-connections", "5"]);
    let mut waiting = Vec::new();
    for start in [b"", &GET[..1], &GET[..30], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut connection = connect(&program.client).await;
        connection.write_all(start).await.expect("written");
        waiting.push(connection);
    }
    assert_served(&program.client).await;
    for connection in waiting {
        assert_closed(connection).await;
    }

    assert_served(&program.client).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let directory = directory();
    let program = Program::start(directory.path(), &["--idle-timeout", "100ms"]);
    let mut connection = connect(&program.client).await;
    connection.write_all(GET).await.expect("written");
    let mut response = Vec::new();
    let read = timeout(MINUTE, connection.read_to_end(&mut response)).await;
    read.expect("the server closes the connection").expect("readable");
    assert!(response.starts_with(b"HTTP/1.1 200") && response.ends_with(b"}"));
}

#[tokio::test]
async fn a_connection_whose_client_does_not_read_is_closed() {
    let directory = directory();
    let program = Program::start(directory.path(), &["--idle-timeout", "100ms", "--max-connections", "1"]);
    let mut connection = connect(&program.client).await;
    // The responses are larger than all buffers between server and client.
    let requests = b"GET /docs/ HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20);
    connection.write_all(&requests).await.expect("written");
    // The only permitted connection is still open on the side of the client.
    assert_served(&program.client).await;
    drop(connection);
}

#[tokio::test]
async fn a_new_connection_replaces_the_one_that_has_been_idle_longest() {
    let directory = directory();
    let program = Program::start(directory.path(), &["--max-connections", "2"]);
    let (unused, mut used) = (connect(&program.client).await, connect(&program.client).await);
    exchange(&mut used).await;
    let mut new = connect(&program.client).await;
    exchange(&mut new).await;
    assert_closed(unused).await;
    exchange(&mut used).await;
}

#[tokio::test]
async fn the_shutdown_does_not_wait_for_idle_clients() {
    let directory = directory();
    let program = Program::start(directory.path(), &["--shutdown-timeout", "1d"]);
    let silent = connect(&program.client).await;
    let mut idle = connect(&program.client).await;
    exchange(&mut idle).await;
    program.stop();
    assert_closed(silent).await;
    assert_closed(idle).await;
}

#[tokio::test]
async fn clients_can_use_http2_with_prior_knowledge() {
    let directory = directory();
    let program = Program::start(directory.path(), &[]);
    let http = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().expect("a client");
    let client = Client { http, ..program.client.clone() };
    let page = client.http.get(client.url("/docs/")).send().await.expect("a response");
    assert_eq!(page.version(), Version::HTTP_2);
    assert!(page.text().await.expect("the complete page").ends_with("</html>"));
    client.enter(ANNA, None).await;
}
