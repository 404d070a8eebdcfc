//! Tests of several processes that share a file. The test program starts itself as child processes.
//!
//! A child prints when it is ready, and starts its work after it has read its input to the end. All children
//! therefore start concurrently, without sleeping.

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use referral_core::{
    ChallengeId, CodeInput, Error, InviteCode, PhoneNumber, ReferralService, Refusal, SendCode, SentCode,
    SignIn, SignedIn, User,
    clock::{Clock, SystemClock},
    conformance::run,
    sms::DevelopmentSender,
    test_util::ManualClock,
};

use crate::{raw, service, sign_in::phone, url_in};

/// Environment variable with the URL of the file for a child process.
const URL: &str = "REFERRAL_TEST_URL";

/// Runs the work of a child process. Does nothing in a normal test run.
///
/// The input has one line for each sign-in: phone, challenge, code, and invite code or `-`. The child runs
/// all of them concurrently and prints the numbers of accepted sign-ins, created users, and refusals by
/// reason.
#[test]
fn child() {
    let Ok(url) = env::var(URL) else {
        return;
    };
    run(async move {
        print("ready");
        let mut input = String::new();
        io::stdin().read_to_string(&mut input).expect("readable");

        let referral = referral(&url, SystemClock).await;
        let attempts: Vec<_> =
            input.lines().map(|line| tokio::spawn(attempt(referral.clone(), line.to_owned()))).collect();
        let mut tally = Tally::default();
        for outcome in attempts {
            match outcome.await.expect("no panic") {
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
        print(&format!("tally {} {} {} {}", tally.accepted, tally.created, tally.invalid, tally.loops));
    });
}

async fn attempt(referral: ReferralService, line: String) -> Result<SignedIn, Error> {
    let [phone, challenge, code, invite_code] = *line.split(' ').collect::<Vec<_>>() else {
        panic!("a line must have four words: {line}");
    };
    let phone = PhoneNumber::parse(phone, None).expect("a phone");
    let request = SignIn::new(phone, CodeInput::parse(code).expect("digits"))
        .challenge(challenge.parse::<ChallengeId>().expect("an id"))
        .invited_by(InviteCode::parse(invite_code).ok());
    referral.sign_in(request).await
}

#[test]
fn concurrent_startup_on_a_missing_file_succeeds() {
    for _ in 0..10 {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let url = url_in(directory.path());
        let tallies = run_children(&url, &[""; 8]);
        assert_eq!(tallies.len(), 8);
        run(assert_sound(url));
    }
}

#[test]
fn a_code_is_redeemed_by_only_one_of_two_processes() {
    let (url, _directory, lines) = prepare(async |referral, _clock| {
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
fn a_user_is_created_by_only_one_of_two_processes() {
    let (url, _directory, lines) = prepare(async |referral, clock| {
        let anna = enter(&referral, 0).await;
        let mut lines = [String::new(), String::new()];
        for lines in &mut lines {
            clock.advance(referral.policy().resend_interval);
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
fn mutual_invitations_in_two_processes_are_accepted_only_once() {
    let (url, _directory, lines) = prepare(async |referral, _clock| {
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

/// Numbers of sign-ins by outcome.
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

/// Creates a file, fills it with `fill`, and returns the result of `fill`.
fn prepare(
    fill: impl AsyncFn(ReferralService, ManualClock) -> [String; 2],
) -> (String, tempfile::TempDir, [String; 2]) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = url_in(directory.path());
    let mut filled = None;
    run(async {
        // Early enough that a second code can be sent to each phone before the children start.
        let clock = ManualClock::new(SystemClock.now() - Duration::from_mins(3));
        let referral = referral(&url, clock.clone()).await;
        filled = Some(fill(referral, clock).await);
    });
    (url, directory, filled.expect("the file was filled"))
}

async fn referral(url: &str, clock: impl Clock) -> ReferralService {
    let storage = referral_sqlx::connect(url).await.expect("opened");
    service::builder(storage, DevelopmentSender)
        .clock(std::sync::Arc::new(clock))
        .build()
        .expect("valid policy and keys")
}

async fn send_code(referral: &ReferralService, number: u32) -> SentCode {
    referral.send_code(SendCode::new(phone(number * 1_000))).await.expect("sent")
}

/// Signs in once, without an invite code.
async fn enter(referral: &ReferralService, number: u32) -> User {
    let sent = send_code(referral, number).await;
    attempt(referral.clone(), line(&sent, None).trim_end().to_owned()).await.expect("signed in").user
}

/// Formats a line of the input of a child.
fn line(sent: &SentCode, invited_by: Option<&User>) -> String {
    let code = sent.revealed_code.as_ref().expect("the development sender reveals it").reveal();
    let invite_code = invited_by.map_or("-", |user| user.invite_code.as_str());
    format!("{} {} {code} {invite_code}\n", sent.phone.as_str(), sent.challenge)
}

/// Runs one child for each input concurrently.
fn run_children(url: &str, inputs: &[&str]) -> Vec<Tally> {
    let mut children: Vec<_> = inputs.iter().map(|_| start_child(url)).collect();
    for (_, output) in &mut children {
        read_until(output, "ready");
    }
    // The buffer of a pipe has space for the few kilobytes of the input, so this does not block.
    let mut pipes = Vec::new();
    for ((child, _), input) in children.iter_mut().zip(inputs) {
        let mut pipe = child.stdin.take().expect("a piped input");
        pipe.write_all(input.as_bytes()).expect("written");
        pipes.push(pipe);
    }
    drop(pipes);

    let finish = |(mut child, mut output): (Child, _)| {
        let tally = read_until(&mut output, "tally");
        io::copy(&mut output, &mut io::sink()).expect("readable");
        assert!(child.wait().expect("a child").success());
        let counts: Vec<u32> =
            tally.split_whitespace().map(|count| count.parse().expect("a count")).collect();
        let [accepted, created, invalid, loops] = counts[..] else {
            panic!("a tally must have four counts: {tally}");
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

fn print(words: &str) {
    writeln!(io::stdout(), "{words}").expect("written");
}

/// Reads until a line contains `word`, and returns the rest of the line.
fn read_until(output: &mut impl BufRead, word: &str) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(
            output.read_line(&mut line).expect("readable"),
            0,
            "the child ended before it printed {word}"
        );
        if let Some((_, rest)) = line.split_once(word) {
            return rest.trim().to_owned();
        }
    }
}

/// Asserts the invariants of the database.
async fn assert_sound(url: String) {
    let mut connection = raw(&url).await;
    for (claim, violations) in [
        (
            "the total is correct",
            "SELECT count(*) FROM referral_user_totals WHERE users <> (SELECT count(*) FROM referral_users)",
        ),
        (
            "all counts of invitees are correct",
            "SELECT count(*) FROM referral_users WHERE invited_count <> \
             (SELECT count(*) FROM referral_invitations WHERE inviter = referral_users.id)",
        ),
        (
            "no user is a direct or indirect inviter of itself",
            "WITH RECURSIVE above (invitee, inviter) AS (SELECT invitee, inviter FROM referral_invitations \
             UNION SELECT a.invitee, i.inviter FROM above a JOIN referral_invitations i ON i.invitee = a.inviter) \
             SELECT count(*) FROM above WHERE invitee = inviter",
        ),
        (
            "each session comes from a redeemed code",
            "SELECT (SELECT count(*) FROM referral_sessions) <> \
             (SELECT count(*) FROM referral_challenges WHERE redeemed_at IS NOT NULL)",
        ),
        ("all references are valid", "SELECT count(*) FROM pragma_foreign_key_check"),
        (
            "the file is not damaged",
            "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
        ),
    ] {
        let violations: i64 = sqlx::query_scalar(violations).fetch_one(&mut connection).await.expect(claim);
        assert_eq!(violations, 0, "{claim}");
    }
}
