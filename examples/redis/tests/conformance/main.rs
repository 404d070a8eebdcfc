//! Conformance suite of the core, with several handles of the data in one Redis server, and failures of the
//! server.

mod failures;
mod server;

use std::sync::Arc;

use referral_core::storage::{MemoryStorage, Storage};
use referral_example_redis::RedisStorage;

referral_core::conformance!(several: async |count| (storages(count), ()));

/// Opens `count` handles of the same empty data. Without a server, which is reported, the suite runs on
/// [`MemoryStorage`].
fn storages(count: usize) -> Vec<Arc<dyn Storage>> {
    let Some((url, prefix)) = server::empty_database() else {
        let memory: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        return vec![memory; count];
    };
    let open = || RedisStorage::new(url, &prefix).expect("the URL is valid");
    (0..count).map(|_| Arc::new(open()) as Arc<dyn Storage>).collect()
}
