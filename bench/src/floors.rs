//! Compares the server with minimal programs that do the same work.

use std::{
    cell::Cell,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use referral_core::storage::MaintenanceStorage as _;
use referral_core::{
    CodeInput, PhoneNumber, ReferralService, SendCode, SignIn,
    keys::{Peppers, SigningKeys},
    policy::{Limits, Policy},
    random::SystemRandom,
    sms::DevelopmentSender,
    storage::MemoryStorage,
};
use sqlx::{Connection as _, Executor as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    load::Load,
    report::{Report, Row, median},
    scripts, seed,
    servers::{Postgres, Server},
};

/// Number of connections of the clients and of pgbench, which is that of the pool.
const CONNECTIONS: u32 = 10;

/// Number of users in the databases.
const USERS: u64 = 10 * seed::SMALL;

/// Duration and number of the measurements of each side of a comparison. The sides alternate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    pub(crate) time: Duration,
    pub(crate) rounds: u32,
}

impl Rounds {
    /// Returns the median of the ratios of two rates, and the medians of both rates.
    pub(crate) fn compare(
        self,
        mut measured: impl FnMut() -> f64,
        mut other: impl FnMut() -> f64,
    ) -> [f64; 3] {
        let compared = (0..self.rounds).map(|_| {
            let (rate, other) = (measured(), other());
            [rate / other, rate, other]
        });
        medians(&compared.collect::<Vec<_>>())
    }
}

/// Compares two asynchronous measurements, like [`Rounds::compare`].
pub(crate) async fn compare_in_turn(
    rounds: Rounds,
    mut measured: impl AsyncFnMut() -> f64,
    mut other: impl AsyncFnMut() -> f64,
) -> [f64; 3] {
    let mut compared = Vec::new();
    for _ in 0..rounds.rounds {
        let (rate, other) = (measured().await, other().await);
        compared.push([rate / other, rate, other]);
    }
    medians(&compared)
}

/// Returns the medians of the ratios and of both rates.
fn medians(compared: &[[f64; 3]]) -> [f64; 3] {
    [0, 1, 2].map(|index| median(&mut compared.iter().map(|compared| compared[index]).collect::<Vec<_>>()))
}

/// Compares the profile of the user with 100 invitees with the profile of the last user, who has none.
async fn compare_profiles(server: &Server, rounds: Rounds) -> [f64; 3] {
    let popular = server.tokens("popular", seed::POPULAR..=seed::POPULAR).await;
    let last = server.tokens("last", USERS..=USERS).await;
    let rate = |tokens| Load::current_user(tokens).run(&server.address, CONNECTIONS, rounds.time);
    rounds.compare(|| rate(&popular), || rate(&last))
}

/// Compares the server on PostgreSQL with pgbench, which executes the same statements.
pub(crate) async fn postgres(postgres: &Postgres, rounds: Rounds, directory: &Path, report: &mut Report) {
    let database = "floors";
    let url = postgres.create(database);
    referral_sqlx::connect(&url).await.expect("opened").close().await;
    seed::postgres(&url, USERS).await;
    let server = Server::start(directory, &["--database-url", &url]);
    let tokens = server.tokens("users", 200..400).await;
    for (number, session) in postgres.psql(database, "SELECT id FROM referral.sessions").lines().enumerate() {
        let sql = format!(
            "UPDATE referral.sessions SET id = lpad('{number}', 32, '0')::uuid WHERE id = '{session}'"
        );
        // Tokens contain the ids of their sessions, so the sessions keep them. pgbench uses copies whose ids
        // are numbers.
        let copy = sql.replace("UPDATE referral.sessions SET id =", "INSERT INTO referral.sessions SELECT");
        let columns = "user_id, created_at, expires_at, revoked_at, ends_at, key_id, access_id, refresh_id, issued_at, \
                       access_expires_at, refresh_expires_at, tokens_used, previous_refresh_id, repeated_late, late_repeats, superseded";
        let copy = copy.replace(" WHERE id", &format!(", {columns} FROM referral.sessions WHERE id"));
        postgres.psql(database, &copy);
    }
    postgres.psql(database, "ANALYZE");

    let get = Load::current_user(&tokens);
    let sign_in =
        Load { flow: "sign", path: String::new(), first: 1_000, phones: 8_000, requests: 2.0, ..get.clone() };
    // New phones are above the seeded ones, and differ in each run. `fields` are further fields of the request.
    let fresh = Cell::new(1_000_000);
    let sign_up = |fields: &str, connections| {
        const PHONES: u64 = 100_000;
        let first = fresh.get();
        fresh.set(first + PHONES);
        let load = Load { first, phones: PHONES, path: fields.to_owned(), ..sign_in.clone() };
        load.run(&server.address, connections, rounds.time)
    };

    let pgbench = |script: &Path| postgres.pgbench(database, script, CONNECTIONS, rounds.time);
    let script = scripts::write(directory, "current_user", &scripts::current_user());
    let compared = rounds.compare(|| get.run(&server.address, CONNECTIONS, rounds.time), || pgbench(&script));
    report.push(Row::floor("`GET current_user`, PostgreSQL", "pgbench, the same statement", compared, 0.6));

    let script = scripts::write(directory, "sign_in", &scripts::sign_in());
    let compared =
        rounds.compare(|| sign_in.run(&server.address, CONNECTIONS, rounds.time), || pgbench(&script));
    report.push(Row::floor("sign-in, PostgreSQL", "pgbench, the same statements", compared, 0.75));

    let script = scripts::write(directory, "sign_up", &scripts::sign_up());
    let compared = rounds.compare(|| sign_up("", CONNECTIONS), || pgbench(&script));
    report.push(Row::floor("sign-up, PostgreSQL", "pgbench, the same statements", compared, 0.8));

    let compared = compare_profiles(&server, rounds).await;
    report.push(Row::floor("profile with 100 invitees, PostgreSQL", "with none", compared, 0.5));

    let code = format!("SELECT invite_code FROM referral.users WHERE id = '{}'", seed::id(seed::POPULAR));
    let invited = format!(",\"invited_by_code\":\"{}\"", postgres.psql(database, &code));
    let compared = rounds.compare(|| sign_up(&invited, 32), || sign_up("", 32));
    report.push(Row::floor(
        "sign-ups under one inviter at 32 connections, PostgreSQL",
        "without an inviter",
        compared,
        0.9,
    ));

    // Sign-up with and without the trigger that counts users.
    let trigger = |what: &str| {
        postgres.psql(database, &format!("ALTER TABLE referral.users {what} TRIGGER users_are_counted"));
    };
    let without = || {
        trigger("DISABLE");
        let rate = sign_up("", 32);
        trigger("ENABLE");
        rate
    };
    let compared = rounds.compare(|| sign_up("", 32), without);
    report.push(Row::floor(
        "sign-up at 32 connections, PostgreSQL",
        "without the stored total",
        compared,
        0.9,
    ));
}

/// Compares the server on SQLite with the same response from memory, and with sequential transactions.
pub(crate) async fn sqlite(rounds: Rounds, directory: &Path, report: &mut Report) {
    let file = directory.join("floors.db");
    let options = referral_sqlx::SqliteOptions::default();
    referral_sqlx::SqliteStorage::open(&file, &options).await.expect("opened").close().await;
    let url = format!("sqlite:{}", file.display());
    seed::sqlite(&url, USERS).await;
    let server = Server::start(directory, &["--database-url", &url]);
    let tokens = server.tokens("users", 200..400).await;
    let route = tempfile::tempdir().expect("a directory");
    let here = std::env::current_exe().expect("a path");
    let memory = Server::spawn(std::process::Command::new(here).arg("memory-route"), route.path());
    let get = Load::current_user(&tokens);
    let run = |server: &Server| get.run(&server.address, CONNECTIONS, rounds.time);
    let compared = rounds.compare(|| run(&server), || run(&memory));
    report.push(Row::floor(
        "`GET current_user`, SQLite",
        "a poem-openapi route, from memory",
        compared,
        0.55,
    ));

    let compared = compare_profiles(&server, rounds).await;
    report.push(Row::floor("profile with 100 invitees, SQLite", "with none", compared, 0.4));

    let sign_in =
        Load { flow: "sign", path: String::new(), first: 200, phones: 200, requests: 2.0, ..get.clone() };
    let raw = directory.join("raw.db");
    referral_sqlx::SqliteStorage::open(&raw, &options).await.expect("opened").close().await;
    let mut loops = RawLoop::open(&raw).await;
    let run = async || sign_in.run(&server.address, 32, rounds.time);
    let compared = compare_in_turn(rounds, run, async || loops.run(rounds.time).await).await;
    report.push(Row::floor("sign-in at 32 connections, SQLite", "transactions one at a time", compared, 3.0));
}

/// Sign-ins with the same statements, in sequential, durable transactions.
struct RawLoop {
    connection: SqliteConnection,
    user: uuid::Uuid,
}

impl RawLoop {
    async fn open(path: &Path) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
            .synchronous(sqlx::sqlite::SqliteSynchronous::Full);
        let mut connection = SqliteConnection::connect_with(&options).await.expect("a connection");
        let user = seed::id(1);
        let insert = "INSERT INTO referral_users (id, phone, invite_code, is_active, date_joined, search_public, \
                      search_private) VALUES ($1, '+79600000001', 'ABC234', 1, 0, '', '')";
        sqlx::query(insert).bind(user).execute(&mut connection).await.expect("inserted");
        Self { connection, user }
    }

    async fn run(&mut self, time: Duration) -> f64 {
        let started = Instant::now();
        let mut count = 0.0;
        while started.elapsed() < time {
            self.sign_in().await.expect("signed in");
            count += 1.0;
        }
        count / started.elapsed().as_secs_f64()
    }

    async fn sign_in(&mut self) -> sqlx::Result<()> {
        let Self { connection, user } = self;
        let phone = "+79600000001";
        let challenge = uuid::Uuid::from_u128(next_id());
        connection.execute("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "SELECT (SELECT sent_at FROM referral_challenges WHERE phone = $1 ORDER BY id DESC LIMIT 1), \
                    (SELECT last_login FROM referral_users WHERE phone = $1), \
                    (SELECT events FROM referral_counters WHERE key = 'phone/' || $1)",
        )
        .bind(phone)
        .fetch_one(&mut *connection)
        .await?;
        sqlx::query(
            "INSERT INTO referral_challenges (id, phone, code_length, code_hash, pepper_id, sent_at, expires_at) \
             VALUES ($1, $2, 4, zeroblob(32), 'p1', 0, 1)",
        )
        .bind(challenge)
        .bind(phone)
        .execute(&mut *connection)
        .await?;
        sqlx::query(
            "INSERT INTO referral_counters (key, events, ends_at) VALUES ('phone/' || $1, '[7000000000000000]', 0) \
             ON CONFLICT (key) DO UPDATE SET events = excluded.events",
        )
        .bind(phone)
        .execute(&mut *connection)
        .await?;
        connection.execute("COMMIT").await?;

        connection.execute("BEGIN IMMEDIATE").await?;
        for facts in [
            "SELECT * FROM referral_challenges WHERE phone = $1 ORDER BY id DESC LIMIT 1",
            "SELECT * FROM referral_users u LEFT JOIN referral_invitations i ON i.invitee = u.id WHERE u.phone = $1",
        ] {
            sqlx::query(facts).bind(phone).fetch_one(&mut *connection).await?;
        }
        sqlx::query("UPDATE referral_challenges SET redeemed_at = 1 WHERE id = $1 AND redeemed_at IS NULL")
            .bind(challenge)
            .execute(&mut *connection)
            .await?;
        sqlx::query("UPDATE referral_users SET last_login = last_login + 1 WHERE id = $1")
            .bind(*user)
            .execute(&mut *connection)
            .await?;
        sqlx::query(
            "INSERT INTO referral_sessions (id, user_id, created_at, expires_at, ends_at, key_id, access_id, refresh_id, \
                                   issued_at, access_expires_at, refresh_expires_at, tokens_used, superseded) \
             VALUES ($1, $2, 0, 1, 1, 'k1', $1, $1, 0, 1, 1, 1, x'')",
        )
        .bind(challenge)
        .bind(*user)
        .execute(&mut *connection)
        .await?;
        connection.execute("COMMIT").await?;
        Ok(())
    }
}

/// Returns an ascending id, like those of the server.
fn next_id() -> u128 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    u128::from(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) << 64
}

/// Measures the core without HTTP and without a database.
pub(crate) async fn core(rounds: Rounds, report: &mut Report) {
    let secret = [1; 32];
    let hs256 = referral(SigningKeys::from_secret("k1", &secret).expect("long enough"));
    let eddsa = SigningKeys::generate(&SystemRandom);
    let eddsa = referral(eddsa);

    let tokens = [sign_in(&eddsa, 1).await, sign_in(&hs256, 1).await];
    let check = |referral: &ReferralService, token: &str| {
        let started = Instant::now();
        let mut count = 0.0;
        while started.elapsed() < rounds.time / 4 {
            for _ in 0..100 {
                referral.verify_without_storage(token).expect("valid");
            }
            count += 100.0;
        }
        count / started.elapsed().as_secs_f64()
    };
    let compared = rounds.compare(|| check(&eddsa, &tokens[0]), || check(&hs256, &tokens[1]));
    report.push(Row::floor("access token check, EdDSA, a token seen before", "HS256", compared, 0.8));

    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < rounds.time {
        count += 1;
        sign_in(&hs256, count % 1_000).await;
    }
    let rate = f64::from(count) / started.elapsed().as_secs_f64();
    report.push(Row::rate("the core alone: sign-in in memory, HS256, one thread", rate, 20_000.0));
}

fn referral(keys: SigningKeys) -> ReferralService {
    let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
    let storage = Arc::new(MemoryStorage::new());
    let referral = ReferralService::builder(storage, Arc::new(DevelopmentSender), keys, peppers);
    let mut policy = Policy::standard();
    policy.resend_interval = Duration::ZERO;
    policy.codes_per_phone = Limits::new([(1_000, Duration::from_secs(1))]).expect("valid limits");
    policy.codes_per_number_range = Limits::off();
    referral.policy(policy).build().expect("a valid policy and a valid key")
}

async fn sign_in(referral: &ReferralService, number: u32) -> String {
    let phone = PhoneNumber::from_stored(format!("+7960{number:07}")).expect("a phone");
    let sent = referral.send_code(SendCode::new(phone)).await.expect("sent");
    let code = CodeInput::parse(sent.revealed_code.expect("revealed").reveal()).expect("digits");
    let request = SignIn::new(sent.phone, code).challenge(sent.challenge);
    referral.sign_in(request).await.expect("signed in").tokens.access
}
