//! Tests of attacks on the memory of the program. An honest client of the same address is served meanwhile.

use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    program::{Program, directory},
    service::Client,
};

/// Number of connections of an attack. Both ends together stay below 1 024 open files, the usual limit of a
/// process.
const CONNECTIONS: usize = 200;

/// Number of times that an attacker replaces a closed connection. Without this limit, the test would measure
/// the processor.
const REPLACEMENTS: usize = 2;

/// Growth of the resident memory in KiB that an attack may cause. Measured in a debug build: at most 25 MiB,
/// and
/// 52 MiB without the limit of requests in flight.
const MAX_GROWTH: u64 = 40 * 1024;

/// Returns a frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns the headers of `POST /api/v1/auth/send_code/` without a body on 100 streams of HTTP/2.
fn unfinished_posts() -> Vec<u8> {
    let text = |text: &[u8]| [&[u8::try_from(text.len()).expect("short")], text].concat();
    let mut head = vec![0x83, 0x86, 0x41];
    head.extend(text(b"localhost"));
    head.push(0x44);
    head.extend(text(b"/api/v1/auth/send_code/"));
    for _ in 0..20 {
        head.extend([&[0x00], &*text(b"x"), &text(b"y")].concat());
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, b""));
    for stream in 0..100 {
        bytes.extend(frame(1, 4, 2 * stream + 1, &head));
    }
    bytes
}

/// Action of an attacker after it has sent its bytes, until the connection is closed.
#[derive(Clone, Copy)]
enum Then {
    Read,
    /// Sends them again, and never reads.
    Repeat,
}

/// Opens connections on which it sends `bytes`, and replaces those that are closed. Ends when the set is
/// dropped.
fn attack(client: &Client, bytes: &[u8], then: Then) -> JoinSet<()> {
    let mut attack = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (address, bytes) = (client.address, bytes.to_vec());
        attack.spawn(async move {
            for _ in 0..=REPLACEMENTS {
                let Ok(mut connection) = TcpStream::connect(address).await else { continue };
                while connection.write_all(&bytes).await.is_ok() {
                    if let Then::Read = then {
                        let mut read = [0; 4096];
                        while connection.read(&mut read).await.is_ok_and(|read| read > 0) {}
                        break;
                    }
                }
            }
        });
    }
    attack
}

async fn assert_survived(bytes: &[u8], then: Then) {
    let directory = directory();
    let program = Program::start(directory.path(), &["--metrics-listen", "127.0.0.1:0", "--log", "warn"]);
    program.client.enter("+79608543017", None).await;
    let before = program.memory("VmRSS");
    let attack = attack(&program.client, bytes, then);
    for number in 0..10 {
        // Each request uses a new connection, like that of a new client.
        let client = Client::new(program.client.address);
        let body = json!({ "phone": format!("+79608{number:06}") });
        let send = || client.request(Method::POST, "/auth/send_code/").json(&body);
        let mut attempts = 1;
        while client.send(send()).await.status == 503 {
            attempts += 1;
            assert!(attempts <= 20, "request {number} was not served");
        }
    }
    // The kernel updates the peak later than the current value, so the current value may be higher.
    let growth = program.memory("VmHWM").saturating_sub(before);
    assert!(growth < MAX_GROWTH, "{growth} KiB more than {before}");
    drop(attack);
    program.client.enter("+77011234567", None).await;
    let warnings = program.stop().matches("overload started").count();
    assert!(warnings <= 1, "an overload must log at most one warning: {warnings}");
}

#[tokio::test]
async fn unfinished_requests_over_http2_take_little_memory_and_others_are_served() {
    assert_survived(&unfinished_posts(), Then::Read).await;
}

#[tokio::test]
async fn unfinished_bodies_take_little_memory_and_others_are_served() {
    let head = "POST /api/v1/auth/send_code/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16384\r\n\r\n";
    assert_survived(&[head.as_bytes(), &[b' '; 16_383]].concat(), Then::Read).await;
}

#[tokio::test]
async fn responses_that_are_not_read_take_little_memory_and_others_are_served() {
    assert_survived(&b"GET /docs/ HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20), Then::Repeat).await;
}
