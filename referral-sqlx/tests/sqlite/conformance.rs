//! The suite of the core, over one store and over several that share a file.

use std::sync::Arc;

use tempfile::TempDir;

use crate::in_turn::InTurn;

mod one_store {
    referral_core::conformance!(super::stores(1));
}

mod three_stores {
    referral_core::conformance!(super::stores(3));
}

/// So many stores, opened one by one on the same new file.
async fn stores(count: usize) -> (Arc<InTurn>, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = crate::url_in(folder.path());
    let mut stores = Vec::new();
    for _ in 0..count {
        stores.push(referral_sqlx::connect(&url).await.expect("a new file"));
    }
    (InTurn::new(stores), folder)
}
