//! Process that signs users up, changes phones and deletes users with a transaction hook and is killed at
//! random points. The test program starts itself as this process.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

use referral_core::{
    ChangePhone, PhoneNumber, SendCode, SendPhoneChangeCode, SignIn,
    policy::Policy,
    random::{Random as _, SystemRandom},
    sms::DevelopmentSender,
    storage::Storage,
};

use crate::{
    service,
    sign_in::{with_right_code, wrong_code},
};

/// Environment variables of the process: the URL of the database, and the number of its first phone.
const URL: &str = "REFERRAL_TEST_KILLED_URL";
const FIRST: &str = "REFERRAL_TEST_KILLED_FIRST";

/// Number of times that the process is killed.
const KILLS: u32 = 200;

/// Maximum number of lines that are read from the process before it is killed.
const MAX_LINES: u32 = 8;

/// Work that the process reported before it was killed.
#[derive(Default)]
pub(crate) struct Reported {
    pub(crate) users: i64,
    pub(crate) deleted_users: i64,
    pub(crate) changed_phones: i64,
    pub(crate) wrong_codes: i64,
}

/// Returns the URL of the database, if this program was started as the process.
pub(crate) fn url() -> Option<String> {
    env::var(URL).ok()
}

/// Signs users up until the process is killed, deletes every second one, and changes the phones of the
/// others. Each user sends a wrong code before the right one.
pub(crate) async fn sign_up(storage: Arc<dyn Storage>) {
    let builder = service::builder(storage, DevelopmentSender).policy(Policy::development());
    let referral = builder.build().expect("valid policy and keys");
    let mut number: u32 = env::var(FIRST).expect("a number").parse().expect("a number");
    loop {
        // Parsing would load the numbering plans, which takes longer than the rest.
        let phone = PhoneNumber::from_stored(format!("+79608{number:06}")).expect("a phone");
        let sent = referral.send_code(SendCode::new(phone.clone())).await.expect("sent");
        let wrong = SignIn::new(phone, wrong_code(&sent)).challenge(sent.challenge);
        referral.sign_in(wrong).await.expect_err("wrong");
        report("wrong code");
        let signed_in = referral.sign_in(with_right_code(&sent)).await.expect("signed in");
        report("user");
        if number.is_multiple_of(2) {
            referral.delete_user(signed_in.user.id).await.expect("deleted");
            report("deleted user");
        } else {
            let current_user = referral.authenticate(&signed_in.tokens.access).await.expect("a user");
            let new = PhoneNumber::from_stored(format!("+79609{number:06}")).expect("a phone");
            let send = SendPhoneChangeCode::new(new.clone());
            let sent = referral.send_phone_change_code(&current_user, send).await.expect("sent");
            let right = ChangePhone::new(new, sent.challenge, with_right_code(&sent).code);
            referral.change_phone(&current_user, right).await.expect("changed");
            report("changed phone");
        }
        number += 1;
    }
}

/// Asserts that the hook has written a row for each changed phone, and for no other. `schema` is the start of
/// the names of the tables.
pub(crate) async fn assert_phones_are_written(
    reported: &Reported,
    count: impl AsyncFn(&str) -> i64,
    schema: &str,
) {
    let changed = count(&format!("{schema}users WHERE phone LIKE '+79609%'")).await;
    assert!(changed >= reported.changed_phones, "{changed}");
    assert_eq!(count("phones").await, changed);
    let wrong = format!("phones p JOIN {schema}users u ON u.id = p.user_id WHERE u.phone <> p.new");
    assert_eq!(count(&wrong).await, 0);
}

fn report(words: &str) {
    writeln!(std::io::stdout(), "{words}").expect("written");
}

/// Starts the test `child` of this program as the process, and kills it, many times.
pub(crate) fn kill_often(child: &str, url: &str) -> Reported {
    let random = |below: u32| {
        let mut bytes = [0; 4];
        SystemRandom.fill(&mut bytes);
        u32::from_le_bytes(bytes) % below
    };
    let mut reported = Reported::default();
    for kill in 0..KILLS {
        let mut process = Command::new(env::current_exe().expect("this program"))
            .args([child, "--exact", "--nocapture"])
            .env(URL, url)
            .env(FIRST, (kill * 1_000).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut lines = BufReader::new(process.stdout.take().expect("a piped output")).lines();
        let mut rest = 1 + random(MAX_LINES);
        let mut count = |line: &str| {
            let counter = match line {
                "user" => &mut reported.users,
                "deleted user" => &mut reported.deleted_users,
                "changed phone" => &mut reported.changed_phones,
                "wrong code" => &mut reported.wrong_codes,
                // The output of the test runner.
                _ => return 0,
            };
            *counter += 1;
            1
        };
        while rest > 0 {
            let line = lines.next().expect("the process runs until it is killed").expect("readable");
            rest -= count(&line);
        }
        // The process goes on in the meantime.
        for _ in 0..random(2_000) {
            thread::yield_now();
        }
        process.kill().expect("killed");
        process.wait().expect("a process");
        for line in lines {
            count(&line.expect("readable"));
        }
    }
    reported
}
