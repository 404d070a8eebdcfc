//! Several senders in order: one that fails is passed over, and rests if it fails again and again.

mod circuit;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use self::circuit::{Admission, Circuit, Rest, Turn};
use super::{Receipt, SmsError, SmsMessage, SmsSender};
use crate::Region;

/// No further attempt begins with less time left: it would only end in nobody's knowing.
const LEAST_TIME: Duration = Duration::from_millis(500);

/// The longest that sending, or a first rest, can be set to take.
const LONGEST_TIME: Duration = Duration::from_hours(1);

/// Sends a message through the first of several senders that takes it.
///
/// The same message, with the same code, goes to one after another until one accepts it; then it is
/// never sent again. A sender that refuses it for now, or does not say in time what it did, is passed
/// over; one that does so several times in a row rests, and after that one message tries it again. One
/// that asks for rest gets it. Where no other can be asked, of those that rest the one is tried all the
/// same whose rest ends first. If all have asked for rest, so does the whole, until the first is back.
/// A refusal because of the number ends it: nobody else is asked.
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
///     .route("KZ".parse()?, ["mobizon", "twilio"])
///     .build()?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Failover {
    gateways: Vec<Gateway>,
    /// The gateways for a region, by their place in `gateways`.
    routes: Vec<(Region, Vec<usize>)>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// It was not asked, since it rests.
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

/// Why senders cannot be put in order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FailoverError {
    /// There is none.
    #[error("there is no gateway to send messages through")]
    NoGateway,
    /// Two have one name, or one has none.
    #[error("each gateway has a name of its own, and `{0}` is none or that of two")]
    Name(String),
    /// A route leads through a gateway that is not there, or twice through one, or through none.
    #[error("the order for the region {region} is no list of known gateways, each at most once")]
    Route {
        /// The region.
        region: Region,
    },
    /// Too short to try anything, or too long.
    #[error(
        "give half a second to an hour to send a message in, some time to each gateway, and one failure or \
         more before a rest, of an hour at most"
    )]
    Numbers,
}

/// Puts a [`Failover`] together.
pub struct FailoverBuilder {
    gateways: Vec<(String, Box<dyn SmsSender>)>,
    routes: Vec<(Region, Vec<String>)>,
    time: Duration,
    time_per_gateway: Duration,
    after_unknown: AfterUnknown,
    rest: Rest,
    observer: Arc<dyn Observer>,
}

impl FailoverBuilder {
    /// Adds a gateway, to be tried after those that were added before.
    #[must_use]
    pub fn gateway(mut self, name: impl Into<String>, sender: impl SmsSender) -> Self {
        self.gateways.push((name.into(), Box::new(sender)));
        self
    }

    /// Has other gateways, or others first, for the phones of a region.
    #[must_use]
    pub fn route(mut self, region: Region, names: impl IntoIterator<Item: Into<String>>) -> Self {
        self.routes.push((region, names.into_iter().map(Into::into).collect()));
        self
    }

    /// How long all of it may take, since somebody is waiting; by default [`Failover::TIME`].
    #[must_use]
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// How long one gateway may take; by default 4 s.
    #[must_use]
    pub fn time_per_gateway(mut self, time: Duration) -> Self {
        self.time_per_gateway = time;
        self
    }

    /// What is done when nobody knows whether a gateway sent the message; by default the next is asked.
    #[must_use]
    pub fn after_unknown(mut self, after_unknown: AfterUnknown) -> Self {
        self.after_unknown = after_unknown;
        self
    }

    /// After how many failures in a row a gateway rests, and for how long at first; each time that
    /// it fails again, twice as long, up to 20 times that. By default after 3, and for 30 s.
    #[must_use]
    pub fn rest(mut self, failures: u32, time: Duration) -> Self {
        self.rest = Rest { failures, time };
        self
    }

    /// Who is told of every attempt; by default nobody.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// The sender.
    ///
    /// # Errors
    ///
    /// See [`FailoverError`].
    pub fn build(self) -> Result<Failover, FailoverError> {
        let names: Vec<_> = self.gateways.iter().map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            return Err(FailoverError::NoGateway);
        }
        if let Some(name) = first_repeated(&names).or(names.iter().find(|name| name.is_empty()).copied()) {
            return Err(FailoverError::Name(name.to_owned()));
        }
        let in_bounds = (LEAST_TIME..=LONGEST_TIME).contains(&self.time) && self.rest.time <= LONGEST_TIME;
        if !in_bounds || self.time_per_gateway.is_zero() || self.rest.failures == 0 {
            return Err(FailoverError::Numbers);
        }
        let mut routes = Vec::new();
        for (region, route) in &self.routes {
            let route: Vec<_> = route.iter().map(String::as_str).collect();
            let places: Option<Vec<_>> =
                route.iter().map(|name| names.iter().position(|known| known == name)).collect();
            let places = places.filter(|places| !places.is_empty() && first_repeated(&route).is_none());
            routes.push((*region, places.ok_or(FailoverError::Route { region: *region })?));
        }
        Ok(Failover {
            order: (0..names.len()).collect(),
            routes,
            gateways: self
                .gateways
                .into_iter()
                .map(|(name, sender)| Gateway { name, sender, circuit: Mutex::default() })
                .collect(),
            time: self.time,
            time_per_gateway: self.time_per_gateway.min(self.time),
            after_unknown: self.after_unknown,
            rest: self.rest,
            observer: self.observer,
        })
    }
}

/// The first of these that was there before.
fn first_repeated<'a>(names: &[&'a str]) -> Option<&'a str> {
    names.iter().enumerate().find(|(place, name)| names[..*place].contains(name)).map(|(_, name)| *name)
}

impl Failover {
    /// How long sending takes at most, unless something else is said.
    pub const TIME: Duration = Duration::from_secs(8);

    /// Begins with no gateway.
    #[must_use]
    pub fn builder() -> FailoverBuilder {
        FailoverBuilder {
            gateways: Vec::new(),
            routes: Vec::new(),
            time: Self::TIME,
            time_per_gateway: Duration::from_secs(4),
            after_unknown: AfterUnknown::default(),
            rest: Rest { failures: 3, time: Duration::from_secs(30) },
            observer: Arc::new(()),
        }
    }

    /// The gateways for a region, in their order.
    fn route(&self, region: Option<Region>) -> impl Iterator<Item = &Gateway> {
        let route = self.routes.iter().find(|(of, _)| Some(*of) == region).map(|(_, route)| route);
        route.unwrap_or(&self.order).iter().map(|place| &self.gateways[*place])
    }
}

#[async_trait]
impl SmsSender for Failover {
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError> {
        let region = message.phone.region();
        let deadline = Instant::now() + self.time;
        let mut sending =
            Sending { failover: self, message, region, deadline, failed: None, busy_until: None };
        let mut first_to_return: Option<(Instant, &Gateway)> = None;
        let mut asked = false;
        for gateway in self.route(region) {
            if asked && sending.time_left() < LEAST_TIME {
                return Err(sending.out_of_time());
            }
            let admission = gateway.circuit().admit(Instant::now(), self.time_per_gateway);
            match admission {
                Admission::Ask(turn) => {
                    asked = true;
                    if let Some(result) = sending.ask(gateway, turn).await {
                        return result;
                    }
                }
                Admission::Resting(until) => {
                    sending.pass_over(gateway);
                    if first_to_return.is_none_or(|(first, _)| until < first) {
                        first_to_return = Some((until, gateway));
                    }
                }
                Admission::Busy(until) => {
                    sending.pass_over(gateway);
                    sending.is_busy(until);
                }
            }
        }
        // All others want to be left alone.
        if let Some((_, gateway)) = first_to_return.filter(|_| sending.failed.is_none()) {
            if asked && sending.time_left() < LEAST_TIME {
                return Err(sending.out_of_time());
            }
            // Meanwhile its rest may have ended, or another message been told to leave it alone.
            let admission = gateway.circuit().admit(Instant::now(), self.time_per_gateway);
            let turn = match admission {
                Admission::Ask(turn) => turn,
                Admission::Resting(_) => Turn::LastResort,
                Admission::Busy(until) => {
                    sending.is_busy(until);
                    return Err(sending.failure());
                }
            };
            if let Some(result) = sending.ask(gateway, turn).await {
                return result;
            }
        }
        Err(sending.failure())
    }
}

/// A message on its way from gateway to gateway.
struct Sending<'a> {
    failover: &'a Failover,
    message: &'a SmsMessage,
    region: Option<Region>,
    deadline: Instant,
    /// What is to be said of it, unless somebody accepts it or all are busy.
    failed: Option<SmsError>,
    /// When the first of those that want to be left alone can be asked again.
    busy_until: Option<Instant>,
}

impl Sending<'_> {
    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn is_busy(&mut self, until: Instant) {
        self.busy_until = Some(self.busy_until.map_or(until, |first| first.min(until)));
    }

    /// What is to be said where there are gateways left, but no time.
    fn out_of_time(self) -> SmsError {
        self.failed.unwrap_or_else(|| SmsError::Temporary("no time was left for another gateway".into()))
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
