//! A client with a stream in memory, and the server that it connects to.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use poem::{EndpointExt as _, Request, Response, endpoint::make, http::Method};
use referral_core::ClientAddress;
use referral_server::ClientAddresses;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::listener::{
    Limits, Server,
    connection::{Connection, GRACEFUL_CLOSE_TIMEOUT},
    endpoint::{PlainUnavailable, ServerEndpoint},
    timeouts::Timeouts,
};

pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(20);
pub(super) const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
pub(super) const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n";

/// Address of the server.
pub(super) const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

// In these tests the clock advances only while all tasks wait.

/// Client with a connection that buffers 1 KiB in each direction.
pub(super) struct Client {
    pub(super) stream: DuplexStream,
    pub(super) connected: Instant,
    pub(super) stopping: watch::Sender<()>,
    /// Returns the time at which the connection ended.
    pub(super) served: JoinHandle<Instant>,
}

pub(super) const LIMITS: Limits = Limits {
    connections: 1,
    requests: 8,
    body_timeout: BODY_TIMEOUT,
    timeouts: Timeouts { header: HEADER_TIMEOUT, idle: IDLE_TIMEOUT },
    shutdown_timeout: Duration::from_secs(5),
};

/// Creates a server with a handler that takes this time and responds with a body of this size.
pub(super) fn server(handler: Duration, body: usize, limits: Limits) -> Arc<Server<impl ServerEndpoint>> {
    let endpoint = make(move |request: Request| async move {
        let is_head = request.method() == Method::HEAD;
        let received = request.into_body().into_bytes().await;
        sleep(handler).await;
        let size = if is_head || received.is_err() { 0 } else { body };
        Ok::<_, poem::Error>(Response::builder().body(vec![b'.'; size]))
    });
    let endpoint = PlainUnavailable(endpoint.map_to_response());
    Arc::new(Server::new(endpoint, limits, ClientAddresses::default(), None))
}

pub(super) fn peer(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 1))
}

impl Client {
    /// Connects to a new server.
    pub(super) fn connect(handler: Duration, body: usize) -> Self {
        Self::connect_to(&server(handler, body, LIMITS), 1)
    }

    /// Connects from the address with this number.
    pub(super) fn connect_to(server: &Arc<Server<impl ServerEndpoint>>, number: u8) -> Self {
        let address = ClientAddress::new(peer(number).ip());
        let place = server.connections.try_acquire(address, true).expect("a place").place;
        Self::connect_with(server, Arc::new(Connection::new(LOCAL, peer(number), place)))
    }

    pub(super) fn connect_with(
        server: &Arc<Server<impl ServerEndpoint>>,
        connection: Arc<Connection>,
    ) -> Self {
        let server = Arc::clone(server);
        let (stream, other) = tokio::io::duplex(1024);
        let (stopping, stopped) = watch::channel(());
        let served = tokio::spawn(async move {
            server.serve_connection(other, connection, stopped).await;
            Instant::now()
        });
        Self { stream, connected: Instant::now(), stopping, served }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the connection is open");
    }

    /// Reads a response with an empty body.
    pub(super) async fn read_response(&mut self) {
        self.read_response_with("HTTP/1.1 200 OK").await;
    }

    /// Reads a response with an empty body and this line in its headers.
    pub(super) async fn read_response_with(&mut self, line: &str) {
        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\n") {
            let size = self.stream.read_buf(&mut response).await.expect("readable");
            assert_ne!(size, 0, "the response is incomplete");
        }
        let response = String::from_utf8_lossy(&response);
        assert!(response.lines().any(|found| found == line), "{response}");
    }

    /// Reads until the connection ends.
    pub(super) async fn read(&mut self) -> String {
        let mut read = Vec::new();
        // An error also ends the connection: the server may not have read all bytes.
        let _ = self.stream.read_to_end(&mut read).await;
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Reads the frames of HTTP/2 until the connection ends: their kinds, streams and payloads.
    pub(super) async fn read_frames(&mut self) -> Vec<(u8, u32, Vec<u8>)> {
        let mut frames = Vec::new();
        let mut head = [0; 9];
        while self.stream.read_exact(&mut head).await.is_ok() {
            let [a, b, c, kind, _, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.stream.read_exact(&mut payload).await.expect("a whole frame");
            frames.push((kind, u32::from_be_bytes(stream), payload));
        }
        frames
    }

    /// Waits for the end of the connection, and asserts that it existed for about this time.
    pub(super) async fn assert_ended_after(self, lifetime: Duration) {
        let (least, most) = (lifetime, lifetime + 2 * GRACEFUL_CLOSE_TIMEOUT);
        let found = self.served.await.expect("no panic") - self.connected;
        assert!((least..most).contains(&found), "{found:?}");
    }
}

/// Runs the tasks that can run, without advancing the clock.
pub(super) async fn run_ready_tasks() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
