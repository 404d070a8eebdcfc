//! Readiness: a wrong clock, a standby and a full disk.

use std::time::Duration;

use referral_core::{
    Error,
    clock::{Clock, SystemClock},
    sms::DevelopmentSender,
};
use referral_sqlx::connect;
use sqlx::{AssertSqlSafe, Executor as _};
use time::OffsetDateTime;

use crate::{harness::Harness, server::Database, service};

#[tokio::test]
async fn a_host_whose_clock_differs_from_that_of_the_server_is_not_ready() {
    let Some(database) = Database::create().await else { return };
    for (is_ahead, is_ready) in [(false, true), (true, false)] {
        let storage = connect(&database.url).await.expect("a database");
        let builder = service::builder(storage, DevelopmentSender);
        let builder = if is_ahead { builder.clock(std::sync::Arc::new(Ahead)) } else { builder };
        let referral = builder.build().expect("valid policy and keys");
        let measured = referral.measure_clock().await.expect("measured").expect("a clock");
        // The server runs on this machine and has the same clock.
        let expected = if is_ahead { 60_000 } else { 0 };
        let error = measured.milliseconds().abs_diff(expected);
        assert!(u128::from(error) <= measured.uncertainty.as_millis() + 1, "{measured:?}");
        match referral.check_ready().await {
            Ok(()) => assert!(is_ready, "{measured:?}"),
            Err(error) => assert!(!is_ready && matches!(error, Error::ClockOffset { .. }), "{error}"),
        }
    }
}

/// Clock that is one minute ahead of the system clock.
struct Ahead;

impl Clock for Ahead {
    fn now(&self) -> OffsetDateTime {
        SystemClock.now() + Duration::from_mins(1)
    }
}

#[tokio::test]
async fn a_read_only_database_is_not_ready() {
    let Some(mut harness) = Harness::new().await else { return };
    harness.referral.check_ready().await.expect("ready");
    let name = harness.database.url.rsplit('/').next().expect("a name");
    let standby = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    harness.operator.execute(AssertSqlSafe(standby)).await.expect("set");
    harness.cut_off().await;
    assert_eq!(harness.referral.check_ready().await.expect_err("a standby").code().as_str(), "unavailable");
}

#[tokio::test]
async fn a_server_with_a_full_disk_is_not_ready_until_space_is_free() {
    let Some(mut harness) = Harness::new().await else { return };
    harness.sabotage("challenges", 1, "RAISE disk_full").await;
    assert_eq!(harness.enter(1, None).await.expect_err("full").code().as_str(), "unavailable");
    harness.operator.execute("ALTER TABLE referral.disk_probe ADD CHECK (filler = '')").await.expect("set");
    for _ in 0..2 {
        let readiness = harness.referral.readiness().await;
        assert!(readiness.database.is_passed() && readiness.schema.is_passed(), "{readiness:?}");
        assert!(!readiness.disk.is_passed(), "{readiness:?}");
    }
    let free_space = "ALTER TABLE referral.disk_probe DROP CONSTRAINT disk_probe_filler_check";
    harness.operator.execute(free_space).await.expect("set");
    assert!(harness.referral.readiness().await.is_ready());
    assert_eq!(harness.count("disk_probe").await, 0, "the probe must be undone");
}
