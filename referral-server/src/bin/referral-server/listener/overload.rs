//! Log and metrics of an overload.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use referral_server::Metrics;
use tokio::time::Instant;

/// Time without a refusal or an eviction after which an overload counts as ended. The next one is logged
/// again.
const OVERLOAD_END: Duration = Duration::from_mins(1);

/// Counts of refusals and evictions, and the warning that they have started.
pub(crate) struct Overload {
    metrics: Option<Metrics>,
    last: Mutex<Option<Instant>>,
}

impl Overload {
    pub(crate) fn new(metrics: Option<Metrics>) -> Self {
        Self { metrics, last: Mutex::default() }
    }

    pub(crate) fn request_refused(&self) {
        self.report("requests are rejected: too many are in flight", Metrics::request_refused);
    }

    pub(crate) fn request_evicted(&self) {
        self.report(
            "requests with an incomplete body are ended: too many are in flight",
            Metrics::request_evicted,
        );
    }

    pub(crate) fn connection_evicted(&self) {
        self.report(
            "idle connections are closed: all --max-connections are in use",
            Metrics::connection_evicted,
        );
    }

    fn report(&self, message: &str, count: impl Fn(&Metrics)) {
        self.metrics.iter().for_each(count);
        let now = Instant::now();
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if last.is_none_or(|last| now - last >= OVERLOAD_END) {
            tracing::warn!("overload started: {message}");
        }
    }
}
