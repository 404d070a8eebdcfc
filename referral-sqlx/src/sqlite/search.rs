//! Search index, which maps grams to users.

use std::fmt::Write as _;

use referral_core::{
    User,
    storage::{Gram, Result, SearchKeys, SearchTerm},
};
use sqlx::SqliteConnection;

use super::{rows, statements};
use crate::error::failure;

/// Adds a new user to the index.
pub(super) async fn add(connection: &mut SqliteConnection, user: &User) -> Result<()> {
    write(connection, statements::NEW_GRAMS, user).await
}

/// Replaces the grams of a user.
pub(super) async fn put(connection: &mut SqliteConnection, user: &User) -> Result<()> {
    write(connection, statements::PUT_GRAMS, user).await
}

async fn write(connection: &mut SqliteConnection, statement: &'static str, user: &User) -> Result<()> {
    let words: Vec<_> = SearchKeys::of(user).grams().into_iter().map(word).collect();
    let write = sqlx::query(statement).bind(user.id.0).bind(words.join(" "));
    write.execute(connection).await.map_err(failure)?;
    Ok(())
}

/// Fills the index with the users that are older than the index.
pub(super) async fn fill(connection: &mut SqliteConnection) -> Result<()> {
    let mut last: i64 = 0;
    loop {
        let users = sqlx::query(statements::USERS_AFTER_NUMBER).bind(last);
        let users = users.fetch_all(&mut *connection).await.map_err(failure)?;
        if users.is_empty() {
            return Ok(());
        }
        for row in &users {
            last = rows::get(row, "number")?;
            put(connection, &rows::user(row)?).await?;
        }
    }
}

/// Returns the expression that finds all candidates for a match of every term in the index. Words need no
/// escaping, because they have letters and digits only.
pub(super) fn expression(terms: &[SearchTerm]) -> String {
    let mut expression = String::new();
    for term in terms {
        let joint = if expression.is_empty() { "" } else { " AND " };
        let public = all_of(&term.public_grams());
        let _ = match term.private_grams() {
            Some(private) => write!(expression, "{joint}(({public}) OR ({}))", all_of(&private)),
            None => write!(expression, "{joint}({public})"),
        };
    }
    expression
}

fn all_of(grams: &[Gram]) -> String {
    grams.iter().map(|gram| word(*gram)).collect::<Vec<_>>().join(" AND ")
}

/// Formats a gram as a word. It starts with a letter, so that it is not parsed as a number.
fn word(gram: Gram) -> String {
    format!("g{gram:x}")
}
