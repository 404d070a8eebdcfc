//! The limits hold against attacks, and what is known to get past them does.

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
#[ignore = "two addresses use up the five codes of an hour, and four the ten of a day"]
fn a_stranger_at_several_addresses_does_not_lock_an_owner_out() {
    for addresses in [2, 3, 4] {
        assert_all_hold([run(simulation::strangers_lock_an_owner_out(standard(), addresses))]);
    }
}

#[test]
#[ignore = "the strict policy holds a phone after 100 wrong codes, whoever sent them"]
fn a_stranger_does_not_lock_an_owner_out_with_the_strict_policy() {
    assert_all_hold([run(simulation::strangers_lock_an_owner_out(strict(), 1))]);
}

#[test]
#[ignore = "codes that were sent before there were wrong ones keep their four digits"]
fn codes_sent_before_the_alarm_are_not_worth_guessing() {
    assert_all_hold([run(simulation::the_alarm_comes_too_late(60))]);
}

#[test]
#[ignore = "an attack that comes each day at the same time is taken for what is usual"]
fn the_alarm_does_not_get_used_to_attacks() {
    assert_all_hold(run(simulation::the_alarm_is_taught(60, 12)));
}
