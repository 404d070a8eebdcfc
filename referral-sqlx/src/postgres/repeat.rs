//! What goes wrong now and then, and goes well the next time: conflicts with others who write, and
//! connections that break.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use referral_core::storage::{BoxError, Result, StorageError};
use sqlx::error::DatabaseError;

use super::{PostgresStore, hosts::NotConnected};
use crate::error::failure;

/// The first pause, about: each is drawn at random, so that those who met once do not meet again.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// The longest pause, about.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How often something is tried again after a pause. With the pauses that is about a second, which a
/// restart of a database may take and whoever waits for an answer does too.
const REPETITIONS: usize = 7;

/// How often something begins anew because its facts have changed. Each time somebody else got on,
/// so this many have asked for the very same thing at once.
const MAX_STALE: usize = 1_000;

/// The code that the function `referral.all_or_nothing` raises.
const ALL_OR_NOTHING: &str = "RF001";

/// Why what was decided was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotWritten {
    /// The facts have changed since they were read.
    #[error("others changed the same, over and over")]
    Stale,
    /// The invite code of a new user is somebody's.
    #[error("the invite code that was drawn for a new user is taken")]
    CodeTaken,
    /// The server is a standby, as a primary is after a switchover.
    #[error("the server is a standby, which does not accept writes")]
    Standby,
    /// The connection broke, so it may have been written all the same. Trying again could refuse
    /// what was granted.
    #[error("the connection broke while something was written")]
    Unknown(#[source] sqlx::Error),
}

impl From<NotWritten> for StorageError {
    fn from(reason: NotWritten) -> Self {
        Self::Unavailable(reason.into())
    }
}

impl PostgresStore {
    /// Repeats an attempt until it succeeds or fails with an error that is not safe to repeat. No attempt is started
    /// after the time that a request waits for a connection.
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
            if matches!(reason(&error), Some(NotWritten::Stale)) && stale < MAX_STALE {
                stale += 1;
                continue;
            }
            if is_of_full_disk(&error) {
                self.is_full.store(true, Ordering::Relaxed);
            }
            if is_of_broken_connection(&error) {
                self.pool.drop_opened_before(start);
            }
            let may_repeat = is_safe_to_repeat(&error) && first.elapsed() < self.acquire_timeout;
            let Some(pause) = may_repeat.then(|| pauses.next()).flatten() else {
                return Err(error);
            };
            tracing::debug!(%error, ?pause, "trying again");
            tokio::time::sleep(pause).await;
        }
    }
}

/// Why it was not written, if that is known.
pub(super) fn reason(error: &StorageError) -> Option<&NotWritten> {
    source(error)?.downcast_ref()
}

fn source(error: &StorageError) -> Option<&BoxError> {
    match error {
        StorageError::Unavailable(source) | StorageError::Failed(source) => Some(source),
        _ => None,
    }
}

/// Returns `true` if the connection cannot be used any more, so that others cannot either, most likely.
fn is_of_broken_connection(error: &StorageError) -> bool {
    match reason(error) {
        Some(NotWritten::Unknown(_) | NotWritten::Standby) => true,
        _ => sqlx_error(error).is_some_and(|error| is_broken(error) || is_of_standby(error)),
    }
}

fn is_of_full_disk(error: &StorageError) -> bool {
    sqlx_error(error).and_then(code).as_deref() == Some("53100")
}

/// Returns `true` if nothing was written, for a transient reason. A connection that broke while something
/// was written is [`NotWritten::Unknown`], and not among these.
fn is_safe_to_repeat(error: &StorageError) -> bool {
    matches!(reason(error), Some(NotWritten::Standby))
        || source(error).is_some_and(|source| source.is::<NotConnected>())
        || sqlx_error(error).is_some_and(|error| {
            is_aborted(error) || is_broken(error) || is_full(error) || is_of_standby(error)
        })
}

fn sqlx_error(error: &StorageError) -> Option<&sqlx::Error> {
    source(error)?.downcast_ref()
}

/// The error of a statement that writes: a request that is repeated after it finds what it did, if
/// it did anything.
pub(super) fn not_written(error: sqlx::Error) -> StorageError {
    if code(&error).as_deref() == Some(ALL_OR_NOTHING) {
        return NotWritten::Stale.into();
    }
    let constraint = error.as_database_error().and_then(DatabaseError::constraint);
    match constraint {
        Some("users_invite_code_key") => NotWritten::CodeTaken.into(),
        Some("users_phone_key" | "users_email_key" | "invitations_pkey") => NotWritten::Stale.into(),
        _ if is_broken(&error) => NotWritten::Unknown(error).into(),
        _ => failure(error),
    }
}

/// Whether the database undid the transaction because of others: a serialization failure or a
/// deadlock.
fn is_aborted(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01"))
}

/// Whether the server lets in nobody else for now, which it says before anything is done.
fn is_full(error: &sqlx::Error) -> bool {
    code(error).as_deref() == Some("53300")
}

/// Returns `true` if the database canceled the statement, most likely because its time was over.
pub(super) fn is_canceled(error: &StorageError) -> bool {
    sqlx_error(error).and_then(code).as_deref() == Some("57014")
}

/// Returns `true` if the server is a standby, which a primary becomes by a switchover. Nothing was written.
pub(super) fn is_of_standby(error: &sqlx::Error) -> bool {
    code(error).as_deref() == Some("25006")
}

/// Whether the connection is gone, or the database is about to be.
pub(super) fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::BeginFailed => true,
        _ => code(error).is_some_and(|code| {
            // Of class 57 those that an operator or a crash causes; a transaction that was idle for
            // too long; and connections that fail.
            matches!(&*code, "57P01" | "57P02" | "57P03" | "57P05" | "25P03") || code.starts_with("08")
        }),
    }
}

/// Whether the same may succeed later: what is repeated here; and too many connections, too little
/// memory or disk, a statement that took too long, a standby that cannot write.
pub(crate) fn is_passing(error: &sqlx::Error) -> bool {
    let is_short_of = |code: &str| code.starts_with("53") || matches!(code, "57014" | "55P03");
    is_aborted(error)
        || is_broken(error)
        || is_of_standby(error)
        || code(error).is_some_and(|code| is_short_of(&code))
}

pub(super) fn code(error: &sqlx::Error) -> Option<std::borrow::Cow<'_, str>> {
    error.as_database_error()?.code()
}
