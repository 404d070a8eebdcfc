//! Deletion of users.

use referral_core::{
    Refusal, Session, SessionId, User,
    storage::{
        AttemptWrites, Challenge, Decision, DeletedUser, DeletionFacts, DeletionRequest, DeletionWrites,
        DueDeletion, ErasedUser, Redemption, RedemptionFacts, Result, SessionSelection, UserWrite,
    },
};
use time::OffsetDateTime;

use crate::{
    documents::{Document as _, list, micros, owner},
    transaction::{ALL, Transaction, ends},
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
        let mut ended_sessions = Vec::new();
        match &writes {
            DeletionWrites::Attempt(AttemptWrites { challenge, counters }) => {
                if let Some(challenge) = challenge {
                    self.put(challenge)?;
                }
                self.count(counters).await?;
            }
            DeletionWrites::Schedule { challenge, user, counters, audit } => {
                self.put(challenge)?;
                self.write_user(&UserWrite::Change(user.clone())).await?;
                ended_sessions = self.end_sessions(user.id, SessionSelection::All, request.now).await?;
                self.count(counters).await?;
                self.add_entry(audit.as_ref())?;
            }
            DeletionWrites::Erase { user, counters, audit, code_requests } => {
                ended_sessions = self.erase(user, request.now).await?;
                for phone in code_requests {
                    self.delete_code_requests(*phone).await?;
                }
                self.count(counters).await?;
                self.add_entry(audit.as_ref())?;
            }
        }
        Ok(outcome.map(|deleted| deleted.with_ended_sessions(ended_sessions)))
    }

    /// Returns users whose deletion is due. They are not watched, because their deletion decides again.
    pub(crate) async fn users_to_delete(
        &mut self,
        now: OffsetDateTime,
        after: Option<&DueDeletion>,
        limit: usize,
    ) -> Result<Vec<DueDeletion>> {
        let start = after.map_or("-inf".to_owned(), |after| micros(after.deletion_at).to_string());
        let mut read = redis::pipe();
        read.cmd("ZRANGE").arg(self.key(&ends(User::KIND))).arg(start).arg(micros(now)).arg("BYSCORE");
        let (ids,): (Vec<String>,) = self.query(&read).await?;
        let users: Vec<User> = self.peek_all(&ids).await?;
        let due = users.into_iter().filter_map(|user| {
            let due = DueDeletion { deletion_at: user.deletion_at?, user: user.id };
            (due.deletion_at <= now && after.is_none_or(|after| due > *after)).then_some(due)
        });
        let mut due: Vec<_> = due.collect();
        due.sort_unstable();
        due.truncate(limit);
        Ok(due)
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
