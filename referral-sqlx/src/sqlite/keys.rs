//! Keys of the processes that share the database.

use referral_core::{
    keys::KeyMismatch,
    storage::{Decided, Decision, KeyRegistration, RegisteredKey, Result},
};

use super::{connection::Connection, rows};
use crate::{encoding::time_to_micros, error::failure};

const REGISTERED_KEYS: &str = "SELECT purpose, id, fingerprint, needed_until FROM referral_keys";

pub(super) async fn registered(connection: &mut Connection<'_>) -> Result<Vec<RegisteredKey>> {
    let known = connection.fetch_all(sqlx::query(REGISTERED_KEYS)).await.map_err(failure)?;
    known.iter().map(rows::registered_key).collect()
}

/// Decides whether a process may start with its keys, and stores them.
pub(super) async fn register(
    connection: &mut Connection<'_>,
    registration: &KeyRegistration,
) -> Decided<(), KeyMismatch> {
    let Decision { writes, outcome } = registration.decide(&registered(connection).await?);
    for key in &writes {
        put(connection, key).await?;
    }
    Ok(outcome)
}

const PUT_KEY: &str = "\
    INSERT INTO referral_keys (purpose, id, fingerprint, needed_until) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (purpose, id) DO UPDATE SET needed_until = excluded.needed_until";

async fn put(connection: &mut Connection<'_>, key: &RegisteredKey) -> Result<()> {
    let put = sqlx::query(PUT_KEY)
        .bind(key.purpose.as_str())
        .bind(&*key.id)
        .bind(key.fingerprint.as_slice())
        .bind(key.needed_until.map(time_to_micros));
    connection.execute(put).await.map(drop).map_err(failure)
}
