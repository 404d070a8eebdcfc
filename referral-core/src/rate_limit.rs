//! Limits on codes and attempts: windows, counters, the clients that they are counted for, and the attack
//! alarm.

pub(crate) mod attack;
pub(crate) mod client;
pub(crate) mod counter_update;
pub(crate) mod counters;
pub(crate) mod limits;
