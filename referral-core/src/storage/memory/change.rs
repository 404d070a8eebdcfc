//! Changes of users by the host or by staff in the memory storage.

use super::state::State;
use crate::{
    error::refusal::Refusal,
    storage::{
        Ancestry, ChangedUser, Decision, InvitationWrite, SessionSelection, UserChangeFacts,
        UserChangeRequest, UserChangeWrites,
    },
};

impl State {
    pub(super) fn change_user(&mut self, request: &UserChangeRequest) -> Result<ChangedUser, Refusal> {
        let mut facts = UserChangeFacts {
            user: self.users.get(&request.user).cloned(),
            email_owner: request.email().and_then(|email| self.by_email.get(email)).copied(),
            external_id_owner: self.owner_of_external_id(request.external_id()),
            phone_owner: request.phone().and_then(|phone| self.by_phone.get(phone)).copied(),
            inviter: self.owner_of(request.invited_by_code()),
            ancestry: Ancestry::NotWalked,
            has_other_admin: self.has_other_admin(request.user),
        };
        if request.needs_ancestry(&facts)
            && let Some(inviter) = &facts.inviter
        {
            facts.ancestry = self.ancestry(inviter.id, request.user);
        }
        let Decision { writes, outcome } = request.decide(&facts);
        let UserChangeWrites { user, invitation, ends_sessions, audit } = writes;
        if let Some(user) = user {
            self.put_user(&user);
        }
        if let Some(write) = invitation {
            self.remove_invitation(request.user);
            if let InvitationWrite::Put(invitation) = write {
                self.add_invitation(&invitation);
            }
        }
        let mut ended_sessions = Vec::new();
        if ends_sessions {
            ended_sessions = self.end_sessions(request.user, SessionSelection::All, request.now);
        }
        self.record(audit);
        outcome.map(|changed| changed.with_ended_sessions(ended_sessions))
    }
}
