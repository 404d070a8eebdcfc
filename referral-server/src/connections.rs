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
use referral_server::{App, ClientAddresses, Draining, Metrics};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
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
pub(crate) const LEAVING_CONNECTIONS: u32 = 8;

/// The part of the body timeout that is left while more than half of the places for requests are taken, and
/// its minimum.
const CROWDED_BODY_TIME: u32 = 10;
const MIN_BODY_TIME: Duration = Duration::from_secs(1);

/// How long a connection whose time is over may take to say good-bye: over HTTP/2 the client is told
/// which requests were not looked at.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long connections are accepted after the listener ignores new ones: a round trip within a data center, so
/// that handshakes in progress complete.
const BACKLOG_TIME: Duration = Duration::from_millis(10);

/// How long a connection may take to its first request after the signal to stop: it may have been opened a
/// moment before, by a proxy that is about to send a request.
const FIRST_REQUEST_TIME: Duration = Duration::from_secs(1);

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
    /// How long requests in flight may take after the listener is closed.
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

/// Serves until `stop` completes, and then for as long as requests in flight may take.
pub(crate) async fn serve<S: Site>(listener: TcpListener, server: Server<S>, stop: impl Future<Output = ()>) {
    let server = Arc::new(server);
    let (stopping, stopped) = watch::channel(());
    let mut stop = pin!(stop);
    let spawn = |(place, stream, peer): (Place, TcpStream, SocketAddr)| {
        let (server, stopped) = (Arc::clone(&server), stopped.clone());
        tokio::spawn(async move {
            if let Ok(local) = stream.local_addr() {
                server.serve(stream, local, peer, place, stopped).await;
            }
        });
    };
    loop {
        tokio::select! {
            accepted = server.accept(&listener) => spawn(accepted),
            () = &mut stop => break,
        }
    }
    backlog::ignore_new(&listener);
    let end = Instant::now() + BACKLOG_TIME;
    loop {
        tokio::select! {
            biased;
            accepted = server.accept(&listener) => spawn(accepted),
            () = sleep_until(end) => break,
        }
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
    draining: Draining,
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
            draining: Draining::default(),
        }
    }

    /// Closes HTTP/1 connections after their next response once `draining` is set.
    pub(crate) fn draining(self, draining: Draining) -> Self {
        Self { draining, ..self }
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
            _ = stopped.changed() => {
                tokio::select! {
                    biased;
                    () = connection.evict.notified() => return,
                    _ = serving.as_mut() => return,
                    () = connection.requested.notified() => {}
                    () = sleep(FIRST_REQUEST_TIME) => {}
                }
                self.limits.shutdown
            }
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
        connection.requested.notify_one();
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
            let mut response = server.site.get_response(Request::from_parts(parts, body)).await;
            if server.draining.is_started() {
                close_after(&mut response, version);
            }
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
            // No client reads them, so another one is of no use.
            connection.evict.notify_one();
            return (StatusCode::SERVICE_UNAVAILABLE.into(), None);
        };
        place.allow_eviction(&connection.evict);
        connection.close.notify_one();
        let mut response = self.site.unavailable(headers);
        close_after(&mut response, version);
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

/// Closes the connection after a response of HTTP/1. HTTP/2 has no such header.
fn close_after(response: &mut Response, version: Version) {
    if version != Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
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
    /// The signal that a request has come.
    requested: Notify,
}

impl Connection {
    fn new(local: SocketAddr, peer: SocketAddr, place: Place) -> Self {
        let evict = Arc::new(Notify::new());
        place.allow_eviction(&evict);
        let (http2_place, handled) = (OnceLock::new(), Mutex::default());
        let (close, requested) = (Notify::new(), Notify::new());
        Self { local, peer, place, http2_place, handled, evict, close, requested }
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

mod backlog;
#[cfg(test)]
mod tests;
