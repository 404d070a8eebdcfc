//! Names of schemas and tables that a host chooses, and their replacement in the text of statements.

use std::borrow::Cow;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

/// Returns `true` if a name has at most this many bytes, and only lowercase letters of ASCII, digits and
/// underscores. Such a name needs no quotation, unless it starts with a digit.
pub(crate) fn has_plain_characters(name: &str, max_bytes: usize) -> bool {
    name.len() <= max_bytes
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Replaces names in a statement. If `rename` changes nothing, the statement is used as it is.
pub(crate) fn rename_in(
    statement: impl SqlSafeStr,
    rename: impl for<'s> FnOnce(&'s str) -> Cow<'s, str>,
) -> SqlStr {
    let statement = statement.into_sql_str();
    match rename(statement.as_str()) {
        Cow::Borrowed(_) => statement,
        Cow::Owned(renamed) => AssertSqlSafe(renamed).into_sql_str(),
    }
}
