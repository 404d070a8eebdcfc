//! Import and export of users.

use referral_core::{
    Invitation, User, UserId,
    storage::{
        Decision, ErasedUser, ImportBatch, ImportFacts, ImportOutcome, ImportWrites, RecordedUser, Result,
        UserRecord, UserWrite,
    },
};

use crate::{
    documents::{list, owner},
    transaction::Transaction,
};

impl Transaction {
    /// Returns the records of users after an id, in ascending order.
    pub(crate) async fn records_after(
        &mut self,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<UserRecord>> {
        let start = after.map_or("-".to_owned(), |id| format!("({id}"));
        let mut read = redis::pipe();
        for list in [list::USERS, list::WITHOUT_PHONE, list::ERASED] {
            let range = read.cmd("ZRANGE").arg(self.key(list)).arg(&start).arg("+");
            range.arg(&["BYLEX", "LIMIT", "0"]).arg(limit);
        }
        let (mut users, without_phone, erased): (Vec<String>, Vec<String>, Vec<String>) =
            self.query(&read).await?;
        users.extend(without_phone);
        let mut records = Vec::new();
        for user in self.get_all::<User>(&users).await? {
            let invitation = self.get(user.id).await?;
            records.push(UserRecord::of(user, invitation));
        }
        for user in self.get_all::<ErasedUser>(&erased).await? {
            let invitation = self.get(user.id).await?;
            records.push(UserRecord::of_erased(user, invitation));
        }
        records.sort_unstable_by_key(|record| record.user.id());
        records.truncate(limit as usize);
        Ok(records)
    }

    pub(crate) async fn import(&mut self, batch: &ImportBatch) -> Result<Vec<ImportOutcome>> {
        let facts = self.import_facts(batch).await?;
        let Decision { writes, outcome } = batch.decide(facts);
        let ImportWrites { added, invitations, invited } = writes;
        for user in added {
            match user {
                RecordedUser::Present(user) => self.write_user(&UserWrite::Add(*user)).await?,
                RecordedUser::Erased(user) => {
                    self.set(&owner::code(&user.invite_code), &user.id)?;
                    self.put(&user)?;
                }
            }
        }
        for changed in invited {
            if let Some(stored) = self.get::<User>(changed.id).await? {
                self.put(&User { invited_by: changed.invited_by, ..stored })?;
            }
        }
        for invitation in &invitations {
            self.add_invitation(invitation).await?;
        }
        Ok(outcome)
    }

    async fn import_facts(&mut self, batch: &ImportBatch) -> Result<ImportFacts> {
        let mut facts = ImportFacts::default();
        for id in batch.ids() {
            if let Some(record) = self.record(id).await? {
                facts.stored.insert(id, record);
            }
        }
        for user in batch.present() {
            if let Some(found) = self.value(&owner::phone(&user.phone)).await? {
                facts.phones.insert(user.phone.clone(), found);
            }
            if let Some(email) = &user.email
                && let Some(found) = self.value(&owner::email(email)).await?
            {
                facts.emails.insert(email.clone(), found);
            }
            if let Some(id) = &user.external_id
                && let Some(found) = self.value(&owner::external_id(id)).await?
            {
                facts.external_ids.insert(id.clone(), found);
            }
        }
        for code in batch.codes() {
            if let Some(found) = self.value(&owner::code(code)).await? {
                facts.codes.insert(code.clone(), found);
            }
        }
        let mut above = batch.late_inviters(&facts);
        while let Some(id) = above.pop() {
            // A missing invitation is watched as well, like the ancestry of a late acceptance.
            if let Some(invitation) = self.get::<Invitation>(id).await?
                && facts.inviters.insert(id, invitation.inviter).is_none()
            {
                above.push(invitation.inviter);
            }
        }
        Ok(facts)
    }

    async fn record(&mut self, id: UserId) -> Result<Option<UserRecord>> {
        let invitation = self.get(id).await?;
        if let Some(user) = self.get(id).await? {
            return Ok(Some(UserRecord::of(user, invitation)));
        }
        let erased = self.get(id).await?;
        Ok(erased.map(|erased| UserRecord::of_erased(erased, invitation)))
    }
}
