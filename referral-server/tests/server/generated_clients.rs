//! Clients that are generated from the committed document, and that do the whole flow.

use std::{fs, io::Write as _, os::unix::fs::symlink, path::Path, process::Command};

use crate::program::{Program, directory};

const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../openapi.json");

/// Output of both flows: the phone, the number of users, the new first name and the code of the last error.
const EXPECTED: &str = "+79608543017 1 Anna invalid_code";

/// Returns `true` if the command succeeds. Otherwise the test is reported as skipped, or fails if all tests are
/// required.
fn is_installed(name: &str, command: &[&str]) -> bool {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let is_installed = output.is_ok_and(|output| output.status.success());
    if !is_installed {
        assert!(std::env::var_os("REFERRAL_TEST_REQUIRE_ALL").is_none(), "{name} is not installed");
        let _ = writeln!(std::io::stderr(), "SKIPPED: the generated client, because {name} is not installed");
    }
    is_installed
}

/// Runs a command that must succeed, and returns its output.
#[track_caller]
fn run(directory: &Path, command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).current_dir(directory).output();
    let output = output.expect("the program runs");
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    let (printed, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {printed}\n{errors}");
    printed
}

fn copy(file: &str, directory: &Path) {
    fs::copy(Path::new(CLIENTS).join(file), directory.join(file)).expect("copied");
}

#[tokio::test]
async fn a_client_of_openapi_python_client_does_the_whole_flow() {
    if !is_installed("openapi-python-client", &["python3", "-c", "import openapi_python_client"]) {
        return;
    }
    let directory = directory();
    let generator = ["python3", "-m", "openapi_python_client", "generate", "--meta", "none"];
    let generate = [&generator[..], &["--path", DOCUMENT, "--output-path", "client"]].concat();
    run(directory.path(), &generate);
    copy("flow.py", directory.path());
    let program = Program::start(directory.path(), &[]);
    let url = program.client.url("/api/v1");
    assert_eq!(run(directory.path(), &["python3", "flow.py", &url]), EXPECTED);
}

#[tokio::test]
async fn a_client_with_types_of_openapi_typescript_does_the_whole_flow() {
    let modules =
        "for (const name of ['openapi-typescript', 'openapi-fetch', 'typescript']) require.resolve(name)";
    if !is_installed("openapi-typescript", &["node", "-e", modules]) {
        return;
    }
    let directory = directory();
    let modules = std::env::var_os("NODE_PATH").expect("the modules are found by this variable");
    symlink(modules, directory.path().join("node_modules")).expect("created");
    fs::write(directory.path().join("package.json"), r#"{ "type": "module" }"#).expect("written");
    copy("flow.ts", directory.path());
    run(directory.path(), &["node_modules/.bin/openapi-typescript", DOCUMENT, "--output", "api.ts"]);
    run(
        directory.path(),
        &["node_modules/.bin/tsc", "--strict", "--module", "nodenext", "--target", "es2022", "flow.ts"],
    );
    let program = Program::start(directory.path(), &[]);
    let url = program.client.url("/api/v1");
    assert_eq!(run(directory.path(), &["node", "flow.js", &url]), EXPECTED);
}
