//! Operations in an open transaction of the host.

use referral_core::storage::{AddUserRequest, AddedUser, ChangedUser, Decided, Result, UserChangeRequest};
use sqlx::{Connection as _, Sqlite, Transaction};

use super::{SqliteStorage, add_user::AddUser, batch::Batch, connection::Connection, write_queue::Decide};
use crate::error::failure;

impl SqliteStorage {
    /// Adds a user in an open transaction of the host, which commits or rolls back the user with its own
    /// rows. The connection may be any one to the same file. Start the transaction with `BEGIN IMMEDIATE`:
    /// otherwise it fails if another connection has written after its first read.
    ///
    /// [`create_user_request`](referral_core::ReferralService::create_user_request) returns the request. If
    /// the phone has a user, that user is returned without changes. After the commit,
    /// [`emit_user_created`](referral_core::ReferralService::emit_user_created) emits the event.
    ///
    /// The operation has its own savepoint. After a refusal or an error, nothing of it is written, and the
    /// transaction continues. If the options have a [`TransactionHook`](crate::TransactionHook), it runs
    /// once, on the connection of the transaction.
    ///
    /// All other writes wait for the transaction, at most five seconds. If you drop the future before it is
    /// ready, roll the transaction back.
    ///
    /// ```no_run
    /// # use referral_core::{CreateUser, Error, ReferralService};
    /// # use referral_sqlx::SqliteStorage;
    /// # async fn import(
    /// #     pool: &sqlx::SqlitePool, storage: &SqliteStorage, referral: &ReferralService, create: CreateUser,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
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
    pub async fn add_user_in(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        request: &AddUserRequest,
    ) -> Decided<AddedUser> {
        self.within(transaction, AddUser { request: request.clone(), hook: self.hook.clone() }).await
    }

    /// Changes a user in an open transaction of the host, as [`add_user_in`](Self::add_user_in) adds one.
    /// [`change_user_request`](referral_core::ReferralService::change_user_request) returns the request. After
    /// the commit, [`emit_user_changed`](referral_core::ReferralService::emit_user_changed) emits the events.
    ///
    /// # Errors
    ///
    /// As for [`ReferralService::change_user`](referral_core::ReferralService::change_user).
    pub async fn change_user_in(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        request: &UserChangeRequest,
    ) -> Decided<ChangedUser> {
        self.within(transaction, request.clone()).await
    }

    /// Decides and writes in a savepoint.
    async fn within<D: Decide>(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        write: D,
    ) -> Result<D::Outcome> {
        let mut savepoint = transaction.begin().await.map_err(failure)?;
        let mut connection = Connection::of_host(&mut savepoint, self.migrations.prefix().clone());
        let mut facts = Batch::new();
        write.push_facts(&mut facts);
        let facts = facts.execute(&mut connection).await;
        if let Some(error) = facts.error {
            return Err(failure(error));
        }
        let mut writes = Batch::new();
        let outcome = write.decide(facts.row, &mut connection, &mut writes).await?;
        writes.write(&mut connection).await?;
        savepoint.commit().await.map_err(failure)?;
        Ok(outcome)
    }
}
