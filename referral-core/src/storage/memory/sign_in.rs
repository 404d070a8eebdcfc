//! Sign-ins in the memory storage.

use super::state::State;
use crate::storage::{Ancestry, Decided, Decision, SignInFacts, SignInOutcome, SignInRequest, SignInWrites};

impl State {
    pub(super) fn sign_in(&mut self, request: &SignInRequest) -> Decided<SignInOutcome> {
        let challenge = match request.challenge {
            Some(id) => self.challenges.get(&id).filter(|challenge| challenge.phone == request.phone),
            None => self.newest_challenge_to_sign_in(&request.phone),
        };
        let mut facts = SignInFacts {
            challenge: challenge.cloned(),
            user: self.user_with_phone(&request.phone).cloned(),
            inviter: self.owner_of(request.invite_code.as_ref()),
            ancestry: Ancestry::NotWalked,
            counters: self.counters(request.counters()),
            global_counters: self.global_counter_facts(request.global_counters()),
        };
        if request.needs_ancestry(&facts)
            && let (Some(user), Some(inviter)) = (&facts.user, &facts.inviter)
        {
            facts.ancestry = self.ancestry(inviter.id, user.id);
        }
        let Decision { writes, outcome } = request.decide(&facts, self.free_code(&request.new_user)?)?;
        let mut ended_sessions = Vec::new();
        match writes {
            SignInWrites::Attempt { challenge, counters } => {
                if let Some(challenge) = challenge {
                    self.put_challenge(challenge);
                }
                self.count(counters);
            }
            SignInWrites::SignIn {
                challenge,
                detached,
                user,
                invitation,
                session,
                kept_sessions,
                counters,
                audit,
            } => {
                self.put_challenge(challenge);
                if let Some(detached) = detached {
                    self.detach_phone(&detached);
                }
                self.write_user(user);
                if let Some(invitation) = &invitation {
                    self.add_invitation(invitation);
                }
                if let Some(kept) = kept_sessions {
                    ended_sessions = self.keep_newest_sessions(session.user, kept, request.now);
                }
                self.sessions.insert(session.id, session);
                self.count(counters);
                self.record(audit);
            }
        }
        Ok(outcome.map(|outcome| outcome.with_ended_sessions(ended_sessions)))
    }
}
