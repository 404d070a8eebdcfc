//! HTTP connections, with limits of their number and timeouts for idle clients.
//!
//! It replaces the server of poem, which waits for incomplete headers without a time limit.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper_util::{rt::TokioExecutor, server::conn::auto};
use referral_core::ClientAddress;
use referral_server::{ClientAddresses, Draining, Metrics};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::listener::{
    admission::{Admission, Capacity, Places},
    connection::Connection,
    endpoint::ServerEndpoint,
    overload::Overload,
    timeouts::Timeouts,
};

/// Maximum number of open streams of one HTTP/2 connection. Browsers open fewer streams. Each stream needs
/// memory until its response has been read.
const MAX_STREAMS: u32 = 32;

/// Maximum number of streams that a client may open and reset before they are processed (CVE-2023-44487).
const MAX_RESET_STREAMS: usize = 20;

/// Largest request headers in bytes. It is also roughly the size of the buffer for a response that the client
/// reads slowly. It is the smallest value that hyper accepts, and the limit of nginx and Apache for a header
/// line.
const MAX_HEADERS: usize = 8 * 1024;
/// Largest request headers in bytes for HTTP/2, uncompressed.
const MAX_HTTP2_HEADERS: u32 = 8 * 1024;

/// Bytes that a client may send on one HTTP/2 stream before they are processed.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Bytes that a client may send on all streams of a connection before they are processed.
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// Divisor of the number of requests in flight that gives the share of one client address. So four addresses
/// can use all places. A fifth address is admitted only if one of their requests waits for its client.
const ADDRESS_REQUESTS_DIVISOR: u32 = 4;

/// Divisor of the number of connections that gives the number of HTTP/2 connections. Such a connection takes
/// up to five times the memory of other connections: h2 has buffers of 16 KiB for each direction and tables
/// of header fields. It also carries many requests, so fewer connections are needed.
const HTTP2_CONNECTIONS_DIVISOR: u32 = 8;

/// Divisor of the number of connections that gives the number of connections that may be evicted and not yet
/// closed. Each takes as much memory as an open connection.
pub(crate) const EVICTED_CONNECTIONS_DIVISOR: u32 = 8;

/// Time for which connections are accepted after the listener ignores new ones: a round trip within a data
/// center, so that handshakes in progress complete.
const BACKLOG_DRAIN_TIME: Duration = Duration::from_millis(10);

/// Pause after a failure to accept a connection. The usual cause is the limit of open files, and an immediate
/// retry would only consume CPU time.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Limits of connections and requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Maximum number of open connections. A further one replaces the oldest idle connection of the address
    /// with the most connections.
    pub(crate) connections: u32,
    /// Maximum number of requests in flight, over all connections.
    pub(crate) requests: u32,
    /// Longest time to receive a body.
    pub(crate) body_timeout: Duration,
    pub(crate) timeouts: Timeouts,
    /// Longest time of requests in flight after the listener is closed.
    pub(crate) shutdown_timeout: Duration,
}

/// Serves until `stop` completes, and then until requests in flight have finished or the shutdown time has
/// passed.
pub(crate) async fn serve<S: ServerEndpoint>(
    listener: TcpListener,
    server: Server<S>,
    stop: impl Future<Output = ()>,
) {
    let server = Arc::new(server);
    let (stopping, stopped) = watch::channel(());
    let mut stop = pin!(stop);
    let spawn = |(stream, connection): (TcpStream, Arc<Connection>)| {
        tokio::spawn(Arc::clone(&server).serve_connection(stream, connection, stopped.clone()));
    };
    loop {
        tokio::select! {
            accepted = server.accept(&listener) => spawn(accepted),
            () = &mut stop => break,
        }
    }
    backlog::ignore_new(&listener);
    let end = Instant::now() + BACKLOG_DRAIN_TIME;
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
    endpoint: S,
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

impl<S: ServerEndpoint> Server<S> {
    pub(crate) fn new(
        endpoint: S,
        limits: Limits,
        client_addresses: ClientAddresses,
        metrics: Option<Metrics>,
    ) -> Self {
        let mut http = auto::Builder::new(TokioExecutor::new());
        // `ConnectionDeadlines` replaces the header timeout of hyper, which also runs while the client is
        // idle.
        http.http1().header_read_timeout(None).max_buf_size(MAX_HEADERS);
        http.http2()
            .max_concurrent_streams(MAX_STREAMS)
            .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
            .max_header_list_size(MAX_HTTP2_HEADERS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let places = |places: u32, per_address: u32, evicted: u32| {
            let [places, per_address, evicted] =
                [places, per_address, evicted].map(|number| number.max(1) as usize);
            Places::new(Capacity { places, per_address, evicted })
        };
        let Limits { connections, requests, .. } = limits;
        let http2 = connections / HTTP2_CONNECTIONS_DIVISOR;
        // One connection alone must not use up these places.
        let refusals = requests.max(2 * MAX_STREAMS);
        Self {
            endpoint,
            http,
            limits,
            client_addresses,
            connections: places(connections, connections, connections / EVICTED_CONNECTIONS_DIVISOR),
            http2_connections: places(http2, http2, http2 / EVICTED_CONNECTIONS_DIVISOR),
            requests: places(requests, requests / ADDRESS_REQUESTS_DIVISOR, requests),
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
    async fn accept(&self, listener: &TcpListener) -> (TcpStream, Arc<Connection>) {
        loop {
            let accepted = listener.accept().await;
            match accepted.and_then(|(stream, peer)| Ok((stream.local_addr()?, peer, stream))) {
                Ok((local, peer, stream)) => return (stream, self.admit(local, peer).await),
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    }

    /// Acquires a place for a connection. The place can be evicted before the connection is served, so the
    /// order of evictions is the order of these calls.
    async fn admit(&self, local: SocketAddr, peer: SocketAddr) -> Arc<Connection> {
        let Admission { place, has_evicted } = self.connections.acquire(ClientAddress::new(peer.ip())).await;
        if has_evicted {
            self.overload.connection_evicted();
        }
        Arc::new(Connection::new(local, peer, place))
    }
}

mod admission;
mod backlog;
mod bodies;
mod connection;
pub(crate) mod endpoint;
mod overload;
mod request;
mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod timeouts;
