//! Operations of staff and of the host on users, each with its entry in the audit log.

use super::{
    ReferralService,
    users::{ListUsers, Page},
};
use crate::{
    audit::{Actor, AuditAction, AuditContext, AuditEntry, AuditEntryId, AuditPage, AuditQuery, Reason},
    error::{Error, refusal::Refusal},
    events::{Event, SessionEnd, SessionEnded},
    invite::invitation::Invitation,
    otp::code_request::CodeRequestView,
    rate_limit::unlock::UnlockRequest,
    service::sessions::CurrentUser,
    session::{Session, SessionSelection},
    user::{
        Invitee, User, UserId, UserWithInvited,
        change::{ChangedUser, UserChange, UserChangeRequest},
        external_id::ExternalId,
        listing::FilterInput,
        phone::PhoneNumber,
        search::without_trunk_prefix,
        staff_role::StaffRole,
    },
};

/// Operations on all users in the name of one member of staff, or of the host.
///
/// Support may read, unlock phones and end sessions. Admins may do everything. Each change has a reason, and
/// its entry in the audit log is committed with it.
#[derive(Clone)]
pub struct Administration {
    service: ReferralService,
    actor: Actor,
    role: StaffRole,
}

/// User with everything that staff see.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UserDetails {
    /// User.
    pub user: User,
    /// Newest invitees, at most [`INVITED_SHOWN`](ReferralService::INVITED_SHOWN).
    pub invited: Vec<Invitee>,
    /// Invitation that the user accepted.
    pub invitation: Option<Invitation>,
    /// Inviter of the user. `None` also if the inviter was deleted.
    pub inviter: Option<User>,
    /// Active sessions, newest first, at most [`SESSIONS_SHOWN`](ReferralService::SESSIONS_SHOWN).
    pub sessions: Vec<Session>,
    /// Other users who had the phone and lost it, newest first, at most
    /// [`FORMER_USERS_SHOWN`](ReferralService::FORMER_USERS_SHOWN).
    pub former_users: Vec<User>,
}

impl ReferralService {
    /// Returns the operations of staff for the current user.
    ///
    /// # Errors
    ///
    /// [`Refusal::StaffOnly`].
    pub fn administration(&self, current_user: &CurrentUser) -> Result<Administration, Error> {
        let User { id, staff_role, .. } = current_user.user;
        let role = staff_role.ok_or(Refusal::StaffOnly)?;
        Ok(Administration { service: self.clone(), actor: Actor::User(id), role })
    }

    /// Returns the operations of staff with all rights, for the host itself.
    #[must_use]
    pub fn host_administration(&self) -> Administration {
        Administration { service: self.clone(), actor: Actor::Host, role: StaffRole::Admin }
    }

    /// Returns the data for an entry of the audit log.
    pub(super) fn audit_context(&self, actor: Actor, reason: Option<Reason>) -> AuditContext {
        AuditContext { id: AuditEntryId(self.generate_id()), at: self.now(), actor, reason }
    }
}

impl Administration {
    /// Returns the role that limits the operations.
    #[must_use]
    pub fn role(&self) -> StaffRole {
        self.role
    }

    /// Returns the service.
    #[must_use]
    pub fn service(&self) -> &ReferralService {
        &self.service
    }

    /// Refuses an operation on a user with a higher role: it would weaken the protection of the account.
    fn may_affect(&self, user: &User) -> Result<(), Refusal> {
        if user.staff_role > Some(self.role) { Err(Refusal::AdminOnly) } else { Ok(()) }
    }

    pub(super) fn actor(&self) -> Actor {
        self.actor
    }

    pub(super) fn require(&self, role: StaffRole) -> Result<(), Refusal> {
        if self.role >= role { Ok(()) } else { Err(Refusal::AdminOnly) }
    }

    /// Returns a page of users with all data, newest first. A search for the id of a user finds that user. If a
    /// search finds no user, the user with this external id is returned, or the users with this phone without
    /// the prefix that is dialed before it inside a country, such as the 8 in `8 960 854-30-17`, or else the users
    /// who had this phone and lost it.
    ///
    /// # Errors
    ///
    /// As for [`ReferralService::users`].
    pub async fn find_users(&self, list: ListUsers<'_>) -> Result<Page<User>, Error> {
        let search = list.filter.search.map(str::trim);
        if let Some(id) = search.and_then(|search| search.parse::<UserId>().ok()) {
            return Ok(one(self.service.find_user(id).await?));
        }
        let caller = self.actor.user().unwrap_or(super::host::HOST);
        let page = self.service.page(list, caller, true).await?;
        let Some(search) = search.filter(|_| page.count == 0) else {
            return Ok(page);
        };
        if let Ok(id) = ExternalId::parse(search)
            && let Some(user) = self.service.find_user_by_external_id(&id).await?
        {
            return Ok(one(Some(user)));
        }
        let page = match without_trunk_prefix(search) {
            Some(phone) => {
                let filter = FilterInput { search: Some(&phone), ..list.filter };
                self.service.page(ListUsers { filter, ..list }, caller, true).await?
            }
            None => page,
        };
        match PhoneNumber::parse(search, self.service.policy().default_region) {
            Ok(phone) if page.count == 0 => {
                let limit = ReferralService::FORMER_USERS_SHOWN;
                Ok(all(self.service.inner.storage.former_users(&phone, limit).await?))
            }
            _ => Ok(page),
        }
    }

    /// Returns a user with everything that staff see.
    ///
    /// # Errors
    ///
    /// [`Refusal::UserNotFound`].
    pub async fn user(&self, id: UserId) -> Result<UserDetails, Error> {
        let storage = &self.service.inner.storage;
        let found = storage.user(id, ReferralService::INVITED_SHOWN).await?.ok_or(Refusal::UserNotFound)?;
        let invitation = storage.invitation(id).await?;
        let inviter = match &invitation {
            Some(invitation) => self.service.find_user(invitation.inviter).await?,
            None => None,
        };
        let sessions =
            storage.sessions(id, self.service.now(), None, ReferralService::SESSIONS_SHOWN).await?;
        let former = storage.former_users(&found.user.phone, ReferralService::FORMER_USERS_SHOWN).await?;
        let former_users = former.into_iter().filter(|former| former.id != id).collect();
        let UserWithInvited { user, invited } = found;
        Ok(UserDetails { user, invited, invitation, inviter, sessions, former_users })
    }

    /// Changes a user: applies all changes, or none. If nothing changes, there is no entry in the audit log.
    ///
    /// A changed inviter is not an accepted invitation: it has no
    /// [`InvitationAccepted`](Event::InvitationAccepted), so that no reward is given twice.
    ///
    /// # Errors
    ///
    /// [`Refusal::AdminOnly`], [`Refusal::UserNotFound`], [`Refusal::EmailTaken`], [`Refusal::PhoneTaken`],
    /// [`Refusal::ExternalIdTaken`], [`Refusal::UnknownInviteCode`], [`Refusal::OwnInviteCode`],
    /// [`Refusal::InvitationLoop`], [`Refusal::LastAdmin`]; [`Refusal::TestNumber`] if a user with a test number
    /// would become staff, or staff would get a test number.
    pub async fn change_user(&self, id: UserId, change: UserChange, reason: Reason) -> Result<User, Error> {
        self.require(StaffRole::Admin)?;
        let audit = self.service.audit_context(self.actor, Some(reason));
        let request =
            UserChangeRequest { audit: Some(audit), ..self.service.change_user_request(id, change) };
        Ok(self.service.perform_change(request).await?.user)
    }

    /// Ends all sessions of a user. Returns the number of ended sessions.
    ///
    /// # Errors
    ///
    /// [`Refusal::UserNotFound`]; [`Refusal::AdminOnly`] if the user has a higher role.
    pub async fn end_sessions(&self, id: UserId, reason: Reason) -> Result<u64, Error> {
        self.may_affect(&self.service.find_user(id).await?.ok_or(Refusal::UserNotFound)?)?;
        let audit = self.service.audit_context(self.actor, Some(reason));
        let entry = audit.entry(AuditAction::SessionsEnded, Some(id), Vec::new());
        self.service.end_sessions(id, SessionSelection::All, SessionEnd::EndedByStaff, Some(entry)).await
    }

    /// Deletes a user, as [`ReferralService::delete_user`] does. Returns the user as before.
    ///
    /// The entry in the audit log keeps the reason, so the reason must not have personal data.
    ///
    /// # Errors
    ///
    /// [`Refusal::AdminOnly`], [`Refusal::UserNotFound`], [`Refusal::LastAdmin`].
    pub async fn delete_user(&self, id: UserId, reason: Reason) -> Result<User, Error> {
        self.require(StaffRole::Admin)?;
        self.service.delete_user_as(id, Some(self.service.audit_context(self.actor, Some(reason)))).await
    }

    /// Resets the counters of a phone: its codes, wrong codes, unknown invite codes and edits of the email
    /// address. The limits of addresses and number ranges still apply.
    ///
    /// # Errors
    ///
    /// [`Refusal::AdminOnly`] if the user with the phone has a higher role.
    pub async fn unlock_phone(&self, phone: PhoneNumber, reason: Reason) -> Result<AuditEntry, Error> {
        if let Some(user) = self.service.find_user_by_phone(&phone).await? {
            self.may_affect(&user)?;
        }
        let audit = self.service.audit_context(self.actor, Some(reason));
        let service = self.service.clone();
        let unlock = async move {
            let entry = service.inner.storage.unlock_phone(&UnlockRequest { phone, audit }).await?;
            service.emit(Event::Audited(entry.clone())).await;
            Ok(entry)
        };
        self.service.complete(unlock).await
    }

    /// Returns the newest requests for codes of a phone, and attempts to redeem them. They show why no code
    /// arrived, or why a code was refused. See [`ReferralService::code_requests`].
    ///
    /// # Errors
    ///
    /// [`Error::Storage`].
    pub async fn code_requests(&self, phone: &PhoneNumber) -> Result<Vec<CodeRequestView>, Error> {
        self.service.code_requests(phone).await
    }

    /// Returns a page of the audit log, newest first.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`].
    pub async fn audit_log(&self, query: &AuditQuery) -> Result<AuditPage, Error> {
        Ok(self.service.inner.storage.audit_log(query).await?)
    }
}

/// Returns the page of a search for a unique value.
fn one(user: Option<User>) -> Page<User> {
    all(user.into_iter().collect())
}

/// Returns the only page of a list.
fn all(items: Vec<User>) -> Page<User> {
    Page { count: items.len() as u64, items, count_exact: true, next: None, previous: None }
}

impl ReferralService {
    /// Stores a change of a user, and emits its events.
    pub(super) async fn perform_change(&self, request: UserChangeRequest) -> Result<ChangedUser, Error> {
        let service = self.clone();
        let change = async move {
            let changed = service.inner.storage.change_user(&request).await??;
            service.emit_user_changed(&changed).await;
            Ok(changed)
        };
        self.complete(change).await
    }

    /// Emits the events of a user that a storage has changed in a transaction of the host. Call it after the
    /// commit.
    pub async fn emit_user_changed(&self, changed: &ChangedUser) {
        let ChangedUser { user, session_end, ended_sessions, deletion_canceled, audit } = changed;
        if *deletion_canceled {
            self.emit(Event::DeletionCanceled(user.id)).await;
        }
        for session in ended_sessions {
            let (user, session) = (user.id, *session);
            let reason = session_end.unwrap_or(SessionEnd::EndedByStaff);
            self.emit(Event::SessionEnded(SessionEnded { user, session, reason })).await;
        }
        self.emit_audited(audit.as_ref()).await;
    }

    pub(super) async fn emit_audited(&self, entry: Option<&AuditEntry>) {
        if let Some(entry) = entry {
            self.emit(Event::Audited(entry.clone())).await;
        }
    }
}
