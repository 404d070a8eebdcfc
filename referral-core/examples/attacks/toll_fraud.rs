//! Somebody is paid for messages that are sent to numbers of theirs.

use referral_core::PhoneNumber;

use super::{
    Bound, Row, standard,
    world::{Address, DAY, World, phone},
};

/// For a day, from many addresses to one number block, and from one address to many.
pub(crate) async fn messages_are_pumped() -> Vec<Row> {
    vec![
        to_one_block(World::new(standard())).await,
        from_one_address(World::new(standard())).await,
        by_signing_in(World::new(standard())).await,
    ]
}

/// Numbers that differ in the last three digits mark it.
async fn to_one_block(mut world: World) -> Row {
    let from: Vec<_> = (0..1_000).map(|_| world.new_address()).collect();
    let numbers: Vec<_> = (0..1_000).map(|number| phone(1, number)).collect();
    let mut pairs = from.into_iter().zip(numbers).cycle();
    pump(&mut world, || pairs.next().expect("endless")).await;
    world.row("Toll fraud for a day: 1 000 numbers of one block, 1 000 addresses", Bound::Codes(240))
}

async fn from_one_address(mut world: World) -> Row {
    let from = world.new_address();
    let mut blocks = 0..;
    pump(&mut world, || (from, phone(blocks.next().expect("endless"), 1))).await;
    world.row("Toll fraud for a day: one address, each number in another block", Bound::Codes(50))
}

/// Asks for codes for a day, each for the next number; waits as long as told.
async fn pump(world: &mut World, mut next: impl FnMut() -> (Address, PhoneNumber)) {
    while world.elapsed() < DAY {
        let (from, phone) = next();
        if let Err(wait) = world.ask(&phone, from).await {
            world.wait(wait);
        }
    }
}

/// Whoever reads the messages too signs in with each code, so that it counts for its phone only.
async fn by_signing_in(mut world: World) -> Row {
    let from = world.new_address();
    while world.elapsed() < DAY {
        let mut shortest_wait = DAY;
        for number in 0..100 {
            match world.ask(&phone(1, number), from).await {
                Ok(sent) => {
                    assert!(world.sign_in(&sent, from).await, "the code is right");
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
