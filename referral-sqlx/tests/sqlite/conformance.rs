//! Conformance suite of the core with one store, and with several stores that share a file.

use std::sync::Arc;

use tempfile::TempDir;

use crate::round_robin::RoundRobin;

mod one_store {
    referral_core::conformance!(super::stores(1));
}

mod three_stores {
    referral_core::conformance!(super::stores(3));
}

/// Opens `count` stores sequentially on the same new file.
async fn stores(count: usize) -> (Arc<RoundRobin>, TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = crate::url_in(directory.path());
    let mut stores = Vec::new();
    for _ in 0..count {
        stores.push(referral_sqlx::connect(&url).await.expect("a new file"));
    }
    (RoundRobin::new(stores), directory)
}
