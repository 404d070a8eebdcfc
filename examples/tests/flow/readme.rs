//! Commands of the README of the examples.

use std::io::Write as _;

use tokio::process::Command;

use crate::{example::Example, resource_server::ResourceServer};

const README: &str = include_str!("../../README.md");

/// Returns the first block of code in this language.
fn block(language: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("```{language}\n")).expect("a block of code");
    rest.split_once("```").expect("the end of the block").0
}

async fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().await.is_ok()
}

#[tokio::test]
async fn commands_of_the_readme_print_what_it_shows() {
    if !(is_installed("bash").await && is_installed("curl").await) {
        let required = std::env::var_os("REFERRAL_TEST_REQUIRE_ALL").is_some();
        assert!(!required, "bash and curl must be installed");
        let reason = "SKIPPED: the commands of the README, because bash or curl is not installed";
        let _ = writeln!(std::io::stderr(), "{reason}");
        return;
    }
    let example = Example::start(env!("CARGO_BIN_EXE_example-axum"), &[]).await;
    let server = ResourceServer::start(&example.keys_url()).await;
    let script = block("sh").replace("http://127.0.0.1:8080", &example.url);
    let script = script.replace("http://127.0.0.1:8081/hello", &server.url);
    let mut bash = Command::new("bash");
    bash.args(["-euc", &script]).env("NO_PROXY", "127.0.0.1");
    let output = bash.output().await.expect("the program runs");
    let printed = String::from_utf8(output.stdout).expect("text");

    let shown = block("text");
    let without_id = |text: &str| text.split_once("user ").map(|(before, _)| before.to_owned());
    assert_eq!(without_id(&printed), without_id(shown), "{printed}");
    assert_eq!(printed.len(), shown.len());
}

#[test]
fn readme_has_the_command_of_each_example() {
    let manifest = include_str!("../../Cargo.toml");
    let names: Vec<_> = manifest.lines().filter_map(|line| line.strip_prefix("name = \"example-")).collect();
    assert!(names.len() > 3, "{names:?}");
    for name in names {
        let command = format!("cargo run -p referral-examples --bin example-{}", name.trim_end_matches('"'));
        assert!(README.contains(&command), "{command}");
    }
}
