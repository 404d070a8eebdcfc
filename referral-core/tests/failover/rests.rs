//! Gateways that rest, and those that want to be left alone.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use async_trait::async_trait;
use referral_core::{
    PhoneNumber,
    sms::{Failover, Receipt, SmsError, SmsMessage, SmsSender},
};
use tokio::time::advance;

use crate::fake::{
    Accept, Asked, Busy, Hang, Permanent, Script, Temporary, Unknown, gateways, message, send, take,
};

#[tokio::test(start_paused = true)]
async fn a_gateway_that_fails_again_and_again_rests_and_is_tried_later() {
    let (builder, asked) = gateways(&[&[Temporary, Hang, Unknown, Temporary, Temporary], &[]]);
    let sender = builder.build().expect("sound");
    for _ in 0..3 {
        assert_eq!(send(&sender, &asked).await, "ab: accepted by b");
    }
    for rest in [30, 60] {
        assert_eq!(send(&sender, &asked).await, "b: accepted by b");
        advance(Duration::from_secs(rest - 1)).await;
        assert_eq!(send(&sender, &asked).await, "b: accepted by b", "it rests");
        advance(Duration::from_secs(1)).await;
        assert_eq!(send(&sender, &asked).await, "ab: accepted by b", "it is tried after {rest} s");
    }
    advance(Duration::from_secs(119)).await;
    assert_eq!(send(&sender, &asked).await, "b: accepted by b", "longer each time");
    advance(Duration::from_secs(1)).await;
    assert_eq!(send(&sender, &asked).await, "a: accepted by a", "it is back");
    assert_eq!(send(&sender, &asked).await, "a: accepted by a");
}

#[tokio::test(start_paused = true)]
async fn no_rest_is_longer_than_twenty_times_the_first() {
    let (builder, asked) = gateways(&[&[Temporary; 12], &[]]);
    let sender = builder.rest(1, Duration::from_secs(1)).build().expect("sound");
    for _ in 0..12 {
        assert_eq!(send(&sender, &asked).await, "ab: accepted by b");
        advance(Duration::from_secs(20)).await;
    }
    assert_eq!(send(&sender, &asked).await, "a: accepted by a");
}

#[tokio::test(start_paused = true)]
async fn failures_that_are_not_in_a_row_bring_no_rest() {
    let answers: Vec<_> = [Temporary, Temporary, Accept].repeat(4);
    let (builder, asked) = gateways(&[&answers, &[]]);
    let sender = builder.build().expect("sound");
    for _ in 0..4 {
        assert_eq!(send(&sender, &asked).await, "ab: accepted by b");
        assert_eq!(send(&sender, &asked).await, "ab: accepted by b");
        assert_eq!(send(&sender, &asked).await, "a: accepted by a");
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_that_is_wrong_says_nothing_of_the_gateway() {
    let (builder, asked) = gateways(&[&[Permanent; 9], &[]]);
    let sender = builder.build().expect("sound");
    for _ in 0..9 {
        assert_eq!(send(&sender, &asked).await, "a: permanent");
    }
}

#[tokio::test(start_paused = true)]
async fn many_at_once_bring_one_rest_and_one_trial() {
    let asked = Asked::default();
    let sender = Failover::builder()
        .gateway("a", Script::new("a", &asked, &[Hang; 9]))
        .gateway("b", Script::new("b", &asked, &[]))
        .build()
        .expect("sound");
    let sender = Arc::new(sender);
    let at_once = |sender: &Arc<Failover>| {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let sender = Arc::clone(sender);
                tokio::spawn(async move { sender.send(&message()).await.expect("accepted").gateway })
            })
            .collect();
        async move {
            for task in tasks {
                assert_eq!(task.await.expect("no panic").as_deref(), Some("b"));
            }
        }
    };
    at_once(&sender).await;
    assert_eq!(take(&asked).matches('a').count(), 8, "none knew of the others");
    // Eight failures at once are one reason to rest.
    advance(Duration::from_secs(30)).await;
    at_once(&sender).await;
    assert_eq!(take(&asked).matches('a').count(), 1, "one tries it for all");
    advance(Duration::from_mins(1)).await;
    assert_eq!(send(&sender, &asked).await, "a: accepted by a");
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_is_given_up_blocks_nobody_for_long() {
    let (builder, asked) = gateways(&[&[Temporary, Hang], &[]]);
    let sender = builder.rest(1, Duration::from_secs(10)).build().expect("sound");
    assert_eq!(send(&sender, &asked).await, "ab: accepted by b");
    advance(Duration::from_secs(10)).await;
    // Whoever tries it leaves at once.
    let given_up = tokio::time::timeout(Duration::from_secs(1), sender.send(&message())).await;
    assert!(given_up.is_err());
    assert_eq!(take(&asked), "a");
    assert_eq!(send(&sender, &asked).await, "b: accepted by b");
    advance(Duration::from_secs(4)).await;
    assert_eq!(send(&sender, &asked).await, "a: accepted by a");
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_hangs_is_the_only_one_until_it_is_noted() {
    let (builder, asked) = gateways(&[&[Temporary, Hang, Hang], &[]]);
    let sender = builder.rest(1, Duration::from_secs(10)).build().expect("sound");
    assert_eq!(send(&sender, &asked).await, "ab: accepted by b");
    advance(Duration::from_secs(10)).await;
    let message = message();
    let mut trial = sender.send(&message);
    assert!(poll_once(&mut trial).await.is_none());
    assert_eq!(take(&asked), "a");
    // Its time is over, and nobody has looked yet.
    advance(Duration::from_secs(4)).await;
    assert_eq!(send(&sender, &asked).await, "b: accepted by b");
    trial.await.expect("accepted by b");
}

/// What a future gives at once, if it does.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    poll_fn(|context| match Pin::new(&mut *future).poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_gateway_for_which_no_time_is_left_is_not_being_tried() {
    let (builder, asked) = gateways(&[&[Temporary, Hang], &[Temporary], &[]]);
    let builder = builder.time(Duration::from_millis(4_200)).rest(1, Duration::from_secs(10));
    let sender = builder.build().expect("sound");
    assert_eq!(send(&sender, &asked).await, "abc: accepted by c");
    advance(Duration::from_secs(10)).await;
    assert_eq!(send(&sender, &asked).await, "a: unknown");
    assert_eq!(send(&sender, &asked).await, "b: accepted by b");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_says_it_is_busy_is_left_alone_for_that_long() {
    let (builder, asked) = gateways(&[&[Busy(90)]]);
    let sender = builder.build().expect("sound");
    assert_eq!(send(&sender, &asked).await, "a: busy for 90");
    advance(Duration::from_secs(30)).await;
    // Though it is the only one.
    assert_eq!(send(&sender, &asked).await, ": busy for 60");
    advance(Duration::from_mins(1)).await;
    assert_eq!(send(&sender, &asked).await, "a: accepted by a");

    let (builder, asked) = gateways(&[&[Busy(1_000_000)]]);
    let sender = builder.build().expect("sound");
    send(&sender, &asked).await;
    advance(Duration::from_hours(1)).await;
    assert_eq!(send(&sender, &asked).await, "a: accepted by a", "but for no longer than an hour");
}

#[tokio::test(start_paused = true)]
async fn one_that_rests_is_asked_if_the_others_want_to_be_left_alone() {
    let (builder, asked) = gateways(&[&[Temporary], &[Accept, Busy(90)]]);
    let sender = builder.rest(1, Duration::from_secs(30)).build().expect("sound");
    assert_eq!(send(&sender, &asked).await, "ab: accepted by b");
    assert_eq!(send(&sender, &asked).await, "ba: accepted by a");
}

/// Says after a while that it is busy.
struct BusyLater;

#[async_trait]
impl SmsSender for BusyLater {
    async fn send(&self, _message: &SmsMessage) -> Result<Receipt, SmsError> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Err(SmsError::Busy { reason: "too much".into(), retry_after: Duration::from_secs(90) })
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_meanwhile_wants_to_be_left_alone_is_no_last_resort() {
    let asked = Asked::default();
    let sender = Failover::builder()
        .gateway("a", Script::new("a", &asked, &[Temporary, Busy(300)]))
        .gateway("b", BusyLater)
        .rest(1, Duration::from_secs(1));
    let sender = sender.build().expect("sound");
    // `a` fails and rests; while `b` is waited for, another message tries it again.
    let message = message();
    let mut first = sender.send(&message);
    assert!(poll_once(&mut first).await.is_none());
    let mut second = sender.send(&message);
    assert!(poll_once(&mut second).await.is_none());
    advance(Duration::from_secs(1)).await;
    let mut third = sender.send(&message);
    assert!(poll_once(&mut third).await.is_none());
    assert_eq!(take(&asked), "aa");
    assert!(matches!(second.await, Err(SmsError::Busy { .. })));
    assert_eq!(take(&asked), "", "it is left alone");
}

#[tokio::test(start_paused = true)]
async fn among_others_one_that_has_several_is_a_gateway_like_any() {
    let asked = Asked::default();
    let script = |name, answers| Script::new(name, &asked, answers);
    let inner = Failover::builder()
        .gateway("a", script("a", &[Temporary, Accept, Busy(40), Temporary]))
        .gateway("b", script("b", &[Busy(30), Busy(60)]));
    let inner = inner.build().expect("sound");
    let sender = Failover::builder().gateway("inner", inner).gateway("c", script("c", &[]));
    let sender = sender.build().expect("sound");
    assert_eq!(send(&sender, &asked).await, "abc: accepted by c");
    // Not all in it are busy, so it is not left alone.
    assert_eq!(send(&sender, &asked).await, "a: accepted by inner");
    assert_eq!(send(&sender, &asked).await, "ac: accepted by c");
    // All are, until one of them is not.
    advance(Duration::from_secs(29)).await;
    assert_eq!(send(&sender, &asked).await, "c: accepted by c");
    advance(Duration::from_secs(1)).await;
    assert_eq!(send(&sender, &asked).await, "bc: accepted by c");
}

#[tokio::test]
async fn the_least_time_is_enough_on_a_clock_that_goes() {
    let (builder, asked) = gateways(&[&[]]);
    let sender = builder.time(Duration::from_millis(500)).build().expect("sound");
    assert_eq!(send(&sender, &asked).await, "a: accepted by a");
}

#[tokio::test(start_paused = true)]
async fn those_that_rest_are_asked_last_first_whoever_is_back_first() {
    let (builder, asked) =
        gateways(&[&[Temporary, Temporary], &[Accept, Temporary, Accept], &[Accept, Temporary]]);
    let sender = builder.rest(1, Duration::from_secs(10)).build().expect("sound");
    assert_eq!(send(&sender, &asked).await, "ab: accepted by b");
    advance(Duration::from_secs(5)).await;
    assert_eq!(send(&sender, &asked).await, "bc: accepted by c");
    advance(Duration::from_secs(1)).await;
    assert_eq!(send(&sender, &asked).await, "cab: accepted by b");
    advance(Duration::from_secs(5)).await;
    assert_eq!(
        send(&sender, &asked).await,
        "a: accepted by a",
        "that it was asked before made its rest no longer"
    );
}

/// Takes phones of one region only, as gateways do that have no route to others.
struct Regional(&'static str);

#[async_trait]
impl SmsSender for Regional {
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError> {
        let region = message.phone.region().map(|region| region.to_string());
        if region.as_deref() == Some(self.0) {
            Ok(Receipt::new("m1"))
        } else {
            Err(SmsError::Temporary("no route".into()))
        }
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_for_one_region_keep_nobody_of_another_from_a_message() {
    let sender = Failover::builder().gateway("a", Regional("RU")).gateway("b", Regional("KZ")).build();
    let sender = sender.expect("sound");
    for phone in ["+77011234567", "+79608543017"].repeat(9) {
        let mut message = message();
        message.phone = PhoneNumber::parse(phone, None).expect("a number");
        sender.send(&message).await.expect(phone);
    }
    for phone in ["+77011234567"].repeat(9).into_iter().chain(["+79608543017"].repeat(9)) {
        let mut message = message();
        message.phone = PhoneNumber::parse(phone, None).expect("a number");
        sender.send(&message).await.expect(phone);
    }
}
