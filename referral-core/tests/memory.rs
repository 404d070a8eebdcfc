//! Conformance tests of the in-memory storage.

use std::sync::Arc;

use referral_core::storage::MemoryStorage;

referral_core::conformance!(async { (Arc::new(MemoryStorage::new()), ()) });
