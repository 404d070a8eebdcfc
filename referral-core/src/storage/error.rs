//! Errors and results of storage operations.

use crate::{error::refusal::Refusal, session::claims::ClaimsError};

/// Error of a storage operation. The transaction was rolled back. If the commit itself failed, it is unknown
/// whether the transaction was committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The database is unreachable or has no capacity for another request. A later attempt may succeed.
    #[error("the storage is unavailable")]
    Unavailable(#[source] BoxError),
    /// Other users have all invite codes that were generated for a new user.
    #[error("failed to create a user: all generated invite codes are taken")]
    InviteCodesExhausted,
    /// The function of the [custom claims](crate::ReferralServiceBuilder::claims) failed.
    #[error("failed to create the custom claims of a session")]
    Claims(#[from] ClaimsError),
    /// Any other failure, such as a statement that the database rejects or an invalid stored value.
    #[error("the storage operation failed")]
    Failed(#[source] BoxError),
}

/// Boxed source of an error, such as an error of the database driver.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Result of a storage operation.
pub type Result<T> = std::result::Result<T, StorageError>;

/// Result of a storage operation that applies a rule. The outer `Err` is a failure of the storage. The inner
/// `Err` is a refusal of the rule, after which the writes of the decision are committed.
pub type Decided<T, R = Refusal> = Result<std::result::Result<T, R>>;
