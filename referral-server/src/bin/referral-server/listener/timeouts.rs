//! Time limits of a connection that waits for its client: for complete headers, for the next request, and for
//! the client to read a response. `listener/request.rs` limits the time to receive a body, and `middleware.rs`
//! the time of the handler.
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

/// Factor of the idle timeout that limits the total time to read responses. It also ends connections that
/// read a byte from time to time, or that send pings over HTTP/2.
const RESPONSE_TIME_FACTOR: u32 = 10;

/// Time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// Longest time to receive the headers of a request. The first request is measured from the connection.
    pub(crate) header: Duration,
    /// Longest time without a request, and without a byte of a response being read.
    pub(crate) idle: Duration,
}

/// Deadlines of one connection, which result from its timeouts.
pub(crate) struct ConnectionDeadlines {
    timeouts: Timeouts,
    state: Mutex<State>,
}

struct State {
    /// Number of requests that are being handled. Meanwhile the connection does not wait for a request.
    active_requests: usize,
    /// The connection uses HTTP/2, whose frames can arrive at any time and do not start request headers.
    is_http2: bool,
    /// The headers of a request are being received.
    in_headers: bool,
    /// Time at which the connection ends if no request is received.
    request_deadline: Instant,
    /// Time at which all responses must have been read, if no further request is received.
    response_deadline: Instant,
    /// Time at which the connection ends if the client reads nothing. `None` if the last write succeeded.
    write_deadline: Option<Instant>,
}

impl ConnectionDeadlines {
    /// Creates the deadlines of a new connection.
    pub(crate) fn new(timeouts: Timeouts) -> Self {
        let request_deadline = Instant::now() + timeouts.header;
        let state = State {
            active_requests: 0,
            is_http2: false,
            in_headers: true,
            request_deadline,
            response_deadline: request_deadline,
            write_deadline: None,
        };
        Self { timeouts, state: Mutex::new(state) }
    }

    /// Records that a request has been received. It is being handled until the returned value is dropped.
    pub(crate) fn start_request(self: &Arc<Self>, version: Version) -> ActiveRequest {
        let mut state = self.state();
        state.active_requests += 1;
        state.is_http2 = version == Version::HTTP_2;
        state.in_headers = false;
        ActiveRequest(Arc::clone(self))
    }

    /// Waits until a deadline has passed. It must be polled together with the connection, whose progress can
    /// set an earlier deadline.
    pub(crate) async fn expired(&self) {
        let mut timer = pin!(sleep_until(self.next_deadline()));
        poll_fn(|cx| {
            loop {
                let deadline = self.next_deadline();
                // A later deadline is set only when the timer fires, so that most requests do not change the
                // timer.
                if deadline < timer.deadline() {
                    timer.as_mut().reset(deadline);
                }
                ready!(timer.as_mut().poll(cx));
                let deadline = self.next_deadline();
                if deadline <= Instant::now() {
                    return Poll::Ready(());
                }
                timer.as_mut().reset(deadline);
            }
        })
        .await;
    }

    fn next_deadline(&self) -> Instant {
        let state = self.state();
        let request_deadline = if state.active_requests == 0 {
            state.request_deadline
        } else {
            Instant::now() + self.timeouts.idle
        };
        state.write_deadline.map_or(request_deadline, |write_deadline| write_deadline.min(request_deadline))
    }

    /// Records that the client has sent bytes.
    pub(super) fn record_read(&self) {
        let mut state = self.state();
        if state.active_requests == 0 && !state.in_headers && !state.is_http2 {
            state.in_headers = true;
            state.request_deadline = Instant::now() + self.timeouts.header;
        }
    }

    /// Records that bytes have been written to the client.
    pub(super) fn record_write(&self) {
        let mut state = self.state();
        state.write_deadline = None;
        if !state.in_headers {
            state.request_deadline = state.response_deadline.min(Instant::now() + self.timeouts.idle);
        }
    }

    /// Records that the client accepts no bytes.
    pub(super) fn record_blocked_write(&self) {
        let mut state = self.state();
        state.write_deadline = state.write_deadline.or_else(|| Some(Instant::now() + self.timeouts.idle));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being handled.
pub(crate) struct ActiveRequest(Arc<ConnectionDeadlines>);

impl ActiveRequest {
    /// Returns `true` if no other request of the connection is being handled.
    pub(crate) fn is_only(&self) -> bool {
        self.0.state().active_requests == 1
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.active_requests -= 1;
        let (now, idle) = (Instant::now(), self.0.timeouts.idle);
        state.request_deadline = now + idle;
        state.response_deadline = now + RESPONSE_TIME_FACTOR * idle;
    }
}
