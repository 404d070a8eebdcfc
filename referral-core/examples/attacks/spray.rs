//! A guess or a few at each of many phones, which reach no limit for a phone: what the alarm is for.

use std::time::Duration;

use referral_core::PhoneNumber;

use super::{
    Bound, Row, standard,
    world::{At, DAY, HOUR, MINUTE, MOMENT, World, phone},
};

/// The codes that an address gets in an hour, in how many hours of a day, for how many days.
const CODES_PER_HOUR: u32 = 10;
const HOURS_PER_DAY: u32 = 5;
const DAYS: u32 = 2;

/// One guess at each phone, a hundred phones for each address.
#[derive(Clone, Copy)]
struct Spray {
    addresses: u32,
    /// The phones, by number.
    phone: fn(u32) -> PhoneNumber,
    /// Whether each guess is made as soon as its code is sent, and not when all have been sent.
    at_once: bool,
    /// From the first wave of a day to that of the next.
    day: Duration,
}

/// Codes get longer for everybody, as soon as there are so many wrong ones.
pub(crate) async fn many_phones_are_guessed(addresses: u32) -> Vec<Row> {
    let spray = Spray::from(addresses);
    let in_sequence = Spray { phone: |number| phone(number / 1_000, number % 1_000), ..spray };
    vec![
        spray.run("each guess as soon as its code is sent").await,
        in_sequence.run("numbers in sequence").await,
        below_the_alarm().await,
    ]
}

/// Those that were sent before the alarm are dead from then on.
pub(crate) async fn codes_are_collected_first(addresses: u32) -> Row {
    let spray = Spray { at_once: false, ..Spray::from(addresses) };
    spray.run("all codes that there are, then all guesses").await
}

/// What comes at the same time each day is not what is usual, unless it comes on most days.
pub(crate) async fn attacks_come_at_the_same_time(addresses: u32) -> Row {
    let spray = Spray { day: DAY + MOMENT, ..Spray::from(addresses) };
    spray.run("each guess at once, both days at the same time").await
}

impl Spray {
    fn from(addresses: u32) -> Self {
        Self { addresses, phone: |number| phone(number, 1), at_once: true, day: DAY + HOUR / 2 }
    }

    /// In waves, as the limits for addresses allow; after each of them somebody else signs in.
    async fn run(self, name: &str) -> Row {
        let mut world = World::new(standard());
        let addresses: Vec<_> = (0..self.addresses).map(|_| world.new_address()).collect();
        let mut phones = (0..).map(self.phone);
        let mut longest_code = 0;
        for wave in 0..DAYS * HOURS_PER_DAY {
            let (day, hour) = (wave / HOURS_PER_DAY, wave % HOURS_PER_DAY);
            world.wait_until(self.day * day + (HOUR + MOMENT) * hour);
            let mut codes = Vec::new();
            for from in addresses.repeat(CODES_PER_HOUR as usize) {
                let phone = phones.next().expect("there are more");
                let Ok(sent) = world.ask(&phone, from).await else { continue };
                if self.at_once {
                    world.guess(At::Challenge(&sent), from).await;
                } else {
                    codes.push((sent, from));
                }
            }
            for (sent, from) in codes {
                world.guess(At::Challenge(&sent), from).await;
            }
            longest_code = longest_code.max(bystander(&mut world, wave).await);
        }
        let before_the_alarm = f64::from(DAYS * HOURS_PER_DAY * (floor(&world) + 1)) * 1e-4;
        let after_it = f64::from(self.addresses * CODES_PER_HOUR * HOURS_PER_DAY * DAYS) * 1e-6;
        let (addresses, phones) = (self.addresses, self.addresses * 100);
        let attack = format!("Spray over {phones} phones from {addresses} addresses: {name}");
        let note = format!("{longest_code} digits for others, of whom none is refused");
        world.row(attack, Bound::Takeovers(before_the_alarm + after_it)).with_note(note)
    }
}

/// Somebody else signs in, with a code of so many digits.
async fn bystander(world: &mut World, number: u32) -> u8 {
    let (phone, at) = (phone(900_000 + number, 1), world.new_address());
    let sent = world.send(&phone, at).await.expect("nobody else is refused");
    assert!(world.sign_in(&sent, at).await, "nor has to wait");
    sent.code_length
}

/// As many wrong codes in each ten minutes of a day as are no attack yet.
async fn below_the_alarm() -> Row {
    let mut world = World::new(standard());
    let each = floor(&world);
    let slots = 24 * 6;
    for slot in 0..slots {
        world.wait_until(10 * MINUTE * slot);
        guess_short_codes(&mut world, each, slot * each).await;
    }
    let most = Bound::Takeovers(f64::from(slots * each) * 1e-4);
    world.row("Spray for a day: as many guesses as do not sound the alarm", most)
}

/// As many as are no attack yet in the same minute of each day: three times the median of seven days.
/// Whoever has the patience teaches the alarm; what it comes to is arithmetic.
pub(crate) async fn the_alarm_is_taught(days: u32) -> Row {
    let mut world = World::new(standard());
    let floor = floor(&world);
    let mut guesses: Vec<u32> = Vec::new();
    for day in 0..days {
        world.wait_until(DAY * day);
        let mut week: Vec<u32> = guesses.iter().rev().take(7).copied().collect();
        week.resize(7, 0);
        week.sort_unstable();
        let unsuspicious = floor.max(3 * week[3]);
        guess_short_codes(&mut world, unsuspicious, guesses.iter().sum()).await;
        guesses.push(unsuspicious);
    }
    let note = format!("{} guesses on the last day", guesses[guesses.len() - 1]);
    let attack = format!("Spray for {days} days, a minute of each: as many as do not sound the alarm");
    let most = f64::from(guesses.iter().sum::<u32>()) * 1e-4;
    world.row(attack, Bound::Takeovers(most)).with_note(note)
}

/// So many guesses, at phones from this number on: as many at each as its shortest codes allow.
async fn guess_short_codes(world: &mut World, guesses: u32, first_phone: u32) {
    let mut left = guesses;
    for number in first_phone.. {
        if left == 0 {
            break;
        }
        let from = world.new_address();
        let sent = world.ask(&phone(number, 1), from).await.expect("another phone, another address");
        assert_eq!(sent.code_length, world.policy.code_length, "nobody noticed");
        left -= world.guess_all(&sent, left).await;
    }
}

/// So many wrong codes in ten minutes are never an attack.
fn floor(world: &World) -> u32 {
    world.policy.attack_failures.expect("somebody watches out")
}
