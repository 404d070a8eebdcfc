//! Keys and settings that processes share, retention, and readiness.

use async_trait::async_trait;
use referral_core::{
    CodeRequest, Session,
    keys::KeyMismatch,
    storage::{
        AttackCheck, Challenge, Counter, Decided, Decision, GlobalCounterFacts, GlobalCounterQuery,
        KeyRegistration, MaintenanceStorage, RegisteredKey, Result, Retention, SharedSetting,
        StorageReadiness,
    },
};
use time::OffsetDateTime;

use crate::{
    RedisStorage,
    counters::COUNT,
    documents::{Document, Message, time_of},
};

/// Key of the registered keys.
const KEYS: &str = "keys";

/// Key of the shared settings.
const SETTINGS: &str = "settings";

/// Key that the readiness check writes.
const READY: &str = "ready";

#[async_trait]
impl MaintenanceStorage for RedisStorage {
    async fn check_attack(&self, check: &AttackCheck) -> Result<bool> {
        self.transaction(|mut tx| async move {
            let Decision { writes, outcome } =
                check.decide(&tx.global_counters(check.global_counters()).await?);
            tx.record_attack(writes).await?;
            tx.commit(outcome).await
        })
        .await
    }

    async fn global_counters(&self, query: GlobalCounterQuery) -> Result<GlobalCounterFacts> {
        self.start().await?.global_counters(query).await
    }

    async fn delete_expired(&self, retention: &Retention) -> Result<u64> {
        let Retention {
            ended_before,
            global_counters_before,
            messages_before,
            code_requests_before,
            batch_size,
        } = *retention;
        Ok(self.delete_ended::<Challenge>(ended_before, batch_size).await?
            + self.delete_ended::<Session>(ended_before, batch_size).await?
            + self.delete_ended::<Counter>(ended_before, batch_size).await?
            + self.delete_ended::<Message>(messages_before, batch_size).await?
            + self.delete_ended::<CodeRequest>(code_requests_before, batch_size).await?
            + self.delete_counts(global_counters_before, batch_size).await?)
    }

    async fn registered_keys(&self) -> Result<Vec<RegisteredKey>> {
        self.transaction(|mut tx| async move {
            let keys = tx.value(KEYS).await?.unwrap_or_default();
            tx.commit(keys).await
        })
        .await
    }

    async fn register_keys(&self, registration: &KeyRegistration) -> Decided<(), KeyMismatch> {
        self.transaction(|mut tx| async move {
            let mut keys: Vec<RegisteredKey> = tx.value(KEYS).await?.unwrap_or_default();
            let Decision { writes, outcome } = registration.decide(&keys);
            for changed in writes {
                keys.retain(|key| (key.purpose, &key.id) != (changed.purpose, &changed.id));
                keys.push(changed);
            }
            tx.set(KEYS, &keys)?;
            tx.commit(outcome).await
        })
        .await
    }

    async fn shared_settings(&self) -> Result<Vec<SharedSetting>> {
        self.transaction(|mut tx| async move {
            let settings = tx.value(SETTINGS).await?.unwrap_or_default();
            tx.commit(settings).await
        })
        .await
    }

    async fn record_settings(&self, settings: &[SharedSetting]) -> Result<()> {
        self.transaction(|mut tx| async move {
            let mut recorded: Vec<SharedSetting> = tx.value(SETTINGS).await?.unwrap_or_default();
            recorded.retain(|known| settings.iter().all(|setting| setting.name != known.name));
            recorded.extend_from_slice(settings);
            tx.set(SETTINGS, &recorded)?;
            tx.commit(()).await
        })
        .await
    }

    /// A write shows that Redis can be reached, is not a replica, and has memory for more values. There is no
    /// schema to check: the serialized form stays readable by later versions.
    async fn check_ready(&self) -> StorageReadiness {
        let write = self.transaction(|mut tx| async move {
            tx.set(READY, &true)?;
            tx.commit(()).await
        });
        write.await.into()
    }

    async fn current_time(&self) -> Result<Option<OffsetDateTime>> {
        let mut read = redis::pipe();
        read.cmd("TIME");
        let ((seconds, micros),): ((i64, i64),) = self.start().await?.query(&read).await?;
        Ok(time_of(seconds * 1_000_000 + micros))
    }

    async fn close(&self) {
        self.pool.close();
    }
}

impl RedisStorage {
    /// Deletes a batch of documents of one kind that ended before a time, and returns their number.
    async fn delete_ended<D: Document>(&self, before: OffsetDateTime, batch_size: u32) -> Result<u64> {
        self.transaction(|mut tx| async move {
            let ids = tx.ended(D::KIND, before, batch_size).await?;
            let mut documents: Vec<D> = tx.get_all(&ids).await?;
            // Another operation may have continued a session or counter after its end was read.
            documents.retain(|document| document.ends_at().is_some_and(|end| end < before));
            for document in &documents {
                tx.delete(document);
            }
            tx.commit(documents.len() as u64).await
        })
        .await
    }

    /// Deletes a batch of the counts of the whole service that are older than a time.
    async fn delete_counts(&self, before: OffsetDateTime, batch_size: u32) -> Result<u64> {
        self.transaction(|mut tx| async move {
            let ids = tx.ended(COUNT, before, batch_size).await?;
            let keys: Vec<_> = ids.iter().map(|id| format!("{COUNT}/{id}")).collect();
            let counts: Vec<Option<i64>> = tx.load(&keys, true).await?;
            for (id, key) in ids.iter().zip(&keys) {
                tx.remove(key);
                tx.remove_end(COUNT, id);
            }
            tx.commit(counts.into_iter().flatten().count() as u64).await
        })
        .await
    }
}
