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
    pub(super) leaving: usize,
    pub(super) addresses: HashMap<ClientAddress, Held>,
    /// Addresses with an evictable holder, by number of places and by how long that holder has waited. The
    /// last one is the next to lose a place.
    pub(super) evictable: BTreeSet<(usize, Reverse<u64>, ClientAddress)>,
}

/// The holder of a place.
pub(super) struct Holder {
    pub(super) address: ClientAddress,
    /// Position in the order of waiting, if the holder can be evicted.
    pub(super) since: Option<u64>,
}

/// The places of one address.
#[derive(Default)]
pub(super) struct Held {
    pub(super) count: usize,
    /// Ids of evictable holders in the order of waiting, each with the signal that evicts it.
    pub(super) waiting: BTreeMap<u64, (u64, Arc<Notify>)>,
}

impl Table {
    pub(super) fn draw(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Evicts the holder of this address that has waited longest.
    pub(super) fn evict_from(&mut self, address: ClientAddress, max_leaving: usize) -> Result<(), Full> {
        if self.leaving >= max_leaving {
            return Err(Full);
        }
        let held = self.addresses.get(&address).ok_or(Full)?;
        let (id, evict) = held.waiting.values().next().cloned().ok_or(Full)?;
        self.remove(id);
        self.leaving += 1;
        evict.notify_one();
        Ok(())
    }

    pub(super) fn remove(&mut self, id: u64) {
        let Some(holder) = self.holders.remove(&id) else { return };
        self.change(holder.address, |held| {
            held.count -= 1;
            if let Some(since) = holder.since {
                held.waiting.remove(&since);
            }
        });
    }

    /// Changes the places of an address, and updates its position in the order of eviction.
    pub(super) fn change(&mut self, address: ClientAddress, change: impl FnOnce(&mut Held)) {
        let held = self.addresses.entry(address).or_default();
        let before = held.rank(address);
        change(held);
        let after = held.rank(address);
        if held.count == 0 {
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

impl Held {
    /// Returns the position in the order of eviction, if a holder can be evicted.
    fn rank(&self, address: ClientAddress) -> Option<(usize, Reverse<u64>, ClientAddress)> {
        let (since, _) = self.waiting.first_key_value()?;
        Some((self.count, Reverse(*since), address))
    }
}
