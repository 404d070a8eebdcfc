//! Tests of connections whose client stalls: in headers, between requests and while it reads.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};

use crate::listener::{
    connection::GRACEFUL_CLOSE_TIMEOUT,
    tests::{
        client::{Client, GET, HEADER_TIMEOUT, IDLE_TIMEOUT},
        http2::{PREFACE, frame, get_over_http2, keep_alive},
    },
};

#[tokio::test(start_paused = true)]
async fn incomplete_headers_time_out() {
    for start in [b"", &GET[..1], &GET[..20], &PREFACE[..12], PREFACE, &get_over_http2(&[])[..40]] {
        let mut client = Client::connect(Duration::ZERO, 0);
        client.send(start).await;
        client.assert_ended_after(HEADER_TIMEOUT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn single_bytes_do_not_extend_the_header_timeout() {
    let mut client = Client::connect(Duration::ZERO, 0);
    let head = [b"GET / HTTP/1.1\r\n", &[b'x'; 100][..]].concat();
    for byte in head {
        // Writing fails after the connection is closed.
        let _ = client.stream.write_all(&[byte]).await;
        sleep(Duration::from_secs(1)).await;
    }
    assert!(client.served.is_finished());
    assert!(client.stream.write_all(b"x").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn http2_frames_without_complete_headers_do_not_extend_the_header_timeout() {
    let connected = [PREFACE, &frame(4, 0, 0, &[])].concat();
    let incomplete = [&connected[..], &frame(1, 1, 1, &[0x82])].concat();
    for (start, repeated) in [(connected, keep_alive()), (incomplete, frame(9, 0, 1, &[]))] {
        let mut client = Client::connect(Duration::ZERO, 0);
        client.send(&start).await;
        while client.connected.elapsed() < IDLE_TIMEOUT && client.stream.write_all(&repeated).await.is_ok() {
            // Reads the responses to pings, so that more pings can be sent.
            let _ = timeout(Duration::from_secs(3), client.read()).await;
        }
        client.assert_ended_after(HEADER_TIMEOUT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_idle_timeout_applies_between_requests_and_the_header_timeout_within_headers() {
    const PAUSE: Duration = Duration::from_secs(59);
    let mut client = Client::connect(Duration::ZERO, 0);
    for _ in 0..3 {
        client.send(GET).await;
        client.read_response().await;
        sleep(PAUSE).await;
    }
    client.send(&GET[..20]).await;
    client.assert_ended_after(3 * PAUSE + HEADER_TIMEOUT).await;

    let mut client = Client::connect(Duration::ZERO, 0);
    client.send(GET).await;
    client.assert_ended_after(IDLE_TIMEOUT).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_not_limited_by_client_timeouts() {
    let mut client = Client::connect(5 * IDLE_TIMEOUT, 0);
    client.send(GET).await;
    client.read_response().await;
    client.assert_ended_after(6 * IDLE_TIMEOUT).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_reads_times_out() {
    let mut client = Client::connect(Duration::ZERO, 1_000_000);
    client.send(GET).await;
    client.assert_ended_after(IDLE_TIMEOUT).await;

    // Over HTTP/2 also with a window of zero bytes.
    for settings in [&[][..], &[0, 4, 0, 0, 0, 0]] {
        let mut client = Client::connect(Duration::ZERO, 1_000_000);
        client.send(&get_over_http2(settings)).await;
        client.assert_ended_after(IDLE_TIMEOUT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_the_whole_response() {
    let mut client = Client::connect(Duration::ZERO, 20_000);
    client.send(&[&GET[..GET.len() - 2], b"Connection: close\r\n\r\n"].concat()).await;
    let mut response = Vec::new();
    while client.stream.read_buf(&mut response).await.expect("readable") > 0 {
        sleep(IDLE_TIMEOUT / 4).await;
    }
    assert!(response.ends_with(&vec![b'.'; 20_000]));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_single_bytes_or_only_pings_times_out() {
    let mut client = Client::connect(Duration::ZERO, 1_000_000);
    client.send(GET).await;
    while client.stream.read_u8().await.is_ok() && !client.served.is_finished() {
        sleep(Duration::from_secs(1)).await;
    }
    client.assert_ended_after(10 * IDLE_TIMEOUT).await;

    let mut client = Client::connect(Duration::ZERO, 1_000_000);
    client.send(&get_over_http2(&[0, 4, 0, 0, 0, 0])).await;
    while client.stream.write_all(&keep_alive()).await.is_ok() {
        // Reads the responses to pings, so that more pings can be sent.
        let _ = client.stream.read(&mut [0; 1024]).await;
        sleep(Duration::from_secs(1)).await;
    }
    client.assert_ended_after(10 * IDLE_TIMEOUT).await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_request_does_not_keep_the_connection_open() {
    let mut client = Client::connect(2 * IDLE_TIMEOUT, 0);
    client.send(&[get_over_http2(&[]), frame(3, 0, 1, &[0, 0, 0, 8])].concat()).await;
    client.served.await.expect("no panic");
    assert!(client.connected.elapsed() < 2 * IDLE_TIMEOUT + 2 * GRACEFUL_CLOSE_TIMEOUT);
}
