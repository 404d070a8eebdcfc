//! Conflicts of transactions: serialization failures, deadlocks and concurrent edits.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use referral_core::{
    Client, EditProfile, FilterInput, ListUsers, Name, ProfileChange, SignIn,
    clock::{Clock as _, SystemClock},
    policy::{Limits, Policy},
    storage::{CountedEvent, EventKind},
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::{
    harness::{Harness, wait_for_locks},
    sign_in::with_right_code,
};

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

#[tokio::test]
async fn an_aborted_sign_in_is_retried() {
    for abort in ["serialization_failure", "deadlock_detected"] {
        for table in ["challenges", "counters", "users", "invitations", "sessions", "user_search"] {
            let Some(mut harness) = Harness::new().await else { return };
            // The sign-in takes the code off the count of its address, so it also writes a counter.
            let mut policy = Policy::development();
            policy.codes_per_address = Limits::new([(10, Duration::from_hours(1))]).expect("valid");
            harness.use_policy(policy).await;
            let anna = harness.enter(1, None).await.expect("signed in").user;
            let sent = harness.sent_code_to(2, Client::default().address(ADDRESS)).await;
            harness.sabotage(table, 2, &format!("RAISE {abort}")).await;
            let request = with_right_code(&sent).invited_by(anna.invite_code);
            let signed_in = harness.referral.sign_in(request).await;
            assert!(signed_in.expect("signed in").created, "{abort} {table}");
            assert!(harness.attempts().await > 2, "{abort} {table}");
            assert_eq!(harness.count("users").await, 2);
            assert_eq!(harness.count("invitations").await, 1);
            assert_eq!(harness.count("sessions").await, 2);
        }
    }
}

#[tokio::test]
async fn an_aborted_request_for_a_code_is_retried() {
    for table in ["challenges", "counters"] {
        let Some(mut harness) = Harness::new().await else { return };
        harness.sabotage(table, 2, "RAISE serialization_failure").await;
        harness.sent_code(1).await;
        assert!(harness.attempts().await > 2, "{table}");
        assert_eq!(harness.count("challenges").await, 1);
    }
}

#[tokio::test]
async fn an_aborted_edit_of_a_profile_is_retried() {
    let Some(mut harness) = Harness::new().await else { return };
    let anna = harness.enter(1, None).await.expect("signed in");
    let boris = harness.enter(2, None).await.expect("signed in");
    harness.sabotage("invitations", 2, "RAISE deadlock_detected").await;
    let current_user = harness.referral.authenticate(&boris.tokens.access).await.expect("valid");
    let change = ProfileChange { invited_by_code: Some(anna.user.invite_code), ..ProfileChange::default() };
    harness.referral.edit_profile(&current_user, EditProfile::new(change)).await.expect("accepted");
    assert_eq!(harness.count("invitations").await, 1);
}

#[tokio::test]
async fn a_request_fails_after_repeated_aborts() {
    let Some(mut harness) = Harness::new().await else { return };
    harness.sabotage("sessions", 1_000, "RAISE serialization_failure").await;
    let error = harness.enter(1, None).await.expect_err("repeated aborts");
    assert_eq!(error.code().as_str(), "unavailable");
    assert!((3..=20).contains(&harness.attempts().await));
    assert_eq!(harness.count("users").await, 0, "all changes must be undone");
}

#[tokio::test]
async fn real_deadlocks_are_resolved() {
    let Some(mut harness) = Harness::new().await else { return };
    harness.enter(1, None).await.expect("signed in");
    // The operator locks the user. The service locks the challenge and waits for the user. Then the operator
    // waits for the challenge.
    let sent = harness.sent_code(1).await;
    let request = with_right_code(&sent);
    let short = "SET deadlock_timeout = '10s'; BEGIN; SELECT 1 FROM referral.users FOR UPDATE";
    harness.operator.execute(short).await.expect("locked");
    let referral = harness.referral.clone();
    let signing_in = tokio::spawn(async move { referral.sign_in(request).await });
    let mut observer = PgConnection::connect(&harness.database.url).await.expect("a connection");
    wait_for_locks(&mut observer, 1).await;
    let lock = format!("SELECT 1 FROM referral.challenges WHERE id = '{}' FOR UPDATE NOWAIT", sent.challenge);
    observer.execute(AssertSqlSafe(lock)).await.expect_err("the service holds the challenge");
    // The service has the shorter deadlock timeout. Its transaction is aborted and retried.
    let challenge =
        format!("UPDATE referral.challenges SET attempts_with_id = 0 WHERE id = '{}'", sent.challenge);
    harness
        .operator
        .execute(AssertSqlSafe(challenge))
        .await
        .expect("the transaction of the service is aborted");
    harness.operator.execute("COMMIT").await.expect("committed");
    signing_in.await.expect("no panic").expect("signed in");
}

#[tokio::test]
async fn a_concurrent_edit_and_late_acceptance_are_both_in_the_search_index() {
    for acceptance_first in [true, false] {
        let Some(mut harness) = Harness::new().await else { return };
        let anna = harness.enter(1, None).await.expect("signed in").user;
        let boris = harness.enter(2, None).await.expect("signed in");
        let current_user = harness.referral.authenticate(&boris.tokens.access).await.expect("valid");
        // The operator locks the user. Both requests wait for the lock in the order of their arrival.
        let lock = format!("BEGIN; SELECT 1 FROM referral.users WHERE id = '{}' FOR UPDATE", boris.user.id);
        harness.operator.execute(AssertSqlSafe(lock)).await.expect("locked");
        let sent = harness.sent_code(2).await;
        let request = with_right_code(&sent).invited_by(Some(anna.invite_code.clone()));
        let change =
            ProfileChange { first_name: Some(Name::parse("Bohdan").ok()), ..ProfileChange::default() };
        let accepting = || {
            let (referral, request) = (harness.referral.clone(), request.clone());
            tokio::spawn(async move { referral.sign_in(request).await.map(drop) })
        };
        let editing = || {
            let (referral, current_user, change) =
                (harness.referral.clone(), current_user.clone(), change.clone());
            tokio::spawn(async move {
                referral.edit_profile(&current_user, EditProfile::new(change)).await.map(drop)
            })
        };
        let mut observer = PgConnection::connect(&harness.database.url).await.expect("a connection");
        let first = if acceptance_first { accepting() } else { editing() };
        wait_for_locks(&mut observer, 1).await;
        let second = if acceptance_first { editing() } else { accepting() };
        wait_for_locks(&mut observer, 2).await;
        harness.operator.execute("COMMIT").await.expect("released");
        first.await.expect("no panic").expect("done");
        second.await.expect("no panic").expect("done");

        for term in ["bohdan", anna.invite_code.as_str()] {
            let filter = FilterInput { search: Some(term), ..FilterInput::default() };
            let list = ListUsers { filter, ..ListUsers::default() };
            let found = harness.referral.users(&current_user, list).await.expect("a page");
            assert!(found.items.iter().any(|user| user.id == boris.user.id), "{term}");
        }
    }
}

/// Runs `change` in a transaction that ends while a sign-in with the correct code waits for it. Returns the
/// code of the error of the sign-in.
async fn error_after_concurrent(harness: &mut Harness, change: &str, request: SignIn) -> String {
    harness.operator.execute(AssertSqlSafe(format!("BEGIN; {change}"))).await.expect("changed");
    let referral = harness.referral.clone();
    let signing_in = tokio::spawn(async move { referral.sign_in(request).await });
    let mut observer = PgConnection::connect(&harness.database.url).await.expect("a connection");
    wait_for_locks(&mut observer, 1).await;
    harness.operator.execute("COMMIT").await.expect("committed");
    let error = signing_in.await.expect("no panic").expect_err("refused");
    error.code().as_str().to_owned()
}

/// Otherwise many concurrent guesses from one address would all be compared with their codes.
#[tokio::test]
async fn a_correct_code_is_refused_if_concurrent_guesses_reach_the_limit_of_the_address() {
    for is_stored in [false, true] {
        let Some(mut harness) = Harness::new().await else { return };
        let limit = Limits::new([(1, Duration::from_hours(1))]).expect("valid");
        let mut policy = Policy::development();
        policy.failed_attempts_per_address = limit;
        // The sign-in also refunds the code, if the counter of the number range still has it.
        policy.codes_per_number_range = Limits::new([(10, Duration::from_hours(1))]).expect("valid");
        harness.use_policy(policy).await;
        let sent = harness.sent_code(1).await;
        let request = with_right_code(&sent).client(Client::default().address(ADDRESS));
        let put = |events: &str| {
            AssertSqlSafe(format!(
                "INSERT INTO referral.counters (key, events, ends_at) \
                 VALUES ('address/192.0.2.1', ARRAY[{events}]::bigint[], now() + interval '1 day') \
                 ON CONFLICT (key) DO UPDATE SET events = excluded.events"
            ))
        };
        if is_stored {
            harness.operator.execute(put("")).await.expect("stored");
        }
        let guess = CountedEvent { at: SystemClock.now(), kind: EventKind::FailedAttempt }.to_number();
        let count = put(&guess.to_string()).0;
        assert_eq!(error_after_concurrent(&mut harness, &count, request).await, "too_many_requests");
        assert_eq!(harness.count("sessions").await, 0);
    }
}

#[tokio::test]
async fn a_user_who_is_deactivated_during_a_sign_in_gets_no_session() {
    let Some(mut harness) = Harness::new().await else { return };
    harness.enter(1, None).await.expect("signed in");
    let sent = harness.sent_code(1).await;
    let deactivate = "UPDATE referral.users SET is_active = FALSE";
    let error = error_after_concurrent(&mut harness, deactivate, with_right_code(&sent)).await;
    assert_eq!(error, "user_inactive");
    assert_eq!(harness.count("sessions").await, 1, "the session of the first sign-in");
}

#[tokio::test]
async fn sign_ups_under_one_inviter_do_not_wait_for_each_other() {
    let Some(mut harness) = Harness::new().await else { return };
    let anna = harness.enter(1, None).await.expect("signed in");
    // The inviter is popular, and another sign-up has counted its invitee and is not committed yet.
    let popular = "UPDATE referral.users SET invited_count = 100";
    harness.operator.execute(popular).await.expect("popular");
    let lock = "BEGIN; SELECT 1 FROM referral.users FOR NO KEY UPDATE";
    harness.operator.execute(lock).await.expect("locked");
    for number in 2..=4 {
        harness.enter(number, Some(&anna.user.invite_code)).await.expect("signed in");
    }
    harness.operator.execute("COMMIT").await.expect("released");
    harness.enter(5, Some(&anna.user.invite_code)).await.expect("signed in");
    let profile = harness.referral.current_user(&anna.tokens.access).await.expect("valid");
    assert_eq!(profile.invited_count, 104);

    harness
        .operator
        .execute("DELETE FROM referral.invitations WHERE accepted_at < now()")
        .await
        .expect("deleted");
    let profile = harness.referral.current_user(&anna.tokens.access).await.expect("valid");
    assert_eq!(profile.invited_count, 0);
}
