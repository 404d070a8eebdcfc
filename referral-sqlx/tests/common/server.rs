//! A PostgreSQL server for tests: the one that is installed, started on a free port and in a
//! temporary folder, and gone when the tests are.
//!
//! With `REFERRAL_TEST_POSTGRES_URL` set, tests make their databases on that server instead. Where there
//! is neither, a test that needs one says that it was left out; with `REFERRAL_TEST_REQUIRE_ALL` it
//! fails.

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

/// Starts a server and says so, waits until whoever started it is gone, and leaves nothing behind.
/// The arguments are the folder of the programs, that of the data, the port, options of the server, and what
/// runs them.
const SCRIPT: &str = r#"
bin=$1 folder=$2 port=$3 options=$4; shift 4
trap '' INT TERM
"$@" "$bin/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --no-locale --no-sync >"$folder/initdb.log" 2>&1 &&
"$@" "$bin/pg_ctl" -D "$folder/data" -l "$folder/data/server.log" -w start \
  -o "-p $port -c listen_addresses=127.0.0.1 -k '' -c fsync=off -c max_connections=200 $options" >/dev/null 2>&1 &&
echo ready || { cat "$folder"/*.log "$folder"/data/*.log; rm -rf "$folder"; exit 1; }
read -r _
"$@" "$bin/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1
rm -rf "$folder"
"#;

/// Starts a pooler in front of a server, and says so; otherwise as above. The arguments are the folder, the
/// port, that of the server, and what runs it. Debian's `PgBouncer` wants to be told to let a parameter
/// pass that `sqlx` sends. It keeps no connection for long, since each test has a database of its own and
/// the server has not as many.
const POOLER_SCRIPT: &str = r#"
folder=$1 port=$2 server=$3; shift 3
trap '' INT TERM
cat >"$folder/pgbouncer.ini" <<END
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
chmod a+r "$folder/pgbouncer.ini"
"$@" pgbouncer "$folder/pgbouncer.ini" >"$folder/log" 2>&1 &
pooler=$!
until grep -q 'process up' "$folder/log" || ! kill -0 $pooler 2>/dev/null; do :; done
grep -q 'process up' "$folder/log" && echo ready || { cat "$folder/log"; rm -rf "$folder"; exit 1; }
read -r _
kill -KILL $pooler
rm -rf "$folder"
"#;

/// A database of a test's own, empty at first.
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
    /// `None` where there is no server, which is said.
    pub(crate) async fn create() -> Option<Self> {
        Some(Self::create_on(server()?).await)
    }

    #[allow(dead_code, reason = "not all who share this file start a server")]
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

/// A server that tests did not start is left as it was.
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
    let mut connection = options.connect().await.expect("the server lets us in");
    connection.execute(AssertSqlSafe(sql.to_owned())).await.expect("done");
    connection.close().await.expect("closed");
}

pub(crate) enum Source {
    /// Somebody else's.
    Given(String),
    /// Ours, for as long as the child's input is open.
    Started { url: String, _child: Child },
}

/// The URL of the server.
fn server() -> Option<&'static str> {
    let source = source();
    if source.is_none() {
        leave_out(
            "PostgreSQL is not installed (package `postgresql`), nor does REFERRAL_TEST_POSTGRES_URL name a server",
        );
    }
    Some(source?.url())
}

/// Says what was left out, or fails where nothing may be.
#[allow(dead_code, reason = "not all who share this file leave out more than the server")]
pub(crate) fn leave_out(reason: &str) {
    let message = format!("LEFT OUT: {reason}");
    assert!(std::env::var_os("REFERRAL_TEST_REQUIRE_ALL").is_none(), "{message}");
    // Past the test harness, which keeps what a passing test prints to itself.
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

/// The folder of the server's programs: the one that a variable names, where Debian has them, the newest;
/// or in the path.
fn programs() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("REFERRAL_TEST_POSTGRES_BIN") {
        return Some(folder.into());
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    folders.into_iter().find(|folder| folder.join("initdb").exists() && folder.join("pg_ctl").exists())
}

/// Starts another server, with these options, for one test.
#[allow(dead_code, reason = "not all who share this file need one")]
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

/// The same database behind a pooler that gives each transaction another connection. `None` where there
/// is no pooler, or the server is not ours, which is said.
#[allow(dead_code, reason = "not all who share this file have a pooler")]
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

/// Free now; whoever takes it meanwhile makes the start fail, which is told.
fn free_port() -> String {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    free.expect("a free port").port().to_string()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Runs a script with a folder of its own between its arguments, until it says that it is ready.
fn run(before: &[&str], after: &[&str]) -> Child {
    let folder = tempfile::tempdir().expect("a temporary folder").keep();
    let mut command = Command::new("sh");
    command.arg("-c").args(before).arg(&folder).args(after).current_dir(&folder);
    // Apart from the process group of the tests: killed with them, it could not clean up.
    command.process_group(0);
    if is_root() {
        // The server refuses to run as root.
        let owned = Command::new("chown").arg("postgres").arg(&folder).status();
        assert!(owned.expect("chown runs").success(), "there is a user `postgres`");
        // It replaces itself by the program, so that killing it kills the program.
        command.args(["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]);
    } else {
        command.arg("env");
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("sh runs");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let mut said = String::new();
    while output.read_line(&mut said).expect("readable") > 0 && !said.ends_with("ready\n") {}
    assert!(said.ends_with("ready\n"), "it did not start: {said}");
    child
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout == b"0\n")
}
