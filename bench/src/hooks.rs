//! Measures what a row of the host costs that is written in the transaction of the sign-up, compared to a
//! sign-up without it, and to the same row in a transaction of its own after the sign-up.

use std::{
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use referral_core::{
    CodeInput, ReferralService, SendCode, SignIn, User,
    storage::{BoxError, Storage},
};
use referral_sqlx::{PostgresOptions, PostgresStorage, SqliteOptions, SqliteStorage, TransactionHook};
use sqlx::{
    Executor as _, PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool,
    sqlite::SqliteConnectOptions,
};

use crate::{
    floors::{Rounds, compare_in_turn},
    report::{Report, Row},
    secrecy::{phone, referral},
    servers,
};

/// Number of sign-ups of each side in a round.
const SIGN_UPS: u32 = 1_000;

/// Number of concurrent sign-ups.
const CONCURRENCY: u32 = 8;

const CREATE_PROFILES: [&str; 2] = [
    "CREATE TABLE profiles (user_id uuid PRIMARY KEY)",
    "CREATE TABLE profiles (user_id BLOB PRIMARY KEY) STRICT, WITHOUT ROWID",
];

const INSERT_PROFILE: &str = "INSERT INTO profiles (user_id) VALUES ($1)";

/// Hook that writes one row for each user.
struct Profiles;

#[async_trait]
impl TransactionHook<Postgres> for Profiles {
    async fn user_created(&self, connection: &mut PgConnection, user: &User) -> Result<(), BoxError> {
        connection.execute(sqlx::query(INSERT_PROFILE).bind(user.id.0)).await?;
        Ok(())
    }
}

#[async_trait]
impl TransactionHook<Sqlite> for Profiles {
    async fn user_created(&self, connection: &mut SqliteConnection, user: &User) -> Result<(), BoxError> {
        connection.execute(sqlx::query(INSERT_PROFILE).bind(user.id.0)).await?;
        Ok(())
    }
}

/// Measures sign-ups on PostgreSQL.
pub(crate) async fn postgres(server: &servers::Postgres, rounds: Rounds, report: &mut Report) {
    let url = server.create("hooks");
    let pool = PgPool::connect(&url).await.expect("connected");
    pool.execute(CREATE_PROFILES[0]).await.expect("created");
    let mut options = PostgresOptions::default();
    let plain = PostgresStorage::connect(&url, &options).await.expect("opened");
    options.hook = Some(Arc::new(Profiles));
    let hooked = PostgresStorage::connect(&url, &options).await.expect("opened");
    let insert = async |user: User| {
        pool.execute(sqlx::query(INSERT_PROFILE).bind(user.id.0)).await.expect("inserted");
    };
    compare("PostgreSQL", [Arc::new(plain), Arc::new(hooked)], insert, rounds, report).await;
}

/// Measures sign-ups on SQLite.
pub(crate) async fn sqlite(directory: &Path, rounds: Rounds, report: &mut Report) {
    let file = directory.join("hooks.db");
    let mut options = SqliteOptions::default();
    let plain = SqliteStorage::open(&file, &options).await.expect("opened");
    options.hook = Some(Arc::new(Profiles));
    let hooked = SqliteStorage::open(&file, &options).await.expect("opened");
    let pool = SqlitePool::connect_with(SqliteConnectOptions::new().filename(file)).await.expect("connected");
    pool.execute(CREATE_PROFILES[1]).await.expect("created");
    let insert = async |user: User| {
        pool.execute(sqlx::query(INSERT_PROFILE).bind(user.id.0)).await.expect("inserted");
    };
    compare("SQLite", [Arc::new(plain), Arc::new(hooked)], insert, rounds, report).await;
}

/// Compares sign-ups with a hook to sign-ups without one, and to sign-ups after which `insert` writes the row.
async fn compare(
    name: &str,
    [plain, hooked]: [Arc<dyn Storage>; 2],
    insert: impl AsyncFn(User),
    rounds: Rounds,
    report: &mut Report,
) {
    let (plain, hooked) = (referral(plain), referral(hooked));
    let next = AtomicU32::new(0);
    let phones = || {
        let first = next.fetch_add(SIGN_UPS, Ordering::Relaxed);
        first..first + SIGN_UPS
    };
    let without_row = async |_| {};
    let what = format!("sign-up with a row of the host in its transaction, {name}");
    let compared = compare_in_turn(
        rounds,
        async || sign_ups(&hooked, phones(), &without_row).await,
        async || sign_ups(&plain, phones(), &without_row).await,
    );
    report.push(Row::floor(&what, "without a row", compared.await, 0.5));
    let compared = compare_in_turn(
        rounds,
        async || sign_ups(&hooked, phones(), &without_row).await,
        async || sign_ups(&plain, phones(), &insert).await,
    );
    report.push(Row::floor(&what, "with the row in another transaction", compared.await, 0.9));
    plain.close().await;
    hooked.close().await;
}

/// Signs up with the phones of these numbers, and returns the number of sign-ups in a second.
async fn sign_ups(referral: &ReferralService, phones: Range<u32>, after: &impl AsyncFn(User)) -> f64 {
    let mut requests = Vec::new();
    for number in phones {
        let sent = referral.send_code(SendCode::new(phone(number))).await.expect("sent");
        let code = CodeInput::parse(sent.revealed_code.expect("revealed").reveal()).expect("digits");
        requests.push(SignIn::new(sent.phone, code).challenge(sent.challenge));
    }
    let total = f64::from(SIGN_UPS);
    let requests = std::sync::Mutex::new(requests);
    let work = async || {
        loop {
            let Some(request) = requests.lock().expect("no panic").pop() else { return };
            let signed_in = referral.sign_in(request).await.expect("signed in");
            after(signed_in.user).await;
        }
    };
    let started = Instant::now();
    futures_util::future::join_all((0..CONCURRENCY).map(|_| work())).await;
    total / started.elapsed().as_secs_f64()
}
