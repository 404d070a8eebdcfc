//! Admission of connections and requests under overload, with eviction.
//!
//! The number of places is fixed, so the memory of the process is bounded. Each place is held for a client
//! address. A holder that only waits for its client, such as an idle connection or a request with an
//! incomplete body, can be evicted. If all places are taken, the address with the most places loses the one
//! that has waited longest. A client with few places is thus served while others hold many.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use referral_core::ClientAddress;
use referral_server::Metrics;
use tokio::{sync::Notify, time::Instant};

/// Time without a refusal or an eviction after which an overload counts as ended. The next one is logged
/// again.
const OVERLOAD_END: Duration = Duration::from_mins(1);

/// A fixed number of places.
pub(crate) struct Places {
    sizes: Sizes,
    table: Mutex<Table>,
    /// Notified when a place is released or can be evicted.
    available: Notify,
}

/// Sizes of a set of places. Each is at least 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Number of places.
    pub(crate) places: usize,
    /// Largest number of places of one address.
    pub(crate) share: usize,
    /// Largest number of evicted holders that still exist. An evicted holder needs its memory until its
    /// task runs, so evictions must not get ahead of the tasks.
    pub(crate) leaving: usize,
}

/// Error returned if there is no place and no holder can be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// A place, released when the value is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    id: u64,
}

/// A place that was taken. `has_evicted` is `true` if another holder was evicted for it.
pub(crate) struct Taken {
    pub(crate) place: Place,
    pub(crate) has_evicted: bool,
}

#[derive(Default)]
struct Table {
    /// Source of ids and of the order of waiting.
    next: u64,
    holders: HashMap<u64, Holder>,
    /// Number of evicted holders that still exist.
    leaving: usize,
    addresses: HashMap<ClientAddress, Held>,
    /// Addresses with an evictable holder, by number of places and by how long that holder has waited. The
    /// last one is the next to lose a place.
    evictable: BTreeSet<(usize, Reverse<u64>, ClientAddress)>,
}

/// The holder of a place.
struct Holder {
    address: ClientAddress,
    /// Position in the order of waiting, if the holder can be evicted.
    since: Option<u64>,
}

/// The places of one address.
#[derive(Default)]
struct Held {
    count: usize,
    /// Ids of evictable holders in the order of waiting, each with the signal that evicts it.
    waiting: BTreeMap<u64, (u64, Arc<Notify>)>,
}

impl Places {
    /// Creates places that are all free.
    pub(crate) fn new(sizes: Sizes) -> Arc<Self> {
        Arc::new(Self { sizes, table: Mutex::default(), available: Notify::new() })
    }

    /// Takes a place for `address`, from another holder if there is no free one.
    ///
    /// An address that has used up its share takes one of its own places, if `evicts_own` allows it.
    /// Otherwise the address with the most places loses one.
    pub(crate) fn take(self: &Arc<Self>, address: ClientAddress, evicts_own: bool) -> Result<Taken, Full> {
        let mut table = self.table();
        let count = table.addresses.get(&address).map_or(0, |held| held.count);
        let has_evicted = if count >= self.sizes.share {
            if !evicts_own {
                return Err(Full);
            }
            table.evict_from(address, self.sizes.leaving)?;
            true
        } else if table.holders.len() >= self.sizes.places {
            let (_, _, largest) = *table.evictable.last().ok_or(Full)?;
            table.evict_from(largest, self.sizes.leaving)?;
            true
        } else {
            false
        };
        let id = table.draw();
        table.holders.insert(id, Holder { address, since: None });
        table.change(address, |held| held.count += 1);
        drop(table);
        Ok(Taken { place: Place { places: Arc::clone(self), id }, has_evicted })
    }

    /// Takes a place as [`take`](Self::take) does, and waits for one if necessary.
    pub(crate) async fn wait(self: &Arc<Self>, address: ClientAddress) -> Taken {
        loop {
            let mut available = pin!(self.available.notified());
            // Registered before the attempt, so that no release in between is missed.
            available.as_mut().enable();
            if let Ok(taken) = self.take(address, true) {
                return taken;
            }
            available.await;
        }
    }

    /// Returns `true` if more than half of the places are taken.
    pub(crate) fn is_crowded(&self) -> bool {
        self.table().holders.len() * 2 > self.sizes.places
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Lets the place be evicted from now on. `evict` is then notified, once.
    pub(crate) fn allow_eviction(&self, evict: &Arc<Notify>) {
        let mut table = self.places.table();
        let since = table.draw();
        let Some(holder) = table.holders.get_mut(&self.id) else { return };
        let (address, before) = (holder.address, holder.since.replace(since));
        table.change(address, |held| {
            if let Some(before) = before {
                held.waiting.remove(&before);
            }
            held.waiting.insert(since, (self.id, Arc::clone(evict)));
        });
        drop(table);
        self.places.available.notify_one();
    }

    /// Keeps the place from being evicted. Returns `false` if it has been evicted before.
    pub(crate) fn forbid_eviction(&self) -> bool {
        let mut table = self.places.table();
        let Some(holder) = table.holders.get_mut(&self.id) else { return false };
        let address = holder.address;
        if let Some(since) = holder.since.take() {
            table.change(address, |held| drop(held.waiting.remove(&since)));
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
            table.leaving -= 1;
        }
        drop(table);
        self.places.available.notify_one();
    }
}

impl Table {
    fn draw(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Evicts the holder of this address that has waited longest.
    fn evict_from(&mut self, address: ClientAddress, max_leaving: usize) -> Result<(), Full> {
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

    fn remove(&mut self, id: u64) {
        let Some(holder) = self.holders.remove(&id) else { return };
        self.change(holder.address, |held| {
            held.count -= 1;
            if let Some(since) = holder.since {
                held.waiting.remove(&since);
            }
        });
    }

    /// Changes the places of an address, and updates its position in the order of eviction.
    fn change(&mut self, address: ClientAddress, change: impl FnOnce(&mut Held)) {
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

/// Counts of refusals and evictions, and the warning that they have started.
pub(crate) struct Overload {
    metrics: Option<Metrics>,
    last: Mutex<Option<Instant>>,
}

impl Overload {
    pub(crate) fn new(metrics: Option<Metrics>) -> Self {
        Self { metrics, last: Mutex::default() }
    }

    pub(crate) fn request_refused(&self) {
        self.report("requests are rejected: too many are in flight", Metrics::request_refused);
    }

    pub(crate) fn request_evicted(&self) {
        self.report(
            "requests with an incomplete body are ended: too many are in flight",
            Metrics::request_evicted,
        );
    }

    pub(crate) fn connection_evicted(&self) {
        self.report(
            "idle connections are closed: all --max-connections are in use",
            Metrics::connection_evicted,
        );
    }

    fn report(&self, message: &str, count: impl Fn(&Metrics)) {
        self.metrics.iter().for_each(count);
        let now = Instant::now();
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if last.is_none_or(|last| now - last >= OVERLOAD_END) {
            tracing::warn!("overload started: {message}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use super::*;

    fn address(number: u8) -> ClientAddress {
        ClientAddress::new(IpAddr::from([192, 0, 2, number]))
    }

    fn places(places: usize, share: usize, leaving: usize) -> Arc<Places> {
        Places::new(Sizes { places, share, leaving })
    }

    /// A holder that waits for its client.
    struct Waiting {
        place: Place,
        evict: Arc<Notify>,
    }

    fn take_waiting(places: &Arc<Places>, number: u8) -> Result<Waiting, Full> {
        let place = places.take(address(number), true)?.place;
        let evict = Arc::new(Notify::new());
        place.allow_eviction(&evict);
        Ok(Waiting { place, evict })
    }

    impl Waiting {
        /// Returns `true` if the holder has been evicted. The signal and the table must agree.
        async fn is_evicted(&self) -> bool {
            let is_evicted = !self.place.forbid_eviction();
            let signaled = tokio::time::timeout(Duration::ZERO, self.evict.notified()).await.is_ok();
            assert_eq!(is_evicted, signaled);
            if is_evicted {
                self.evict.notify_one();
            } else {
                self.place.allow_eviction(&self.evict);
            }
            is_evicted
        }
    }

    #[tokio::test]
    async fn the_address_with_the_most_places_loses_the_oldest() {
        let places = places(6, 6, 6);
        let one = take_waiting(&places, 1).expect("free");
        let first = take_waiting(&places, 2).expect("free");
        let mut many: Vec<_> = (0..4).map(|_| take_waiting(&places, 2).expect("free")).collect();
        let newcomer = take_waiting(&places, 3).expect("taken from the second");
        assert!(first.is_evicted().await && !one.is_evicted().await && !newcomer.is_evicted().await);
        // The second address has four places left, and loses its own first.
        many.push(take_waiting(&places, 2).expect("taken from itself"));
        assert!(many[0].is_evicted().await && !many[1].is_evicted().await && !one.is_evicted().await);
    }

    #[tokio::test]
    async fn an_address_does_not_exceed_its_share() {
        let places = places(8, 2, 8);
        let busy = places.take(address(1), true).expect("free").place;
        let waiting = take_waiting(&places, 1).expect("free");
        let other = take_waiting(&places, 2).expect("free");
        let next = places.take(address(1), true).expect("taken from itself");
        assert!(next.has_evicted && waiting.is_evicted().await && !other.is_evicted().await);
        assert_eq!(places.take(address(1), true).err(), Some(Full), "both places are in use");
        next.place.allow_eviction(&Arc::default());
        assert_eq!(places.take(address(1), false).err(), Some(Full), "its own places must not be evicted");
        drop(busy);
        assert!(!places.take(address(1), true).expect("free again").has_evicted);
    }

    #[tokio::test]
    async fn a_place_in_use_is_never_evicted() {
        let places = places(2, 2, 2);
        let waiting = take_waiting(&places, 1).expect("free");
        let _busy = places.take(address(1), true).expect("free").place;
        assert!(waiting.place.forbid_eviction());
        assert_eq!(places.take(address(2), true).err(), Some(Full));
        waiting.place.allow_eviction(&waiting.evict);
        let taken = places.take(address(2), true).expect("one place can be evicted again");
        assert!(taken.has_evicted && waiting.is_evicted().await);
    }

    #[tokio::test]
    async fn evictions_are_limited_while_evicted_holders_exist() {
        let places = places(3, 3, 1);
        let mut waiting: Vec<_> = (0..3).map(|_| take_waiting(&places, 1).expect("free")).collect();
        let _newcomer = take_waiting(&places, 2).expect("taken from the first");
        assert_eq!(places.take(address(3), true).err(), Some(Full), "the evicted holder still exists");
        assert!(waiting[0].is_evicted().await && !waiting[1].is_evicted().await);
        drop(waiting.remove(0));
        places.take(address(3), true).expect("the evicted holder is gone");
    }

    #[tokio::test]
    async fn a_released_place_goes_to_the_waiting_address() {
        let places = places(1, 1, 1);
        let busy = places.take(address(1), true).expect("free").place;
        let (waited, ()) = tokio::join!(places.wait(address(2)), async {
            tokio::task::yield_now().await;
            drop(busy);
        });
        assert!(!waited.has_evicted);
        assert_eq!(places.take(address(3), true).err(), Some(Full));
    }

    #[test]
    fn places_are_crowded_if_more_than_half_are_taken() {
        let places = places(4, 4, 4);
        let mut taken: Vec<_> = (0..2).map(|_| places.take(address(1), true).expect("free")).collect();
        assert!(!places.is_crowded());
        taken.push(places.take(address(1), true).expect("free"));
        assert!(places.is_crowded());
    }

    /// After each random operation the table agrees with a simple list, and no maximum is exceeded. A client
    /// with few places is admitted while places of other clients can be evicted.
    #[tokio::test]
    async fn random_use_never_exceeds_a_maximum_and_admits_clients_with_few_places() {
        // A linear congruential generator: the same sequence in each run.
        let mut seed = 42_u64;
        let mut draw = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).expect("31 bits") % below
        };
        let places = places(12, 5, 4);
        let mut holders: Vec<(u8, bool, Waiting)> = Vec::new();
        let (mut evictions, mut refusals, mut small) = (0, 0, 0);
        for _ in 0..20_000 {
            match draw(6) {
                0..3 => {
                    let number = u8::try_from(draw(6)).expect("small");
                    let mut present = Vec::new();
                    let mut leaving = 0;
                    for (number, waits, holder) in &holders {
                        // Read without a change: a changed holder would lose its position.
                        if places.table().holders.contains_key(&holder.place.id) {
                            present.push((*number, *waits));
                        } else {
                            leaving += 1;
                        }
                    }
                    let own = present.iter().filter(|(other, _)| *other == number).count();
                    let can_evict = leaving < 4
                        && present.iter().any(|(other, waits)| *waits && (own < 5 || *other == number));
                    let is_admitted = can_evict || (own < 5 && present.len() < 12);
                    let taken = places.take(address(number), true);
                    assert_eq!(taken.is_ok(), is_admitted);
                    let Ok(Taken { place, has_evicted }) = taken else {
                        refusals += 1;
                        continue;
                    };
                    assert_eq!(has_evicted, own >= 5 || present.len() >= 12);
                    evictions += usize::from(has_evicted);
                    small += usize::from(has_evicted && own == 0);
                    holders.push((number, false, Waiting { place, evict: Arc::default() }));
                }
                3 if !holders.is_empty() => drop(holders.swap_remove(draw(holders.len()))),
                _ if !holders.is_empty() => {
                    let index = draw(holders.len());
                    let (_, waits, holder) = &mut holders[index];
                    *waits = draw(2) == 0;
                    if *waits {
                        holder.place.allow_eviction(&holder.evict);
                    } else {
                        holder.place.forbid_eviction();
                    }
                }
                _ => {}
            }
            let table = places.table();
            assert!(table.holders.len() <= 12 && table.leaving <= 4);
            assert!(table.addresses.values().all(|held| (1..=5).contains(&held.count)));
            let count: usize = table.addresses.values().map(|held| held.count).sum();
            assert_eq!(count, table.holders.len());
            assert_eq!(table.holders.len() + table.leaving, holders.len());
        }
        assert!(evictions > 500 && refusals > 500 && small > 20, "{evictions} {refusals} {small}");
        holders.clear();
        let table = places.table();
        assert!(table.holders.is_empty() && table.addresses.is_empty() && table.evictable.is_empty());
    }
}
