//! What became of messages: noted when a gateway accepts one and when it reports on it, and told.

use super::Referral;
use crate::{
    ChallengeId, DeliveryReport, DeliveryStatus, Error, Event, MessageRoute,
    delivery::{MessageKey, MessageNews},
    sms::Receipt,
};

impl Referral {
    /// Takes note of what a gateway reports of a message: to be called by whoever receives its reports,
    /// once it is certain that they are the gateway's. A report may come early, late or again, and may be
    /// about a message of somebody else: each status of a message that was sent from here is told once, as
    /// an [`Event::MessageStatus`], and of all others nothing.
    ///
    /// # Errors
    ///
    /// If the storage fails. Then let the gateway report again.
    pub async fn report_delivery(&self, report: DeliveryReport) -> Result<(), Error> {
        let DeliveryReport { gateway, message_id, status } = report;
        let Some(message) = MessageKey::new(&gateway, &message_id) else {
            tracing::warn!("a report was dropped: its gateway's name or its message's id is no id to keep");
            return Ok(());
        };
        let news = MessageNews::reported(message, status, self.now());
        let change = self.inner.storage.note_message(&news).await?;
        self.tell_statuses(&MessageRoute { gateway, region: change.region }, change.reached).await;
        Ok(())
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
