//! Attacks on the real service, on a clock that is set by hand: nothing but the messages is made up.
//!
//! Whether a guess happens to be right is chance, so nothing depends on it. Guesses here are always
//! wrong; and each that was compared with a live code is worth what a guess at it is worth, one in
//! 10^digits. The sum is the number of takeovers to be expected.

mod legitimate;
mod lockout;
mod one_phone;
mod spray;
mod toll_fraud;
mod world;

use std::fmt;

use referral_core::{Budget, Limits, Policy, Regions};

pub(crate) use self::{
    legitimate::{legitimate_users_are_served, owners_at_the_start_of_an_attack},
    lockout::strangers_lock_an_owner_out,
    one_phone::{a_fixed_code_is_guessed_for_a_year, one_phone_is_guessed_for_a_year},
    spray::{
        attacks_come_at_the_same_time, codes_are_collected_first, many_phones_are_guessed,
        the_alarm_is_taught,
    },
    toll_fraud::messages_are_pumped,
};

/// What an attack came to.
pub(crate) struct Row {
    pub(crate) attack: String,
    pub(crate) policy: &'static str,
    pub(crate) requests: u64,
    /// The messages that somebody pays for.
    pub(crate) codes: u64,
    /// To be expected.
    pub(crate) takeovers: f64,
    /// The days on which somebody else could not sign in.
    pub(crate) days_lost: u32,
    /// Rejected requests of users who did nothing wrong.
    pub(crate) rejections: u64,
    pub(crate) bound: Bound,
    pub(crate) note: String,
}

/// The most that an attack may come to.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    Takeovers(f64),
    Codes(u64),
    DaysLost(u32),
    Rejections(u64),
}

impl Row {
    /// The head of the table that rows are printed into.
    pub(crate) const HEAD: &str = "\
| Attack | Policy | Requests | Codes | Takeovers | Days lost | Rejections | Bound | |
|---|---|---:|---:|---:|---:|---:|---|---|";

    pub(crate) fn holds(&self) -> bool {
        match self.bound {
            // With room for what is lost in a sum of fractions.
            Bound::Takeovers(most) => self.takeovers <= most + 1e-9,
            Bound::Codes(most) => self.codes <= most,
            Bound::DaysLost(most) => self.days_lost <= most,
            Bound::Rejections(most) => self.rejections <= most,
        }
    }

    pub(crate) fn rejecting(self, rejections: u64, note: String) -> Self {
        Self { rejections, note, ..self }
    }

    pub(crate) fn with_note(self, note: String) -> Self {
        Self { note, ..self }
    }
}

/// One line of a table in Markdown.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attack, policy, requests, codes, takeovers, days_lost, rejections, bound, note } = self;
        write!(
            f,
            "| {attack} | {policy} | {requests} | {codes} | {takeovers:.5} | {days_lost} | {rejections}"
        )?;
        write!(f, " | {bound}")?;
        write!(f, "{} | {note} |", if self.holds() { "" } else { ", **missed**" })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Takeovers(most) => write!(f, "{most:.4} takeovers"),
            Self::Codes(most) => write!(f, "{most} codes"),
            Self::DaysLost(most) => write!(f, "{most} days"),
            Self::Rejections(most) => write!(f, "{most} rejections"),
        }
    }
}

/// A policy and its name.
pub(crate) type NamedPolicy = (&'static str, Policy);

pub(crate) fn standard() -> NamedPolicy {
    ("standard", observable(Policy::standard()))
}

/// With as many messages as it takes, so that the other limits are seen.
pub(crate) fn strict() -> NamedPolicy {
    let mut policy = Policy::strict();
    policy.regions = Some(Regions::All);
    policy.messages_per_day = Some(Budget::Unlimited);
    ("strict", observable(policy))
}

/// The observer sends unknown invite codes to see whether a code is live, and must not be limited.
fn observable(mut policy: Policy) -> Policy {
    policy.invite_failures = Limits::off();
    policy
}
