//! Several senders in order: one that fails is passed over, and rests if it fails again and again.

mod builder;
mod circuit;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use serde::Deserialize;
use tokio::time::{Instant, timeout};

pub use self::builder::{FailoverBuilder, FailoverError};
use self::circuit::{Admission, Circuit, Rest, Turn};
use super::{Receipt, SmsError, SmsMessage, SmsSender};
use crate::Region;

/// Sends a message through the first of several senders that takes it.
///
/// The same message, with the same code, goes to one after another until one accepts it; then it is
/// never sent again. A sender that refuses it for now, or does not say in time what it did, is passed
/// over; one that does so several times in a row rests, and after that one message tries it again. While it
/// rests it is asked last, if nobody else took the message. One that wants to be left alone is left alone; if
/// all do, so does the whole, until the first is back. A refusal because of the number ends it: nobody
/// else is asked.
///
/// If it is unknown of one whether it sent the message and no other accepted it, the whole is
/// [`SmsError::Unknown`], whatever the others said.
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
    /// The gateways for a region, by their place in `gateways`.
    orders: Vec<(Region, Vec<usize>)>,
    /// The gateways for any other.
    order: Vec<usize>,
    time: Duration,
    time_per_gateway: Duration,
    after_unknown: AfterUnknown,
    rest: Rest,
    observer: Arc<dyn Observer>,
}

struct Gateway {
    name: String,
    sender: Box<dyn SmsSender>,
    circuit: Mutex<Circuit>,
}

impl Gateway {
    /// Never held while somebody is waited for.
    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is done when nobody knows whether a gateway sent the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterUnknown {
    /// The next gateway gets it as well: two messages with one code do less harm than none.
    #[default]
    Next,
    /// It is taken for sent.
    Stop,
}

/// What came of a gateway's turn.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// The name of the gateway.
    pub gateway: &'a str,
    /// Where the phone belongs, if anywhere.
    pub region: Option<Region>,
    /// What came of it.
    pub outcome: Outcome,
    /// Why not, if it was asked and did not accept the message.
    pub error: Option<&'a SmsError>,
    /// How long it took.
    pub took: Duration,
}

/// What came of a gateway's turn, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It accepted the message.
    Accepted,
    /// It refused the message because of the number.
    Permanent,
    /// It refused the message for now.
    Temporary,
    /// It refused the message for now and wants to be left alone.
    Busy,
    /// Nobody knows whether it sent the message.
    Unknown,
    /// It was not asked in its turn, since it rests or wants to be left alone.
    Resting,
}

impl Outcome {
    /// The stable `snake_case` name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Permanent => "permanent",
            Self::Temporary => "temporary",
            Self::Busy => "busy",
            Self::Unknown => "unknown",
            Self::Resting => "resting",
        }
    }

    fn of(result: &Result<Receipt, SmsError>) -> Self {
        match result {
            Ok(_) => Self::Accepted,
            Err(SmsError::Permanent(_)) => Self::Permanent,
            Err(SmsError::Temporary(_)) => Self::Temporary,
            Err(SmsError::Busy { .. }) => Self::Busy,
            Err(SmsError::Unknown(_)) => Self::Unknown,
        }
    }
}

/// Is told of every attempt: the place for figures.
pub trait Observer: Send + Sync + 'static {
    /// Called when the gateway has answered, or was passed over. To return at once.
    fn attempted(&self, attempt: &Attempt<'_>);
}

/// Does nothing.
impl Observer for () {
    fn attempted(&self, _attempt: &Attempt<'_>) {}
}

impl Failover {
    /// How long sending takes at most, unless something else is said: two gateways' time, and less than the
    /// ten seconds that an answer over HTTP may take.
    pub const TIME: Duration = Duration::from_secs(8);

    /// The gateways for a region, in their order.
    fn order_of(&self, region: Option<Region>) -> impl Iterator<Item = &Gateway> {
        let order = self.orders.iter().find(|(of, _)| Some(*of) == region).map(|(_, order)| order);
        order.unwrap_or(&self.order).iter().map(|place| &self.gateways[*place])
    }
}

#[async_trait]
impl SmsSender for Failover {
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError> {
        let region = message.phone.region();
        let deadline = Instant::now() + self.time;
        let mut sending = Sending {
            failover: self,
            message,
            region,
            deadline,
            asked: false,
            failed: None,
            busy_until: None,
        };
        let mut resting: Vec<(Instant, &Gateway)> = Vec::new();
        for gateway in self.order_of(region) {
            if !sending.has_time_for(gateway) {
                continue;
            }
            let admission = gateway.circuit().admit(Instant::now(), self.time_per_gateway);
            match admission {
                Admission::Ask(turn) => {
                    if let Some(result) = sending.ask(gateway, turn).await {
                        return result;
                    }
                }
                Admission::Resting(until) => {
                    sending.pass_over(gateway);
                    resting.push((until, gateway));
                }
                Admission::Busy(until) => {
                    sending.pass_over(gateway);
                    sending.is_busy(until);
                }
            }
        }
        // Nobody took it, so those that rest are asked after all, first whoever is back first.
        resting.sort_by_key(|(until, _)| *until);
        for (_, gateway) in resting {
            if !sending.has_time_for(gateway) {
                continue;
            }
            // Meanwhile its rest may have ended, or another message been told to leave it alone.
            let admission = gateway.circuit().admit(Instant::now(), self.time_per_gateway);
            let turn = match admission {
                Admission::Ask(turn) => turn,
                Admission::Resting(_) => Turn::LastResort,
                Admission::Busy(until) => {
                    sending.is_busy(until);
                    continue;
                }
            };
            if let Some(result) = sending.ask(gateway, turn).await {
                return result;
            }
        }
        Err(sending.failure())
    }

    /// That of whichever gateway takes longest to connect.
    fn least_time(&self) -> Duration {
        let of_each = self.gateways.iter().map(|gateway| gateway.sender.least_time());
        of_each.max().unwrap_or_default()
    }
}

/// A message on its way from gateway to gateway.
struct Sending<'a> {
    failover: &'a Failover,
    message: &'a SmsMessage,
    region: Option<Region>,
    deadline: Instant,
    /// Whether any gateway was asked.
    asked: bool,
    /// What is to be said of it, unless somebody accepts it or all are busy.
    failed: Option<SmsError>,
    /// When the first of those that want to be left alone can be asked again.
    busy_until: Option<Instant>,
}

impl Sending<'_> {
    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether enough time is left to ask this gateway and know what it did; for the first there is.
    fn has_time_for(&mut self, gateway: &Gateway) -> bool {
        let has_time = !self.asked || self.time_left() >= gateway.sender.least_time();
        if !has_time {
            let no_time = || SmsError::Temporary("no time was left for another gateway".into());
            self.failed.get_or_insert_with(no_time);
        }
        has_time
    }

    fn is_busy(&mut self, until: Instant) {
        self.busy_until = Some(self.busy_until.map_or(until, |first| first.min(until)));
    }

    /// What is to be said after all had their turn: one that failed may accept the next message, so all are
    /// busy only if each is.
    fn failure(self) -> SmsError {
        self.failed.unwrap_or_else(|| {
            let until = self.busy_until.unwrap_or(self.deadline);
            let retry_after = until.saturating_duration_since(Instant::now());
            SmsError::Busy { reason: "all gateways want to be left alone".into(), retry_after }
        })
    }

    /// Asks one gateway; `None` if it is another one's turn.
    async fn ask(&mut self, gateway: &Gateway, turn: Turn) -> Option<Result<Receipt, SmsError>> {
        self.asked = true;
        let start = Instant::now();
        let time = self.time_left().min(self.failover.time_per_gateway);
        let result = timeout(time, gateway.sender.send(self.message)).await;
        // Given up in the midst of it, it may have been sent.
        let result = result.unwrap_or_else(|_| Err(SmsError::Unknown("no answer in time".into())));
        let now = Instant::now();
        self.note(gateway, turn, &result, now);
        self.tell(gateway, Outcome::of(&result), result.as_ref().err(), now - start);

        match result {
            Ok(receipt) => Some(Ok(Receipt { gateway: Some(gateway.name.clone()), ..receipt })),
            // Whether another one sent it is still not known.
            Err(SmsError::Permanent(reason)) => {
                Some(Err(self.failed.take().filter(is_unknown).unwrap_or(SmsError::Permanent(reason))))
            }
            Err(SmsError::Busy { .. }) => None,
            Err(error) => {
                let stops = is_unknown(&error) && self.failover.after_unknown == AfterUnknown::Stop;
                if !self.failed.as_ref().is_some_and(is_unknown) {
                    self.failed = Some(error);
                }
                if stops { self.failed.take().map(Err) } else { None }
            }
        }
    }

    /// Has the gateway rest, or work again.
    fn note(&mut self, gateway: &Gateway, turn: Turn, result: &Result<Receipt, SmsError>, now: Instant) {
        let name = &gateway.name;
        let mut circuit = gateway.circuit();
        match result {
            // About the number, and not about itself.
            Ok(_) | Err(SmsError::Permanent(_)) => {
                if circuit.work() {
                    tracing::info!(gateway = name, "the gateway is back");
                }
            }
            Err(SmsError::Busy { reason, retry_after }) => {
                let until = circuit.leave_alone(now, *retry_after);
                let seconds = (until - now).as_secs();
                tracing::warn!(gateway = name, reason, seconds, "the gateway wants to be left alone");
                self.is_busy(until);
            }
            Err(error @ (SmsError::Temporary(_) | SmsError::Unknown(_))) => {
                tracing::warn!(gateway = name, %error, "the gateway did not accept a message");
                if let Some(rest) = circuit.fail(now, turn, self.failover.rest) {
                    tracing::warn!(gateway = name, seconds = rest.as_secs(), "the gateway rests");
                }
            }
        }
    }

    fn pass_over(&self, gateway: &Gateway) {
        self.tell(gateway, Outcome::Resting, None, Duration::ZERO);
    }

    fn tell(&self, gateway: &Gateway, outcome: Outcome, error: Option<&SmsError>, took: Duration) {
        let attempt = Attempt { gateway: &gateway.name, region: self.region, outcome, error, took };
        self.failover.observer.attempted(&attempt);
    }
}

fn is_unknown(error: &SmsError) -> bool {
    matches!(error, SmsError::Unknown(_))
}
