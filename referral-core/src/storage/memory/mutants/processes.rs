//! Storages that are correct in one process only.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync;

use super::{Call, Database, Mutant, State, Transaction, detects};
use crate::{
    conformance::{
        HANDLES, Interleaved, challenges, delivery, host, invitations, maintenance, profiles, sessions,
        sign_in,
    },
    storage::Storage,
};

/// Data that all handles share. Each access is atomic, but not the sequence of a read and a write.
type Shared = Arc<Mutex<State>>;

fn read(shared: &Shared) -> State {
    shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn write(shared: &Shared, data: State) {
    *shared.lock().unwrap_or_else(PoisonError::into_inner) = data;
}

/// Handle whose calls exclude each other, but not the calls of other handles.
struct LockPerHandle {
    shared: Shared,
    lock: sync::Mutex<()>,
}

impl LockPerHandle {
    fn new(shared: Shared) -> Mutant<Self> {
        Mutant(Self { shared, lock: sync::Mutex::default() })
    }
}

#[async_trait]
impl Database for LockPerHandle {
    async fn start(&self, _: Call<'_>) -> Transaction<'_> {
        let guard = self.lock.lock().await;
        let data = read(&self.shared);
        // Like the time between two statements, in which other tasks run.
        tokio::task::yield_now().await;
        Transaction::new(data, move |data| {
            write(&self.shared, data);
            drop(guard);
        })
    }
}

/// Handle that reads the shared data once, and keeps a copy of it.
struct CachePerHandle {
    shared: Shared,
    cache: sync::Mutex<Option<State>>,
}

impl CachePerHandle {
    fn new(shared: Shared) -> Mutant<Self> {
        Mutant(Self { shared, cache: sync::Mutex::default() })
    }
}

#[async_trait]
impl Database for CachePerHandle {
    async fn start(&self, _: Call<'_>) -> Transaction<'_> {
        let mut cache = self.cache.lock().await;
        let data = cache.take().unwrap_or_else(|| read(&self.shared));
        Transaction::new(data, move |data| {
            write(&self.shared, data.clone());
            *cache = Some(data);
        })
    }
}

/// Opens several handles of the same data.
fn several<S: Storage>(open: impl Fn(Shared) -> S) -> Arc<Interleaved<S>> {
    let shared = Shared::default();
    Arc::new(Interleaved::new((0..HANDLES).map(|_| Arc::new(open(Arc::clone(&shared)))).collect()))
}

/// Asserts that the storage passes the cases with one handle, and fails each of them with several.
macro_rules! assert_detected_with_several {
    ($storage:ident: $($module:ident::$case:ident)+) => {
        $(
            let one = Arc::new($storage::new(Shared::default()));
            assert!(!detects($module::$case, one), "{} with one handle", stringify!($case));
            assert!(detects($module::$case, several($storage::new)), "{}", stringify!($case));
        )+
    };
}

#[test]
fn a_lock_in_each_process_is_detected() {
    assert_detected_with_several! { LockPerHandle:
        challenges::parallel_requests_for_one_phone_send_one_code
        delivery::concurrent_duplicate_reports_emit_one_event
        host::parallel_claims_of_an_external_id_succeed_once
        host::parallel_creations_of_one_phone_create_one_user
        host::parallel_changes_of_different_fields_are_kept
        invitations::parallel_acceptances_by_one_invitee_record_one_inviter
        invitations::four_concurrent_acceptances_in_a_cycle_leave_no_loop
        maintenance::concurrent_startup_with_different_keys_is_rejected
        maintenance::parallel_promotions_create_one_user
        profiles::parallel_claims_of_an_email_succeed_once
        sign_in::hundred_parallel_redemptions_create_one_session
        sign_in::parallel_first_sign_ins_of_one_phone_create_one_user
    }
}

#[test]
fn a_cache_in_each_process_is_detected() {
    assert_detected_with_several! { CachePerHandle:
        sessions::own_sessions_are_listed_and_ended
        profiles::profile_is_edited_and_cleared
    }
}
