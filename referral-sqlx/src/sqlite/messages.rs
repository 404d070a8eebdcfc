//! Delivery status of messages, and the gateways that accepted them.

use referral_core::storage::{
    Decision, DeliveryFacts, DeliveryTransition, DeliveryUpdate, MessageKey, Result,
};
use sqlx::sqlite::SqliteRow;

use super::{
    batch::{Batch, no_facts},
    connection::Connection,
    rows,
    write_queue::Decide,
};
use crate::encoding::time_to_micros;

/// Selects whether the challenge `$1` is not redeemed, and the message `$3` of the gateway `$2`.
pub(super) const MESSAGE: &str = "\
    SELECT coalesce((SELECT redeemed_at IS NULL FROM referral_challenges WHERE id = $1), 0) AS has_open_challenge, \
           m.is_ours, m.region, m.status \
    FROM (SELECT 1) one LEFT JOIN referral_messages m ON m.gateway = $2 AND m.message_id = $3";

impl Decide for DeliveryUpdate {
    type Outcome = DeliveryTransition;

    fn push_facts(&self, batch: &mut Batch) {
        batch
            .push(MESSAGE)
            .bind(self.challenge.as_ref().map(|(challenge, _)| challenge.0))
            .bind(self.message.as_ref().map(MessageKey::gateway))
            .bind(self.message.as_ref().map(MessageKey::id));
    }

    async fn decide(
        self,
        facts: Option<SqliteRow>,
        _: &mut Connection<'_>,
        batch: &mut Batch,
    ) -> Result<DeliveryTransition> {
        let row = facts.ok_or_else(no_facts)?;
        let has_message = rows::get::<Option<bool>>(&row, "is_ours")?.is_some();
        let facts = DeliveryFacts {
            message: has_message.then(|| rows::message(&row)).transpose()?,
            has_open_challenge: rows::get(&row, "has_open_challenge")?,
        };
        let Decision { writes, outcome } = Self::decide(&self, facts);
        if let Some((challenge, gateway)) = &writes.gateway {
            batch.push_update(RECORD_GATEWAY).bind(challenge.0).bind(&**gateway);
        }
        if let Some((key, message)) = self.message.as_ref().zip(writes.message) {
            batch
                .push(PUT_MESSAGE)
                .bind(key.gateway())
                .bind(key.id())
                .bind(message.is_ours)
                .bind(message.region.map(|region| region.to_string()))
                .bind(message.status.as_str())
                .bind(time_to_micros(self.now));
        }
        Ok(outcome)
    }
}

/// Records the gateway that accepted the message of a challenge.
pub(super) const RECORD_GATEWAY: &str = "UPDATE referral_challenges SET gateway = $2 WHERE id = $1";

/// Stores a message. The time of the first record does not change.
const PUT_MESSAGE: &str = "\
    INSERT INTO referral_messages (gateway, message_id, is_ours, region, status, recorded_at) \
    VALUES ($1, $2, $3, $4, $5, $6) \
    ON CONFLICT (gateway, message_id) DO UPDATE \
    SET is_ours = excluded.is_ours, region = excluded.region, status = excluded.status";
