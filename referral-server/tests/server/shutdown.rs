//! Tests of the signals that end the program: drain delay, requests in flight, and a second signal.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::json;

use crate::{
    program::{Program, directory, signal},
    service::{ANNA, BORIS},
};

#[tokio::test]
async fn a_request_in_progress_gets_a_response_before_the_shutdown() {
    let directory = directory();
    let mut program = Program::start(directory.path(), &[]);
    let address = program.client.address;
    let body = json!({ "phone": ANNA }).to_string();
    let (start, rest) = body.split_at(5);
    let mut connection = TcpStream::connect(address).expect("connected");
    let length = body.len();
    write!(
        connection,
        "POST /api/v1/auth/send_code/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{start}"
    )
    .expect("written");
    // After a response on another connection, the first one has been accepted.
    program.client.enter(BORIS, None).await;

    program.terminate();
    // The shutdown has started as soon as the program no longer listens.
    while TcpStream::connect(address).is_ok() {}
    connection.write_all(rest.as_bytes()).expect("written");
    let mut response = String::new();
    connection.read_to_string(&mut response).expect("a response");
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert!(program.child.wait().expect("the program ended").success());
}

#[tokio::test]
async fn a_draining_server_is_not_ready_and_serves_all_other_requests() {
    let directory = directory();
    let mut program = Program::start(directory.path(), &["--drain-delay", "1h"]);
    let ready = async || {
        let url = program.client.url("/health/ready");
        program.client.send(program.client.http.get(url)).await
    };
    assert_eq!(ready().await.header("connection"), None);
    program.terminate();
    // The signal takes effect asynchronously.
    let not_ready = loop {
        let response = ready().await;
        if response.status != 200 {
            break response;
        }
    };
    not_ready.assert_problem(503, "unavailable");
    assert!(not_ready.text.contains("shutting down"), "{}", not_ready.text);
    let live = program.client.http.get(program.client.url("/health/live"));
    let live = program.client.send(live).await;
    assert_eq!((live.status, live.header("connection")), (200, Some("close")));
    program.client.enter(ANNA, None).await;

    // HTTP/2 has no such header.
    let http = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().expect("a client");
    let response = http.get(program.client.url("/health/live")).send().await.expect("a response");
    assert_eq!((response.status().as_u16(), response.headers().get("connection")), (200, None));

    let log = program.logged();
    assert!(log.contains("draining delay=1h"), "{log}");
    assert!(!log.contains("shutting down") && !log.contains("ERROR"), "{log}");
    assert!(program.reload().contains("reloaded the keys"), "keys must be reloaded while draining");
    // The second signal ends the program before the drain delay has passed.
    program.terminate();
    assert_eq!(program.child.wait().expect("the program ended").code(), Some(128 + 15));
}

#[tokio::test]
async fn a_second_signal_ends_a_server_that_waits_for_requests() {
    let directory = directory();
    let mut program =
        Program::start(directory.path(), &["--shutdown-timeout", "1h", "--request-timeout", "1h"]);
    let address = program.client.address;
    let mut connection = TcpStream::connect(address).expect("connected");
    let head = "POST /api/v1/auth/send_code/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n";
    connection.write_all(head.as_bytes()).expect("written");
    // After a response on another connection, the first one has been accepted.
    program.client.enter(BORIS, None).await;
    program.terminate();
    while TcpStream::connect(address).is_ok() {}
    assert!(program.logged().contains("shutting down"));
    assert!(program.child.try_wait().expect("a child").is_none(), "the program must wait for the request");
    signal(&program.child, "-INT");
    assert_eq!(program.child.wait().expect("the program ended").code(), Some(128 + 2));
}
