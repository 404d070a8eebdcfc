//! HTTP connections, with limits of their number and timeouts for idle clients.
//!
//! It replaces the server of poem, which waits for incomplete headers without a time limit.

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

use crate::listener::{
    admission::{Overload, Place, Places, Sizes, Taken},
    bodies::{SentBody, poll_data, rest, sent},
    timeouts::{ConnectionTimeouts, Handled, Times, Watched},
};

/// Maximum number of open streams of one HTTP/2 connection. Browsers open fewer streams. Each stream needs
/// memory until its response has been read.
const MAX_STREAMS: u32 = 32;

/// Maximum number of streams that a client may open and reset before they are processed (CVE-2023-44487).
const MAX_RESET_STREAMS: usize = 20;

/// Largest request headers in bytes. It is also roughly the size of the buffer for a response that the client
/// reads slowly. It is the smallest value that hyper accepts, and the limit of nginx and Apache for a header
/// line.
const MAX_HEAD: usize = 8 * 1024;
/// Largest request headers in bytes for HTTP/2, uncompressed.
const MAX_HEAD_HTTP2: u32 = 8 * 1024;

/// Bytes that a client may send on one HTTP/2 stream before they are processed.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Bytes that a client may send on all streams of a connection before they are processed.
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// Largest body in bytes that is received before the endpoint is called. The API accepts no larger body.
const MAX_WHOLE_BODY: usize = 16 * 1024;

/// Divisor of the number of requests in flight that gives the share of one client address. Four addresses can
/// thus use all places. A fifth address is admitted only if one of their requests waits for its client.
const REQUEST_SHARE: u32 = 4;

/// Divisor of the number of connections that gives the number of HTTP/2 connections. Such a connection takes
/// up to five times the memory of other connections: h2 has buffers of 16 KiB for each direction and tables
/// of header fields. It also carries many requests, so fewer connections are needed.
const HTTP2_CONNECTIONS: u32 = 8;

/// Divisor of the number of connections that gives the number of connections that may be evicted and not yet
/// closed. Each takes as much memory as an open connection.
pub(crate) const LEAVING_CONNECTIONS: u32 = 8;

/// Divisor of the body timeout while more than half of the places for requests are taken.
const CROWDED_BODY_TIME: u32 = 10;
/// Minimum of the reduced body timeout.
const MIN_BODY_TIME: Duration = Duration::from_secs(1);

/// Longest time to shut down a connection after a timeout. Over HTTP/2 the server sends the client the last
/// request that it processed.
const FAREWELL: Duration = Duration::from_secs(1);

/// Time for which connections are accepted after the listener ignores new ones: a round trip within a data
/// center, so that handshakes in progress complete.
const BACKLOG_TIME: Duration = Duration::from_millis(10);

/// Longest time until the first request of a connection after the signal to stop. A proxy may have opened the
/// connection just before and be about to send a request.
const FIRST_REQUEST_TIME: Duration = Duration::from_secs(1);

/// Pause after a failure to accept a connection. The usual cause is the limit of open files, and an immediate
/// retry would only consume CPU time.
const PAUSE: Duration = Duration::from_millis(100);

/// Limits of connections and requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Maximum number of open connections. A further one replaces the oldest idle connection of the address
    /// with the most connections.
    pub(crate) connections: u32,
    /// Maximum number of requests in flight, over all connections.
    pub(crate) requests: u32,
    /// Longest time to receive a body.
    pub(crate) body: Duration,
    pub(crate) timeouts: Times,
    /// Longest time of requests in flight after the listener is closed.
    pub(crate) shutdown: Duration,
}

/// Endpoint with a response to requests that get no place.
pub(crate) trait Site: Endpoint<Output = Response> + 'static {
    /// Creates the response to a request with these headers. It must be cheap.
    fn unavailable(&self, headers: &HeaderMap) -> Response;
}

impl Site for App {
    fn unavailable(&self, headers: &HeaderMap) -> Response {
        App::unavailable(self, headers)
    }
}

/// Endpoint that responds with a 503 in plain text to requests that get no place.
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

/// Serves until `stop` completes, and then until requests in flight have finished or the shutdown time has
/// passed.
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
    // Each connection keeps a receiver until it ends.
    stopping.closed().await;
}

/// State that all connections share.
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
        // `ConnectionTimeouts` replaces the header timeout of hyper, which also runs while the client is idle.
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
        // One connection alone must not use up these places.
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
                    tracing::warn!(%error, "failed to accept a connection");
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

    /// Takes the second place of a connection that uses HTTP/2. Returns `false` if there is none.
    fn admit_http2(&self, connection: &Connection) -> bool {
        let taken = self.http2_connections.take(ClientAddress::new(connection.peer.ip()), true);
        if !matches!(taken, Ok(Taken { has_evicted: false, .. })) {
            self.overload.connection_evicted();
        }
        let Ok(Taken { place, .. }) = taken else { return false };
        place.allow_eviction(&connection.evict);
        connection.http2_place.set(place).is_ok()
    }

    /// Serves one connection until it ends.
    async fn serve(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        local: SocketAddr,
        peer: SocketAddr,
        place: Place,
        mut stopped: watch::Receiver<()>,
    ) {
        let timeouts = Arc::new(ConnectionTimeouts::new(self.limits.timeouts));
        let connection = Arc::new(Connection::new(local, peer, place));
        let (server, speaking) = (Arc::clone(&self), Arc::clone(&connection));
        let admit_http2 = move || server.admit_http2(&speaking);
        let stream = TokioIo::new(Watched::new(stream, Arc::clone(&timeouts), admit_http2));
        let (server, watching, calling) = (Arc::clone(&self), Arc::clone(&timeouts), Arc::clone(&connection));
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let handled = watching.handle(request.version());
            server.call(request, &calling, handled)
        });

        let mut serving = pin!(self.http.serve_connection(stream, service));
        let rest = tokio::select! {
            biased;
            () = connection.evict.notified() => return,
            _ = serving.as_mut() => return,
            () = timeouts.ends() => FAREWELL,
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

    /// Admits a request or rejects it. A rejected request is dropped before this method returns, because
    /// hyper keeps the returned future until the response has been written.
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
        // Many streams of one connection must not evict requests of other connections of the same address.
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
            // Immediately, and not when hyper polls the future: until then it would keep out other requests.
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
            // From now on the request waits for the client to read the response.
            place.allow_eviction(&connection.evict);
            Ok(sent(response, Some(place), version))
        }))
    }

    /// Creates the response to a request that has no place, or has lost it, and closes its connection. The
    /// response has its own place until it has been written.
    fn refuse(
        &self,
        headers: &HeaderMap,
        version: Version,
        address: ClientAddress,
        connection: &Connection,
    ) -> (Response, Option<Arc<Place>>) {
        let Ok(Taken { place, .. }) = self.refusals.take(address, true) else {
            // Clients do not read the responses, so a further one is useless.
            connection.evict.notify_one();
            return (StatusCode::SERVICE_UNAVAILABLE.into(), None);
        };
        place.allow_eviction(&connection.evict);
        connection.close.notify_one();
        let mut response = self.site.unavailable(headers);
        close_after(&mut response, version);
        (response, Some(Arc::new(place)))
    }

    /// Receives the body of a request. The request can be evicted meanwhile.
    ///
    /// The endpoint gets a complete body, or one that fails, so no future of the endpoint exists while the
    /// client sends. A body that is too large for the API is passed on as a stream.
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

    /// Returns the longest time to receive a body.
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

/// Part of an admitted request that has been received.
enum Progress {
    Complete(Busy),
    /// The headers. The signal ends the wait for the body.
    Receiving(Arc<Notify>),
}

/// Error of a request that has lost its place while its body was received.
struct Evicted;

/// State of a connection for admission.
struct Connection {
    local: SocketAddr,
    peer: SocketAddr,
    /// Place of the connection. It can be evicted while no request is handled.
    place: Place,
    /// Second place of a connection over HTTP/2.
    http2_place: OnceLock<Place>,
    /// Number of requests that are being handled.
    handled: Mutex<usize>,
    /// Signal to end the connection immediately.
    evict: Arc<Notify>,
    /// Signal to end the connection after the requests in flight.
    close: Notify,
    /// Signal that a request has been received.
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
                    // A connection that has been evicted before is about to end.
                    let _ = place.forbid_eviction();
                }
                (1, 0) => place.allow_eviction(&self.evict),
                _ => {}
            }
        }
    }
}

/// Request that is counted as being handled by its connection.
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

pub(crate) mod admission;
mod backlog;
pub(crate) mod bodies;
#[cfg(test)]
mod tests;
pub(crate) mod timeouts;
