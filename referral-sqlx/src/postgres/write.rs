//! Statement that writes a decision in steps.
//!
//! Each step is a common table expression that changes or locks rows. It runs only if the step before it has
//! found all its rows. Concurrent statements therefore lock rows in the same order. If a fact of the decision
//! has changed, a step does not find its row, and the whole statement is undone.

use std::fmt::Write as _;

use referral_core::storage::Result;
use sqlx::{Postgres, postgres::PgRow};

use super::{lease::AnyLease, retry::write_error};
use crate::fragments::Composed;

/// Text and values of a statement or fragment.
pub(super) type Values = Composed<Postgres>;

/// Statement that writes a decision.
pub(super) struct Write {
    statement: Values,
    /// Condition that all steps so far have found their rows. Empty before the first step.
    after: String,
}

impl Write {
    pub(super) fn new() -> Self {
        Self { statement: Values::new(), after: String::new() }
    }

    /// Adds a step that must find one row. `fragment` contains `$after` as a condition, and returns its row.
    /// The caller binds the values of its parameters. No two steps have the same name.
    pub(super) fn step(&mut self, name: &str, fragment: &str) -> &mut Values {
        self.add(name, fragment);
        // The step finds no row if one of the steps before it has not found its row.
        self.after = format!("(SELECT count(*) FROM {name}) = 1");
        &mut self.statement
    }

    /// Adds a step that finds any number of rows.
    pub(super) fn optional_step(&mut self, name: &str, fragment: &str) -> &mut Values {
        self.add(name, fragment);
        let joint = if self.after.is_empty() { "" } else { " AND " };
        let _ = write!(self.after, "{joint}(SELECT count(*) FROM {name}) >= 0");
        &mut self.statement
    }

    fn add(&mut self, name: &str, fragment: &str) {
        let (joint, after) = if self.after.is_empty() { ("WITH", "TRUE") } else { (",", &*self.after) };
        self.statement.push(&format!("{joint} {name} AS ({})", fragment.replace("$after", after)));
    }

    /// Returns the statement, or `None` if it has no steps.
    pub(super) fn finish(self) -> Option<Values> {
        self.finish_with("")
    }

    /// Returns the statement with further columns of its row, which start with a comma.
    fn finish_with(mut self, columns: &str) -> Option<Values> {
        if self.after.is_empty() {
            return None;
        }
        self.statement.push(&format!(" SELECT referral.all_or_nothing({}){columns}", self.after));
        Some(self.statement)
    }

    /// Executes the steps, of which there is at least one, and returns a row with these columns. They can read
    /// the rows that the steps return, and start with a comma.
    pub(super) async fn fetch(self, lease: &mut AnyLease<'_>, columns: &str) -> Result<PgRow> {
        let statement = self.finish_with(columns).expect("the caller has added a step");
        lease.fetch_one(lease.compose(statement)?).await.map_err(write_error)
    }

    /// Executes the steps, if there are any.
    pub(super) async fn execute(self, lease: &mut AnyLease<'_>) -> Result<()> {
        match self.finish() {
            Some(statement) => lease.write_row(lease.compose(statement)?).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_depends_on_all_required_steps_before_it() {
        let mut write = Write::new();
        write.step("a", "SELECT 1 WHERE $after");
        write.optional_step("b", "SELECT 2 WHERE $after");
        write.step("c", "SELECT 3 WHERE $after");
        let expected = "WITH a AS (SELECT 1 WHERE TRUE), \
                        b AS (SELECT 2 WHERE (SELECT count(*) FROM a) = 1), \
                        c AS (SELECT 3 WHERE (SELECT count(*) FROM a) = 1 AND (SELECT count(*) FROM b) >= 0) \
                        SELECT referral.all_or_nothing((SELECT count(*) FROM c) = 1)";
        assert_eq!(write.finish().map(|statement| statement.sql).as_deref(), Some(expected));
        assert!(Write::new().finish().is_none());
    }
}
