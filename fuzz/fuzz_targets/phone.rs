//! Whatever is typed for a phone is refused, or read as a number that reads as itself.
//!
//! `8 960 854-30-17⇥RU` is a number and the region to read it in; without a tab there is none.

#![no_main]

use libfuzzer_sys::fuzz_target;
use referral_core::{PhoneNumber, Region};

fuzz_target!(|input: &str| {
    let (typed, region) = input.split_once('\t').unwrap_or((input, ""));
    let region = Region::parse(region).ok();
    let Ok(phone) = PhoneNumber::parse(typed, region) else {
        return;
    };

    let digits = phone.as_str().strip_prefix('+').expect("E.164 begins with a plus");
    assert!((7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()));
    if region.is_none() && typed.is_ascii() {
        let first = typed.chars().find(char::is_ascii_digit);
        assert_eq!(first, digits.chars().next(), "a message goes to no other part of the world");
    }

    for region in [None, region] {
        assert_eq!(PhoneNumber::parse(phone.as_str(), region).as_ref(), Ok(&phone));
    }
    assert_eq!(PhoneNumber::from_stored(phone.as_str().to_owned()).as_ref(), Ok(&phone));

    let masked = phone.masked();
    let shown = masked.chars().filter(char::is_ascii_digit).count();
    assert!(masked.contains("*****") && shown + 4 <= digits.len(), "at least four digits are hidden");
    assert!(!format!("{phone:?}").contains(digits));
    let _ = phone.may_be_mobile();
});
