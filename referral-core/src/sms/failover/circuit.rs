//! Whether a gateway is asked, given how it has done of late.

use std::time::Duration;

use tokio::time::Instant;

/// The longest that a gateway is left alone because it says so.
const LONGEST_ALONE: Duration = Duration::from_hours(1);

/// How many times as long as the first a rest gets at most.
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
                self.rests_until = Some(now + trial);
                Admission::Ask(Turn::Trial)
            }
            None => Admission::Ask(Turn::Usual),
        }
    }

    /// It works. Says whether it did not before.
    pub(super) fn work(&mut self) -> bool {
        std::mem::take(self).rests_until.is_some()
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

    /// It wants to be left alone. Says for how long it is.
    pub(super) fn leave_alone(&mut self, now: Instant, time: Duration) -> Duration {
        let time = time.min(LONGEST_ALONE);
        self.alone_until = Some(now + time);
        time
    }
}
