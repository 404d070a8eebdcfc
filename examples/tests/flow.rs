//! Runs each example, signs in and uses its protected route.

use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

const PHONE: &str = "+79608543017";

/// Running example.
struct Example {
    /// Ends with the example.
    _child: Child,
    _directory: TempDir,
    /// URL of the root page of the service.
    url: String,
    http: reqwest::Client,
}

impl Example {
    /// Starts the program on a free port, and waits until it prints its URL.
    async fn start(program: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(program);
        command.arg(directory.path()).arg("127.0.0.1:0").stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let line = lines.next_line().await.expect("text").expect("the program prints its URL");
        let url = line.strip_suffix("/auth/docs/").expect("the URL of Swagger UI").to_owned();
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { _child: child, _directory: directory, url, http }
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.http.post(format!("{}/auth/api/v1{path}", self.url)).json(body);
        let response = request.send().await.expect("a response");
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.expect("JSON")
    }

    /// Calls the protected route with this header `Authorization`.
    async fn hello(&self, authorization: Option<&str>) -> reqwest::Response {
        let mut request = self.http.get(format!("{}/hello", self.url));
        if let Some(authorization) = authorization {
            request = request.header("Authorization", authorization);
        }
        request.send().await.expect("a response")
    }

    async fn assert_works(&self) {
        let page = self.http.get(format!("{}/auth/docs/", self.url)).send().await.expect("a response");
        assert_eq!(page.status(), 200);
        assert!(page.text().await.expect("text").contains("\"url\": \"/auth/api/v1\""));

        let sent = self.post("/auth/send_code/", &json!({ "phone": PHONE })).await;
        let body = json!({ "phone": PHONE, "code": sent["code"], "challenge_id": sent["challenge_id"] });
        let signed_in = self.post("/auth/jwt/get_by_phone/", &body).await;
        let token = signed_in["access"].as_str().expect("a token");

        let hello = self.hello(Some(&format!("Bearer {token}"))).await;
        assert_eq!(hello.status(), 200);
        assert_eq!(hello.text().await.expect("text"), format!("Hello, {PHONE}!"));
        for authorization in [None, Some("Bearer invalid"), Some(token), Some("Basic YTpi")] {
            let response = self.hello(authorization).await;
            assert_eq!(response.status(), 401, "{authorization:?}");
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
        }
    }
}

#[tokio::test]
async fn actix_serves_the_api_and_a_protected_route() {
    Example::start(env!("CARGO_BIN_EXE_example-actix")).await.assert_works().await;
}

#[tokio::test]
async fn axum_serves_the_api_and_a_protected_route() {
    Example::start(env!("CARGO_BIN_EXE_example-axum")).await.assert_works().await;
}

#[tokio::test]
async fn poem_serves_the_api_and_a_protected_route() {
    Example::start(env!("CARGO_BIN_EXE_example-poem")).await.assert_works().await;
}
