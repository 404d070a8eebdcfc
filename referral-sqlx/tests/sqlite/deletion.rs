//! Test that a deleted user leaves no personal data in the file.

use std::{fs, path::Path, sync::Arc, time::Duration};

use referral_core::{policy::Policy, sms::DevelopmentSender, test_util::ManualClock};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use time::OffsetDateTime;

use crate::{
    erasure::{PERSONAL_DATA, PHONE, assert_erased, delete_a_user},
    raw, service, url_in,
};

/// Returns all tables, and each with all its values as SQL literals.
async fn dump(connection: &mut SqliteConnection) -> Vec<(String, String)> {
    let tables = "SELECT name, (SELECT group_concat('quote(\"' || name || '\")', ' || ') \
                                FROM pragma_table_info(t.name)) FROM sqlite_schema t WHERE type = 'table'";
    let tables: Vec<(String, String)> =
        sqlx::query_as(tables).fetch_all(&mut *connection).await.expect("tables");
    let mut dumped = Vec::new();
    for (table, columns) in tables {
        let rows = AssertSqlSafe(format!("SELECT coalesce(group_concat({columns}), '') FROM \"{table}\""));
        let values: String = sqlx::query_scalar(rows).fetch_one(&mut *connection).await.expect("values");
        dumped.push((table, values));
    }
    dumped
}

/// Asserts that the database file does not contain the texts, also not in pages that are not in use.
fn assert_absent(file: &Path, texts: &[&str]) {
    let bytes = fs::read(file).expect("readable");
    for text in texts {
        assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "the file has {text}");
    }
}

#[tokio::test]
async fn a_deleted_user_leaves_no_personal_data() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = url_in(directory.path());
    let storage = referral_sqlx::connect(&url).await.expect("a new file");
    let clock = ManualClock::new(OffsetDateTime::from_unix_timestamp(1_790_000_000).expect("a time"));
    let mut policy = Policy::standard();
    // Several codes are sent within a minute.
    policy.resend_interval = Duration::ZERO;
    policy.codes_per_phone = Policy::development().codes_per_phone;
    let builder = service::builder(storage, DevelopmentSender).policy(policy);
    let referral = builder.clock(Arc::new(clock.clone())).build().expect("valid");
    let deleted = delete_a_user(&referral).await;

    let mut connection = raw(&url).await;
    let tables = dump(&mut connection).await;
    assert_erased(&tables);
    let counters = tables.iter().find(|(table, _)| table == "referral_counters");
    assert!(counters.is_some_and(|(_, values)| values.contains(PHONE)), "the limits still apply");
    let erased = "SELECT count(*) FROM referral_users WHERE id = $1 AND erased_at IS NOT NULL";
    let erased: i64 =
        sqlx::query_scalar(erased).bind(deleted.0).fetch_one(&mut connection).await.expect("a count");
    assert_eq!(erased, 1);

    // The limits look back a month.
    clock.advance(Duration::from_hours(24 * 32));
    referral.run_maintenance().await.expect("deleted");
    assert!(dump(&mut connection).await.iter().all(|(_, values)| !values.contains(PHONE)));
    // An open connection would keep the log.
    connection.close().await.expect("closed");
    referral.close().await;
    let file = directory.path().join("referral.db");
    assert!(!file.with_extension("db-wal").exists(), "the log is deleted");
    assert_absent(&file, &PERSONAL_DATA);
    assert_absent(&file, &[PHONE]);
}
