use super::*;
use crate::{error::catalog::ErrorCode, rate_limit::limits::Limit};

#[test]
fn the_three_policies_are_valid_if_strict_has_regions_and_a_budget() {
    let complete = Policy {
        regions: Some(Regions::All),
        messages_per_day: Some(Budget::Messages(1_000)),
        ..Policy::strict()
    };
    for policy in [Policy::standard(), complete.clone(), Policy::development()] {
        assert_eq!(policy.check(), Ok(()));
    }
    assert!(Policy { regions: None, ..complete.clone() }.check().is_err());
    assert!(Policy { messages_per_day: None, ..complete }.check().is_err());
}

fn required_length(policy: &Policy, failed_attempts: usize) -> u8 {
    let now = OffsetDateTime::UNIX_EPOCH;
    policy.required_length(&vec![now; failed_attempts], false, now)
}

#[test]
fn codes_get_longer_with_failures_and_are_never_shorter_than_code_length() {
    let standard = Policy::standard();
    for (failed_attempts, length) in [(0, 4), (4, 4), (5, 6), (29, 6), (30, 8), (10_000, 8)] {
        assert_eq!(required_length(&standard, failed_attempts), length, "{failed_attempts}");
    }
    let long = Policy { code_length: 7, ..standard };
    assert_eq!([required_length(&long, 5), required_length(&long, 30)], [7, 8]);
    assert_eq!(required_length(&Policy::development(), 1_000), 4);
    assert_eq!(Policy::standard().required_length(&[], true, OffsetDateTime::UNIX_EPOCH), 6);
}

fn test_number(number: usize, code: &str) -> TestNumber {
    let phone = PhoneNumber::from_stored(format!("+79608{number:06}")).expect("valid E.164 number");
    TestNumber::new(phone, code, OffsetDateTime::UNIX_EPOCH).expect("valid code")
}

#[test]
fn test_numbers_must_have_long_enough_codes_and_different_phones() {
    let policy = |test_numbers: Vec<_>| Policy { test_numbers, ..Policy::standard() };
    assert_eq!(policy((0..100).map(|number| test_number(number, "4711")).collect()).check(), Ok(()));
    let six_digits = Policy { code_length: 6, ..policy(vec![test_number(1, "47110")]) };
    for policy in [
        six_digits,
        policy((0..101).map(|number| test_number(number, "4711")).collect()),
        policy(vec![test_number(1, "4711"), test_number(2, "4711"), test_number(1, "0815")]),
    ] {
        assert!(policy.check().is_err(), "{policy:?}");
    }
}

#[test]
fn unassigned_numbers_are_accepted_if_they_are_listed() {
    let now = OffsetDateTime::UNIX_EPOCH;
    let until = now + MINUTE;
    let parse =
        |policy: &Policy, input: &str, now| policy.parse_phone(input, now).map(|phone| policy.serves(&phone));
    let mut policy = Policy::standard();
    // Numbers that the regulators of Great Britain, France and Ireland reserve for fiction.
    for fictional in ["+447700900123", "+33639981234", "+353201234567"] {
        assert!(parse(&policy, fictional, now).is_err(), "{fictional}");
        let mut number: TestNumber = format!("{fictional}=47110815@1970-01-01").parse().expect(fictional);
        number.until = until;
        policy.test_numbers.push(number);
        assert!(parse(&policy, fictional, now).is_ok(), "{fictional}");
        assert!(parse(&policy, fictional, until).is_err(), "{fictional}");
    }
    assert!("+44770090=47110815@1970-01-01".parse::<TestNumber>().is_err(), "no number has this length");

    let new_range = "+72001234567";
    assert!(parse(&policy, new_range, now).is_err());
    policy.additional_prefixes = vec![NumberPrefix::parse("+7200").expect("a prefix")];
    policy.regions = Some(Regions::Only(vec![Region::parse("KZ").expect("a region")]));
    assert_eq!(parse(&policy, new_range, now), Ok(true));
    assert_eq!(parse(&policy, "+79608543017", now), Ok(false));
    assert!(parse(&policy, "+720012345", now).is_err(), "too short");
}

#[test]
fn values_out_of_bounds_are_rejected() {
    let standard = Policy::standard;
    for policy in [
        Policy { code_length: 3, ..standard() },
        Policy { code_length: 11, ..standard() },
        Policy { attack_code_length: 11, ..standard() },
        Policy { code_length_steps: code_length_steps(&[(5, 11)]), ..standard() },
        Policy { code_length_steps: code_length_steps(&[(0, 6)]), ..standard() },
        Policy { code_length_steps: code_length_steps(&[(5, 6), (5, 8)]), ..standard() },
        Policy { code_length_steps: code_length_steps(&[(5, 8), (6, 6)]), ..standard() },
        Policy { code_length_steps: code_length_steps(&[(1_001, 6)]), ..standard() },
        Policy { lockout_threshold: Some(0), ..standard() },
        Policy { max_sessions: Some(0), ..standard() },
        Policy { phones_recycled_after: Some(30 * DAY), ..standard() },
        Policy { phones_recycled_after: Some(3_661 * DAY), ..standard() },
        Policy { phones_recycled_after: Some(60 * DAY), deletion_grace: 60 * DAY, ..standard() },
        Policy { deletion_grace: 90 * DAY + Duration::from_secs(1), ..standard() },
        Policy { failed_attempt_window: HOUR, ..standard() },
        Policy { code_lifetime: Duration::ZERO, ..standard() },
        Policy { code_lifetime: 11 * MINUTE, ..standard() },
        Policy { attempts_per_code: 0, ..standard() },
        Policy { resend_interval: 2 * DAY, ..standard() },
        Policy { regions: Some(Regions::Only(Vec::new())), ..standard() },
        Policy { regions: Some(Regions::Only(vec![Region::parse("MF").expect("a region")])), ..standard() },
        Policy {
            additional_prefixes: vec![NumberPrefix::parse("+7200").expect("a prefix"); 101],
            ..standard()
        },
        Policy { messages_per_day: Some(Budget::Messages(0)), ..standard() },
        Policy { access_lifetime: Duration::ZERO, ..standard() },
        Policy { access_lifetime: Duration::from_millis(1_500), ..standard() },
        Policy { refresh_lifetime: MINUTE, ..standard() },
        Policy { session_lifetime: DAY, ..standard() },
        Policy { session_lifetime: Duration::MAX, refresh_lifetime: Duration::MAX, ..standard() },
        Policy { refresh_grace: DAY, ..standard() },
    ] {
        assert!(policy.check().is_err(), "{policy:?}");
    }
}

#[test]
fn max_clock_offset_must_be_one_second_to_five_minutes_or_none() {
    let with = |max_clock_offset| Policy { max_clock_offset, ..Policy::standard() }.check();
    assert_eq!(Policy::standard().max_clock_offset, Some(Duration::from_secs(5)));
    for max in [None, Some(Duration::from_secs(1)), Some(Duration::from_mins(5))] {
        assert_eq!(with(max), Ok(()), "{max:?}");
    }
    for max in [Duration::ZERO, Duration::from_millis(999), Duration::from_millis(300_001), Duration::MAX] {
        assert_eq!(with(Some(max)).expect_err("out of bounds").code().as_str(), "invalid_policy", "{max:?}");
    }
}

#[test]
fn a_limit_has_a_count_and_a_window_within_bounds() {
    for (count, window) in [(0, DAY), (1_001, DAY), (1, 32 * DAY), (1, Duration::ZERO)] {
        let invalid = Limit::new(count, window).expect_err("out of bounds");
        assert_eq!(invalid.code(), ErrorCode::InvalidPolicy);
    }
    assert!(Limit::new(1, Duration::from_secs(1)).is_ok() && Limit::new(1_000, 31 * DAY).is_ok());
}
