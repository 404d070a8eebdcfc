//! Generates load with wrk.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::servers::Tokens;

/// Requests that wrk sends.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Name of the function in `wrk/flow.lua`.
    pub(crate) flow: &'static str,
    /// Path of GET requests. For sign-ins: further fields of the request.
    pub(crate) path: String,
    /// File with tokens.
    pub(crate) tokens: PathBuf,
    /// Number of the first phone.
    pub(crate) first: u64,
    /// Number of phones.
    pub(crate) phones: u64,
    /// Number of requests of one flow.
    pub(crate) requests: f64,
}

impl Load {
    /// Returns the load of reading the profiles of the users who have the tokens.
    pub(crate) fn current_user(tokens: &Tokens) -> Self {
        let (path, tokens) = ("/users/current_user/".into(), tokens.access.clone());
        Self { flow: "get", path, tokens, first: 0, phones: 1, requests: 1.0 }
    }

    /// Runs the load and returns the flows per second.
    pub(crate) fn run(&self, address: &str, connections: u32, time: Duration) -> f64 {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("wrk/flow.lua");
        let output = Command::new("wrk")
            .args(["-t1", "--timeout", "10s", &format!("-c{connections}"), &format!("-d{}s", time.as_secs())])
            .arg("-s")
            .arg(script)
            .arg(format!("http://{address}"))
            .arg("--")
            .args([self.flow, &self.path])
            .arg(&self.tokens)
            .args([self.first.to_string(), self.phones.to_string()])
            .output()
            .expect("wrk is installed (package `wrk`)");
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.is_empty(), "{self:?}: {}", stderr.lines().next().unwrap_or_default());
        assert!(!stdout.contains("Non-2xx"), "{self:?}: {stdout}");
        let rate = stdout.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
        let rate: f64 = rate.and_then(|rate| rate.trim().parse().ok()).unwrap_or_else(|| panic!("{stdout}"));
        rate / self.requests
    }
}
