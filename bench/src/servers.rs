//! Starts the programs that are measured: a durable PostgreSQL server, and the server of this project.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Settings for a small dedicated server. Commits survive a loss of power, as by default.
const SETTINGS: &str = "-c listen_addresses=127.0.0.1 -c max_connections=200 -c shared_buffers=2GB \
    -c max_wal_size=8GB -c maintenance_work_mem=1GB -c checkpoint_timeout=30min -k ''";

/// PostgreSQL server, which is stopped and removed when the value is dropped.
pub(crate) struct Postgres {
    programs: PathBuf,
    directory: tempfile::TempDir,
    port: u16,
}

impl Postgres {
    pub(crate) fn start() -> Self {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut directories: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
        directories.sort();
        let programs = directories.pop().expect("PostgreSQL is installed (package `postgresql`)");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let postgres = Self { programs, directory, port: free.expect("a free port").port() };
        if is_root() {
            let owned = Command::new("chown").arg("postgres").arg(postgres.directory.path()).status();
            assert!(owned.expect("chown runs").success());
        }
        let data = postgres.data();
        postgres.run("initdb", &["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"]);
        let settings = format!("-p {} {SETTINGS}", postgres.port);
        let log = format!("{data}/server.log");
        postgres.run("pg_ctl", &["-D", &data, "-l", &log, "-w", "-o", &settings, "start"]);
        postgres
    }

    fn data(&self) -> String {
        self.directory.path().join("data").display().to_string()
    }

    /// Runs a program of PostgreSQL. Root runs it as the user `postgres`, because PostgreSQL refuses to run
    /// as root.
    fn run(&self, program: &str, arguments: &[&str]) {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let status = command.args(arguments).current_dir("/").stdout(Stdio::null()).status();
        assert!(status.expect("the program starts").success(), "{arguments:?}");
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Creates a database and returns its URL.
    pub(crate) fn create(&self, database: &str) -> String {
        self.psql("postgres", &format!("CREATE DATABASE {database} TEMPLATE template0"));
        self.url(database)
    }

    pub(crate) fn psql(&self, database: &str, sql: &str) -> String {
        let output = Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url(database), "-c", sql])
            .output()
            .expect("psql runs");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs a script with pgbench and returns the transactions per second.
    pub(crate) fn pgbench(&self, database: &str, script: &Path, connections: u32, time: Duration) -> f64 {
        let output = Command::new(self.programs.join("pgbench"))
            .args(["-n", "-M", "prepared", "-h", "127.0.0.1", "-U", "postgres", "-p", &self.port.to_string()])
            .args(["-c", &connections.to_string(), "-j", "1", "-T", &time.as_secs().to_string()])
            .arg("-f")
            .arg(script)
            .arg(database)
            .output()
            .expect("pgbench runs");
        let stdout = String::from_utf8_lossy(&output.stdout);
        let rate = stdout.lines().find_map(|line| line.strip_prefix("tps = "));
        let rate = rate.and_then(|rate| rate.split(' ').next()?.parse().ok());
        rate.unwrap_or_else(|| panic!("{stdout}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]);
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout == b"0\n")
}

/// Returns the path of the measured program: that of `REFERRAL_BENCH_SERVER`, or a release build.
pub(crate) fn program() -> PathBuf {
    if let Some(given) = std::env::var_os("REFERRAL_BENCH_SERVER") {
        return given.into();
    }
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "-p", "referral-server"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.expect("cargo runs").success());
    let here = std::env::current_exe().expect("a path");
    here.parent().expect("a directory").join("referral-server")
}

/// Running server.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    /// Time from the start to the first response.
    pub(crate) start: Duration,
    directory: PathBuf,
}

/// Flags with which the server counts events of a phone, as in production, but rejects no request. Events of
/// an address or a number range are not counted, because all clients of a benchmark have the same.
const LIMITS: [&str; 15] = [
    // Permits the development sender with the standard policy and PostgreSQL. Only this machine can reach the
    // server.
    "--return-codes-to-anyone",
    "--policy",
    "standard",
    "--resend-interval",
    "0s",
    "--codes-per-phone",
    "1000/1s",
    "--codes-per-number-range",
    "off",
    "--codes-per-address",
    "off",
    "--codes-per-phone-and-address",
    "off",
    "--failed-attempts-per-address",
    "off",
];

impl Server {
    /// Starts a server that stores its data in `directory`.
    pub(crate) fn start(directory: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.arg("--data-dir").arg(directory.join("data")).args(LIMITS).args(arguments);
        Self::spawn(&mut command, directory)
    }

    /// Starts a server with `threads` worker threads.
    pub(crate) fn on_threads(directory: &Path, threads: usize) -> Self {
        let mut command = Command::new(program());
        command.env("TOKIO_WORKER_THREADS", threads.to_string());
        Self::spawn(command.arg("--data-dir").arg(directory.join("data")).args(LIMITS), directory)
    }

    /// Starts a program that prints its address, as the server does.
    pub(crate) fn spawn(command: &mut Command, directory: &Path) -> Self {
        let started = Instant::now();
        let log = std::fs::File::create(directory.join("log")).expect("a file");
        // The server does not start with an unknown variable, such as `REFERRAL_BENCH_SERVER`. Other
        // variables would change the measurements.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("REFERRAL_"))
        {
            command.env_remove(name);
        }
        let command = command.env("REFERRAL_LISTEN", "127.0.0.1:0").env("REFERRAL_LOG", "warn");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("the program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("standard output is piped"))
            .read_line(&mut line)
            .expect("readable");
        let address = line.trim().split("http://").nth(1).unwrap_or_else(|| {
            panic!("{}", std::fs::read_to_string(directory.join("log")).unwrap_or_default());
        });
        let address = address.trim_end_matches('/').to_owned();
        let mut connection = std::net::TcpStream::connect(&address).expect("the program listens");
        write!(connection, "GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
        let mut response = [0; 12];
        connection.read_exact(&mut response).expect("a response");
        Self { child, address, start: started.elapsed(), directory: directory.to_owned() }
    }

    /// Returns the resident memory in MiB.
    pub(crate) fn resident(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the server runs on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the resident memory");
        line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("http://{}/api/v1{path}", self.address);
        let response = reqwest::Client::new().post(url).json(body).send().await.expect("a response");
        response.json().await.expect("JSON")
    }

    /// Requests codes for the phone over several connections at the same time.
    pub(crate) async fn send_codes(&self, phone: &str, connections: usize) {
        let url = format!("http://{}/api/v1/auth/send_code/", self.address);
        let requests: Vec<_> = (0..connections)
            .map(|_| {
                let request = reqwest::Client::new().post(&url).json(&json!({ "phone": phone }));
                tokio::spawn(request.send())
            })
            .collect();
        for request in requests {
            let response = request.await.expect("no panic").expect("a response");
            assert_eq!(response.status(), 200, "{phone}");
        }
    }

    /// Signs in users by the numbers of their phones, and writes their tokens to files with the given name.
    pub(crate) async fn tokens(&self, name: &str, numbers: impl Iterator<Item = u64>) -> Tokens {
        let (mut access, mut refresh) = (String::new(), String::new());
        for number in numbers {
            let phone = format!("+7960{number:07}");
            let sent = self.post("/auth/send_code/", &json!({ "phone": phone })).await;
            let body = json!({ "phone": phone, "code": sent["code"], "challenge_id": sent["challenge_id"] });
            let signed_in = self.post("/auth/jwt/get_by_phone/", &body).await;
            for (file, field) in [(&mut access, "access"), (&mut refresh, "refresh")] {
                *file += signed_in[field].as_str().unwrap_or_else(|| panic!("{phone}: {signed_in}"));
                file.push('\n');
            }
        }
        let tokens = Tokens {
            access: self.directory.join(format!("{name}.access")),
            refresh: self.directory.join(format!("{name}.refresh")),
        };
        std::fs::write(&tokens.access, access).expect("written");
        std::fs::write(&tokens.refresh, refresh).expect("written");
        tokens
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Files with the tokens of the users that signed in.
pub(crate) struct Tokens {
    pub(crate) access: PathBuf,
    pub(crate) refresh: PathBuf,
}
