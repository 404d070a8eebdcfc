//! The limits hold against attacks: none comes to more than is said of it.

#[path = "../examples/attacks/simulation.rs"]
mod simulation;

use simulation::{Row, standard, strict};

#[track_caller]
fn run<T>(attack: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    runtime.block_on(attack)
}

#[track_caller]
fn assert_all_hold(rows: impl IntoIterator<Item = Row>) {
    for row in rows {
        assert!(row.holds(), "{}\n{row}", Row::HEAD);
    }
}

#[test]
fn one_phone_guessed_for_a_year_is_hardly_ever_taken_over() {
    assert_all_hold(run(simulation::one_phone_is_guessed_for_a_year(standard())));
}

#[test]
fn one_phone_guessed_for_a_year_is_taken_over_even_less_with_the_strict_policy() {
    assert_all_hold(run(simulation::one_phone_is_guessed_for_a_year(strict())));
}

#[test]
fn a_fixed_code_is_guessed_no_sooner_than_one_that_is_drawn() {
    for (policy, digits) in [(standard(), 4), (standard(), 6), (standard(), 8), (strict(), 6), (strict(), 8)]
    {
        assert_all_hold([run(simulation::a_fixed_code_is_guessed_for_a_year(policy, digits))]);
    }
}

#[test]
fn a_stranger_at_one_address_does_not_lock_an_owner_out() {
    assert_all_hold([run(simulation::strangers_lock_an_owner_out(standard(), 1))]);
}

#[test]
fn pumping_messages_is_limited() {
    assert_all_hold(run(simulation::messages_are_pumped()));
}

#[test]
fn guesses_at_many_phones_sound_the_alarm() {
    assert_all_hold(run(simulation::many_phones_are_guessed(60)));
}

#[test]
fn codes_sent_before_the_alarm_are_not_worth_guessing() {
    assert_all_hold([run(simulation::codes_are_collected_first(60))]);
}

#[test]
fn the_alarm_does_not_get_used_to_attacks_at_once() {
    assert_all_hold([run(simulation::attacks_come_at_the_same_time(60))]);
}

#[test]
fn whoever_teaches_the_alarm_gets_as_far_as_is_said() {
    assert_all_hold([run(simulation::the_alarm_is_taught(5))]);
}

#[test]
fn legitimate_users_are_not_rejected() {
    assert_all_hold(run(simulation::legitimate_users_are_served()));
}

#[test]
fn an_attack_costs_owners_no_more_than_another_code() {
    assert_all_hold([run(simulation::owners_at_the_start_of_an_attack())]);
}
