//! Stream of a connection, which reports to the deadlines and finds connections over HTTP/2.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::listener::timeouts::ConnectionDeadlines;

/// First bytes of a connection over HTTP/2 (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Stream that reports reads and writes to [`ConnectionDeadlines`].
pub(crate) struct MonitoredStream<S> {
    stream: S,
    deadlines: Arc<ConnectionDeadlines>,
    preface: Option<PrefaceMatcher>,
}

/// Matcher of the HTTP/2 preface. Dropped at the first other byte.
struct PrefaceMatcher {
    received: usize,
    admit: Box<dyn FnOnce() -> bool + Send>,
}

impl<S> MonitoredStream<S> {
    /// Creates a stream that calls `admit_http2` if it starts with the preface of HTTP/2. The stream fails if
    /// `admit_http2` returns `false`.
    pub(crate) fn new(
        stream: S,
        deadlines: Arc<ConnectionDeadlines>,
        admit_http2: impl FnOnce() -> bool + Send + 'static,
    ) -> Self {
        let preface = PrefaceMatcher { received: 0, admit: Box::new(admit_http2) };
        Self { stream, deadlines, preface: Some(preface) }
    }

    fn match_preface(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(mut preface) = self.preface.take() else { return Ok(()) };
        let missing = &HTTP2_PREFACE[preface.received..];
        if bytes.starts_with(missing) {
            if !(preface.admit)() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        } else if missing.starts_with(bytes) {
            preface.received += bytes.len();
            self.preface = Some(preface);
        }
        Ok(())
    }

    fn record_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(_)) => self.deadlines.record_write(),
            Poll::Pending => self.deadlines.record_blocked_write(),
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MonitoredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.deadlines.record_read();
            self.match_preface(&buf.filled()[before..])?;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MonitoredStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.record_write(written)
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
        self.record_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
