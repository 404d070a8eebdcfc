//! Storages whose tables have another prefix, beside others in one file.

use std::{path::Path, sync::Arc};

use referral_core::{
    ListUsers, ReferralService,
    sms::DevelopmentSender,
    storage::{MaintenanceStorage as _, Storage},
};
use referral_sqlx::{ConnectError, SqliteOptions, SqliteStorage};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tempfile::TempDir;

use crate::{service, sign_in::enter};

mod beside_another_storage {
    referral_core::conformance!(several: super::stores);
}

fn options(prefix: &str) -> SqliteOptions {
    let mut options = SqliteOptions::default();
    prefix.clone_into(&mut options.table_prefix);
    options
}

async fn open(directory: &Path, prefix: &str) -> Result<SqliteStorage, ConnectError> {
    SqliteStorage::connect(&crate::url_in(directory), &options(prefix)).await
}

/// Opens `count` stores on a file that also has the tables with the default prefix.
async fn stores(count: usize) -> (Vec<Arc<dyn Storage>>, TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    open(directory.path(), "referral_").await.expect("a new file").close().await;
    let mut stores: Vec<Arc<dyn Storage>> = Vec::new();
    for _ in 0..count {
        stores.push(Arc::new(open(directory.path(), "my_referral_").await.expect("a new prefix")));
    }
    (stores, directory)
}

/// Returns the names of the tables, indexes and triggers in the file that do not have the prefix.
async fn names_without(directory: &Path, prefix: &str) -> Vec<String> {
    let mut connection = crate::raw(&crate::url_in(directory)).await;
    let names = connection.fetch_all("SELECT name FROM sqlite_master").await.expect("names");
    let names = names.iter().map(|row| row.get::<String, _>(0));
    names.filter(|name| !name.starts_with(prefix) && !name.starts_with("sqlite_")).collect()
}

#[tokio::test]
async fn all_names_have_the_prefix() {
    for prefix in ["a", "other_", "referral_referral_", &"x".repeat(32)] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let storage = open(directory.path(), prefix).await.expect("a new file");
        let referral = service::builder(Arc::new(storage), DevelopmentSender).build().expect("valid");
        enter(&referral, 1, None).await;
        assert_eq!(names_without(directory.path(), prefix).await, [""; 0], "{prefix}");
    }
}

#[tokio::test]
async fn storages_in_one_file_have_separate_users() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let service = async |prefix: &str| -> ReferralService {
        let storage = open(directory.path(), prefix).await.expect("opened");
        service::builder(Arc::new(storage), DevelopmentSender).build().expect("valid")
    };
    let (first, second) = (service("referral_").await, service("other_").await);
    let anna = enter(&first, 1, None).await;
    assert_eq!(second.find_user(anna.user.id).await.expect("a result"), None);
    let other = enter(&second, 1, None).await;
    assert!(other.created);
    for (referral, users) in [(&first, [anna.user]), (&second, [other.user])] {
        let found = referral.find_users(ListUsers::default()).await.expect("a page");
        assert_eq!((found.items.as_slice(), found.count), (users.as_slice(), 1));
        referral.check_ready().await.expect("ready");
    }
}

#[tokio::test]
async fn a_host_can_apply_the_migrations() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    open(directory.path(), "referral_").await.expect("a new file").close().await;
    let mut never = options("other_");
    never.migrate = false;
    let url = crate::url_in(directory.path());
    let missing = SqliteStorage::connect(&url, &never).await.err().expect("missing").to_string();
    assert!(missing.contains("other_migrations"), "{missing}");
    let mut connection = crate::raw(&url).await;
    for migration in SqliteStorage::migrations("other_").expect("a prefix") {
        connection.execute(AssertSqlSafe(migration.sql)).await.expect("applied");
    }
    SqliteStorage::connect(&url, &never).await.expect("nothing is missing").close().await;
    open(directory.path(), "other_").await.expect("nothing is applied again").close().await;
}

#[tokio::test]
async fn an_invalid_prefix_is_rejected_before_the_file_is_created() {
    for prefix in ["", "Other_", "other-", "other\"", "a'; DROP TABLE referral_users; --", "sqlite_", "\0"] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let opened = open(directory.path(), prefix).await.err();
        assert!(matches!(opened, Some(ConnectError::InvalidTablePrefix { .. })), "{prefix}");
        assert!(matches!(SqliteStorage::migrations(prefix), Err(ConnectError::InvalidTablePrefix { .. })));
        assert_eq!(directory.path().read_dir().expect("a directory").count(), 0);
    }
}
