//! The listener under attack and at rest, on streams in memory and a clock that is set forward.

use poem::{EndpointExt as _, endpoint::make, http::Method};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::*;

const HEAD: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_mins(1);
const BODY: Duration = Duration::from_secs(20);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// In these tests time passes only while every task waits: then the clock is set forward.

/// A client, whose connection has room for 1 KiB each way.
struct Client {
    stream: DuplexStream,
    connected: Instant,
    stopping: watch::Sender<()>,
    /// When it ended.
    served: JoinHandle<Instant>,
}

const LIMITS: Limits = Limits {
    connections: 1,
    requests: 8,
    body: BODY,
    patience: Times { head: HEAD, idle: IDLE },
    shutdown: Duration::from_secs(5),
};

/// A server whose handler takes that long and answers with a body of that size.
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
    /// Connects to a server of its own.
    fn connect(handler: Duration, body: usize) -> Self {
        Self::connect_to(&server(handler, body, LIMITS), 1)
    }

    /// Connects from the address with that number.
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

    /// Reads an answer with an empty body.
    async fn answered(&mut self) {
        self.answered_with("HTTP/1.1 200 OK").await;
    }

    /// Reads an answer with an empty body and that line in its head.
    async fn answered_with(&mut self, line: &str) {
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            assert_ne!(self.stream.read_buf(&mut answer).await.expect("readable"), 0, "an answer");
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.lines().any(|found| found == line), "{answer}");
    }

    /// Reads to the end of the connection.
    async fn read(&mut self) -> String {
        let mut read = Vec::new();
        // An error is an end, too: not all that was sent may have been read.
        let _ = self.stream.read_to_end(&mut read).await;
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Reads the frames of HTTP/2 to the end of the connection: their kinds, streams and payloads.
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

    /// Waits for the end of the connection, and asserts that it lived about that long.
    async fn assert_ended_after(self, lived: Duration) {
        let (least, most) = (lived, lived + 2 * FAREWELL);
        let found = self.served.await.expect("no panic") - self.connected;
        assert!((least..most).contains(&found), "{found:?}");
    }
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short frame");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Requests for `/` on that many streams of HTTP/2, after the settings: with the method that HPACK writes
/// as this byte, in frames with these flags.
fn over_http2(method: u8, flags: u8, settings: &[u8], count: u8) -> Vec<u8> {
    let head = [&[method, 0x84, 0x86, 0x41, 9][..], b"localhost"].concat();
    let streams = (0..count).map(|index| frame(1, flags, 2 * index + 1, &head));
    [PREFACE, &frame(4, 0, 0, settings), &streams.collect::<Vec<_>>().concat()].concat()
}

/// `GET /` on the first stream of HTTP/2, after the settings.
fn get_over_http2(settings: &[u8]) -> Vec<u8> {
    over_http2(0x82, 5, settings, 1)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_whole_head_is_not_waited_for() {
    for begin in [b"", &GET[..1], &GET[..20], PREFACE, &get_over_http2(&[])[..40]] {
        let mut client = Client::connect(Duration::ZERO, 0);
        client.send(begin).await;
        client.assert_ended_after(HEAD).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_now_and_then_buys_no_time() {
    let mut client = Client::connect(Duration::ZERO, 0);
    let head = [b"GET / HTTP/1.1\r\n", &[b'x'; 100][..]].concat();
    for byte in head {
        // It fails when the connection is closed.
        let _ = client.stream.write_all(&[byte]).await;
        sleep(Duration::from_secs(1)).await;
    }
    assert!(client.served.is_finished());
    assert!(client.stream.write_all(b"x").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn between_two_requests_there_is_more_time_than_within_a_head() {
    const PAUSE: Duration = Duration::from_secs(59);
    let mut client = Client::connect(Duration::ZERO, 0);
    for _ in 0..3 {
        client.send(GET).await;
        client.answered().await;
        sleep(PAUSE).await;
    }
    client.send(&GET[..20]).await;
    client.assert_ended_after(3 * PAUSE + HEAD).await;

    let mut client = Client::connect(Duration::ZERO, 0);
    client.send(GET).await;
    client.assert_ended_after(IDLE).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_take_longer_than_a_client() {
    let mut client = Client::connect(5 * IDLE, 0);
    client.send(GET).await;
    client.answered().await;
    client.assert_ended_after(6 * IDLE).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_not_waited_for() {
    let mut client = Client::connect(Duration::ZERO, 1_000_000);
    client.send(GET).await;
    client.assert_ended_after(IDLE).await;

    // Over HTTP/2 also with a window into which nothing fits.
    for settings in [&[][..], &[0, 4, 0, 0, 0, 0]] {
        let mut client = Client::connect(Duration::ZERO, 1_000_000);
        client.send(&get_over_http2(settings)).await;
        client.assert_ended_after(IDLE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_gets_everything() {
    let mut client = Client::connect(Duration::ZERO, 20_000);
    client.send(&[&GET[..GET.len() - 2], b"Connection: close\r\n\r\n"].concat()).await;
    let mut answer = Vec::new();
    while client.stream.read_buf(&mut answer).await.expect("readable") > 0 {
        sleep(IDLE / 4).await;
    }
    assert!(answer.ends_with(&vec![b'.'; 20_000]));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_only_seems_to_read_is_not_waited_for_without_end() {
    let mut client = Client::connect(Duration::ZERO, 1_000_000);
    client.send(GET).await;
    while client.stream.read_u8().await.is_ok() && !client.served.is_finished() {
        sleep(Duration::from_secs(1)).await;
    }
    client.assert_ended_after(10 * IDLE).await;

    let mut client = Client::connect(Duration::ZERO, 1_000_000);
    client.send(&get_over_http2(&[0, 4, 0, 0, 0, 0])).await;
    let ping = frame(6, 0, 0, &[0; 8]);
    while client.stream.write_all(&ping).await.is_ok() {
        // The answers to pings, so that there is room for more.
        let _ = client.stream.read(&mut [0; 1024]).await;
        sleep(Duration::from_secs(1)).await;
    }
    client.assert_ended_after(10 * IDLE).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_taken_back_does_not_hold_the_connection() {
    let mut client = Client::connect(2 * IDLE, 0);
    client.send(&[get_over_http2(&[]), frame(3, 0, 1, &[0, 0, 0, 8])].concat()).await;
    client.served.await.expect("no panic");
    assert!(client.connected.elapsed() < 2 * IDLE + 2 * FAREWELL);
}

#[tokio::test(start_paused = true)]
async fn a_request_under_way_is_answered_after_the_signal_to_stop_unless_it_takes_too_long() {
    for (handler, is_answered) in [(4, true), (8, false)] {
        let mut client = Client::connect(Duration::from_secs(handler), 0);
        client.send(GET).await;
        sleep(Duration::from_secs(1)).await;
        client.stopping.send(()).expect("the connection is open");
        let mut answer = Vec::new();
        client.stream.read_to_end(&mut answer).await.expect("readable");
        assert_eq!(answer.starts_with(b"HTTP/1.1 200"), is_answered, "{handler}");
        let lived = Duration::from_secs(if is_answered { 4 } else { 6 });
        client.assert_ended_after(lived).await;
    }
}

const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n";

/// Runs the tasks that can run. Time does not pass.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_loses_its_oldest_unfinished_request_to_its_own_next() {
    // The share of an address is two.
    let server = server(Duration::ZERO, 0, Limits { connections: 9, ..LIMITS });
    let mut unfinished: Vec<_> = (0..3).map(|_| Client::connect_to(&server, 1)).collect();
    for client in &mut unfinished {
        client.send(&[POST, b"12"].concat()).await;
        settle().await;
    }
    let evicted = unfinished[0].read().await;
    assert!(evicted.starts_with("HTTP/1.1 503") && evicted.contains("connection: close"), "{evicted}");
    // An honest client of the same address is served, and one of another address as well.
    for number in [1, 2] {
        for request in [GET.to_vec(), [POST, b"1234"].concat()] {
            let mut honest = Client::connect_to(&server, number);
            honest.send(&request).await;
            honest.answered().await;
        }
    }
    assert!(unfinished[1].read().await.starts_with("HTTP/1.1 503"));
    let mut last = unfinished.pop().expect("three");
    last.send(b"34").await;
    last.answered().await;
}

#[tokio::test(start_paused = true)]
async fn unfinished_requests_over_http2_are_answered_and_the_client_is_sent_away() {
    let server = server(Duration::ZERO, 0, Limits { connections: 9, ..LIMITS });
    let mut attacker = Client::connect_to(&server, 1);
    // Without END_STREAM.
    attacker.send(&over_http2(0x83, 4, &[], 20)).await;
    let mut honest = Client::connect_to(&server, 1);
    honest.send(&[POST, b"1234"].concat()).await;
    honest.answered().await;
    let frames = attacker.read_frames().await;
    let answered = frames.iter().filter(|(kind, ..)| *kind == 1).count();
    assert!(answered >= 18, "{answered} of 20 are answered");
    assert!(frames.iter().any(|(kind, stream, _)| (*kind, *stream) == (7, 0)), "GOAWAY");
    // The last two could still be finished.
    attacker.assert_ended_after(LIMITS.shutdown).await;
}

#[tokio::test(start_paused = true)]
async fn the_address_with_the_most_unfinished_requests_makes_room() {
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
    assert!(unfinished[0].read().await.starts_with("HTTP/1.1 503"), "the oldest of those with two");
    honest.send(b"34").await;
    honest.answered().await;
    unfinished[1].send(b"34").await;
    unfinished[1].answered().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_handled_keeps_its_place_and_further_ones_are_refused() {
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
        client.answered().await;
    }
    let mut next = Client::connect_to(&server, 5);
    next.send(GET).await;
    next.answered().await;
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_read_holds_its_place_until_another_request_needs_it() {
    // Over HTTP/1.1, over HTTP/2, and over HTTP/2 with a window into which nothing fits.
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
async fn a_response_without_a_body_holds_its_place_behind_one_that_is_not_read() {
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
async fn responses_to_refused_requests_that_are_not_read_end_their_connection() {
    // No place for a second request, and 64 for responses to refused ones.
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
    handled.answered().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_has_less_time_while_more_than_half_of_the_places_are_taken() {
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
        // The body of the request fails, and the handler answers.
        client.answered().await;
        assert_eq!(client.connected.elapsed().as_secs(), (time + Duration::from_mins(1)).as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_of_any_size_are_passed_on_whole() {
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
            client.answered_with("content-length: 0").await;
            // The connection can be used again.
            client.send(GET).await;
            client.answered_with("content-length: 0").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_replaces_the_oldest_idle_connection_of_the_address_with_the_most() {
    let server = server(Duration::from_secs(30), 0, Limits { connections: 4, ..LIMITS });
    let mut first = Client::connect_to(&server, 1);
    let second = Client::connect_to(&server, 1);
    let other = Client::connect_to(&server, 2);
    let third = Client::connect_to(&server, 1);
    // In use, so it stays.
    first.send(GET).await;
    settle().await;
    let place = server.admit(peer(3)).await;
    settle().await;
    assert!(second.served.is_finished() && !third.served.is_finished() && !other.served.is_finished());
    let mut newcomer = Client::connect_with(&server, 3, place);
    newcomer.send(GET).await;
    newcomer.answered().await;
    first.answered().await;
}

#[tokio::test(start_paused = true)]
async fn an_eighth_of_the_connections_may_speak_http2() {
    let server = server(Duration::from_secs(30), 0, Limits { connections: 16, ..LIMITS });
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect_to(&server, 1)).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        // In pieces, and the second one asks for something.
        client.send(&PREFACE[..20]).await;
        settle().await;
        let rest = if index == 1 { get_over_http2(&[])[20..].to_vec() } else { PREFACE[20..].to_vec() };
        client.send(&rest).await;
        settle().await;
    }
    let is_finished: Vec<_> = clients.iter().map(|client| client.served.is_finished()).collect();
    assert_eq!(is_finished, [true, false, false]);
    // While both are in use, there is no place for a third.
    clients[2].send(&get_over_http2(&[])[PREFACE.len()..]).await;
    settle().await;
    let mut third = Client::connect_to(&server, 2);
    third.send(PREFACE).await;
    settle().await;
    assert!(third.served.is_finished() && !clients[1].served.is_finished());
    let mut other = Client::connect_to(&server, 2);
    other.send(GET).await;
    other.answered().await;
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_waits_while_all_connections_are_in_use() {
    let server = server(Duration::from_secs(30), 0, Limits { connections: 1, ..LIMITS });
    let mut first = Client::connect_to(&server, 1);
    first.send(GET).await;
    settle().await;
    let place = server.admit(peer(2)).await;
    assert_eq!(first.connected.elapsed().as_secs(), 30);
    let mut newcomer = Client::connect_with(&server, 2, place);
    newcomer.send(GET).await;
    newcomer.answered().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_opened_just_before_the_stop_may_send_its_first_request() {
    let mut client = Client::connect(Duration::ZERO, 0);
    client.stopping.send(()).expect("the connection is open");
    settle().await;
    client.send(GET).await;
    client.answered().await;
    assert_eq!(client.read().await, "", "it is closed after the response");
    client.served.await.expect("no panic");

    let silent = Client::connect(Duration::ZERO, 0);
    silent.stopping.send(()).expect("the connection is open");
    silent.assert_ended_after(FIRST_REQUEST_TIME).await;

    // A connection that is idle after a request ends immediately.
    let mut idle = Client::connect(Duration::ZERO, 0);
    idle.send(GET).await;
    idle.answered().await;
    settle().await;
    idle.stopping.send(()).expect("the connection is open");
    idle.assert_ended_after(Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn while_draining_each_connection_is_closed_after_its_next_response() {
    let draining = Draining::default();
    let server = Arc::into_inner(server(Duration::ZERO, 0, LIMITS)).expect("it is not shared yet");
    let server = Arc::new(server.draining(draining.clone()));
    let mut client = Client::connect_to(&server, 1);
    client.send(GET).await;
    client.answered_with("HTTP/1.1 200 OK").await;
    draining.start();
    client.send(GET).await;
    client.answered_with("connection: close").await;
    assert_eq!(client.read().await, "");
}
