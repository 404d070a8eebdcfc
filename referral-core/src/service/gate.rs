//! Questions to the gate of the host.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
};

use futures_timer::Delay;

use super::{ReferralService, question_budget::QuestionBudget};
use crate::{
    error::{Error, refusal::Refusal},
    events::{Event, GateDecided},
    gate::{
        Caller, Context, Gate, GateFailure, GateOperation, GateOptions, GateOutcome, OnGateFailure, Verdict,
        approval::{Approval, GatedChanges},
    },
    rate_limit::{client::Client, limits::LimitName},
    sms::locale::Locale,
    storage::error::BoxError,
    user::phone::PhoneNumber,
};

/// Gate with its settings and its waiting questions.
pub(super) struct Gatekeeper {
    gate: Arc<dyn Gate>,
    options: GateOptions,
    waiting: AtomicU32,
    budget: QuestionBudget,
}

/// Data of a request for the gate.
#[derive(Clone)]
pub(super) struct ForGate {
    pub(super) client: Client,
    pub(super) locales: Vec<Locale>,
    pub(super) context: Context,
}

impl ForGate {
    fn into_caller(self, phone: PhoneNumber) -> Caller {
        let Self { client: Client { address, user_agent, .. }, locales, context } = self;
        Caller { region: phone.region(), phone, address, user_agent, locales, context }
    }
}

type Question<'a> = Pin<Box<dyn Future<Output = Result<Verdict, BoxError>> + Send + 'a>>;

impl ReferralService {
    /// Returns the state of the approval of a request before the first call of the storage.
    pub(super) fn approval(&self) -> Approval {
        if self.inner.gatekeeper.is_some() { Approval::Required } else { Approval::NotRequired }
    }

    /// Asks the gate whether a phone may get a code. `request` returns the data of the request.
    pub(super) async fn approve_code(
        &self,
        phone: &PhoneNumber,
        request: impl FnOnce() -> ForGate,
    ) -> Result<(), Error> {
        let Some(gatekeeper) = &self.inner.gatekeeper else { return Ok(()) };
        let caller = request().into_caller(phone.clone());
        self.ask(gatekeeper, GateOperation::BeforeSend, gatekeeper.gate.before_send(&caller)).await
    }

    /// Asks the gate whether a sign-in or an edit of a profile may make these changes. The code in the
    /// request is correct, or the caller has an access token, so the limit on questions belongs to the owner
    /// of the phone.
    pub(super) async fn approve_changes(
        &self,
        phone: &PhoneNumber,
        request: &ForGate,
        changes: &GatedChanges,
    ) -> Result<(), Error> {
        let Some(gatekeeper) = &self.inner.gatekeeper else { return Ok(()) };
        if let Some(retry_after) = gatekeeper.budget.spend(phone, self.now()) {
            return Err(Refusal::TooManyRequests { retry_after, limit: LimitName::GateQuestions }.into());
        }
        let caller = request.clone().into_caller(phone.clone());
        if let Some(sign_up) = &changes.sign_up {
            let question = gatekeeper.gate.before_sign_up(&caller, sign_up);
            self.ask(gatekeeper, GateOperation::BeforeSignUp, question).await?;
        }
        if let Some(invitation) = &changes.invitation {
            let question = gatekeeper.gate.before_invitation(&caller, invitation);
            self.ask(gatekeeper, GateOperation::BeforeInvitation, question).await?;
        }
        Ok(())
    }

    async fn ask(
        &self,
        gatekeeper: &Gatekeeper,
        operation: GateOperation,
        question: Question<'_>,
    ) -> Result<(), Error> {
        let outcome = gatekeeper.outcome(question).await;
        self.emit(Event::GateDecided(GateDecided { operation, outcome: outcome.clone() })).await;
        match outcome {
            GateOutcome::Allowed => Ok(()),
            GateOutcome::Rejected(rejection) => Err(Refusal::RejectedByHost(rejection).into()),
            GateOutcome::Failed(failure) => match gatekeeper.options.on_failure {
                OnGateFailure::Allow => Ok(()),
                OnGateFailure::Reject => Err(Error::GateFailed { operation, failure }),
            },
        }
    }
}

impl Gatekeeper {
    pub(super) fn new(gate: Arc<dyn Gate>, options: GateOptions) -> Self {
        Self { gate, options, waiting: AtomicU32::new(0), budget: QuestionBudget::default() }
    }

    /// Waits for the response of the gate, up to the time limit.
    async fn outcome(&self, mut question: Question<'_>) -> GateOutcome {
        let _place = Place::take(&self.waiting);
        if self.waiting.load(Ordering::Relaxed) > self.options.max_concurrent {
            return GateOutcome::Failed(GateFailure::Busy);
        }
        let mut time_limit = pin!(Delay::new(self.options.timeout));
        poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| question.as_mut().poll(context))) {
            Ok(Poll::Ready(Ok(Verdict::Allow))) => Poll::Ready(GateOutcome::Allowed),
            Ok(Poll::Ready(Ok(Verdict::Reject(rejection)))) => Poll::Ready(GateOutcome::Rejected(rejection)),
            Ok(Poll::Ready(Err(error))) => {
                Poll::Ready(GateOutcome::Failed(GateFailure::Failed(with_sources(&*error))))
            }
            Ok(Poll::Pending) => {
                let timed_out = || GateOutcome::Failed(GateFailure::TimedOut);
                time_limit.as_mut().poll(context).map(|()| timed_out())
            }
            Err(_) => Poll::Ready(GateOutcome::Failed(GateFailure::Panicked)),
        })
        .await
    }
}

/// Question that waits for the gate. It is counted until this is dropped.
struct Place<'a>(&'a AtomicU32);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicU32) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns the error with its sources as one text.
pub(super) fn with_sources(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
