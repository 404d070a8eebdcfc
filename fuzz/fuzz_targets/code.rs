//! Checks that a typed one-time code is rejected, or parsed as exactly its digits.
//!
//! A parsed code does not show its digits. So the target sends a code, replaces the digits of the input by
//! the digits of that code, and signs in with the result.

#![no_main]

use libfuzzer_sys::fuzz_target;
use referral_core::{
    ChallengeId, CodeInput, PhoneNumber, ReferralService, SendCode, SignIn,
    policy::{CODE_LENGTHS, Policy},
};
use referral_fuzz::{Ticking, is_ignored, run, service};

const KEYS: &str =
    r#"{"keys":[{"kty":"oct","kid":"k1","use":"sig","k":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"}]}"#;

/// Digit zero of some of the scripts whose digits are accepted.
const ZEROS: [char; 4] = ['0', '٠', '०', '０'];

fuzz_target!(|input: &str| {
    let read = CodeInput::parse(input);
    if input.is_ascii() {
        let digits = input.replace(is_ignored, "");
        let is_code = (1..=10).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        assert_eq!(read.is_ok(), is_code);
    }
    if let Ok(number) = input.parse() {
        assert_eq!(CodeInput::from_number(number).is_ok(), number < 10_000_000_000);
    }

    let Ok(read) = read else {
        return;
    };
    assert_eq!(format!("{read:?}"), "CodeInput(…)");
    let length = input.chars().filter(|c| c.is_numeric()).count();
    assert!((1..=10).contains(&length));
    assert!(!input.contains(|c: char| c.is_alphabetic() || c.is_control() && !c.is_whitespace()));
    if let Ok(length) = u8::try_from(length)
        && CODE_LENGTHS.contains(&length)
    {
        run(type_back(input, length));
    }
});

/// Sends a code of `length` digits, and signs in with that code in the format of the input.
async fn type_back(input: &str, length: u8) {
    let seed = input.bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(257).wrapping_add(byte.into()));
    let mut policy = Policy::development();
    policy.code_length = length;
    let referral = service(KEYS, policy, seed)
        .clock(std::sync::Arc::new(Ticking::default()))
        .build()
        .expect("a valid policy");
    let phone = PhoneNumber::parse("+79608543017", None).expect("a phone");

    let (code, challenge) = send(&referral, &phone).await;
    let mut digits = code.chars();
    let typed: Option<String> = input.chars().map(|c| with_digit(c, &mut digits)).collect();
    if let Some(typed) = typed {
        let typed = CodeInput::parse(&typed).expect("the format of the input is valid");
        let wrong = CodeInput::parse(&other(&code)).expect("digits");
        assert!(!signs_in(&referral, &phone, challenge, wrong).await);
        assert!(signs_in(&referral, &phone, challenge, typed.clone()).await);
        assert!(!signs_in(&referral, &phone, challenge, typed).await, "a code must be valid only once");
    }

    let (code, challenge) = send(&referral, &phone).await;
    let number = code.parse().expect("digits");
    let shortened = CodeInput::parse(&format!("{number}")).expect("digits");
    assert_eq!(signs_in(&referral, &phone, challenge, shortened).await, !code.starts_with('0'));
    if code.starts_with('0') {
        let number = CodeInput::from_number(number).expect("at most ten digits");
        assert!(
            signs_in(&referral, &phone, challenge, number).await,
            "a code that was sent as a number must get its leading zeros back"
        );
    }
}

async fn send(referral: &ReferralService, phone: &PhoneNumber) -> (String, ChallengeId) {
    let sent = referral.send_code(SendCode::new(phone.clone())).await.expect("sent");
    (sent.revealed_code.expect("revealed").reveal().to_owned(), sent.challenge)
}

async fn signs_in(
    referral: &ReferralService,
    phone: &PhoneNumber,
    challenge: ChallengeId,
    code: CodeInput,
) -> bool {
    referral.sign_in(SignIn::new(phone.clone(), code).challenge(Some(challenge))).await.is_ok()
}

/// Returns the next of `digits` in the script of `c` if `c` is a digit, otherwise `c`. Returns `None` if the
/// script of a digit is not in [`ZEROS`], or no digit is left.
fn with_digit(c: char, digits: &mut impl Iterator<Item = char>) -> Option<char> {
    if !c.is_numeric() {
        return Some(c);
    }
    let zero =
        ZEROS.iter().map(|zero| u32::from(*zero)).find(|zero| (*zero..zero + 10).contains(&c.into()))?;
    char::from_u32(zero + digits.next()?.to_digit(10)?)
}

/// Returns another code of the same length.
fn other(code: &str) -> String {
    let first = if code.starts_with('5') { '6' } else { '5' };
    format!("{first}{}", &code[1..])
}
