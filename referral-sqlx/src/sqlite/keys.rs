//! Keys of the processes that share the database.

use referral_core::{
    keys::KeyMismatch,
    storage::{Decided, Decision, KeyRegistration, RegisteredKey, Result},
};
use sqlx::SqliteConnection;

use super::rows;
use crate::{encoding::time_to_micros, error::failure};

const REGISTERED_KEYS: &str = "SELECT purpose, id, fingerprint, needed_until FROM referral_keys";

pub(super) async fn registered(connection: &mut SqliteConnection) -> Result<Vec<RegisteredKey>> {
    let known = sqlx::query(REGISTERED_KEYS).fetch_all(connection).await.map_err(failure)?;
    known.iter().map(rows::registered_key).collect()
}

/// Decides whether a process may start with its keys, and stores them.
pub(super) async fn register(
    connection: &mut SqliteConnection,
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

async fn put(connection: &mut SqliteConnection, key: &RegisteredKey) -> Result<()> {
    let put = sqlx::query(PUT_KEY)
        .bind(key.purpose.as_str())
        .bind(&*key.id)
        .bind(key.fingerprint.as_slice())
        .bind(key.needed_until.map(time_to_micros));
    put.execute(connection).await.map(drop).map_err(failure)
}
