//! Attacks on the real service with a manual clock. Only the messages are simulated.
//!
//! The results do not depend on chance. All guesses are wrong, and each guess that was compared with a valid
//! code counts with its probability of success, one in 10^digits. The sum is the expected number of
//! takeovers.

mod legitimate;
mod lockout;
mod one_phone;
mod spray;
mod toll_fraud;
mod world;

use std::fmt;

use referral_core::policy::{Budget, Limits, Policy, Regions};

pub(crate) use self::{
    legitimate::{legitimate_users_are_served, owners_at_the_start_of_an_attack},
    lockout::attacker_locks_an_owner_out,
    one_phone::{a_fixed_code_is_guessed_for_a_year, one_phone_is_guessed_for_a_year},
    spray::{
        attacks_come_at_the_same_time, codes_are_collected_first, many_phones_are_guessed,
        usual_count_increases_gradually,
    },
    toll_fraud::messages_are_pumped,
};

/// Result of an attack.
pub(crate) struct Row {
    pub(crate) attack: String,
    pub(crate) policy: &'static str,
    pub(crate) requests: u64,
    /// Number of messages, each of which costs money.
    pub(crate) codes: u64,
    /// Expected number of takeovers.
    pub(crate) takeovers: f64,
    /// Number of days on which the owner of a phone could not sign in.
    pub(crate) days_lost: u32,
    /// Number of rejected requests of legitimate users.
    pub(crate) rejections: u64,
    pub(crate) bound: Bound,
    pub(crate) note: String,
}

/// Largest accepted result of an attack.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    Takeovers(f64),
    Codes(u64),
    DaysLost(u32),
    Rejections(u64),
}

impl Row {
    /// Header of the table of rows.
    pub(crate) const HEAD: &str = "\
| Attack | Policy | Requests | Codes | Takeovers | Days lost | Rejections | Bound | |
|---|---|---:|---:|---:|---:|---:|---|---|";

    pub(crate) fn holds(&self) -> bool {
        match self.bound {
            // Tolerates the rounding errors of the sum.
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

/// Writes a line of a Markdown table.
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

/// Policy with its name.
pub(crate) type NamedPolicy = (&'static str, Policy);

pub(crate) fn standard() -> NamedPolicy {
    ("standard", observable(Policy::standard()))
}

/// The number of messages is not limited, so that the other limits take effect.
pub(crate) fn strict() -> NamedPolicy {
    let mut policy = Policy::strict();
    policy.regions = Some(Regions::All);
    policy.messages_per_day = Some(Budget::Unlimited);
    ("strict", observable(policy))
}

/// The simulation sends unknown invite codes to check whether a code is valid, and these must not be limited.
fn observable(mut policy: Policy) -> Policy {
    policy.unknown_invite_codes = Limits::off();
    policy
}
