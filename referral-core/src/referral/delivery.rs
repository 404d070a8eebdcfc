//! What became of messages: noted when a gateway accepts one and when it reports on it, and told.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use time::OffsetDateTime;

use super::Referral;
use crate::{
    ChallengeId, DeliveryReport, DeliveryStatus, Error, Event, MessageRoute,
    delivery::{MessageKey, MessageNews, ReportEvidence},
    sms::Receipt,
    storage::MessageChange,
};

/// Reports of one gateway with weak evidence that one process stores in a minute, about messages of which
/// nothing is stored yet.
///
/// A gateway reports before its acceptance of the message is stored only if it delivers within the
/// milliseconds which that takes. In the three days for which messages are kept, this is at most 129 600
/// rows for each gateway and process.
const UNKNOWN_PER_MINUTE: u32 = 30;

/// Counts the reports with weak evidence that were stored in the current minute, by gateway.
#[derive(Default)]
pub(super) struct WeakReports(Mutex<Minute>);

#[derive(Default)]
struct Minute {
    start: i64,
    stored: HashMap<String, u32>,
}

impl WeakReports {
    /// Counts one more report of the gateway, and returns `true` if it may be stored.
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
                "dropping reports of unknown messages: the gateway does not sign what they say, and sent too many in a minute"
            );
        }
        *stored <= UNKNOWN_PER_MINUTE
    }
}

impl Referral {
    /// Takes note of what a gateway reports of a message: to be called by whoever receives its reports,
    /// once it is certain that they are the gateway's. A report may come early, late or again, and may be
    /// about a message of somebody else: each status of a message that was sent from here is told once, as
    /// an [`Event::MessageStatus`], and of all others nothing.
    ///
    /// Reports with [weak evidence](ReportEvidence::Weak) about messages of which nothing is stored yet are
    /// dropped beyond 30 a minute for each gateway and process.
    ///
    /// # Errors
    ///
    /// If the storage fails. Then let the gateway report again.
    pub async fn report_delivery(&self, report: DeliveryReport) -> Result<(), Error> {
        let DeliveryReport { gateway, message_id, status, evidence } = report;
        let Some(message) = MessageKey::new(&gateway, &message_id) else {
            tracing::warn!("a report was dropped: its gateway's name or its message's id is no id to keep");
            return Ok(());
        };
        let news = MessageNews::reported(message, status, self.now());
        let change = match evidence {
            ReportEvidence::Strong => self.inner.storage.note_message(&news).await?,
            ReportEvidence::Weak => self.note_weak_report(&gateway, news).await?,
        };
        self.tell_statuses(&MessageRoute { gateway, region: change.region }, change.reached).await;
        Ok(())
    }

    /// Takes a report whose message a third party may have chosen.
    async fn note_weak_report(&self, gateway: &str, news: MessageNews) -> Result<MessageChange, Error> {
        // Most reports are about known messages. Those do not count, so that a flood of others does not
        // suppress them.
        let change = self.inner.storage.note_message(&news.clone().of_known_message_only()).await?;
        if change.is_unknown && self.inner.weak_reports.admit(gateway, news.now) {
            return Ok(self.inner.storage.note_message(&news).await?);
        }
        Ok(change)
    }

    /// Takes note of which gateway accepted the message of a challenge, and as what; returns what there is
    /// to tell of that. The message is out, so nobody is refused if that fails.
    pub(super) async fn note_accepted(
        &self,
        route: &MessageRoute,
        receipt: &Receipt,
        challenge: ChallengeId,
    ) -> Vec<DeliveryStatus> {
        let gateway = &*route.gateway;
        let message_id = receipt.message_id.as_deref();
        let Some(news) = MessageNews::accepted(route, message_id, challenge, self.now()) else {
            tracing::warn!("a message is not tracked: its gateway's name is empty or too long");
            return Vec::new();
        };
        if message_id.is_some() && news.message.is_none() {
            tracing::warn!(gateway, "a message is not tracked: its id is empty or too long");
        }
        match self.inner.storage.note_message(&news).await {
            Ok(change) => change.reached,
            Err(failure) => {
                tracing::warn!(gateway, %failure, "a message is not tracked: it could not be noted");
                Vec::new()
            }
        }
    }

    pub(super) async fn tell_statuses(&self, route: &MessageRoute, reached: Vec<DeliveryStatus>) {
        for status in reached {
            self.tell(Event::MessageStatus { route: route.clone(), status }).await;
        }
    }
}
