//! Operations of the host on all users, without an access token.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    ReferralService,
    users::{ListUsers, Page},
};
use crate::{
    audit::Actor,
    error::{Error, refusal::Refusal},
    events::{Event, SessionEnd, SessionEnded},
    storage::{AddedUser, PageStart, UserQuery},
    user::{
        AddUserRequest, NewUser, User, UserId,
        change::{UserChange, UserChangeRequest},
        external_id::ExternalId,
        listing::{PageSize, UserFilter},
        metadata::Metadata,
        phone::PhoneNumber,
        staff_role::StaffRole,
    },
};

/// Caller of lists of the host. Expensive lists of one caller run one at a time.
pub(super) const HOST: UserId = UserId(Uuid::nil());

/// Request to create a user without a message and a sign-in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CreateUser {
    /// Phone of the user.
    pub phone: PhoneNumber,
    /// Id of the user in the system of the host.
    pub external_id: Option<ExternalId>,
    /// Data of the host about the user.
    pub metadata: Metadata,
}

impl CreateUser {
    /// Creates a request for a user with this phone.
    #[must_use]
    pub fn new(phone: PhoneNumber) -> Self {
        Self { phone, external_id: None, metadata: Metadata::default() }
    }

    /// Sets the id of the user in the system of the host.
    #[must_use]
    pub fn external_id(mut self, external_id: impl Into<Option<ExternalId>>) -> Self {
        self.external_id = external_id.into();
        self
    }

    /// Sets the data of the host about the user.
    #[must_use]
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }
}

/// User with the phone of a [`CreateUser`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreatedUser {
    /// User.
    pub user: User,
    /// `false` if the phone had a user before. The user has not changed then.
    pub created: bool,
}

impl ReferralService {
    /// Returns a user with all data, for the host itself. [`user`](Self::user) returns what another user may see.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`].
    pub async fn find_user(&self, id: UserId) -> Result<Option<User>, Error> {
        Ok(self.inner.storage.user(id, 0).await?.map(|found| found.user))
    }

    /// Returns the user with a phone, for the host itself.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`].
    pub async fn find_user_by_phone(&self, phone: &PhoneNumber) -> Result<Option<User>, Error> {
        self.find_one(UserFilter { phone: Some(phone.clone()), ..UserFilter::default() }).await
    }

    /// Returns the user with an external id, for the host itself.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`].
    pub async fn find_user_by_external_id(&self, id: &ExternalId) -> Result<Option<User>, Error> {
        self.find_one(UserFilter { external_id: Some(id.clone()), ..UserFilter::default() }).await
    }

    /// Returns the user who matches a filter of a unique value.
    async fn find_one(&self, filter: UserFilter) -> Result<Option<User>, Error> {
        let query = UserQuery { start: PageStart::START, limit: PageSize::default(), filter, caller: HOST };
        Ok(self.inner.storage.users(&query).await??.items.pop())
    }

    /// Returns a page of users with all data, newest first, for the host itself. A search finds what staff would
    /// find.
    ///
    /// # Errors
    ///
    /// As for [`users`](Self::users), except [`Refusal::StaffOnly`].
    pub async fn find_users(&self, list: ListUsers<'_>) -> Result<Page<User>, Error> {
        self.page(list, HOST, true).await
    }

    /// Creates a user without a message and a sign-in. If the phone has a user, returns that user without
    /// changes.
    ///
    /// # Errors
    ///
    /// [`Refusal::ExternalIdTaken`]; [`Refusal::TestNumber`]; [`Refusal::PhoneNotAllowed`] for a phone that
    /// cannot receive a code.
    pub async fn create_user(&self, request: CreateUser) -> Result<CreatedUser, Error> {
        let service = self.clone();
        self.complete(async move {
            let request = service.create_user_request(request)?;
            service.add_user(&request).await
        })
        .await
    }

    /// Returns the request with which a storage creates a user in a transaction of the host, such as
    /// `PostgresStorage::add_user_in` of `referral-sqlx`. After the commit, the host calls
    /// [`emit_user_created`](Self::emit_user_created).
    ///
    /// # Errors
    ///
    /// [`Refusal::TestNumber`]; [`Refusal::PhoneNotAllowed`] for a phone that cannot receive a code.
    pub fn create_user_request(&self, request: CreateUser) -> Result<AddUserRequest, Error> {
        let CreateUser { phone, external_id, metadata } = request;
        let request = self.add_user_request(phone)?;
        Ok(AddUserRequest { new_user: NewUser { external_id, metadata, ..request.new_user }, ..request })
    }

    /// Emits the event of a user that a storage has created in a transaction of the host. Call it after the
    /// commit.
    pub async fn emit_user_created(&self, request: &AddUserRequest, added: AddedUser) -> CreatedUser {
        let AddedUser { user, ended_sessions, audit } = added;
        let created = user.id == request.new_user.id;
        if created {
            self.emit(Event::UserCreated(user.clone())).await;
        }
        for session in ended_sessions {
            self.emit(Event::SessionEnded(SessionEnded {
                user: user.id,
                session,
                reason: SessionEnd::BecameStaff,
            }))
            .await;
        }
        self.emit_audited(audit.as_ref()).await;
        CreatedUser { user, created }
    }

    /// Gives the user with this phone at least this role, and creates the user first if there is none. Ends the
    /// sessions of a user who had fewer rights before.
    ///
    /// # Errors
    ///
    /// [`Refusal::TestNumber`]; [`Refusal::PhoneNotAllowed`] for a phone that cannot receive a code.
    pub async fn make_staff(&self, phone: PhoneNumber, role: StaffRole) -> Result<User, Error> {
        let service = self.clone();
        self.complete(async move {
            let mut request = service.add_user_request(phone)?;
            request.new_user.staff_role = Some(role);
            request.audit = Some(service.audit_context(Actor::Host, None));
            Ok(service.add_user(&request).await?.user)
        })
        .await
    }

    fn add_user_request(&self, phone: PhoneNumber) -> Result<AddUserRequest, Error> {
        let now = self.now();
        if self.policy().test_number(&phone, now).is_some() {
            return Err(Refusal::TestNumber.into());
        }
        if !phone.may_be_mobile() {
            return Err(Refusal::PhoneNotAllowed.into());
        }
        Ok(AddUserRequest { new_user: self.new_user(phone, now), now, audit: None })
    }

    async fn add_user(&self, request: &AddUserRequest) -> Result<CreatedUser, Error> {
        let added = self.inner.storage.add_user(request).await??;
        Ok(self.emit_user_created(request, added).await)
    }

    /// Changes a user: applies all changes, or none. The change has no entry in the audit log:
    /// [`Administration::change_user`](crate::Administration::change_user) adds one.
    ///
    /// # Errors
    ///
    /// As for [`Administration::change_user`](crate::Administration::change_user), except
    /// [`Refusal::AdminOnly`].
    pub async fn change_user(&self, id: UserId, change: UserChange) -> Result<User, Error> {
        Ok(self.perform_change(self.change_user_request(id, change)).await?.user)
    }

    /// Returns the request with which a storage changes a user in a transaction of the host, such as
    /// `PostgresStorage::change_user_in` of `referral-sqlx`. After the commit, the host calls
    /// [`emit_user_changed`](Self::emit_user_changed).
    #[must_use]
    pub fn change_user_request(&self, id: UserId, change: UserChange) -> UserChangeRequest {
        let policy = Arc::clone(&self.inner.policy);
        UserChangeRequest { user: id, change, now: self.now(), policy, audit: None }
    }

    /// Activates or deactivates a user. The sessions of an inactive user end.
    ///
    /// # Errors
    ///
    /// [`Refusal::UserNotFound`], [`Refusal::LastAdmin`].
    pub async fn set_active(&self, id: UserId, is_active: bool) -> Result<User, Error> {
        self.change_user(id, UserChange { is_active: Some(is_active), ..UserChange::default() }).await
    }
}
