//! Delivery status of messages: recorded when a gateway accepts a message and when it reports on it, and
//! emitted as events.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use time::OffsetDateTime;

use super::ReferralService;
use crate::{
    error::Error,
    events::{DeliveryStatusChanged, Event},
    otp::challenge::ChallengeId,
    sms::{
        Receipt,
        delivery::{
            DeliveryReport, DeliveryStatus, DeliveryUpdate, MessageKey, MessageRoute, ReportEvidence,
        },
    },
    storage::DeliveryTransition,
};

/// Number of reports with weak evidence that one process stores in a minute for one gateway, about messages
/// that are not stored yet.
///
/// A gateway reports before its acceptance of the message is stored only if it delivers the message within
/// the milliseconds that storing takes. In the three days for which messages are stored, the limit allows at
/// most 129 600 rows for each gateway and process.
const UNKNOWN_PER_MINUTE: u32 = 30;

/// Number of reports with weak evidence that were stored in the current minute, by gateway.
#[derive(Default)]
pub(super) struct WeakReports(Mutex<Minute>);

#[derive(Default)]
struct Minute {
    start: i64,
    stored: HashMap<String, u32>,
}

impl WeakReports {
    /// Counts a report of the gateway, and returns `true` if it may be stored.
    fn admit(&self, gateway: &str, now: OffsetDateTime) -> bool {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = now.unix_timestamp().div_euclid(60);
        if minute.start != start {
            *minute = Minute { start, stored: HashMap::new() };
        }
        let stored = minute.stored.entry(gateway.to_owned()).or_default();
        *stored = stored.saturating_add(1);
        if *stored == UNKNOWN_PER_MINUTE + 1 {
            tracing::warn!(
                gateway,
                limit = UNKNOWN_PER_MINUTE,
                "dropping reports about unknown messages: the contents of the reports are not signed and there \
                 were too many in a minute"
            );
        }
        *stored <= UNKNOWN_PER_MINUTE
    }
}

impl ReferralService {
    /// Records what a gateway reports about a message. The receiver of reports calls it after it has verified
    /// that the report is from the gateway. A report may be early, late, repeated, or about a message of
    /// another service. Each status of a message that was sent from here is emitted once, as an
    /// [`Event::DeliveryStatusChanged`]. Reports about other messages emit no event.
    ///
    /// Reports with [weak evidence](ReportEvidence::Weak) about messages that are not stored yet are dropped
    /// beyond 30 a minute for each gateway and process.
    ///
    /// # Errors
    ///
    /// If the storage fails. The gateway must then send the report again.
    pub async fn report_delivery(&self, report: DeliveryReport) -> Result<(), Error> {
        let DeliveryReport { gateway, message_id, status, evidence } = report;
        let Some(message) = MessageKey::new(&gateway, &message_id) else {
            tracing::warn!("dropped a delivery report: the gateway name or the message id is not valid");
            return Ok(());
        };
        let update = DeliveryUpdate::reported(message, status, self.now());
        let change = match evidence {
            ReportEvidence::Strong => self.inner.storage.record_delivery(&update).await?,
            ReportEvidence::Weak => self.record_weak_report(&gateway, update).await?,
        };
        self.emit_statuses(&MessageRoute { gateway, region: change.region }, change.reached).await;
        Ok(())
    }

    /// Records a report whose message a third party may have chosen.
    async fn record_weak_report(
        &self,
        gateway: &str,
        update: DeliveryUpdate,
    ) -> Result<DeliveryTransition, Error> {
        // Most reports are about known messages. These are not counted, so that a flood of others does not
        // suppress them.
        let change = self.inner.storage.record_delivery(&update.clone().of_known_message_only()).await?;
        if change.is_unknown && self.inner.weak_reports.admit(gateway, update.now) {
            return Ok(self.inner.storage.record_delivery(&update).await?);
        }
        Ok(change)
    }

    /// Records which gateway accepted a message, and its message id. `challenge` is the challenge of the
    /// message, unless it is a notice. Returns the statuses to emit. The message is already sent, so a
    /// failure here does not fail the request.
    pub(super) async fn record_acceptance(
        &self,
        route: &MessageRoute,
        receipt: &Receipt,
        challenge: Option<ChallengeId>,
    ) -> Vec<DeliveryStatus> {
        let gateway = &*route.gateway;
        let message_id = receipt.message_id.as_deref();
        let Some(update) = DeliveryUpdate::accepted(route, message_id, challenge, self.now()) else {
            tracing::warn!("failed to track a message: the gateway name is not valid");
            return Vec::new();
        };
        if message_id.is_some() && update.message.is_none() {
            tracing::warn!(gateway, "failed to track a message: the message id is not valid");
        }
        match self.inner.storage.record_delivery(&update).await {
            Ok(change) => change.reached,
            Err(failure) => {
                tracing::warn!(gateway, %failure, "failed to record the acceptance of a message");
                Vec::new()
            }
        }
    }

    pub(super) async fn emit_statuses(&self, route: &MessageRoute, reached: Vec<DeliveryStatus>) {
        for status in reached {
            self.emit(Event::DeliveryStatusChanged(DeliveryStatusChanged { route: route.clone(), status }))
                .await;
        }
    }
}
