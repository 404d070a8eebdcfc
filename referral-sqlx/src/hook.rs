//! Hook with which a host writes its own rows in the transaction that adds a user.

use async_trait::async_trait;
use referral_core::{
    Invitation, User,
    storage::{BoxError, Result, StorageError},
};
use sqlx::Database;

use crate::error::{failure, is_transient};

/// Work of the host in the transaction that adds a user or accepts an invitation.
///
/// The rows that the hook writes and the rows of the storage are committed together or not at all. This also
/// applies if the process or the database ends at any time.
///
/// - If the hook returns an error, the transaction is rolled back. The request fails with
///   [`StorageError::Failed`], whose source is a [`HookError`]. The one-time code is still valid, and attempts
///   that were counted before stay counted.
/// - The hook may run several times for one request, because a transaction is repeated after a conflict with
///   another one. Only the last run is committed. Effects outside of the transaction, such as messages, belong
///   into an [event](referral_core::events).
/// - The hook must not commit or roll back. It may use savepoints.
/// - The transaction holds locks, and in SQLite all other writes wait for it. So the hook should only execute a
///   few short statements. It has the time limit of a statement.
///
/// The methods do nothing by default. Methods for further operations may be added in minor versions.
#[async_trait]
pub trait TransactionHook<DB: Database>: Send + Sync {
    /// Runs after a user was added, by a sign-in or as a superuser.
    async fn user_created(
        &self,
        connection: &mut DB::Connection,
        user: &User,
    ) -> std::result::Result<(), BoxError> {
        let _ = (connection, user);
        Ok(())
    }

    /// Runs after an invitation was accepted, in the sign-in that adds the user, in a later one, or in an edit of
    /// the profile. If the user was added in the same transaction, [`user_created`](Self::user_created) runs
    /// before.
    async fn invitation_accepted(
        &self,
        connection: &mut DB::Connection,
        invitation: &Invitation,
    ) -> std::result::Result<(), BoxError> {
        let _ = (connection, invitation);
        Ok(())
    }
}

/// Error of a [`TransactionHook`], which rolled back the transaction.
#[derive(Debug, thiserror::Error)]
#[error("the transaction hook failed")]
pub struct HookError(#[source] BoxError);

impl HookError {
    /// Returns the error that the hook returned, if it is the reason of `error`.
    ///
    /// ```
    /// # fn reject(error: &referral_core::Error) -> bool {
    /// referral_sqlx::HookError::source_of(error).is_some_and(|source| source.is::<std::fmt::Error>())
    /// # }
    /// # assert!(!reject(&referral_core::Error::from(referral_core::Refusal::InvalidCode)));
    /// ```
    #[must_use]
    pub fn source_of<'e>(
        error: &'e (dyn std::error::Error + 'static),
    ) -> Option<&'e (dyn std::error::Error + Send + Sync + 'static)> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(Self(source)) = error.downcast_ref() {
                return Some(&**source);
            }
            cause = error.source();
        }
        None
    }
}

/// Runs a hook for a user that was added, and for an invitation that was accepted.
pub(crate) async fn run<DB: Database>(
    hook: &dyn TransactionHook<DB>,
    connection: &mut DB::Connection,
    user: Option<&User>,
    invitation: Option<&Invitation>,
) -> Result<()> {
    if let Some(user) = user {
        hook.user_created(connection, user).await.map_err(hook_failure)?;
    }
    if let Some(invitation) = invitation {
        hook.invitation_accepted(connection, invitation).await.map_err(hook_failure)?;
    }
    Ok(())
}

/// Converts the error of a hook. A transient error of the database is one of the storage too, so that the
/// transaction is repeated.
fn hook_failure(error: BoxError) -> StorageError {
    match error.downcast::<sqlx::Error>() {
        Ok(error) if is_transient(&error) => failure(*error),
        Ok(error) => StorageError::Failed(HookError(error).into()),
        Err(error) => StorageError::Failed(HookError(error).into()),
    }
}
