//! Operations in an open transaction of the host.

use referral_core::storage::{
    AddUserRequest, AddedUser, ChangedUser, Decided, StorageError, UserChangeRequest,
};
use sqlx::{Connection as _, Executor as _, Postgres, Transaction};

use super::{
    PostgresStorage, add_user, change_user,
    connections::Connection,
    open::LIMIT_PENDING_LIST,
    retry::{WriteConflict, reason, write_error},
    store::is_code_taken,
};
use crate::error::failure;

/// Attempts to decide on current facts. Each further attempt is caused by another transaction that committed.
/// In the isolation levels above READ COMMITTED, the facts stay the same.
const ATTEMPTS: u32 = 10;

/// Runs `$work` in a savepoint, so that a violated constraint does not abort the transaction. Repeats it if
/// its facts have changed.
macro_rules! in_savepoint {
    ($store:ident, $transaction:ident, $lease:ident => $work:expr) => {{
        // If the transaction is aborted, `begin` would fail after it has changed the state that `sqlx` keeps
        // of the transaction: further statements would be committed one by one.
        $transaction.execute(LIMIT_PENDING_LIST).await.map_err(failure)?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut savepoint = $transaction.begin().await.map_err(failure)?;
            let mut $lease = $store.lease_of(Connection::InTransaction(&mut savepoint));
            let done = $work.await;
            drop($lease);
            let error = match done {
                Ok(done) => break savepoint.commit().await.map(|()| done).map_err(write_error),
                Err(error) => error,
            };
            let is_stale = matches!(reason(&error), Some(WriteConflict::Stale));
            if savepoint.rollback().await.is_err() || !is_stale || attempts == ATTEMPTS {
                break Err(error);
            }
        }
    }};
}

impl PostgresStorage {
    /// Adds a user in an open transaction of the host, which commits or rolls back the user with its own
    /// rows. The connection may be any one to the same database.
    ///
    /// [`create_user_request`](referral_core::ReferralService::create_user_request) returns the request. If
    /// the phone has a user, that user is returned without changes. After the commit,
    /// [`emit_user_created`](referral_core::ReferralService::emit_user_created) emits the event.
    ///
    /// The operation has its own savepoint. After a refusal or an error, nothing of it is written, and the
    /// transaction continues unless the connection broke. If the options have a
    /// [`TransactionHook`](crate::TransactionHook), it runs once, on the connection of the transaction.
    ///
    /// While another transaction adds the same phone, the operation waits for its end. The only time limit is
    /// the `statement_timeout` of your connection. If you drop the future before it is ready, roll the
    /// transaction back.
    ///
    /// The returned user can be deleted until the commit, if it existed before.
    ///
    /// ```no_run
    /// # use referral_core::{CreateUser, Error, ReferralService};
    /// # use referral_sqlx::PostgresStorage;
    /// # async fn import(
    /// #     pool: &sqlx::PgPool, storage: &PostgresStorage, referral: &ReferralService, create: CreateUser,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut transaction = pool.begin().await?;
    /// let request = referral.create_user_request(create)?;
    /// let added = storage.add_user_in(&mut transaction, &request).await??;
    /// let profile = sqlx::query("INSERT INTO profiles (user_id) VALUES ($1)").bind(added.user.id.0);
    /// profile.execute(&mut *transaction).await?;
    /// transaction.commit().await?;
    /// referral.emit_user_created(&request, added).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Refusal::ExternalIdTaken`](referral_core::Refusal::ExternalIdTaken).
    /// [`StorageError::Unavailable`] if the transaction must be repeated: after a deadlock or a serialization
    /// failure, or if its isolation level hides a user that was added in the meantime.
    pub async fn add_user_in(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        request: &AddUserRequest,
    ) -> Decided<AddedUser> {
        for code in &request.new_user.invite_codes {
            let attempt =
                in_savepoint!(self, transaction, lease => add_user::add_user(&mut lease, request, code));
            if !is_code_taken(&attempt) {
                return attempt;
            }
        }
        Err(StorageError::InviteCodesExhausted)
    }

    /// Changes a user in an open transaction of the host, as [`add_user_in`](Self::add_user_in) adds one.
    /// [`change_user_request`](referral_core::ReferralService::change_user_request) returns the request. After
    /// the commit, [`emit_user_changed`](referral_core::ReferralService::emit_user_changed) emits the events.
    ///
    /// # Errors
    ///
    /// As for [`ReferralService::change_user`](referral_core::ReferralService::change_user).
    /// [`StorageError::Unavailable`] if the transaction must be repeated. [`StorageError::Failed`] if the
    /// isolation level of the transaction is not READ COMMITTED.
    pub async fn change_user_in(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        request: &UserChangeRequest,
    ) -> Decided<ChangedUser> {
        let isolation = sqlx::query_scalar::<_, String>("SELECT current_setting('transaction_isolation')");
        if isolation.fetch_one(&mut **transaction).await.map_err(failure)? != "read committed" {
            // The facts about inviters and admins could be old, although the locks for them are held.
            let error = "a change of a user requires a transaction with the isolation level READ COMMITTED";
            return Err(StorageError::Failed(error.into()));
        }
        in_savepoint!(self, transaction, lease => change_user::change_user(&mut lease, request))
    }
}
