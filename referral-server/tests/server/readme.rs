//! Executes the commands of the README without changes.

use std::{io::Write, process::Command};

use serde_json::Value;

use crate::program::{Program, directory};

const README: &str = include_str!("../../../README.md");

/// Returns the shell commands of the flow.
fn flow() -> &'static str {
    let block = README
        .split("```sh\n")
        .find(|block| block.starts_with("api="))
        .expect("the README contains the flow");
    block.split("```").next().unwrap_or_default()
}

#[test]
fn the_commands_of_the_readme_work_as_described() {
    let is_installed = |program| Command::new(program).arg("--version").output().is_ok();
    if !(is_installed("bash") && is_installed("curl")) {
        let required = std::env::var_os("REFERRAL_TEST_REQUIRE_ALL").is_some();
        assert!(!required, "bash and curl must be installed");
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: the commands of the README, because bash or curl is not installed"
        );
        return;
    }
    let directory = directory();
    let program = Program::start(directory.path(), &[]);
    let script = flow().replace("127.0.0.1:8080", &program.client.address.to_string());
    let output = Command::new("bash").args(["-euc", &script]).output().expect("the program runs");
    let printed = String::from_utf8(output.stdout).expect("text");

    let users: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let [boris, anna] = &users[..] else {
        panic!("two users are printed: {printed}");
    };
    assert_eq!(boris["invited_by_code"], anna["invite_code"]);
    assert_eq!(anna["invited"][0]["id"], boris["id"]);

    // Anna has the fields that the README shows, in the same order.
    let shown = README.split("```json\n").nth(1).and_then(|block| block.split("```").next());
    let shown: Value = serde_json::from_str(shown.expect("the README shows Anna")).expect("JSON");
    let fields = |user: &Value| user.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(anna), fields(&shown));
}
