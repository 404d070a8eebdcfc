//! Limits on codes and attempts, and the attack alarm.
//!
//! The numbers of all limits are in `policy.rs`, and `policy/check.rs` validates them. `limits.rs` has the
//! rule of a sliding window, `counters.rs` the counters and their keys, `counter_update.rs` the changes of
//! counters, `client.rs` the client of a request, and `attack.rs` the rules of the attack alarm.
//! `unlock.rs` resets the counters
//! of a phone. `otp/challenge.rs`, `otp/sign_in.rs` and `user/profile.rs` apply the limits to requests.

pub(crate) mod attack;
pub(crate) mod client;
pub(crate) mod counter_update;
pub(crate) mod counters;
pub(crate) mod limits;
pub(crate) mod unlock;
