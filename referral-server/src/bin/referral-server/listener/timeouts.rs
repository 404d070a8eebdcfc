//! Time limits of a connection that waits for its client: for complete headers, for the next request, and for
//! the client to read a response. Time limits of the server itself are in other modules.
//!
//! The timeouts of hyper 1.12 and tokio-io-timeout 1.2 do not replace this module. A client that sends HTTP/2
//! PING frames, and acknowledges those of hyper, keeps a connection without any request open: two hours until
//! the measurement ended, instead of 10 s (`--header-timeout`). `header_read_timeout` of hyper also runs
//! between requests, so it cannot have both `--header-timeout` and `--idle-timeout`.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, ready},
    time::Duration,
};

use poem::http::Version;
use tokio::time::{Instant, sleep_until};

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
    pub(super) fn received(&self) {
        let mut state = self.state();
        if state.handled == 0 && !state.in_head && !state.is_http2 {
            state.in_head = true;
            state.ask_by = Instant::now() + self.times.head;
        }
    }

    /// Records that bytes have been written to the client.
    pub(super) fn sent(&self) {
        let mut state = self.state();
        state.take_by = None;
        if !state.in_head {
            state.ask_by = state.read_by.min(Instant::now() + self.times.idle);
        }
    }

    /// Records that the client accepts no bytes.
    pub(super) fn stuck(&self) {
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
