//! Compares the duration of requests with a thousand and with 1.25 million users.

use referral_core::storage::MaintenanceStorage as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    floors::{Rounds, compare_in_turn},
    load::Load,
    report::{Report, Row},
    seed::{self, SMALL},
    servers::{Postgres, Server, Tokens},
};

/// Number of the first phone without a user.
const FRESH: u64 = 5_000_000;

/// Server on a database with a given number of users.
struct Crowd {
    server: Server,
    users: u64,
    tokens: Tokens,
    fresh: std::cell::Cell<u64>,
    client: reqwest::Client,
    _directory: tempfile::TempDir,
}

impl Crowd {
    async fn of(server: Server, users: u64, directory: tempfile::TempDir) -> Self {
        // Users from the middle of the database.
        let tokens = server.tokens("users", users / 2..users / 2 + 64).await;
        Self {
            server,
            users,
            tokens,
            fresh: FRESH.into(),
            client: reqwest::Client::new(),
            _directory: directory,
        }
    }

    async fn postgres(postgres: &Postgres, users: u64) -> Self {
        let database = format!("crowd_{users}");
        let url = postgres.create(&database);
        referral_sqlx::connect(&url).await.expect("opened").close().await;
        seed::postgres(&url, users).await;
        let directory = tempfile::tempdir().expect("a directory");
        let server = Server::start(directory.path(), &["--database-url", &url]);
        Self::of(server, users, directory).await
    }

    async fn sqlite(users: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("referral.db");
        referral_sqlx::SqliteStorage::open(&file, &referral_sqlx::SqliteOptions::default())
            .await
            .expect("opened")
            .close()
            .await;
        let url = format!("sqlite:{}", file.display());
        seed::sqlite(&url, users).await;
        let server = Server::start(directory.path(), &["--database-url", &url]);
        Self::of(server, users, directory).await
    }

    fn load(&self, flow: &'static str, path: impl Into<String>) -> Load {
        let tokens = if flow == "refresh" { &self.tokens.refresh } else { &self.tokens.access };
        let requests = if flow == "sign" { 2.0 } else { 1.0 };
        // A few hundred users, from the middle on, so that the requests vary.
        Load { flow, path: path.into(), tokens: tokens.clone(), first: self.users / 2, phones: 400, requests }
    }

    fn rate(&self, load: &Load, time: Duration) -> f64 {
        load.run(&self.server.address, 1, time)
    }

    /// Returns the rate of exchanges of refresh tokens. Starts with new tokens, because the former ones have
    /// been exchanged.
    async fn refresh(&self, time: Duration) -> f64 {
        self.server.tokens("users", self.users / 4..self.users / 4 + 16).await;
        self.rate(&self.load("refresh", ""), time)
    }

    /// Returns the rate of sign-ups with phones without a user.
    fn sign_up(&self, time: Duration) -> f64 {
        let first = self.fresh.get();
        self.fresh.set(first + 100_000);
        self.rate(&Load { first, phones: 100_000, ..self.load("sign", "") }, time)
    }

    async fn get(&self, path: &str) -> Value {
        let access = std::fs::read_to_string(&self.tokens.access).expect("tokens");
        let token = access.lines().next().expect("a token");
        let url = format!("http://{}/api/v1{path}", self.server.address);
        let response = self.client.get(url).bearer_auth(token).send().await.expect("a response");
        response.json().await.expect("JSON")
    }

    /// Returns the path of a page in the middle of the list, reached through cursors.
    async fn deep_page(&self) -> String {
        let mut path = "/users/?limit=100".to_owned();
        for _ in 0..self.users / 200 {
            let page = self.get(&path).await;
            let next = page["next"].as_str().unwrap_or_else(|| panic!("{page}"));
            next.split("/api/v1").nth(1).expect("a path").clone_into(&mut path);
        }
        path.replace("limit=100", "limit=10")
    }

    /// Returns the acceptances per second by users without an inviter, of the code at the end of a chain.
    async fn accept_late(&self) -> f64 {
        const ACCEPTANCES: u64 = 40;
        let last = self.get(&format!("/users/{}/", seed::id(self.users))).await;
        let code = last["invite_code"].as_str().expect("a code");
        let first = self.fresh.get();
        self.fresh.set(first + ACCEPTANCES);
        let post = async |path: &str, body: Value| -> Value {
            let url = format!("http://{}/api/v1{path}", self.server.address);
            self.client.post(url).json(&body).send().await.expect("a response").json().await.expect("JSON")
        };
        let mut took = Duration::ZERO;
        for number in first..first + ACCEPTANCES {
            let phone = format!("+7960{number:07}");
            for invited_by_code in [Value::Null, json!(code)] {
                let sent = post("/auth/send_code/", json!({ "phone": phone })).await;
                let body = json!({ "phone": phone, "code": sent["code"], "challenge_id": sent["challenge_id"],
                                   "invited_by_code": invited_by_code });
                let started = Instant::now();
                let response = post("/auth/jwt/get_by_phone/", body).await;
                if !invited_by_code.is_null() {
                    took += started.elapsed();
                    assert_eq!(response["invitation"], "accepted", "{response}");
                }
            }
        }
        1_000.0 * f64::from(u32::try_from(ACCEPTANCES).unwrap_or(u32::MAX)) / took.as_secs_f64() / 1_000.0
    }
}

pub(crate) async fn postgres(postgres: &Postgres, users: u64, rounds: Rounds, report: &mut Report) {
    let small = Crowd::postgres(postgres, SMALL).await;
    let large = Crowd::postgres(postgres, users).await;
    compare(&small, &large, rounds, report).await;
}

pub(crate) async fn sqlite(users: u64, rounds: Rounds, report: &mut Report) {
    let small = Crowd::sqlite(SMALL).await;
    let large = Crowd::sqlite(users).await;
    compare(&small, &large, rounds, report).await;
}

/// Compares the last page of a list by offset with the first one.
pub(crate) async fn pages(postgres: &Postgres, rounds: Rounds, report: &mut Report) {
    const USERS: u64 = 100_000;
    for (database, crowd) in
        [("SQLite", Crowd::sqlite(USERS).await), ("PostgreSQL", Crowd::postgres(postgres, USERS).await)]
    {
        let rate = |path: &str| crowd.rate(&crowd.load("search", path), rounds.time);
        let compared = rounds.compare(|| rate("/users/?offset=99990"), || rate("/users/"));
        let what = format!("last page by offset of 100 000 users, {database}");
        report.push(Row::floor(&what, "the first page", compared, 0.1));
    }
}

async fn compare(small: &Crowd, large: &Crowd, rounds: Rounds, report: &mut Report) {
    let mut push =
        |what: &str, [value, small, large]: [f64; 3]| report.push(Row::growth(what, small, large, value));

    push("sign-up", rounds.compare(|| small.sign_up(rounds.time), || large.sign_up(rounds.time)));
    for (what, flow) in [("sign-in", "sign"), ("verify", "verify")] {
        let rate = |crowd: &Crowd| crowd.rate(&crowd.load(flow, ""), rounds.time);
        push(what, rounds.compare(|| rate(small), || rate(large)));
    }
    push(
        "refresh",
        compare_in_turn(
            rounds,
            async || small.refresh(rounds.time).await,
            async || large.refresh(rounds.time).await,
        )
        .await,
    );
    let popular = seed::id(seed::POPULAR);
    for (what, path) in [
        ("current user", "/users/current_user/".to_owned()),
        ("user by id", format!("/users/{}/", seed::id(small.users / 2))),
        ("first page with its count", "/users/".to_owned()),
        ("filter by phone", "/users/?phone=%2B7960NUMBER".to_owned()),
        ("filter by email", "/users/?email=userNUMBER@example.com".to_owned()),
        (
            "filter by first name, 10 matches",
            "/users/?first_name=%D0%90%D1%80%D0%B8%D1%81%D1%82%D0%B0%D1%80%D1%85".to_owned(),
        ),
        ("search by phone", "/users/?search=7960NUMBER".to_owned()),
        ("search by email", "/users/?search=userNUMBER@".to_owned()),
        (
            "search by name, 10 matches",
            "/users/?search=%D0%B0%D1%80%D0%B8%D1%81%D1%82%D0%B0%D1%80%D1%85".to_owned(),
        ),
        ("search without a match", "/users/?search=zzzzz".to_owned()),
        ("profile with the most invitees", format!("/users/{popular}/")),
        ("list of the most invitees", format!("/users/{popular}/invited/?limit=10")),
    ] {
        let rate = |crowd: &Crowd| crowd.rate(&crowd.load("search", &path), rounds.time);
        push(what, rounds.compare(|| rate(small), || rate(large)));
    }
    // Requests that differ between the two databases.
    for what in [
        "filter by invite code",
        "filter by the inviter's code",
        "search by invite code",
        "page by cursor, in the middle",
    ] {
        let mut paths = Vec::new();
        for crowd in [small, large] {
            // A user of the chain, where each user has one invitee.
            let user = crowd.get(&format!("/users/{}/", seed::id(crowd.users - 5))).await;
            let code = user["invite_code"].as_str().unwrap_or_else(|| panic!("{user}"));
            paths.push(match what {
                "filter by invite code" => format!("/users/?invite_code={code}"),
                "filter by the inviter's code" => format!("/users/?invited_by_code={code}"),
                "search by invite code" => format!("/users/?search={code}"),
                _ => crowd.deep_page().await,
            });
        }
        let rate = |crowd: &Crowd, path: &str| crowd.rate(&crowd.load("search", path), rounds.time);
        push(what, rounds.compare(|| rate(small, &paths[0]), || rate(large, &paths[1])));
    }
    let late =
        compare_in_turn(rounds, async || small.accept_late().await, async || large.accept_late().await).await;
    push("late acceptance under a chain of a thousand inviters", late);
}
