//! Classification of the errors of PostgreSQL by their codes.

use std::borrow::Cow;

/// Returns `true` if the same operation may succeed later: a conflict with another transaction, a broken
/// connection, too many connections, too little memory or disk space, a statement that took too long, or a
/// standby that cannot write.
pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    let is_short_of = |code: &str| code.starts_with("53") || matches!(code, "57014" | "55P03");
    is_aborted(error)
        || is_broken(error)
        || is_of_standby(error)
        || code(error).is_some_and(|code| is_short_of(&code))
}

/// Returns `true` if the database aborted the transaction because of another one: a serialization failure or
/// a deadlock.
pub(crate) fn is_aborted(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01"))
}

/// Returns `true` if the server is a standby. A primary becomes one in a switchover. Nothing was written.
pub(super) fn is_of_standby(error: &sqlx::Error) -> bool {
    code(error).as_deref() == Some("25006")
}

/// Returns `true` if the connection is broken, or the server is shutting down.
pub(super) fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::BeginFailed => true,
        _ => code(error).is_some_and(|code| {
            // Errors of class 57 that an operator or a crash causes, a transaction that was idle for too
            // long, and connection failures.
            matches!(&*code, "57P01" | "57P02" | "57P03" | "57P05" | "25P03") || code.starts_with("08")
        }),
    }
}

/// Returns `true` if the server accepts no more connections for now. Nothing was written.
pub(super) fn has_no_free_connection(error: &sqlx::Error) -> bool {
    code(error).as_deref() == Some("53300")
}

/// Returns the error code (`SQLSTATE`) if the database returned the error.
pub(super) fn code(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error()?.code()
}
