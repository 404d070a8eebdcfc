//! The log of the program under a reader that stops.

use std::{
    io::{BufReader, Read as _},
    path::Path,
    process::{Child, ChildStderr, Stdio},
    time::Duration,
};

use reqwest::Method;
use tokio::task::JoinSet;

use crate::{
    binary::{command, folder, read_greeting, terminate},
    service::{ANNA, BORIS, Client},
};

/// Concurrent requests.
const AT_ONCE: usize = 50;

/// More requests than any log queue holds lines.
const MANY: usize = 20_000;

/// A request that takes as long waits for the log, and so for ever.
const DEADLOCK: Duration = Duration::from_mins(1);

/// A program whose log goes into a pipe.
struct Logging {
    child: Child,
    log: ChildStderr,
    client: Client,
    metrics: String,
}

impl Logging {
    fn start(folder: &Path) -> Self {
        let mut command = command(folder);
        command.args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--log", "trace"]);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let log = child.stderr.take().expect("its log");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (address, greeting) = read_greeting(output).expect("it starts");
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
        for _ in 0..MANY / AT_ONCE {
            let mut requests = JoinSet::new();
            for _ in 0..AT_ONCE {
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
async fn a_log_that_is_not_read_stops_no_request_and_dropped_lines_are_counted() {
    let folder = folder();
    let mut program = Logging::start(folder.path());
    program.fill_log().await;
    program.client.enter(BORIS, None).await;

    // The log is read again, up to the end.
    terminate(&program.child);
    let mut log = String::new();
    program.log.read_to_string(&mut log).expect("text");
    assert!(program.child.wait().expect("it ended").success());
    let notices: Vec<_> = log.lines().filter(|line| line.contains("log lines were dropped")).collect();
    assert!(!notices.is_empty(), "{} lines", log.lines().count());
    for notice in notices {
        let (_, count) = notice.rsplit_once(" dropped=").expect("a count");
        assert!(notice.contains(" WARN ") && count.parse::<u64>().expect("a number") > 0, "{notice}");
    }
}

#[tokio::test]
async fn a_log_that_is_not_read_does_not_stop_the_end_of_the_program() {
    let folder = folder();
    let mut program = Logging::start(folder.path());
    program.fill_log().await;
    terminate(&program.child);
    assert!(program.child.wait().expect("it ended").success());
}
