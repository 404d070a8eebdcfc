//! Tests of requests that compete for places.

use std::time::Duration;

use crate::listener::{
    Limits,
    tests::{
        client::{Client, GET, LIMITS, POST, run_ready_tasks, server},
        http2::{get_over_http2, over_http2},
    },
};

#[tokio::test(start_paused = true)]
async fn the_oldest_incomplete_request_of_an_address_is_evicted_by_its_next_request() {
    // The share of an address is two.
    let server = server(Duration::ZERO, 0, Limits { connections: 9, ..LIMITS });
    let mut unfinished: Vec<_> = (0..3).map(|_| Client::connect_to(&server, 1)).collect();
    for client in &mut unfinished {
        client.send(&[POST, b"12"].concat()).await;
        run_ready_tasks().await;
    }
    let evicted = unfinished[0].read().await;
    assert!(evicted.starts_with("HTTP/1.1 503") && evicted.contains("connection: close"), "{evicted}");
    // A client of the same address and a client of another address are served.
    for number in [1, 2] {
        for request in [GET.to_vec(), [POST, b"1234"].concat()] {
            let mut honest = Client::connect_to(&server, number);
            honest.send(&request).await;
            honest.read_response().await;
        }
    }
    assert!(unfinished[1].read().await.starts_with("HTTP/1.1 503"));
    let mut last = unfinished.pop().expect("three");
    last.send(b"34").await;
    last.read_response().await;
}

#[tokio::test(start_paused = true)]
async fn incomplete_http2_requests_get_a_response_and_the_connection_is_closed() {
    let server = server(Duration::ZERO, 0, Limits { connections: 9, ..LIMITS });
    let mut attacker = Client::connect_to(&server, 1);
    // The requests have no END_STREAM flag, so they are incomplete.
    attacker.send(&over_http2(0x83, 4, &[], 20)).await;
    let mut honest = Client::connect_to(&server, 1);
    honest.send(&[POST, b"1234"].concat()).await;
    honest.read_response().await;
    let frames = attacker.read_frames().await;
    let responses = frames.iter().filter(|(kind, ..)| *kind == 1).count();
    assert!(responses >= 18, "{responses} of 20 have a response");
    assert!(frames.iter().any(|(kind, stream, _)| (*kind, *stream) == (7, 0)), "GOAWAY");
    // The last two requests may still be completed.
    attacker.assert_ended_after(LIMITS.shutdown_timeout).await;
}

#[tokio::test(start_paused = true)]
async fn the_address_with_the_most_incomplete_requests_loses_one() {
    let server = server(Duration::ZERO, 0, Limits { connections: 20, ..LIMITS });
    let mut unfinished = Vec::new();
    for number in [1, 2, 2, 3, 3, 4, 4, 1] {
        let mut client = Client::connect_to(&server, number);
        client.send(&[POST, b"12"].concat()).await;
        run_ready_tasks().await;
        unfinished.push(client);
    }
    let mut honest = Client::connect_to(&server, 5);
    honest.send(&[POST, b"12"].concat()).await;
    assert!(
        unfinished[0].read().await.starts_with("HTTP/1.1 503"),
        "the oldest request of the addresses with two"
    );
    honest.send(b"34").await;
    honest.read_response().await;
    unfinished[1].send(b"34").await;
    unfinished[1].read_response().await;
}

#[tokio::test(start_paused = true)]
async fn a_handled_request_keeps_its_place_and_further_requests_are_rejected() {
    let server = server(Duration::from_secs(30), 0, Limits { connections: 20, ..LIMITS });
    let mut handled = Vec::new();
    for number in [1, 1, 2, 2, 3, 3, 4, 4] {
        let mut client = Client::connect_to(&server, number);
        client.send(&[POST, b"1234"].concat()).await;
        run_ready_tasks().await;
        handled.push(client);
    }
    for (number, request) in [(1, GET), (5, GET), (5, POST)] {
        let mut refused = Client::connect_to(&server, number);
        refused.send(request).await;
        let response = refused.read().await;
        assert!(response.starts_with("HTTP/1.1 503") && response.contains("connection: close"), "{response}");
    }
    let mut refused = Client::connect_to(&server, 5);
    refused.send(&get_over_http2(&[])).await;
    let frames = refused.read_frames().await;
    assert!(frames.iter().any(|(kind, stream, payload)| (*kind, *stream) == (1, 1) && payload[0] == 0x48));
    assert!(frames.iter().any(|(kind, stream, _)| (*kind, *stream) == (7, 0)), "GOAWAY");
    for mut client in handled {
        client.read_response().await;
    }
    let mut next = Client::connect_to(&server, 5);
    next.send(GET).await;
    next.read_response().await;
}
