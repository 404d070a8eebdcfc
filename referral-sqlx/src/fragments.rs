//! Statements that are composed of fragments. Each fragment has its own parameters, `$1` and following.

use std::fmt::Write as _;

use sqlx::{
    Arguments as _, AssertSqlSafe, Database, Encode, IntoArguments, Type, error::BoxDynError, query::Query,
};

/// Text of a statement with the values of its parameters.
pub(crate) struct Composed<DB: Database> {
    pub(crate) sql: String,
    values: Result<DB::Arguments, BoxDynError>,
    parameters: usize,
}

impl<DB: Database> Composed<DB> {
    pub(crate) fn new() -> Self {
        Self { sql: String::new(), values: Ok(DB::Arguments::default()), parameters: 0 }
    }

    /// Appends a fragment, and numbers its parameters after those of the fragments before it. The caller binds
    /// their values next, in the order of their numbers.
    pub(crate) fn push(&mut self, fragment: &str) -> &mut Self {
        let mut parts = fragment.split('$');
        self.sql += parts.next().unwrap_or_default();
        let mut own = 0;
        for part in parts {
            let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
            let number = part[..part.len() - rest.len()].parse().unwrap_or(0);
            own = own.max(number);
            let _ = write!(self.sql, "${}{rest}", self.parameters + number);
        }
        self.parameters += own;
        self
    }

    pub(crate) fn bind<'v, T>(&mut self, value: T) -> &mut Self
    where
        T: Encode<'v, DB> + Type<DB>,
    {
        if let Ok(values) = &mut self.values
            && let Err(error) = values.add(value)
        {
            self.values = Err(error);
        }
        self
    }

    pub(crate) fn into_query(self) -> sqlx::Result<Query<'static, DB, DB::Arguments>>
    where
        DB::Arguments: IntoArguments<DB>,
    {
        Ok(sqlx::query_with(AssertSqlSafe(self.sql), self.values.map_err(sqlx::Error::Encode)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_over_all_fragments() {
        let mut composed = Composed::<sqlx::Postgres>::new();
        composed.push("UPDATE a SET b = $2 WHERE id = $1 AND c = $12").push("; SELECT $1 WHERE d > 0");
        let expected = "UPDATE a SET b = $2 WHERE id = $1 AND c = $12; SELECT $13 WHERE d > 0";
        assert_eq!(composed.sql, expected);
    }
}
