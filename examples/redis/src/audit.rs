//! Audit log.

use async_trait::async_trait;
use redis::Value;
use referral_core::{
    User, UserId,
    audit::AuditEntry,
    storage::{AuditPage, AuditQuery, AuditStorage, Counter, Result, UnlockRequest},
};

use crate::{
    RedisStorage,
    documents::{Document, list, owner},
    failure,
    transaction::{ALL, Transaction, ends},
};

#[async_trait]
impl AuditStorage for RedisStorage {
    /// Reads all entries, or all entries about the user of the query.
    async fn audit_log(&self, query: &AuditQuery) -> Result<AuditPage> {
        let mut tx = self.start().await?;
        let list = query.user.map_or_else(|| list::AUDIT.to_owned(), list::audit_of);
        let ids = tx.newest(&list, None, ALL).await?;
        let mut entries: Vec<AuditEntry> = tx.peek_all(&ids).await?;
        entries.retain(|entry| query.matches(entry));
        let limit = query.limit.get() as usize;
        let has_more = entries.len() > limit;
        entries.truncate(limit);
        Ok(AuditPage { entries, has_more })
    }

    async fn unlock_phone(&self, request: &UnlockRequest) -> Result<AuditEntry> {
        self.transaction(|mut tx| async move {
            for counter in tx.counters_of_phone(request).await? {
                tx.delete(&counter);
            }
            let entry = request.entry(tx.value(&owner::phone(&request.phone)).await?);
            tx.add_entry(Some(&entry))?;
            tx.commit(entry).await
        })
        .await
    }

    async fn add_audit_entry(&self, entry: &AuditEntry) -> Result<()> {
        self.transaction(|mut tx| async move {
            tx.add_entry_about_user(entry).await?;
            tx.commit(()).await
        })
        .await
    }
}

impl Transaction {
    /// Adds an entry to the audit log.
    pub(crate) fn add_entry(&mut self, entry: Option<&AuditEntry>) -> Result<()> {
        let Some(entry) = entry else { return Ok(()) };
        if let Some(user) = entry.user {
            self.set_member(&list::audit_of(user), entry.id, true);
        }
        self.put(entry)
    }

    /// Adds an entry, without its reason and its changes if the user has been deleted meanwhile.
    pub(crate) async fn add_entry_about_user(&mut self, entry: &AuditEntry) -> Result<()> {
        let is_deleted = match entry.user {
            Some(user) => self.get::<User>(user).await?.is_none(),
            None => false,
        };
        let entry = if is_deleted { entry.clone().erased() } else { entry.clone() };
        self.add_entry(Some(&entry))
    }

    /// Erases the entries about a user.
    pub(crate) async fn erase_entries(&mut self, user: UserId) -> Result<()> {
        let ids = self.newest(&list::audit_of(user), None, ALL).await?;
        for entry in self.get_all::<AuditEntry>(&ids).await? {
            self.put(&entry.erased())?;
        }
        Ok(())
    }

    /// Returns the counters of a phone. The ids of all counters are scanned, without watching them.
    async fn counters_of_phone(&mut self, request: &UnlockRequest) -> Result<Vec<Counter>> {
        let pairs = request.pairs();
        let mut ids = vec![request.counter().as_str().to_owned()];
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::pipe();
            scan.cmd("ZSCAN").arg(self.key(&ends(Counter::KIND))).arg(cursor);
            scan.arg("MATCH").arg(format!("{}*", pairs.start)).arg("COUNT").arg(1_000);
            let ((next, found),): ((u64, Vec<Value>),) = self.query(&scan).await?;
            // Each id is followed by its score.
            for id in found.into_iter().step_by(2) {
                ids.push(redis::from_redis_value(id).map_err(|error| failure(error.into()))?);
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        self.get_all(&ids).await
    }
}
