//! Name of the schema that contains the tables.

use std::{borrow::Cow, sync::Arc};

use sqlx::{SqlSafeStr, SqlStr};

use crate::{
    error::ConnectError,
    identifier::{has_plain_characters, rename_in},
};

/// Name of the schema in the text of all statements.
pub(super) const DEFAULT: &str = "referral";

/// Longest name that PostgreSQL does not shorten.
const MAX_BYTES: usize = 63;

/// Name of the schema that contains the tables. Clones share the name.
#[derive(Clone)]
pub(super) struct Schema {
    /// `None` for the name that the statements have.
    custom: Option<Arc<str>>,
}

impl Schema {
    /// Checks the name.
    pub(super) fn parse(name: &str) -> Result<Self, ConnectError> {
        let is_valid = has_plain_characters(name, MAX_BYTES)
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && !name.is_empty()
            && !name.starts_with("pg_");
        if !is_valid {
            return Err(ConnectError::InvalidSchemaName { name: name.to_owned() });
        }
        Ok(Self { custom: (name != DEFAULT).then(|| name.into()) })
    }

    pub(super) fn name(&self) -> &str {
        self.custom.as_deref().unwrap_or(DEFAULT)
    }

    /// Replaces the name of the schema in the text of statements.
    pub(super) fn rename<'s>(&self, statements: &'s str) -> Cow<'s, str> {
        match &self.custom {
            None => Cow::Borrowed(statements),
            Some(name) => Cow::Owned(statements.replace("referral.", &format!("\"{name}\"."))),
        }
    }

    /// Replaces the name of the schema in a statement.
    pub(super) fn rename_in(&self, statement: impl SqlSafeStr) -> SqlStr {
        rename_in(statement, |text| self.rename(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_plain_identifier() {
        for name in ["referral", "auth", "_a1", &"a".repeat(MAX_BYTES)] {
            assert_eq!(
                Schema::parse(name).map(|schema| schema.name().to_owned()).ok().as_deref(),
                Some(name)
            );
        }
        for name in
            ["", "1a", "Auth", "a b", "a\"b", "a.b", "a;b", "авт", "pg_auth", &"a".repeat(MAX_BYTES + 1)]
        {
            let error = Schema::parse(name).err().expect(name).to_string();
            assert!(error.contains("schema"), "{error}");
        }
    }

    #[test]
    fn the_name_is_replaced_in_statements() {
        let schema = Schema::parse("auth").expect("a name");
        let sql = "SELECT referral.f(id) FROM referral.users AS referrals";
        assert_eq!(schema.rename(sql), r#"SELECT "auth".f(id) FROM "auth".users AS referrals"#);
        assert_eq!(Schema::parse(DEFAULT).expect("a name").rename(sql), sql);
    }
}
