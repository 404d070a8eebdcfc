//! Bodies of requests and responses that hold places.

use std::{
    io, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::stream;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use poem::{Body, Response, http::Version};
use tokio::sync::Notify;

use crate::listener::admission::Place;

/// Polls the data of a body, without trailers.
pub(crate) fn poll_data(body: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
    loop {
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => return Poll::Ready(Some(Ok(data))),
            Some(Ok(Err(_trailers))) => {}
            Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(error)))),
            None => return Poll::Ready(None),
        }
    }
}

/// Returns a body of the received part and of the part that follows. Reading it fails if the request is
/// evicted.
pub(crate) fn streamed_body(received: Vec<u8>, mut body: Incoming, eviction: Arc<Notify>) -> Body {
    let mut received = Some(Bytes::from(received)).filter(|received| !received.is_empty());
    let mut evicted = Box::pin(async move { eviction.notified().await });
    let mut is_evicted = false;
    Body::from_bytes_stream(stream::poll_fn(move |cx| {
        is_evicted = is_evicted || evicted.as_mut().poll(cx).is_ready();
        if is_evicted {
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
        }
        match received.take() {
            Some(received) => Poll::Ready(Some(Ok(received))),
            None => poll_data(&mut body, cx),
        }
    }))
}

/// The body of a response.
pub(crate) trait ResponseBody:
    hyper::body::Body<Data = Bytes, Error = io::Error> + Send + 'static
{
}

/// Response body that holds the place of its request until all of it has been written to the connection.
struct PlaceHoldingBody<B> {
    body: B,
    place: Option<Arc<Place>>,
    /// Sends an empty chunk instead of an empty body.
    sends_empty: bool,
}

/// A chunk that is dropped when it has been written to the connection, and the place with it.
struct PlaceHoldingChunk {
    data: Bytes,
    _place: Option<Arc<Place>>,
}

impl AsRef<[u8]> for PlaceHoldingChunk {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// Converts a response. The place is released after all of the response has been written to the connection,
/// so that the memory of unread responses is limited.
pub(crate) fn response_with_place(
    response: Response,
    place: Option<Arc<Place>>,
    version: Version,
) -> hyper::Response<impl ResponseBody> {
    hyper::Response::from(response).map(|body| {
        // Over HTTP/2, unread responses stay in memory even if they have headers only.
        let sends_empty = version == Version::HTTP_2 && body.is_end_stream();
        PlaceHoldingBody { body, place, sends_empty }
    })
}

impl<B> ResponseBody for PlaceHoldingBody<B> where
    B: hyper::body::Body<Data = Bytes, Error = io::Error> + Send + Unpin + 'static
{
}

impl<B: hyper::body::Body<Data = Bytes> + Unpin> hyper::body::Body for PlaceHoldingBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let place = self.place.clone();
        let hold = |data| Bytes::from_owner(PlaceHoldingChunk { data, _place: place });
        if mem::take(&mut self.sends_empty) {
            return Poll::Ready(Some(Ok(Frame::data(hold(Bytes::new())))));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_ok(|frame| frame.map_data(hold))
    }

    fn is_end_stream(&self) -> bool {
        !self.sends_empty && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // An exact size becomes a `Content-Length`, which responses without a body do not have.
        if self.sends_empty { SizeHint::default() } else { self.body.size_hint() }
    }
}
