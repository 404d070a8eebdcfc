//! Tests of operations whose caller drops them, as a web framework does when its client disconnects.

#[path = "common/service.rs"]
mod service;
#[path = "common/sign_in.rs"]
mod sign_in;

use std::{future, sync::Arc};

use async_trait::async_trait;
use referral_core::{
    EditProfile, Error, ProfileChange, ReferralService, SendCode, StaffRole,
    events::{Event, Hook},
    policy::Policy,
    sms::DevelopmentSender,
    spawner::Task,
    storage::MemoryStorage,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::sign_in::{enter, phone, with_right_code};

/// Hook that needs two polls for each event.
struct Recorder(UnboundedSender<Event>);

#[async_trait]
impl Hook for Recorder {
    async fn on_event(&self, event: &Event) {
        tokio::task::yield_now().await;
        let _ = self.0.send(event.clone());
    }
}

fn service_with_events() -> (ReferralService, UnboundedReceiver<Event>) {
    let (sender, events) = unbounded_channel();
    let builder = service::builder(Arc::new(MemoryStorage::new()), DevelopmentSender)
        .policy(Policy::development())
        .hook(Arc::new(Recorder(sender)))
        .spawner(|task: Task| drop(tokio::spawn(task)));
    (builder.build().expect("valid policy and keys"), events)
}

/// Polls an operation once and drops it.
async fn start(operation: impl Future) {
    tokio::select! {
        biased;
        _ = operation => panic!("the operation needs more than one poll"),
        () = future::ready(()) => {}
    }
}

/// Waits until all tasks have ended, and returns the names of the events.
async fn rest(referral: ReferralService, mut events: UnboundedReceiver<Event>) -> Vec<String> {
    drop(referral);
    let mut names = Vec::new();
    while let Some(event) = events.recv().await {
        let text = format!("{event:?}");
        names.push(text.split(['(', ' ']).next().unwrap_or_default().to_owned());
    }
    names
}

#[tokio::test]
async fn a_dropped_request_for_a_code_sends_it() {
    let (referral, events) = service_with_events();
    start(referral.send_code(SendCode::new(phone(1)))).await;
    assert_eq!(rest(referral, events).await, ["CodeSent"]);
}

#[tokio::test]
async fn a_dropped_sign_in_emits_its_events() {
    let (referral, events) = service_with_events();
    let anna = enter(&referral, 1, None).await.user;
    let sent = referral.send_code(SendCode::new(phone(2))).await.expect("sent");
    start(referral.sign_in(with_right_code(&sent).invited_by(Some(anna.invite_code)))).await;
    let names = rest(referral, events).await;
    assert_eq!(names[names.len() - 3..], ["UserCreated", "InvitationAccepted", "UserSignedIn"]);
}

#[tokio::test]
async fn a_dropped_edit_emits_its_events() {
    let (referral, events) = service_with_events();
    let anna = enter(&referral, 1, None).await.user;
    let boris = enter(&referral, 2, None).await;
    let current_user = referral.authenticate(&boris.tokens.access).await.expect("valid");
    let change = ProfileChange { invited_by_code: Some(anna.invite_code), ..ProfileChange::default() };
    start(referral.edit_profile(&current_user, EditProfile::new(change))).await;
    let names = rest(referral, events).await;
    assert_eq!(names.last().map(String::as_str), Some("InvitationAccepted"));
}

#[tokio::test]
async fn a_dropped_promotion_emits_its_events() {
    let (referral, events) = service_with_events();
    start(referral.make_staff(phone(1), StaffRole::Admin)).await;
    assert_eq!(rest(referral, events).await, ["UserCreated", "Audited"]);
}

#[tokio::test]
async fn a_panic_in_a_task_is_an_error() {
    struct Bug;

    #[async_trait]
    impl Hook for Bug {
        async fn on_event(&self, _: &Event) {
            panic!("a bug in the hook");
        }
    }

    let builder = service::builder(Arc::new(MemoryStorage::new()), DevelopmentSender);
    let builder = builder.hook(Arc::new(Bug)).spawner(|task: Task| drop(tokio::spawn(task)));
    let referral = builder.build().expect("valid policy and keys");
    let error = referral.send_code(SendCode::new(phone(1))).await.expect_err("a panic");
    assert!(matches!(error, Error::Aborted), "{error}");
}
