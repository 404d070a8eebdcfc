//! The storage in memory passes the suite that every storage must pass.

use std::sync::Arc;

use referral_core::storage::MemoryStorage;

referral_core::conformance!(async { (Arc::new(MemoryStorage::new()), ()) });
