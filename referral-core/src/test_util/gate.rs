//! Gate for tests.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::{
    gate::{Caller, Gate, RequestedInvitation, RequestedSignUp, Verdict},
    storage::error::BoxError,
};

/// Question that a [`RecordingGate`] was asked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum GateQuestion {
    /// Question of [`Gate::before_send`].
    Send(Caller),
    /// Question of [`Gate::before_sign_up`].
    SignUp(Caller, RequestedSignUp),
    /// Question of [`Gate::before_invitation`].
    Invitation(Caller, RequestedInvitation),
}

type Decide = dyn Fn(&GateQuestion) -> Result<Verdict, BoxError> + Send + Sync;

/// Gate that records all questions, and decides with a function. Clones share the record.
///
/// ```
/// use std::sync::Arc;
///
/// use referral_core::{
///     gate::{GateOptions, Verdict},
///     storage::MemoryStorage,
///     test_util::{GateQuestion, RecordingGate, TestService},
/// };
///
/// # #[tokio::main]
/// # async fn main() {
/// let gate = RecordingGate::new(|_| Ok(Verdict::Allow));
/// let service = TestService::with_builder(Arc::new(MemoryStorage::new()), |builder| {
///     builder.gate(Arc::new(gate.clone()), GateOptions::default())
/// });
/// service.sign_in_as("+79608543017").await;
/// assert!(matches!(gate.questions()[..], [GateQuestion::Send(_), GateQuestion::SignUp(..)]));
/// # }
/// ```
#[derive(Clone)]
pub struct RecordingGate {
    questions: Arc<Mutex<Vec<GateQuestion>>>,
    decide: Arc<Decide>,
}

impl RecordingGate {
    /// Creates a gate that decides with a function.
    #[must_use]
    pub fn new(decide: impl Fn(&GateQuestion) -> Result<Verdict, BoxError> + Send + Sync + 'static) -> Self {
        Self { questions: Arc::default(), decide: Arc::new(decide) }
    }

    /// Returns the questions so far, oldest first.
    #[must_use]
    pub fn questions(&self) -> Vec<GateQuestion> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answer(&self, question: GateQuestion) -> Result<Verdict, BoxError> {
        let verdict = (self.decide)(&question);
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).push(question);
        verdict
    }
}

#[async_trait]
impl Gate for RecordingGate {
    async fn before_send(&self, caller: &Caller) -> Result<Verdict, BoxError> {
        self.answer(GateQuestion::Send(caller.clone()))
    }

    async fn before_sign_up(&self, caller: &Caller, sign_up: &RequestedSignUp) -> Result<Verdict, BoxError> {
        self.answer(GateQuestion::SignUp(caller.clone(), sign_up.clone()))
    }

    async fn before_invitation(
        &self,
        caller: &Caller,
        invitation: &RequestedInvitation,
    ) -> Result<Verdict, BoxError> {
        self.answer(GateQuestion::Invitation(caller.clone(), invitation.clone()))
    }
}
