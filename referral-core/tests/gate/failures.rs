//! Gates that fail.

use std::{future::pending, sync::Arc, time::Duration};

use async_trait::async_trait;
use referral_core::{
    Error, ErrorKind, SendCode,
    events::Event,
    gate::{Caller, Gate, GateFailure, GateOperation, GateOptions, GateOutcome, OnGateFailure, Verdict},
    storage::{BoxError, MemoryStorage},
    test_util::TestService,
};

use crate::decisions::{ANNA, Events};

/// Gate that fails.
#[derive(Clone, Copy)]
enum Broken {
    ReturnsError,
    Panics,
    Hangs,
}

#[async_trait]
impl Gate for Broken {
    async fn before_send(&self, _: &Caller) -> Result<Verdict, BoxError> {
        match self {
            Self::ReturnsError => {
                let source = std::io::Error::other("disk");
                Err(Box::new(referral_core::storage::StorageError::Failed(source.into())))
            }
            Self::Panics => panic!("out of order"),
            Self::Hangs => pending().await,
        }
    }
}

/// Gate that allows everything.
struct Open;

impl Gate for Open {}

async fn send(gate: impl Gate, options: GateOptions) -> (Result<(), Error>, Vec<Event>, usize) {
    let events = Events::default();
    let service = TestService::with_builder(Arc::new(MemoryStorage::new()), |builder| {
        builder.hook(Arc::new(events.clone())).gate(Arc::new(gate), options)
    });
    let phone = service.referral.parse_phone(ANNA).expect("valid");
    let sent = service.referral.send_code(SendCode::new(phone.clone())).await.map(drop);
    if sent.is_ok() {
        // The place of a question is free after the response.
        service.referral.send_code(SendCode::new(phone)).await.expect("sent");
    }
    (sent, events.take(), service.sender.messages().len())
}

#[tokio::test]
async fn failed_gate_rejects_by_default_or_allows() {
    let short = GateOptions::default().timeout(Duration::from_millis(1));
    let long = GateOptions::default().timeout(Duration::from_hours(1));
    for (gate, options, expected) in [
        (Broken::ReturnsError, long, GateFailure::Failed("the storage operation failed: disk".into())),
        (Broken::Panics, long, GateFailure::Panicked),
        (Broken::Hangs, short, GateFailure::TimedOut),
        (Broken::Hangs, long.max_concurrent(0), GateFailure::Busy),
    ] {
        let (sent, events, messages) = send(gate, options).await;
        let Err(error) = sent else { panic!("{expected:?}") };
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.retry_after().is_some());
        assert_eq!(error.to_string(), "failed to ask the gate at before_send");
        let Error::GateFailed { operation: GateOperation::BeforeSend, failure } = error else {
            panic!("{error:?}");
        };
        assert_eq!((failure, messages), (expected.clone(), 0));
        let [Event::GateDecided(decided)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(decided.operation, GateOperation::BeforeSend);
        assert_eq!(decided.outcome, GateOutcome::Failed(expected.clone()));

        let (sent, events, messages) = send(gate, options.on_failure(OnGateFailure::Allow)).await;
        sent.expect("sent");
        assert_eq!(messages, 2);
        let [Event::GateDecided(decided), Event::CodeSent(_), ..] = &events[..] else { panic!("{events:?}") };
        assert_eq!(decided.outcome, GateOutcome::Failed(expected));
    }
}

#[tokio::test]
async fn place_of_a_question_is_free_after_the_response() {
    let (sent, _, messages) = send(Open, GateOptions::default().max_concurrent(1)).await;
    sent.expect("sent");
    assert_eq!(messages, 2);
}
