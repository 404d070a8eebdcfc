//! Tests of admission and eviction.

use std::{net::IpAddr, sync::Arc, time::Duration};

use referral_core::ClientAddress;
use tokio::sync::Notify;

use crate::listener::admission::{Admission, Capacity, Full, Place, Places};

fn address(number: u8) -> ClientAddress {
    ClientAddress::new(IpAddr::from([192, 0, 2, number]))
}

fn places(places: usize, per_address: usize, evicted: usize) -> Arc<Places> {
    Places::new(Capacity { places, per_address, evicted })
}

/// A holder that waits for its client.
struct Waiting {
    place: Place,
    evict: Arc<Notify>,
}

fn take_waiting(places: &Arc<Places>, number: u8) -> Result<Waiting, Full> {
    let place = places.try_acquire(address(number), true)?.place;
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
    // The second address has four places left. Its next request evicts the oldest of them.
    many.push(take_waiting(&places, 2).expect("taken from itself"));
    assert!(many[0].is_evicted().await && !many[1].is_evicted().await && !one.is_evicted().await);
}

#[tokio::test]
async fn an_address_does_not_exceed_its_share() {
    let places = places(8, 2, 8);
    let busy = places.try_acquire(address(1), true).expect("free").place;
    let waiting = take_waiting(&places, 1).expect("free");
    let other = take_waiting(&places, 2).expect("free");
    let next = places.try_acquire(address(1), true).expect("taken from itself");
    assert!(next.has_evicted && waiting.is_evicted().await && !other.is_evicted().await);
    assert_eq!(places.try_acquire(address(1), true).err(), Some(Full), "both places are in use");
    next.place.allow_eviction(&Arc::default());
    assert_eq!(places.try_acquire(address(1), false).err(), Some(Full), "its own places must not be evicted");
    drop(busy);
    assert!(!places.try_acquire(address(1), true).expect("free again").has_evicted);
}

#[tokio::test]
async fn a_place_in_use_is_never_evicted() {
    let places = places(2, 2, 2);
    let waiting = take_waiting(&places, 1).expect("free");
    let _busy = places.try_acquire(address(1), true).expect("free").place;
    assert!(waiting.place.forbid_eviction());
    assert_eq!(places.try_acquire(address(2), true).err(), Some(Full));
    waiting.place.allow_eviction(&waiting.evict);
    let taken = places.try_acquire(address(2), true).expect("one place can be evicted again");
    assert!(taken.has_evicted && waiting.is_evicted().await);
}

#[tokio::test]
async fn evictions_are_limited_while_evicted_holders_exist() {
    let places = places(3, 3, 1);
    let mut waiting: Vec<_> = (0..3).map(|_| take_waiting(&places, 1).expect("free")).collect();
    let _newcomer = take_waiting(&places, 2).expect("taken from the first");
    assert_eq!(places.try_acquire(address(3), true).err(), Some(Full), "the evicted holder still exists");
    assert!(waiting[0].is_evicted().await && !waiting[1].is_evicted().await);
    drop(waiting.remove(0));
    places.try_acquire(address(3), true).expect("the evicted holder is gone");
}

#[tokio::test]
async fn a_released_place_goes_to_the_waiting_address() {
    let places = places(1, 1, 1);
    let busy = places.try_acquire(address(1), true).expect("free").place;
    let (waited, ()) = tokio::join!(places.acquire(address(2)), async {
        tokio::task::yield_now().await;
        drop(busy);
    });
    assert!(!waited.has_evicted);
    assert_eq!(places.try_acquire(address(3), true).err(), Some(Full));
}

#[test]
fn places_are_crowded_if_more_than_half_are_taken() {
    let places = places(4, 4, 4);
    let mut taken: Vec<_> = (0..2).map(|_| places.try_acquire(address(1), true).expect("free")).collect();
    assert!(!places.is_crowded());
    taken.push(places.try_acquire(address(1), true).expect("free"));
    assert!(places.is_crowded());
}

/// After each random operation the table agrees with a simple list, and no maximum is exceeded. A client
/// with few places is admitted while places of other clients can be evicted.
#[tokio::test]
async fn random_use_never_exceeds_a_maximum_and_admits_clients_with_few_places() {
    // A linear congruential generator: the same sequence in each run.
    let mut seed = 42_u64;
    let mut random_below = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).expect("31 bits") % below
    };
    let places = places(12, 5, 4);
    let mut holders: Vec<(u8, bool, Waiting)> = Vec::new();
    let (mut evictions, mut refusals, mut small) = (0, 0, 0);
    for _ in 0..20_000 {
        match random_below(6) {
            0..3 => {
                let number = u8::try_from(random_below(6)).expect("small");
                let mut present = Vec::new();
                let mut evicted = 0;
                for (number, waits, holder) in &holders {
                    // Read without a change: a changed holder would lose its position.
                    if places.table().holders.contains_key(&holder.place.id) {
                        present.push((*number, *waits));
                    } else {
                        evicted += 1;
                    }
                }
                let own = present.iter().filter(|(other, _)| *other == number).count();
                let can_evict = evicted < 4
                    && present.iter().any(|(other, waits)| *waits && (own < 5 || *other == number));
                let is_admitted = can_evict || (own < 5 && present.len() < 12);
                let taken = places.try_acquire(address(number), true);
                assert_eq!(taken.is_ok(), is_admitted);
                let Ok(Admission { place, has_evicted }) = taken else {
                    refusals += 1;
                    continue;
                };
                assert_eq!(has_evicted, own >= 5 || present.len() >= 12);
                evictions += usize::from(has_evicted);
                small += usize::from(has_evicted && own == 0);
                holders.push((number, false, Waiting { place, evict: Arc::default() }));
            }
            3 if !holders.is_empty() => drop(holders.swap_remove(random_below(holders.len()))),
            _ if !holders.is_empty() => {
                let index = random_below(holders.len());
                let (_, waits, holder) = &mut holders[index];
                *waits = random_below(2) == 0;
                if *waits {
                    holder.place.allow_eviction(&holder.evict);
                } else {
                    holder.place.forbid_eviction();
                }
            }
            _ => {}
        }
        let table = places.table();
        assert!(table.holders.len() <= 12 && table.evicted <= 4);
        assert!(table.addresses.values().all(|address_places| (1..=5).contains(&address_places.count)));
        let count: usize = table.addresses.values().map(|address_places| address_places.count).sum();
        assert_eq!(count, table.holders.len());
        assert_eq!(table.holders.len() + table.evicted, holders.len());
    }
    assert!(evictions > 500 && refusals > 500 && small > 20, "{evictions} {refusals} {small}");
    holders.clear();
    let table = places.table();
    assert!(table.holders.is_empty() && table.addresses.is_empty() && table.evictable.is_empty());
}
