//! Whether a gateway is asked, given how it has done of late.

use std::time::Duration;

use tokio::time::Instant;

/// The longest that a gateway is left alone because it says so: where it is the only one, nobody signs in
/// meanwhile, be it in earnest or not.
const LONGEST_ALONE: Duration = Duration::from_mins(5);

/// How long beyond its time a trial may take to be noted, during which there is no other.
const TRIAL_GRACE: Duration = Duration::from_secs(1);

/// How many times as long as the first a rest gets at most: from half a minute ten.
const LONGEST_REST: u32 = 20;

/// After how many failures in a row a gateway rests, and for how long at first.
#[derive(Clone, Copy)]
pub(super) struct Rest {
    pub(super) failures: u32,
    pub(super) time: Duration,
}

/// How a gateway has done of late.
#[derive(Default)]
pub(super) struct Circuit {
    /// Failures in a row.
    failures: u32,
    /// Rests in a row.
    rests: u32,
    /// While it rests, or somebody tries whether it works again.
    rests_until: Option<Instant>,
    /// While it wants to be left alone.
    alone_until: Option<Instant>,
}

/// Whether a gateway is asked.
pub(super) enum Admission {
    Ask(Turn),
    /// It rests, and may be asked if there is no other.
    Resting(Instant),
    /// It wants to be left alone.
    Busy(Instant),
}

/// On what occasion a gateway is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is its turn.
    Usual,
    /// It has rested: whether it works again is to be seen.
    Trial,
    /// It rests, and there is no other.
    LastResort,
}

impl Circuit {
    /// Whether the gateway is asked now. After a rest it is asked once, and rests for others as long as
    /// that may take, whether whoever asks lives to see the answer or not.
    pub(super) fn admit(&mut self, now: Instant, trial: Duration) -> Admission {
        if let Some(until) = self.alone_until.filter(|until| now < *until) {
            return Admission::Busy(until);
        }
        match self.rests_until {
            Some(until) if now < until => Admission::Resting(until),
            Some(_) => {
                self.rests_until = Some(now + trial + TRIAL_GRACE);
                Admission::Ask(Turn::Trial)
            }
            None => Admission::Ask(Turn::Usual),
        }
    }

    /// It works. Says whether it did not before. What was under way when it asked to be left alone takes
    /// nothing back.
    pub(super) fn work(&mut self) -> bool {
        let worked_not = self.rests_until.is_some();
        *self = Self { alone_until: self.alone_until, ..Self::default() };
        worked_not
    }

    /// It failed. Says for how long it begins to rest, if it does.
    pub(super) fn fail(&mut self, now: Instant, turn: Turn, rest: Rest) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        // Those that were under way when it began to rest say nothing new.
        let goes_on =
            if self.rests_until.is_some() { turn != Turn::Trial } else { self.failures < rest.failures };
        if goes_on {
            return None;
        }
        let factor = 2_u32.saturating_pow(self.rests).min(LONGEST_REST);
        let time = rest.time * factor;
        self.rests = self.rests.saturating_add(1);
        self.rests_until = Some(now + time);
        Some(time)
    }

    /// It wants to be left alone. Says until when it is, which another message may have been told before.
    pub(super) fn leave_alone(&mut self, now: Instant, time: Duration) -> Instant {
        let until = now + time.min(LONGEST_ALONE);
        *self.alone_until.insert(self.alone_until.map_or(until, |before| before.max(until)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn is_busy(circuit: &mut Circuit, now: Instant) -> bool {
        matches!(circuit.admit(now, SECOND), Admission::Busy(_))
    }

    #[test]
    fn whatever_was_under_way_makes_the_time_alone_no_shorter() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        circuit.leave_alone(now, 90 * SECOND);
        circuit.work();
        assert!(is_busy(&mut circuit, now + 89 * SECOND), "another message was accepted");
        circuit.leave_alone(now, 5 * SECOND);
        assert!(is_busy(&mut circuit, now + 89 * SECOND), "another message was told a shorter time");
        circuit.fail(now, Turn::Usual, Rest { failures: 1, time: SECOND });
        assert!(is_busy(&mut circuit, now + 89 * SECOND), "another message failed");
        assert!(!is_busy(&mut circuit, now + 90 * SECOND));
    }
}
