//! Connections: no more than there is room for, and none for a client that leaves it unused.
//!
//! In place of poem's own server, which waits for ever for the rest of a head.

use std::{
    convert::Infallible,
    future::{poll_fn, ready},
    io, iter,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{future::Either, stream};
use hyper::{
    body::{Body as _, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use poem::{
    Addr, Body, Endpoint, IntoResponse as _, Request, RequestParts, Response,
    http::{HeaderMap, HeaderValue, StatusCode, Version, header, uri::Scheme},
    web::{LocalAddr, RemoteAddr},
};
use referral_core::ClientAddress;
use referral_server::{App, ClientAddresses, Metrics};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    time::timeout,
};

use crate::{
    admission::{Overload, Place, Places, Sizes, Taken},
    bodies::{SentBody, poll_data, rest, sent},
    patience::{Handled, Patience, Times, Watched},
};

/// Streams that one HTTP/2 connection may have open. A browser opens fewer at a time, and each costs memory
/// as long as its response is not read.
const MAX_STREAMS: u32 = 32;

/// How many streams a client may open and take back before they were looked at (CVE-2023-44487).
const MAX_RESET_STREAMS: usize = 20;

/// The largest head in bytes, and about what is held of an answer that the client is slow to read. The least
/// that hyper takes, and what nginx and Apache accept of a header line.
const MAX_HEAD: usize = 8 * 1024;
/// The same of HTTP/2, where the head comes compressed.
const MAX_HEAD_HTTP2: u32 = 8 * 1024;

/// What a client may send over HTTP/2 before it was looked at, in bytes, on one stream and on all.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// The largest body in bytes that is received before the endpoint is called. The API accepts no larger one.
const MAX_WHOLE_BODY: usize = 16 * 1024;

/// The part of all requests in flight that one client address may have. Four addresses can thus use all
/// places, and a fifth is admitted only if one of their requests waits for its client.
const REQUEST_SHARE: u32 = 4;

/// The part of all connections that may speak HTTP/2. Such a connection takes up to five times the memory of
/// another one: h2 has buffers of 16 KiB for each direction and tables of header fields. It also carries many
/// requests, so fewer are needed.
const HTTP2_CONNECTIONS: u32 = 8;

/// The part of all connections that may be evicted and not closed yet. Each takes as much memory as an open
/// one.
const LEAVING_CONNECTIONS: u32 = 8;

/// The part of the body timeout that is left while more than half of the places for requests are taken, and
/// its minimum.
const CROWDED_BODY_TIME: u32 = 10;
const MIN_BODY_TIME: Duration = Duration::from_secs(1);

/// How long a connection whose time is over may take to say good-bye: over HTTP/2 the client is told
/// which requests were not looked at.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long to wait after a connection could not be accepted, most often because the process may
/// open no more files: trying again at once would only heat the machine.
const PAUSE: Duration = Duration::from_millis(100);

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many are open at once. Another one replaces the oldest idle one of the address with the most.
    pub(crate) connections: u32,
    /// How many requests are in flight at once, over all connections.
    pub(crate) requests: u32,
    /// How long a body may take to arrive.
    pub(crate) body: Duration,
    pub(crate) patience: Times,
    /// How long requests under way may take after the signal to stop.
    pub(crate) shutdown: Duration,
}

/// An endpoint with a response to requests that find no place.
pub(crate) trait Site: Endpoint<Output = Response> + 'static {
    /// Creates the response to a request with these headers. It must cost little.
    fn unavailable(&self, headers: &HeaderMap) -> Response;
}

impl Site for App {
    fn unavailable(&self, headers: &HeaderMap) -> Response {
        App::unavailable(self, headers)
    }
}

/// An endpoint that responds to requests that find no place with a 503 in plain text.
pub(crate) struct Plain<E>(pub(crate) E);

impl<E: Endpoint<Output = Response>> Endpoint for Plain<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        self.0.call(request).await
    }
}

impl<E: Endpoint<Output = Response> + 'static> Site for Plain<E> {
    fn unavailable(&self, _: &HeaderMap) -> Response {
        "overloaded\n".with_status(StatusCode::SERVICE_UNAVAILABLE).into_response()
    }
}

/// Serves until `stop` is there, and then for as long as requests under way may take.
pub(crate) async fn serve<S: Site>(listener: TcpListener, server: Server<S>, stop: impl Future<Output = ()>) {
    let server = Arc::new(server);
    let (stopping, stopped) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        let (place, stream, peer) = tokio::select! {
            accepted = server.accept(&listener) => accepted,
            () = &mut stop => break,
        };
        let (server, stopped) = (Arc::clone(&server), stopped.clone());
        tokio::spawn(async move {
            if let Ok(local) = stream.local_addr() {
                server.serve(stream, local, peer, place, stopped).await;
            }
        });
    }
    drop((listener, stopped));
    stopping.send_replace(());
    // Each connection has a receiver until its end.
    stopping.closed().await;
}

/// What all connections share.
pub(crate) struct Server<S> {
    site: S,
    http: auto::Builder<TokioExecutor>,
    limits: Limits,
    client_addresses: ClientAddresses,
    connections: Arc<Places>,
    http2_connections: Arc<Places>,
    /// Requests in flight. A request has its place until its response has been written to the connection.
    requests: Arc<Places>,
    /// Responses to requests without a place that have not been written to the connection.
    refusals: Arc<Places>,
    overload: Overload,
}

impl<S: Site> Server<S> {
    pub(crate) fn new(
        site: S,
        limits: Limits,
        client_addresses: ClientAddresses,
        metrics: Option<Metrics>,
    ) -> Self {
        let mut http = auto::Builder::new(TokioExecutor::new());
        // The patience knows more than its time limit for heads, which runs while the client is idle.
        http.http1().header_read_timeout(None).max_buf_size(MAX_HEAD);
        http.http2()
            .max_concurrent_streams(MAX_STREAMS)
            .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
            .max_header_list_size(MAX_HEAD_HTTP2)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let places = |places: u32, share: u32, leaving: u32| {
            let [places, share, leaving] = [places, share, leaving].map(|size| size.max(1) as usize);
            Places::new(Sizes { places, share, leaving })
        };
        let Limits { connections, requests, .. } = limits;
        let http2 = connections / HTTP2_CONNECTIONS;
        // One connection alone must not use them up.
        let refusals = requests.max(2 * MAX_STREAMS);
        Self {
            site,
            http,
            limits,
            client_addresses,
            connections: places(connections, connections, connections / LEAVING_CONNECTIONS),
            http2_connections: places(http2, http2, http2 / LEAVING_CONNECTIONS),
            requests: places(requests, requests / REQUEST_SHARE, requests),
            refusals: places(refusals, refusals, refusals),
            overload: Overload::new(metrics),
        }
    }

    /// Waits for a connection, and then for a place for it.
    async fn accept(&self, listener: &TcpListener) -> (Place, TcpStream, SocketAddr) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => return (self.admit(peer).await, stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Takes a place for a connection.
    async fn admit(&self, peer: SocketAddr) -> Place {
        let Taken { place, has_evicted } = self.connections.wait(ClientAddress::new(peer.ip())).await;
        if has_evicted {
            self.overload.connection_evicted();
        }
        place
    }

    /// Takes another place for a connection that speaks HTTP/2. Returns `false` if there is none.
    fn admit_http2(&self, connection: &Connection) -> bool {
        let taken = self.http2_connections.take(ClientAddress::new(connection.peer.ip()), true);
        if !matches!(taken, Ok(Taken { has_evicted: false, .. })) {
            self.overload.connection_evicted();
        }
        let Ok(Taken { place, .. }) = taken else { return false };
        place.allow_eviction(&connection.evict);
        connection.http2_place.set(place).is_ok()
    }

    /// Serves one connection to its end.
    async fn serve(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        local: SocketAddr,
        peer: SocketAddr,
        place: Place,
        mut stopped: watch::Receiver<()>,
    ) {
        let patience = Arc::new(Patience::new(self.limits.patience));
        let connection = Arc::new(Connection::new(local, peer, place));
        let (server, speaking) = (Arc::clone(&self), Arc::clone(&connection));
        let admit_http2 = move || server.admit_http2(&speaking);
        let stream = TokioIo::new(Watched::new(stream, Arc::clone(&patience), admit_http2));
        let (server, watching, calling) = (Arc::clone(&self), Arc::clone(&patience), Arc::clone(&connection));
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let handled = watching.handle(request.version());
            server.call(request, &calling, handled)
        });

        let mut serving = pin!(self.http.serve_connection(stream, service));
        let rest = tokio::select! {
            biased;
            () = connection.evict.notified() => return,
            _ = serving.as_mut() => return,
            () = patience.ends() => FAREWELL,
            () = connection.close.notified() => self.limits.shutdown,
            _ = stopped.changed() => self.limits.shutdown,
        };
        serving.as_mut().graceful_shutdown();
        tokio::select! {
            biased;
            () = connection.evict.notified() => {}
            _ = timeout(rest, serving) => {}
        }
    }

    /// Admits a request or rejects it. A rejected request is dropped before this returns: hyper keeps what is
    /// returned until the response has been written.
    fn call(
        self: &Arc<Self>,
        request: hyper::Request<Incoming>,
        connection: &Arc<Connection>,
        handled: Handled,
    ) -> impl Future<Output = Result<hyper::Response<impl SentBody + use<S>>, Infallible>> + Send + use<S>
    {
        let address = self.client_addresses.of(Some(connection.peer.ip()), request.headers());
        let address = ClientAddress::new(address.unwrap_or(connection.peer.ip()));
        // Many streams of one connection must not evict those of others of the same address.
        let Ok(Taken { place, has_evicted }) = self.requests.take(address, handled.is_only()) else {
            self.overload.request_refused();
            let version = request.version();
            let (response, place) = self.refuse(request.headers(), version, address, connection);
            return Either::Left(ready(Ok(sent(response, place, version))));
        };
        if has_evicted {
            self.overload.request_evicted();
        }
        let place = Arc::new(place);
        let progress = if request.body().is_end_stream() {
            Progress::Complete(Busy::new(connection))
        } else {
            // At once, and not when hyper gets to the future: until then it would keep out others.
            let evict = Arc::new(Notify::new());
            place.allow_eviction(&evict);
            Progress::Receiving(evict)
        };
        let (server, connection) = (Arc::clone(self), Arc::clone(connection));
        Either::Right(Box::pin(async move {
            let (parts, body) = request.into_parts();
            let version = parts.version;
            let (received, busy) = match progress {
                Progress::Complete(busy) => (Ok(Body::empty()), Some(busy)),
                Progress::Receiving(evict) => (server.receive(body, &place, evict).await, None),
            };
            let Ok(body) = received else {
                let (response, place) = server.refuse(&parts.headers, version, address, &connection);
                return Ok(sent(response, place, version));
            };
            let busy = busy.unwrap_or_else(|| Busy::new(&connection));
            let (local, peer) =
                (LocalAddr(Addr::from(connection.local)), RemoteAddr(Addr::from(connection.peer)));
            let parts = RequestParts::from((parts, local, peer, Scheme::HTTP));
            let response = server.site.get_response(Request::from_parts(parts, body)).await;
            drop((busy, handled));
            // From now on it waits for the client to read.
            place.allow_eviction(&connection.evict);
            Ok(sent(response, Some(place), version))
        }))
    }

    /// Creates the response to a request that has no place, or has lost it, and closes its connection.
    /// The response has a place of its own until it has been written.
    fn refuse(
        &self,
        headers: &HeaderMap,
        version: Version,
        address: ClientAddress,
        connection: &Connection,
    ) -> (Response, Option<Arc<Place>>) {
        let Ok(Taken { place, .. }) = self.refusals.take(address, true) else {
            // Nobody reads them, so there is no point in another one.
            connection.evict.notify_one();
            return (StatusCode::SERVICE_UNAVAILABLE.into(), None);
        };
        place.allow_eviction(&connection.evict);
        connection.close.notify_one();
        let mut response = self.site.unavailable(headers);
        if version != Version::HTTP_2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        (response, Some(Arc::new(place)))
    }

    /// Receives the body of a request, which can be evicted meanwhile.
    ///
    /// The endpoint gets a complete body, or one that fails, so no future of the endpoint exists while the
    /// client sends. A body that is too large for the API is passed on as it comes.
    async fn receive(&self, mut body: Incoming, place: &Place, evict: Arc<Notify>) -> Result<Body, Evicted> {
        let mut received = Vec::new();
        if body.size_hint().lower() > MAX_WHOLE_BODY as u64 {
            return Ok(rest(received, body, evict));
        }
        let receiving = async {
            while let Some(chunk) = poll_fn(|cx| poll_data(&mut body, cx)).await {
                received.extend_from_slice(&chunk?);
                if received.len() > MAX_WHOLE_BODY {
                    return Ok::<_, io::Error>(false);
                }
            }
            Ok(true)
        };
        let result = tokio::select! {
            biased;
            () = evict.notified() => return Err(Evicted),
            result = timeout(self.body_time(), receiving) => result,
        };
        let error = match result {
            Ok(Ok(false)) => return Ok(rest(received, body, evict)),
            Ok(Ok(true)) => None,
            Ok(Err(error)) => Some(error),
            Err(_elapsed) => Some(io::ErrorKind::TimedOut.into()),
        };
        if !place.forbid_eviction() {
            return Err(Evicted);
        }
        Ok(match error {
            None => Body::from(received),
            Some(error) => Body::from_bytes_stream(stream::once(ready(Err::<Bytes, _>(error)))),
        })
    }

    /// Returns how long a body may take to arrive.
    fn body_time(&self) -> Duration {
        let time = self.limits.body;
        if self.requests.is_crowded() { time.min(MIN_BODY_TIME.max(time / CROWDED_BODY_TIME)) } else { time }
    }
}

/// How much of an admitted request has come.
enum Progress {
    Complete(Busy),
    /// The head. The signal ends the wait for the body.
    Receiving(Arc<Notify>),
}

/// Error returned if a request has lost its place while its body was received.
struct Evicted;

/// A connection, as admission sees it.
struct Connection {
    local: SocketAddr,
    peer: SocketAddr,
    /// The place of the connection. It can be evicted while no request is handled.
    place: Place,
    /// The second place of a connection over HTTP/2.
    http2_place: OnceLock<Place>,
    handled: Mutex<usize>,
    /// The signal to end the connection at once.
    evict: Arc<Notify>,
    /// The signal to end the connection after the requests in flight.
    close: Notify,
}

impl Connection {
    fn new(local: SocketAddr, peer: SocketAddr, place: Place) -> Self {
        let evict = Arc::new(Notify::new());
        place.allow_eviction(&evict);
        let (http2_place, handled, close) = (OnceLock::new(), Mutex::default(), Notify::new());
        Self { local, peer, place, http2_place, handled, evict, close }
    }

    fn count(&self, change: impl FnOnce(usize) -> usize) {
        let mut handled = self.handled.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *handled;
        *handled = change(before);
        for place in iter::once(&self.place).chain(self.http2_place.get()) {
            match (before, *handled) {
                (0, 1) => {
                    // A connection that has been evicted before ends in a moment.
                    let _ = place.forbid_eviction();
                }
                (1, 0) => place.allow_eviction(&self.evict),
                _ => {}
            }
        }
    }
}

/// A request that is being handled, as its connection counts it.
struct Busy(Arc<Connection>);

impl Busy {
    fn new(connection: &Arc<Connection>) -> Self {
        connection.count(|handled| handled + 1);
        Self(Arc::clone(connection))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.count(|handled| handled - 1);
    }
}

#[cfg(test)]
mod tests {
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

    // Time does not pass in these tests but when everybody waits: then the clock is set forward.

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
            assert!(
                response.starts_with("HTTP/1.1 503") && response.contains("connection: close"),
                "{response}"
            );
        }
        let mut refused = Client::connect_to(&server, 5);
        refused.send(&get_over_http2(&[])).await;
        let frames = refused.read_frames().await;
        assert!(
            frames.iter().any(|(kind, stream, payload)| (*kind, *stream) == (1, 1) && payload[0] == 0x48)
        );
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
            let chunked = format!(
                "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n"
            );
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
}
