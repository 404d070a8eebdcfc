//! Attacks with a few guesses at each of many phones. They reach no limit of a phone, and the alarm must stop
//! them.

use std::time::Duration;

use referral_core::PhoneNumber;

use super::{
    Bound, Row, standard,
    world::{At, DAY, HOUR, MINUTE, TICK, World, phone},
};

/// Number of codes that an address gets in an hour, number of such hours in a day, and number of days.
const CODES_PER_HOUR: u32 = 10;
const HOURS_PER_DAY: u32 = 5;
const DAYS: u32 = 2;

/// Attack with one guess at each phone, and a hundred phones for each address.
#[derive(Clone, Copy)]
struct Spray {
    addresses: u32,
    /// Phones, by number.
    phone: fn(u32) -> PhoneNumber,
    /// `true` if each guess is made immediately after its code is sent, instead of after all codes are sent.
    guesses_immediately: bool,
    /// Time between the first waves of two days.
    day: Duration,
}

/// Codes get longer for all phones if there are too many wrong codes.
pub(crate) async fn many_phones_are_guessed(addresses: u32) -> Vec<Row> {
    let spray = Spray::from(addresses);
    let in_sequence = Spray { phone: |number| phone(number / 1_000, number % 1_000), ..spray };
    vec![
        spray.run("each guess as soon as its code is sent").await,
        in_sequence.run("numbers in sequence").await,
        below_the_alarm().await,
    ]
}

/// Codes that were sent before the alarm become invalid with it.
pub(crate) async fn codes_are_collected_first(addresses: u32) -> Row {
    let spray = Spray { guesses_immediately: false, ..Spray::from(addresses) };
    spray.run("all available codes, then all guesses").await
}

/// An attack at the same time each day is not treated as usual, unless it happens on most days.
pub(crate) async fn attacks_come_at_the_same_time(addresses: u32) -> Row {
    let spray = Spray { day: DAY + TICK, ..Spray::from(addresses) };
    spray.run("each guess immediately, both days at the same time").await
}

impl Spray {
    fn from(addresses: u32) -> Self {
        Self { addresses, phone: |number| phone(number, 1), guesses_immediately: true, day: DAY + HOUR / 2 }
    }

    /// Attacks in waves, as the limits of addresses allow. Another user signs in after each wave.
    async fn run(self, name: &str) -> Row {
        let mut world = World::new(standard());
        let addresses: Vec<_> = (0..self.addresses).map(|_| world.new_address()).collect();
        let mut phones = (0..).map(self.phone);
        let mut longest_code = 0;
        for wave in 0..DAYS * HOURS_PER_DAY {
            let (day, hour) = (wave / HOURS_PER_DAY, wave % HOURS_PER_DAY);
            world.wait_until(self.day * day + (HOUR + TICK) * hour);
            let mut codes = Vec::new();
            for from in addresses.repeat(CODES_PER_HOUR as usize) {
                let phone = phones.next().expect("the iterator is infinite");
                let Ok(sent) = world.request_code(&phone, from).await else { continue };
                if self.guesses_immediately {
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
        let note = format!("{longest_code} digits for other users, all of them accepted");
        world.row(attack, Bound::Takeovers(before_the_alarm + after_it)).with_note(note)
    }
}

/// Signs in another user, and returns the number of digits of the code.
async fn bystander(world: &mut World, number: u32) -> u8 {
    let (phone, at) = (phone(900_000 + number, 1), world.new_address());
    let sent = world.send(&phone, at).await.expect("other users are not rejected");
    assert!(world.sign_in(&sent, at).await, "other users sign in without delay");
    sent.code_length
}

/// Sends as many wrong codes in each ten minutes of a day as possible without an alarm.
async fn below_the_alarm() -> Row {
    let mut world = World::new(standard());
    let each = floor(&world);
    let slots = 24 * 6;
    for slot in 0..slots {
        world.wait_until(10 * MINUTE * slot);
        guess_short_codes(&mut world, each, slot * each).await;
    }
    let most = Bound::Takeovers(f64::from(slots * each) * 1e-4);
    world.row("Spray for a day: as many guesses as do not trigger the alarm", most)
}

/// Sends as many wrong codes in the same minute of each day as possible without an alarm: three times the
/// median of seven days. A patient attacker can raise the threshold this way. The result follows from
/// arithmetic.
pub(crate) async fn usual_count_increases_gradually(days: u32) -> Row {
    let mut world = World::new(standard());
    let floor = floor(&world);
    let mut guesses: Vec<u32> = Vec::new();
    for day in 0..days {
        world.wait_until(DAY * day);
        let mut week: Vec<u32> = guesses.iter().rev().take(7).copied().collect();
        week.resize(7, 0);
        week.sort_unstable();
        let undetected = floor.max(3 * week[3]);
        guess_short_codes(&mut world, undetected, guesses.iter().sum()).await;
        guesses.push(undetected);
    }
    let note = format!("{} guesses on the last day", guesses[guesses.len() - 1]);
    let attack =
        format!("Spray for {days} days, a minute of each: as many guesses as do not trigger the alarm");
    let most = f64::from(guesses.iter().sum::<u32>()) * 1e-4;
    world.row(attack, Bound::Takeovers(most)).with_note(note)
}

/// Makes this number of guesses, at phones from this number on: as many at each phone as its shortest codes
/// allow.
async fn guess_short_codes(world: &mut World, guesses: u32, first_phone: u32) {
    let mut left = guesses;
    for number in first_phone.. {
        if left == 0 {
            break;
        }
        let from = world.new_address();
        let sent =
            world.request_code(&phone(number, 1), from).await.expect("the phone and the address are new");
        assert_eq!(sent.code_length, world.policy.code_length, "the alarm is not triggered");
        left -= world.guess_all(&sent, left).await;
    }
}

/// Returns the number of wrong codes in ten minutes that never count as an attack.
fn floor(world: &World) -> u32 {
    world.policy.attack_threshold.expect("the policy has a threshold for attacks")
}
