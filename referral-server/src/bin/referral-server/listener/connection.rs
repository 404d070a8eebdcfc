//! One connection, from its first byte to its end.

use std::{
    iter,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use referral_core::ClientAddress;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use crate::listener::{
    Server,
    admission::{Admission, Place},
    endpoint::ServerEndpoint,
    stream::MonitoredStream,
    timeouts::ConnectionDeadlines,
};

/// Longest time to shut down a connection after a timeout. Over HTTP/2 the server sends the client the last
/// request that it processed.
pub(super) const GRACEFUL_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest time until the first request of a connection after the signal to stop. A proxy may have opened the
/// connection just before and be about to send a request.
pub(super) const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

impl<S: ServerEndpoint> Server<S> {
    /// Serves one connection until it ends.
    pub(super) async fn serve_connection(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        connection: Arc<Connection>,
        mut stopped: watch::Receiver<()>,
    ) {
        let deadlines = Arc::new(ConnectionDeadlines::new(self.limits.timeouts));
        let admit_http2 = {
            let (server, connection) = (Arc::clone(&self), Arc::clone(&connection));
            move || server.admit_http2(&connection)
        };
        let stream = TokioIo::new(MonitoredStream::new(stream, Arc::clone(&deadlines), admit_http2));
        let service = {
            let (server, deadlines, connection) =
                (Arc::clone(&self), Arc::clone(&deadlines), Arc::clone(&connection));
            service_fn(move |request: hyper::Request<Incoming>| {
                let active_request = deadlines.start_request(request.version());
                server.call(request, &connection, active_request)
            })
        };

        let mut serving = pin!(self.http.serve_connection(stream, service));
        let shutdown_timeout = tokio::select! {
            biased;
            () = connection.abort.notified() => return,
            _ = serving.as_mut() => return,
            () = deadlines.expired() => GRACEFUL_CLOSE_TIMEOUT,
            () = connection.close_gracefully.notified() => self.limits.shutdown_timeout,
            _ = stopped.changed() => {
                tokio::select! {
                    biased;
                    () = connection.abort.notified() => return,
                    _ = serving.as_mut() => return,
                    () = connection.request_received.notified() => {}
                    () = sleep(FIRST_REQUEST_TIMEOUT) => {}
                }
                self.limits.shutdown_timeout
            }
        };
        serving.as_mut().graceful_shutdown();
        tokio::select! {
            biased;
            () = connection.abort.notified() => {}
            _ = timeout(shutdown_timeout, serving) => {}
        }
    }

    /// Acquires the second place of a connection that uses HTTP/2. Returns `false` if there is none.
    fn admit_http2(&self, connection: &Connection) -> bool {
        let admission = self.http2_connections.try_acquire(ClientAddress::new(connection.peer.ip()), true);
        if !matches!(admission, Ok(Admission { has_evicted: false, .. })) {
            self.overload.connection_evicted();
        }
        let Ok(Admission { place, .. }) = admission else { return false };
        place.allow_eviction(&connection.abort);
        connection.http2_place.set(place).is_ok()
    }
}

/// State of a connection for admission.
pub(super) struct Connection {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    /// Place of the connection. It can be evicted while no request is handled.
    place: Place,
    /// Second place of a connection over HTTP/2.
    http2_place: OnceLock<Place>,
    /// Number of requests that are being handled.
    handled_requests: Mutex<usize>,
    /// Signal to end the connection immediately.
    pub(super) abort: Arc<Notify>,
    /// Signal to end the connection after the requests in flight.
    pub(super) close_gracefully: Notify,
    /// Signal that a request has been received.
    pub(super) request_received: Notify,
}

impl Connection {
    pub(super) fn new(local: SocketAddr, peer: SocketAddr, place: Place) -> Self {
        let abort = Arc::new(Notify::new());
        place.allow_eviction(&abort);
        Self {
            local,
            peer,
            place,
            http2_place: OnceLock::new(),
            handled_requests: Mutex::default(),
            abort,
            close_gracefully: Notify::new(),
            request_received: Notify::new(),
        }
    }

    fn change_handled_requests(&self, change: impl FnOnce(usize) -> usize) {
        let mut handled = self.handled_requests.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *handled;
        *handled = change(before);
        for place in iter::once(&self.place).chain(self.http2_place.get()) {
            match (before, *handled) {
                (0, 1) => {
                    // A connection that has been evicted before is about to end.
                    let _ = place.forbid_eviction();
                }
                (1, 0) => place.allow_eviction(&self.abort),
                _ => {}
            }
        }
    }
}

/// Request that is being handled. Meanwhile its connection cannot be evicted.
pub(super) struct EvictionGuard(Arc<Connection>);

impl EvictionGuard {
    pub(super) fn new(connection: &Arc<Connection>) -> Self {
        connection.change_handled_requests(|handled| handled + 1);
        Self(Arc::clone(connection))
    }
}

impl Drop for EvictionGuard {
    fn drop(&mut self) {
        self.0.change_handled_requests(|handled| handled - 1);
    }
}
