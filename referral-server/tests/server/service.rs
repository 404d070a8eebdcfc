//! Server in this process, on a free port, and a client that checks every response.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use poem::{IntoEndpoint, Route, Server, listener::TcpAcceptor};
use referral_core::{
    ReferralService,
    clock::Clock,
    keys::{Peppers, SigningKeys},
    policy::Policy,
    random::SystemRandom,
    sms::{DevelopmentSender, Receipt, SmsError, SmsMessage, SmsSender},
    storage::{MemoryStorage, Storage},
    test_util::ManualClock,
};
use referral_server::{AppOptions, app};
use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::{Value, json};
use time::{OffsetDateTime, macros::datetime};
use tokio::net::TcpListener;

/// Committed document, against which every response is checked.
pub(crate) static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../openapi.json")).expect("the document is JSON")
});

pub(crate) const ANNA: &str = "+79608543017";
pub(crate) const BORIS: &str = "+77011234567";
pub(crate) const VERA: &str = "+14155552671";

/// Paths of `POST` requests that send codes, sign in, verify tokens and refresh tokens.
pub(crate) const POSTS: [&str; 4] =
    ["/auth/send_code/", "/auth/jwt/get_by_phone/", "/auth/jwt/verify/", "/auth/jwt/refresh/"];

/// Server with its service, clock and client.
pub(crate) struct Service {
    pub(crate) referral: ReferralService,
    pub(crate) clock: ManualClock,
    pub(crate) client: Client,
}

/// User that is signed in, with the tokens of the session.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) id: String,
    pub(crate) body: Value,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::with_policy(Policy::development()).await
    }

    pub(crate) async fn with_policy(policy: Policy) -> Self {
        Self::with(policy, Arc::new(DevelopmentSender)).await
    }

    pub(crate) async fn with(policy: Policy, sender: Arc<dyn SmsSender>) -> Self {
        Self::with_storage(Arc::new(MemoryStorage::new()), policy, sender, AppOptions::default()).await
    }

    pub(crate) async fn with_storage(
        storage: Arc<dyn Storage>,
        policy: Policy,
        sender: Arc<dyn SmsSender>,
        options: AppOptions,
    ) -> Self {
        let clock = ManualClock::new(datetime!(2026-11-22 10:15:30.123456 UTC));
        let keys = SigningKeys::generate(&SystemRandom);
        let peppers = Peppers::generate(&SystemRandom);
        let referral = ReferralService::builder(storage, sender, keys, peppers)
            .policy(policy)
            .clock(Arc::new(Ticking(clock.clone())))
            .build()
            .expect("a valid policy and a valid key");
        let client = serve(referral.clone(), options).await;
        Self { referral, clock, client }
    }

    /// Serves the complete interface below a prefix, and returns a client that adds the prefix to paths.
    pub(crate) async fn mount(&self, prefix: &'static str, options: AppOptions) -> Client {
        let route = Route::new().nest(prefix, app(self.referral.clone(), options));
        Client::new(spawn(route).await).below(prefix)
    }

    /// Sends a code and signs in, optionally with an invite code.
    pub(crate) async fn enter(&self, phone: &str, invited_by_code: Option<&str>) -> SignedIn {
        self.client.enter(phone, invited_by_code).await
    }
}

/// Serves the complete interface on a free port, and returns a client.
pub(crate) async fn serve(referral: ReferralService, options: AppOptions) -> Client {
    Client::new(spawn(app(referral, options)).await)
}

/// Serves an endpoint on a free port, and returns the address.
async fn spawn(endpoint: impl IntoEndpoint<Endpoint: 'static> + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let acceptor = TcpAcceptor::from_tokio(listener).expect("an acceptor");
    tokio::spawn(Server::new_with_acceptor(acceptor).run(endpoint.into_endpoint()));
    address
}

/// Manual clock that, like a real one, never returns the same time twice.
struct Ticking(ManualClock);

impl Clock for Ticking {
    fn now(&self) -> OffsetDateTime {
        self.0.advance(Duration::from_micros(1));
        self.0.now()
    }
}

/// Client that checks the common properties of every response.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    /// Prefix of all paths.
    pub(crate) prefix: &'static str,
    pub(crate) http: reqwest::Client,
}

/// Response of the server.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the body of the response, which must be a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.body
    }

    /// Asserts that the response is a problem with this status and code.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{}", self.text);
    }

    /// Asserts that the response is a problem with this status and code, and that it names this field.
    #[track_caller]
    pub(crate) fn assert_field(&self, status: u16, code: &str, field: &str) {
        self.assert_problem(status, code);
        assert_eq!(self.body["errors"][field][0]["code"], code, "{}", self.text);
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
        Self { address, prefix: "", http: http.expect("a client") }
    }

    /// Returns a client that adds this prefix to all paths.
    pub(crate) fn below(self, prefix: &'static str) -> Self {
        Self { prefix, ..self }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{}{path}", self.address, self.prefix)
    }

    /// Returns a request to a path of the API.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(&format!("/api/v1{path}")))
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn get(&self, path: &str, access: &str) -> Response {
        self.send(self.request(Method::GET, path).bearer_auth(access)).await
    }

    pub(crate) async fn patch(&self, access: &str, body: &Value) -> Response {
        self.send(self.request(Method::PATCH, "/users/current_user/").bearer_auth(access).json(body)).await
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Response {
        let request = request.build().expect("a request");
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let response = self.http.execute(request).await.expect("a response");
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text().await.expect("a body");
        let body = serde_json::from_str(&text).unwrap_or_default();
        let response = Response { status, headers, body, text };
        check(&method, path.strip_prefix(self.prefix).unwrap_or(&path), &response);
        response
    }

    pub(crate) async fn enter(&self, phone: &str, invited_by_code: Option<&str>) -> SignedIn {
        let sent = self.post("/auth/send_code/", &json!({ "phone": phone })).await.ok();
        let mut body = json!({ "phone": phone, "code": sent["code"], "challenge_id": sent["challenge_id"] });
        if let Some(code) = invited_by_code {
            body["invited_by_code"] = json!(code);
        }
        let body = self.post("/auth/jwt/get_by_phone/", &body).await.ok();
        let text = |name: &str| body[name].as_str().expect("a string").to_owned();
        SignedIn { access: text("access"), refresh: text("refresh"), id: text("user_id"), body }
    }

    /// Returns the invite code of the current user.
    pub(crate) async fn invite_code(&self, signed_in: &SignedIn) -> String {
        let user = self.get("/users/current_user/", &signed_in.access).await.ok();
        user["invite_code"].as_str().expect("a string").to_owned()
    }

    /// Deletes the account of the current user with a code, and returns the response.
    pub(crate) async fn delete_account(&self, signed_in: &SignedIn) -> Value {
        let path = "/users/current_user/deletion/send_code/";
        let request = self.request(Method::POST, path).bearer_auth(&signed_in.access).json(&json!({}));
        let sent = self.send(request).await.ok();
        let body = json!({ "code": sent["code"], "challenge_id": sent["challenge_id"] });
        let request = self.request(Method::DELETE, "/users/current_user/").bearer_auth(&signed_in.access);
        self.send(request.json(&body)).await.ok()
    }
}

/// Checks the common properties of a response: its headers, the format of a problem, and that the document
/// lists it.
#[track_caller]
fn check(method: &Method, path: &str, response: &Response) {
    assert!(response.header("x-request-id").is_some_and(|id| !id.is_empty()));
    // The public keys are for pages of any origin.
    let resource_policy = if path == "/.well-known/jwks.json" { "cross-origin" } else { "same-origin" };
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", resource_policy),
    ] {
        assert_eq!(response.header(name), Some(value));
    }
    let policy = response.header("content-security-policy").expect("a policy");
    if response.header("content-type") == Some("text/html; charset=utf-8") {
        assert!(
            policy.starts_with("default-src 'none'; script-src '")
                && policy.contains("; frame-ancestors 'none'")
        );
    } else {
        assert_eq!(policy, "default-src 'none'; frame-ancestors 'none'");
    }
    assert!(response.header("cache-control").is_some());
    assert_ne!(response.status, 500, "{}", response.text);

    let is_problem = response.status >= 400;
    if is_problem {
        let vary = response.header("vary").unwrap_or_default();
        assert!(vary.split(", ").any(|name| name == "accept-language"), "{vary}");
        // The language of a text of the host is not known.
        let is_of_host = response.body["code"] == "rejected_by_host";
        assert_eq!(response.header("content-language").is_none(), is_of_host, "{}", response.text);
    }
    if is_problem && method != Method::HEAD {
        assert_eq!(response.header("content-type"), Some("application/problem+json"), "{}", response.text);
        for field in ["type", "title", "detail", "code"] {
            assert!(response.body[field].is_string(), "{field} in {}", response.text);
        }
        assert_eq!(response.body["status"], response.status);
        assert_eq!(response.body["request_id"].as_str(), response.header("x-request-id"));
        assert_eq!(response.status == 401, response.header("www-authenticate").is_some());
        assert_eq!(response.body["retry_after"].is_u64(), response.header("retry-after").is_some());
    }
    if let Some(operation) = documented(method, path) {
        let listed = &operation["responses"][response.status.to_string()];
        assert!(
            listed.is_object(),
            "{method} {path} does not document {}: {}",
            response.status,
            response.text
        );
        if is_problem {
            let examples = &listed["content"]["application/problem+json"]["examples"];
            let code = response.body["code"].as_str().unwrap_or_default();
            assert!(examples[code].is_object(), "{method} {path} does not document `{code}`");
        }
    }
}

/// Returns the operation of the document that matches a request.
fn documented(method: &Method, path: &str) -> Option<&'static Value> {
    let path = path.strip_prefix("/api/v1/")?;
    let path: Vec<_> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
    let paths = DOCUMENT["paths"].as_object()?;
    let fits = |pattern: &str| {
        let pattern: Vec<_> = pattern.trim_matches('/').split('/').collect();
        pattern.len() == path.len()
            && pattern.iter().zip(&path).all(|(name, part)| name.starts_with('{') || name == part)
    };
    // A path without a parameter has precedence over a path with one.
    let mut fitting: Vec<_> = paths.iter().filter(|(pattern, _)| fits(pattern)).collect();
    fitting.sort_by_key(|(pattern, _)| pattern.contains('{'));
    fitting.first()?.1.get(method.as_str().to_lowercase())
}

/// Gateway that rejects every message, or does not respond.
pub(crate) struct BrokenSender {
    pub(crate) knows: bool,
}

#[async_trait]
impl SmsSender for BrokenSender {
    async fn send(&self, _: &SmsMessage) -> Result<Receipt, SmsError> {
        if self.knows {
            Err(SmsError::Temporary("busy".into()))
        } else {
            Err(SmsError::Unknown("no response".into()))
        }
    }
}

/// Gateway that stores the texts of the messages.
#[derive(Clone, Default)]
pub(crate) struct Outbox(Arc<Mutex<Vec<String>>>);

impl Outbox {
    /// Removes and returns the texts, in the order of their arrival.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("the lock is not poisoned"))
    }
}

#[async_trait]
impl SmsSender for Outbox {
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError> {
        self.0.lock().expect("the lock is not poisoned").push(message.text.reveal().to_owned());
        Ok(Receipt::default())
    }
}

pub(crate) const MINUTE: Duration = Duration::from_mins(1);

/// Returns a policy with a grace period of deletions.
pub(crate) fn with_grace(deletion_grace: Duration) -> Policy {
    let mut policy = Policy::development();
    policy.deletion_grace = deletion_grace;
    policy
}
