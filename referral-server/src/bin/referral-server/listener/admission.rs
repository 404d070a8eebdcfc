//! Admission of connections and requests under overload, with eviction.
//!
//! The number of places is fixed, so the memory of the process is bounded. Each place is held for a client
//! address. A holder that only waits for its client, such as an idle connection or a request with an
//! incomplete body, can be evicted. If all places are taken, the address with the most places loses the one
//! that has waited longest. So a client with few places is served while others hold many.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use referral_core::ClientAddress;
use tokio::sync::Notify;

use crate::listener::admission::eviction::{Holder, Table};

/// A fixed number of places.
pub(crate) struct Places {
    capacity: Capacity,
    table: Mutex<Table>,
    /// Notified when a place is released or can be evicted.
    available: Notify,
}

/// Maximum numbers of a set of places. Each is at least 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// Number of places.
    pub(crate) places: usize,
    /// Largest number of places of one address.
    pub(crate) per_address: usize,
    /// Largest number of evicted holders that still exist. An evicted holder needs its memory until its
    /// task runs, so evictions must not get ahead of the tasks.
    pub(crate) evicted: usize,
}

/// Error returned if there is no place and no holder can be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// A place, released when the value is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    id: u64,
}

/// A place that was acquired. `has_evicted` is `true` if another holder was evicted for it.
pub(crate) struct Admission {
    pub(crate) place: Place,
    pub(crate) has_evicted: bool,
}

impl Places {
    /// Creates places that are all free.
    pub(crate) fn new(capacity: Capacity) -> Arc<Self> {
        Arc::new(Self { capacity, table: Mutex::default(), available: Notify::new() })
    }

    /// Acquires a place for `address`, from another holder if there is no free one.
    ///
    /// An address that has used up its share takes one of its own places, if `evicts_own` allows it.
    /// Otherwise the address with the most places loses one.
    pub(crate) fn try_acquire(
        self: &Arc<Self>,
        address: ClientAddress,
        evicts_own: bool,
    ) -> Result<Admission, Full> {
        let mut table = self.table();
        let count = table.addresses.get(&address).map_or(0, |address_places| address_places.count);
        let has_evicted = if count >= self.capacity.per_address {
            if !evicts_own {
                return Err(Full);
            }
            table.evict_from(address, self.capacity.evicted)?;
            true
        } else if table.holders.len() >= self.capacity.places {
            let (_, _, largest) = *table.evictable.last().ok_or(Full)?;
            table.evict_from(largest, self.capacity.evicted)?;
            true
        } else {
            false
        };
        let id = table.next_number();
        table.holders.insert(id, Holder { address, position: None });
        table.change(address, |address_places| address_places.count += 1);
        drop(table);
        Ok(Admission { place: Place { places: Arc::clone(self), id }, has_evicted })
    }

    /// Acquires a place as [`try_acquire`](Self::try_acquire) does, and waits for one if necessary.
    pub(crate) async fn acquire(self: &Arc<Self>, address: ClientAddress) -> Admission {
        loop {
            let mut available = pin!(self.available.notified());
            // Registered before the attempt, so that no release in between is missed.
            available.as_mut().enable();
            if let Ok(admission) = self.try_acquire(address, true) {
                return admission;
            }
            available.await;
        }
    }

    /// Returns `true` if more than half of the places are taken.
    pub(crate) fn is_crowded(&self) -> bool {
        self.table().holders.len() * 2 > self.capacity.places
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Lets the place be evicted from now on. `eviction` is then notified, once.
    pub(crate) fn allow_eviction(&self, eviction: &Arc<Notify>) {
        let mut table = self.places.table();
        let position = table.next_number();
        let Some(holder) = table.holders.get_mut(&self.id) else { return };
        let (address, before) = (holder.address, holder.position.replace(position));
        table.change(address, |address_places| {
            if let Some(before) = before {
                address_places.evictable.remove(&before);
            }
            address_places.evictable.insert(position, (self.id, Arc::clone(eviction)));
        });
        drop(table);
        self.places.available.notify_one();
    }

    /// Keeps the place from being evicted. Returns `false` if it has been evicted before.
    pub(crate) fn forbid_eviction(&self) -> bool {
        let mut table = self.places.table();
        let Some(holder) = table.holders.get_mut(&self.id) else { return false };
        let address = holder.address;
        if let Some(position) = holder.position.take() {
            table.change(address, |address_places| drop(address_places.evictable.remove(&position)));
        }
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.places.table();
        if table.holders.contains_key(&self.id) {
            table.remove(self.id);
        } else {
            table.evicted -= 1;
        }
        drop(table);
        self.places.available.notify_one();
    }
}

mod eviction;
#[cfg(test)]
mod tests;
