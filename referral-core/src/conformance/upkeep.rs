//! What operators do.

use std::{sync::Arc, time::Duration};

use super::{Bench, answer, assert_refused, in_parallel, phone};
use crate::{Refusal, clock::Clock as _, storage::Storage};

/// A phone becomes staff, with or without an account, and stays the same user.
pub async fn staff_are_made_and_promoted(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let anna = bench.enter(1).await.user;
    assert!(!anna.is_staff);
    let promoted = bench.referral.make_staff(phone(1)).await.expect("promoted");
    assert_eq!(promoted, crate::User { is_staff: true, ..anna });
    assert_eq!(bench.referral.make_staff(phone(1)).await.expect("no change"), promoted);

    let made = bench.referral.make_staff(phone(2)).await.expect("made");
    assert!(made.is_staff && made.last_login.is_none());
    let signed_in = bench.enter(2).await;
    assert!(!signed_in.created && signed_in.user.is_staff);
    assert_eq!(signed_in.user.id, made.id);
}

/// Two operators who do it at once make one user.
pub async fn parallel_promotions_make_one_user(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let made = in_parallel(10, |_| {
        let bench = bench.clone();
        async move { bench.referral.make_staff(phone(1)).await.expect("made").id }
    });
    let mut made = made.await;
    made.dedup();
    assert_eq!(made.len(), 1);
    let bearer = bench.bearer(&bench.enter(1).await).await;
    bench.assert_sound(&bearer).await;
}

/// Codes and sessions that have ended go; those that live stay.
pub async fn sweeping_deletes_what_has_ended_and_nothing_else(storage: Arc<dyn Storage>) {
    const HALF_A_SESSION: Duration = Duration::from_hours(15 * 24 + 1);
    let bench = Bench::new(storage);
    let ended = bench.enter(1).await;
    bench.advance(HALF_A_SESSION);
    let live = bench.enter(2).await;
    bench.advance(HALF_A_SESSION);
    let sent = bench.sent(&phone(3)).await;

    // The two codes that were redeemed, and one session.
    assert_eq!(bench.referral.sweep().await.expect("swept"), 3);
    assert_eq!(bench.referral.sweep().await.expect("swept"), 0);
    assert_eq!(bench.storage.session(ended.session, 0).await.expect("an answer"), None);
    assert!(bench.storage.session(live.session, 0).await.expect("an answer").is_some());
    bench.sign_in(answer(&sent)).await.expect("the code lives");
    bench.referral.refresh(&live.tokens.refresh).await.expect("the session lives");
    assert_refused(bench.referral.refresh(&ended.tokens.refresh).await, Refusal::TokenNotValid);
}

/// However much there is, one step is short.
pub async fn a_sweep_takes_no_more_than_its_batch(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    for number in 0..5 {
        bench.sent(&phone(number)).await;
    }
    bench.advance(Duration::from_hours(1));
    let now = bench.clock.now();
    for expected in [2, 2, 1, 0] {
        assert_eq!(bench.storage.sweep(now, 2).await.expect("swept"), expected);
    }
}

/// A storage that serves these cases says that it can.
pub async fn a_storage_is_ready(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    bench.referral.check_ready().await.expect("ready");
}
