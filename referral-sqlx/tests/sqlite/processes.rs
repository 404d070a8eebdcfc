//! Several processes on one file: this program starts itself anew, as often as it needs.
//!
//! A child says when it is ready, and begins when it has read its input to the end. So all begin
//! at once, and nobody sleeps.

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use referral_core::{
    ChallengeId, CodeInput, Error, InviteCode, Peppers, PhoneNumber, Referral, Refusal, SendCode, SentCode,
    SignIn, SignedIn, SigningKeys, User,
    clock::{Clock, SystemClock},
    conformance::{ManualClock, run},
    sms::DevelopmentSender,
};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::url_in;

/// The name of the variable that tells a child which file to open.
const URL: &str = "REFERRAL_TEST_URL";

/// What a child does once it may; for a test that is no child, nothing.
///
/// Its input has one line for each sign-in to try: phone, challenge, code and invite code, or `-`
/// for none. It tries them all at once and tells how many were accepted, refused with each
/// reason, and made a user.
#[test]
fn child() {
    let Ok(url) = env::var(URL) else {
        return;
    };
    run(async move {
        say("ready");
        let mut input = String::new();
        io::stdin().read_to_string(&mut input).expect("readable");

        let referral = referral(&url, SystemClock).await;
        let attempts: Vec<_> =
            input.lines().map(|line| tokio::spawn(attempt(referral.clone(), line.to_owned()))).collect();
        let mut tally = Tally::default();
        for outcome in attempts {
            match outcome.await.expect("no task panics") {
                Ok(signed_in) => {
                    tally.accepted += 1;
                    tally.created += u32::from(signed_in.created);
                }
                Err(Error::Refused(Refusal::InvalidCode)) => tally.invalid += 1,
                Err(Error::Refused(Refusal::InvitationLoop)) => tally.loops += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        referral.check_ready().await.expect("ready");
        say(&format!("tally {} {} {} {}", tally.accepted, tally.created, tally.invalid, tally.loops));
    });
}

async fn attempt(referral: Referral, line: String) -> Result<SignedIn, Error> {
    let [phone, challenge, code, invite_code] = *line.split(' ').collect::<Vec<_>>() else {
        panic!("four words: {line}");
    };
    let phone = PhoneNumber::parse(phone, None).expect("a phone");
    let request = SignIn::new(phone, CodeInput::parse(code).expect("digits"))
        .challenge(challenge.parse::<ChallengeId>().expect("an id"))
        .invited_by(InviteCode::parse(invite_code).ok());
    referral.sign_in(request).await
}

#[test]
fn processes_that_start_at_once_on_an_absent_file_all_succeed() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = url_in(folder.path());
        let tallies = run_children(&url, &[""; 8]);
        assert_eq!(tallies.len(), 8);
        run(assert_sound(url));
    }
}

#[test]
fn of_two_processes_with_one_code_one_redeems_it() {
    let (url, _folder, lines) = prepare(async |referral, _clock| {
        let anna = enter(&referral, 0).await;
        let mut lines = String::new();
        for number in 1..=50 {
            lines += &line(&send_code(&referral, number).await, Some(&anna));
        }
        [lines.clone(), lines]
    });
    let total = Tally::sum(&run_children(&url, &[&lines[0], &lines[1]]));
    assert_eq!(total, Tally { accepted: 50, created: 50, invalid: 50, loops: 0 });
    run(assert_sound(url));
}

#[test]
fn of_two_processes_with_one_new_phone_one_makes_the_user() {
    let (url, _folder, lines) = prepare(async |referral, clock| {
        let anna = enter(&referral, 0).await;
        let mut lines = [String::new(), String::new()];
        for lines in &mut lines {
            clock.advance(referral.policy().cool_down);
            for number in 1..=50 {
                *lines += &line(&send_code(&referral, number).await, Some(&anna));
            }
        }
        lines
    });
    let total = Tally::sum(&run_children(&url, &[&lines[0], &lines[1]]));
    assert_eq!(total, Tally { accepted: 100, created: 50, invalid: 0, loops: 0 });
    run(assert_sound(url));
}

#[test]
fn of_two_users_who_accept_one_another_in_two_processes_one_succeeds() {
    let (url, _folder, lines) = prepare(async |referral, _clock| {
        let mut lines = [String::new(), String::new()];
        for pair in 0..25 {
            let [anna, boris] = [enter(&referral, 2 * pair).await, enter(&referral, 2 * pair + 1).await];
            lines[0] += &line(&send_code(&referral, 2 * pair).await, Some(&boris));
            lines[1] += &line(&send_code(&referral, 2 * pair + 1).await, Some(&anna));
        }
        lines
    });
    let total = Tally::sum(&run_children(&url, &[&lines[0], &lines[1]]));
    assert_eq!(total, Tally { accepted: 25, created: 0, invalid: 0, loops: 25 });
    run(assert_sound(url));
}

/// How many sign-ins ended how.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    accepted: u32,
    created: u32,
    invalid: u32,
    loops: u32,
}

impl Tally {
    fn sum(tallies: &[Self]) -> Self {
        tallies.iter().fold(Self::default(), |sum, one| Self {
            accepted: sum.accepted + one.accepted,
            created: sum.created + one.created,
            invalid: sum.invalid + one.invalid,
            loops: sum.loops + one.loops,
        })
    }
}

/// Makes a file with what `fill` leaves in it, and gives what it returns.
fn prepare(
    fill: impl AsyncFn(Referral, ManualClock) -> [String; 2],
) -> (String, tempfile::TempDir, [String; 2]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = url_in(folder.path());
    let mut filled = None;
    run(async {
        // Early enough that two codes can be sent to a phone before the children look at them.
        let clock = ManualClock::new(SystemClock.now() - Duration::from_mins(3));
        let referral = referral(&url, clock.clone()).await;
        filled = Some(fill(referral, clock).await);
    });
    (url, folder, filled.expect("the file was filled"))
}

async fn referral(url: &str, clock: impl Clock) -> Referral {
    let storage = referral_sqlx::connect(url).await.expect("opened");
    let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("long enough");
    let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
    let builder = Referral::builder(storage, Arc::new(DevelopmentSender), keys, peppers).clock(clock);
    builder.build().expect("a sound policy and a sound key")
}

async fn send_code(referral: &Referral, number: u32) -> SentCode {
    let phone = PhoneNumber::parse(&format!("+79608{:06}", number * 1_000), None).expect("a mobile number");
    referral.send_code(SendCode::new(phone)).await.expect("sent")
}

/// Signs in once, without an invite code.
async fn enter(referral: &Referral, number: u32) -> User {
    let sent = send_code(referral, number).await;
    attempt(referral.clone(), line(&sent, None).trim_end().to_owned()).await.expect("signed in").user
}

/// A line of a child's input.
fn line(sent: &SentCode, invited_by: Option<&User>) -> String {
    let code = sent.revealed_code.as_ref().expect("the development sender reveals it").reveal();
    let invite_code = invited_by.map_or("-", |user| user.invite_code.as_str());
    format!("{} {} {code} {invite_code}\n", sent.phone.as_str(), sent.challenge)
}

/// Runs one child for each input, all at once.
fn run_children(url: &str, inputs: &[&str]) -> Vec<Tally> {
    let mut children: Vec<_> = inputs.iter().map(|_| start_child(url)).collect();
    for (_, output) in &mut children {
        heard_of(output, "ready");
    }
    // A pipe holds the few kilobytes that are written here, so nobody waits for anybody.
    let mut pipes = Vec::new();
    for ((child, _), input) in children.iter_mut().zip(inputs) {
        let mut pipe = child.stdin.take().expect("a piped input");
        pipe.write_all(input.as_bytes()).expect("written");
        pipes.push(pipe);
    }
    drop(pipes);

    let finish = |(mut child, mut output): (Child, _)| {
        let tally = heard_of(&mut output, "tally");
        io::copy(&mut output, &mut io::sink()).expect("readable");
        assert!(child.wait().expect("a child").success());
        let counts: Vec<u32> =
            tally.split_whitespace().map(|count| count.parse().expect("a count")).collect();
        let [accepted, created, invalid, loops] = counts[..] else {
            panic!("four counts: {tally}");
        };
        Tally { accepted, created, invalid, loops }
    };
    children.into_iter().map(finish).collect()
}

fn start_child(url: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(env::current_exe().expect("this program"))
        .args(["processes::child", "--exact", "--nocapture"])
        .env(URL, url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child process");
    let output = BufReader::new(child.stdout.take().expect("a piped output"));
    (child, output)
}

fn say(words: &str) {
    writeln!(io::stdout(), "{words}").expect("somebody listens");
}

/// Reads until a line has `word` in it, and gives what follows.
fn heard_of(output: &mut impl BufRead, word: &str) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(output.read_line(&mut line).expect("readable"), 0, "the child ended without {word}");
        if let Some((_, rest)) = line.split_once(word) {
            return rest.trim().to_owned();
        }
    }
}

/// Checks what must hold whatever happened.
async fn assert_sound(url: String) {
    let options: SqliteConnectOptions = url.parse().expect("a URL");
    let mut connection = SqliteConnection::connect_with(&options).await.expect("a connection");
    for (claim, violations) in [
        ("the total is true", "SELECT count(*) FROM totals WHERE users <> (SELECT count(*) FROM users)"),
        (
            "every count of invitees is true",
            "SELECT count(*) FROM users WHERE invited_count <> \
             (SELECT count(*) FROM invitations WHERE inviter = users.id)",
        ),
        (
            "nobody is among their own inviters",
            "WITH RECURSIVE above (invitee, inviter) AS (SELECT invitee, inviter FROM invitations \
             UNION SELECT a.invitee, i.inviter FROM above a JOIN invitations i ON i.invitee = a.inviter) \
             SELECT count(*) FROM above WHERE invitee = inviter",
        ),
        (
            "each session comes from a redeemed code",
            "SELECT (SELECT count(*) FROM sessions) <> \
             (SELECT count(*) FROM challenges WHERE redeemed_at IS NOT NULL)",
        ),
        ("references hold", "SELECT count(*) FROM pragma_foreign_key_check"),
        ("the file is whole", "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"),
    ] {
        let violations: i64 = sqlx::query_scalar(violations).fetch_one(&mut connection).await.expect(claim);
        assert_eq!(violations, 0, "{claim}");
    }
}
