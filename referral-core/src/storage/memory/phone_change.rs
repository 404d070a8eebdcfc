//! Change of the phone of a user in the memory storage.

use super::state::State;
use crate::{
    error::refusal::Refusal,
    storage::{
        AttemptWrites, ChangedPhone, Decision, PhoneChangeFacts, PhoneChangeRequest, PhoneChangeWrites,
        SessionSelection,
    },
};

impl State {
    pub(super) fn change_phone(&mut self, request: &PhoneChangeRequest) -> Result<ChangedPhone, Refusal> {
        let facts = PhoneChangeFacts {
            user: self.users.get(&request.user).cloned(),
            owner: self.by_phone.get(&request.redemption.phone).copied(),
            redemption: self.redemption(&request.redemption),
        };
        let Decision { writes, outcome } = request.decide(&facts);
        let (mut ended_sessions, mut entry) = (Vec::new(), None);
        match writes {
            PhoneChangeWrites::Attempt(AttemptWrites { challenge, counters }) => {
                if let Some(challenge) = challenge {
                    self.put_challenge(challenge);
                }
                self.count(counters);
            }
            PhoneChangeWrites::Change { challenge, user, counters, audit } => {
                self.put_challenge(challenge);
                self.put_user(&user);
                let others = SessionSelection::AllExcept(request.session);
                ended_sessions = self.end_sessions(user.id, others, request.now);
                self.count(counters);
                entry = Some(audit);
            }
        }
        self.record(entry.clone());
        outcome.map(|user| ChangedPhone { user, ended_sessions, audit: entry })
    }
}
