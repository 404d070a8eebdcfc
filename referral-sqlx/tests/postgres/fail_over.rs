//! Tests of connections in a fail-over: standbys, silent connections, balancers without a server, and commits
//! that wait for a standby that does not respond.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use referral_core::SignedIn;
use referral_sqlx::{ConnectError, PostgresOptions, PostgresStorage};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

use crate::{
    harness::Harness,
    server::{Database, Source, start_own},
};

/// Behavior that forwards connections to a server.
const PASS: u8 = 0;
/// Behavior that keeps connections open and forwards nothing, like a host that has lost power.
const SILENT: u8 = 1;
/// Behavior that accepts connections and closes them, like a balancer without a server.
const CLOSE: u8 = 2;

/// Proxy between the service and its server.
#[derive(Clone)]
struct Proxy {
    address: SocketAddr,
    /// Behavior for new connections.
    behavior: Arc<AtomicU8>,
    /// Number that is increased to silence the open connections.
    generation: Arc<AtomicU8>,
}

impl Proxy {
    async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let proxy = Self { address, behavior: Arc::default(), generation: Arc::default() };
        let shared = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(shared.clone().serve(client, server));
            }
        });
        proxy
    }

    async fn serve(self, mut client: TcpStream, server: SocketAddr) {
        let generation = self.generation.load(Ordering::SeqCst);
        match self.behavior.load(Ordering::SeqCst) {
            CLOSE => return,
            SILENT => return std::future::pending().await,
            _ => {}
        }
        let mut server = TcpStream::connect(server).await.expect("the server is running");
        let (mut to_server, mut to_client) = (vec![0; 8192], vec![0; 8192]);
        loop {
            tokio::select! {
                read = tokio::io::AsyncReadExt::read(&mut client, &mut to_server) => match read {
                    Ok(1..) if self.generation.load(Ordering::SeqCst) != generation => {
                        std::future::pending::<()>().await;
                    }
                    Ok(length @ 1..) => drop(server.write_all(&to_server[..length]).await),
                    _ => return,
                },
                read = tokio::io::AsyncReadExt::read(&mut server, &mut to_client) => match read {
                    Ok(length @ 1..) => drop(client.write_all(&to_client[..length]).await),
                    _ => return,
                },
            }
        }
    }

    /// Sets the behavior for new connections.
    fn set(&self, behavior: u8) {
        self.behavior.store(behavior, Ordering::SeqCst);
    }

    /// Silences the connections that are open now.
    fn silence_open(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

fn server_of(database: &Database) -> (SocketAddr, &str) {
    let rest = database.url.split('@').next_back().expect("a URL");
    let (address, path) = rest.split_once('/').expect("a URL with a path");
    (address.parse().expect("an address"), path)
}

fn url_of(addresses: &[SocketAddr], name: &str) -> String {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    format!("postgres://postgres@{}/{name}?target_session_attrs=read-write", addresses.join(","))
}

/// Returns a service that reaches its database through a proxy.
async fn through_proxy(options: &PostgresOptions) -> Option<(Harness, Proxy)> {
    let database = Database::create().await?;
    let (server, name) = server_of(&database);
    let proxy = Proxy::start(server).await;
    let url = url_of(&[proxy.address], name);
    Some((Harness::at(&url, database, options).await, proxy))
}

#[tokio::test]
async fn connections_to_a_former_primary_are_replaced() {
    let Some(mut harness) = Harness::new().await else { return };
    let anna = harness.enter(1, None).await.expect("signed in");
    let name = harness.database.url.rsplit('/').next().expect("a name").to_owned();
    let set = |value: &str| format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}");
    // Like a primary that became a standby, the database accepts reads but no writes.
    harness.operator.execute(AssertSqlSafe(set("on"))).await.expect("set");
    harness.cut_off().await;
    let error = harness.enter(2, None).await.expect_err("a standby");
    assert_eq!(error.code().as_str(), "unavailable");
    assert_eq!(
        harness.referral.check_ready().await.map_err(|error| error.code().as_str()),
        Err("unavailable")
    );

    // Open connections keep the old setting.
    harness.operator.execute("SET default_transaction_read_only = off").await.expect("set");
    harness.operator.execute(AssertSqlSafe(set("off"))).await.expect("set");
    harness.referral.check_ready().await.expect("ready");
    harness.referral.refresh(&anna.tokens.refresh).await.expect("refreshed");
    harness.enter(3, Some(&anna.user.invite_code)).await.expect("signed in");
}

#[tokio::test]
async fn silent_connections_are_replaced() {
    let mut options = PostgresOptions::default();
    options.statement_timeout = Duration::from_millis(100);
    let Some((harness, proxy)) = through_proxy(&options).await else { return };
    let anna = harness.enter(1, None).await.expect("signed in");
    // Opens the maximum number of connections.
    let many = (0..20).map(|_| harness.referral.current_user(&anna.tokens.access));
    for user in futures_util::future::join_all(many).await {
        user.expect("valid");
    }

    proxy.silence_open();
    harness.referral.current_user(&anna.tokens.access).await.expect("read on a new connection");
    proxy.silence_open();
    harness.referral.set_active(anna.user.id, true).await.expect("written on a new connection");
    harness.enter(2, None).await.expect("signed in");
}

#[tokio::test]
async fn a_canceled_request_on_a_silent_connection_releases_its_place() {
    let mut options = PostgresOptions::default();
    options.statement_timeout = Duration::from_millis(100);
    options.max_connections = 1;
    let Some((harness, proxy)) = through_proxy(&options).await else { return };
    let anna = harness.enter(1, None).await.expect("signed in");
    proxy.silence_open();
    let canceled =
        tokio::time::timeout(Duration::from_millis(1), harness.referral.set_active(anna.user.id, true));
    canceled.await.expect_err("a silent connection");
    harness.referral.current_user(&anna.tokens.access).await.expect("read on a new connection");
}

#[tokio::test]
async fn a_balancer_without_a_server_is_a_transient_error() {
    let Some((harness, proxy)) = through_proxy(&PostgresOptions::default()).await else { return };
    let anna = harness.enter(1, None).await.expect("signed in");
    let mut short = PostgresOptions::default();
    short.acquire_timeout = Duration::from_millis(100);
    for behavior in [CLOSE, SILENT] {
        proxy.set(behavior);
        proxy.silence_open();
        let (_, name) = server_of(&harness.database);
        let url = url_of(&[proxy.address], name);
        let storage = PostgresStorage::connect(&url, &short).await;
        assert!(matches!(storage.err(), Some(ConnectError::NotReached(_))));
    }
    proxy.set(CLOSE);
    for _ in 0..3 {
        let error = harness.referral.current_user(&anna.tokens.access).await.expect_err("no server");
        assert_eq!(error.code().as_str(), "unavailable");
    }
    proxy.set(PASS);
    harness.referral.current_user(&anna.tokens.access).await.expect("read on a new connection");
}

#[tokio::test]
async fn the_primary_is_found_among_several_hosts() {
    let Some(database) = Database::create().await else { return };
    let (server, name) = server_of(&database);
    let name = name.to_owned();
    let proxies = [Proxy::start(server).await, Proxy::start(server).await, Proxy::start(server).await];
    let url = url_of(&proxies.each_ref().map(|proxy| proxy.address), &name);
    for (index, proxy) in proxies.iter().enumerate() {
        proxy.set([SILENT, CLOSE, PASS][index]);
    }
    let mut harness = Harness::at(&url, database, &PostgresOptions::default()).await;
    let anna = harness.enter(1, None).await.expect("signed in");
    // Makes the servers reachable sequentially, one at a time.
    for reachable in [0, 1, 2, 0] {
        for (index, proxy) in proxies.iter().enumerate() {
            proxy.set(if index == reachable { PASS } else { [CLOSE, SILENT][index % 2] });
        }
        harness.cut_off().await;
        harness.referral.current_user(&anna.tokens.access).await.expect("found");
    }
    for proxy in &proxies {
        proxy.set(CLOSE);
    }
    harness.cut_off().await;
    let error = harness.referral.current_user(&anna.tokens.access).await.expect_err("no server");
    assert_eq!(error.code().as_str(), "unavailable");
}

/// Returns a service whose commits wait for a missing standby, the server of its database, and a user who is
/// signed in.
async fn without_standby(options: &PostgresOptions) -> Option<(Harness, Source, SignedIn)> {
    let server = start_own("-c synchronous_standby_names=absent -c synchronous_commit=local")?;
    let database = Database::create_on_own(&server).await;
    let url = database.url.clone();
    let mut harness = Harness::at(&url, database, options).await;
    let anna = harness.enter(1, None).await.expect("signed in");
    harness.referral.current_user(&anna.tokens.access).await.expect("the use of the token is recorded");
    let name = harness.database.url.rsplit('/').next().expect("a name");
    let wait = format!("ALTER DATABASE {name} SET synchronous_commit = on");
    harness.operator.execute(AssertSqlSafe(wait)).await.expect("set");
    harness.cut_off().await;
    Some((harness, server, anna))
}

/// Returns the number of connections that wait in a commit.
async fn waiting_commits(harness: &mut Harness) -> i64 {
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE wait_event = 'SyncRep' AND backend_type = 'client backend'";
    harness.operator.fetch_one(waiting).await.expect("a row").get(0)
}

#[tokio::test]
async fn reads_are_served_while_commits_wait_for_a_standby() {
    let mut options = PostgresOptions::default();
    options.statement_timeout = Duration::from_mins(10);
    let Some((mut harness, _server, anna)) = without_standby(&options).await else { return };
    let writes: Vec<_> = (0..30)
        .map(|_| {
            let (referral, user) = (harness.referral.clone(), anna.user.id);
            tokio::spawn(async move { referral.set_active(user, true).await })
        })
        .collect();
    while waiting_commits(&mut harness).await == 0 {}
    for _ in 0..10 {
        harness.referral.current_user(&anna.tokens.access).await.expect("read while commits wait");
    }
    assert!(writes.iter().any(|write| !write.is_finished()), "commits must still wait");
    for write in writes {
        write.abort();
    }
}

#[tokio::test]
async fn commits_that_wait_for_a_standby_use_at_most_the_connections_for_writes() {
    let mut options = PostgresOptions::default();
    [options.statement_timeout, options.acquire_timeout] = [Duration::from_millis(100); 2];
    options.max_connections = 4;
    let Some((mut harness, _server, anna)) = without_standby(&options).await else { return };
    // Each sign-in has its own phone and code, so that none waits for a lock of another one.
    for number in 2..12 {
        let error = harness.enter(number, None).await.expect_err("no commit finishes");
        assert_eq!(error.code().as_str(), "unavailable");
    }
    assert_eq!(waiting_commits(&mut harness).await, 2);
    harness.referral.current_user(&anna.tokens.access).await.expect("read while commits wait");

    let name = harness.database.url.rsplit('/').next().expect("a name");
    let no_wait = format!("ALTER DATABASE {name} RESET synchronous_commit");
    harness.operator.execute(AssertSqlSafe(no_wait)).await.expect("set");
    harness.cut_off().await;
    while harness.enter(20, None).await.is_err() {}
}
