//! Running example, with a client of its HTTP interface.

use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

pub(crate) const ANNA: &str = "+79608543017";
pub(crate) const BORIS: &str = "+77011234567";

/// Starts a program, and returns it with the first line that it prints. It ends with the result.
pub(crate) async fn start(program: &str, arguments: &[&str]) -> (Child, String) {
    let mut command = Command::new(program);
    command.args(arguments).env("NO_PROXY", "127.0.0.1").stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let line = lines.next_line().await.expect("text").expect("the program prints its URL");
    (child, line)
}

pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

/// Running service that embeds the API.
pub(crate) struct Example {
    /// Ends with the example.
    _child: Child,
    pub(crate) directory: TempDir,
    /// URL of the root page of the service.
    pub(crate) url: String,
    http: reqwest::Client,
}

impl Example {
    /// Starts the program on a free port with these further arguments, and waits until it prints its URL.
    pub(crate) async fn start(program: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_str().expect("UTF-8");
        let (child, line) = start(program, &[&[path, "127.0.0.1:0"], arguments].concat()).await;
        let url = line.strip_suffix("/auth/docs/").expect("the URL of Swagger UI").to_owned();
        Self { _child: child, directory, url, http: client() }
    }

    /// Returns the URL of the public keys.
    pub(crate) fn keys_url(&self) -> String {
        format!("{}/auth/.well-known/jwks.json", self.url)
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(format!("{}{path}", self.url)).send().await.expect("a response")
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.http.post(format!("{}/auth/api/v1{path}", self.url)).json(body);
        let response = request.send().await.expect("a response");
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.expect("JSON")
    }

    /// Signs in with the code in the response, optionally with an invite code. Returns the tokens.
    pub(crate) async fn sign_in(&self, phone: &str, invite_code: Option<&str>) -> Value {
        let sent = self.post("/auth/send_code/", &json!({ "phone": phone })).await;
        let body = json!({
            "phone": phone,
            "code": sent["code"],
            "challenge_id": sent["challenge_id"],
            "invited_by_code": invite_code,
        });
        self.post("/auth/jwt/get_by_phone/", &body).await
    }

    /// Returns the profile of a user with these tokens.
    pub(crate) async fn profile(&self, signed_in: &Value) -> Value {
        let token = signed_in["access"].as_str().expect("a token");
        let url = format!("{}/auth/api/v1/users/current_user/", self.url);
        let response = get(&self.http, &url, Some(&format!("Bearer {token}"))).await;
        response.json().await.expect("JSON")
    }

    /// Returns the response of the protected route to a user with these tokens.
    pub(crate) async fn greeting(&self, signed_in: &Value) -> String {
        let token = signed_in["access"].as_str().expect("a token");
        let response = self.hello(Some(&format!("Bearer {token}"))).await;
        assert_eq!(response.status(), 200);
        response.text().await.expect("text")
    }

    /// Calls the protected route with this header `Authorization`.
    pub(crate) async fn hello(&self, authorization: Option<&str>) -> reqwest::Response {
        get(&self.http, &format!("{}/hello", self.url), authorization).await
    }
}

/// Calls a protected route with this header `Authorization`.
pub(crate) async fn get(http: &reqwest::Client, url: &str, authorization: Option<&str>) -> reqwest::Response {
    let mut request = http.get(url);
    if let Some(authorization) = authorization {
        request = request.header("Authorization", authorization);
    }
    request.send().await.expect("a response")
}
