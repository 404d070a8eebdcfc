//! Clients that are generated from the committed document. They do the whole flow if their tool chain is
//! available. Otherwise their fields are checked.

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

/// Generates a client in the directory `client`. Returns `false` if the generator is not installed.
fn generate_with_openapi_generator(generator: &str, directory: &Path) -> bool {
    let is_found = is_installed("Java 17", &["java", "-version"])
        && is_installed("openapi-generator", &["python3", "-c", "import openapi_generator_cli"]);
    if is_found {
        let main = "import sys, openapi_generator_cli as cli; cli.run(sys.argv[1:]).check_returncode()";
        let generate = ["python3", "-c", main, "generate", "-i", DOCUMENT, "-o", "client", "-g", generator];
        run(directory, &generate);
    }
    is_found
}

#[tokio::test]
async fn a_client_of_typescript_fetch_does_the_whole_flow() {
    let directory = directory();
    if !is_installed("typescript", &["node", "-e", "require.resolve('typescript')"])
        || !generate_with_openapi_generator("typescript-fetch", directory.path())
    {
        return;
    }
    let modules = std::env::var_os("NODE_PATH").expect("the modules are found by this variable");
    symlink(modules, directory.path().join("node_modules")).expect("created");
    copy("flow_fetch.ts", directory.path());
    let compile = ["node_modules/.bin/tsc", "--strict", "--module", "commonjs", "--target", "es2022"];
    run(directory.path(), &[&compile[..], &["flow_fetch.ts"]].concat());
    let program = Program::start(directory.path(), &[]);
    let url = program.client.url("/api/v1");
    assert_eq!(run(directory.path(), &["node", "flow_fetch.js", &url]), EXPECTED);
}

/// Generator, directory of the generated classes, and pairs of a file and a field: a code with leading zeros, a
/// code that may be absent, a large number, and a time that may be null.
type Fields = (&'static str, &'static str, [(&'static str, &'static str); 4]);

const FIELDS: [Fields; 3] = [
    (
        "kotlin",
        "src/main/kotlin/org/openapitools/client/models",
        [
            ("SignInRequest.kt", "val code: kotlin.String,"),
            ("SentCode.kt", "val code: kotlin.String? = null"),
            ("UserWithInvited.kt", "val invitedCount: kotlin.Long"),
            ("UserWithInvited.kt", "val lastLogin: java.time.OffsetDateTime?,"),
        ],
    ),
    (
        "dart",
        "lib/model",
        [
            ("sign_in_request.dart", "  String code;"),
            ("sent_code.dart", "  String? code;"),
            ("user_with_invited.dart", "  int invitedCount;"),
            ("user_with_invited.dart", "  DateTime? lastLogin;"),
        ],
    ),
    (
        "swift5",
        "OpenAPIClient/Classes/OpenAPIs/Models",
        [
            ("SignInRequest.swift", "public var code: String\n"),
            ("SentCode.swift", "public var code: String?"),
            ("UserWithInvited.swift", "public var invitedCount: Int64"),
            ("UserWithInvited.swift", "public var lastLogin: Date?"),
        ],
    ),
];

#[tokio::test]
async fn clients_in_kotlin_dart_and_swift_have_the_right_fields() {
    for (generator, models, fields) in FIELDS {
        let directory = directory();
        if !generate_with_openapi_generator(generator, directory.path()) {
            return;
        }
        for (file, field) in fields {
            let path = directory.path().join("client").join(models).join(file);
            let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            assert!(source.contains(field), "{generator}: {file} has no `{field}`:\n{source}");
        }
    }
}
