//! Time limits of a connection that waits for its client: for complete headers, for the next request, and for
//! the client to read a response. Time limits of the server itself are in other modules.
//!
//! The timeouts of hyper 1.12 and tokio-io-timeout 1.2 do not replace this module. A client that sends HTTP/2
//! PING frames, and acknowledges those of hyper, keeps a connection without any request open: two hours until
//! the measurement ended, instead of 10 s (`--header-timeout`). `header_read_timeout` of hyper also runs
//! between requests, so it cannot have both `--header-timeout` and `--idle-timeout`.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use poem::http::Version;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

/// Factor of the idle time that limits the total time to read responses. It also ends connections that read a
/// byte from time to time, or that send pings over HTTP/2.
const READING: u32 = 10;

/// Time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Longest time to receive the headers of a request. The first request is measured from the connection.
    pub(crate) head: Duration,
    /// Longest time without a request, and without a byte of a response being read.
    pub(crate) idle: Duration,
}

/// Timeouts of one connection.
pub(crate) struct ConnectionTimeouts {
    times: Times,
    state: Mutex<State>,
}

struct State {
    /// Number of requests that are being handled. Meanwhile the connection does not wait for a request.
    handled: usize,
    /// The connection uses HTTP/2, whose frames can arrive at any time and do not start request headers.
    is_http2: bool,
    /// The headers of a request are being received.
    in_head: bool,
    /// Time at which the connection ends if no request is received.
    ask_by: Instant,
    /// Time at which all responses must have been read, if no further request is received.
    read_by: Instant,
    /// Time at which the connection ends if the client reads nothing. `None` if the last write succeeded.
    take_by: Option<Instant>,
}

impl ConnectionTimeouts {
    /// Creates the timeouts of a new connection.
    pub(crate) fn new(times: Times) -> Self {
        let ask_by = Instant::now() + times.head;
        let state =
            State { handled: 0, is_http2: false, in_head: true, ask_by, read_by: ask_by, take_by: None };
        Self { times, state: Mutex::new(state) }
    }

    /// Records that a request has been received. It is being handled until the returned value is dropped.
    pub(crate) fn handle(self: &Arc<Self>, version: Version) -> Handled {
        let mut state = self.state();
        state.handled += 1;
        state.is_http2 = version == Version::HTTP_2;
        state.in_head = false;
        Handled(Arc::clone(self))
    }

    /// Waits until a timeout expires. It must be polled together with the connection, whose progress can
    /// shorten the timeout.
    pub(crate) async fn ends(&self) {
        let mut timer = pin!(sleep_until(self.end()));
        poll_fn(|cx| {
            loop {
                let end = self.end();
                // A later end is set only when the timer fires, so that most requests do not change the
                // timer.
                if end < timer.deadline() {
                    timer.as_mut().reset(end);
                }
                ready!(timer.as_mut().poll(cx));
                let end = self.end();
                if end <= Instant::now() {
                    return Poll::Ready(());
                }
                timer.as_mut().reset(end);
            }
        })
        .await;
    }

    fn end(&self) -> Instant {
        let state = self.state();
        let ask_by = if state.handled == 0 { state.ask_by } else { Instant::now() + self.times.idle };
        state.take_by.map_or(ask_by, |take_by| take_by.min(ask_by))
    }

    /// Records that the client has sent bytes.
    fn received(&self) {
        let mut state = self.state();
        if state.handled == 0 && !state.in_head && !state.is_http2 {
            state.in_head = true;
            state.ask_by = Instant::now() + self.times.head;
        }
    }

    /// Records that bytes have been written to the client.
    fn sent(&self) {
        let mut state = self.state();
        state.take_by = None;
        if !state.in_head {
            state.ask_by = state.read_by.min(Instant::now() + self.times.idle);
        }
    }

    /// Records that the client accepts no bytes.
    fn stuck(&self) {
        let mut state = self.state();
        state.take_by = state.take_by.or_else(|| Some(Instant::now() + self.times.idle));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being handled.
pub(crate) struct Handled(Arc<ConnectionTimeouts>);

impl Handled {
    /// Returns `true` if no other request of the connection is being handled.
    pub(crate) fn is_only(&self) -> bool {
        self.0.state().handled == 1
    }
}

impl Drop for Handled {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.handled -= 1;
        let (now, idle) = (Instant::now(), self.0.times.idle);
        state.ask_by = now + idle;
        state.read_by = now + READING * idle;
    }
}

/// First bytes of a connection over HTTP/2 (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Stream that reports reads and writes to [`ConnectionTimeouts`].
pub(crate) struct Watched<S> {
    stream: S,
    timeouts: Arc<ConnectionTimeouts>,
    preface: Option<Preface>,
}

/// The search for the preface of HTTP/2. Dropped at the first other byte.
struct Preface {
    received: usize,
    admit: Box<dyn FnOnce() -> bool + Send>,
}

impl<S> Watched<S> {
    /// Creates a stream that calls `admit_http2` if it starts with the preface of HTTP/2. The stream fails if
    /// `admit_http2` returns `false`.
    pub(crate) fn new(
        stream: S,
        timeouts: Arc<ConnectionTimeouts>,
        admit_http2: impl FnOnce() -> bool + Send + 'static,
    ) -> Self {
        let preface = Preface { received: 0, admit: Box::new(admit_http2) };
        Self { stream, timeouts, preface: Some(preface) }
    }

    fn compare_preface(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(mut preface) = self.preface.take() else { return Ok(()) };
        let rest = &HTTP2_PREFACE[preface.received..];
        if bytes.starts_with(rest) {
            if !(preface.admit)() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        } else if rest.starts_with(bytes) {
            preface.received += bytes.len();
            self.preface = Some(preface);
        }
        Ok(())
    }

    fn tell(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(_)) => self.timeouts.sent(),
            Poll::Pending => self.timeouts.stuck(),
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.timeouts.received();
            self.compare_preface(&buf.filled()[before..])?;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.tell(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.tell(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
