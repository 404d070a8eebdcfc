//! Test that a deleted user leaves no personal data in the tables.

use sqlx::AssertSqlSafe;

use crate::{
    erasure::{assert_erased, delete_a_user},
    harness::Harness,
};

#[tokio::test]
async fn a_deleted_user_leaves_no_personal_data() {
    let Some(mut harness) = Harness::new().await else { return };
    let deleted = delete_a_user(&harness.referral).await;
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'referral'";
    let tables: Vec<String> =
        sqlx::query_scalar(tables).fetch_all(&mut harness.operator).await.expect("tables");
    let mut dumped = Vec::new();
    for table in tables {
        let rows =
            AssertSqlSafe(format!("SELECT coalesce(string_agg(t::text, ' '), '') FROM referral.{table} t"));
        let values: String = sqlx::query_scalar(rows).fetch_one(&mut harness.operator).await.expect("values");
        dumped.push((table, values));
    }
    assert_erased(&dumped);
    let erased = "SELECT count(*) FROM referral.users WHERE id = $1 AND erased_at IS NOT NULL";
    let erased: i64 =
        sqlx::query_scalar(erased).bind(deleted.0).fetch_one(&mut harness.operator).await.expect("a count");
    assert_eq!(erased, 1);
}
