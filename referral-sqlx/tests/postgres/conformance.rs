//! The suite of the core, over one pool and over several that share a database.

use std::sync::Arc;

use referral_core::storage::{MemoryStorage, Storage};
use referral_sqlx::PostgresOptions;

use crate::{
    in_turn::InTurn,
    server::{Database, behind_pooler},
};

mod one_pool {
    referral_core::conformance!(super::stores(1));
}

mod three_pools {
    referral_core::conformance!(super::stores(3));
}

mod behind_a_pooler {
    referral_core::conformance!(super::pooled_store());
}

/// So many stores on the same new database. Where there is no server, which has been said, the
/// cases run on what they have been seen to pass.
async fn stores(count: usize) -> (Arc<InTurn>, Option<Database>) {
    let Some(database) = Database::create().await else {
        return (InTurn::new(vec![Arc::new(MemoryStorage::new())]), None);
    };
    let mut stores: Vec<Arc<dyn Storage>> = Vec::new();
    for _ in 0..count {
        stores.push(referral_sqlx::connect(&database.url).await.expect("a new database"));
    }
    (InTurn::new(stores), Some(database))
}

/// A store that reaches its new database through a pooler in transaction mode.
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
    let store = referral_sqlx::connect_postgres(&url, &options).await.expect("a new database");
    (store, Some(database))
}
