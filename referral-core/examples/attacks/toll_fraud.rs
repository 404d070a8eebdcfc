//! Attacks by a party that is paid for messages to its own numbers.

use referral_core::PhoneNumber;

use super::{
    Bound, Row, standard,
    world::{Address, DAY, World, phone},
};

/// Attacks for a day: from many addresses to one number range, and from one address to many number ranges.
pub(crate) async fn messages_are_pumped() -> Vec<Row> {
    vec![
        to_one_range(World::new(standard())).await,
        from_one_address(World::new(standard())).await,
        by_signing_in(World::new(standard())).await,
    ]
}

/// A number range consists of numbers that differ only in the last three digits.
async fn to_one_range(mut world: World) -> Row {
    let from: Vec<_> = (0..1_000).map(|_| world.new_address()).collect();
    let numbers: Vec<_> = (0..1_000).map(|number| phone(1, number)).collect();
    let mut pairs = from.into_iter().zip(numbers).cycle();
    pump(&mut world, || pairs.next().expect("the iterator is infinite")).await;
    world.row("Toll fraud for a day: 1 000 numbers of one range, 1 000 addresses", Bound::Codes(240))
}

async fn from_one_address(mut world: World) -> Row {
    let from = world.new_address();
    let mut ranges = 0..;
    pump(&mut world, || (from, phone(ranges.next().expect("the iterator is infinite"), 1))).await;
    world.row("Toll fraud for a day: one address, each number in another range", Bound::Codes(50))
}

/// Requests codes for a day, each for the next number, with the waits that the service requires.
async fn pump(world: &mut World, mut next: impl FnMut() -> (Address, PhoneNumber)) {
    while world.elapsed() < DAY {
        let (from, phone) = next();
        if let Err(wait) = world.request_code(&phone, from).await {
            world.wait(wait);
        }
    }
}

/// Signs in with each code, so that the code counts only for its phone. The attacker can read the messages.
async fn by_signing_in(mut world: World) -> Row {
    let from = world.new_address();
    while world.elapsed() < DAY {
        let mut shortest_wait = DAY;
        for number in 0..100 {
            match world.request_code(&phone(1, number), from).await {
                Ok(sent) => {
                    assert!(world.sign_in(&sent, from).await, "the code is correct");
                    shortest_wait = shortest_wait.min(sent.resend_in);
                }
                Err(wait) => shortest_wait = shortest_wait.min(wait),
            }
        }
        world.wait(shortest_wait);
    }
    let most = Bound::Codes(100 * 10);
    world.row("Toll fraud for a day: 100 numbers, one address, signing in with each code", most)
}
