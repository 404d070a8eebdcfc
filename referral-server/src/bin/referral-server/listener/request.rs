//! One request, from its headers to its response.

use std::{
    convert::Infallible,
    future::{poll_fn, ready},
    io,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{future::Either, stream};
use hyper::body::{Body as _, Incoming};
use poem::{
    Addr, Body, Request, RequestParts, Response,
    http::{HeaderMap, HeaderValue, StatusCode, Version, header, uri::Scheme},
    web::{LocalAddr, RemoteAddr},
};
use referral_core::ClientAddress;
use tokio::{sync::Notify, time::timeout};

use crate::listener::{
    Server,
    admission::{Admission, Place},
    bodies::{ResponseBody, poll_data, response_with_place, streamed_body},
    connection::{Connection, EvictionGuard},
    endpoint::ServerEndpoint,
    timeouts::ActiveRequest,
};

/// Largest body in bytes that is received before the endpoint is called. The API accepts no larger body.
pub(super) const MAX_BUFFERED_BODY: usize = 16 * 1024;

/// Divisor of the body timeout while more than half of the places for requests are taken.
const CROWDED_BODY_TIMEOUT_DIVISOR: u32 = 10;
/// Minimum of the reduced body timeout.
const MIN_BODY_TIMEOUT: Duration = Duration::from_secs(1);

impl<S: ServerEndpoint> Server<S> {
    /// Admits a request or rejects it. A rejected request is dropped before this method returns, because
    /// hyper keeps the returned future until the response has been written.
    pub(super) fn call(
        self: &Arc<Self>,
        request: hyper::Request<Incoming>,
        connection: &Arc<Connection>,
        active_request: ActiveRequest,
    ) -> impl Future<Output = Result<hyper::Response<impl ResponseBody + use<S>>, Infallible>> + Send + use<S>
    {
        connection.request_received.notify_one();
        let address = self.client_addresses.of(Some(connection.peer.ip()), request.headers());
        let address = ClientAddress::new(address.unwrap_or(connection.peer.ip()));
        // Many streams of one connection must not evict requests of other connections of the same address.
        let Ok(Admission { place, has_evicted }) =
            self.requests.try_acquire(address, active_request.is_only())
        else {
            self.overload.request_refused();
            let version = request.version();
            let (response, place) = self.refuse(request.headers(), version, address, connection);
            return Either::Left(ready(Ok(response_with_place(response, place, version))));
        };
        if has_evicted {
            self.overload.request_evicted();
        }
        let place = Arc::new(place);
        let received_part = if request.body().is_end_stream() {
            ReceivedPart::Complete(EvictionGuard::new(connection))
        } else {
            // Eviction is allowed now, and not when hyper polls the future. Until then, the place could not
            // be given to another request.
            let eviction = Arc::new(Notify::new());
            place.allow_eviction(&eviction);
            ReceivedPart::Headers(eviction)
        };
        let (server, connection) = (Arc::clone(self), Arc::clone(connection));
        Either::Right(Box::pin(async move {
            let (parts, body) = request.into_parts();
            let version = parts.version;
            let (received, eviction_guard) = match received_part {
                ReceivedPart::Complete(eviction_guard) => (Ok(Body::empty()), Some(eviction_guard)),
                ReceivedPart::Headers(eviction) => (server.receive(body, &place, eviction).await, None),
            };
            let Ok(body) = received else {
                let (response, place) = server.refuse(&parts.headers, version, address, &connection);
                return Ok(response_with_place(response, place, version));
            };
            let eviction_guard = eviction_guard.unwrap_or_else(|| EvictionGuard::new(&connection));
            let (local, peer) =
                (LocalAddr(Addr::from(connection.local)), RemoteAddr(Addr::from(connection.peer)));
            let parts = RequestParts::from((parts, local, peer, Scheme::HTTP));
            let mut response = server.endpoint.get_response(Request::from_parts(parts, body)).await;
            if server.draining.is_started() {
                close_after(&mut response, version);
            }
            drop((eviction_guard, active_request));
            // From now on the request waits for the client to read the response.
            place.allow_eviction(&connection.abort);
            Ok(response_with_place(response, Some(place), version))
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
        let Ok(Admission { place, .. }) = self.refusals.try_acquire(address, true) else {
            // Clients do not read the responses, so a further one is useless.
            connection.abort.notify_one();
            return (StatusCode::SERVICE_UNAVAILABLE.into(), None);
        };
        place.allow_eviction(&connection.abort);
        connection.close_gracefully.notify_one();
        let mut response = self.endpoint.unavailable(headers);
        close_after(&mut response, version);
        (response, Some(Arc::new(place)))
    }

    /// Receives the body of a request. The request can be evicted meanwhile.
    ///
    /// The endpoint gets a complete body, or one that fails, so no future of the endpoint exists while the
    /// client sends. A body that is too large for the API is passed on as a stream.
    async fn receive(
        &self,
        mut body: Incoming,
        place: &Place,
        eviction: Arc<Notify>,
    ) -> Result<Body, Evicted> {
        let mut received = Vec::new();
        if body.size_hint().lower() > MAX_BUFFERED_BODY as u64 {
            return Ok(streamed_body(received, body, eviction));
        }
        let receiving = async {
            while let Some(chunk) = poll_fn(|cx| poll_data(&mut body, cx)).await {
                received.extend_from_slice(&chunk?);
                if received.len() > MAX_BUFFERED_BODY {
                    return Ok::<_, io::Error>(false);
                }
            }
            Ok(true)
        };
        let result = tokio::select! {
            biased;
            () = eviction.notified() => return Err(Evicted),
            result = timeout(self.body_timeout(), receiving) => result,
        };
        let error = match result {
            Ok(Ok(false)) => return Ok(streamed_body(received, body, eviction)),
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
    fn body_timeout(&self) -> Duration {
        let timeout = self.limits.body_timeout;
        if self.requests.is_crowded() {
            timeout.min(MIN_BODY_TIMEOUT.max(timeout / CROWDED_BODY_TIMEOUT_DIVISOR))
        } else {
            timeout
        }
    }
}

/// Closes the connection after a response of HTTP/1. HTTP/2 has no such header.
fn close_after(response: &mut Response, version: Version) {
    if version != Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Part of an admitted request that has been received.
enum ReceivedPart {
    Complete(EvictionGuard),
    /// The headers. The signal ends the wait for the body.
    Headers(Arc<Notify>),
}

/// Error of a request that has lost its place while its body was received.
struct Evicted;
