//! Conformance suite of the core with one store, and with several stores that share a file.

use std::sync::Arc;

use referral_core::storage::Storage;
use tempfile::TempDir;

mod one_store {
    referral_core::conformance!(super::store());
}

mod several_stores {
    referral_core::conformance!(several: super::stores);
}

/// Opens `count` stores sequentially on the same new file.
async fn stores(count: usize) -> (Vec<Arc<dyn Storage>>, TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = crate::url_in(directory.path());
    let mut stores = Vec::new();
    for _ in 0..count {
        stores.push(referral_sqlx::connect(&url).await.expect("a new file"));
    }
    (stores, directory)
}

async fn store() -> (Arc<dyn Storage>, TempDir) {
    let (mut stores, directory) = stores(1).await;
    (stores.remove(0), directory)
}
