//! How long a client may keep a connection waiting. What the server takes time for itself has a
//! limit elsewhere; here is what a client fails to do: to send a whole head, to ask for something,
//! to read what it is answered.

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

/// How many times the time without a request there is to read answers, as long as something is
/// read: a byte now and then is not enough for ever, nor are pings over HTTP/2.
const READING: u32 = 10;

/// How long the patience lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// From the beginning of a head to its end. The first one begins with the connection.
    pub(crate) head: Duration,
    /// Without a request, and without a byte of an answer being taken.
    pub(crate) idle: Duration,
}

/// The patience with the client of one connection.
pub(crate) struct Patience {
    times: Times,
    state: Mutex<State>,
}

struct State {
    /// How many requests are being handled: meanwhile it is not the client who keeps us waiting.
    handled: usize,
    /// Frames of HTTP/2 come at any time, and do not begin a head.
    is_http2: bool,
    /// Whether a head has begun.
    in_head: bool,
    /// When the patience with a client that does not ask ends.
    ask_by: Instant,
    /// When all answers have to be read, if nothing more is asked.
    read_by: Instant,
    /// When the patience with a client that has no room for anything ends, if it has begun.
    take_by: Option<Instant>,
}

impl Patience {
    /// Begins with a connection.
    pub(crate) fn new(times: Times) -> Self {
        let ask_by = Instant::now() + times.head;
        let state =
            State { handled: 0, is_http2: false, in_head: true, ask_by, read_by: ask_by, take_by: None };
        Self { times, state: Mutex::new(state) }
    }

    /// A request has come, and is handled until what this returns is dropped.
    pub(crate) fn handle(self: &Arc<Self>, version: Version) -> Handled {
        let mut state = self.state();
        state.handled += 1;
        state.is_http2 = version == Version::HTTP_2;
        state.in_head = false;
        Handled(Arc::clone(self))
    }

    /// Returns when it has come to an end. To be polled together with the connection, whose progress
    /// can bring that moment nearer.
    pub(crate) async fn ends(&self) {
        let mut timer = pin!(sleep_until(self.end()));
        poll_fn(|cx| {
            loop {
                let end = self.end();
                // A later end is looked for only when the timer fires: most requests leave it alone.
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

    /// The client has sent something.
    fn received(&self) {
        let mut state = self.state();
        if state.handled == 0 && !state.in_head && !state.is_http2 {
            state.in_head = true;
            state.ask_by = Instant::now() + self.times.head;
        }
    }

    /// The client has room for something.
    fn sent(&self) {
        let mut state = self.state();
        state.take_by = None;
        if !state.in_head {
            state.ask_by = state.read_by.min(Instant::now() + self.times.idle);
        }
    }

    /// The client has no room.
    fn stuck(&self) {
        let mut state = self.state();
        state.take_by = state.take_by.or_else(|| Some(Instant::now() + self.times.idle));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being handled.
pub(crate) struct Handled(Arc<Patience>);

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

/// The bytes with which a connection over HTTP/2 begins (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that tells what goes through it.
pub(crate) struct Watched<S> {
    stream: S,
    patience: Arc<Patience>,
    preface: Option<Preface>,
}

/// The search for the preface of HTTP/2. Dropped at the first other byte.
struct Preface {
    received: usize,
    admit: Box<dyn FnOnce() -> bool + Send>,
}

impl<S> Watched<S> {
    /// Creates a stream that calls `admit_http2` if it begins with the preface of HTTP/2, and fails if that
    /// returns `false`.
    pub(crate) fn new(
        stream: S,
        patience: Arc<Patience>,
        admit_http2: impl FnOnce() -> bool + Send + 'static,
    ) -> Self {
        let preface = Preface { received: 0, admit: Box::new(admit_http2) };
        Self { stream, patience, preface: Some(preface) }
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
            Poll::Ready(Ok(_)) => self.patience.sent(),
            Poll::Pending => self.patience.stuck(),
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
            self.patience.received();
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
