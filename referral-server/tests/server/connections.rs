//! Connections of the program: how many, which protocols, and clients that keep it waiting.

use reqwest::{Method, Version};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    binary::{Program, folder},
    service::{ANNA, Client},
};

const GET: &[u8] = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn connect(client: &Client) -> TcpStream {
    TcpStream::connect(client.address).await.expect("connected")
}

/// Waits for the end of a connection. One that is never closed ends the test by its time limit.
async fn assert_closed(mut connection: TcpStream) {
    let mut rest = Vec::new();
    // An error, too, is an end: what was sent last may not have been read.
    let _ = connection.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
}

/// Asks and reads the answer, on a connection that stays open.
async fn answer(connection: &mut TcpStream) {
    connection.write_all(GET).await.expect("written");
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        assert_ne!(connection.read_buf(&mut answer).await.expect("readable"), 0, "an answer");
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

async fn assert_served(client: &Client) {
    client.send(client.http.request(Method::GET, client.url("/health/live"))).await.ok();
}

#[tokio::test]
async fn who_sends_no_whole_head_is_hung_up_on_and_others_are_served() {
    let folder = folder();
    let program = Program::start(folder.path(), &["--head-time", "100ms", "--max-connections", "5"]);
    let mut waiting = Vec::new();
    for begin in [b"", &GET[..1], &GET[..30], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut connection = connect(&program.client).await;
        connection.write_all(begin).await.expect("written");
        waiting.push(connection);
    }
    assert_served(&program.client).await;
    for connection in waiting {
        assert_closed(connection).await;
    }

    assert_served(&program.client).await;
}

#[tokio::test]
async fn who_asks_for_nothing_more_is_hung_up_on() {
    let folder = folder();
    let program = Program::start(folder.path(), &["--idle-time", "100ms"]);
    let mut connection = connect(&program.client).await;
    connection.write_all(GET).await.expect("written");
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.expect("it is closed");
    assert!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"}"));
}

#[tokio::test]
async fn who_does_not_read_is_hung_up_on() {
    let folder = folder();
    let program = Program::start(folder.path(), &["--idle-time", "100ms", "--max-connections", "1"]);
    let mut connection = connect(&program.client).await;
    // More answers than find room on the way.
    let asked = b"GET /docs/ HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20);
    connection.write_all(&asked).await.expect("written");
    // There is one place, and its owner still thinks that it is theirs.
    assert_served(&program.client).await;
    drop(connection);
}

#[tokio::test]
async fn a_newcomer_replaces_the_connection_that_has_been_idle_longest() {
    let folder = folder();
    let program = Program::start(folder.path(), &["--max-connections", "2"]);
    let (unused, mut used) = (connect(&program.client).await, connect(&program.client).await);
    answer(&mut used).await;
    let mut newcomer = connect(&program.client).await;
    answer(&mut newcomer).await;
    assert_closed(unused).await;
    answer(&mut used).await;
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_client_that_does_nothing() {
    let folder = folder();
    let program = Program::start(folder.path(), &["--shutdown-time", "1d"]);
    let silent = connect(&program.client).await;
    let mut idle = connect(&program.client).await;
    answer(&mut idle).await;
    program.stop();
    assert_closed(silent).await;
    assert_closed(idle).await;
}

#[tokio::test]
async fn http2_is_spoken_with_whoever_begins_with_it() {
    let folder = folder();
    let program = Program::start(folder.path(), &[]);
    let http = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().expect("a client");
    let client = Client { http, ..program.client.clone() };
    let page = client.http.get(client.url("/docs/")).send().await.expect("an answer");
    assert_eq!(page.version(), Version::HTTP_2);
    assert!(page.text().await.expect("the whole page").ends_with("</html>"));
    client.enter(ANNA, None).await;
}
