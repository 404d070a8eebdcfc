//! Conformance suite of the core with one pool, with several pools that share a database, and behind a
//! pooler.

use std::{sync::Arc, time::Duration};

use referral_core::storage::{MemoryStorage, Storage};
use referral_sqlx::{PostgresOptions, PostgresStorage};
use sqlx::PgPool;

use crate::server::{Database, behind_pooler};

mod one_pool {
    referral_core::conformance!(super::store());
}

mod several_pools {
    referral_core::conformance!(several: super::stores);
}

mod behind_a_pooler {
    referral_core::conformance!(super::pooled_store());
}

mod pool_of_the_host {
    referral_core::conformance!(super::store_of_host());
}

/// Opens `count` stores on the same new database. Without a server, which is reported, the suite runs on
/// [`MemoryStorage`].
async fn stores(count: usize) -> (Vec<Arc<dyn Storage>>, Option<Database>) {
    let Some(database) = Database::create().await else {
        let memory: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        return (vec![memory; count], None);
    };
    let mut stores = Vec::new();
    for _ in 0..count {
        stores.push(referral_sqlx::connect(&database.url).await.expect("a new database"));
    }
    (stores, Some(database))
}

async fn store() -> (Arc<dyn Storage>, Option<Database>) {
    let (mut stores, database) = stores(1).await;
    (stores.remove(0), database)
}

/// Opens a store on a new database through a pooler in transaction mode.
async fn pooled_store() -> (Arc<dyn Storage>, Option<Database>) {
    let Some(database) = Database::create().await else {
        return (Arc::new(MemoryStorage::new()), None);
    };
    let Some(url) = behind_pooler(&database) else {
        return (Arc::new(MemoryStorage::new()), None);
    };
    let mut options = PostgresOptions::default();
    options.transaction_pooler = true;
    options.migration_url = Some(database.url.clone());
    let store = PostgresStorage::connect(&url, &options).await.expect("a new database");
    (Arc::new(store), Some(database))
}

/// Opens a store with a pool of the host and a schema with another name.
async fn store_of_host() -> (Arc<dyn Storage>, Option<Database>) {
    let Some(database) = Database::create().await else {
        return (Arc::new(MemoryStorage::new()), None);
    };
    let pool = PgPool::connect(&database.url).await.expect("connected");
    let mut options = PostgresOptions::default();
    // A reserved word.
    options.schema = "user".into();
    // Hundreds of parallel requests wait longer on a busy machine.
    options.acquire_timeout = Duration::from_secs(30);
    let store = PostgresStorage::with_pool(pool, &options).await.expect("a new database");
    (Arc::new(store), Some(database))
}
