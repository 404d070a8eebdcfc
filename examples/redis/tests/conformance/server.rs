//! Redis server for tests.
//!
//! The installed server is started on a free port with a temporary directory, and stopped after the tests.
//! Without a server, a test reports that it is left out. With `REFERRAL_TEST_REQUIRE_ALL` set, it fails.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Shell script that starts a server and prints `ready`. It runs until the process that started it ends, and
/// then stops the server and deletes its files. The arguments are the directory and the port.
const SCRIPT: &str = r#"
directory=$1 port=$2
trap '' INT TERM
redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no --dir "$directory" \
  >"$directory/log" 2>&1 &
server=$!
is_ready() { grep -q 'Ready to accept connections' "$directory/log"; }
until is_ready || ! kill -0 $server 2>/dev/null; do :; done
is_ready && echo ready || { cat "$directory/log"; rm -rf "$directory"; exit 1; }
read -r _
kill -KILL $server
wait $server
rm -rf "$directory"
"#;

/// Server that the tests have started. It runs while the input of the child is open.
pub(crate) struct Server {
    pub(crate) url: String,
    _child: Child,
}

/// Returns the URL of the server that the tests share, and a prefix of keys that no other test uses. Without
/// a server, returns `None`, and the first call reports it.
pub(crate) fn empty_database() -> Option<(&'static str, String)> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let server = SERVER.get_or_init(start).as_ref()?;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Some((&server.url, format!("test-{number}/")))
}

/// Starts a server and waits until it is ready. If it is not installed, returns `None` and reports it, or
/// panics if all tests are required.
pub(crate) fn start() -> Option<Server> {
    if Command::new("redis-server").arg("--version").output().is_err() {
        let message = "LEFT OUT: Redis is not installed (package `redis-server`)";
        assert!(std::env::var_os("REFERRAL_TEST_REQUIRE_ALL").is_none(), "{message}");
        // Written directly, because the test harness hides the output of a passing test.
        let _ = writeln!(std::io::stderr(), "{message}");
        return None;
    }
    // The port is free now. If another process takes it, the start fails with an error.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let port = free.expect("a free port").port().to_string();
    let directory = tempfile::tempdir().expect("a temporary directory").keep();
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "sh"]).arg(&directory).arg(&port).current_dir(&directory);
    // A separate process group. If the script were killed with the tests, it could not clean up.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("sh runs");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let mut printed = String::new();
    while output.read_line(&mut printed).expect("readable") > 0 && !printed.ends_with("ready\n") {}
    assert!(printed.ends_with("ready\n"), "failed to start: {printed}");
    Some(Server { url: format!("redis://127.0.0.1:{port}"), _child: child })
}
