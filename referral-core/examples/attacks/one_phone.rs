//! Attacks that guess the codes of one phone, from any number of addresses.

use super::{
    Bound, NamedPolicy, Row,
    world::{At, DAY, FIXED_CODE, HOUR, MINUTE, TICK, World, YEAR, phone},
};

/// Runs each variant for a year. The bound is twelve times the number allowed in a month, plus an allowance
/// for guesses at the longest codes.
pub(crate) async fn one_phone_is_guessed_for_a_year(policy: NamedPolicy) -> Vec<Row> {
    let most = Bound::Takeovers(if policy.1.code_length == 4 { 0.0066 } else { 0.0004 });
    vec![
        use_every_attempt(World::new(policy.clone()), most).await,
        guess_in_bursts(World::new(policy.clone()), most).await,
        guess_evenly(World::new(policy.clone()), most).await,
        guess_while_the_owner_signs_in(World::new(policy), most).await,
    ]
}

/// Guesses the fixed code of a test number, which can be requested any number of times. The bound is that of
/// any other phone.
pub(crate) async fn a_fixed_code_is_guessed_for_a_year((name, mut policy): NamedPolicy, digits: u8) -> Row {
    let most = Bound::Takeovers(if policy.code_length == 4 { 0.0066 } else { 0.0004 });
    let phone = phone(1, 1);
    let number = format!("{}={}@2099-12-31", phone.as_str(), &FIXED_CODE[..digits.into()]);
    policy.test_numbers = vec![number.parse().expect("a test number")];
    let mut world = World::new((name, policy));
    while let Some(sent) = world.request_code_until(YEAR, &phone).await {
        if world.guess_all(&sent, u32::MAX).await < 2 * world.policy.attempts_per_code {
            // The code is invalid until wrong codes expire, or the phone is locked for a day.
            world.wait(DAY);
        }
        // The next code must have a later time, so that it is the newest.
        world.wait(TICK);
    }
    world.row(format!("A test number for a year: {digits} digits, every attempt"), most)
}

/// Requests every available code, and uses all its attempts.
async fn use_every_attempt(mut world: World, bound: Bound) -> Row {
    while let Some(sent) = world.request_code_until(YEAR, &phone(1, 1)).await {
        world.guess_all(&sent, u32::MAX).await;
    }
    world.row("One phone for a year: every code, every attempt", bound)
}

/// Guesses until codes have the greatest length, then waits until wrong codes expire: the most effective
/// variant.
async fn guess_in_bursts(mut world: World, bound: Bound) -> Row {
    let enough = world.policy.code_length_steps.last().expect("codes get longer").failed_attempts;
    let mut failures = 0;
    while let Some(sent) = world.request_code_until(YEAR, &phone(1, 1)).await {
        failures += world.guess_all(&sent, enough - failures).await;
        if failures == enough {
            failures = 0;
            world.wait(world.policy.failed_attempt_window + TICK);
        }
    }
    world.row("One phone for a year: in bursts, waiting until wrong codes expire", bound)
}

/// Guesses only the shortest codes, as often as codes keep this length.
async fn guess_evenly(mut world: World, bound: Bound) -> Row {
    let few = world.policy.code_length_steps[0].failed_attempts;
    let pause = world.policy.failed_attempt_window / few + TICK;
    while let Some(sent) = world.request_code_until(YEAR, &phone(1, 1)).await {
        let from = world.new_address();
        world.guess(At::Challenge(&sent), from).await;
        world.wait(pause);
    }
    world.row("One phone for a year: only the shortest codes, evenly distributed", bound)
}

/// Guesses the shortest codes, including the owner's, while the owner signs in each day. Checks each day
/// whether the codes are short again.
async fn guess_while_the_owner_signs_in(mut world: World, bound: Bound) -> Row {
    let (phone, owner) = (phone(1, 1), world.new_address());
    let shortest = world.policy.code_length;
    while world.elapsed() < YEAR {
        let morning = world.elapsed();
        // The guesses at the first code may make it too short to be valid.
        for _ in 0..2 {
            let sent = world.send(&phone, owner).await.expect("the owner may request ten codes a day");
            if sent.code_length == shortest {
                world.guess_all(&sent, u32::MAX).await;
            }
            if world.sign_in(&sent, owner).await {
                break;
            }
            world.wait(MINUTE);
        }
        while let Some(sent) = world.request_code_until(morning + HOUR, &phone).await {
            if sent.code_length > shortest {
                break;
            }
            world.guess_all(&sent, u32::MAX).await;
        }
        world.wait_until(morning + DAY);
    }
    world.row("One phone for a year: while its owner signs in each day", bound)
}
