//! Delivery status of messages, and the gateways that accepted them.

use referral_core::storage::{
    Decision, DeliveryFacts, DeliveryTransition, DeliveryUpdate, DeliveryWrites, MessageKey, Result,
    StoredMessage,
};

use super::{lease::Lease, retry::write_error, rows};
use crate::error::failure;

/// Selects whether the challenge `$1` is not redeemed, and the message `$3` of the gateway `$2`.
pub(super) const MESSAGE: &str = "\
    SELECT coalesce((SELECT redeemed_at IS NULL FROM referral.challenges WHERE id = $1), FALSE) \
               AS has_open_challenge, \
           m.is_ours, m.region, m.status \
    FROM (SELECT 1) one LEFT JOIN referral.messages m ON m.gateway = $2 AND m.message_id = $3";

/// Records an update of a message.
pub(super) async fn record(lease: &mut Lease, update: &DeliveryUpdate) -> Result<DeliveryTransition> {
    let facts = lease
        .query(MESSAGE)
        .bind(update.challenge.as_ref().map(|(challenge, _)| challenge.0))
        .bind(update.message.as_ref().map(MessageKey::gateway))
        .bind(update.message.as_ref().map(MessageKey::id));
    let row = lease.fetch_one(facts).await.map_err(failure)?;
    let has_message = rows::get::<Option<bool>>(&row, "is_ours")?.is_some();
    let facts = DeliveryFacts {
        message: has_message.then(|| rows::message(&row)).transpose()?,
        has_open_challenge: rows::get(&row, "has_open_challenge")?,
    };
    let Decision { writes, outcome } = update.decide(facts);
    match update.message.as_ref().zip(writes.message) {
        Some((key, to)) => put(lease, update, key, facts.message, &to, &writes).await?,
        None => record_gateway(lease, &writes).await?,
    }
    Ok(outcome)
}

/// Records the gateway `$2` that accepted the message of the challenge `$1`, unless the challenge was
/// redeemed since its facts were read.
macro_rules! record_gateway {
    () => {
        "UPDATE referral.challenges SET gateway = $2 WHERE id = $1 AND redeemed_at IS NULL"
    };
}

pub(super) const RECORD_GATEWAY: &str = record_gateway!();

async fn record_gateway(lease: &mut Lease, writes: &DeliveryWrites) -> Result<()> {
    if let Some((challenge, gateway)) = &writes.gateway {
        let update = lease.query(RECORD_GATEWAY).bind(challenge.0).bind(&**gateway);
        lease.execute(update).await.map_err(write_error)?;
    }
    Ok(())
}

/// Stores the message `$3` of the gateway `$2` if the stored message has not changed. `$8` and `$9` are its
/// stored `is_ours` and `status`, both NULL if it was not stored. The time of the first record does not
/// change. Records the gateway of the challenge `$1`, if it is given, independently of the message.
pub(super) const PUT_MESSAGE: &str = concat!(
    "WITH recorded AS (",
    record_gateway!(),
    ") INSERT INTO referral.messages AS m (gateway, message_id, is_ours, region, status, recorded_at) \
       VALUES ($2, $3, $4, $5, $6, $7) \
       ON CONFLICT (gateway, message_id) DO UPDATE \
       SET is_ours = excluded.is_ours, region = excluded.region, status = excluded.status \
       WHERE m.is_ours = $8 AND m.status = $9"
);

/// Replaces the stored message `from` with `to`, and records the gateway of the challenge.
async fn put(
    lease: &mut Lease,
    update: &DeliveryUpdate,
    key: &MessageKey,
    from: Option<StoredMessage>,
    to: &StoredMessage,
    writes: &DeliveryWrites,
) -> Result<()> {
    let put = lease
        .query(PUT_MESSAGE)
        .bind(writes.gateway.as_ref().map(|(challenge, _)| challenge.0))
        .bind(key.gateway())
        .bind(key.id())
        .bind(to.is_ours)
        .bind(to.region.map(|region| region.to_string()))
        .bind(to.status.as_str())
        .bind(update.now)
        .bind(from.map(|from| from.is_ours))
        .bind(from.map(|from| from.status.as_str()));
    lease.write_row(put).await
}
