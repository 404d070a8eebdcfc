//! Storage of what processes share, and its maintenance.

use async_trait::async_trait;
use time::OffsetDateTime;

use super::{
    AttackCheck, Decided, GlobalCounterFacts, GlobalCounterQuery, KeyRegistration, RegisteredKey, Result,
    Retention, StorageReadiness,
};
use crate::{keys::registry::KeyMismatch, shared_settings::SharedSetting};

/// Stores keys and settings that processes share, deletes expired rows, and reports its own state.
#[async_trait]
pub trait MaintenanceStorage: Send + Sync + 'static {
    /// Reads the global counters, records an attack if there is one, and returns `true` if the service is
    /// under attack.
    async fn check_attack(&self, check: &AttackCheck) -> Result<bool>;

    /// Returns the counts that the query names.
    async fn global_counters(&self, query: GlobalCounterQuery) -> Result<GlobalCounterFacts>;

    /// Deletes rows that are no longer needed, at most [`Retention::batch_size`] of each kind. Returns the
    /// total number of deleted rows.
    async fn delete_expired(&self, retention: &Retention) -> Result<u64>;

    /// Returns the keys that are, or were, the first of the ring of a process on this storage.
    async fn registered_keys(&self) -> Result<Vec<RegisteredKey>>;

    /// Records the keys of a process that starts, or returns the reason why the process must not start.
    ///
    /// Facts: the registered keys. Of two processes that start concurrently, the second sees the keys of the
    /// first.
    async fn register_keys(&self, registration: &KeyRegistration) -> Decided<(), KeyMismatch>;

    /// Returns the settings that [`record_settings`](Self::record_settings) recorded last, in any order.
    async fn shared_settings(&self) -> Result<Vec<SharedSetting>>;

    /// Records settings of a process that starts. They replace the settings recorded under the same names.
    async fn record_settings(&self, settings: &[SharedSetting]) -> Result<()>;

    /// Checks whether requests can be served: the database accepts writes, its schema works with this version
    /// of the storage, and its disk has enough free space for more rows. A check is skipped only if another
    /// one failed. After [`close`](Self::close), the check of the database fails.
    async fn check_ready(&self) -> StorageReadiness;

    /// Returns the current time of the storage clock, exact to the microsecond, or `None` if the storage has
    /// no clock other than that of this host. The time must not be the start time of a transaction.
    async fn current_time(&self) -> Result<Option<OffsetDateTime>> {
        Ok(None)
    }

    /// Closes open resources after the last request.
    async fn close(&self);
}
