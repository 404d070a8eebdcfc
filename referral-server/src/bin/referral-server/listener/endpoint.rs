//! Endpoints that the listener serves.

use poem::{
    Endpoint, IntoResponse as _, Request, Response,
    http::{HeaderMap, StatusCode},
};
use referral_server::App;

/// Endpoint with a response to requests that get no place.
pub(crate) trait ServerEndpoint: Endpoint<Output = Response> + 'static {
    /// Creates the response to a request with these headers. It must be cheap.
    fn unavailable(&self, headers: &HeaderMap) -> Response;
}

impl ServerEndpoint for App {
    fn unavailable(&self, headers: &HeaderMap) -> Response {
        App::unavailable(self, headers)
    }
}

/// Endpoint that responds with a 503 in plain text to requests that get no place.
pub(crate) struct PlainUnavailable<E>(pub(crate) E);

impl<E: Endpoint<Output = Response>> Endpoint for PlainUnavailable<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        self.0.call(request).await
    }
}

impl<E: Endpoint<Output = Response> + 'static> ServerEndpoint for PlainUnavailable<E> {
    fn unavailable(&self, _: &HeaderMap) -> Response {
        "overloaded\n".with_status(StatusCode::SERVICE_UNAVAILABLE).into_response()
    }
}
