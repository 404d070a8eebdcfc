//! Simulated attacks: the results stay within the documented bounds.

#[path = "../examples/attacks/simulation.rs"]
mod simulation;

use simulation::{Row, standard, strict};

#[track_caller]
fn run<T>(attack: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("the runtime starts");
    runtime.block_on(attack)
}

#[track_caller]
fn assert_all_hold(rows: impl IntoIterator<Item = Row>) {
    for row in rows {
        assert!(row.holds(), "{}\n{row}", Row::HEAD);
    }
}

#[test]
fn one_phone_guessed_for_a_year_is_rarely_taken_over() {
    assert_all_hold(run(simulation::one_phone_is_guessed_for_a_year(standard())));
}

#[test]
fn one_phone_guessed_for_a_year_is_taken_over_more_rarely_with_the_strict_policy() {
    assert_all_hold(run(simulation::one_phone_is_guessed_for_a_year(strict())));
}

#[test]
fn fixed_code_is_as_hard_to_guess_as_a_generated_one() {
    for (policy, digits) in [(standard(), 4), (standard(), 6), (standard(), 8), (strict(), 6), (strict(), 8)]
    {
        assert_all_hold([run(simulation::a_fixed_code_is_guessed_for_a_year(policy, digits))]);
    }
}

#[test]
fn attacker_at_one_address_does_not_lock_out_the_owner() {
    assert_all_hold([run(simulation::attacker_locks_an_owner_out(standard(), 1))]);
}

#[test]
fn message_pumping_is_limited() {
    assert_all_hold(run(simulation::messages_are_pumped()));
}

#[test]
fn guesses_at_many_phones_raise_the_alarm() {
    assert_all_hold(run(simulation::many_phones_are_guessed(60)));
}

#[test]
fn codes_sent_before_the_alarm_are_not_worth_guessing() {
    assert_all_hold([run(simulation::codes_are_collected_first(60))]);
}

#[test]
fn alarm_does_not_adapt_to_two_days_of_attacks() {
    assert_all_hold([run(simulation::attacks_come_at_the_same_time(60))]);
}

#[test]
fn gradual_increase_of_the_usual_count_stays_within_its_bound() {
    assert_all_hold([run(simulation::usual_count_increases_gradually(5))]);
}

#[test]
fn legitimate_users_are_not_rejected() {
    assert_all_hold(run(simulation::legitimate_users_are_served()));
}

#[test]
fn attack_costs_owners_at_most_one_more_code() {
    assert_all_hold([run(simulation::owners_at_the_start_of_an_attack())]);
}
