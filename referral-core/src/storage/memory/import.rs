//! Import and export of users in the memory storage.

use std::ops::Bound;

use super::state::State;
use crate::{
    storage::{
        Decision, ErasedUser, ImportBatch, ImportFacts, ImportOutcome, ImportWrites, RecordedUser,
        UserRecord, UserWrite,
    },
    user::{User, UserId},
};

impl State {
    /// Returns the records of users after an id, in ascending order.
    pub(super) fn records_after(&self, after: Option<UserId>, limit: usize) -> Vec<UserRecord> {
        let after = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let present = self.users.range(after).take(limit).map(|(_, user)| self.record_of(user));
        let erased = self.erased.range(after).take(limit).map(|(_, user)| self.record_of_erased(user));
        let mut records: Vec<_> = present.chain(erased).collect();
        records.sort_unstable_by_key(|record| record.user.id());
        records.truncate(limit);
        records
    }

    fn record_of(&self, user: &User) -> UserRecord {
        UserRecord::of(user.clone(), self.invitations.get(&user.id).cloned())
    }

    fn record_of_erased(&self, user: &ErasedUser) -> UserRecord {
        UserRecord::of_erased(user.clone(), self.invitations.get(&user.id).cloned())
    }

    pub(super) fn import(&mut self, batch: &ImportBatch) -> Vec<ImportOutcome> {
        let Decision { writes, outcome } = batch.decide(self.import_facts(batch));
        let ImportWrites { added, invitations, invited } = writes;
        for user in added {
            match user {
                RecordedUser::Present(user) => self.write_user(UserWrite::Add(*user)),
                RecordedUser::Erased(user) => {
                    self.by_code.insert(user.invite_code.clone(), user.id);
                    self.erased.insert(user.id, user);
                }
            }
        }
        for user in invited {
            if let Some(stored) = self.users.get_mut(&user.id) {
                stored.invited_by = user.invited_by;
            }
        }
        for invitation in &invitations {
            self.add_invitation(invitation);
        }
        outcome
    }

    fn import_facts(&self, batch: &ImportBatch) -> ImportFacts {
        let record = |id: UserId| {
            let present = self.users.get(&id).map(|user| self.record_of(user));
            let record = present.or_else(|| self.erased.get(&id).map(|user| self.record_of_erased(user)))?;
            Some((id, record))
        };
        let mut facts =
            ImportFacts { stored: batch.ids().filter_map(record).collect(), ..Default::default() };
        for user in batch.present() {
            if let Some(owner) = self.by_phone.get(&user.phone) {
                facts.phones.insert(user.phone.clone(), *owner);
            }
            if let Some((email, owner)) =
                user.email.as_ref().and_then(|email| self.by_email.get_key_value(email))
            {
                facts.emails.insert(email.clone(), *owner);
            }
            let external_id = user.external_id.as_ref();
            if let Some((id, owner)) = external_id.and_then(|id| self.by_external_id.get_key_value(id)) {
                facts.external_ids.insert(id.clone(), *owner);
            }
        }
        for (code, owner) in batch.codes().filter_map(|code| self.by_code.get_key_value(code)) {
            facts.codes.insert(code.clone(), *owner);
        }
        let mut above = batch.late_inviters(&facts);
        while let Some(id) = above.pop() {
            if let Some(invitation) = self.invitations.get(&id)
                && facts.inviters.insert(id, invitation.inviter).is_none()
            {
                above.push(invitation.inviter);
            }
        }
        facts
    }
}
