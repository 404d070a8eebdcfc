//! Holders of places, and the order in which they are evicted.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use referral_core::ClientAddress;
use tokio::sync::Notify;

use crate::listener::admission::Full;

#[derive(Default)]
pub(super) struct Table {
    /// Source of ids and of the order of waiting.
    next: u64,
    pub(super) holders: HashMap<u64, Holder>,
    /// Number of evicted holders that still exist.
    pub(super) evicted: usize,
    pub(super) addresses: HashMap<ClientAddress, AddressPlaces>,
    /// Addresses with an evictable holder, by number of places and by how long that holder has waited. The
    /// last one is the next to lose a place.
    pub(super) evictable: BTreeSet<(usize, Reverse<u64>, ClientAddress)>,
}

/// The holder of a place.
pub(super) struct Holder {
    pub(super) address: ClientAddress,
    /// Position in the order of waiting, if the holder can be evicted.
    pub(super) position: Option<u64>,
}

/// The places of one address.
#[derive(Default)]
pub(super) struct AddressPlaces {
    pub(super) count: usize,
    /// Ids of evictable holders in the order of waiting, each with the signal that evicts it.
    pub(super) evictable: BTreeMap<u64, (u64, Arc<Notify>)>,
}

impl Table {
    pub(super) fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Evicts the holder of this address that has waited longest.
    pub(super) fn evict_from(&mut self, address: ClientAddress, max_evicted: usize) -> Result<(), Full> {
        if self.evicted >= max_evicted {
            return Err(Full);
        }
        let address_places = self.addresses.get(&address).ok_or(Full)?;
        let (id, eviction) = address_places.evictable.values().next().cloned().ok_or(Full)?;
        self.remove(id);
        self.evicted += 1;
        eviction.notify_one();
        Ok(())
    }

    pub(super) fn remove(&mut self, id: u64) {
        let Some(holder) = self.holders.remove(&id) else { return };
        self.change(holder.address, |address_places| {
            address_places.count -= 1;
            if let Some(position) = holder.position {
                address_places.evictable.remove(&position);
            }
        });
    }

    /// Changes the places of an address, and updates its position in the order of eviction.
    pub(super) fn change(&mut self, address: ClientAddress, change: impl FnOnce(&mut AddressPlaces)) {
        let address_places = self.addresses.entry(address).or_default();
        let before = address_places.eviction_rank(address);
        change(address_places);
        let after = address_places.eviction_rank(address);
        if address_places.count == 0 {
            self.addresses.remove(&address);
        }
        if before != after {
            if let Some(before) = before {
                self.evictable.remove(&before);
            }
            self.evictable.extend(after);
        }
    }
}

impl AddressPlaces {
    /// Returns the position in the order of eviction, if a holder can be evicted.
    fn eviction_rank(&self, address: ClientAddress) -> Option<(usize, Reverse<u64>, ClientAddress)> {
        let (position, _) = self.evictable.first_key_value()?;
        Some((self.count, Reverse(*position), address))
    }
}
