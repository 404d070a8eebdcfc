//! Users and the invitations between them.

use async_trait::async_trait;
use referral_core::{
    ExternalId, InvalidInput, Invitation, InviteCode, PageSize, PhoneNumber, Refusal, Session, User, UserId,
    storage::{
        AddUserFacts, AddUserRequest, AddedUser, Ancestry, ChangedPhone, ChangedUser, DailyCounts, Decided,
        Decision, DeletedUser, DeletionRequest, DetachedPhone, DueDeletion, ImportBatch, ImportOutcome,
        InvitationWrite, Invitee, Inviter, NewUser, PageStart, PhoneChangeRequest, ProfileEdit, ProfileFacts,
        ProfileOutcome, ProfileWrites, Result, SessionSelection, StorageError, StoredPage, UserChangeFacts,
        UserChangeRequest, UserQuery, UserRecord, UserStorage, UserWithInvited, UserWrite,
    },
};

use time::{Date, OffsetDateTime};

use crate::{
    RedisStorage,
    daily_counts::DailyEvent,
    documents::{Document as _, list, owner},
    transaction::{ALL, Transaction},
};

/// Number of users that a search reads with one command.
const SEARCH_BATCH: usize = 1_000;

#[async_trait]
impl UserStorage for RedisStorage {
    async fn user(&self, id: UserId, invited: u32) -> Result<Option<UserWithInvited>> {
        self.transaction(|mut tx| async move {
            let user = tx.with_invited(id, invited).await?;
            tx.commit(user).await
        })
        .await
    }

    async fn users(&self, query: &UserQuery) -> Decided<StoredPage<User>> {
        // A page may show a change of a user or not. So nothing is watched.
        let mut tx = self.start().await?;
        if query.filter.is_empty() {
            return tx.page(query.start, query.limit).await.map(Ok);
        }
        let mut matching = tx.matching(query).await?;
        let count = matching.len() as u64;
        let limit = query.limit.get() as usize;
        match query.start {
            PageStart::Offset(offset) => {
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                matching.drain(..offset.min(matching.len()));
            }
            PageStart::OlderThan(id) => matching.retain(|user| user.id < id),
            PageStart::NewerThan(id) => matching.retain(|user| user.id > id),
        }
        let has_more = matching.len() > limit;
        if matches!(query.start, PageStart::NewerThan(_)) {
            matching.drain(..matching.len().saturating_sub(limit));
        }
        matching.truncate(limit);
        Ok(Ok(StoredPage {
            items: matching,
            has_more,
            count: count.min(UserQuery::COUNT_LIMIT),
            count_exact: count <= UserQuery::COUNT_LIMIT,
        }))
    }

    async fn invitees(
        &self,
        inviter: UserId,
        older_than: Option<UserId>,
        limit: PageSize,
    ) -> Result<Option<StoredPage<Invitee>>> {
        self.transaction(|mut tx| async move {
            let Some(user) = tx.get::<User>(inviter).await? else {
                return tx.commit(None).await;
            };
            let limit = limit.get() as usize;
            // One more row than the page has shows whether there are more.
            let mut items = tx.invitees(inviter, older_than, limit + 1).await?;
            let has_more = items.len() > limit;
            items.truncate(limit);
            tx.commit(Some(StoredPage { items, has_more, count: user.invited_count, count_exact: true }))
                .await
        })
        .await
    }

    async fn former_users(&self, phone: &PhoneNumber, limit: u32) -> Result<Vec<User>> {
        self.transaction(|mut tx| async move {
            let ids = tx.newest(list::WITHOUT_PHONE, None, ALL).await?;
            let users = tx.get_all::<User>(&ids).await?.into_iter();
            tx.commit(users.filter(|user| user.phone == *phone).take(limit as usize).collect()).await
        })
        .await
    }

    async fn invitation(&self, invitee: UserId) -> Result<Option<Invitation>> {
        self.transaction(|mut tx| async move {
            let invitation = tx.get(invitee).await?;
            tx.commit(invitation).await
        })
        .await
    }

    async fn edit_profile(&self, edit: &ProfileEdit) -> Decided<ProfileOutcome, Vec<Refusal>> {
        self.transaction(|mut tx| async move {
            let mut facts = ProfileFacts {
                user: tx.get(edit.user).await?,
                email_owner: match &edit.change.email {
                    Some(Some(email)) => tx.value(&owner::email(email)).await?,
                    _ => None,
                },
                inviter: tx.owner_of(edit.change.invited_by_code.as_ref()).await?,
                ancestry: Ancestry::NotWalked,
                counters: tx.counters(&edit.counters()).await?,
            };
            if edit.needs_ancestry(&facts)
                && let Some(inviter) = &facts.inviter
            {
                facts.ancestry = tx.ancestry(inviter.id, edit.user).await?;
            }
            let Decision { writes: ProfileWrites { user, invitation, counters }, outcome } =
                edit.decide(&facts);
            if let Some(user) = user {
                tx.write_user(&UserWrite::Change(user)).await?;
            }
            if let Some(invitation) = &invitation {
                tx.add_invitation(invitation).await?;
            }
            tx.count(&counters).await?;
            tx.commit(outcome).await
        })
        .await
    }

    async fn add_user(&self, request: &AddUserRequest) -> Decided<AddedUser> {
        self.transaction(|mut tx| async move {
            let new_user = &request.new_user;
            let facts = AddUserFacts {
                user: tx.user_with_phone(&new_user.phone).await?,
                external_id_owner: tx.owner_of_external_id(new_user.external_id.as_ref()).await?,
            };
            let code = match &facts.user {
                Some(user) => user.invite_code.clone(),
                None => tx.free_code(new_user).await?,
            };
            let Decision { writes, outcome } = request.decide(&facts, &code);
            if let Some(write) = &writes.user {
                tx.write_user(write).await?;
            }
            let ended_sessions = match &outcome {
                Ok(user) if writes.ends_sessions => {
                    tx.end_sessions(user.id, SessionSelection::All, request.now).await?
                }
                _ => Vec::new(),
            };
            tx.add_entry(writes.audit.as_ref())?;
            tx.commit(outcome.map(|user| AddedUser { user, ended_sessions, audit: writes.audit })).await
        })
        .await
    }

    async fn delete_user(&self, request: &DeletionRequest) -> Decided<DeletedUser> {
        self.transaction(|mut tx| async move {
            let deleted = tx.delete_user(request).await?;
            tx.commit(deleted).await
        })
        .await
    }

    async fn users_to_delete(
        &self,
        now: OffsetDateTime,
        after: Option<&DueDeletion>,
        limit: u32,
    ) -> Result<Vec<DueDeletion>> {
        self.start().await?.users_to_delete(now, after, limit as usize).await
    }

    async fn change_phone(&self, request: &PhoneChangeRequest) -> Decided<ChangedPhone> {
        self.transaction(|mut tx| async move {
            let changed = tx.change_phone(request).await?;
            tx.commit(changed).await
        })
        .await
    }

    async fn change_user(&self, request: &UserChangeRequest) -> Decided<ChangedUser> {
        self.transaction(|mut tx| async move {
            let mut facts = UserChangeFacts {
                user: tx.get(request.user).await?,
                email_owner: match request.email() {
                    Some(email) => tx.value(&owner::email(email)).await?,
                    None => None,
                },
                external_id_owner: tx.owner_of_external_id(request.external_id()).await?,
                phone_owner: match request.phone() {
                    Some(phone) => tx.value(&owner::phone(phone)).await?,
                    None => None,
                },
                inviter: tx.owner_of(request.invited_by_code()).await?,
                ancestry: Ancestry::NotWalked,
                has_other_admin: tx.has_other_admin(request.user).await?,
            };
            if request.needs_ancestry(&facts)
                && let Some(inviter) = &facts.inviter
            {
                facts.ancestry = tx.ancestry(inviter.id, request.user).await?;
            }
            let Decision { writes, outcome } = request.decide(&facts);
            if let Some(user) = writes.user {
                tx.write_user(&UserWrite::Change(user)).await?;
            }
            if let Some(write) = &writes.invitation {
                tx.write_invitation(request.user, write).await?;
            }
            let mut ended = Vec::new();
            if writes.ends_sessions {
                ended = tx.end_sessions(request.user, SessionSelection::All, request.now).await?;
            }
            tx.add_entry(writes.audit.as_ref())?;
            tx.commit(outcome.map(|changed| changed.with_ended_sessions(ended))).await
        })
        .await
    }

    async fn daily_counts(&self, since: Date, until: Date) -> Result<Vec<DailyCounts>> {
        self.start().await?.daily_counts(since, until).await
    }

    async fn export_users(&self, after: Option<UserId>, limit: u32) -> Result<Vec<UserRecord>> {
        self.transaction(|mut tx| async move {
            let records = tx.records_after(after, limit).await?;
            tx.commit(records).await
        })
        .await
    }

    async fn import_users(&self, batch: &ImportBatch) -> Result<Vec<ImportOutcome>> {
        self.transaction(|mut tx| async move {
            let outcome = tx.import(batch).await?;
            tx.commit(outcome).await
        })
        .await
    }
}

fn invalid_id(error: InvalidInput) -> StorageError {
    StorageError::Failed(error.into())
}

impl Transaction {
    pub(crate) async fn user_with_phone(&mut self, phone: &PhoneNumber) -> Result<Option<User>> {
        match self.value::<UserId>(&owner::phone(phone)).await? {
            Some(id) => self.get(id).await,
            None => Ok(None),
        }
    }

    pub(crate) async fn owner_of(&mut self, code: Option<&InviteCode>) -> Result<Option<Inviter>> {
        let Some(code) = code else { return Ok(None) };
        let Some(id) = self.value::<UserId>(&owner::code(code)).await? else { return Ok(None) };
        // The code of an erased user is taken, and has no owner.
        let owner: Option<User> = self.get(id).await?;
        Ok(owner.map(|_| Inviter { id, code: code.clone() }))
    }

    async fn owner_of_external_id(&mut self, id: Option<&ExternalId>) -> Result<Option<UserId>> {
        match id {
            Some(id) => self.value(&owner::external_id(id)).await,
            None => Ok(None),
        }
    }

    /// Returns the first of the invite codes that is free.
    pub(crate) async fn free_code(&mut self, new: &NewUser) -> Result<InviteCode> {
        for code in &new.invite_codes {
            if self.value::<UserId>(&owner::code(code)).await?.is_none() {
                return Ok(code.clone());
            }
        }
        Err(StorageError::InviteCodesExhausted)
    }

    pub(crate) async fn write_user(&mut self, write: &UserWrite) -> Result<()> {
        let user = match write {
            UserWrite::Add(user) => {
                self.count_on_day(DailyEvent::SignUp, user.date_joined);
                if let Some(phone) = user.current_phone() {
                    self.set(&owner::phone(phone), &user.id)?;
                }
                self.set(&owner::code(&user.invite_code), &user.id)?;
                user
            }
            UserWrite::Change(user) => {
                if let Some(stored) = self.get::<User>(user.id).await? {
                    if stored.current_phone() != user.current_phone() {
                        self.move_phone(&stored, user)?;
                    }
                    if let Some(email) = &stored.email {
                        self.remove(&owner::email(email));
                    }
                    if let Some(id) = &stored.external_id {
                        self.remove(&owner::external_id(id));
                    }
                }
                user
            }
        };
        self.set_member(list::STAFF, user.id, user.is_staff());
        match user.deletion_at {
            Some(deletion_at) => self.add_end(User::KIND, &user.id.to_string(), deletion_at),
            None => self.remove_end(User::KIND, &user.id.to_string()),
        }
        if let Some(id) = &user.external_id {
            self.set(&owner::external_id(id), &user.id)?;
        }
        if let Some(email) = &user.email {
            self.set(&owner::email(email), &user.id)?;
        }
        self.put(user)
    }

    /// Changes the entries by which a user is found who gets another phone, loses it or gets it again.
    fn move_phone(&mut self, stored: &User, user: &User) -> Result<()> {
        self.set_member(list::of_user(stored), user.id, false);
        if let Some(phone) = stored.current_phone() {
            self.remove(&owner::phone(phone));
        }
        if let Some(phone) = user.current_phone() {
            self.set(&owner::phone(phone), &user.id)?;
        }
        Ok(())
    }

    /// Stores the loss of a phone.
    pub(crate) async fn detach_phone(&mut self, detached: &DetachedPhone) -> Result<()> {
        if let Some(user) = self.get::<User>(detached.user).await? {
            let user = User { phone_detached_at: Some(detached.at), ..user };
            self.write_user(&UserWrite::Change(user)).await?;
        }
        let sessions = self.newest(&list::sessions(detached.user), None, ALL).await?;
        for session in self.get_all::<Session>(&sessions).await? {
            self.delete(&session);
        }
        Ok(())
    }

    /// Adds an invitation and counts it for the inviter.
    pub(crate) async fn add_invitation(&mut self, invitation: &Invitation) -> Result<()> {
        self.count_on_day(DailyEvent::Invitation, invitation.accepted_at);
        self.put(invitation)?;
        if let Some(mut inviter) = self.get::<User>(invitation.inviter).await? {
            inviter.invited_count += 1;
            self.put(&inviter)?;
        }
        Ok(())
    }

    /// Replaces or removes the invitation of a user.
    async fn write_invitation(&mut self, invitee: UserId, write: &InvitationWrite) -> Result<()> {
        if let Some(old) = self.get::<Invitation>(invitee).await? {
            self.delete(&old);
            if let Some(mut inviter) = self.get::<User>(old.inviter).await? {
                inviter.invited_count -= 1;
                self.put(&inviter)?;
            }
        }
        match write {
            InvitationWrite::Put(invitation) => self.add_invitation(invitation).await,
            InvitationWrite::Remove => Ok(()),
        }
    }

    /// Returns `true` if there is an active admin besides a user. All staff are watched.
    pub(crate) async fn has_other_admin(&mut self, user: UserId) -> Result<bool> {
        let staff = self.newest(list::STAFF, None, ALL).await?;
        let staff: Vec<User> = self.get_all(&staff).await?;
        Ok(staff.iter().any(|other| other.id != user && other.is_active_admin()))
    }

    /// Searches the invitee among the inviters of the inviter. Each invitation on the way is watched, also
    /// the missing one of the first inviter, so a late acceptance that changes the ancestry prevents the
    /// commit.
    pub(crate) async fn ancestry(&mut self, inviter: UserId, invitee: UserId) -> Result<Ancestry> {
        let mut ancestor = inviter;
        while ancestor != invitee {
            match self.get::<Invitation>(ancestor).await? {
                Some(invitation) => ancestor = invitation.inviter,
                None => return Ok(Ancestry::WithoutInvitee),
            }
        }
        Ok(Ancestry::WithInvitee)
    }

    async fn invitees(
        &mut self,
        inviter: UserId,
        older_than: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Invitee>> {
        let invitee = |user: User| Invitee { id: user.id, phone: user.phone, joined_at: user.date_joined };
        let (mut older_than, mut invitees) = (older_than, Vec::new());
        loop {
            let ids = self.newest(&list::invitees(inviter), older_than, limit).await?;
            // Deleted users are in the list, and have no documents.
            let users = self.get_all::<User>(&ids).await?.into_iter();
            invitees.extend(users.filter(User::has_phone).map(invitee));
            match ids.last().filter(|_| ids.len() == limit && invitees.len() < limit) {
                Some(last) => older_than = Some(last.parse().map_err(invalid_id)?),
                None => break,
            }
        }
        invitees.truncate(limit);
        Ok(invitees)
    }

    pub(crate) async fn with_invited(&mut self, id: UserId, invited: u32) -> Result<Option<UserWithInvited>> {
        let Some(user) = self.get(id).await? else { return Ok(None) };
        Ok(Some(UserWithInvited { user, invited: self.invitees(id, None, invited as usize).await? }))
    }

    /// Returns a page of all users.
    async fn page(&mut self, start: PageStart, limit: PageSize) -> Result<StoredPage<User>> {
        let limit = limit.get() as usize;
        let users = self.key(list::USERS);
        let mut read = redis::pipe();
        read.cmd("ZCARD").arg(&users);
        let range = read.cmd("ZRANGE").arg(&users);
        match start {
            PageStart::Offset(offset) => {
                let offset = offset.min(i64::MAX.cast_unsigned() - limit as u64);
                range.arg(offset).arg(offset + limit as u64).arg("REV");
            }
            PageStart::OlderThan(id) => {
                range.arg(format!("({id}")).arg("-").arg(&["BYLEX", "REV", "LIMIT", "0"]).arg(limit + 1);
            }
            PageStart::NewerThan(id) => {
                range.arg(format!("({id}")).arg("+").arg(&["BYLEX", "LIMIT", "0"]).arg(limit + 1);
            }
        }
        let (count, mut ids): (u64, Vec<String>) = self.query(&read).await?;
        let has_more = ids.len() > limit;
        ids.truncate(limit);
        if matches!(start, PageStart::NewerThan(_)) {
            ids.reverse();
        }
        Ok(StoredPage { items: self.peek_all(&ids).await?, has_more, count, count_exact: true })
    }

    /// Returns all users that match a filter, newest first. Reads all users.
    async fn matching(&mut self, query: &UserQuery) -> Result<Vec<User>> {
        let mut read = redis::pipe();
        read.cmd("ZRANGE").arg(self.key(list::USERS)).arg(0).arg(-1).arg("REV");
        let (ids,): (Vec<String>,) = self.query(&read).await?;
        let mut matching = Vec::new();
        for ids in ids.chunks(SEARCH_BATCH) {
            let users: Vec<User> = self.peek_all(ids).await?;
            matching.extend(users.into_iter().filter(|user| query.filter.matches(user)));
        }
        Ok(matching)
    }
}
