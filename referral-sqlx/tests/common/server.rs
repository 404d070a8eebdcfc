//! PostgreSQL server for tests.
//!
//! The installed server is started on a free port with a temporary directory, and stopped after the tests.
//! With `REFERRAL_TEST_POSTGRES_URL` set, tests create their databases on that server instead. Without a
//! server, a test that needs one reports that it is left out. With `REFERRAL_TEST_REQUIRE_ALL` set, it fails.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, postgres::PgConnectOptions};

/// Shell script that starts a server and prints `ready`. It runs until the process that started it ends, and
/// then stops the server and deletes its files. The arguments are the directory of the programs, the
/// directory of the data, the port, the options of the server, and the command that runs the programs.
const SCRIPT: &str = r#"
bin=$1 directory=$2 port=$3 options=$4; shift 4
trap '' INT TERM
"$@" "$bin/initdb" -D "$directory/data" -U postgres -A trust -E UTF8 --no-locale --no-sync >"$directory/initdb.log" 2>&1 &&
"$@" "$bin/pg_ctl" -D "$directory/data" -l "$directory/data/server.log" -w start \
  -o "-p $port -c listen_addresses=127.0.0.1 -k '' -c fsync=off -c max_connections=200 $options" >/dev/null 2>&1 &&
echo ready || { cat "$directory"/*.log "$directory"/data/*.log; rm -rf "$directory"; exit 1; }
read -r _
"$@" "$bin/pg_ctl" -D "$directory/data" -m immediate stop >/dev/null 2>&1
rm -rf "$directory"
"#;

/// Shell script that starts a pooler in front of a server, in the same form as [`SCRIPT`]. The arguments are
/// the directory, the port, the port of the server, and the command that runs the pooler.
///
/// The `PgBouncer` of Debian must be configured to ignore a parameter that `sqlx` sends. Idle connections are
/// closed early, because each test has its own database, and the server does not accept that many
/// connections.
const POOLER_SCRIPT: &str = r#"
directory=$1 port=$2 server=$3; shift 3
trap '' INT TERM
cat >"$directory/pgbouncer.ini" <<END
[databases]
* = host=127.0.0.1 port=$server user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
server_idle_timeout = 1
max_client_conn = 500
ignore_startup_parameters = extra_float_digits
END
chmod a+r "$directory/pgbouncer.ini"
"$@" pgbouncer "$directory/pgbouncer.ini" >"$directory/log" 2>&1 &
pooler=$!
until grep -q 'process up' "$directory/log" || ! kill -0 $pooler 2>/dev/null; do :; done
grep -q 'process up' "$directory/log" && echo ready || { cat "$directory/log"; rm -rf "$directory"; exit 1; }
read -r _
kill -KILL $pooler
rm -rf "$directory"
"#;

/// New empty database of one test.
pub(crate) struct Database {
    pub(crate) url: String,
    name: String,
}

impl Source {
    /// Returns the URL of the server.
    fn url(&self) -> &str {
        let (Self::Given(url) | Self::Started { url, .. }) = self;
        url
    }
}

impl Database {
    /// Creates a database. Without a server, returns `None` and reports it.
    pub(crate) async fn create() -> Option<Self> {
        Some(Self::create_on(server()?).await)
    }

    /// Creates a database on a server that [`start_own`] has started.
    #[allow(dead_code, reason = "not all users of this file start a server")]
    pub(crate) async fn create_on_own(server: &Source) -> Self {
        Self::create_on(server.url()).await
    }

    async fn create_on(server: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("referral_test_{}_{number}", std::process::id());
        execute(server, &format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")).await;
        let mut url = server.to_owned();
        let query = url.find('?').map(|start| url.split_off(start)).unwrap_or_default();
        let host_end = url.rfind('/').filter(|slash| !url[..*slash].ends_with('/')).unwrap_or(url.len());
        url.truncate(host_end);
        Self { url: format!("{url}/{name}{query}"), name }
    }
}

/// Drops the database if the tests did not start its server.
impl Drop for Database {
    fn drop(&mut self) {
        let Some(Source::Given(server)) = source() else { return };
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(execute(server, &drop));
        });
        let _ = dropping.join();
    }
}

pub(crate) async fn execute(server: &str, sql: &str) {
    let options: PgConnectOptions = server.parse().expect("the URL of a server");
    let mut connection = options.connect().await.expect("the server accepts this user");
    connection.execute(AssertSqlSafe(sql.to_owned())).await.expect("done");
    connection.close().await.expect("closed");
}

pub(crate) enum Source {
    /// Server at the URL of the environment variable.
    Given(String),
    /// Server that the tests have started. It runs while the input of the child is open.
    Started { url: String, _child: Child },
}

/// Returns the URL of the server. Without a server, returns `None` and reports it.
fn server() -> Option<&'static str> {
    let source = source();
    if source.is_none() {
        leave_out(
            "PostgreSQL is not installed (package `postgresql`), and REFERRAL_TEST_POSTGRES_URL is not set",
        );
    }
    Some(source?.url())
}

/// Reports that a test is left out. Panics if all tests are required.
#[allow(dead_code, reason = "not all users of this file leave out tests themselves")]
pub(crate) fn leave_out(reason: &str) {
    let message = format!("LEFT OUT: {reason}");
    assert!(std::env::var_os("REFERRAL_TEST_REQUIRE_ALL").is_none(), "{message}");
    // Written directly, because the test harness hides the output of a passing test.
    let _ = writeln!(std::io::stderr(), "{message}");
}

fn source() -> Option<&'static Source> {
    static SOURCE: OnceLock<Option<Source>> = OnceLock::new();
    SOURCE
        .get_or_init(|| match std::env::var("REFERRAL_TEST_POSTGRES_URL") {
            Ok(url) => Some(Source::Given(url)),
            Err(_) => Some(start(&programs()?, "")),
        })
        .as_ref()
}

/// Returns the directory of the programs of the server: the value of an environment variable, or the newest
/// of Debian, or the first in `PATH`.
fn programs() -> Option<PathBuf> {
    if let Some(directory) = std::env::var_os("REFERRAL_TEST_POSTGRES_BIN") {
        return Some(directory.into());
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut directories: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    directories.sort();
    directories.reverse();
    let path = std::env::var_os("PATH").unwrap_or_default();
    directories.extend(std::env::split_paths(&path));
    directories
        .into_iter()
        .find(|directory| directory.join("initdb").exists() && directory.join("pg_ctl").exists())
}

/// Starts another server for one test, with the given options.
#[allow(dead_code, reason = "not all users of this file need one")]
pub(crate) fn start_own(options: &str) -> Option<Source> {
    let programs = programs();
    if programs.is_none() {
        leave_out("PostgreSQL is not installed (package `postgresql`)");
    }
    Some(start(&programs?, options))
}

fn start(programs: &Path, options: &str) -> Source {
    let port = free_port();
    let script = [SCRIPT, "sh", path(programs)];
    let child = run(&script, &[&port, options]);
    Source::Started { url: format!("postgres://postgres@127.0.0.1:{port}/postgres"), _child: child }
}

/// Returns the URL of the database behind a pooler that may run each transaction on a different connection.
/// Returns `None` if the tests did not start the server, or if the pooler is not installed, and reports the
/// latter.
#[allow(dead_code, reason = "not all users of this file have a pooler")]
pub(crate) fn behind_pooler(database: &Database) -> Option<String> {
    static POOLER: OnceLock<Option<(String, Child)>> = OnceLock::new();
    let Some(Source::Started { url: server, .. }) = source() else { return None };
    let pooler = POOLER.get_or_init(|| {
        let is_there = Command::new("pgbouncer").arg("--version").output().is_ok();
        if !is_there {
            leave_out("PgBouncer is not installed (package `pgbouncer`)");
            return None;
        }
        let port = free_port();
        let server = server.trim_end_matches("/postgres").rsplit(':').next().unwrap_or_default();
        let child = run(&[POOLER_SCRIPT, "sh"], &[&port, server]);
        Some((format!("postgres://postgres@127.0.0.1:{port}"), child))
    });
    let (url, _) = pooler.as_ref()?;
    Some(format!("{url}/{}", database.name))
}

/// Returns a port that is free now. If another process takes it, the start fails with an error.
fn free_port() -> String {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    free.expect("a free port").port().to_string()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Starts a script and waits until it prints `ready`. A new directory is passed between its arguments.
fn run(before: &[&str], after: &[&str]) -> Child {
    let directory = tempfile::tempdir().expect("a temporary directory").keep();
    let mut command = Command::new("sh");
    command.arg("-c").args(before).arg(&directory).args(after).current_dir(&directory);
    // A separate process group. If the script were killed with the tests, it could not clean up.
    command.process_group(0);
    if is_root() {
        // The server refuses to run as root.
        let owned = Command::new("chown").arg("postgres").arg(&directory).status();
        assert!(owned.expect("chown runs").success(), "the user `postgres` must exist");
        // `setpriv` replaces itself with the program, so that killing it kills the program.
        command.args(["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]);
    } else {
        command.arg("env");
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("sh runs");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let mut printed = String::new();
    while output.read_line(&mut printed).expect("readable") > 0 && !printed.ends_with("ready\n") {}
    assert!(printed.ends_with("ready\n"), "failed to start: {printed}");
    child
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout == b"0\n")
}
