//! Storage of the audit log.

use async_trait::async_trait;

use super::{AuditPage, AuditQuery, Result, UnlockRequest};
use crate::audit::AuditEntry;

/// Stores the audit log. The other traits add most of its entries, each in the transaction of its change. An
/// entry about a user who has been deleted meanwhile is stored
/// [without its reason and changes](crate::audit::AuditEntry::erased), except the entry about the deletion.
#[async_trait]
pub trait AuditStorage: Send + Sync + 'static {
    /// Returns a page of the audit log, newest first, which is in descending order of the ids.
    async fn audit_log(&self, query: &AuditQuery) -> Result<AuditPage>;

    /// Deletes the counters of a phone: the one with the key [`UnlockRequest::counter`], and those with keys in
    /// [`UnlockRequest::pairs`]. Adds and returns [`UnlockRequest::entry`], of which the user is the one with
    /// the phone, if there is one.
    async fn unlock_phone(&self, request: &UnlockRequest) -> Result<AuditEntry>;

    /// Adds an entry about an operation that changes no other data.
    async fn add_audit_entry(&self, entry: &AuditEntry) -> Result<()>;
}
