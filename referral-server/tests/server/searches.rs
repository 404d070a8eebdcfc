//! Tests of searches that exceed the time limit.

use std::{sync::Arc, time::Duration};

use referral_core::{PhoneNumber, StaffRole, policy::Policy, sms::DevelopmentSender};
use referral_server::AppOptions;
use referral_sqlx::SqliteOptions;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::{
    multi_host::{RETURN_CODES, server::Database},
    program::{Program, directory},
    service::{ANNA, Service},
};

#[tokio::test]
async fn a_search_that_takes_too_long_is_rejected_on_sqlite() {
    let directory = directory();
    let mut options = SqliteOptions::default();
    options.search_timeout = Duration::ZERO;
    let file = directory.path().join("referral.db");
    let storage = referral_sqlx::SqliteStorage::open(&file, &options).await.expect("a new file");
    let sender = Arc::new(DevelopmentSender);
    let service =
        Service::with_storage(Arc::new(storage), Policy::development(), sender, AppOptions::default()).await;
    for number in 0..100 {
        let phone = PhoneNumber::parse(&format!("+796085431{number:02}"), None).expect("a phone");
        service.referral.make_staff(phone, StaffRole::Admin).await.expect("created");
    }
    let anna = service.enter(ANNA, None).await;
    let response = service.client.get("/users/?search=7960", &anna.access).await;
    response.assert_problem(400, "search_too_broad");
    assert_eq!(service.client.get("/users/", &anna.access).await.ok()["count"], 101);
}

#[tokio::test]
async fn a_search_that_takes_too_long_is_rejected_on_postgres() {
    let Some(database) = Database::create().await else { return };
    let directory = directory();
    let arguments = ["--database-url", &database.url, "--search-timeout", "100ms", RETURN_CODES];
    let program = Program::start(directory.path(), &arguments);
    let anna = program.client.enter(ANNA, None).await;
    let mut operator = PgConnection::connect(&database.url).await.expect("a connection");
    operator.execute("BEGIN; LOCK referral.user_search").await.expect("held");
    let response = program.client.get("/users/?search=7960", &anna.access).await;
    response.assert_problem(400, "search_too_broad");
    assert_eq!(program.client.get("/users/", &anna.access).await.ok()["count"], 1);
    operator.execute("COMMIT").await.expect("released");
}
