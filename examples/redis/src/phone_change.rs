//! Change of the phone of a user.

use referral_core::{
    Refusal,
    storage::{
        AttemptWrites, ChangedPhone, Decision, PhoneChangeFacts, PhoneChangeRequest, PhoneChangeWrites,
        Result, SessionSelection, UserWrite,
    },
};

use crate::{documents::owner, transaction::Transaction};

impl Transaction {
    /// Changes the phone of a user. The owner of the new phone is watched, so that another request that gives
    /// the phone to a user prevents the commit.
    pub(crate) async fn change_phone(
        &mut self,
        request: &PhoneChangeRequest,
    ) -> Result<std::result::Result<ChangedPhone, Refusal>> {
        let facts = PhoneChangeFacts {
            user: self.get(request.user).await?,
            owner: self.value(&owner::phone(&request.redemption.phone)).await?,
            redemption: self.redemption(&request.redemption).await?,
        };
        let Decision { writes, outcome } = request.decide(&facts);
        let (mut ended_sessions, mut entry) = (Vec::new(), None);
        match writes {
            PhoneChangeWrites::Attempt(AttemptWrites { challenge, counters }) => {
                if let Some(challenge) = &challenge {
                    self.put(challenge)?;
                }
                self.count(&counters).await?;
            }
            PhoneChangeWrites::Change { challenge, user, counters, audit } => {
                self.put(&challenge)?;
                let others = SessionSelection::AllExcept(request.session);
                ended_sessions = self.end_sessions(user.id, others, request.now).await?;
                self.write_user(&UserWrite::Change(user)).await?;
                self.count(&counters).await?;
                self.add_entry(Some(&audit))?;
                entry = Some(audit);
            }
        }
        Ok(outcome.map(|user| ChangedPhone { user, ended_sessions, audit: entry }))
    }
}
