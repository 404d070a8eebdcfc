//! Slow searches: their time limit, and the places that they occupy.

use std::time::Duration;

use referral_core::{Error, ListUsers, Refusal};
use referral_sqlx::PostgresOptions;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::harness::{Harness, search, wait_for_locks};

#[tokio::test]
async fn slow_searches_do_not_block_other_requests() {
    let mut options = PostgresOptions::default();
    options.max_connections = 2;
    [options.acquire_timeout, options.statement_timeout, options.search_timeout] =
        [Duration::from_mins(10); 3];
    let Some(mut harness) = Harness::with_options(&options).await else { return };
    let mut current_users = Vec::new();
    for number in 1..4 {
        let user = harness.enter(number, None).await.expect("signed in");
        current_users.push(harness.referral.authenticate(&user.tokens.access).await.expect("valid"));
    }
    // All searches wait for this lock. Of all other requests, only sign-ups need the table.
    harness.operator.execute("BEGIN; LOCK referral.user_search").await.expect("locked");
    let searches = current_users.iter().chain(&current_users);
    let searches: Vec<_> = searches
        .map(|current_user| tokio::spawn(search(harness.referral.clone(), current_user.clone())))
        .collect();
    let mut observer = PgConnection::connect(&harness.database.url).await.expect("a connection");
    wait_for_locks(&mut observer, 1).await;

    let again = harness.enter(1, None).await.expect("signed in");
    harness.referral.current_user(&again.tokens.access).await.expect("valid");
    harness.referral.users(&current_users[0], ListUsers::default()).await.expect("a page");

    harness.operator.execute("COMMIT").await.expect("released");
    for search in searches {
        assert_eq!(search.await.expect("no panic").expect("a page").count, 3);
    }
}

#[tokio::test]
async fn a_search_that_exceeds_its_time_limit_is_refused_and_releases_its_place() {
    let mut options = PostgresOptions::default();
    options.search_timeout = Duration::from_millis(1);
    let Some(mut harness) = Harness::with_options(&options).await else { return };
    let anna = harness.enter(1, None).await.expect("signed in");
    let current_user = harness.referral.authenticate(&anna.tokens.access).await.expect("valid");
    harness.operator.execute("BEGIN; LOCK referral.user_search").await.expect("locked");
    for _ in 0..3 {
        let refused = search(harness.referral.clone(), current_user.clone()).await;
        assert!(matches!(refused, Err(Error::Refused(Refusal::SearchTooBroad))), "{refused:?}");
    }
    harness.operator.execute("COMMIT").await.expect("released");
}

#[tokio::test]
async fn a_canceled_search_keeps_its_place_until_the_database_ends_it() {
    let mut options = PostgresOptions::default();
    options.acquire_timeout = Duration::from_secs(2);
    [options.statement_timeout, options.search_timeout] = [Duration::from_mins(10); 2];
    let Some(mut harness) = Harness::with_options(&options).await else { return };
    let mut current_users = Vec::new();
    for number in 1..3 {
        let user = harness.enter(number, None).await.expect("signed in");
        current_users.push(harness.referral.authenticate(&user.tokens.access).await.expect("valid"));
    }
    harness.operator.execute("BEGIN; LOCK referral.user_search").await.expect("locked");
    let mut observer = PgConnection::connect(&harness.database.url).await.expect("a connection");
    let canceled = tokio::spawn(search(harness.referral.clone(), current_users[0].clone()));
    wait_for_locks(&mut observer, 1).await;
    canceled.abort();
    assert!(canceled.await.expect_err("aborted").is_cancelled());
    let next = search(harness.referral.clone(), current_users[1].clone()).await;
    assert_eq!(next.expect_err("no place").code().as_str(), "unavailable");
    harness.operator.execute("COMMIT").await.expect("released");
    let next = search(harness.referral.clone(), current_users[1].clone()).await;
    assert_eq!(next.expect("a page").count, 2);
}
