//! Deletion of users.

use referral_core::{
    Refusal, Session, SessionId, User,
    storage::{
        AttemptWrites, Challenge, Decision, DeletedUser, DeletionFacts, DeletionRequest, DeletionWrites,
        ErasedUser, Redemption, RedemptionFacts, Result,
    },
};
use time::OffsetDateTime;

use crate::{
    documents::{list, owner},
    transaction::{ALL, Transaction},
};

impl Transaction {
    pub(crate) async fn delete_user(
        &mut self,
        request: &DeletionRequest,
    ) -> Result<std::result::Result<DeletedUser, Refusal>> {
        let facts = DeletionFacts {
            user: self.get(request.user).await?,
            has_other_admin: self.has_other_admin(request.user).await?,
            redemption: match &request.redemption {
                Some(redemption) => self.redemption(redemption).await?,
                None => RedemptionFacts::default(),
            },
        };
        let Decision { writes, outcome } = request.decide(&facts);
        let (mut ended_sessions, mut entry) = (Vec::new(), None);
        match &writes {
            DeletionWrites::Attempt(AttemptWrites { challenge, counters }) => {
                if let Some(challenge) = challenge {
                    self.put(challenge)?;
                }
                self.count(counters).await?;
            }
            DeletionWrites::Erase { user, counters, audit, code_requests } => {
                ended_sessions = self.erase(user, request.now).await?;
                for phone in code_requests {
                    self.delete_code_requests(*phone).await?;
                }
                self.count(counters).await?;
                self.add_entry(audit.as_ref())?;
                entry.clone_from(audit);
            }
        }
        Ok(outcome.map(|user| DeletedUser { user, ended_sessions, audit: entry }))
    }

    pub(crate) async fn redemption(&mut self, redemption: &Redemption) -> Result<RedemptionFacts> {
        let challenge: Option<Challenge> = self.get(redemption.challenge).await?;
        Ok(RedemptionFacts {
            challenge: challenge.filter(|found| found.phone == redemption.phone),
            counters: self.counters(&redemption.counters()).await?,
            global_counters: self.global_counters(redemption.global_counters()).await?,
        })
    }

    /// Deletes a user with its sessions and challenges. The invite code keeps its owner, who does not exist
    /// any more, so the code is taken and has no effect. Returns the sessions that were active.
    async fn erase(&mut self, user: &User, now: OffsetDateTime) -> Result<Vec<SessionId>> {
        let mut ended = Vec::new();
        let sessions = self.newest(&list::sessions(user.id), None, ALL).await?;
        for session in self.get_all::<Session>(&sessions).await? {
            if session.is_active(now) {
                ended.push(session.id);
            }
            self.delete(&session);
        }
        // The challenges of a detached phone belong to another person.
        if user.has_phone() {
            let challenges = self.newest(&list::challenges(&user.phone), None, ALL).await?;
            for challenge in self.get_all::<Challenge>(&challenges).await? {
                self.delete(&challenge);
            }
            self.remove(&owner::phone(&user.phone));
        }
        if let Some(email) = &user.email {
            self.remove(&owner::email(email));
        }
        if let Some(id) = &user.external_id {
            self.remove(&owner::external_id(id));
        }
        self.set_member(list::STAFF, user.id, false);
        self.erase_entries(user.id).await?;
        self.delete(user);
        let User { id, invite_code, date_joined, .. } = user.clone();
        self.put(&ErasedUser { id, invite_code, date_joined, erased_at: now })?;
        Ok(ended)
    }
}
