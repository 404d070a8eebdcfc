//! Gateways with predefined responses.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use referral_core::{
    OneTimeCode, PhoneNumber,
    sms::{Failover, FailoverBuilder, Notice, Receipt, SmsError, SmsMessage, SmsNotice, SmsSender},
};
use uuid::Uuid;

/// Response of a gateway to a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Response {
    Accept,
    Permanent,
    Temporary,
    Busy(u64),
    Unknown,
    /// Never responds.
    Hang,
}

pub(crate) use Response::{Accept, Busy, Hang, Permanent, Temporary, Unknown};

/// Gateway that returns predefined responses and then accepts, and records its calls.
#[derive(Clone, Default)]
pub(crate) struct Script {
    name: &'static str,
    responses: Arc<Mutex<VecDeque<Response>>>,
    calls: Arc<Mutex<Vec<&'static str>>>,
    sends_notices: bool,
}

impl Script {
    pub(crate) fn new(
        name: &'static str,
        calls: &Arc<Mutex<Vec<&'static str>>>,
        responses: &[Response],
    ) -> Self {
        let responses = Arc::new(Mutex::new(responses.iter().copied().collect()));
        Self { name, responses, calls: Arc::clone(calls), sends_notices: false }
    }

    pub(crate) fn with_notices(self) -> Self {
        Self { sends_notices: true, ..self }
    }

    async fn respond(&self) -> Result<Receipt, SmsError> {
        self.calls.lock().expect("not poisoned").push(self.name);
        let response = self.responses.lock().expect("not poisoned").pop_front().unwrap_or(Accept);
        match response {
            Accept => Ok(Receipt::new(format!("{}-1", self.name))),
            Permanent => Err(SmsError::Permanent("no such number".into())),
            Temporary => Err(SmsError::Temporary("out of order".into())),
            Busy(seconds) => {
                Err(SmsError::Busy { reason: "too much".into(), retry_after: Duration::from_secs(seconds) })
            }
            Unknown => Err(SmsError::Unknown("no response".into())),
            Hang => pending().await,
        }
    }
}

#[async_trait]
impl SmsSender for Script {
    async fn send(&self, _message: &SmsMessage) -> Result<Receipt, SmsError> {
        self.respond().await
    }

    fn sends_notices(&self) -> bool {
        self.sends_notices
    }

    async fn send_notice(&self, _notice: &SmsNotice) -> Result<Receipt, SmsError> {
        self.respond().await
    }
}

pub(crate) type Calls = Arc<Mutex<Vec<&'static str>>>;

/// Returns gateways named a, b, … with these responses, in this order.
pub(crate) fn gateways(responses: &[&[Response]]) -> (FailoverBuilder, Calls) {
    let calls = Calls::default();
    let named = ["a", "b", "c", "d"].into_iter().zip(responses);
    let builder = named.fold(Failover::builder(), |builder, (name, responses)| {
        builder.gateway(name, Script::new(name, &calls, responses))
    });
    (builder, calls)
}

pub(crate) fn take(calls: &Calls) -> String {
    std::mem::take(&mut *calls.lock().expect("not poisoned")).concat()
}

pub(crate) fn message() -> SmsMessage {
    let phone = PhoneNumber::parse("+79608543017", None).expect("valid number");
    SmsMessage::new(Uuid::from_u128(17), phone, OneTimeCode::from_static("4711"), "4711 it is".into(), None)
}

/// Sends one notice. Returns the names of the called gateways and the result.
pub(crate) async fn send_notice(sender: &Failover, calls: &Calls) -> String {
    let SmsMessage { id, phone, .. } = message();
    let notice = Notice::PhoneChanged { new: phone.clone() };
    let result = sender.send_notice(&SmsNotice::new(id, phone, notice, "It is changed".into(), None)).await;
    shown(calls, result)
}

/// Sends one message. Returns the names of the called gateways and the result.
pub(crate) async fn send(sender: &Failover, calls: &Calls) -> String {
    let result = sender.send(&message()).await;
    shown(calls, result)
}

fn shown(calls: &Calls, result: Result<Receipt, SmsError>) -> String {
    let result = match result {
        Ok(receipt) => format!("accepted by {}", receipt.gateway.unwrap_or_default()),
        Err(SmsError::Permanent(_)) => "permanent".into(),
        Err(SmsError::Temporary(_)) => "temporary".into(),
        Err(SmsError::Busy { retry_after, .. }) => format!("busy for {}", retry_after.as_secs()),
        Err(SmsError::Unknown(_)) => "unknown".into(),
        Err(error) => error.to_string(),
    };
    format!("{}: {result}", take(calls))
}
