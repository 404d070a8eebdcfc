//! Limit of concurrent expensive lists, so that connections and cores remain for all other requests.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use referral_core::{
    UserId,
    storage::{Result, StorageError},
};
use tokio::{
    runtime::Handle,
    sync::{Mutex as CallerLock, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};

/// Default time limit of an expensive list. With a million users, typical searches take a few milliseconds.
/// A search that takes half a second is too broad to be useful, and it occupies a core that sign-ins need.
pub(crate) const SEARCH_TIMEOUT: Duration = Duration::from_millis(500);

/// Time that lists may use places before a place is closed for the same time. Most lists take less than one
/// millisecond, the precision of a timer, so a pause after each list would not be exact.
const PAUSE_AFTER: Duration = Duration::from_millis(10);

/// Longest pause, equal to the default time limit of a list. A database that did not respond for a long time
/// must not cause a longer pause.
const LONGEST_PAUSE: Duration = SEARCH_TIMEOUT;

/// Limits the number of concurrent expensive lists to the number of places. Each caller gets one place at a
/// time.
///
/// Callers wait in order of arrival. A caller with several requests first waits for its own previous request,
/// so that other callers wait for at most one of its lists.
///
/// After use, a place is closed for the time that it was used. Each place therefore uses half a core on
/// average. On a machine with two cores and one place, the other requests get three quarters of the CPU time.
pub(crate) struct Bulkhead {
    places: Arc<Semaphore>,
    /// Lock of each caller that waits for a place or has one.
    caller_locks: Mutex<HashMap<UserId, Weak<CallerLock<()>>>>,
    timeout: Duration,
    /// Time that places were used and have not been closed for yet.
    used: Arc<Mutex<Duration>>,
}

/// Place in a [`Bulkhead`]. Dropping it releases the place.
pub(crate) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    since: Instant,
    used: Arc<Mutex<Duration>>,
    _caller_lock: OwnedMutexGuard<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        *used += self.since.elapsed();
        if *used < PAUSE_AFTER {
            return;
        }
        let pause = std::mem::take(&mut *used).min(LONGEST_PAUSE);
        if let (Some(permit), Ok(runtime)) = (self.permit.take(), Handle::try_current()) {
            runtime.spawn(async move {
                sleep(pause).await;
                drop(permit);
            });
        }
    }
}

/// Error of a list that got no place in time.
#[derive(Debug, thiserror::Error)]
#[error("all places for expensive lists are in use")]
struct NoPlace;

impl Bulkhead {
    /// Creates a bulkhead with `places` places. Callers wait for a place for up to `timeout`.
    pub(crate) fn new(places: u32, timeout: Duration) -> Self {
        let places = usize::try_from(places).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(places)),
            caller_locks: Mutex::default(),
            timeout,
            used: Arc::default(),
        }
    }

    /// Waits for a place.
    pub(crate) async fn enter(&self, caller: UserId) -> Result<Place> {
        let lock = self.caller_lock(caller);
        let place = tokio::time::timeout(self.timeout, async {
            let lock = lock.lock_owned().await;
            let permit = Arc::clone(&self.places).acquire_owned().await.ok()?;
            let used = Arc::clone(&self.used);
            Some(Place { permit: Some(permit), since: Instant::now(), used, _caller_lock: lock })
        });
        place.await.ok().flatten().ok_or_else(|| StorageError::Unavailable(NoPlace.into()))
    }

    fn caller_lock(&self, caller: UserId) -> Arc<CallerLock<()>> {
        let mut caller_locks = self.caller_locks.lock().unwrap_or_else(PoisonError::into_inner);
        // There are at most as many entries as concurrent requests, so a full scan is cheap.
        caller_locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = caller_locks.get(&caller).and_then(Weak::upgrade).unwrap_or_default();
        caller_locks.insert(caller, Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use uuid::Uuid;

    use super::*;

    fn caller(number: u128) -> UserId {
        UserId(Uuid::from_u128(number))
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_waits_for_a_place_up_to_the_timeout() {
        let bulkhead = Bulkhead::new(1, Duration::from_secs(3));
        let place = bulkhead.enter(caller(1)).await.expect("a place");
        let refused = bulkhead.enter(caller(2)).await;
        assert!(matches!(refused, Err(StorageError::Unavailable(_))));
        drop(place);
        bulkhead.enter(caller(2)).await.expect("a place");
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_closed_for_the_time_that_it_was_used() {
        let bulkhead = Bulkhead::new(1, Duration::from_mins(1));
        let start = Instant::now();
        for (uses, milliseconds) in [(1, 500), (20, 1)] {
            for _ in 0..uses {
                let _place = bulkhead.enter(caller(1)).await.expect("a place");
                sleep(Duration::from_millis(milliseconds)).await;
            }
        }
        // Half a second and its pause, then ten times one millisecond and a pause, then the same again.
        bulkhead.enter(caller(1)).await.expect("a place");
        assert_eq!(start.elapsed(), Duration::from_millis(2 * (500 + 10 + 10)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_has_one_place_and_other_callers_wait_for_at_most_one_of_its_lists() {
        let bulkhead = Bulkhead::new(2, Duration::from_mins(1));
        let first = bulkhead.enter(caller(1)).await.expect("a place");
        let mut second = std::pin::pin!(bulkhead.enter(caller(1)));
        let mut third = std::pin::pin!(bulkhead.enter(caller(1)));
        assert!(
            second.as_mut().now_or_never().is_none(),
            "the second place must stay free for other callers"
        );
        assert!(third.as_mut().now_or_never().is_none());
        let others = bulkhead.enter(caller(2)).await.expect("a place");
        let mut waiting = std::pin::pin!(bulkhead.enter(caller(3)));
        assert!(waiting.as_mut().now_or_never().is_none());

        drop(first);
        let waiting = waiting.as_mut().now_or_never().expect("a place before the caller with several lists");
        assert!(second.as_mut().now_or_never().is_none());
        drop(others);
        let second = second.as_mut().now_or_never().expect("no wait").expect("a place");
        drop((waiting, second));
        third.as_mut().now_or_never().expect("no wait").expect("a place");
    }

    #[tokio::test(start_paused = true)]
    async fn locks_of_finished_callers_are_removed() {
        let bulkhead = Bulkhead::new(1, Duration::from_mins(1));
        for number in 0..100 {
            bulkhead.enter(caller(number)).await.expect("a place");
        }
        let known = bulkhead.caller_locks.lock().expect("not poisoned").len();
        assert_eq!(known, 1);
    }
}
