//! Checks that a typed phone number is rejected, or parsed as a number that parses as itself.
//!
//! An input is a number, optionally followed by a tab and the default region: `8 960 854-30-17⇥RU`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use referral_core::{PhoneNumber, Region};

fuzz_target!(|input: &str| {
    let (typed, region) = input.split_once('\t').unwrap_or((input, ""));
    let region = Region::parse(region).ok();
    let Ok(phone) = PhoneNumber::parse(typed, region) else {
        return;
    };

    let digits = phone.as_str().strip_prefix('+').expect("E.164 starts with a plus");
    assert!((7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()));
    if region.is_none() && typed.is_ascii() {
        let first = typed.chars().find(char::is_ascii_digit);
        assert_eq!(first, digits.chars().next(), "the calling code must not change");
    }

    for region in [None, region] {
        assert_eq!(PhoneNumber::parse(phone.as_str(), region).as_ref(), Ok(&phone));
    }
    assert_eq!(PhoneNumber::from_stored(phone.as_str().to_owned()).as_ref(), Ok(&phone));

    let masked = phone.masked();
    let shown = masked.chars().filter(char::is_ascii_digit).count();
    assert!(masked.contains("*****") && shown + 4 <= digits.len(), "at least four digits must be hidden");
    assert!(!format!("{phone:?}").contains(digits));
    let _ = phone.may_be_mobile();
});
