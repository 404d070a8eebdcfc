//! Tests of bodies: their size and their timeout.

use std::time::Duration;

use crate::listener::{
    Limits,
    request::MAX_BUFFERED_BODY,
    tests::client::{BODY_TIMEOUT, Client, GET, LIMITS, POST, run_ready_tasks, server},
};

#[tokio::test(start_paused = true)]
async fn the_body_timeout_is_shorter_while_more_than_half_of_the_places_are_taken() {
    for (others, time) in [(3, BODY_TIMEOUT), (4, BODY_TIMEOUT / 10)] {
        let server = server(Duration::from_mins(1), 0, Limits { connections: 9, ..LIMITS });
        let mut handled = Vec::new();
        for number in 0..others {
            let mut client = Client::connect_to(&server, 2 + number);
            client.send(GET).await;
            run_ready_tasks().await;
            handled.push(client);
        }
        let mut client = Client::connect_to(&server, 1);
        client.send(&[POST, b"123"].concat()).await;
        // Reading the body fails, and the handler responds.
        client.read_response().await;
        assert_eq!(client.connected.elapsed().as_secs(), (time + Duration::from_mins(1)).as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_of_any_size_are_passed_on_completely() {
    let server = server(Duration::ZERO, 0, Limits { connections: 9, ..LIMITS });
    for size in [1, MAX_BUFFERED_BODY - 1, MAX_BUFFERED_BODY, MAX_BUFFERED_BODY + 1, 10 * MAX_BUFFERED_BODY] {
        let body = vec![b'x'; size];
        let declared = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n");
        let chunked =
            format!("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n");
        let chunked = [chunked.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
        for request in [[declared.as_bytes(), &body].concat(), chunked] {
            let mut client = Client::connect_to(&server, 1);
            client.send(&request).await;
            client.read_response_with("content-length: 0").await;
            // The connection can be used again.
            client.send(GET).await;
            client.read_response_with("content-length: 0").await;
        }
    }
}
