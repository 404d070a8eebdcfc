//! Checks that a typed invite code is rejected, or parsed as a code that parses as itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use referral_core::InviteCode;
use referral_fuzz::is_ignored;

fuzz_target!(|input: &str| {
    let read = InviteCode::parse(input);
    // An input with a slash is a link.
    if input.is_ascii() && !input.contains('/') {
        let code = input.replace(is_ignored, "").to_uppercase();
        let is_code = (6..=12).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
        assert_eq!(read.as_ref().ok().map(InviteCode::as_str), is_code.then_some(&*code));
    }

    let Ok(code) = read else {
        return;
    };
    let text = code.as_str();
    assert!((6..=12).contains(&text.len()));
    assert!(text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()));
    let (head, tail) = text.split_at(3);
    for again in [text, &text.to_lowercase(), &format!(" {head}-{tail}\u{a0}")] {
        assert_eq!(InviteCode::parse(again).as_ref(), Ok(&code));
    }
});
