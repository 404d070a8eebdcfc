//! Verification of tokens by other programs, with the examples of `docs/tokens.md`.

use std::{fs, io::Write as _, os::unix::fs::symlink, path::Path, process::Command};

use serde_json::Value;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

use crate::{
    keys::commanded,
    nginx::Nginx,
    program::{Program, directory},
    service::{ANNA, Client},
};

const DOCS: &str = include_str!("../../../docs/tokens.md");

/// Example, with its heading, the name of its file and the command that runs it.
struct Example {
    heading: &'static str,
    file: &'static str,
    command: &'static str,
    /// Command that fails if a library of the example is not installed.
    check: &'static [&'static str],
    algorithms: &'static [&'static str],
}

const EXAMPLES: [Example; 3] = [
    Example {
        heading: "### Python with PyJWT",
        file: "verify.py",
        command: "python3",
        check: &["python3", "-c", "import jwt, cryptography"],
        algorithms: &["EdDSA", "ES256", "RS256"],
    },
    Example {
        heading: "### Node with jose",
        file: "verify.mjs",
        command: "node",
        check: &["node", "-e", "require.resolve('jose')"],
        algorithms: &["EdDSA", "ES256", "RS256"],
    },
    Example {
        heading: "### Node with jsonwebtoken",
        file: "verify.cjs",
        command: "node",
        check: &["node", "-e", "require.resolve('jsonwebtoken'); require.resolve('jwks-rsa')"],
        algorithms: &["ES256", "RS256"],
    },
];

impl Example {
    /// Writes the code of the example into `directory`.
    fn write(&self, directory: &Path) {
        let section = DOCS.split(self.heading).nth(1).expect("the page has the example");
        let code =
            section.split("```").nth(1).and_then(|block| block.split_once('\n')).expect("a block of code").1;
        fs::write(directory.join(self.file), code).expect("written");
    }

    /// Returns the id of the user if the example accepts the token.
    fn run(&self, directory: &Path, url: &str, token: &str) -> Result<String, String> {
        let mut command = Command::new(self.command);
        let output =
            command.current_dir(directory).args([self.file, url, token]).output().expect("the program runs");
        let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

/// Returns the first block of code below a heading of the page.
fn code_below(heading: &str) -> &'static str {
    let section = DOCS.split(heading).nth(1).expect("the page has the heading");
    let block = section.split("```").nth(1).and_then(|block| block.split_once('\n'));
    block.expect("a block of code with its language").1
}

/// Returns the examples whose libraries are installed.
fn installed() -> Vec<&'static Example> {
    let is_installed = |example: &&Example| {
        let check = Command::new(example.check[0]).args(&example.check[1..]).output();
        let is_installed = check.is_ok_and(|output| output.status.success());
        if !is_installed {
            let reason = format!("{}, because its libraries are not installed", example.heading);
            assert!(std::env::var_os("REFERRAL_TEST_REQUIRE_ALL").is_none(), "{reason}");
            let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
        }
        is_installed
    };
    EXAMPLES.iter().filter(is_installed).collect()
}

#[tokio::test]
async fn other_programs_verify_tokens_of_each_algorithm() {
    let examples = installed();
    for algorithm in ["EdDSA", "ES256", "RS256"] {
        let directory = directory();
        // Modules of Node are searched beside the file.
        if let Some(modules) = std::env::var_os("NODE_PATH") {
            symlink(modules, directory.path().join("node_modules")).expect("created");
        }
        commanded(directory.path(), &["keys", "generate", "--algorithm", algorithm], &[]);
        let listed = commanded(directory.path(), &["keys", "list", "--purpose", "signing"], &[]);
        assert!(listed.contains(algorithm), "{listed}");
        let program = Program::start(directory.path(), &[]);
        let client: &Client = &program.client;
        let anna = client.enter(ANNA, None).await;
        let response = client.send(client.http.get(client.url("/.well-known/jwks.json"))).await;
        let keys: Value = serde_json::from_str(&response.text).expect("JSON");
        assert_eq!((&keys["keys"][0]["alg"], &keys["keys"][0]["use"]), (&algorithm.into(), &"sig".into()));

        let url = client.url("/.well-known/jwks.json");
        let (signed, _) = anna.access.rsplit_once('.').expect("a signature");
        for example in examples.iter().filter(|example| example.algorithms.contains(&algorithm)) {
            example.write(directory.path());
            let name = example.heading;
            assert_eq!(
                example.run(directory.path(), &url, &anna.access),
                Ok(anna.id.clone()),
                "{name} {algorithm}"
            );
            for token in [&anna.refresh, &format!("{signed}.AAAA")] {
                example.run(directory.path(), &url, token).expect_err(name);
            }
        }
        commanded(directory.path(), &["keys", "rotate", "--purpose", "signing"], &[]);
        let listed = commanded(directory.path(), &["keys", "list", "--purpose", "signing"], &[]);
        assert_eq!(listed.matches(algorithm).count(), 2, "{listed}");
    }
}

#[tokio::test]
async fn nginx_lets_the_server_verify_each_request() {
    if !Nginx::is_installed("the verification of tokens by nginx") {
        return;
    }
    let protected = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(204)).mount(&protected).await;
    let directory = directory();
    let program = Program::start(directory.path(), &[]);
    let locations = code_below("### nginx")
        .replace("127.0.0.1:3000", &protected.address().to_string())
        .replace("127.0.0.1:8080", &program.client.address.to_string());
    let nginx = Nginx::start(directory.path(), Nginx::free_address(4), "", &locations);

    let anna = program.client.enter(ANNA, None).await;
    let url = format!("http://{}/any/path", nginx.address);
    for (token, status) in [(&*anna.access, 204), (&anna.refresh, 401), ("", 401)] {
        for request in [program.client.http.get(&url), program.client.http.post(&url).body("data")] {
            let response = request.bearer_auth(token).send().await.expect("a response");
            assert_eq!(response.status().as_u16(), status);
        }
    }
    assert_eq!(protected.received_requests().await.expect("recorded").len(), 2);
}
