//! Gateways that answer as they are told.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use referral_core::{
    PhoneNumber, SmsCode,
    sms::{Failover, FailoverBuilder, Receipt, SmsError, SmsMessage, SmsSender},
};
use uuid::Uuid;

/// What a gateway does with a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer {
    Accept,
    Permanent,
    Temporary,
    Busy(u64),
    Unknown,
    /// Never answers.
    Hang,
}

pub(crate) use Answer::{Accept, Busy, Hang, Permanent, Temporary, Unknown};

/// A gateway that answers as it is told, and then accepts, and notes who was asked.
#[derive(Clone, Default)]
pub(crate) struct Script {
    name: &'static str,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<&'static str>>>,
}

impl Script {
    pub(crate) fn new(name: &'static str, asked: &Arc<Mutex<Vec<&'static str>>>, answers: &[Answer]) -> Self {
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect()));
        Self { name, answers, asked: Arc::clone(asked) }
    }
}

#[async_trait]
impl SmsSender for Script {
    async fn send(&self, _message: &SmsMessage) -> Result<Receipt, SmsError> {
        self.asked.lock().expect("nobody panics").push(self.name);
        let answer = self.answers.lock().expect("nobody panics").pop_front().unwrap_or(Accept);
        match answer {
            Accept => Ok(Receipt::new(format!("{}-1", self.name))),
            Permanent => Err(SmsError::Permanent("no such number".into())),
            Temporary => Err(SmsError::Temporary("out of order".into())),
            Busy(seconds) => {
                Err(SmsError::Busy { reason: "too much".into(), retry_after: Duration::from_secs(seconds) })
            }
            Unknown => Err(SmsError::Unknown("no answer".into())),
            Hang => pending().await,
        }
    }
}

pub(crate) type Asked = Arc<Mutex<Vec<&'static str>>>;

/// Gateways called a, b, … that answer like this, in this order.
pub(crate) fn gateways(answers: &[&[Answer]]) -> (FailoverBuilder, Asked) {
    let asked = Asked::default();
    let named = ["a", "b", "c", "d"].into_iter().zip(answers);
    let builder = named.fold(Failover::builder(), |builder, (name, answers)| {
        builder.gateway(name, Script::new(name, &asked, answers))
    });
    (builder, asked)
}

pub(crate) fn take(asked: &Asked) -> String {
    std::mem::take(&mut *asked.lock().expect("nobody panics")).concat()
}

pub(crate) fn message() -> SmsMessage {
    let phone = PhoneNumber::parse("+79608543017", None).expect("a number");
    SmsMessage::new(Uuid::from_u128(17), phone, SmsCode::known("4711"), "4711 it is".into(), None)
}

/// Who was asked for one message, and what came of it.
pub(crate) async fn send(sender: &Failover, asked: &Asked) -> String {
    let result = match sender.send(&message()).await {
        Ok(receipt) => format!("accepted by {}", receipt.gateway.unwrap_or_default()),
        Err(SmsError::Permanent(_)) => "permanent".into(),
        Err(SmsError::Temporary(_)) => "temporary".into(),
        Err(SmsError::Busy { retry_after, .. }) => format!("busy for {}", retry_after.as_secs()),
        Err(_) => "unknown".into(),
    };
    format!("{}: {result}", take(asked))
}
