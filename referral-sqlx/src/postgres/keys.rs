//! Keys of the processes that share the database.

use referral_core::{
    keys::KeyMismatch,
    storage::{Decided, Decision, KeyRegistration, RegisteredKey, Result},
};

use super::{lease::Lease, rows};
use crate::error::failure;

const REGISTERED_KEYS: &str = "SELECT purpose, id, fingerprint, needed_until FROM referral.keys";

pub(super) async fn registered(lease: &mut Lease) -> Result<Vec<RegisteredKey>> {
    let known = lease.fetch_all(lease.query(REGISTERED_KEYS)).await.map_err(failure)?;
    known.iter().map(rows::registered_key).collect()
}

const LOCK_KEYS: &str = "SELECT 1 FROM referral.locks WHERE name = 'keys' FOR UPDATE";

/// Decides whether a process may start with its keys, and stores them, in a transaction.
pub(super) async fn register(lease: &mut Lease, registration: &KeyRegistration) -> Decided<(), KeyMismatch> {
    lease.fetch_one(lease.query(LOCK_KEYS)).await.map_err(failure)?;
    let Decision { writes, outcome } = registration.decide(&registered(lease).await?);
    for key in &writes {
        put(lease, key).await?;
    }
    Ok(outcome)
}

const PUT_KEY: &str = "\
    INSERT INTO referral.keys (purpose, id, fingerprint, needed_until) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (purpose, id) DO UPDATE SET needed_until = excluded.needed_until";

async fn put(lease: &mut Lease, key: &RegisteredKey) -> Result<()> {
    let put = lease
        .query(PUT_KEY)
        .bind(key.purpose.as_str())
        .bind(&*key.id)
        .bind(key.fingerprint.as_slice())
        .bind(key.needed_until);
    lease.write_row(put).await
}
