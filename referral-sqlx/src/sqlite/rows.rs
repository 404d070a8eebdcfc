//! Conversion of SQLite rows. SQLite has no type for times, so they are stored as microseconds.

use sqlx::{Sqlite, sqlite::SqliteRow};

use crate::encoding::time_from_micros;

crate::rows::read_rows!(Sqlite, SqliteRow, i64, time_from_micros);
