//! Requests of a sign-in for tests.

use referral_core::{
    CodeInput, InviteCode, PhoneNumber, ReferralService, SendCode, SentCode, SignIn, SignedIn,
};

/// Returns a mobile phone, a different one for each number below a million.
pub(crate) fn phone(number: u32) -> PhoneNumber {
    PhoneNumber::parse(&format!("+79608{number:06}"), None).expect("valid number")
}

/// Returns a request with the correct code and the challenge.
pub(crate) fn with_right_code(sent: &SentCode) -> SignIn {
    let code = sent.revealed_code.as_ref().expect("the sender returns the code");
    let code = CodeInput::parse(code.reveal()).expect("digits");
    SignIn::new(sent.phone.clone(), code).challenge(sent.challenge)
}

/// Returns a code that is not the one that was sent.
#[allow(dead_code, reason = "not all users of this file call this function")]
pub(crate) fn wrong_code(sent: &SentCode) -> CodeInput {
    let right = sent.revealed_code.as_ref().expect("the sender returns the code");
    CodeInput::parse(if right.reveal() == "0000" { "0001" } else { "0000" }).expect("digits")
}

/// Requests a code for a numbered phone and signs in, which must succeed.
#[allow(dead_code, reason = "not all users of this file call this function")]
pub(crate) async fn enter(
    referral: &ReferralService,
    number: u32,
    invited_by: Option<&InviteCode>,
) -> SignedIn {
    let sent = referral.send_code(SendCode::new(phone(number))).await.expect("sent");
    let request = with_right_code(&sent).invited_by(invited_by.cloned());
    referral.sign_in(request).await.expect("signed in")
}
