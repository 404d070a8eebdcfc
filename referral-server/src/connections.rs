//! Connections: no more than there is room for, and none for a client that leaves it unused.
//!
//! In place of poem's own server, which waits for ever for the rest of a head.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use poem::{
    Addr, Endpoint, Request, Response,
    http::uri::Scheme,
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

use crate::patience::{Patience, Times, Watched};

/// Streams that one HTTP/2 connection may have open: more than a browser opens, fewer than would
/// crowd out others.
const MAX_STREAMS: u32 = 100;

/// How many streams a client may open and take back before they were looked at (CVE-2023-44487).
const MAX_RESET_STREAMS: usize = 20;

/// The largest head in bytes, and about what is held of an answer that the client is slow to read.
const MAX_HEAD: usize = 32 * 1024;
/// The same of HTTP/2, where the head comes compressed.
const MAX_HEAD_HTTP2: u32 = 16 * 1024;

/// What a client may send over HTTP/2 before it was looked at, in bytes, on one stream and on all.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// How long a connection whose time is over may take to say good-bye: over HTTP/2 the client is told
/// which requests were not looked at.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long to wait after a connection could not be accepted, most often because the process may
/// open no more files: trying again at once would only heat the machine.
const PAUSE: Duration = Duration::from_millis(100);

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many are open at once; others wait to be accepted.
    pub(crate) connections: u32,
    pub(crate) patience: Times,
    /// How long requests under way may take after the signal to stop.
    pub(crate) shutdown: Duration,
}

/// Serves until `stop` is there, and then for as long as requests under way may take.
pub(crate) async fn serve<E: Endpoint<Output = Response> + 'static>(
    listener: TcpListener,
    endpoint: E,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let server = Arc::new(Server::new(endpoint, limits));
    let places = Arc::new(Semaphore::new(limits.connections as usize));
    let (stopping, stopped) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        let (place, stream, peer) = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut stop => break,
        };
        let (server, stopped) = (Arc::clone(&server), stopped.clone());
        tokio::spawn(async move {
            if let Ok(local) = stream.local_addr() {
                server.serve(stream, local, peer, stopped).await;
            }
            drop(place);
        });
    }
    drop((listener, stopping));
    // When every place is free again, nobody is left.
    let _ = places.acquire_many(limits.connections).await;
}

/// Waits for a place, and then for somebody to take it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (OwnedSemaphorePermit, TcpStream, SocketAddr) {
    let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (place, stream, peer),
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// What all connections share.
struct Server<E> {
    endpoint: Arc<E>,
    http: auto::Builder<TokioExecutor>,
    limits: Limits,
}

impl<E: Endpoint<Output = Response> + 'static> Server<E> {
    fn new(endpoint: E, limits: Limits) -> Self {
        let mut http = auto::Builder::new(TokioExecutor::new());
        // The patience knows more than its time limit for heads, which runs while the client is idle.
        http.http1().header_read_timeout(None).max_buf_size(MAX_HEAD);
        http.http2()
            .max_concurrent_streams(MAX_STREAMS)
            .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
            .max_header_list_size(MAX_HEAD_HTTP2)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        Self { endpoint: Arc::new(endpoint), http, limits }
    }

    /// Serves one connection to its end.
    async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        local: SocketAddr,
        peer: SocketAddr,
        mut stopped: watch::Receiver<()>,
    ) {
        let patience = Arc::new(Patience::new(self.limits.patience));
        let stream = TokioIo::new(Watched::new(stream, Arc::clone(&patience)));
        let (endpoint, watching) = (Arc::clone(&self.endpoint), Arc::clone(&patience));
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let handled = watching.handle(request.version());
            let endpoint = Arc::clone(&endpoint);
            async move {
                let (local, peer) = (LocalAddr(Addr::from(local)), RemoteAddr(Addr::from(peer)));
                let request = Request::from((request, local, peer, Scheme::HTTP));
                let response = endpoint.get_response(request).await;
                drop(handled);
                Ok::<_, Infallible>(hyper::Response::from(response))
            }
        });

        let mut connection = pin!(self.http.serve_connection(stream, service));
        let rest = tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = patience.ends() => FAREWELL,
            _ = stopped.changed() => self.limits.shutdown,
        };
        connection.as_mut().graceful_shutdown();
        let _ = timeout(rest, connection).await;
    }
}

#[cfg(test)]
mod tests {
    use poem::{EndpointExt as _, endpoint::make};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
        task::JoinHandle,
        time::{Instant, sleep},
    };

    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_mins(1);
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    // Time does not pass in these tests but when everybody waits: then the clock is set forward.

    /// A client, whose connection has room for 1 KiB each way.
    struct Client {
        stream: DuplexStream,
        connected: Instant,
        stopping: watch::Sender<()>,
        /// When it ended.
        served: JoinHandle<Instant>,
    }

    impl Client {
        /// Connects to a server whose handler takes that long and answers with a body of that size.
        fn connect(handler: Duration, body: usize) -> Self {
            let endpoint = make(move |_| async move {
                sleep(handler).await;
                Ok::<_, poem::Error>(Response::builder().body(vec![b'.'; body]))
            });
            let limits = Limits {
                connections: 1,
                patience: Times { head: HEAD, idle: IDLE },
                shutdown: Duration::from_secs(5),
            };
            let server = Server::new(endpoint.map_to_response(), limits);
            let (stream, other) = tokio::io::duplex(1024);
            let (stopping, stopped) = watch::channel(());
            let address = SocketAddr::from(([127, 0, 0, 1], 1));
            let served = tokio::spawn(async move {
                server.serve(other, address, address, stopped).await;
                Instant::now()
            });
            Self { stream, connected: Instant::now(), stopping, served }
        }

        async fn send(&mut self, bytes: &[u8]) {
            self.stream.write_all(bytes).await.expect("the connection is open");
        }

        /// Reads an answer with an empty body.
        async fn answered(&mut self) {
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                assert_ne!(self.stream.read_buf(&mut answer).await.expect("readable"), 0, "an answer");
            }
        }

        /// Waits for the end of the connection, and asserts that it lived about that long.
        async fn assert_ended_after(self, lived: Duration) {
            let (least, most) = (lived, lived + 2 * FAREWELL);
            let found = self.served.await.expect("no panic") - self.connected;
            assert!((least..most).contains(&found), "{found:?}");
        }
    }

    /// A frame of HTTP/2.
    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("a short frame");
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    /// `GET /` on the first stream of HTTP/2, after the settings.
    fn get_over_http2(settings: &[u8]) -> Vec<u8> {
        let head = [&[0x82, 0x84, 0x86, 0x41, 9][..], b"localhost"].concat();
        [PREFACE, &frame(4, 0, 0, settings), &frame(1, 5, 1, &head)].concat()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_no_whole_head_is_not_waited_for() {
        for begin in [b"", &GET[..1], &GET[..20], PREFACE, &get_over_http2(&[])[..40]] {
            let mut client = Client::connect(Duration::ZERO, 0);
            client.send(begin).await;
            client.assert_ended_after(HEAD).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_buys_no_time() {
        let mut client = Client::connect(Duration::ZERO, 0);
        let head = [b"GET / HTTP/1.1\r\n", &[b'x'; 100][..]].concat();
        for byte in head {
            // It fails when the connection is closed.
            let _ = client.stream.write_all(&[byte]).await;
            sleep(Duration::from_secs(1)).await;
        }
        assert!(client.served.is_finished());
        assert!(client.stream.write_all(b"x").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn between_two_requests_there_is_more_time_than_within_a_head() {
        const PAUSE: Duration = Duration::from_secs(59);
        let mut client = Client::connect(Duration::ZERO, 0);
        for _ in 0..3 {
            client.send(GET).await;
            client.answered().await;
            sleep(PAUSE).await;
        }
        client.send(&GET[..20]).await;
        client.assert_ended_after(3 * PAUSE + HEAD).await;

        let mut client = Client::connect(Duration::ZERO, 0);
        client.send(GET).await;
        client.assert_ended_after(IDLE).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_may_take_longer_than_a_client() {
        let mut client = Client::connect(5 * IDLE, 0);
        client.send(GET).await;
        client.answered().await;
        client.assert_ended_after(6 * IDLE).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_not_waited_for() {
        let mut client = Client::connect(Duration::ZERO, 1_000_000);
        client.send(GET).await;
        client.assert_ended_after(IDLE).await;

        // Over HTTP/2 also with a window into which nothing fits.
        for settings in [&[][..], &[0, 4, 0, 0, 0, 0]] {
            let mut client = Client::connect(Duration::ZERO, 1_000_000);
            client.send(&get_over_http2(settings)).await;
            client.assert_ended_after(IDLE).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_gets_everything() {
        let mut client = Client::connect(Duration::ZERO, 20_000);
        client.send(&[&GET[..GET.len() - 2], b"Connection: close\r\n\r\n"].concat()).await;
        let mut answer = Vec::new();
        while client.stream.read_buf(&mut answer).await.expect("readable") > 0 {
            sleep(IDLE / 4).await;
        }
        assert!(answer.ends_with(&vec![b'.'; 20_000]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_only_seems_to_read_is_not_waited_for_without_end() {
        let mut client = Client::connect(Duration::ZERO, 1_000_000);
        client.send(GET).await;
        while client.stream.read_u8().await.is_ok() && !client.served.is_finished() {
            sleep(Duration::from_secs(1)).await;
        }
        client.assert_ended_after(10 * IDLE).await;

        let mut client = Client::connect(Duration::ZERO, 1_000_000);
        client.send(&get_over_http2(&[0, 4, 0, 0, 0, 0])).await;
        let ping = frame(6, 0, 0, &[0; 8]);
        while client.stream.write_all(&ping).await.is_ok() {
            // The answers to pings, so that there is room for more.
            let _ = client.stream.read(&mut [0; 1024]).await;
            sleep(Duration::from_secs(1)).await;
        }
        client.assert_ended_after(10 * IDLE).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_taken_back_does_not_hold_the_connection() {
        let mut client = Client::connect(2 * IDLE, 0);
        client.send(&[get_over_http2(&[]), frame(3, 0, 1, &[0, 0, 0, 8])].concat()).await;
        client.served.await.expect("no panic");
        assert!(client.connected.elapsed() < 2 * IDLE + 2 * FAREWELL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_is_answered_after_the_signal_to_stop_unless_it_takes_too_long() {
        for (handler, is_answered) in [(4, true), (8, false)] {
            let mut client = Client::connect(Duration::from_secs(handler), 0);
            client.send(GET).await;
            sleep(Duration::from_secs(1)).await;
            client.stopping.send(()).expect("the connection is open");
            let mut answer = Vec::new();
            client.stream.read_to_end(&mut answer).await.expect("readable");
            assert_eq!(answer.starts_with(b"HTTP/1.1 200"), is_answered, "{handler}");
            let lived = Duration::from_secs(if is_answered { 4 } else { 6 });
            client.assert_ended_after(lived).await;
        }
    }
}
