//! Tests of the log: its content, and its behavior if its reader stalls or is closed.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, ChildStderr, Stdio},
    time::Duration,
};

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    program::{Program, command, directory, read_greeting, terminate},
    service::{ANNA, BORIS, Client},
};

/// Number of concurrent requests.
const CONCURRENT: usize = 50;

/// Number of requests, which exceeds the capacity of the log queue.
const MANY: usize = 20_000;

/// Duration after which a request is assumed to be blocked by the log.
const DEADLOCK: Duration = Duration::from_mins(1);

/// Program whose log is written to a pipe.
struct Logging {
    child: Child,
    log: ChildStderr,
    client: Client,
    metrics: String,
}

impl Logging {
    fn start(directory: &Path) -> Self {
        let mut command = command(directory);
        command.args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--log", "trace"]);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let log = child.stderr.take().expect("standard error is piped");
        let output = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let (address, greeting) = read_greeting(output).expect("the program starts");
        let metrics = greeting.iter().find_map(|line| line.trim().strip_prefix("Metrics "));
        let metrics = metrics.expect("an address").trim().to_owned();
        Self { child, log, client: Client::new(address), metrics }
    }

    async fn dropped_lines(&self) -> u64 {
        let page = self.client.http.get(&self.metrics).send().await.expect("a response");
        let page = page.text().await.expect("text");
        let count = page.lines().find_map(|line| line.strip_prefix("referral_log_lines_dropped_total "));
        count.expect("a count").parse().expect("a number")
    }

    /// Sends requests until log lines are dropped.
    async fn fill_log(&self) {
        let start = self.client.enter(ANNA, None).await;
        for _ in 0..MANY / CONCURRENT {
            let mut requests = JoinSet::new();
            for _ in 0..CONCURRENT {
                let (client, access) = (self.client.clone(), start.access.clone());
                requests.spawn(async move {
                    let request = client.request(Method::GET, "/users/current_user/").bearer_auth(access);
                    client.send(request.timeout(DEADLOCK)).await.ok();
                });
            }
            requests.join_all().await;
            if self.dropped_lines().await > 0 {
                return;
            }
        }
        panic!("no log line was dropped");
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn an_unread_log_blocks_no_request_and_dropped_lines_are_counted() {
    let directory = directory();
    let mut program = Logging::start(directory.path());
    program.fill_log().await;
    program.client.enter(BORIS, None).await;

    // Read the log again, to its end.
    terminate(&program.child);
    let mut log = String::new();
    program.log.read_to_string(&mut log).expect("text");
    assert!(program.child.wait().expect("the program ended").success());
    let notices: Vec<_> = log.lines().filter(|line| line.contains("log lines were dropped")).collect();
    assert!(!notices.is_empty(), "{} lines", log.lines().count());
    for notice in notices {
        let (_, count) = notice.rsplit_once(" dropped=").expect("a count");
        assert!(notice.contains(" WARN ") && count.parse::<u64>().expect("a number") > 0, "{notice}");
    }
}

#[tokio::test]
async fn an_unread_log_does_not_block_the_shutdown() {
    let directory = directory();
    let mut program = Logging::start(directory.path());
    program.fill_log().await;
    terminate(&program.child);
    assert!(program.child.wait().expect("the program ended").success());
}

#[tokio::test]
async fn an_unwritable_log_fails_no_request() {
    let directory = directory();
    let mut command = command(directory.path());
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
async fn the_log_contains_no_phone_code_or_token() {
    let directory = directory();
    let program =
        Program::start(directory.path(), &["--log", "trace", "--code-length", "10", "--log-format", "json"]);
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
    let data = directory.path().join("referral-data");
    let database = std::fs::read(data.join("referral.db")).expect("the database");
    assert!(!data.join("referral.db-wal").exists(), "the database must be a single file after the shutdown");
    let holds = |needle: &str| database.windows(needle.len()).any(|window| window == needle.as_bytes());
    assert!(holds("79608543017") && !holds(&code) && !holds(&access) && !holds(&refresh));
}
