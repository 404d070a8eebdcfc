//! Errors and results of storage operations.

use crate::error::refusal::Refusal;

/// Error returned by a storage backend. The transaction was rolled back, unless the failure happened during
/// commit; then the outcome is unknown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The database is unreachable or has no capacity for another request. A later attempt may succeed.
    #[error("the storage is unavailable")]
    Unavailable(#[source] BoxError),
    /// All candidate invite codes of a new user are taken.
    #[error("all invite codes generated for a new user are taken")]
    InviteCodesExhausted,
    /// Any other failure, such as a statement that the database rejects or an invalid stored value.
    #[error("the storage operation failed")]
    Failed(#[source] BoxError),
}

/// Error of the database behind the storage.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Result of a storage operation.
pub type Result<T> = std::result::Result<T, StorageError>;

/// Result of a storage operation that applies a rule. The inner `Err` is a refusal.
pub type Decided<T, R = Refusal> = Result<std::result::Result<T, R>>;
