//! Retries after transient errors: conflicts with concurrent writes, and broken connections.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use referral_core::storage::{BoxError, Result, StorageError};
use sqlx::error::DatabaseError;

use super::{
    PostgresStorage,
    error::{code, has_no_free_connection, is_aborted, is_broken, is_of_standby},
    hosts::NotConnected,
};
use crate::error::failure;

/// First pause before random jitter. The jitter prevents that conflicting requests conflict again.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// Longest pause before random jitter.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Maximum number of retries after a pause. All pauses together take about one second. A restart of a
/// database takes about as long, and a client waits as long for a response.
const REPETITIONS: usize = 7;

/// Maximum number of immediate retries because facts have changed. Each time another request has succeeded,
/// so this is the number of concurrent requests that change the same rows.
const MAX_STALE: usize = 1_000;

/// Error code that the function `referral.all_or_nothing` raises.
const ALL_OR_NOTHING: &str = "RF001";

/// Reason why a decision was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteConflict {
    /// The facts have changed since they were read.
    #[error("concurrent requests changed the same rows")]
    Stale,
    /// Another user has the invite code that was generated for a new user.
    #[error("the invite code that was generated for a new user is taken")]
    CodeTaken,
    /// The server is a standby. A primary becomes one in a switchover.
    #[error("the server is a standby, which does not accept writes")]
    Standby,
    /// The connection broke, so the write may have succeeded. A retry could refuse a request that was
    /// granted.
    #[error("the connection broke during a write")]
    Unknown(#[source] sqlx::Error),
}

impl From<WriteConflict> for StorageError {
    fn from(reason: WriteConflict) -> Self {
        Self::Unavailable(reason.into())
    }
}

impl PostgresStorage {
    /// Repeats `attempt` until it succeeds, a retry is not safe, or the retries are used up. Starts no
    /// attempt after the time that a request waits for a connection.
    pub(super) async fn repeat<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_max_times(REPETITIONS)
            .with_jitter();
        let mut pauses = pauses.build();
        let mut stale = 0;
        let first = Instant::now();
        loop {
            let start = Instant::now();
            let error = match attempt().await {
                Err(error @ StorageError::Unavailable(_)) => error,
                done => return done,
            };
            let in_time = first.elapsed() < self.acquire_timeout;
            if matches!(reason(&error), Some(WriteConflict::Stale)) && stale < MAX_STALE && in_time {
                stale += 1;
                continue;
            }
            if is_of_full_disk(&error) {
                self.is_full.store(true, Ordering::Relaxed);
            }
            if is_of_broken_connection(&error) {
                self.pool.drop_opened_before(start);
            }
            let Some(pause) = (is_safe_to_repeat(&error) && in_time).then(|| pauses.next()).flatten() else {
                return Err(error);
            };
            tracing::debug!(%error, ?pause, "retrying a request to the database");
            tokio::time::sleep(pause).await;
        }
    }
}

/// Returns the reason why a decision was not written, if it is known.
pub(super) fn reason(error: &StorageError) -> Option<&WriteConflict> {
    source(error)?.downcast_ref()
}

fn source(error: &StorageError) -> Option<&BoxError> {
    match error {
        StorageError::Unavailable(source) | StorageError::Failed(source) => Some(source),
        _ => None,
    }
}

/// Returns `true` if the connection cannot be used any more. Other connections are most likely broken too.
fn is_of_broken_connection(error: &StorageError) -> bool {
    match reason(error) {
        Some(WriteConflict::Unknown(_) | WriteConflict::Standby) => true,
        _ => sqlx_error(error).is_some_and(|error| is_broken(error) || is_of_standby(error)),
    }
}

fn is_of_full_disk(error: &StorageError) -> bool {
    sqlx_error(error).and_then(code).as_deref() == Some("53100")
}

/// Returns `true` if nothing was written for a transient reason. Returns `false` for
/// [`WriteConflict::Unknown`], a connection that broke during a write.
fn is_safe_to_repeat(error: &StorageError) -> bool {
    matches!(reason(error), Some(WriteConflict::Standby))
        || source(error).is_some_and(|source| source.is::<NotConnected>())
        || sqlx_error(error).is_some_and(|error| {
            is_aborted(error) || is_broken(error) || has_no_free_connection(error) || is_of_standby(error)
        })
}

fn sqlx_error(error: &StorageError) -> Option<&sqlx::Error> {
    source(error)?.downcast_ref()
}

/// Converts the error of a statement that writes. A retried request reads its facts again.
pub(super) fn write_error(error: sqlx::Error) -> StorageError {
    if code(&error).as_deref() == Some(ALL_OR_NOTHING) {
        return WriteConflict::Stale.into();
    }
    let constraint = error.as_database_error().and_then(DatabaseError::constraint);
    match constraint {
        Some("users_invite_code_key") => WriteConflict::CodeTaken.into(),
        Some(
            "users_pkey"
            | "users_phone_key"
            | "users_email_key"
            | "users_external_id_key"
            | "invitations_pkey"
            | "invitations_need_present_users"
            | "sessions_need_a_user_with_a_phone",
        ) => WriteConflict::Stale.into(),
        _ if is_broken(&error) => WriteConflict::Unknown(error).into(),
        _ => failure(error),
    }
}

/// Returns `true` if the database canceled the statement, most likely at its time limit.
pub(super) fn is_canceled(error: &StorageError) -> bool {
    sqlx_error(error).and_then(code).as_deref() == Some("57014")
}
