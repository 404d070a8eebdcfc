//! Tests of requests whose future is dropped at any await point, as for a client that disconnects.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
};

use referral_core::{Error, Refusal, SendCode, sms::DevelopmentSender};

use crate::{
    service,
    sign_in::{phone, with_right_code},
};

#[tokio::test]
async fn a_dropped_sign_in_is_atomic() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = crate::url_in(directory.path());
    let storage = tokio::spawn(async move { referral_sqlx::connect(&url).await });
    let storage = storage.await.expect("no panic").expect("a new file");
    let referral = service::builder(storage, DevelopmentSender).build().expect("valid policy and keys");

    for polls in 1.. {
        let sent = referral.send_code(SendCode::new(phone(polls))).await.expect("sent");
        let request = with_right_code(&sent);

        let first = Impatient { future: pin!(referral.sign_in(request.clone())), polls }.await;
        match (first, referral.sign_in(request).await) {
            (None, Ok(signed_in)) => assert!(signed_in.created, "the user must not exist without a session"),
            (None, Err(Error::Refused(Refusal::InvalidCode))) => {}
            (Some(Ok(_)), Err(Error::Refused(Refusal::InvalidCode))) => return,
            (first, second) => panic!("after {polls} polls: {first:?}, then {second:?}"),
        }
    }
}

/// Future that returns `None` if the inner future is not ready after `polls` polls.
struct Impatient<'a, F> {
    future: Pin<&'a mut F>,
    polls: u32,
}

impl<F: Future> Future for Impatient<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        self.future.as_mut().poll(context).map(Some)
    }
}
