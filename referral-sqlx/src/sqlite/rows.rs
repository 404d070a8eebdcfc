//! Rows of SQLite, which has no type for times: they are microseconds.

use sqlx::{Sqlite, sqlite::SqliteRow};

use crate::values::time_from_micros;

crate::rows::read_rows!(Sqlite, SqliteRow, i64, time_from_micros);
