//! Metrics for Prometheus about requests, sign-ins and messages.
//!
//! Labels never contain text that a client sent. Routes are patterns, gateways are those in the
//! configuration, and methods, regions and reasons come from small closed sets. So metrics contain no phones,
//! and the number of time series does not grow with the number of clients.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use poem::{
    Response,
    http::{Method, StatusCode},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use referral_core::{
    Refusal, Region,
    events::{
        CodeNotSent, CodeRefused, DeliveryStatusChanged, Event, GateDecided, Hook, NoticeNotSent, NoticeSent,
        SessionEnded, SignInRefused, UserSignedIn,
    },
    sms::{Attempt, MessageRoute, Notice, Observer, Outcome},
};

/// Metrics of one process. Clones share them.
///
/// Pass them to the `ReferralService` as its hook, to the endpoint in [`AppOptions`](crate::AppOptions), and to the
/// gateways as their observer.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    requests_refused: Counter,
    requests_evicted: Counter,
    connections_evicted: Counter,
    codes_sent: Counter,
    test_codes: Counter,
    codes_not_sent: Family<ReasonLabels, Counter>,
    sign_ins: Counter,
    sign_ins_refused: Family<ReasonLabels, Counter>,
    users_created: Counter,
    users_deleted: Counter,
    deletions_scheduled: Counter,
    deletions_canceled: Counter,
    audit_entries: Family<ActionLabels, Counter>,
    phones_changed: Counter,
    phones_detached: Counter,
    notices: Family<NoticeLabels, Counter>,
    codes_refused: Family<PurposeLabels, Counter>,
    invitations_accepted: Counter,
    gate_questions: Family<QuestionLabels, Counter>,
    sessions_ended: Family<ReasonLabels, Counter>,
    under_attack: Gauge,
    clock_offset: Gauge<f64, AtomicU64>,
    log_lines_dropped: Counter,
    message_attempts: Family<AttemptLabels, Counter>,
    message_durations: Family<GatewayLabels, Histogram, fn() -> Histogram>,
    message_statuses: Family<StatusLabels, Counter>,
    message_sign_ins: Family<MessageLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: Arc<str>,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QuestionLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NoticeLabels {
    notice: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PurposeLabels {
    purpose: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GatewayLabels {
    gateway: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    gateway: String,
    region: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    gateway: String,
    region: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    gateway: String,
    region: String,
    status: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Creates metrics with the value zero.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one list of all metrics is easier to find")]
    pub fn new() -> Self {
        // Buckets from one millisecond to eight seconds, and to half a minute for gateways.
        let short = || Histogram::new(exponential_buckets(0.001, 2.0, 14));
        let long = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let mut inner = Inner {
            registry: Registry::with_prefix("referral"),
            requests: Family::default(),
            durations: Family::new_with_constructor(short),
            requests_refused: Counter::default(),
            requests_evicted: Counter::default(),
            connections_evicted: Counter::default(),
            codes_sent: Counter::default(),
            test_codes: Counter::default(),
            codes_not_sent: Family::default(),
            sign_ins: Counter::default(),
            sign_ins_refused: Family::default(),
            users_created: Counter::default(),
            users_deleted: Counter::default(),
            deletions_scheduled: Counter::default(),
            deletions_canceled: Counter::default(),
            audit_entries: Family::default(),
            phones_changed: Counter::default(),
            phones_detached: Counter::default(),
            notices: Family::default(),
            codes_refused: Family::default(),
            invitations_accepted: Counter::default(),
            gate_questions: Family::default(),
            sessions_ended: Family::default(),
            under_attack: Gauge::default(),
            clock_offset: Gauge::default(),
            log_lines_dropped: Counter::default(),
            message_attempts: Family::default(),
            message_durations: Family::new_with_constructor(long),
            message_statuses: Family::default(),
            message_sign_ins: Family::default(),
        };
        let registry = &mut inner.registry;
        registry.register("http_requests", "Requests by method, route and status", inner.requests.clone());
        let durations = inner.durations.clone();
        registry.register_with_unit(
            "http_request_duration",
            "Time to respond to a request",
            Unit::Seconds,
            durations,
        );
        registry.register(
            "http_requests_refused",
            "Requests rejected because too many were in flight",
            inner.requests_refused.clone(),
        );
        registry.register(
            "http_requests_evicted",
            "Requests with an incomplete body ended because too many were in flight",
            inner.requests_evicted.clone(),
        );
        registry.register(
            "http_connections_evicted",
            "Connections closed because all were in use and another client connected",
            inner.connections_evicted.clone(),
        );
        registry.register("codes_sent", "Codes that were passed to the sender", inner.codes_sent.clone());
        registry.register(
            "test_codes",
            "Fixed codes that were requested for test numbers. They are not sent",
            inner.test_codes.clone(),
        );
        registry.register(
            "codes_not_sent",
            "Codes that were requested and not sent, by the limit or rule that rejected the request",
            inner.codes_not_sent.clone(),
        );
        registry.register("sign_ins", "Successful sign-ins with a code", inner.sign_ins.clone());
        registry.register(
            "sign_ins_refused",
            "Rejected attempts to sign in, by reason",
            inner.sign_ins_refused.clone(),
        );
        registry.register("users_created", "Users that were created", inner.users_created.clone());
        registry.register("users_deleted", "Users that were deleted", inner.users_deleted.clone());
        registry.register(
            "deletions_scheduled",
            "Deletions of accounts that started a grace period",
            inner.deletions_scheduled.clone(),
        );
        registry.register(
            "deletions_canceled",
            "Scheduled deletions that a sign-in or staff canceled",
            inner.deletions_canceled.clone(),
        );
        registry.register("phones_changed", "Phones that users changed", inner.phones_changed.clone());
        registry.register(
            "phones_detached",
            "Phones of users who were not active, with which a new user signed up",
            inner.phones_detached.clone(),
        );
        registry.register(
            "notices",
            "Notices to phones about changes, by content and outcome",
            inner.notices.clone(),
        );
        registry.register(
            "audit_entries",
            "Entries that were added to the audit log, by action",
            inner.audit_entries.clone(),
        );
        registry.register(
            "codes_refused",
            "Rejected codes for changes of an account, by purpose and reason",
            inner.codes_refused.clone(),
        );
        registry.register(
            "invitations_accepted",
            "Invitations that were accepted",
            inner.invitations_accepted.clone(),
        );
        registry.register(
            "gate_questions",
            "Questions to the gate, by operation and outcome",
            inner.gate_questions.clone(),
        );
        registry.register(
            "sessions_ended",
            "Sessions that ended before they expired, by reason",
            inner.sessions_ended.clone(),
        );
        registry.register(
            "under_attack",
            "1 if this process considers the service to be under attack, otherwise 0",
            inner.under_attack.clone(),
        );
        registry.register_with_unit(
            "clock_offset",
            "Clock of this host minus clock of the database at the last measurement",
            Unit::Seconds,
            inner.clock_offset.clone(),
        );
        registry.register(
            "log_lines_dropped",
            "Log lines dropped because standard error was not read fast enough",
            inner.log_lines_dropped.clone(),
        );
        registry.register(
            "message_attempts",
            "Attempts to send a message, by outcome",
            inner.message_attempts.clone(),
        );
        let durations = inner.message_durations.clone();
        registry.register_with_unit(
            "message_duration",
            "Time that gateways took to respond",
            Unit::Seconds,
            durations,
        );
        registry.register(
            "message_statuses",
            "Delivery statuses of messages that gateways accepted",
            inner.message_statuses.clone(),
        );
        registry.register(
            "message_sign_ins",
            "Messages whose code led to a sign-in",
            inner.message_sign_ins.clone(),
        );
        Self(Arc::new(inner))
    }

    /// Returns all metrics in the format of Prometheus, for the page `/metrics`. Serve it at an address that
    /// only Prometheus can reach.
    #[must_use]
    pub fn page(&self) -> Response {
        let mut body = String::new();
        match text::encode(&mut body, &self.0.registry) {
            Ok(()) => Response::builder()
                .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
                .body(body),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into(),
        }
    }

    /// Sets the number of log lines that were dropped since the start of the process.
    pub fn set_log_lines_dropped(&self, total: u64) {
        // If two pages are created concurrently, the later one may have the lower number.
        self.0.log_lines_dropped.inner().fetch_max(total, Ordering::Relaxed);
    }

    /// Counts a request that was rejected because too many were in flight.
    pub fn request_refused(&self) {
        self.0.requests_refused.inc();
    }

    /// Counts a request with an incomplete body that was ended because too many were in flight.
    pub fn request_evicted(&self) {
        self.0.requests_evicted.inc();
    }

    /// Counts a connection that was closed because all were in use and another client connected.
    pub fn connection_evicted(&self) {
        self.0.connections_evicted.inc();
    }

    fn count_notice(&self, notice: &Notice, outcome: &'static str) {
        self.0.notices.get_or_create(&NoticeLabels { notice: notice.as_str(), outcome }).inc();
    }

    /// Counts a request.
    pub(crate) fn count_response(
        &self,
        method: &Method,
        route: Arc<str>,
        status: StatusCode,
        took: Duration,
    ) {
        let durations = self.0.durations.get_or_create(&RouteLabels { route: Arc::clone(&route) });
        durations.observe(took.as_secs_f64());
        drop(durations);
        let labels = RequestLabels { method: name_of(method), route, status: status.as_u16() };
        self.0.requests.get_or_create(&labels).inc();
    }
}

/// Returns the name of a method that the server supports, otherwise `other`.
fn name_of(method: &Method) -> &'static str {
    const NAMED: [(Method, &str); 6] = [
        (Method::GET, "GET"),
        (Method::HEAD, "HEAD"),
        (Method::POST, "POST"),
        (Method::PATCH, "PATCH"),
        (Method::DELETE, "DELETE"),
        (Method::OPTIONS, "OPTIONS"),
    ];
    NAMED.into_iter().find(|(named, _)| named == method).map_or("other", |(_, name)| name)
}

fn name_of_region(region: Option<Region>) -> String {
    region.map_or_else(|| "none".to_owned(), |region| region.to_string())
}

impl Observer for Metrics {
    fn attempted(&self, attempt: &Attempt<'_>) {
        let (gateway, region) = (attempt.gateway.to_owned(), name_of_region(attempt.region));
        if attempt.outcome != Outcome::Skipped {
            let labels = GatewayLabels { gateway: gateway.clone() };
            self.0.message_durations.get_or_create(&labels).observe(attempt.took.as_secs_f64());
        }
        let outcome = attempt.outcome.as_str();
        self.0.message_attempts.get_or_create(&AttemptLabels { gateway, region, outcome }).inc();
    }
}

#[async_trait]
impl Hook for Metrics {
    async fn on_event(&self, event: &Event) {
        let of_reason = |family: &Family<ReasonLabels, Counter>, reason| {
            family.get_or_create(&ReasonLabels { reason }).inc();
        };
        match event {
            Event::CodeSent(_) => drop(self.0.codes_sent.inc()),
            Event::TestCodeIssued(_) => drop(self.0.test_codes.inc()),
            Event::CodeNotSent(CodeNotSent { reason, .. }) => {
                let reason = reason.as_ref().map_or("sms_not_sent", Refusal::reason);
                of_reason(&self.0.codes_not_sent, reason);
            }
            Event::DeliveryStatusChanged(DeliveryStatusChanged { route, status, .. }) => {
                let MessageRoute { gateway, region } = route;
                let (gateway, region) = (gateway.clone(), name_of_region(*region));
                let labels = StatusLabels { gateway, region, status: status.as_str() };
                self.0.message_statuses.get_or_create(&labels).inc();
            }
            Event::UserSignedIn(UserSignedIn { route, .. }) => {
                self.0.sign_ins.inc();
                if let Some(MessageRoute { gateway, region }) = route {
                    let labels = MessageLabels { gateway: gateway.clone(), region: name_of_region(*region) };
                    self.0.message_sign_ins.get_or_create(&labels).inc();
                }
            }
            Event::SignInRefused(SignInRefused { reason, .. }) => {
                of_reason(&self.0.sign_ins_refused, reason.reason());
            }
            Event::UserCreated(_) => drop(self.0.users_created.inc()),
            Event::UserDeleted(_) => drop(self.0.users_deleted.inc()),
            Event::DeletionScheduled(_) => drop(self.0.deletions_scheduled.inc()),
            Event::DeletionCanceled(_) => drop(self.0.deletions_canceled.inc()),
            Event::Audited(entry) => {
                let labels = ActionLabels { action: entry.action.as_str() };
                self.0.audit_entries.get_or_create(&labels).inc();
            }
            Event::PhoneChanged(_) => drop(self.0.phones_changed.inc()),
            Event::PhoneDetached(_) => drop(self.0.phones_detached.inc()),
            Event::NoticeSent(NoticeSent { notice, .. }) => self.count_notice(notice, "sent"),
            Event::NoticeNotSent(NoticeNotSent { notice, .. }) => self.count_notice(notice, "not_sent"),
            Event::CodeRefused(CodeRefused { purpose, reason, .. }) => {
                let labels = PurposeLabels { purpose: purpose.as_str(), reason: reason.reason() };
                self.0.codes_refused.get_or_create(&labels).inc();
            }
            Event::InvitationAccepted(_) => drop(self.0.invitations_accepted.inc()),
            Event::GateDecided(GateDecided { operation, outcome, .. }) => {
                let labels = QuestionLabels { operation: operation.as_str(), outcome: outcome.as_str() };
                self.0.gate_questions.get_or_create(&labels).inc();
            }
            Event::SessionEnded(SessionEnded { reason, .. }) => {
                of_reason(&self.0.sessions_ended, reason.as_str());
            }
            Event::AttackChanged(change) => drop(self.0.under_attack.set(change.under_attack.into())),
            Event::ClockMeasured(measured) => {
                self.0.clock_offset.set(measured.offset.as_seconds_f64());
            }
            _ => {}
        }
    }
}
