//! Fail-over between several gateways, with a circuit breaker for each gateway.

mod builder;
mod circuit_breaker;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use serde::Deserialize;
use tokio::time::{Instant, timeout};

pub use self::builder::{FailoverBuilder, FailoverError};
use self::circuit_breaker::{Admission, CallMode, Circuit, CircuitSettings};
use super::{Receipt, SmsError, SmsMessage, SmsNotice, SmsSender};
use crate::user::phone::{PhoneNumber, Region};

/// Sender that tries several gateways in order until one accepts the message.
///
/// The same message, with the same code, is offered to one gateway after another. After a gateway has
/// accepted it, it is not sent again.
///
/// - If a gateway rejects the message temporarily or does not respond in time, the next gateway is tried.
/// - After several consecutive failures the circuit of the gateway opens. When it has been open for its time,
///   one message tests the gateway. While it is open, the gateway is tried last, if no other gateway accepted
///   the message.
/// - A gateway that returned [`SmsError::Busy`] is not called until the given time has passed. If all
///   gateways are busy, the result is [`SmsError::Busy`] until the first of them is available.
/// - If a gateway rejects the message because of the phone number, no other gateway is tried.
///
/// A notice is offered only to gateways that [send notices](SmsSender::sends_notices). If one of them fails
/// to accept it, this does not open its circuit: the gateway may still accept codes.
///
/// If it is unknown whether one gateway sent the message, and no other gateway accepted it, the result is
/// [`SmsError::Unknown`].
///
/// ```
/// # use referral_core::sms::{DevelopmentSender, Failover};
/// # let (mobizon, twilio) = (DevelopmentSender, DevelopmentSender);
/// let sender = Failover::builder()
///     .gateway("twilio", twilio)
///     .gateway("mobizon", mobizon)
///     .order_for("KZ".parse()?, ["mobizon", "twilio"])
///     .build()?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Failover {
    gateways: Vec<Gateway>,
    /// Gateways for a region, as indexes into `gateways`.
    orders: Vec<(Region, Vec<usize>)>,
    /// Gateways for all other regions.
    order: Vec<usize>,
    time: Duration,
    time_per_gateway: Duration,
    on_unknown_outcome: OnUnknownOutcome,
    circuit_settings: CircuitSettings,
    observer: Arc<dyn Observer>,
}

struct Gateway {
    name: String,
    sender: Box<dyn SmsSender>,
    circuit: Mutex<Circuit>,
}

impl Gateway {
    /// Locks the circuit. The lock must not be held across an `await`.
    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Action after a gateway with an unknown result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnUnknownOutcome {
    /// The next gateway is tried too: two messages with the same code do less harm than none.
    #[default]
    Next,
    /// The message is treated as sent.
    Stop,
}

/// Result of one gateway for one message.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// Name of the gateway.
    pub gateway: &'a str,
    /// Region of the phone number, if it belongs to one.
    pub region: Option<Region>,
    /// Outcome of the attempt.
    pub outcome: Outcome,
    /// Error of a gateway that was called and did not accept the message.
    pub error: Option<&'a SmsError>,
    /// Duration of the attempt.
    pub took: Duration,
}

/// Outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The gateway accepted the message.
    Accepted,
    /// The gateway rejected the message because of the phone number.
    Permanent,
    /// The gateway rejected the message temporarily.
    Temporary,
    /// The gateway rejected the message temporarily and must not be called for some time.
    Busy,
    /// It is unknown whether the gateway sent the message.
    Unknown,
    /// The gateway was skipped, because its circuit is open or it is backing off.
    Skipped,
}

impl Outcome {
    /// Returns the stable `snake_case` name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Permanent => "permanent",
            Self::Temporary => "temporary",
            Self::Busy => "busy",
            Self::Unknown => "unknown",
            Self::Skipped => "skipped",
        }
    }

    fn of(result: &Result<Receipt, SmsError>) -> Self {
        match result {
            Ok(_) => Self::Accepted,
            Err(SmsError::Permanent(_)) => Self::Permanent,
            Err(SmsError::Temporary(_) | SmsError::NoticesUnsupported) => Self::Temporary,
            Err(SmsError::Busy { .. }) => Self::Busy,
            Err(SmsError::Unknown(_)) => Self::Unknown,
        }
    }
}

/// Observer of all attempts, for example for metrics.
pub trait Observer: Send + Sync + 'static {
    /// Receives each attempt, after the gateway responded or was skipped. The call must not block.
    fn attempted(&self, attempt: &Attempt<'_>);
}

/// Ignores all attempts.
impl Observer for () {
    fn attempted(&self, _attempt: &Attempt<'_>) {}
}

impl Failover {
    /// Default time limit for sending a message. Two gateways can be tried within it, and it is shorter than
    /// the 10 seconds that an HTTP response may take.
    pub const TIME: Duration = Duration::from_secs(8);

    /// Returns the gateways for a region, in their order.
    fn order_of(&self, region: Option<Region>) -> impl Iterator<Item = &Gateway> {
        let order = self.orders.iter().find(|(of, _)| Some(*of) == region).map(|(_, order)| order);
        order.unwrap_or(&self.order).iter().map(|place| &self.gateways[*place])
    }
}

#[async_trait]
impl SmsSender for Failover {
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError> {
        self.offer(Outgoing::Code(message)).await
    }

    fn sends_notices(&self) -> bool {
        self.gateways.iter().any(|gateway| gateway.sender.sends_notices())
    }

    async fn send_notice(&self, notice: &SmsNotice) -> Result<Receipt, SmsError> {
        self.offer(Outgoing::Notice(notice)).await
    }

    /// Returns the longest minimum time of all gateways.
    fn min_timeout(&self) -> Duration {
        let of_each = self.gateways.iter().map(|gateway| gateway.sender.min_timeout());
        of_each.max().unwrap_or_default()
    }
}

impl Failover {
    /// Offers a message to one gateway after another.
    async fn offer(&self, message: Outgoing<'_>) -> Result<Receipt, SmsError> {
        let region = message.phone().region();
        let gateways: Vec<_> = self.order_of(region).filter(|gateway| message.suits(gateway)).collect();
        if gateways.is_empty() {
            return Err(SmsError::NoticesUnsupported);
        }
        let deadline = Instant::now() + self.time;
        let mut sending = Sending {
            failover: self,
            message,
            region,
            deadline,
            called: false,
            failed: None,
            busy_until: None,
        };
        let mut skipped: Vec<(Instant, &Gateway)> = Vec::new();
        for gateway in gateways {
            if !sending.has_time_for(gateway) {
                continue;
            }
            let admission = gateway.circuit().admit(Instant::now(), self.time_per_gateway);
            match admission {
                Admission::Call(mode) => {
                    if let Some(result) = sending.call(gateway, mode).await {
                        return result;
                    }
                }
                Admission::Open(until) => {
                    sending.skip(gateway);
                    skipped.push((until, gateway));
                }
                Admission::Busy(until) => {
                    sending.skip(gateway);
                    sending.is_busy(until);
                }
            }
        }
        // No gateway accepted the message, so gateways with an open circuit are tried too. The gateway whose
        // circuit closes first is tried first.
        skipped.sort_by_key(|(until, _)| *until);
        for (_, gateway) in skipped {
            if !sending.has_time_for(gateway) {
                continue;
            }
            // In the meantime the circuit may have closed, or the gateway may have reported that it is busy.
            let admission = gateway.circuit().admit(Instant::now(), self.time_per_gateway);
            let mode = match admission {
                Admission::Call(mode) => mode,
                Admission::Open(_) => CallMode::Fallback,
                Admission::Busy(until) => {
                    sending.is_busy(until);
                    continue;
                }
            };
            if let Some(result) = sending.call(gateway, mode).await {
                return result;
            }
        }
        Err(sending.failure())
    }
}

/// Message that is offered to the gateways.
#[derive(Clone, Copy)]
enum Outgoing<'a> {
    Code(&'a SmsMessage),
    Notice(&'a SmsNotice),
}

impl Outgoing<'_> {
    fn phone(&self) -> &PhoneNumber {
        match self {
            Self::Code(message) => &message.phone,
            Self::Notice(notice) => &notice.phone,
        }
    }

    /// Returns `true` if the gateway can send the message.
    fn suits(&self, gateway: &Gateway) -> bool {
        match self {
            Self::Code(_) => true,
            Self::Notice(_) => gateway.sender.sends_notices(),
        }
    }

    async fn pass_to(&self, gateway: &Gateway) -> Result<Receipt, SmsError> {
        match self {
            Self::Code(message) => gateway.sender.send(message).await,
            Self::Notice(notice) => gateway.sender.send_notice(notice).await,
        }
    }
}

/// State of a message while it is offered to the gateways.
struct Sending<'a> {
    failover: &'a Failover,
    message: Outgoing<'a>,
    region: Option<Region>,
    deadline: Instant,
    /// `true` if a gateway was called.
    called: bool,
    /// Error to return, unless a gateway accepts the message or all gateways are busy.
    failed: Option<SmsError>,
    /// Time when the first of the busy gateways can be called again.
    busy_until: Option<Instant>,
}

impl Sending<'_> {
    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Returns `true` if enough time is left to call this gateway and learn the result. For the first gateway
    /// there always is.
    fn has_time_for(&mut self, gateway: &Gateway) -> bool {
        let has_time = !self.called || self.time_left() >= gateway.sender.min_timeout();
        if !has_time {
            let no_time = || SmsError::Temporary("no time is left for another gateway".into());
            self.failed.get_or_insert_with(no_time);
        }
        has_time
    }

    fn is_busy(&mut self, until: Instant) {
        self.busy_until = Some(self.busy_until.map_or(until, |first| first.min(until)));
    }

    /// Returns the error after all gateways were tried. It is [`SmsError::Busy`] only if all gateways are
    /// busy, since a gateway that failed may accept the next message.
    fn failure(self) -> SmsError {
        self.failed.unwrap_or_else(|| {
            let until = self.busy_until.unwrap_or(self.deadline);
            let retry_after = until.saturating_duration_since(Instant::now());
            SmsError::Busy { reason: "all gateways are busy".into(), retry_after }
        })
    }

    /// Calls one gateway. Returns `None` if the next gateway must be tried.
    async fn call(&mut self, gateway: &Gateway, mode: CallMode) -> Option<Result<Receipt, SmsError>> {
        self.called = true;
        let start = Instant::now();
        let time = self.time_left().min(self.failover.time_per_gateway);
        let result = timeout(time, self.message.pass_to(gateway)).await;
        // The request was canceled after its start, so the message may have been sent.
        let result = result.unwrap_or_else(|_| Err(SmsError::Unknown("no response in time".into())));
        let now = Instant::now();
        self.record(gateway, mode, &result, now);
        self.emit(gateway, Outcome::of(&result), result.as_ref().err(), now - start);

        match result {
            Ok(receipt) => Some(Ok(Receipt { gateway: Some(gateway.name.clone()), ..receipt })),
            // It is still unknown whether another gateway sent the message.
            Err(SmsError::Permanent(reason)) => {
                Some(Err(self.failed.take().filter(is_unknown).unwrap_or(SmsError::Permanent(reason))))
            }
            Err(SmsError::Busy { .. }) => None,
            Err(error) => {
                let stops = is_unknown(&error) && self.failover.on_unknown_outcome == OnUnknownOutcome::Stop;
                if !self.failed.as_ref().is_some_and(is_unknown) {
                    self.failed = Some(error);
                }
                if stops { self.failed.take().map(Err) } else { None }
            }
        }
    }

    /// Updates the circuit of the gateway and logs the result.
    fn record(
        &mut self,
        gateway: &Gateway,
        mode: CallMode,
        result: &Result<Receipt, SmsError>,
        now: Instant,
    ) {
        let name = &gateway.name;
        let mut circuit = gateway.circuit();
        match result {
            // A permanent rejection concerns the phone number, not the gateway.
            Ok(_) | Err(SmsError::Permanent(_)) => {
                if circuit.succeed() {
                    tracing::info!(gateway = name, "closed the circuit of the gateway");
                }
            }
            Err(SmsError::Busy { reason, retry_after }) => {
                let until = circuit.back_off(now, *retry_after);
                let seconds = (until - now).as_secs();
                tracing::warn!(gateway = name, reason, seconds, "the gateway is busy");
                self.is_busy(until);
            }
            // A gateway that rejects a notice may accept codes. A failed trial keeps the circuit open.
            Err(error) if matches!(self.message, Outgoing::Notice(_)) && mode != CallMode::HalfOpen => {
                tracing::warn!(gateway = name, %error, "the gateway failed to accept a notice");
            }
            Err(error @ (SmsError::Temporary(_) | SmsError::Unknown(_) | SmsError::NoticesUnsupported)) => {
                tracing::warn!(gateway = name, %error, "the gateway failed to accept a message");
                if let Some(open_time) = circuit.fail(now, mode, self.failover.circuit_settings) {
                    tracing::warn!(
                        gateway = name,
                        seconds = open_time.as_secs(),
                        "opened the circuit of the gateway"
                    );
                }
            }
        }
    }

    fn skip(&self, gateway: &Gateway) {
        self.emit(gateway, Outcome::Skipped, None, Duration::ZERO);
    }

    fn emit(&self, gateway: &Gateway, outcome: Outcome, error: Option<&SmsError>, took: Duration) {
        let attempt = Attempt { gateway: &gateway.name, region: self.region, outcome, error, took };
        self.failover.observer.attempted(&attempt);
    }
}

fn is_unknown(error: &SmsError) -> bool {
    matches!(error, SmsError::Unknown(_))
}
