//! Tests of opening a database, and of the errors if it cannot be opened.

use referral_core::storage::MaintenanceStorage as _;
use referral_sqlx::{ConnectError, PostgresOptions, PostgresStorage, SchemaError, connect};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::server::Database;

#[tokio::test]
async fn concurrent_startup_on_an_empty_database_succeeds() {
    for migration_lock in [true, false] {
        let Some(database) = Database::create().await else { return };
        let starts = (0..6).map(|_| {
            let url = database.url.clone();
            tokio::spawn(async move {
                let mut options = PostgresOptions::default();
                options.migration_lock = migration_lock;
                options.max_connections = 2;
                PostgresStorage::connect(&url, &options).await
            })
        });
        for start in starts.collect::<Vec<_>>() {
            let storage = start.await.expect("no panic").expect("opened");
            storage.check_ready().await.into_result().expect("ready");
        }
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_an_error_with_its_reason() {
    let Some(database) = Database::create().await else { return };
    let refused =
        async |url: &str, options: &PostgresOptions| match PostgresStorage::connect(url, options).await {
            Ok(_) => panic!("{url} was opened"),
            Err(error) => error,
        };
    let usual = PostgresOptions::default();
    assert!(matches!(refused("postgres://[", &usual).await, ConnectError::InvalidUrl(_)));
    let secret = "postgres://postgres:hunter2@127.0.0.1:1/nowhere";
    let error = refused(secret, &usual).await;
    assert!(matches!(error, ConnectError::NotReached(_)));
    assert!(!format!("{error} {error:?}").contains("hunter2"));

    let mut pooled = usual.clone();
    pooled.transaction_pooler = true;
    let mut unmigrated = usual.clone();
    unmigrated.migrate = false;
    for options in [pooled, unmigrated] {
        let error = refused(&database.url, &options).await;
        assert!(matches!(error, ConnectError::Schema(SchemaError::Missing { version: 1, .. })), "{error}");
    }

    let mut operator = PgConnection::connect(&database.url).await.expect("a connection");
    let latin = format!("{}_latin", database.url.rsplit('/').next().expect("a name"));
    let create =
        format!("CREATE DATABASE {latin} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    operator.execute(AssertSqlSafe(create)).await.expect("created");
    let url = format!("{}_latin", database.url);
    assert!(matches!(refused(&url, &usual).await, ConnectError::NotUtf8 { .. }));
    operator.execute(AssertSqlSafe(format!("DROP DATABASE {latin} WITH (FORCE)"))).await.expect("dropped");
}

#[tokio::test]
async fn other_tables_are_not_changed_and_a_newer_schema_is_rejected_unless_compatible() {
    let Some(database) = Database::create().await else { return };
    let mut owner = PgConnection::connect(&database.url).await.expect("a connection");
    owner
        .execute("CREATE TABLE users (id int); CREATE TABLE _sqlx_migrations (version int)")
        .await
        .expect("created");
    let storage = connect(&database.url).await.expect("opened next to other tables");
    storage.check_ready().await.into_result().expect("ready");

    let newer = async |owner: &mut PgConnection, oldest_program: &str| {
        let sql = format!(
            "DELETE FROM referral._migrations WHERE version = 999; \
             DELETE FROM referral.migration_compatibility WHERE version = 999; \
             INSERT INTO referral._migrations (version, description, success, checksum, execution_time) \
             VALUES (999, 'from the future', TRUE, '', 0); \
             INSERT INTO referral.migration_compatibility (version, oldest_program) VALUES (999, '{oldest_program}')"
        );
        owner.execute(AssertSqlSafe(sql)).await.expect("inserted");
    };
    newer(&mut owner, env!("CARGO_PKG_VERSION")).await;
    storage.check_ready().await.into_result().expect("still ready");
    connect(&database.url)
        .await
        .expect("opened by an older program")
        .check_ready()
        .await
        .into_result()
        .expect("ready");

    newer(&mut owner, "99.0.0").await;
    let readiness = storage.check_ready().await;
    assert!(readiness.database.is_passed() && !readiness.schema.is_passed(), "{readiness:?}");
    let error = connect(&database.url).await.err().expect("a newer program is needed").to_string();
    for part in ["99.0.0", env!("CARGO_PKG_VERSION"), "migration 999 in referral._migrations"] {
        assert!(error.contains(part), "{error}");
    }
}
