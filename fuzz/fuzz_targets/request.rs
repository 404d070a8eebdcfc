//! Checks that no request breaks the server, and that each response is documented in `openapi.json`.
//!
//! An input is a list of requests in the syntax of HTTP, separated by lines `---`. The placeholder `{access}`
//! is replaced by the field `access` of the last response that had it, and so on for every field.

#![no_main]

use std::{cell::RefCell, collections::BTreeMap, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use poem::{
    Body, Endpoint as _, EndpointExt as _, Request, RequestParts, Response,
    endpoint::BoxEndpoint,
    http::{self, HeaderMap, HeaderValue, Method, StatusCode, header::HOST, uri::Scheme},
    web::{LocalAddr, RemoteAddr},
};
use referral_core::policy::Policy;
use referral_fuzz::{Ticking, run, service};
use referral_server::{AppOptions, ClientAddresses, app};
use serde_json::Value;

const SECRET: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";

/// Maximum number of requests of one input that are sent.
const MAX_REQUESTS: usize = 6;

/// Requests that are sent before every input. They create Anna, then Boris, invited by Anna, and send a code
/// to Vera. The tokens are those of Anna, the invite code and the id are those of Boris.
const BEFORE: &[u8] = include_bytes!("request/before.http");

/// Committed OpenAPI document.
static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../openapi.json")).expect("JSON"));

thread_local! {
    /// Server that is reused until a request changes its state: starting takes longer than responding.
    static UNCHANGED: RefCell<Option<Server>> = const { RefCell::new(None) };
}

fuzz_target!(|input: &[u8]| {
    let mut server = UNCHANGED.take().unwrap_or_else(Server::start);
    let known = server.known.clone();
    run(server.send_all(input));
    if !server.is_changed {
        server.known = known;
        UNCHANGED.set(Some(server));
    }
});

struct Server {
    app: BoxEndpoint<'static, Response>,
    /// Fields of the responses so far.
    known: BTreeMap<String, String>,
    /// Codes and tokens of the responses so far.
    secrets: Vec<String>,
    is_changed: bool,
}

impl Server {
    fn start() -> Self {
        let keys = format!(r#"{{"keys":[{{"kty":"oct","kid":"k1","use":"sig","k":"{SECRET}"}}]}}"#);
        let mut policy = Policy::development();
        // A long code does not occur in a response by chance.
        policy.code_length = 10;
        let referral = service(&keys, policy, 3)
            .clock(std::sync::Arc::new(Ticking::default()))
            .build()
            .expect("a valid policy");
        let mut options = AppOptions::default();
        options.client_addresses = ClientAddresses::none();
        let app = app(referral, options).boxed();
        let mut server = Self { app, known: BTreeMap::new(), secrets: Vec::new(), is_changed: false };
        for request in requests(BEFORE) {
            let status = run(server.send(request));
            assert_eq!(status, Some(StatusCode::OK), "{}", String::from_utf8_lossy(request));
        }
        server.is_changed = false;
        server
    }

    async fn send_all(&mut self, input: &[u8]) {
        for request in requests(input).take(MAX_REQUESTS) {
            self.send(request).await;
        }
    }

    /// Sends a request and checks the response. Returns `None` if the text is not a request.
    async fn send(&mut self, request: &[u8]) -> Option<StatusCode> {
        let text = self.fill_in(request);
        let request = read(&text)?;
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response =
            self.app.call(request).await.expect("the outermost middleware turns each error into a response");
        let (parts, body) = response.into_parts();
        let body = body.into_bytes().await.expect("a body in memory");
        let response = Received { status: parts.status, headers: parts.headers, body: body.to_vec() };
        response.check(&method, &path);
        self.check_secrets(&response, &path, &text);
        self.learn(&response, &method, &path);
        Some(response.status)
    }

    /// Returns the request with its placeholders replaced by the known fields.
    fn fill_in(&self, request: &[u8]) -> Vec<u8> {
        let Ok(text) = str::from_utf8(request) else {
            return request.to_vec();
        };
        let fill =
            |text: String, (name, value): (&String, &String)| text.replace(&format!("{{{name}}}"), value);
        self.known.iter().fold(text.to_owned(), fill).into_bytes()
    }

    /// Checks that no response has a secret. Exceptions are the responses that issue it, and responses that
    /// repeat the query of a list.
    fn check_secrets(&self, response: &Received, path: &str, request: &[u8]) {
        let body = String::from_utf8_lossy(&response.body);
        assert!(!body.contains(SECRET));
        let request = String::from_utf8_lossy(request);
        let texts = response.texts_of_ours();
        for secret in &self.secrets {
            assert!(!texts.iter().any(|text| text.contains(secret)), "{body}");
            assert!(path.contains("/auth/") || request.contains(secret) || !body.contains(secret), "{body}");
        }
    }

    /// Stores the fields of a response, and records whether the request may have changed the server.
    fn learn(&mut self, response: &Received, method: &Method, path: &str) {
        let json = response.json();
        let code = json["code"].as_str();
        let is_read = matches!(*method, Method::GET | Method::HEAD) || path.contains("/verify");
        // The server counts these rejections, or ends a session.
        let is_counted = matches!(code, Some("invalid_code" | "refresh_reused" | "unknown_invite_code"));
        self.is_changed |= !is_read && (is_counted || !response.status.is_client_error());
        if response.status != StatusCode::OK {
            return;
        }
        for (name, value) in json.as_object().into_iter().flatten() {
            if let Value::String(value) = value {
                self.known.insert(name.clone(), value.clone());
                if matches!(&**name, "access" | "refresh" | "code") {
                    self.secrets.push(value.clone());
                }
            }
        }
    }
}

struct Received {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Received {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Checks a response: its headers, its format, and that the document lists it.
    fn check(&self, method: &Method, path: &str) {
        let text = String::from_utf8_lossy(&self.body);
        let (status, json) = (self.status, self.json());
        assert!(status == StatusCode::OK || status.is_client_error(), "{method} {path}: {status} {text}");
        assert!(self.header("x-request-id").is_some_and(|id| !id.is_empty()));
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"));
        assert!(self.header("cache-control").is_some());

        let content_type = self.header("content-type").unwrap_or_default();
        if status.is_client_error() {
            assert_eq!(content_type, "application/problem+json", "{method} {path}: {text}");
            if method != Method::HEAD {
                assert_eq!(json["status"], status.as_u16());
                assert_eq!(json["request_id"].as_str(), self.header("x-request-id"));
                assert!(
                    ["type", "title", "detail", "code"].iter().all(|name| json[name].is_string()),
                    "{text}"
                );
            }
            assert_eq!(status == StatusCode::UNAUTHORIZED, self.headers.contains_key("www-authenticate"));
            assert_eq!(status == StatusCode::METHOD_NOT_ALLOWED, self.headers.contains_key("allow"));
            assert_eq!(json["retry_after"].is_u64(), self.headers.contains_key("retry-after"));
        } else if method != Method::HEAD {
            assert!(content_type.starts_with("text/html") || json.is_object(), "{method} {path}: {text}");
        }

        if let Some(operation) = documented(method, path) {
            let response = &operation["responses"][status.as_str()];
            assert!(response.is_object(), "{method} {path} does not document {status}: {text}");
            if status.is_client_error() {
                let examples = &response["content"]["application/problem+json"]["examples"];
                let code = json["code"].as_str().unwrap_or_default();
                assert!(examples[code].is_object(), "{method} {path} does not document `{code}`");
            }
        }
    }

    /// Returns the sentences of a problem. Names of unknown fields are left out: they come from the client.
    fn texts_of_ours(&self) -> Vec<String> {
        if !self.status.is_client_error() {
            return Vec::new();
        }
        let json = self.json();
        let fields = json["errors"].as_object().into_iter().flat_map(serde_json::Map::values);
        fields.chain([&json["detail"], &json["title"]]).map(Value::to_string).collect()
    }
}

/// Returns the operation of the document that matches a request.
fn documented(method: &Method, path: &str) -> Option<&'static Value> {
    let path = path.strip_prefix("/api/v1/")?;
    let path: Vec<_> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
    let fits = |pattern: &str| {
        let pattern: Vec<_> = pattern.trim_matches('/').split('/').collect();
        pattern.len() == path.len()
            && pattern.iter().zip(&path).all(|(name, part)| name.starts_with('{') || name == part)
    };
    // A path without a parameter has precedence over a path with one.
    let mut fitting: Vec<_> =
        DOCUMENT["paths"].as_object()?.iter().filter(|(pattern, _)| fits(pattern)).collect();
    fitting.sort_by_key(|(pattern, _)| pattern.contains('{'));
    let known = [Method::GET, Method::POST, Method::PATCH, Method::DELETE].contains(method);
    fitting.first()?.1.get(method.as_str().to_lowercase()).filter(|_| known)
}

/// Splits an input into requests.
fn requests(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(input);
    std::iter::from_fn(move || {
        let (request, next) = split_at(rest?, b"\n---\n");
        rest = next;
        Some(request)
    })
}

/// Parses a request: `METHOD path`, a line for each header, an empty line, and the body. A request without
/// `Host`, which every request must have, gets `localhost`.
fn read(text: &[u8]) -> Option<Request> {
    let (head, body) = split_at(text, b"\n\n");
    let mut lines = head.split(|byte| *byte == b'\n');
    let (method, uri) = split_at(lines.next()?, b" ");
    let mut request = http::Request::builder().method(method).uri(uri?);
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = split_at(line, b": ");
        request = request.header(name, HeaderValue::from_bytes(value?).ok()?);
    }
    let (mut parts, ()) = request.body(()).ok()?.into_parts();
    parts.headers.entry(HOST).or_insert(HeaderValue::from_static("localhost"));
    let parts = (parts, LocalAddr::default(), RemoteAddr::default(), Scheme::HTTP);
    Some(Request::from_parts(RequestParts::from(parts), Body::from(body.unwrap_or_default().to_vec())))
}

/// Returns the text before `between`, and the text after it if it occurs.
fn split_at<'a>(text: &'a [u8], between: &[u8]) -> (&'a [u8], Option<&'a [u8]>) {
    match text.windows(between.len()).position(|window| window == between) {
        Some(at) => (&text[..at], Some(&text[at + between.len()..])),
        None => (text, None),
    }
}
