//! Tests of connections, with streams in memory and a paused clock.

use poem::{EndpointExt as _, Request, Response, endpoint::make, http::Method};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::*;
use crate::listener::{
    connection::{FAREWELL, FIRST_REQUEST_TIME},
    endpoint::Plain,
    request::MAX_WHOLE_BODY,
};

const HEAD: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_mins(1);
const BODY: Duration = Duration::from_secs(20);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// In these tests the clock advances only while all tasks wait.

/// Client with a connection that buffers 1 KiB in each direction.
struct Client {
    stream: DuplexStream,
    connected: Instant,
    stopping: watch::Sender<()>,
    /// Returns the time at which the connection ended.
    served: JoinHandle<Instant>,
}

const LIMITS: Limits = Limits {
    connections: 1,
    requests: 8,
    body: BODY,
    timeouts: Times { head: HEAD, idle: IDLE },
    shutdown: Duration::from_secs(5),
};

/// Creates a server with a handler that takes this time and responds with a body of this size.
fn server(handler: Duration, body: usize, limits: Limits) -> Arc<Server<impl Site>> {
    let endpoint = make(move |request: Request| async move {
        let is_head = request.method() == Method::HEAD;
        let received = request.into_body().into_bytes().await;
        sleep(handler).await;
        let size = if is_head || received.is_err() { 0 } else { body };
        Ok::<_, poem::Error>(Response::builder().body(vec![b'.'; size]))
    });
    let site = Plain(endpoint.map_to_response());
    Arc::new(Server::new(site, limits, ClientAddresses::default(), None))
}

fn peer(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 1))
}

impl Client {
    /// Connects to a new server.
    fn connect(handler: Duration, body: usize) -> Self {
        Self::connect_to(&server(handler, body, LIMITS), 1)
    }

    /// Connects from the address with this number.
    fn connect_to(server: &Arc<Server<impl Site>>, number: u8) -> Self {
        let address = ClientAddress::new(peer(number).ip());
        let place = server.connections.take(address, true).expect("a place").place;
        Self::connect_with(server, number, place)
    }

    fn connect_with(server: &Arc<Server<impl Site>>, number: u8, place: Place) -> Self {
        let server = Arc::clone(server);
        let (stream, other) = tokio::io::duplex(1024);
        let (stopping, stopped) = watch::channel(());
        let served = tokio::spawn(async move {
            server.serve(other, peer(0), peer(number), place, stopped).await;
            Instant::now()
        });
        Self { stream, connected: Instant::now(), stopping, served }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the connection is open");
    }

    /// Reads a response with an empty body.
    async fn read_response(&mut self) {
        self.read_response_with("HTTP/1.1 200 OK").await;
    }

    /// Reads a response with an empty body and this line in its headers.
    async fn read_response_with(&mut self, line: &str) {
        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\n") {
            let size = self.stream.read_buf(&mut response).await.expect("readable");
            assert_ne!(size, 0, "the response is incomplete");
        }
        let response = String::from_utf8_lossy(&response);
        assert!(response.lines().any(|found| found == line), "{response}");
    }

    /// Reads until the connection ends.
    async fn read(&mut self) -> String {
        let mut read = Vec::new();
        // An error also ends the connection: the server may not have read all bytes.
        let _ = self.stream.read_to_end(&mut read).await;
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Reads the frames of HTTP/2 until the connection ends: their kinds, streams and payloads.
    async fn read_frames(&mut self) -> Vec<(u8, u32, Vec<u8>)> {
        let mut frames = Vec::new();
        let mut head = [0; 9];
        while self.stream.read_exact(&mut head).await.is_ok() {
            let [a, b, c, kind, _, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.stream.read_exact(&mut payload).await.expect("a whole frame");
            frames.push((kind, u32::from_be_bytes(stream), payload));
        }
        frames
    }

    /// Waits for the end of the connection, and asserts that it existed for about this time.
    async fn assert_ended_after(self, lived: Duration) {
        let (least, most) = (lived, lived + 2 * FAREWELL);
        let found = self.served.await.expect("no panic") - self.connected;
        assert!((least..most).contains(&found), "{found:?}");
    }
}

/// Returns a frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short frame");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Returns requests for `/` on this number of HTTP/2 streams, after the settings. `method` is the HPACK byte
/// of the method, and `flags` are the flags of the frames.
fn over_http2(method: u8, flags: u8, settings: &[u8], count: u8) -> Vec<u8> {
    let head = [&[method, 0x84, 0x86, 0x41, 9][..], b"localhost"].concat();
    let streams = (0..count).map(|index| frame(1, flags, 2 * index + 1, &head));
    [PREFACE, &frame(4, 0, 0, settings), &streams.collect::<Vec<_>>().concat()].concat()
}

/// Returns a ping of HTTP/2, and the response to a ping of hyper: a client that keeps its connection alive.
fn keep_alive() -> Vec<u8> {
    /// Payload of all pings of h2 that a user of the crate sends, such as hyper.
    const USER_PING: [u8; 8] = [0x3b, 0x7c, 0xdb, 0x7a, 0x0b, 0x87, 0x16, 0xb4];
    [frame(6, 0, 0, &[0; 8]), frame(6, 1, 0, &USER_PING)].concat()
}

/// Returns `GET /` on the first stream of HTTP/2, after the settings.
fn get_over_http2(settings: &[u8]) -> Vec<u8> {
    over_http2(0x82, 5, settings, 1)
}

#[tokio::test(start_paused = true)]
async fn incomplete_headers_time_out() {
    for start in [b"", &GET[..1], &GET[..20], &PREFACE[..12], PREFACE, &get_over_http2(&[])[..40]] {
        let mut client = Client::connect(Duration::ZERO, 0);
        client.send(start).await;
        client.assert_ended_after(HEAD).await;
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
        while client.connected.elapsed() < IDLE && client.stream.write_all(&repeated).await.is_ok() {
            // Reads the responses to pings, so that more pings can be sent.
            let _ = timeout(Duration::from_secs(3), client.read()).await;
        }
        client.assert_ended_after(HEAD).await;
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
    client.assert_ended_after(3 * PAUSE + HEAD).await;

    let mut client = Client::connect(Duration::ZERO, 0);
    client.send(GET).await;
    client.assert_ended_after(IDLE).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_not_limited_by_client_timeouts() {
    let mut client = Client::connect(5 * IDLE, 0);
    client.send(GET).await;
    client.read_response().await;
    client.assert_ended_after(6 * IDLE).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_reads_times_out() {
    let mut client = Client::connect(Duration::ZERO, 1_000_000);
    client.send(GET).await;
    client.assert_ended_after(IDLE).await;

    // Over HTTP/2 also with a window of zero bytes.
    for settings in [&[][..], &[0, 4, 0, 0, 0, 0]] {
        let mut client = Client::connect(Duration::ZERO, 1_000_000);
        client.send(&get_over_http2(settings)).await;
        client.assert_ended_after(IDLE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_the_whole_response() {
    let mut client = Client::connect(Duration::ZERO, 20_000);
    client.send(&[&GET[..GET.len() - 2], b"Connection: close\r\n\r\n"].concat()).await;
    let mut response = Vec::new();
    while client.stream.read_buf(&mut response).await.expect("readable") > 0 {
        sleep(IDLE / 4).await;
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
    client.assert_ended_after(10 * IDLE).await;

    let mut client = Client::connect(Duration::ZERO, 1_000_000);
    client.send(&get_over_http2(&[0, 4, 0, 0, 0, 0])).await;
    while client.stream.write_all(&keep_alive()).await.is_ok() {
        // Reads the responses to pings, so that more pings can be sent.
        let _ = client.stream.read(&mut [0; 1024]).await;
        sleep(Duration::from_secs(1)).await;
    }
    client.assert_ended_after(10 * IDLE).await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_request_does_not_keep_the_connection_open() {
    let mut client = Client::connect(2 * IDLE, 0);
    client.send(&[get_over_http2(&[]), frame(3, 0, 1, &[0, 0, 0, 8])].concat()).await;
    client.served.await.expect("no panic");
    assert!(client.connected.elapsed() < 2 * IDLE + 2 * FAREWELL);
}

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
        let lived = Duration::from_secs(if has_response { 4 } else { 6 });
        client.assert_ended_after(lived).await;
    }
}

const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n";

/// Runs the tasks that can run, without advancing the clock.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_oldest_incomplete_request_of_an_address_is_evicted_by_its_next_request() {
    // The share of an address is two.
    let server = server(Duration::ZERO, 0, Limits { connections: 9, ..LIMITS });
    let mut unfinished: Vec<_> = (0..3).map(|_| Client::connect_to(&server, 1)).collect();
    for client in &mut unfinished {
        client.send(&[POST, b"12"].concat()).await;
        settle().await;
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
    attacker.assert_ended_after(LIMITS.shutdown).await;
}

#[tokio::test(start_paused = true)]
async fn the_address_with_the_most_incomplete_requests_loses_one() {
    let server = server(Duration::ZERO, 0, Limits { connections: 20, ..LIMITS });
    let mut unfinished = Vec::new();
    for number in [1, 2, 2, 3, 3, 4, 4, 1] {
        let mut client = Client::connect_to(&server, number);
        client.send(&[POST, b"12"].concat()).await;
        settle().await;
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
        settle().await;
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

#[tokio::test(start_paused = true)]
async fn an_unread_response_keeps_its_place_until_another_request_needs_it() {
    // Over HTTP/1.1, over HTTP/2, and over HTTP/2 with a window of zero bytes.
    for request in [GET.to_vec(), get_over_http2(&[]), get_over_http2(&[0, 4, 0, 0, 0, 0])] {
        // The share of an address is one.
        let limits = Limits { connections: 9, requests: 4, ..LIMITS };
        let server = server(Duration::ZERO, 100_000, limits);
        let mut reader = Client::connect_to(&server, 1);
        reader.send(&request).await;
        settle().await;
        assert!(!reader.served.is_finished());
        let mut other = Client::connect_to(&server, 1);
        other.send(GET).await;
        settle().await;
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
    settle().await;
    assert!(!reader.served.is_finished());
    let mut other = Client::connect_to(&server, 1);
    other.send(GET).await;
    settle().await;
    assert!(reader.served.is_finished());
}

#[tokio::test(start_paused = true)]
async fn unread_responses_to_rejected_requests_end_their_connection() {
    // One place for requests, and 64 places for responses to rejected requests.
    let limits = Limits { connections: 9, requests: 1, ..LIMITS };
    let server = server(Duration::from_secs(3), 0, limits);
    let mut handled = Client::connect_to(&server, 1);
    handled.send(GET).await;
    settle().await;
    let mut readers = [Client::connect_to(&server, 2), Client::connect_to(&server, 2)];
    for reader in &mut readers {
        reader.send(&over_http2(0x82, 5, &[0, 4, 0, 0, 0, 0], 32)).await;
        settle().await;
        assert!(!reader.served.is_finished());
    }
    let mut refused = Client::connect_to(&server, 3);
    refused.send(GET).await;
    assert!(refused.read().await.starts_with("HTTP/1.1 503"));
    assert!(readers[0].served.is_finished() && !readers[1].served.is_finished());
    handled.read_response().await;
}

#[tokio::test(start_paused = true)]
async fn the_body_timeout_is_shorter_while_more_than_half_of_the_places_are_taken() {
    for (others, time) in [(3, BODY), (4, BODY / 10)] {
        let server = server(Duration::from_mins(1), 0, Limits { connections: 9, ..LIMITS });
        let mut handled = Vec::new();
        for number in 0..others {
            let mut client = Client::connect_to(&server, 2 + number);
            client.send(GET).await;
            settle().await;
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
    for size in [1, MAX_WHOLE_BODY - 1, MAX_WHOLE_BODY, MAX_WHOLE_BODY + 1, 10 * MAX_WHOLE_BODY] {
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

#[tokio::test(start_paused = true)]
async fn a_new_connection_replaces_the_oldest_idle_one_of_the_address_with_the_most() {
    let server = server(Duration::from_secs(30), 0, Limits { connections: 4, ..LIMITS });
    let mut first = Client::connect_to(&server, 1);
    let second = Client::connect_to(&server, 1);
    let other = Client::connect_to(&server, 2);
    let third = Client::connect_to(&server, 1);
    // The connection is in use, so it is not evicted.
    first.send(GET).await;
    settle().await;
    let place = server.admit(peer(3)).await;
    settle().await;
    assert!(second.served.is_finished() && !third.served.is_finished() && !other.served.is_finished());
    let mut newcomer = Client::connect_with(&server, 3, place);
    newcomer.send(GET).await;
    newcomer.read_response().await;
    first.read_response().await;
}

#[tokio::test(start_paused = true)]
async fn an_eighth_of_the_connections_may_use_http2() {
    let server = server(Duration::from_secs(30), 0, Limits { connections: 16, ..LIMITS });
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect_to(&server, 1)).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        // The preface is sent in parts, and the second client sends a request.
        client.send(&PREFACE[..20]).await;
        settle().await;
        let rest = if index == 1 { get_over_http2(&[])[20..].to_vec() } else { PREFACE[20..].to_vec() };
        client.send(&rest).await;
        settle().await;
    }
    let is_finished: Vec<_> = clients.iter().map(|client| client.served.is_finished()).collect();
    assert_eq!(is_finished, [true, false, false]);
    // While both connections are in use, there is no place for a third one.
    clients[2].send(&get_over_http2(&[])[PREFACE.len()..]).await;
    settle().await;
    let mut third = Client::connect_to(&server, 2);
    third.send(PREFACE).await;
    settle().await;
    assert!(third.served.is_finished() && !clients[1].served.is_finished());
    let mut other = Client::connect_to(&server, 2);
    other.send(GET).await;
    other.read_response().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_waits_while_all_connections_are_in_use() {
    let server = server(Duration::from_secs(30), 0, Limits { connections: 1, ..LIMITS });
    let mut first = Client::connect_to(&server, 1);
    first.send(GET).await;
    settle().await;
    let place = server.admit(peer(2)).await;
    assert_eq!(first.connected.elapsed().as_secs(), 30);
    let mut newcomer = Client::connect_with(&server, 2, place);
    newcomer.send(GET).await;
    newcomer.read_response().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_opened_just_before_the_stop_may_send_its_first_request() {
    let mut client = Client::connect(Duration::ZERO, 0);
    client.stopping.send(()).expect("the connection is open");
    settle().await;
    client.send(GET).await;
    client.read_response().await;
    assert_eq!(client.read().await, "", "the connection is closed after the response");
    client.served.await.expect("no panic");

    let silent = Client::connect(Duration::ZERO, 0);
    silent.stopping.send(()).expect("the connection is open");
    silent.assert_ended_after(FIRST_REQUEST_TIME).await;

    // A connection that is idle after a request ends immediately.
    let mut idle = Client::connect(Duration::ZERO, 0);
    idle.send(GET).await;
    idle.read_response().await;
    settle().await;
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
