//! Service on its own database, with a connection of an operator that causes the failures.

use std::{sync::Arc, time::Duration};

use referral_core::{
    Client, CurrentUser, Error, FilterInput, InviteCode, ListUsers, Page, ReferralService, SendCode,
    SentCode, SignedIn, UserView, policy::Policy, sms::DevelopmentSender,
};
use referral_sqlx::{PostgresOptions, PostgresStorage};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

use crate::{
    server::Database,
    service,
    sign_in::{phone, with_right_code},
};

/// Service with a separate connection of an operator to its database.
pub(crate) struct Harness {
    pub(crate) referral: ReferralService,
    pub(crate) operator: PgConnection,
    pub(crate) database: Database,
}

impl Harness {
    pub(crate) async fn new() -> Option<Self> {
        Self::with(10).await
    }

    /// Creates a service with a maximum number of connections.
    pub(crate) async fn with(connections: u32) -> Option<Self> {
        let mut options = PostgresOptions::default();
        options.max_connections = connections;
        Self::with_options(&options).await
    }

    pub(crate) async fn with_options(options: &PostgresOptions) -> Option<Self> {
        let database = Database::create().await?;
        let url = database.url.clone();
        Some(Self::at(&url, database, options).await)
    }

    /// Creates a service that connects to `database` through `url`.
    pub(crate) async fn at(url: &str, database: Database, options: &PostgresOptions) -> Self {
        let storage = PostgresStorage::connect(url, options).await.expect("a new database");
        let builder = service::builder(Arc::new(storage), DevelopmentSender).policy(Policy::development());
        let referral = builder.build().expect("valid policy and keys");
        let operator = PgConnection::connect(&database.url).await.expect("a connection");
        Self { referral, operator, database }
    }

    /// Replaces the service by one with another policy and the same database.
    pub(crate) async fn use_policy(&mut self, policy: Policy) {
        let storage = PostgresStorage::connect(&self.database.url, &PostgresOptions::default()).await;
        let builder =
            service::builder(Arc::new(storage.expect("a database")), DevelopmentSender).policy(policy);
        self.referral = builder.build().expect("valid policy and keys");
    }

    /// Sends a code to the phone with this number.
    pub(crate) async fn sent_code(&self, number: u32) -> SentCode {
        self.sent_code_to(number, Client::default()).await
    }

    /// Sends a code to the phone with this number, as `client` requests it.
    pub(crate) async fn sent_code_to(&self, number: u32, client: Client) -> SentCode {
        self.referral.send_code(SendCode::new(phone(number)).client(client)).await.expect("sent")
    }

    pub(crate) async fn enter(
        &self,
        number: u32,
        invited_by: Option<&InviteCode>,
    ) -> Result<SignedIn, Error> {
        let sent = self.referral.send_code(SendCode::new(phone(number))).await?;
        self.referral.sign_in(with_right_code(&sent).invited_by(invited_by.cloned())).await
    }

    /// Installs a trigger that executes `statement` for the next `times` rows that are written to `table`.
    pub(crate) async fn sabotage(&mut self, table: &str, times: u32, statement: &str) {
        let sql = format!(
            "CREATE SEQUENCE attempts; \
             CREATE FUNCTION sabotage() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF nextval('attempts') <= {times} THEN {statement}; END IF; RETURN NEW; \
             END $$; \
             CREATE TRIGGER sabotage BEFORE INSERT OR UPDATE ON referral.{table} \
             FOR EACH ROW EXECUTE FUNCTION sabotage();"
        );
        self.operator.execute(AssertSqlSafe(sql)).await.expect("created");
    }

    pub(crate) async fn attempts(&mut self) -> i64 {
        let row = self.operator.fetch_one("SELECT last_value FROM attempts").await.expect("a row");
        row.get(0)
    }

    pub(crate) async fn count(&mut self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM referral.{table}");
        self.operator.fetch_one(AssertSqlSafe(sql)).await.expect("a row").get(0)
    }

    /// Ends all connections of the service, like a restart of the server.
    pub(crate) async fn cut_off(&mut self) {
        let cut_off = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.operator.execute(cut_off).await.expect("ended");
    }
}

/// Waits until at least `count` connections wait for a lock.
pub(crate) async fn wait_for_locks(observer: &mut PgConnection, count: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let wait = async { while observer.fetch_one(waiting).await.expect("a row").get::<i64, _>(0) < count {} };
    tokio::time::timeout(Duration::from_mins(1), wait).await.expect("the connections wait for a lock");
}

/// Searches for users.
pub(crate) async fn search(
    referral: ReferralService,
    current_user: CurrentUser,
) -> Result<Page<UserView>, Error> {
    let filter = FilterInput { search: Some("+79608"), ..FilterInput::default() };
    referral.users(&current_user, ListUsers { filter, ..ListUsers::default() }).await
}
