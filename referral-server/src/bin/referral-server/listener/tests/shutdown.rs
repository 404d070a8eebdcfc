//! Tests of the shutdown and of draining.

use std::{sync::Arc, time::Duration};

use referral_server::Draining;
use tokio::{io::AsyncReadExt as _, time::sleep};

use crate::listener::{
    connection::FIRST_REQUEST_TIMEOUT,
    tests::client::{Client, GET, LIMITS, run_ready_tasks, server},
};

#[tokio::test(start_paused = true)]
async fn a_request_in_flight_completes_after_the_signal_to_stop_within_the_shutdown_time() {
    for (handler, has_response) in [(4, true), (8, false)] {
        let mut client = Client::connect(Duration::from_secs(handler), 0);
        client.send(GET).await;
        sleep(Duration::from_secs(1)).await;
        client.stopping.send(()).expect("the connection is open");
        let mut response = Vec::new();
        client.stream.read_to_end(&mut response).await.expect("readable");
        assert_eq!(response.starts_with(b"HTTP/1.1 200"), has_response, "{handler}");
        let lifetime = Duration::from_secs(if has_response { 4 } else { 6 });
        client.assert_ended_after(lifetime).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_opened_just_before_the_stop_may_send_its_first_request() {
    let mut client = Client::connect(Duration::ZERO, 0);
    client.stopping.send(()).expect("the connection is open");
    run_ready_tasks().await;
    client.send(GET).await;
    client.read_response().await;
    assert_eq!(client.read().await, "", "the connection is closed after the response");
    client.served.await.expect("no panic");

    let silent = Client::connect(Duration::ZERO, 0);
    silent.stopping.send(()).expect("the connection is open");
    silent.assert_ended_after(FIRST_REQUEST_TIMEOUT).await;

    // A connection that is idle after a request ends immediately.
    let mut idle = Client::connect(Duration::ZERO, 0);
    idle.send(GET).await;
    idle.read_response().await;
    run_ready_tasks().await;
    idle.stopping.send(()).expect("the connection is open");
    idle.assert_ended_after(Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn while_draining_each_connection_is_closed_after_its_next_response() {
    let draining = Draining::default();
    let server = Arc::into_inner(server(Duration::ZERO, 0, LIMITS)).expect("the server is not shared yet");
    let server = Arc::new(server.draining(draining.clone()));
    let mut client = Client::connect_to(&server, 1);
    client.send(GET).await;
    client.read_response_with("HTTP/1.1 200 OK").await;
    draining.start();
    client.send(GET).await;
    client.read_response_with("connection: close").await;
    assert_eq!(client.read().await, "");
}
