//! Hook with which a host writes its own rows in the transaction that adds, changes or deletes a user.

use std::time::Duration;

use async_trait::async_trait;
use referral_core::{
    Invitation, PhoneNumber, User, UserId,
    storage::{BoxError, Result, StorageError},
};
use sqlx::Database;

use crate::error::failure;

/// Work of the host in the transaction that adds or deletes a user, changes the phone of a user, or accepts
/// an invitation.
///
/// The rows that the hook writes and the rows of the storage are committed together or not at all. This also
/// applies if the process or the database ends at any time.
///
/// - If the hook returns an error, the transaction is rolled back. The request fails with
///   [`StorageError::Failed`], whose source is a [`HookError`]. The one-time code is still valid, and attempts
///   that were counted before stay counted.
/// - In PostgreSQL the hook may run several times for one request: if it returns the [`sqlx::Error`] of a
///   serialization failure or a deadlock, the whole transaction is repeated. Only the last run is committed.
///   Effects outside of the transaction, such as messages, belong in an [event](referral_core::events).
/// - The hook must not execute `COMMIT` or `ROLLBACK`. In PostgreSQL, `begin` of the connection starts a
///   savepoint. In SQLite, `begin` fails: execute `SAVEPOINT` with a name of your own.
/// - The transaction holds locks, and in SQLite all other writes wait for it. So the hook should only execute a
///   few short statements. It has the time limit of a statement. In SQLite a statement that is running is not
///   interrupted.
///
/// The methods do nothing by default. Methods for further operations may be added in minor versions.
#[async_trait]
pub trait TransactionHook<DB: Database>: Send + Sync {
    /// Runs after a user was added, by a sign-in or by the host, also in a transaction of the host
    /// (`add_user_in`).
    async fn user_created(
        &self,
        connection: &mut DB::Connection,
        user: &User,
    ) -> std::result::Result<(), BoxError> {
        let _ = (connection, user);
        Ok(())
    }

    /// Runs after a user was deleted, by the user or by the host. `user` has the data as before. The storage
    /// keeps the id, so rows of the host that refer to it stay valid. Delete or anonymize the personal data
    /// in them.
    async fn user_deleted(
        &self,
        connection: &mut DB::Connection,
        user: &User,
    ) -> std::result::Result<(), BoxError> {
        let _ = (connection, user);
        Ok(())
    }

    /// Runs after the phone of a user was changed by the user. `user` has the new phone, and `old` is the
    /// phone before, which may belong to another person from now on. If the hook returns an error, the user
    /// keeps the phone and all sessions.
    async fn phone_changed(
        &self,
        connection: &mut DB::Connection,
        user: &User,
        old: &PhoneNumber,
    ) -> std::result::Result<(), BoxError> {
        let _ = (connection, user, old);
        Ok(())
    }

    /// Runs after a user lost the phone, because a sign-in after a long silence created a new user with it: see
    /// [`phones_recycled_after`](referral_core::policy::Policy::phones_recycled_after). It runs before
    /// [`user_created`](Self::user_created) for the new user, so that a table of the host with unique phones can
    /// clear the old one. Changes of a phone by staff or the host run no hook.
    async fn phone_detached(
        &self,
        connection: &mut DB::Connection,
        user: UserId,
    ) -> std::result::Result<(), BoxError> {
        let _ = (connection, user);
        Ok(())
    }

    /// Runs after an invitation was accepted, in the sign-in that adds the user, in a later one, or in an
    /// edit of the profile. If the user was added in the same transaction,
    /// [`user_created`](Self::user_created) runs before.
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

/// Changes for which the hook runs.
#[derive(Clone, Copy, Default)]
pub(crate) struct Changes<'a> {
    /// User that was added.
    pub(crate) created: Option<&'a User>,
    /// Invitation that was accepted.
    pub(crate) accepted: Option<&'a Invitation>,
    /// User that was deleted, as before.
    pub(crate) deleted: Option<&'a User>,
    /// User whose phone was changed, and the phone before.
    pub(crate) phone_changed: Option<(&'a User, &'a PhoneNumber)>,
    /// User who lost the phone to the user that was added.
    pub(crate) detached: Option<UserId>,
}

impl Changes<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        let Self { created, accepted, deleted, phone_changed, detached } = self;
        let is_none = created.is_none() && accepted.is_none() && deleted.is_none() && phone_changed.is_none();
        is_none && detached.is_none()
    }
}

/// Runs a hook for changes.
pub(crate) async fn run<DB: Database>(
    hook: &dyn TransactionHook<DB>,
    connection: &mut DB::Connection,
    timeout: Duration,
    changes: Changes<'_>,
) -> Result<()> {
    let work = async {
        if let Some(user) = changes.detached {
            hook.phone_detached(connection, user).await?;
        }
        if let Some(user) = changes.created {
            hook.user_created(connection, user).await?;
        }
        if let Some(invitation) = changes.accepted {
            hook.invitation_accepted(connection, invitation).await?;
        }
        if let Some(user) = changes.deleted {
            hook.user_deleted(connection, user).await?;
        }
        if let Some((user, old)) = changes.phone_changed {
            hook.phone_changed(connection, user, old).await?;
        }
        Ok(())
    };
    let ran = tokio::time::timeout(timeout, work).await;
    ran.unwrap_or_else(|elapsed| Err(BoxError::from(elapsed))).map_err(hook_failure)
}

/// Converts the error of a hook. After a conflict with another transaction, the whole transaction is repeated.
fn hook_failure(error: BoxError) -> StorageError {
    match error.downcast::<sqlx::Error>() {
        Ok(error) if is_conflict(&error) => failure(*error),
        Ok(error) => StorageError::Failed(HookError(error).into()),
        Err(error) => StorageError::Failed(HookError(error).into()),
    }
}

/// Returns `true` if the database aborted the transaction because of another one. Transactions in SQLite exclude
/// each other.
fn is_conflict(error: &sqlx::Error) -> bool {
    #[cfg(feature = "postgres")]
    return crate::postgres::error::is_aborted(error);
    #[cfg(not(feature = "postgres"))]
    {
        let _ = error;
        false
    }
}
