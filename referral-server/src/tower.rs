//! Adapter from a poem endpoint to a tower service.

use std::{
    convert::Infallible,
    error::Error,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{TryStreamExt as _, future::BoxFuture};
use http_body_util::{BodyDataStream, combinators::BoxBody};
use poem::{
    Addr, Body, Endpoint, EndpointExt as _, IntoEndpoint, Request, RequestParts, Response,
    endpoint::BoxEndpoint,
    http::{self, Extensions, Uri, uri::Scheme},
    web::{LocalAddr, RemoteAddr},
};
use tower_service::Service;

/// Tower service with the complete HTTP interface, for hosts such as axum or hyper. Clones share all state.
///
/// The host passes the address of the peer in the [`Extensions`] of each request, as `SocketAddr`. With the
/// feature `axum`, `axum::extract::ConnectInfo<SocketAddr>` is used as well. A request without an address is
/// rejected with 500, unless [`AppOptions::client_addresses`](crate::AppOptions::client_addresses) is
/// [`ClientAddresses::none`](crate::ClientAddresses::none).
///
/// With the feature `axum`, the prefix of `Router::nest_service` is taken from
/// `axum::extract::OriginalUri`. With other hosts, pass the whole path, and nest the endpoint in a
/// [`poem::Route`]:
///
/// ```
/// # use poem::Route;
/// # use referral_core::ReferralService;
/// use referral_server::{AppOptions, TowerService, app};
///
/// # fn service(referral: ReferralService) -> TowerService {
/// TowerService::new(Route::new().nest("/auth", app(referral, AppOptions::default())))
/// # }
/// ```
#[derive(Clone)]
pub struct TowerService(Arc<BoxEndpoint<'static, Response>>);

impl TowerService {
    /// Creates a service from an endpoint, usually the result of [`app`](crate::app()).
    #[must_use]
    pub fn new(endpoint: impl IntoEndpoint<Endpoint: 'static>) -> Self {
        Self(Arc::new(endpoint.into_endpoint().map_to_response().boxed()))
    }
}

impl<B> Service<http::Request<B>> for TowerService
where
    B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    type Response = http::Response<BoxBody<Bytes, io::Error>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    /// Returns that the service is ready. It sets no limit on concurrent requests: the host does.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let endpoint = Arc::clone(&self.0);
        let request = convert(request);
        Box::pin(async move { Ok(endpoint.get_response(request).await.into()) })
    }
}

/// Converts a request of the host. The body is streamed.
fn convert<B>(request: http::Request<B>) -> Request
where
    B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let (mut parts, body) = request.into_parts();
    // The middleware finds the prefix by comparing the original URI with the one that a router has shortened.
    let uri = parts.uri.clone();
    if let Some(original) = original_uri(&parts.extensions) {
        parts.uri = original;
    }
    let remote =
        peer(&parts.extensions).map_or_else(RemoteAddr::default, |peer| RemoteAddr(Addr::from(peer)));
    let scheme = uri.scheme().cloned().unwrap_or(Scheme::HTTP);
    let body = if body.is_end_stream() {
        Body::empty()
    } else {
        Body::from_bytes_stream(BodyDataStream::new(body).map_err(io::Error::other))
    };
    let parts = RequestParts::from((parts, LocalAddr::default(), remote, scheme));
    let mut request = Request::from_parts(parts, body);
    *request.uri_mut() = uri;
    request
}

#[cfg(feature = "axum")]
fn peer(extensions: &Extensions) -> Option<SocketAddr> {
    use axum::extract::ConnectInfo;

    let connected = extensions.get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| *peer);
    connected.or_else(|| extensions.get().copied())
}

#[cfg(feature = "axum")]
fn original_uri(extensions: &Extensions) -> Option<Uri> {
    use axum::extract::OriginalUri;

    extensions.get().map(|OriginalUri(uri)| uri.clone())
}

#[cfg(not(feature = "axum"))]
fn peer(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get().copied()
}

#[cfg(not(feature = "axum"))]
fn original_uri(_: &Extensions) -> Option<Uri> {
    None
}
