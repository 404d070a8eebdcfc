//! Somebody does nothing else than guess at one phone, from as many addresses as they like.

use super::{
    Bound, NamedPolicy, Row,
    world::{At, DAY, FIXED_CODE, HOUR, MINUTE, MOMENT, World, YEAR, phone},
};

/// Every way to go about it, for a year. The bound is twelve times what is allowed in a month, with
/// room for guesses at the longest codes.
pub(crate) async fn one_phone_is_guessed_for_a_year(policy: NamedPolicy) -> Vec<Row> {
    let most = Bound::Takeovers(if policy.1.code_length == 4 { 0.0066 } else { 0.0004 });
    vec![
        tireless(World::new(policy.clone()), most).await,
        patient(World::new(policy.clone()), most).await,
        evenly(World::new(policy.clone()), most).await,
        beside_the_owner(World::new(policy), most).await,
    ]
}

/// The same for a test number, whose code is always the same and can be had as often as one likes. The
/// bound is that of any other phone.
pub(crate) async fn a_fixed_code_is_guessed_for_a_year((name, mut policy): NamedPolicy, digits: u8) -> Row {
    let most = Bound::Takeovers(if policy.code_length == 4 { 0.0066 } else { 0.0004 });
    let phone = phone(1, 1);
    let number = format!("{}={}@2099-12-31", phone.as_str(), &FIXED_CODE[..digits.into()]);
    policy.test_numbers = vec![number.parse().expect("a test number")];
    let mut world = World::new((name, policy));
    while let Some(sent) = world.ask_until(YEAR, &phone).await {
        if world.guess_all(&sent, u32::MAX).await < 2 * world.policy.tries_per_code {
            // The code is dead until wrong ones are forgotten, or the phone is held for a day.
            world.wait(DAY);
        }
        // The next is the newest then.
        world.wait(MOMENT);
    }
    world.row(format!("A test number for a year: {digits} digits, every try"), most)
}

/// Takes every code there is, and guesses with all its tries.
async fn tireless(mut world: World, bound: Bound) -> Row {
    while let Some(sent) = world.ask_until(YEAR, &phone(1, 1)).await {
        world.guess_all(&sent, u32::MAX).await;
    }
    world.row("One phone for a year: every code, every try", bound)
}

/// Guesses until codes are at their longest, and then waits until all is forgotten: the worst there is.
async fn patient(mut world: World, bound: Bound) -> Row {
    let enough = world.policy.lengthening.last().expect("codes get longer").failures;
    let mut failures = 0;
    while let Some(sent) = world.ask_until(YEAR, &phone(1, 1)).await {
        failures += world.guess_all(&sent, enough - failures).await;
        if failures == enough {
            failures = 0;
            world.wait(world.policy.failure_memory + MOMENT);
        }
    }
    world.row("One phone for a year: in bursts, waiting until they are forgotten", bound)
}

/// Guesses at nothing but the shortest codes, as often as they stay so.
async fn evenly(mut world: World, bound: Bound) -> Row {
    let few = world.policy.lengthening[0].failures;
    let pause = world.policy.failure_memory / few + MOMENT;
    while let Some(sent) = world.ask_until(YEAR, &phone(1, 1)).await {
        let from = world.new_address();
        world.guess(At::Challenge(&sent), from).await;
        world.wait(pause);
    }
    world.row("One phone for a year: only the shortest codes, evenly", bound)
}

/// Guesses at the shortest codes, the owner's too, while the owner signs in each day; and sees each day
/// whether they are short again.
async fn beside_the_owner(mut world: World, bound: Bound) -> Row {
    let (phone, owner) = (phone(1, 1), world.new_address());
    let shortest = world.policy.code_length;
    while world.elapsed() < YEAR {
        let morning = world.elapsed();
        // What the stranger guesses at the first may make it too short.
        for _ in 0..2 {
            let sent = world.send(&phone, owner).await.expect("there are ten a day");
            if sent.code_length == shortest {
                world.guess_all(&sent, u32::MAX).await;
            }
            if world.sign_in(&sent, owner).await {
                break;
            }
            world.wait(MINUTE);
        }
        while let Some(sent) = world.ask_until(morning + HOUR, &phone).await {
            if sent.code_length > shortest {
                break;
            }
            world.guess_all(&sent, u32::MAX).await;
        }
        world.wait_until(morning + DAY);
    }
    world.row("One phone for a year: while its owner signs in each day", bound)
}
