//! Tests of the program: start, created files, rejected settings, and shutdown.

use std::{
    io::{BufRead, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::json;
use tempfile::TempDir;

use crate::service::{ANNA, BORIS, Client};

const PROGRAM: &str = env!("CARGO_BIN_EXE_referral-server");

/// Running program.
pub(crate) struct Program {
    child: Child,
    pub(crate) client: Client,
    greeting: Vec<String>,
    log: PathBuf,
}

/// Returns the command that runs the program with an empty environment. The program rejects unknown
/// `REFERRAL_…` variables, such as those of this test suite.
pub(crate) fn command(folder: &Path) -> Command {
    isolated(tied(PROGRAM), folder)
}

/// Returns a command whose process ends with the thread that starts it, even if that thread is killed.
pub(crate) fn tied(program: &str) -> Command {
    // `setpriv` is part of the package `util-linux`. It replaces itself with the program.
    let setpriv = Path::new("/usr/bin/setpriv");
    if !setpriv.exists() {
        return Command::new(program);
    }
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

fn isolated(mut command: Command, folder: &Path) -> Command {
    command.current_dir(folder).env_clear();
    command
}

impl Program {
    /// Starts the program on a free port and waits until it prints its address.
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::start_with(folder, arguments, &[])
    }

    /// Starts the program like [`Self::start`], with variables in its environment.
    pub(crate) fn start_with(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command(folder);
        command.args(["--listen", "127.0.0.1:0"]).args(arguments).envs(environment.iter().copied());
        Self::spawn(folder, command)
    }

    /// Starts the program at the address in the arguments.
    pub(crate) fn start_at(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = command(folder);
        command.args(arguments);
        Self::spawn(folder, command)
    }

    /// Starts a command that runs the program and waits until it prints its address.
    fn spawn(folder: &Path, mut command: Command) -> Self {
        // The log goes into a file: a pipe without a reader fills up, and then writing blocks.
        let log = folder.join("log");
        let stderr = std::fs::File::create(&log).expect("a file");
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("the program starts");
        let output = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let Some((address, greeting)) = read_greeting(output) else {
            panic!("the program did not start: {}", std::fs::read_to_string(&log).expect("text"));
        };
        let client = Client::new(address);
        Self { child, client, greeting, log }
    }

    /// Sends SIGTERM, as an operator does.
    fn terminate(&self) {
        terminate(&self.child);
    }

    /// Makes the program reload its keys, and returns the log line of the outcome.
    pub(crate) fn reload(&mut self) -> String {
        let count = |log: &str| log.matches("reload").count();
        let before = count(&self.logged());
        signal(&self.child, "-HUP");
        loop {
            let log = self.logged();
            if log.ends_with('\n') && count(&log) > before {
                return log.lines().last().unwrap_or_default().to_owned();
            }
            assert!(self.child.try_wait().expect("a child").is_none(), "the program ended: {log}");
        }
    }

    /// Returns the metrics for Prometheus.
    pub(crate) async fn metrics(&self) -> String {
        let url = self.greeting.iter().find_map(|line| line.trim().strip_prefix("Metrics "));
        let page = self.client.http.get(url.expect("an address").trim()).send().await.expect("a response");
        assert_eq!(page.status(), 200);
        page.text().await.expect("text")
    }

    /// Returns a size in KiB from `/proc`, such as `VmHWM`, the peak of the resident memory.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let size = line.and_then(|line| line.trim().strip_suffix(" kB"));
        size.expect("a size").trim().parse().expect("a number")
    }

    pub(crate) fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).expect("text")
    }

    /// Ends the program and returns its log.
    pub(crate) fn stop(mut self) -> String {
        self.terminate();
        assert!(self.child.wait().expect("the program ended").success());
        self.logged()
    }
}

/// Reads the output of the program at its start. Returns `None` if it does not start.
pub(crate) fn read_greeting(output: impl BufRead) -> Option<(SocketAddr, Vec<String>)> {
    let mut greeting = Vec::new();
    for line in output.lines() {
        greeting.push(line.expect("a line"));
        let is_last = |line: &String| line.contains("Development") || line.contains("Messages");
        if greeting.last().is_some_and(is_last) {
            break;
        }
    }
    let address = greeting.first()?.split("http://").nth(1)?.parse();
    Some((address.expect("an address"), greeting))
}

/// Sends SIGTERM to a program, as an operator does.
pub(crate) fn terminate(child: &Child) {
    signal(child, "-TERM");
}

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().expect("sent").success());
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    run_with(folder, arguments, &[])
}

/// Runs the program like [`run`], with variables in its environment.
pub(crate) fn run_with(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    finish(command(folder).args(arguments).envs(environment.iter().copied()))
}

/// Runs a program that must end by itself, and kills it if it starts to serve.
fn finish(command: &mut Command) -> Output {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut output = BufReader::new(child.stdout.take().expect("standard output is piped"));
    let mut stdout = Vec::new();
    while output.read_until(b'\n', &mut stdout).expect("readable") > 0 {
        if String::from_utf8_lossy(&stdout).contains(" listens on ") {
            child.kill().expect("killed");
            break;
        }
    }
    let ended = child.wait_with_output().expect("the program ended");
    Output { stdout, ..ended }
}

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

#[cfg(unix)]
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).expect("the file exists").permissions().mode() & 0o777
}

#[tokio::test]
async fn the_server_is_usable_without_settings() {
    let folder = folder();
    let program = Program::start(folder.path(), &[]);
    assert!(program.greeting[1].contains("/docs/"), "{:?}", program.greeting);
    let warned = program.greeting[4..].join("\n");
    assert!(
        warned.contains("any client can sign in as any user")
            && warned.contains("almost no limits are enforced"),
        "{warned}"
    );

    let anna = program.client.enter(ANNA, None).await;
    let code = program.client.invite_code(&anna).await;
    program.client.enter(BORIS, Some(&code)).await;
    let user = program.client.get("/users/current_user/", &anna.access).await.ok();
    assert_eq!(user["invited"][0]["phone"], BORIS);
    let ready = program.client.http.get(program.client.url("/health/ready"));
    program.client.send(ready).await.ok();

    let data = folder.path().join("referral-data");
    assert_eq!(mode(&data), 0o700);
    for file in ["keys.json", "peppers.json", "referral.db"] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
    program.stop();
}

#[tokio::test]
async fn a_data_directory_may_have_any_name() {
    let folder = folder();
    for name in ["50%41", "what?mode=ro", "имя с пробелом", "#"] {
        let program = Program::start(folder.path(), &["--data-dir", name]);
        program.client.enter(ANNA, None).await;
        let data = folder.path().join(name);
        assert!(data.join("referral.db").exists() && data.join("keys.json").exists(), "{name}");
    }
}

#[tokio::test]
async fn an_unwritable_log_fails_no_request() {
    let folder = folder();
    let mut command = command(folder.path());
    command.args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
    // A pipe whose reader is closed.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut child = command.stderr(writer).spawn().expect("the program starts");
    let mut output = BufReader::new(child.stdout.take().expect("standard output is piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    let address = line.trim().split("http://").nth(1).expect("an address");
    let client = Client::new(address.parse().expect("an address"));
    for _ in 0..3 {
        client.enter(ANNA, None).await;
    }
    child.kill().expect("killed");
    child.wait().expect("the program ended");
}

#[tokio::test]
async fn a_restart_preserves_tokens_and_codes() {
    let folder = folder();
    let program = Program::start(folder.path(), &[]);
    let anna = program.client.enter(ANNA, None).await;
    let sent = program.client.post("/auth/send_code/", &json!({ "phone": BORIS })).await.ok();
    program.stop();

    let program = Program::start(folder.path(), &[]);
    program.client.get("/users/current_user/", &anna.access).await.ok();
    let body = json!({ "phone": BORIS, "code": sent["code"], "challenge_id": sent["challenge_id"] });
    program.client.post("/auth/jwt/get_by_phone/", &body).await.ok();
}

#[tokio::test]
async fn a_request_in_progress_gets_a_response_before_the_shutdown() {
    let folder = folder();
    let mut program = Program::start(folder.path(), &[]);
    let address = program.client.address;
    let body = json!({ "phone": ANNA }).to_string();
    let (start, rest) = body.split_at(5);
    let mut connection = TcpStream::connect(address).expect("connected");
    let length = body.len();
    write!(
        connection,
        "POST /api/v1/auth/send_code/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{start}"
    )
    .expect("written");
    // After a response on another connection, the first one has been accepted.
    program.client.enter(BORIS, None).await;

    program.terminate();
    // The shutdown has started as soon as the program no longer listens.
    while TcpStream::connect(address).is_ok() {}
    connection.write_all(rest.as_bytes()).expect("written");
    let mut response = String::new();
    connection.read_to_string(&mut response).expect("a response");
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert!(program.child.wait().expect("the program ended").success());
}

#[tokio::test]
async fn a_draining_server_is_not_ready_and_serves_all_other_requests() {
    let folder = folder();
    let mut program = Program::start(folder.path(), &["--drain-delay", "1h"]);
    let ready = async || {
        let url = program.client.url("/health/ready");
        program.client.send(program.client.http.get(url)).await
    };
    assert_eq!(ready().await.header("connection"), None);
    program.terminate();
    // The signal takes effect asynchronously.
    let not_ready = loop {
        let response = ready().await;
        if response.status != 200 {
            break response;
        }
    };
    not_ready.assert_problem(503, "unavailable");
    assert!(not_ready.text.contains("shutting down"), "{}", not_ready.text);
    let live = program.client.http.get(program.client.url("/health/live"));
    let live = program.client.send(live).await;
    assert_eq!((live.status, live.header("connection")), (200, Some("close")));
    program.client.enter(ANNA, None).await;

    // HTTP/2 has no such header.
    let http = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().expect("a client");
    let response = http.get(program.client.url("/health/live")).send().await.expect("a response");
    assert_eq!((response.status().as_u16(), response.headers().get("connection")), (200, None));

    let log = program.logged();
    assert!(log.contains("draining delay=1h"), "{log}");
    assert!(!log.contains("shutting down") && !log.contains("ERROR"), "{log}");
    assert!(program.reload().contains("reloaded the keys"), "keys must be reloaded while draining");
    // The second signal ends the program before the drain delay has passed.
    program.terminate();
    assert_eq!(program.child.wait().expect("the program ended").code(), Some(128 + 15));
}

#[tokio::test]
async fn a_second_signal_ends_a_server_that_waits_for_requests() {
    let folder = folder();
    let mut program = Program::start(folder.path(), &["--shutdown-timeout", "1h", "--request-timeout", "1h"]);
    let address = program.client.address;
    let mut connection = TcpStream::connect(address).expect("connected");
    let head = "POST /api/v1/auth/send_code/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n";
    connection.write_all(head.as_bytes()).expect("written");
    // After a response on another connection, the first one has been accepted.
    program.client.enter(BORIS, None).await;
    program.terminate();
    while TcpStream::connect(address).is_ok() {}
    assert!(program.logged().contains("shutting down"));
    assert!(program.child.try_wait().expect("a child").is_none(), "the program must wait for the request");
    signal(&program.child, "-INT");
    assert_eq!(program.child.wait().expect("the program ended").code(), Some(128 + 2));
}

#[tokio::test]
async fn acknowledged_sign_ups_survive_a_kill_and_users_are_complete() {
    survive_a_kill(&[]).await;
}

/// Signs up users with several clients, kills the program meanwhile, and checks that acknowledged users
/// exist.
pub(crate) async fn survive_a_kill(arguments: &[&str]) {
    let folder = folder();
    let mut program = Program::start(folder.path(), arguments);
    let anna = program.client.enter(ANNA, None).await;
    let code = program.client.invite_code(&anna).await;

    // Concurrent sign-ups continue until the program is killed.
    let mut tasks = Vec::new();
    for worker in 0..8 {
        let (client, code) = (program.client.clone(), code.clone());
        tasks.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                let phone = format!("+79608{worker}{number:05}");
                let Some(sent) = try_post(&client, "/auth/send_code/", &json!({ "phone": phone })).await
                else {
                    break;
                };
                let body = json!({ "phone": phone, "code": sent["code"], "invited_by_code": code });
                let Some(_) = try_post(&client, "/auth/jwt/get_by_phone/", &body).await else {
                    break;
                };
                acknowledged.push(phone);
            }
            acknowledged
        }));
    }
    // Wait until some sign-ups have succeeded, so that the kill interrupts others.
    while program.client.get("/users/?limit=1", &anna.access).await.ok()["count"].as_u64() < Some(50) {}
    program.child.kill().expect("killed");
    let mut acknowledged = Vec::new();
    for task in tasks {
        acknowledged.extend(task.await.expect("no task panics"));
    }

    let program = Program::start(folder.path(), arguments);
    let count = program.client.get("/users/?limit=1", &anna.access).await.ok()["count"].as_u64();
    let user = program.client.get("/users/current_user/", &anna.access).await.ok();
    assert_eq!(
        user["invited_count"].as_u64().map(|invited| invited + 1),
        count,
        "each user must have an inviter"
    );
    for phone in acknowledged {
        let path = format!("/users/?phone={}", phone.replace('+', "%2B"));
        let found = program.client.get(&path, &anna.access).await.ok();
        assert_eq!(found["results"][0]["invited_by_code"], json!(code), "{phone}");
    }
}

/// Sends a request and returns the body of the response, or `None` if the server is not running.
async fn try_post(client: &Client, path: &str, body: &serde_json::Value) -> Option<serde_json::Value> {
    let response = client.request(reqwest::Method::POST, path).json(body).send().await.ok()?;
    assert!(response.status().is_success());
    response.json().await.ok()
}

#[tokio::test]
async fn the_log_contains_no_phone_code_or_token() {
    let folder = folder();
    let program =
        Program::start(folder.path(), &["--log", "trace", "--code-length", "10", "--log-format", "json"]);
    let sent = program.client.post("/auth/send_code/", &json!({ "phone": ANNA })).await.ok();
    let code = sent["code"].as_str().expect("a code").to_owned();
    let body = json!({ "phone": ANNA, "code": code, "challenge_id": sent["challenge_id"] });
    let signed_in = program.client.post("/auth/jwt/get_by_phone/", &body).await.ok();
    let access = signed_in["access"].as_str().expect("a token").to_owned();
    let refresh = signed_in["refresh"].as_str().expect("a token").to_owned();
    program.client.get("/users/?phone=%2B79608543017", &access).await.ok();
    program.client.post("/auth/jwt/refresh/", &json!({ "refresh": refresh })).await.ok();
    program.client.post("/auth/jwt/get_by_phone/", &body).await.assert_problem(403, "invalid_code");

    let log = program.stop();
    assert!(log.contains("signIn") && log.contains("user created"), "{log}");
    for secret in ["9608543017", &code, &access, &refresh] {
        assert!(!log.contains(secret), "the log contains {secret}");
    }
    let data = folder.path().join("referral-data");
    let database = std::fs::read(data.join("referral.db")).expect("the database");
    assert!(!data.join("referral.db-wal").exists(), "the database must be a single file after the shutdown");
    let holds = |needle: &str| database.windows(needle.len()).any(|window| window == needle.as_bytes());
    assert!(holds("79608543017") && !holds(&code) && !holds(&access) && !holds(&refresh));
}

#[test]
fn the_development_sender_rejects_production_settings_and_names_all_of_them() {
    let folder = folder();
    // The settings of docs/operations.md behind nginx, and an empty path of the gateways.
    let environment = [
        ("REFERRAL_LISTEN", "0.0.0.0:0"),
        ("REFERRAL_DATABASE_URL", "postgres://referral:hunter2@127.0.0.1:1/referral"),
        ("REFERRAL_PUBLIC_URL", "https://api.example.com"),
        ("REFERRAL_TRUSTED_PROXIES", "127.0.0.1"),
        ("REFERRAL_CLIENT_ADDRESS_HEADER", "X-Forwarded-For"),
        ("REFERRAL_POLICY", "standard"),
        ("REFERRAL_SMS_CONFIG", ""),
    ];
    let output = run_with(folder.path(), &[], &environment);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !error.contains("hunter2"), "{error}");
    for named in [
        "--listen",
        "--database-url",
        "--public-url",
        "--trusted-proxies",
        "--client-address-header",
        "--policy",
        "--sms-config",
        "--return-codes-to-anyone",
    ] {
        assert!(error.contains(named), "{named}: {error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a directory").count(), 0, "no file must be created");
}

#[tokio::test]
async fn the_development_sender_serves_only_hosts_of_this_machine() {
    let folder = folder();
    let program = Program::start(folder.path(), &[]);
    let port = program.client.address.port();
    let send_code = async |program: &Program, host: &str| {
        let request = program.client.request(reqwest::Method::POST, "/auth/send_code/");
        program.client.send(request.json(&json!({ "phone": ANNA })).header("host", host)).await
    };
    for host in [format!("localhost:{port}"), "app.localhost".into(), "127.1.2.3".into(), "[::1]:80".into()] {
        send_code(&program, &host).await.ok();
    }
    for host in ["rebound.example.com", "localhost.example.com", "192.168.1.2:8080", "0.0.0.0"] {
        let rejected = send_code(&program, host).await;
        rejected.assert_problem(421, "misdirected_request");
        assert!(rejected.body.get("code").is_some_and(|code| code == "misdirected_request"));
    }
    // All pages, not only the API.
    for path in ["/", "/docs/", "/.well-known/jwks.json", "/nowhere"] {
        let url = format!("http://{}{path}", program.client.address);
        let response = program.client.http.get(url).header("host", "example.com").send().await;
        assert_eq!(response.expect("a response").status(), 421, "{path}");
    }
    drop(program);
    let program = Program::start(folder.path(), &["--return-codes-to-anyone"]);
    send_code(&program, "api.example.com").await.ok();
}

#[tokio::test]
async fn the_authority_of_http2_is_the_host() {
    let folder = folder();
    let program = Program::start(folder.path(), &[]);
    let address = program.client.address;
    let http = reqwest::Client::builder()
        .http2_prior_knowledge()
        .no_proxy()
        .resolve("rebound.example.com", address)
        .resolve("app.localhost", address);
    let http = http.build().expect("a client");
    for (host, status) in [("rebound.example.com", 421), ("app.localhost", 200)] {
        let url = format!("http://{host}:{}/health/live", address.port());
        let response = http.get(url).send().await.expect("a response");
        assert_eq!(response.version(), reqwest::Version::HTTP_2);
        assert_eq!(response.status(), status, "{host}");
    }
}

#[tokio::test]
async fn a_large_body_for_another_host_is_dropped_and_the_client_gets_the_rejection() {
    let folder = folder();
    let program = Program::start(folder.path(), &[]);
    let request = program.client.request(reqwest::Method::POST, "/auth/send_code/");
    let request = request.header("host", "example.com").header("content-type", "application/json");
    let rejected = program.client.send(request.body(vec![b' '; 4 * 1024 * 1024])).await;
    rejected.assert_problem(421, "misdirected_request");
}

#[test]
fn unknown_variables_are_an_error_of_every_command() {
    let folder = folder();
    for command in [&[][..], &["openapi"], &["keys", "list"], &["create-superuser", "--phone", ANNA]] {
        let output = run_with(folder.path(), command, &[("REFERRAL_SMS_CONFG", "hunter2")]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{command:?}");
        assert!(error.contains("REFERRAL_SMS_CONFG (did you mean REFERRAL_SMS_CONFIG?)"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a directory").count(), 0, "no file must be created");

    // Variables that Kubernetes sets for the services of a namespace are ignored, and so are empty variables.
    let environment = [
        ("REFERRAL_SERVICE_HOST", "10.0.0.1"),
        ("REFERRAL_SERVICE_PORT_HTTP", "8080"),
        ("REFERRAL_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("REFERRAL_SERVER_SERVICE_HOST", "10.0.0.1"),
        ("REFERRAL_SERVER_PORT", "tcp://10.0.0.1:8080"),
        ("REFERRAL_SMS_CONFG", ""),
    ];
    let output = command(folder.path()).arg("openapi").envs(environment).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn an_empty_variable_of_any_flag_counts_as_unset() {
    let folder = folder();
    let help = command(folder.path()).arg("--help").output().expect("the program runs").stdout;
    let help = String::from_utf8_lossy(&help);
    let name = |text: &str| text.split([']', '=']).next().map(str::to_owned);
    let variables: Vec<String> = help.split("[env: ").skip(1).filter_map(name).collect();
    assert!(variables.len() > 40 && variables.contains(&"REFERRAL_ISSUER".into()), "{variables:?}");
    for variable in &variables {
        let output =
            command(folder.path()).arg("openapi").env(variable, "").output().expect("the program runs");
        assert!(output.status.success(), "{variable}: {}", String::from_utf8_lossy(&output.stderr));
    }

    let all: Vec<_> = variables.iter().map(|variable| (&**variable, "")).collect();
    let with_empty = command(folder.path()).arg("--help").envs(all.iter().copied()).output();
    let with_empty = with_empty.expect("the program runs").stdout;
    assert_eq!(String::from_utf8_lossy(&with_empty), help, "the help must still list the variables");
    let default = Program::start(folder.path(), &[]);
    let program = Program::start_with(folder.path(), &[], &all);
    assert_eq!(program.greeting[3..], default.greeting[3..]);
    for client in [&default.client, &program.client] {
        let access = client.enter(ANNA, None).await.access;
        let claims = access.split('.').nth(1).expect("claims");
        let claims =
            base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, claims).expect("Base64");
        let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
        assert_eq!([&claims["iss"], &claims["aud"]], ["referral", "referral"]);
    }
}

#[tokio::test]
async fn trusting_all_addresses_as_proxies_logs_a_warning() {
    let folder = folder();
    let start = |proxies| {
        let arguments = ["--trusted-proxies", proxies, "--client-address-header", "X-Forwarded-For"];
        Program::start(folder.path(), &[&arguments[..], &["--return-codes-to-anyone"]].concat()).stop()
    };
    let log = start("10.0.0.0/8,0.0.0.0/0,::/0");
    let warnings = log.lines().filter(|line| line.contains("WARN") && line.contains("can forge its address"));
    assert_eq!(warnings.count(), 2, "{log}");
    assert!(!start("10.0.0.0/8,fc00::/7,192.0.2.1").contains("can forge its address"));
}

#[test]
fn a_limit_of_open_files_below_the_number_of_connections_logs_a_warning() {
    let folder = folder();
    let start = |limit: &str, arguments: &[&str]| {
        let mut command = isolated(tied("/bin/sh"), folder.path());
        command.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", limit, PROGRAM, "--listen", "127.0.0.1:0"]);
        command.args(arguments);
        Program::spawn(folder.path(), command).stop()
    };
    let log = start("256", &["--max-connections", "400"]);
    let warning = log.lines().find(|line| line.contains("limit of open files")).expect("a warning");
    for part in
        ["WARN", "is 256,", "--max-connections 400 ", "need 535,", "`ulimit -n 535`", "LimitNOFILE=535"]
    {
        assert!(warning.contains(part), "{part}: {warning}");
    }
    assert!(!start("256", &["--max-connections", "100"]).contains("limit of open files"));
}

#[tokio::test]
async fn a_superuser_is_created_and_signs_in_like_other_users() {
    let folder = folder();
    for _ in 0..2 {
        let output = run(folder.path(), &["create-superuser", "--phone", "+7 960 854-30-17"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("+79608543017 is staff"));
    }
    let program = Program::start(folder.path(), &["--visibility", "staff"]);
    let staff = program.client.enter(ANNA, None).await;
    assert_eq!(staff.body["created"], false);
    program.client.get("/users/", &staff.access).await.ok();
    let other = program.client.enter(BORIS, None).await;
    program.client.get("/users/", &other.access).await.assert_problem(403, "staff_only");

    let output = run(folder.path(), &["create-superuser", "--phone", "12"]);
    assert!(!output.status.success());
}

#[tokio::test]
async fn a_test_number_signs_in_with_its_code_and_a_warning_is_logged() {
    let folder = folder();
    let list = format!("{ANNA}=47110815@2099-12-31,{BORIS}=08154711@2020-12-31");
    let environment = [("REFERRAL_TEST_NUMBERS", &*list)];
    let arguments = [
        "--policy",
        "standard",
        "--return-codes-to-anyone",
        "--log",
        "trace",
        "--metrics-listen",
        "127.0.0.1:0",
    ];
    let program = Program::start_with(folder.path(), &arguments, &environment);
    assert!(program.greeting.iter().any(|line| line.contains("Test numbers 1, until 2099-12-31")));

    for created in [true, false] {
        let sent = program.client.post("/auth/send_code/", &json!({ "phone": ANNA })).await.ok();
        let fields = ["code_length", "resend_in", "code"].map(|field| &sent[field]);
        assert_eq!(
            fields,
            [&json!(8), &json!(0), &json!(null)],
            "the response must not reveal the code, and there is no resend interval"
        );
        let body = json!({ "phone": ANNA, "code": "47110815", "challenge_id": sent["challenge_id"] });
        assert_eq!(program.client.post("/auth/jwt/get_by_phone/", &body).await.ok()["created"], created);
    }
    // The other test number has expired.
    program.client.enter(BORIS, None).await;
    let wrong = json!({ "phone": BORIS, "code": "08154711" });
    program.client.post("/auth/jwt/get_by_phone/", &wrong).await.assert_problem(403, "invalid_code");

    let page = program.metrics().await;
    for metric in ["referral_test_codes_total 2", "referral_codes_sent_total 1"] {
        assert!(page.lines().any(|line| line == metric), "{metric}: {page}");
    }
    let log = program.stop();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
    let warns = |text| warnings.iter().any(|line| line.contains(text));
    assert!(warns("signs in with a fixed code") && warns("has expired"), "{warnings:?}");
    for secret in ["47110815", "08154711", "9608543017", "7011234567"] {
        assert!(!log.contains(secret), "the log contains {secret}");
    }
}

#[test]
fn a_test_number_cannot_become_staff_and_its_code_is_not_printed() {
    let folder = folder();
    let list = format!("{ANNA}=47110815@2099-12-31");
    let environment = [("REFERRAL_TEST_NUMBERS", &*list)];
    let output = run_with(folder.path(), &["create-superuser", "--phone", ANNA], &environment);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("Remove the phone from the test numbers"), "{error}");
    let output = run_with(folder.path(), &["create-superuser", "--phone", BORIS], &environment);
    assert!(output.status.success());

    let broken = [("REFERRAL_TEST_NUMBERS", "+79608543017=4711081S@2099-12-31")];
    for (arguments, environment) in [(&["--help"][..], &environment), (&["serve"], &broken)] {
        let output = run_with(folder.path(), arguments, environment);
        for text in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(text).replace("+79608543017=47110815@2026-12-31", "");
            assert!(!text.contains("4711081"), "{text}");
        }
    }
}

#[test]
fn invalid_settings_are_rejected_with_a_message() {
    let folder = folder();
    let exposed = folder.path().join("exposed.json");
    std::fs::write(&exposed, "{}").expect("written");
    #[cfg(unix)]
    {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&exposed, open).expect("set");
    }
    for (arguments, sentence) in [
        (&["--key-file", "exposed.json"][..], "chmod 600"),
        (&["--pepper-file", "absent.json"], "there is no file absent.json"),
        (&["--code-length", "3"], "from 4 to 10"),
        (&["--refresh-lifetime", "1m"], "--refresh-lifetime"),
        (&["--default-region", "XX"], "ISO region code"),
        (&["--database-url", "mysql://localhost"], "mysql"),
        (&["--database-connections", "20"], "--database-connections (REFERRAL_DATABASE_CONNECTIONS) cannot"),
        (
            &["keys", "list", "--database-pooler"],
            "--database-pooler (REFERRAL_DATABASE_POOLER) cannot be used",
        ),
        (&["--log", "x=y=z"], "--log"),
        (&["--log", "inof"], "`inof` is not a level; use one of off, error, warn, info, debug, trace"),
        (&["--listen", "nowhere"], "--listen"),
        (&["--public-url", "example.com"], "--public-url"),
        (&["--cors-origins", "app.example.com"], "such as https://app.example.com"),
        (&["--trusted-proxies", "proxy"], "such as 10.0.0.0/8"),
        (&["--trusted-proxies", "10.0.0.0/8"], "add --client-address-header"),
        (&["--client-address-header", "X-Real-IP"], "add --trusted-proxies"),
        (&["--max-connections", "0"], "--max-connections"),
        (&["--idle-timeout", "1ms"], "100ms"),
        (&["--test-numbers", "+79608543017=4711@31.12.2099"], "entry 1: Give the last day"),
        (&["--test-numbers", "+79608543017=4711@2099-12-31", "--code-length", "6"], "as many digits"),
        (&["--unknown"], "--unknown"),
    ] {
        let output = run(folder.path(), arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(sentence), "{arguments:?}: {error}");
    }
}

#[test]
fn the_document_is_printed_without_creating_files() {
    let folder = folder();
    let output = run(folder.path(), &["openapi"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), include_str!("../../../openapi.json"));
    assert_eq!(std::fs::read_dir(folder.path()).expect("a directory").count(), 0);
}

#[test]
fn settings_are_also_read_from_the_environment() {
    let folder = folder();
    let output = finish(command(folder.path()).env("REFERRAL_LISTEN", "0.0.0.0:0"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("0.0.0.0:0"));
}
