//! Builder of [`Failover`].

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{Failover, Gateway, Observer, OnUnknownOutcome, circuit_breaker::CircuitSettings};
use crate::{
    sms::{SmsSender, delivery::is_gateway_name},
    user::phone::Region,
};

/// Maximum of the time limit for sending, and of the initial time that a circuit stays open.
const LONGEST_TIME: Duration = Duration::from_hours(1);

/// Error of an invalid configuration of gateways.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FailoverError {
    /// There is no gateway.
    #[error("at least one gateway is required to send messages")]
    NoGateway,
    /// Two gateways have the same name, or a name is not valid.
    #[error("each gateway must have a unique name of 1 to 64 characters; `{0}` is not valid or not unique")]
    Name(String),
    /// The order names an unknown gateway, names a gateway twice, or is empty.
    #[error("the order for the region {region} must list existing gateways, each of them once")]
    Order {
        /// Region of the order.
        region: Region,
    },
    /// The time limit is shorter than the minimum time of a gateway.
    #[error("the time limits for `{gateway}` and for all gateways together must be at least {least:?}")]
    Time {
        /// Name of the gateway.
        gateway: String,
        /// Minimum time that the gateway needs.
        least: Duration,
    },
    /// A time limit is too long, or the number of failures is zero.
    #[error(
        "the time limit for sending and the time that a circuit stays open must be at most one hour, and the \
         number of failures at least one"
    )]
    Numbers,
}

/// Builder of a [`Failover`].
pub struct FailoverBuilder {
    gateways: Vec<(String, Box<dyn SmsSender>)>,
    orders: Vec<(Region, Vec<String>)>,
    time: Duration,
    time_per_gateway: Duration,
    on_unknown_outcome: OnUnknownOutcome,
    circuit_settings: CircuitSettings,
    observer: Arc<dyn Observer>,
}

impl Failover {
    /// Creates a builder without gateways.
    #[must_use]
    pub fn builder() -> FailoverBuilder {
        FailoverBuilder {
            gateways: Vec::new(),
            orders: Vec::new(),
            time: Self::TIME,
            time_per_gateway: Duration::from_secs(4),
            on_unknown_outcome: OnUnknownOutcome::default(),
            circuit_settings: CircuitSettings { failures: 3, open_time: Duration::from_secs(30) },
            observer: Arc::new(()),
        }
    }
}

impl FailoverBuilder {
    /// Adds a gateway. It is tried after the gateways that were added before.
    #[must_use]
    pub fn gateway(mut self, name: impl Into<String>, sender: impl SmsSender) -> Self {
        self.gateways.push((name.into(), Box::new(sender)));
        self
    }

    /// Sets the gateways, and their order, for the phone numbers of a region.
    #[must_use]
    pub fn order_for(mut self, region: Region, names: impl IntoIterator<Item: Into<String>>) -> Self {
        self.orders.push((region, names.into_iter().map(Into::into).collect()));
        self
    }

    /// Sets the time limit for all gateways together; the client waits for the result. It must be at least
    /// the minimum time of every gateway, and at most an hour. The default is [`Failover::TIME`].
    #[must_use]
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Sets the time limit for one gateway. It must be at least the minimum time of every gateway. The
    /// default is 4 s, so that two gateways can be tried.
    #[must_use]
    pub fn time_per_gateway(mut self, time: Duration) -> Self {
        self.time_per_gateway = time;
        self
    }

    /// Sets the action after a gateway with an unknown result. By default the next gateway is tried.
    #[must_use]
    pub fn on_unknown_outcome(mut self, on_unknown_outcome: OnUnknownOutcome) -> Self {
        self.on_unknown_outcome = on_unknown_outcome;
        self
    }

    /// Sets the number of consecutive failures after which the circuit of a gateway opens, and the time that
    /// it stays open at first, at most an hour. After each failed trial the time doubles, up to 20 times the
    /// initial time. The default is 3 failures, so that two lost packets do not open the circuit, and 30 s,
    /// in which a process can restart.
    #[must_use]
    pub fn circuit_breaker(mut self, failures: u32, open_time: Duration) -> Self {
        self.circuit_settings = CircuitSettings { failures, open_time };
        self
    }

    /// Sets the observer of all attempts. By default there is none.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// Builds the sender.
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
            let least = sender.min_timeout();
            if time < least {
                return Err(FailoverError::Time { gateway: name.clone(), least });
            }
        }
        if self.time > LONGEST_TIME
            || self.circuit_settings.open_time > LONGEST_TIME
            || self.circuit_settings.failures == 0
        {
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
            on_unknown_outcome: self.on_unknown_outcome,
            circuit_settings: self.circuit_settings,
            observer: self.observer,
        })
    }
}

/// Returns the first name that occurs twice.
fn first_repeated<'a>(names: &[&'a str]) -> Option<&'a str> {
    names.iter().enumerate().find(|(place, name)| names[..*place].contains(name)).map(|(_, name)| *name)
}
