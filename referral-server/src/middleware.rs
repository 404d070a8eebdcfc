//! Processing of each request before and after its handler: request id, path, body, time limits, errors,
//! response headers and the log line.

use std::{
    collections::HashSet,
    io,
    net::{Ipv6Addr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use poem::{
    Body, Endpoint, Request, Response, Result,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header,
        uri::{Authority, PathAndQuery},
    },
};
use poem_openapi::OperationId;
use referral_core::{
    ReferralService,
    texts::{Language, Text},
};
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::{
    api::accept_language::languages,
    client_ip::FoundAddress,
    console::{self, Console, Visitor},
    error::{FieldError, Problem},
    error_code::ErrorCode,
    host,
    mount::Prefix,
    openapi::Document,
    options::AppOptions,
    pages,
};

/// Largest body in bytes. The largest useful body has less than a tenth of this size.
const MAX_BODY: usize = 16 * 1024;

/// Maximum bytes of an unused body that are read and dropped, so that the client receives the response.
const MAX_DROPPED: usize = 32 * 1024 * 1024;
/// Longest time to read and drop an unused body.
const MAX_DROP_TIME: Duration = Duration::from_secs(5);

/// Target of the `tracing` span `request`, in which [`app`](crate::app()) processes each request. Its field
/// `request_id` has the id of the request, so that a log can add the id to all events of a request. The span
/// has the level `ERROR`, so that a filter by level does not hide it.
pub const REQUEST_SPAN: &str = "referral_server::request";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Security headers of each response. Browsers then use the declared content type, send no `Referer`, do not
/// show the response in frames, and keep it from pages of other origins. Origins that CORS allows can still
/// read it.
const SECURITY: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Content security policy of responses that are not pages: if a browser shows one, it loads and runs
/// nothing.
const NO_PAGE: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// Value of `Strict-Transport-Security`: browsers use TLS only for this host, for two years.
const ONLY_ENCRYPTED: HeaderValue = HeaderValue::from_static("max-age=63072000");

/// Id of a request, which the middleware adds to the request.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

/// The outermost endpoint.
pub(crate) struct Middleware<E>(Arc<Inner<E>>);

struct Inner<E> {
    endpoint: E,
    referral: ReferralService,
    document: Arc<Document>,
    /// Web console, if it is enabled.
    console: Option<Console>,
    options: AppOptions,
}

impl<E: Endpoint<Output = Response>> Middleware<E> {
    /// Creates the middleware around `endpoint`.
    pub(crate) fn new(
        endpoint: E,
        referral: ReferralService,
        document: Arc<Document>,
        console: Option<Console>,
        options: AppOptions,
    ) -> Self {
        Self(Arc::new(Inner { endpoint, referral, document, console, options }))
    }

    /// Creates the response to a request with these headers for which the server has no capacity.
    pub(crate) fn unavailable(&self, headers: &HeaderMap) -> Response {
        let id = self.0.request_id(headers);
        let mut response = Problem::new(ErrorCode::Unavailable).write(&id, language_of(headers));
        self.0.options.cors_origins.finish(headers.get(header::ORIGIN), response.headers_mut());
        self.0.finish(response.headers_mut(), &id);
        response
    }
}

impl<E: Endpoint<Output = Response> + 'static> Endpoint for Middleware<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        if is_read(&request) {
            // The future is boxed, because otherwise the future of the caller would have its size for each
            // request.
            return Ok(Box::pin(self.0.serve(request)).await);
        }
        // A request that writes runs in its own task, so that it completes even if the client disconnects:
        // events are emitted after a commit, and the log line is written.
        let inner = Arc::clone(&self.0);
        let response = tokio::spawn(Box::pin(async move { inner.serve(request).await })).await;
        response.map_err(|_panic| Problem::internal("the middleware panicked").into())
    }
}

impl<E: Endpoint<Output = Response>> Inner<E> {
    /// Processes a request in its span.
    async fn serve(&self, mut request: Request) -> Response {
        let id = self.request_id(request.headers());
        let span = tracing::error_span!(target: REQUEST_SPAN, "request", request_id = id);
        request.extensions_mut().insert(RequestId(id.clone()));
        self.process(request, id).instrument(span).await
    }

    async fn process(&self, mut request: Request, id: String) -> Response {
        let start = Instant::now();
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let origin = request.headers().get(header::ORIGIN).cloned();
        let language = language_of(request.headers());

        let peer = request.remote_addr().as_socket_addr().map(SocketAddr::ip);
        let address = self.options.client_addresses.of(peer, request.headers());
        request.extensions_mut().insert(FoundAddress(address));
        let prefix = Prefix::of(&request);
        request.set_data(prefix);
        without_trailing_slash(&mut request);
        let console = self.console.as_ref().filter(|_| console::is_at(&path));
        let visitor = console.map(|console| (console, Visitor::of(&request)));
        let mut response = match self.respond(request).await {
            Ok(response) => response,
            Err(error) => {
                let operation = error.data::<OperationId>().copied();
                let problem = self.describe(error, &path);
                let mut response = match &visitor {
                    Some((console, visitor)) => console.error_page(visitor, &problem, &id),
                    None => problem.into_response(&id, language),
                };
                if let Some(operation) = operation {
                    response.set_data(operation);
                }
                response
            }
        };
        let headers = response.headers_mut();
        if console.is_none() {
            self.options.cors_origins.finish(origin.as_ref(), headers);
        }
        self.finish(headers, &id);

        let (operation, took) = (response.data::<OperationId>().copied(), start.elapsed());
        if let Some(metrics) = &self.options.metrics {
            let route = operation.and_then(|operation| self.document.path(operation.0));
            let route = route.unwrap_or_else(|| match console {
                Some(_) => console::route(&path).into(),
                None => pages::route(&path).into(),
            });
            metrics.count_response(&method, route, response.status(), took);
        }
        // The line does not contain the path, which may contain personal data.
        tracing::info!(
            method = %method,
            operation = operation.map_or("-", |operation| operation.0),
            status = response.status().as_u16(),
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "request"
        );
        response
    }

    async fn respond(&self, mut request: Request) -> Result<Response> {
        let body = request.take_body();
        let check = check_host(&request).and_then(|()| self.reject_other_hosts(&request));
        if let Err(problem) = check.and_then(|()| self.reject_unknown_client(&request)) {
            drop_rest(&mut Box::pin(body.into_bytes_stream())).await;
            return Err(problem.into());
        }
        let is_console = self.console.is_some() && console::is_at(request.uri().path());
        if !is_console && self.options.cors_origins.is_preflight(&request) {
            let methods = self.allowed(request.uri().path());
            return Ok(self.options.cors_origins.respond(&request, &methods));
        }
        if is_read(&request) {
            // The body is not used, but the connection breaks if it is not read.
            if !body.is_empty() {
                drop_rest(&mut Box::pin(body.into_bytes_stream())).await;
            }
        } else {
            refuse_before_it_comes(&request)?;
            request.set_body(self.read_body(body).await?);
        }
        self.check_query(&request)?;
        // A client that gets a timeout must be able to retry. So the handler is dropped, and its transaction
        // is rolled back unless it is being committed.
        let handler = AssertUnwindSafe(self.endpoint.call(request)).catch_unwind();
        match timeout(self.options.request_timeout, handler).await {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => Err(Problem::internal("the handler panicked").into()),
            Err(_elapsed) => Err(Problem::unavailable("the handler took longer than the time limit").into()),
        }
    }

    /// Rejects a query with a parameter that the operation does not have, or that is repeated: a list with a
    /// misspelled filter would be the list of all users.
    fn check_query(&self, request: &Request) -> Result<(), Problem> {
        let (uri, method) = (request.uri(), request.method().as_str());
        let Some(query) = uri.query() else { return Ok(()) };
        let Some(known) = self.document.query_parameters(uri.path(), method) else { return Ok(()) };
        let mut names = HashSet::new();
        for (name, _) in form_urlencoded::parse(query.as_bytes()) {
            if !known.iter().any(|known| *known == name) {
                return Err(Problem::of_field(&name, ErrorCode::UnknownParameter));
            }
            if !names.insert(name.clone()) {
                let error = FieldError::new(ErrorCode::BadRequest, Text::RepeatedParameter);
                return Err(Problem::of_field(&name, error));
            }
        }
        Ok(())
    }

    /// Rejects a request for another host than this machine if `loopback_hosts_only` is set.
    fn reject_other_hosts(&self, request: &Request) -> Result<(), Problem> {
        if self.options.loopback_hosts_only && !host::is_for_loopback(request) {
            return Err(Problem::new(ErrorCode::MisdirectedRequest));
        }
        Ok(())
    }

    /// Rejects a request without an address, because no limit per address would apply to it.
    fn reject_unknown_client(&self, request: &Request) -> Result<(), Problem> {
        let is_unknown = !matches!(request.data(), Some(FoundAddress(Some(_))));
        if is_unknown && self.options.client_addresses.need_peer() {
            return Err(Problem::without_peer());
        }
        Ok(())
    }

    /// Reads the body up to its largest size.
    async fn read_body(&self, body: Body) -> Result<Vec<u8>, Problem> {
        let mut stream = Box::pin(body.into_bytes_stream());
        let mut read = Vec::new();
        let reading = async {
            while let Some(chunk) = stream.next().await {
                let chunk = chunk.map_err(|error| {
                    // A server with its own time limit for bodies reports a timeout with this kind.
                    let is_late = error.kind() == io::ErrorKind::TimedOut;
                    Problem::new(if is_late { ErrorCode::RequestTimeout } else { ErrorCode::BadRequest })
                })?;
                if read.len() + chunk.len() > MAX_BODY {
                    return Err(Problem::new(ErrorCode::PayloadTooLarge));
                }
                read.extend_from_slice(&chunk);
            }
            Ok(())
        };
        let result = timeout(self.options.request_timeout, reading).await;
        match result {
            Ok(Ok(())) => Ok(read),
            Ok(Err(problem)) => {
                drop_rest(&mut stream).await;
                Err(problem)
            }
            Err(_elapsed) => Err(Problem::new(ErrorCode::RequestTimeout)),
        }
    }

    /// Returns the request id of the client if it is valid, otherwise a new one.
    fn request_id(&self, headers: &HeaderMap) -> String {
        let is_sane = |id: &&str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            (1..=64).contains(&id.len()) && id.bytes().all(is_plain)
        };
        let given = headers.get(&REQUEST_ID).and_then(|id| id.to_str().ok());
        given.filter(is_sane).map_or_else(|| self.referral.generate_id().to_string(), str::to_owned)
    }

    fn describe(&self, error: poem::Error, path: &str) -> Problem {
        let mut problem = Problem::from(error);
        if poem::error::ResponseError::status(&problem) == StatusCode::METHOD_NOT_ALLOWED {
            problem.allow = Some(self.allowed(path));
        }
        problem
    }

    /// Returns the methods of `path`.
    fn allowed(&self, path: &str) -> String {
        if self.console.is_some() && console::is_at(path) {
            return console::allowed(path).into();
        }
        self.document.allowed(path).unwrap_or_else(|| pages::allowed(path).into())
    }

    /// Adds the headers of each response.
    fn finish(&self, headers: &mut HeaderMap, id: &str) {
        if let Ok(id) = HeaderValue::from_str(id) {
            headers.insert(REQUEST_ID, id);
        }
        for (name, value) in SECURITY {
            headers.entry(name).or_insert(value);
        }
        if self.options.public_url.as_ref().is_some_and(|url| url.starts_with("https:")) {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, ONLY_ENCRYPTED);
        }
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(NO_PAGE);
    }
}

/// Returns the language of the texts in the response to a request with these headers.
fn language_of(headers: &HeaderMap) -> Language {
    Language::choose(&languages(headers))
}

/// Returns `true` if a request changes no data.
fn is_read(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

/// Rejects a request that does not name one valid host.
///
/// A request with several hosts is ambiguous: proxies and caches may each use another one (RFC 9112, section
/// 3.2).
fn check_host(request: &Request) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let is_valid = match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_host(host),
        (Some(_), Some(_)) => false,
        (None, _) => match request.version() {
            Version::HTTP_09 | Version::HTTP_10 => true,
            Version::HTTP_11 => false,
            // The pseudo-header `:authority` replaces `Host`.
            _ => request.uri().authority().is_some(),
        },
    };
    if is_valid { Ok(()) } else { Err(Problem::with_detail(ErrorCode::BadRequest, Text::InvalidHostHeader)) }
}

/// Returns `true` if the value of a `Host` header is a host with an optional port.
fn is_host(value: &HeaderValue) -> bool {
    let Ok(value) = value.to_str() else { return false };
    let Ok(authority) = value.parse::<Authority>() else { return false };
    let host = authority.host();
    let is_host = match host.strip_prefix('[') {
        Some(literal) => literal.strip_suffix(']').is_some_and(|literal| literal.parse::<Ipv6Addr>().is_ok()),
        None => !host.is_empty() && !host.contains(':'),
    };
    let is_port = |port: &str| {
        port.is_empty() || port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
    };
    // `Authority` also accepts user information, which `Host` must not have.
    let rest = value.strip_prefix(host);
    is_host && rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

/// Reads and drops the rest of a body, up to a maximum size and time.
async fn drop_rest(stream: &mut (impl Stream<Item = io::Result<Bytes>> + Unpin)) {
    let dropping = async {
        let mut dropped = 0;
        while let Some(Ok(chunk)) = stream.next().await {
            dropped += chunk.len();
            if dropped > MAX_DROPPED {
                break;
            }
        }
    };
    // A timeout does not change the response.
    let _ = timeout(MAX_DROP_TIME, dropping).await;
}

/// Rejects a body that is too large while the client waits for the status 100 (Continue).
fn refuse_before_it_comes(request: &Request) -> Result<(), Problem> {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let is_too_large =
        length.and_then(|length| length.parse().ok()).is_some_and(|length: u64| length > MAX_BODY as u64);
    if is_too_large && request.headers().contains_key(header::EXPECT) {
        return Err(Problem::new(ErrorCode::PayloadTooLarge));
    }
    Ok(())
}

/// Removes a trailing slash from the path: each path works with and without it.
fn without_trailing_slash(request: &mut Request) {
    let path = request.uri().path();
    let Some(path) = path.strip_suffix('/').filter(|path| !path.is_empty()) else {
        return;
    };
    let path_and_query = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(path_and_query).ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}
