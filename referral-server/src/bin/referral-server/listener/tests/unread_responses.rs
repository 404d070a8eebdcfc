//! Tests of responses that the client does not read.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use crate::listener::{
    Limits,
    tests::{
        client::{Client, GET, LIMITS, run_ready_tasks, server},
        http2::{frame, get_over_http2, over_http2},
    },
};

#[tokio::test(start_paused = true)]
async fn an_unread_response_keeps_its_place_until_another_request_needs_it() {
    // Over HTTP/1.1, over HTTP/2, and over HTTP/2 with a window of zero bytes.
    for request in [GET.to_vec(), get_over_http2(&[]), get_over_http2(&[0, 4, 0, 0, 0, 0])] {
        // The share of an address is one.
        let limits = Limits { connections: 9, requests: 4, ..LIMITS };
        let server = server(Duration::ZERO, 100_000, limits);
        let mut reader = Client::connect_to(&server, 1);
        reader.send(&request).await;
        run_ready_tasks().await;
        assert!(!reader.served.is_finished());
        let mut other = Client::connect_to(&server, 1);
        other.send(GET).await;
        run_ready_tasks().await;
        assert!(reader.served.is_finished() && !other.served.is_finished());
        let read = other.stream.read_u8().await.expect("a response");
        assert_eq!(read, b'H');
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_without_a_body_keeps_its_place_after_an_unread_response() {
    // The share of an address is two.
    let server = server(Duration::ZERO, 100_000, Limits { connections: 9, ..LIMITS });
    let mut reader = Client::connect_to(&server, 1);
    let head = [&[0x02, 4][..], b"HEAD", &[0x84, 0x86, 0x41, 9], b"localhost"].concat();
    reader.send(&[get_over_http2(&[]), frame(1, 5, 3, &head)].concat()).await;
    run_ready_tasks().await;
    assert!(!reader.served.is_finished());
    let mut other = Client::connect_to(&server, 1);
    other.send(GET).await;
    run_ready_tasks().await;
    assert!(reader.served.is_finished());
}

#[tokio::test(start_paused = true)]
async fn unread_responses_to_rejected_requests_end_their_connection() {
    // One place for requests, and 64 places for responses to rejected requests.
    let limits = Limits { connections: 9, requests: 1, ..LIMITS };
    let server = server(Duration::from_secs(3), 0, limits);
    let mut handled = Client::connect_to(&server, 1);
    handled.send(GET).await;
    run_ready_tasks().await;
    let mut readers = [Client::connect_to(&server, 2), Client::connect_to(&server, 2)];
    for reader in &mut readers {
        reader.send(&over_http2(0x82, 5, &[0, 4, 0, 0, 0, 0], 32)).await;
        run_ready_tasks().await;
        assert!(!reader.served.is_finished());
    }
    let mut refused = Client::connect_to(&server, 3);
    refused.send(GET).await;
    assert!(refused.read().await.starts_with("HTTP/1.1 503"));
    assert!(readers[0].served.is_finished() && !readers[1].served.is_finished());
    handled.read_response().await;
}
