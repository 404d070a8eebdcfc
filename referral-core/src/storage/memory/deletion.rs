//! Deletion of a user from the memory storage.

use time::OffsetDateTime;

use super::state::State;
use crate::{
    error::refusal::Refusal,
    storage::{
        AttemptWrites, Decision, DeletedUser, DeletionFacts, DeletionRequest, DeletionWrites, DueDeletion,
        Redemption, RedemptionFacts, SessionSelection,
    },
    user::{User, record::ErasedUser},
};

impl State {
    pub(super) fn delete_user(&mut self, request: &DeletionRequest) -> Result<DeletedUser, Refusal> {
        let facts = DeletionFacts {
            user: self.users.get(&request.user).cloned(),
            has_other_admin: self.has_other_admin(request.user),
            redemption: request.redemption.as_ref().map(|code| self.redemption(code)).unwrap_or_default(),
        };
        let Decision { writes, outcome } = request.decide(&facts);
        let mut ended_sessions = Vec::new();
        match writes {
            DeletionWrites::Attempt(AttemptWrites { challenge, counters }) => {
                if let Some(challenge) = challenge {
                    self.put_challenge(challenge);
                }
                self.count(counters);
            }
            DeletionWrites::Schedule { challenge, user, counters, audit } => {
                self.put_challenge(challenge);
                self.put_user(&user);
                ended_sessions = self.end_sessions(user.id, SessionSelection::All, request.now);
                self.count(counters);
                self.record(audit);
            }
            DeletionWrites::Erase { user, counters, audit, code_requests } => {
                ended_sessions = self.end_sessions(user.id, SessionSelection::All, request.now);
                self.erase(&user, request.now);
                self.record(audit);
                for phone in code_requests {
                    self.code_requests.remove(&phone);
                }
                self.count(counters);
            }
        }
        outcome.map(|deleted| deleted.with_ended_sessions(ended_sessions))
    }

    pub(super) fn users_to_delete(
        &self,
        now: OffsetDateTime,
        after: Option<&DueDeletion>,
        limit: usize,
    ) -> Vec<DueDeletion> {
        let due = self.users.values().filter_map(|user| {
            let due = DueDeletion { deletion_at: user.deletion_at?, user: user.id };
            (due.deletion_at <= now && after.is_none_or(|after| due > *after)).then_some(due)
        });
        let mut due: Vec<_> = due.collect();
        due.sort_unstable();
        due.truncate(limit);
        due
    }

    pub(super) fn redemption(&self, redemption: &Redemption) -> RedemptionFacts {
        let challenge = self.challenges.get(&redemption.challenge);
        RedemptionFacts {
            challenge: challenge.filter(|challenge| challenge.phone == redemption.phone).cloned(),
            counters: self.counters(redemption.counters()),
            global_counters: self.global_counter_facts(redemption.global_counters()),
        }
    }

    /// Erases a user. The invite code stays in `by_code`, so that it is not free.
    fn erase(&mut self, user: &User, now: OffsetDateTime) {
        self.users.remove(&user.id);
        let User { id, invite_code, date_joined, .. } = user.clone();
        self.erased.insert(id, ErasedUser { id, invite_code, date_joined, erased_at: now });
        if user.has_phone() {
            self.by_phone.remove(&user.phone);
            for challenge in self.sent.get(&user.phone).cloned().unwrap_or_default() {
                self.remove_challenge(challenge);
            }
        }
        if let Some(email) = &user.email {
            self.by_email.remove(email);
        }
        if let Some(id) = &user.external_id {
            self.by_external_id.remove(id);
        }
        self.sessions.retain(|_, session| session.user != user.id);
        for entry in self.audit_log.values_mut().filter(|entry| entry.user == Some(user.id)) {
            *entry = entry.clone().erased();
        }
    }
}
