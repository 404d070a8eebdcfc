//! Attack that tries to prevent the owner of a phone from signing in.

use std::time::Duration;

use referral_core::PhoneNumber;

use super::{
    Bound, NamedPolicy, Row,
    world::{Address, At, DAY, Guess, MINUTE, World, phone},
};

/// Number of days of the attack.
const DAYS: u32 = 60;

/// Time after which the owner stops trying.
const MAX_WAIT: Duration = Duration::from_mins(15);

/// Time that it takes to type a code.
const TYPING: Duration = Duration::from_secs(20);

/// Attacks the sign-in of an owner from this number of addresses.
pub(crate) async fn attacker_locks_an_owner_out(policy: NamedPolicy, addresses: u32) -> Row {
    let mut world = World::new(policy);
    let owner = Owner { phone: phone(1, 1), address: world.new_address() };
    let mut attacker = Attacker::new(&mut world, owner.phone.clone(), addresses);
    let (mut longest_wait, mut longest_code, mut days_lost) = (Duration::ZERO, 0, 0);
    for day in 0..DAYS {
        // A different time on each day.
        let start = DAY * day + DAY / 1_000 * (day * 389 % 1_000);
        attacker.attack_until(&mut world, start).await;
        match owner.sign_in(&mut world, &mut attacker).await {
            Some(code_length) => {
                longest_wait = longest_wait.max(world.elapsed().saturating_sub(start));
                longest_code = longest_code.max(code_length);
            }
            None => days_lost += 1,
        }
    }
    let attack = format!("Lockout for {DAYS} days, number of addresses: {addresses}");
    let note = if days_lost == DAYS {
        "the owner never signs in".into()
    } else {
        format!("at most {} s and {longest_code} digits for the owner", longest_wait.as_secs())
    };
    Row { days_lost, ..world.row(attack, Bound::DaysLost(0)) }.with_note(note)
}

/// Owner of the attacked phone.
struct Owner {
    phone: PhoneNumber,
    address: Address,
}

impl Owner {
    /// Tries to sign in, with the waits that the service requires. Returns the number of digits of the code,
    /// or `None` if the owner stops trying.
    async fn sign_in(&self, world: &mut World, attacker: &mut Attacker) -> Option<u8> {
        let end = world.elapsed() + MAX_WAIT;
        while world.elapsed() <= end {
            match world.send(&self.phone, self.address).await {
                Ok(sent) => {
                    attacker.guess_at_newest(world).await;
                    attacker.attack_until(world, world.elapsed() + TYPING).await;
                    if world.sign_in(&sent, self.address).await {
                        return Some(sent.code_length);
                    }
                }
                Err(wait) if world.elapsed() + wait > end => return None,
                Err(wait) => attacker.attack_until(world, world.elapsed() + wait).await,
            }
        }
        None
    }
}

/// Attacker who requests each available code and uses all its attempts.
struct Attacker {
    phone: PhoneNumber,
    /// Addresses, each with the time of its next request.
    addresses: Vec<(Duration, Address)>,
}

impl Attacker {
    fn new(world: &mut World, phone: PhoneNumber, addresses: u32) -> Self {
        let addresses = (0..addresses).map(|_| (Duration::ZERO, world.new_address())).collect();
        Self { phone, addresses }
    }

    /// Attacks until the given time.
    async fn attack_until(&mut self, world: &mut World, until: Duration) {
        loop {
            let next = self
                .addresses
                .iter_mut()
                .min_by_key(|(next, _)| *next)
                .expect("there is at least one address");
            if next.0 > until {
                break;
            }
            world.wait_until(next.0);
            let from = next.1;
            match world.request_code(&self.phone, from).await {
                Ok(sent) => {
                    next.0 = world.elapsed() + MINUTE;
                    while world.guess(At::Challenge(&sent), from).await == Guess::Compared {}
                    self.guess_at_newest(world).await;
                }
                Err(wait) => next.0 = world.elapsed() + wait,
            }
        }
        world.wait_until(until);
    }

    /// Guesses without the id of the challenge, so that the guess is at the newest code, which may be the
    /// owner's.
    async fn guess_at_newest(&self, world: &mut World) {
        for (_, from) in &self.addresses {
            while world.guess(At::Newest(&self.phone), *from).await == Guess::Compared {}
        }
    }
}
