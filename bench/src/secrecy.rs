//! What times tell: nothing about who has an account, if it takes as long to refuse a stranger as a
//! user.

use std::{sync::Arc, time::Instant};

use referral_core::{
    CodeInput, Limits, Peppers, PhoneNumber, Policy, Referral, SendCode, SignIn, SigningKeys,
    sms::DevelopmentSender, storage::Storage,
};

use crate::report::{Report, Row, median};

/// How many phones of each kind.
const PHONES: u32 = 300;

/// How often each is asked for.
const ROUNDS: u32 = 5;

/// Asks for codes and sends wrong ones back, for phones with an account and without, in turn.
pub(crate) async fn compare(name: &str, storage: Arc<dyn Storage>, report: &mut Report) {
    let referral = referral(storage);
    for number in 0..PHONES {
        let sent = referral.send_code(SendCode::new(phone(number))).await.expect("sent");
        let code = CodeInput::parse(sent.revealed_code.expect("revealed").reveal()).expect("digits");
        referral.sign_in(SignIn::new(sent.phone, code)).await.expect("signed in");
    }
    let (mut asked, mut tried) = ([vec![], vec![]], [vec![], vec![]]);
    for round in 0..ROUNDS {
        for number in 0..PHONES {
            // First the one, then the other.
            let order = if (round + number).is_multiple_of(2) { [0, 1] } else { [1, 0] };
            for kind in order {
                let phone = phone(number + PHONES * u32::from(kind == 1));
                let started = Instant::now();
                referral.send_code(SendCode::new(phone.clone())).await.expect("sent");
                asked[kind].push(started.elapsed().as_secs_f64());
                let wrong = CodeInput::parse("12345").expect("digits");
                let started = Instant::now();
                referral.sign_in(SignIn::new(phone, wrong)).await.expect_err("five digits are wrong");
                tried[kind].push(started.elapsed().as_secs_f64());
            }
        }
    }
    for (what, [known, unknown]) in [("asking for a code", &mut asked), ("a wrong code", &mut tried)] {
        let what = format!("{what}, {name}");
        report.push(Row::alike(&what, "for a phone without an account", median(known), median(unknown)));
    }
    referral.close().await;
}

fn referral(storage: Arc<dyn Storage>) -> Referral {
    let mut policy = Policy::standard();
    policy.cool_down = std::time::Duration::ZERO;
    policy.codes_per_phone = Limits::new([(1_000, std::time::Duration::from_mins(1))]);
    policy.codes_per_block = Limits::off();
    policy.attack_failures = Some(1_000_000);
    let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("long enough");
    let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
    let referral = Referral::builder(storage, Arc::new(DevelopmentSender), keys, peppers);
    referral.policy(policy).build().expect("a sound policy and a sound key")
}

fn phone(number: u32) -> PhoneNumber {
    PhoneNumber::from_stored(format!("+7960{number:07}")).expect("a phone")
}
