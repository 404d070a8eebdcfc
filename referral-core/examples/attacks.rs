//! Simulated attacks on the service, and a table of their results. They show the effect of the limits.
//!
//! ```sh
//! cargo run --release -p referral-core --features conformance --example attacks
//! ```

#[path = "attacks/simulation.rs"]
mod simulation;

use simulation::{Row, standard, strict};

#[expect(clippy::print_stdout, reason = "it prints a table")]
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut rows = Vec::new();
    rows.extend(simulation::one_phone_is_guessed_for_a_year(standard()).await);
    rows.extend(simulation::one_phone_is_guessed_for_a_year(strict()).await);
    for (policy, digits) in [(standard(), 4), (standard(), 6), (standard(), 8), (strict(), 6), (strict(), 8)]
    {
        rows.push(simulation::a_fixed_code_is_guessed_for_a_year(policy, digits).await);
    }
    for (policy, addresses) in
        [(standard(), 1), (standard(), 2), (standard(), 3), (standard(), 4), (strict(), 1)]
    {
        rows.push(simulation::attacker_locks_an_owner_out(policy, addresses).await);
    }
    rows.extend(simulation::messages_are_pumped().await);
    rows.extend(simulation::many_phones_are_guessed(1_000).await);
    rows.push(simulation::codes_are_collected_first(1_000).await);
    rows.push(simulation::attacks_come_at_the_same_time(1_000).await);
    rows.push(simulation::usual_count_increases_gradually(21).await);

    rows.extend(simulation::legitimate_users_are_served().await);
    rows.push(simulation::owners_at_the_start_of_an_attack().await);

    println!("{}", Row::HEAD);
    for row in rows {
        println!("{row}");
    }
}
