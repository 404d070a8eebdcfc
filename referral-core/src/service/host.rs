//! Operations of the host on all users, without an access token.

use uuid::Uuid;

use super::{
    ReferralService,
    users::{ListUsers, Page},
};
use crate::{
    error::Error,
    storage::{PageStart, UserQuery},
    user::{
        User, UserId,
        listing::{PageSize, UserFilter},
        phone::PhoneNumber,
    },
};

/// Caller of lists of the host. Expensive lists of one caller run one at a time.
const HOST: UserId = UserId(Uuid::nil());

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
        let filter = UserFilter { phone: Some(phone.clone()), ..UserFilter::default() };
        let query = UserQuery { start: PageStart::START, limit: PageSize::default(), filter, caller: HOST };
        Ok(self.inner.storage.users(&query).await??.items.pop())
    }

    /// Returns a page of users with all data, newest first, for the host itself. A search finds what staff would
    /// find.
    ///
    /// # Errors
    ///
    /// As for [`users`](Self::users), except [`Refusal::StaffOnly`](crate::Refusal::StaffOnly).
    pub async fn find_users(&self, list: ListUsers<'_>) -> Result<Page<User>, Error> {
        self.page(list, HOST, true).await
    }

    /// Creates a user without a message and a sign-in. Returns the user with this phone if there is one.
    ///
    /// # Errors
    ///
    /// [`Refusal::TestNumber`](crate::Refusal::TestNumber);
    /// [`Refusal::PhoneNotAllowed`](crate::Refusal::PhoneNotAllowed) for a phone that cannot receive a code.
    pub async fn create_user(&self, phone: PhoneNumber) -> Result<User, Error> {
        let service = self.clone();
        self.complete(async move { service.add_user(phone, false).await }).await
    }
}
