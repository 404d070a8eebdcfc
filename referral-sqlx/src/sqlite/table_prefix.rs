//! Prefix of the names of the tables.

use std::{borrow::Cow, sync::Arc};

use sqlx::{SqlSafeStr, SqlStr};

use crate::{
    error::ConnectError,
    identifier::{has_plain_characters, rename_in},
};

/// Prefix in the text of all statements. No statement contains it in another place than in a name.
pub(super) const DEFAULT: &str = "referral_";

/// Maximum length, so that names stay readable. SQLite has no limit.
const MAX_BYTES: usize = 32;

/// Prefix of the names of tables, indexes and triggers. Clones share the text.
#[derive(Clone)]
pub(super) struct TablePrefix {
    /// `None` for the prefix that the statements have.
    custom: Option<Arc<str>>,
}

impl TablePrefix {
    /// Checks the prefix.
    pub(super) fn parse(prefix: &str) -> Result<Self, ConnectError> {
        let is_valid = has_plain_characters(prefix, MAX_BYTES)
            && prefix.starts_with(|first: char| first.is_ascii_lowercase())
            && !prefix.starts_with("sqlite_");
        if !is_valid {
            return Err(ConnectError::InvalidTablePrefix { prefix: prefix.to_owned() });
        }
        Ok(Self { custom: (prefix != DEFAULT).then(|| prefix.into()) })
    }

    /// Replaces the prefix in the text of statements.
    pub(super) fn rename<'s>(&self, statements: &'s str) -> Cow<'s, str> {
        match &self.custom {
            None => Cow::Borrowed(statements),
            Some(prefix) => Cow::Owned(statements.replace(DEFAULT, prefix)),
        }
    }

    /// Replaces the prefix in a statement.
    pub(super) fn rename_in(&self, statement: impl SqlSafeStr) -> SqlStr {
        rename_in(statement, |text| self.rename(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_start_of_a_plain_identifier() {
        for prefix in ["referral_", "auth_", "a", "a1", &"a".repeat(MAX_BYTES)] {
            let parsed = TablePrefix::parse(prefix).expect(prefix);
            assert_eq!(parsed.rename("referral_users"), format!("{prefix}users"));
        }
        for prefix in [
            "",
            "_a",
            "1a",
            "Auth_",
            "a b",
            "a\"",
            "a'",
            "a`",
            "a[",
            "a.",
            "a;--",
            "a\0",
            "a-",
            "авт_",
            "sqlite_",
            "sqlite_a",
            &"a".repeat(MAX_BYTES + 1),
        ] {
            let error = TablePrefix::parse(prefix).err().expect(prefix).to_string();
            assert!(error.contains("prefix"), "{error}");
        }
    }

    #[test]
    fn the_prefix_is_replaced_once_and_everywhere() {
        let sql = "SELECT referral_users.id FROM referral_users WHERE referral_user_ngrams MATCH $1";
        let renamed =
            "SELECT my_referral_users.id FROM my_referral_users WHERE my_referral_user_ngrams MATCH $1";
        assert_eq!(TablePrefix::parse("my_referral_").expect("valid").rename(sql), renamed);
        assert_eq!(TablePrefix::parse(DEFAULT).expect("valid").rename(sql), sql);
    }
}
