//! Compares response times for phones with and without an account. If the times are equal, they do not reveal
//! which phones have an account.

use std::{sync::Arc, time::Instant};

use referral_core::{
    CodeInput, Error, PhoneNumber, ReferralService, Refusal, SendCode, SignIn,
    keys::{Peppers, SigningKeys},
    policy::{Limits, Policy},
    sms::DevelopmentSender,
    storage::Storage,
};

use crate::report::{Report, Row, median};

/// Number of phones of each kind.
const PHONES: u32 = 300;

/// Number of requests for each phone.
const ROUNDS: u32 = 5;

/// Measures requests for codes and sign-ins with wrong codes, alternately for phones with and without an
/// account.
pub(crate) async fn compare(name: &str, storage: Arc<dyn Storage>, report: &mut Report) {
    let referral = referral(storage);
    for number in 0..PHONES {
        let sent = referral.send_code(SendCode::new(phone(number))).await.expect("sent");
        let code = CodeInput::parse(sent.revealed_code.expect("revealed").reveal()).expect("digits");
        referral.sign_in(SignIn::new(sent.phone, code)).await.expect("signed in");
    }
    let (mut requested, mut tried) = ([vec![], vec![]], [vec![], vec![]]);
    for round in 0..ROUNDS {
        for number in 0..PHONES {
            // The order alternates.
            let order = if (round + number).is_multiple_of(2) { [0, 1] } else { [1, 0] };
            for kind in order {
                let phone = phone(number + PHONES * u32::from(kind == 1));
                let started = Instant::now();
                referral.send_code(SendCode::new(phone.clone())).await.expect("sent");
                requested[kind].push(started.elapsed().as_secs_f64());
                let wrong = CodeInput::parse("12345").expect("digits");
                let started = Instant::now();
                let refused = referral.sign_in(SignIn::new(phone, wrong)).await;
                tried[kind].push(started.elapsed().as_secs_f64());
                assert!(matches!(refused, Err(Error::Refused(Refusal::InvalidCode))), "{refused:?}");
            }
        }
    }
    for (what, [known, unknown]) in [("request for a code", &mut requested), ("a wrong code", &mut tried)] {
        let what = format!("{what}, {name}");
        report.push(Row::equal_times(
            &what,
            "for a phone without an account",
            median(known),
            median(unknown),
        ));
    }
    referral.close().await;
}

/// Creates a service whose limits the measurements do not reach.
pub(crate) fn referral(storage: Arc<dyn Storage>) -> ReferralService {
    let mut policy = Policy::standard();
    policy.resend_interval = std::time::Duration::ZERO;
    policy.codes_per_phone = Limits::new([(1_000, std::time::Duration::from_mins(1))]).expect("valid limits");
    policy.codes_per_number_range = Limits::off();
    policy.attack_threshold = Some(1_000_000);
    let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("long enough");
    let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
    let referral = ReferralService::builder(storage, Arc::new(DevelopmentSender), keys, peppers);
    referral.policy(policy).build().expect("a valid policy and a valid key")
}

pub(crate) fn phone(number: u32) -> PhoneNumber {
    PhoneNumber::from_stored(format!("+7960{number:07}")).expect("a phone")
}
