//! Program `referral-server` in a separate process, with a client.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::service::Client;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_referral-server");

/// Running program.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) client: Client,
    pub(crate) greeting: Vec<String>,
    log: PathBuf,
}

/// Returns the command that runs the program with an empty environment. The program rejects unknown
/// `REFERRAL_…` variables, such as those of this test suite.
pub(crate) fn command(directory: &Path) -> Command {
    let mut command = isolated(tied(PROGRAM), directory);
    // Another process may use the default port. A flag or a variable of the test replaces this one.
    command.env("REFERRAL_LISTEN", "127.0.0.1:0");
    command
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

pub(crate) fn isolated(mut command: Command, directory: &Path) -> Command {
    command.current_dir(directory).env_clear();
    command
}

impl Program {
    /// Starts the program on a free port and waits until it prints its address.
    pub(crate) fn start(directory: &Path, arguments: &[&str]) -> Self {
        Self::start_with(directory, arguments, &[])
    }

    /// Starts the program like [`Self::start`], with variables in its environment.
    pub(crate) fn start_with(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command(directory);
        command.args(["--listen", "127.0.0.1:0"]).args(arguments).envs(environment.iter().copied());
        Self::spawn(directory, command)
    }

    /// Starts the program at the address in the arguments.
    pub(crate) fn start_at(directory: &Path, arguments: &[&str]) -> Self {
        let mut command = command(directory);
        command.args(arguments);
        Self::spawn(directory, command)
    }

    /// Starts a command that runs the program and waits until it prints its address.
    pub(crate) fn spawn(directory: &Path, mut command: Command) -> Self {
        // The log goes into a file: a pipe without a reader fills up, and then writing blocks.
        let log = directory.join("log");
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
    pub(crate) fn terminate(&self) {
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

pub(crate) fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().expect("sent").success());
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn run(directory: &Path, arguments: &[&str]) -> Output {
    run_with(directory, arguments, &[])
}

/// Runs the program like [`run`], with variables in its environment.
pub(crate) fn run_with(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    finish(command(directory).args(arguments).envs(environment.iter().copied()))
}

/// Runs a program that must end by itself, and kills it if it starts to serve.
pub(crate) fn finish(command: &mut Command) -> Output {
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

pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

#[cfg(unix)]
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).expect("the file exists").permissions().mode() & 0o777
}
