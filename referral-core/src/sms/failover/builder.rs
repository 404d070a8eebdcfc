//! Putting gateways in order.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{AfterUnknown, Failover, Gateway, Observer, circuit::Rest};
use crate::{Region, delivery::is_gateway_name, sms::SmsSender};

/// The longest that sending, or a first rest, can be set to take.
const LONGEST_TIME: Duration = Duration::from_hours(1);

/// Why senders cannot be put in order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FailoverError {
    /// There is none.
    #[error("there is no gateway to send messages through")]
    NoGateway,
    /// Two have one name, or one has none by which its messages could be tracked.
    #[error("give each gateway a name of its own, of 1 to 64 characters; `{0}` is none, or that of two")]
    Name(String),
    /// It names a gateway that is not there, or one twice, or none.
    #[error("the order for the region {region} must list gateways that are there, each once")]
    Order {
        /// The region.
        region: Region,
    },
    /// There is no time in which a gateway could do anything.
    #[error("give `{gateway}` {least:?} at least to send a message in, and all gateways together no less")]
    Time {
        /// Its name.
        gateway: String,
        /// How long it needs.
        least: Duration,
    },
    /// Too long, or too few.
    #[error(
        "sending takes an hour at most, and a rest comes after one failure or more, and is as long at most"
    )]
    Numbers,
}

/// Puts a [`Failover`] together.
pub struct FailoverBuilder {
    gateways: Vec<(String, Box<dyn SmsSender>)>,
    orders: Vec<(Region, Vec<String>)>,
    time: Duration,
    time_per_gateway: Duration,
    after_unknown: AfterUnknown,
    rest: Rest,
    observer: Arc<dyn Observer>,
}

impl Failover {
    /// Begins with no gateway.
    #[must_use]
    pub fn builder() -> FailoverBuilder {
        FailoverBuilder {
            gateways: Vec::new(),
            orders: Vec::new(),
            time: Self::TIME,
            time_per_gateway: Duration::from_secs(4),
            after_unknown: AfterUnknown::default(),
            rest: Rest { failures: 3, time: Duration::from_secs(30) },
            observer: Arc::new(()),
        }
    }
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
    pub fn order_for(mut self, region: Region, names: impl IntoIterator<Item: Into<String>>) -> Self {
        self.orders.push((region, names.into_iter().map(Into::into).collect()));
        self
    }

    /// How long all of it may take, since somebody is waiting: as long as any gateway needs at least, an
    /// hour at most; by default [`Failover::TIME`].
    #[must_use]
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// How long one gateway may take, which is as long as it needs at least; by default 4 s, so that two
    /// have their turn.
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

    /// After how many failures in a row a gateway rests, and for how long at first, an hour at most; each
    /// time that it fails again, twice as long, up to 20 times that. By default after 3, so that two
    /// lost packets are none, and for 30 s, in which a process restarts.
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
        let nameless = names.iter().find(|name| !is_gateway_name(name)).copied();
        if let Some(name) = first_repeated(&names).or(nameless) {
            return Err(FailoverError::Name(name.to_owned()));
        }
        let time = self.time.min(self.time_per_gateway);
        for (name, sender) in &self.gateways {
            let least = sender.least_time();
            if time < least {
                return Err(FailoverError::Time { gateway: name.clone(), least });
            }
        }
        if self.time > LONGEST_TIME || self.rest.time > LONGEST_TIME || self.rest.failures == 0 {
            return Err(FailoverError::Numbers);
        }
        let mut orders = Vec::new();
        for (region, order) in &self.orders {
            let order: Vec<_> = order.iter().map(String::as_str).collect();
            let places: Option<Vec<_>> =
                order.iter().map(|name| names.iter().position(|known| known == name)).collect();
            let places = places.filter(|places| !places.is_empty() && first_repeated(&order).is_none());
            orders.push((*region, places.ok_or(FailoverError::Order { region: *region })?));
        }
        Ok(Failover {
            order: (0..names.len()).collect(),
            orders,
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
