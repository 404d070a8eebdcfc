//! Refunds of a sign-in: codes and wrong attempts that do not count any more.

use super::{SignInFacts, SignInRequest};
use crate::{
    otp::challenge::Challenge,
    rate_limit::{
        counter_update::CounterUpdater,
        counters::{CounterKey, EventKind},
    },
};

impl SignInRequest {
    /// Refunds the code that led to the sign-in, and earlier codes that were not used to sign in. Those codes
    /// arrived late or were mistyped, and their phone belongs to a user.
    pub(super) fn refund_codes(
        &self,
        updater: &mut CounterUpdater<'_>,
        challenge: &Challenge,
        facts: &SignInFacts,
    ) {
        // The last sign-in refunded the codes before it.
        let last_login = facts.user.as_ref().and_then(|user| user.last_login);
        let mut codes = facts.counters.timestamps(&CounterKey::phone(&self.phone), EventKind::Code);
        codes.retain(|sent_at| {
            last_login.is_none_or(|login| *sent_at > login) && *sent_at != challenge.sent_at
        });
        codes.push(challenge.sent_at);
        for sent_at in codes {
            updater.refund(CounterKey::number_range(&self.phone), EventKind::Code, sent_at);
            let of_address = challenge.address.into_iter().flat_map(|address| {
                CounterKey::networks(address).chain(CounterKey::shares_of_address(&self.phone, address))
            });
            for key in of_address {
                updater.refund(key, EventKind::Code, sent_at);
            }
        }
    }
}

/// Refunds the wrong attempts of a client that then sent the correct code: it had mistyped the code.
pub(super) fn refund_failed_attempts(updater: &mut CounterUpdater<'_>, challenge: &Challenge) {
    for failed in &challenge.failed_attempts {
        for key in CounterKey::networks(failed.address) {
            updater.refund(key, EventKind::FailedAttempt, failed.at);
        }
    }
}
