//! Tests of opening a file, and of the errors if it cannot be opened.

use std::path::Path;

use referral_core::storage::{MaintenanceStorage as _, StorageError};
use referral_sqlx::{ConnectError, SchemaError, SqliteOptions, SqliteStorage, connect};
use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::{raw, url_in};

async fn refused(url: &str) -> ConnectError {
    match connect(url).await {
        Ok(_) => panic!("{url} was opened"),
        Err(error) => error,
    }
}

async fn refused_path(path: &Path) -> ConnectError {
    match referral_sqlx::SqliteStorage::open(path, &SqliteOptions::default()).await {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

/// Sets the permissions of a file on Unix.
fn set_mode(path: &Path, mode: u32) {
    #[cfg(unix)]
    {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, permissions).expect("set");
    }
}

#[tokio::test]
async fn a_url_without_a_supported_scheme_is_rejected() {
    assert!(matches!(refused("referral.db").await, ConnectError::NoScheme));
    for url in ["mysql://localhost/referral", "SQLITE:referral.db", ":referral.db"] {
        assert!(matches!(refused(url).await, ConnectError::UnknownScheme { .. }), "{url}");
    }
    let error = refused("mysql://root:secret@localhost/referral").await;
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn a_database_in_memory_is_rejected_with_an_alternative() {
    for url in [
        "sqlite::memory:",
        "sqlite://:memory:",
        "sqlite:%3Amemory%3A",
        "sqlite:x.db?mode=memory",
        "sqlite::memory:?mode=rwc",
    ] {
        let error = refused(url).await;
        assert!(matches!(error, ConnectError::InMemory), "{url}: {error}");
        assert!(error.to_string().contains("MemoryStorage"));
    }
}

#[tokio::test]
async fn a_url_with_an_unsupported_parameter_or_path_is_rejected() {
    for url in [
        "sqlite:",
        "sqlite://",
        "sqlite:x.db?mode=ro",
        "sqlite:x.db?mode=rw&immutable=1",
        "sqlite:x.db?cache=shared",
        "sqlite:file:x.db",
        "sqlite:file%3Ax.db%3Fmode=memory",
    ] {
        let error = refused(url).await;
        assert!(matches!(error, ConnectError::UnsupportedUrl), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_file_is_created_only_if_the_url_and_the_directory_allow_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = url_in(directory.path());
    assert!(matches!(refused(&format!("{url}?mode=rw")).await, ConnectError::FileNotMade(_)));
    let absent = url_in(&directory.path().join("absent"));
    assert!(matches!(refused(&absent).await, ConnectError::FileNotMade(_)));

    connect(&format!("{url}?mode=rwc"))
        .await
        .expect("a new file")
        .check_ready()
        .await
        .into_result()
        .expect("ready");
    connect(&format!("{url}?mode=rw"))
        .await
        .expect("the same file")
        .check_ready()
        .await
        .into_result()
        .expect("ready");
}

#[tokio::test]
async fn special_characters_in_a_path_are_not_interpreted() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for name in ["100%41.db", "kind?mode=memory", "#1.db", ":memory:", "имя с пробелом.db"] {
        let path = directory.path().join(name);
        let store = referral_sqlx::SqliteStorage::open(&path, &SqliteOptions::default()).await.expect(name);
        store.check_ready().await.into_result().expect("ready");
        assert!(path.exists(), "{name}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_rejected() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("referral.db");
    std::fs::write(&path, "This is not a database, but it is long enough for one. ".repeat(100))
        .expect("written");
    set_mode(&path, 0o600);
    assert!(matches!(refused(&url_in(directory.path())).await, ConnectError::NotOpened(_)));
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_access_a_new_file() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = connect(&url_in(directory.path())).await.expect("a new file");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory.path()).expect("a directory") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", entry.path().display());
        names.push(entry.file_name());
    }
    names.sort();
    assert_eq!(names, ["referral.db", "referral.db-shm", "referral.db-wal"]);
    drop(store);
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_other_users_can_read_or_write_is_rejected() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = url_in(directory.path());
    // The store stays open, so that the files next to the database file are kept.
    let store = connect(&url).await.expect("a new file");
    for name in ["referral.db", "referral.db-wal", "referral.db-shm"] {
        let path = directory.path().join(name);
        for mode in [0o640, 0o604, 0o620, 0o602, 0o777] {
            set_mode(&path, mode);
            for error in [refused(&url).await, refused_path(&directory.path().join("referral.db")).await] {
                let text = error.to_string();
                assert!(
                    matches!(&error, ConnectError::FileExposed { path: of, mode: found }
                        if of.ends_with(name) && *found == mode),
                    "{name}: {text}"
                );
                assert!(text.contains(&format!("{mode:04o}")) && text.contains("chmod 600 "), "{text}");
            }
        }
        set_mode(&path, 0o600);
    }
    connect(&url).await.expect("correct permissions").check_ready().await.into_result().expect("ready");
    store.check_ready().await.into_result().expect("ready");
}

#[cfg(unix)]
#[tokio::test]
async fn the_target_of_a_symbolic_link_is_checked() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let file = elsewhere.path().join("real.db");
    let store =
        referral_sqlx::SqliteStorage::open(&file, &SqliteOptions::default()).await.expect("a new file");
    let link = directory.path().join("referral.db");
    std::os::unix::fs::symlink(&file, &link).expect("linked");
    drop(referral_sqlx::SqliteStorage::open(&link, &SqliteOptions::default()).await.expect("the same file"));
    for name in ["real.db", "real.db-wal"] {
        set_mode(&elsewhere.path().join(name), 0o644);
        assert!(matches!(refused_path(&link).await, ConnectError::FileExposed { .. }), "{name}");
        set_mode(&elsewhere.path().join(name), 0o600);
    }
    drop(store);
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_of_another_owner_is_rejected() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = url_in(directory.path());
    drop(connect(&url).await.expect("a new file"));
    // Only root can change the owner of a file. A unit test of the check needs no privileges.
    if std::os::unix::fs::chown(directory.path().join("referral.db"), Some(10_001), None).is_err() {
        return;
    }
    let error = refused(&url).await;
    assert!(matches!(error, ConnectError::FileOfOther { owner: 10_001, .. }), "{error}");
}

#[tokio::test]
async fn other_tables_are_not_changed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = url_in(directory.path());
    drop(connect(&url).await.expect("a new file"));
    let mut owner = raw(&url).await;
    let tables = "CREATE TABLE _sqlx_migrations (version INTEGER); INSERT INTO _sqlx_migrations VALUES (7); \
                  CREATE TABLE users (id INTEGER); CREATE INDEX users_first_name ON users (id)";
    sqlx::raw_sql(tables).execute(&mut owner).await.expect("created");
    let name = "SELECT group_concat(name) FROM sqlite_master WHERE name NOT LIKE '%referral_%' AND name NOT LIKE 'sqlite_%'";
    let names: String = sqlx::query_scalar(name).fetch_one(&mut owner).await.expect("names");
    assert_eq!(names, "_sqlx_migrations,users,users_first_name");
    connect(&url).await.expect("the same file").check_ready().await.into_result().expect("ready");
}

#[tokio::test]
async fn an_unexpected_schema_is_an_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = url_in(directory.path());
    let store = connect(&url).await.expect("a new file");
    store.check_ready().await.into_result().expect("ready");

    let mut owner = raw(&url).await;
    let newer = async |owner: &mut SqliteConnection, oldest_program: &str| {
        let sql = format!(
            "REPLACE INTO referral_migrations (version, description, success, checksum, execution_time) \
             VALUES (999, 'from the future', TRUE, x'00', 0); \
             REPLACE INTO referral_migration_compatibility (version, oldest_program) VALUES (999, '{oldest_program}')"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(owner).await.expect("inserted");
    };
    newer(&mut owner, env!("CARGO_PKG_VERSION")).await;
    store.check_ready().await.into_result().expect("still ready");
    connect(&url)
        .await
        .expect("opened by an older program")
        .check_ready()
        .await
        .into_result()
        .expect("ready");

    newer(&mut owner, "99.0.0").await;
    assert!(matches!(store.check_ready().await.into_result(), Err(StorageError::Failed(_))));
    let error = refused(&url).await;
    assert!(matches!(&error, ConnectError::Schema(SchemaError::Incompatible { .. })), "{error}");

    sqlx::raw_sql("DELETE FROM referral_migrations").execute(&mut owner).await.expect("deleted");
    assert!(matches!(store.check_ready().await.into_result(), Err(StorageError::Failed(_))));
    sqlx::raw_sql("DROP TABLE referral_migrations").execute(&mut owner).await.expect("dropped");
    assert!(matches!(store.check_ready().await.into_result(), Err(StorageError::Failed(_))));
}

#[tokio::test]
async fn a_file_is_not_migrated_if_migrations_are_disabled() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("referral.db");
    let mut options = SqliteOptions::default();
    options.migrate = false;
    let error = SqliteStorage::open(&path, &options).await.err().expect("an empty file");
    assert!(matches!(error, ConnectError::Schema(SchemaError::Missing { version: 1, .. })), "{error}");
    drop(SqliteStorage::open(&path, &SqliteOptions::default()).await.expect("migrated"));
    SqliteStorage::open(&path, &options).await.expect("nothing is missing");
}
