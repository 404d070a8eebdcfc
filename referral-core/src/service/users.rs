//! Operations of [`ReferralService`] on users and on the own profile.

use std::sync::Arc;

use super::{ReferralService, gate::ForGate};
use crate::{
    error::{Error, refusal::Refusal},
    events::Event,
    gate::{Context, approval::Approval},
    rate_limit::client::Client,
    service::sessions::CurrentUser,
    sms::locale::Locale,
    user::{
        User, UserId,
        cursor::Cursors,
        listing::{FilterInput, PageSize, PageStart, UserQuery},
        profile::{EditedProfile, ProfileChange, ProfileEdit, ProfileOutcome},
        visibility::{InviteeView, ProfileView, UserView, Viewer},
    },
};

/// Request for a page of users.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListUsers<'a> {
    /// Number of users to return.
    pub limit: PageSize,
    /// Number of the newest users to skip, at most [`MAX_OFFSET`](Self::MAX_OFFSET). The cost grows with it,
    /// while the cost of a cursor is the same at any depth.
    pub offset: Option<u64>,
    /// Cursor from another page. It takes precedence over the offset.
    pub cursor: Option<&'a str>,
    /// Filter of the users.
    pub filter: FilterInput<'a>,
}

/// Page of a list.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Page<T> {
    /// Items, newest first.
    pub items: Vec<T>,
    /// Number of all items: at most [`COUNT_LIMIT`](crate::storage::UserQuery::COUNT_LIMIT) for a list of
    /// users with a filter, and exact otherwise.
    pub count: u64,
    /// `true` if `count` is exact.
    pub count_exact: bool,
    /// Link to the page of older items, or `None` if there are none.
    pub next: Option<PageLink>,
    /// Link to the page of newer items, or `None` if there are none. It is always `None` for invitees.
    pub previous: Option<PageLink>,
}

/// Request for a page of the users that a user invited.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ListInvitees<'a> {
    /// Inviter.
    pub inviter: UserId,
    /// Number of invitees to return.
    pub limit: PageSize,
    /// Cursor from another page.
    pub cursor: Option<&'a str>,
}

impl<'a> ListInvitees<'a> {
    /// Creates a request for the first page of the users that `inviter` invited.
    #[must_use]
    pub fn new(inviter: UserId) -> Self {
        Self { inviter, limit: PageSize::default(), cursor: None }
    }

    /// Sets the number of invitees to return.
    #[must_use]
    pub fn limit(mut self, limit: PageSize) -> Self {
        self.limit = limit;
        self
    }

    /// Sets the cursor from another page.
    #[must_use]
    pub fn cursor(mut self, cursor: impl Into<Option<&'a str>>) -> Self {
        self.cursor = cursor.into();
        self
    }
}

/// Request to change the own profile.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EditProfile {
    /// Changes.
    pub change: ProfileChange,
    /// Client that sends the request.
    pub client: Client,
    /// Languages of the client, in order of preference, for the [gate](crate::gate).
    pub locales: Vec<Locale>,
    /// Context of the request, for the [gate](crate::gate).
    pub context: Context,
}

impl EditProfile {
    /// Creates a request to change the own profile.
    #[must_use]
    pub fn new(change: ProfileChange) -> Self {
        let (locales, context) = (Vec::new(), Context::default());
        Self { change, client: Client::default(), locales, context }
    }

    /// Sets the client that sends the request.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }

    /// Sets the languages of the client. Only the [gate](crate::gate) receives them.
    #[must_use]
    pub fn locales(mut self, locales: impl Into<Vec<Locale>>) -> Self {
        self.locales = locales.into();
        self
    }

    /// Sets the context of the request, such as the token of a captcha. Only the [gate](crate::gate) receives
    /// it.
    #[must_use]
    pub fn context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }
}

/// Link to another page.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the embedding service writes each variant as a URL")]
pub enum PageLink {
    /// Page at this offset.
    Offset(u64),
    /// Page at this cursor.
    Cursor(String),
}

impl ListUsers<'_> {
    /// Largest offset of a page of users. A page by offset reads every row before it, so its cost grows with
    /// the offset: 100 000 rows take about ten milliseconds on either database. No person pages that far, and
    /// a program uses a cursor.
    pub const MAX_OFFSET: u64 = 100_000;
}

impl ReferralService {
    /// Returns the user of an access token, with one call of the storage.
    ///
    /// # Errors
    ///
    /// [`Refusal::TokenNotValid`].
    pub async fn current_user(&self, access_token: &str) -> Result<ProfileView, Error> {
        let found = self.session_of(access_token, Self::INVITED_SHOWN).await?.user;
        let own = found.user.clone();
        let viewer = Viewer { user: &own, visibility: self.policy().visibility };
        Ok(viewer.profile(found))
    }

    /// Returns a user, as the current user may see them.
    ///
    /// # Errors
    ///
    /// [`Refusal::UserNotFound`], [`Refusal::StaffOnly`].
    pub async fn user(&self, current_user: &CurrentUser, id: UserId) -> Result<ProfileView, Error> {
        let viewer = self.viewer(current_user);
        viewer.may_see(id)?;
        let found = self.inner.storage.user(id, Self::INVITED_SHOWN).await?;
        let found = found.filter(|found| found.user.has_phone() || current_user.user.is_staff());
        Ok(viewer.profile(found.ok_or(Refusal::UserNotFound)?))
    }

    /// Returns a page of users, newest first, as the current user may see them.
    ///
    /// # Errors
    ///
    /// [`Refusal::InvalidCursor`], [`Refusal::InvalidOffset`], [`Refusal::InvalidSearch`],
    /// [`Refusal::SearchTooBroad`], [`Refusal::StaffOnly`].
    pub async fn users(
        &self,
        current_user: &CurrentUser,
        list: ListUsers<'_>,
    ) -> Result<Page<UserView>, Error> {
        let viewer = self.viewer(current_user);
        viewer.may_list(&list.filter)?;
        let page = self.page(list, current_user.user.id, viewer.sees_private());
        let Page { items, count, count_exact, next, previous } = page.await?;
        let items = items.into_iter().map(|user| viewer.user(user)).collect();
        Ok(Page { items, count, count_exact, next, previous })
    }

    /// Returns a page of users for `caller`. A search also finds private data if `sees_private` is `true`.
    pub(super) async fn page(
        &self,
        list: ListUsers<'_>,
        caller: UserId,
        sees_private: bool,
    ) -> Result<Page<User>, Error> {
        let start = match (list.cursor, list.offset) {
            (Some(cursor), _) => self.cursors().open(cursor)?,
            (None, Some(offset)) if offset > ListUsers::MAX_OFFSET => {
                return Err(Refusal::InvalidOffset.into());
            }
            (None, offset) => PageStart::Offset(offset.unwrap_or(0)),
        };
        if list.filter.search.is_some_and(|search| FilterInput::check_search(search).is_err()) {
            return Err(Refusal::InvalidSearch.into());
        }
        let Some(filter) = list.filter.parse(self.policy().default_region, sees_private) else {
            return Ok(Page { items: Vec::new(), count: 0, count_exact: true, next: None, previous: None });
        };
        let query = UserQuery { start, limit: list.limit, filter, caller };
        let found = self.inner.storage.users(&query).await??;

        let ends = found.items.first().zip(found.items.last()).map(|(first, last)| (first.id, last.id));
        let (next, previous) = self.links(list, start, ends, found.has_more);
        Ok(Page { items: found.items, count: found.count, count_exact: found.count_exact, next, previous })
    }

    /// Returns a page of the users that a user invited, newest first, as the current user may see them.
    ///
    /// # Errors
    ///
    /// [`Refusal::UserNotFound`], [`Refusal::StaffOnly`], [`Refusal::InvalidCursor`].
    pub async fn invitees(
        &self,
        current_user: &CurrentUser,
        list: ListInvitees<'_>,
    ) -> Result<Page<InviteeView>, Error> {
        let viewer = self.viewer(current_user);
        let ListInvitees { inviter, limit, cursor } = list;
        viewer.may_see(inviter)?;
        let older_than = match cursor.map(|cursor| self.cursors().open(cursor)).transpose()? {
            None => None,
            Some(PageStart::OlderThan(id)) => Some(id),
            Some(_) => return Err(Refusal::InvalidCursor.into()),
        };
        let found = self.inner.storage.invitees(inviter, older_than, limit).await?;
        let found = found.ok_or(Refusal::UserNotFound)?;
        let last = found.items.last().filter(|_| found.has_more).map(|invitee| invitee.id);
        let next = last.and_then(|id| self.cursors().seal(PageStart::OlderThan(id)));
        Ok(Page {
            items: found.items.iter().map(|invitee| viewer.invitee(invitee)).collect(),
            count: found.count,
            count_exact: found.count_exact,
            next: next.map(PageLink::Cursor),
            previous: None,
        })
    }

    /// Changes the profile of the current user: applies all changes, or none.
    ///
    /// # Errors
    ///
    /// [`Refusal::EmailTaken`], [`Refusal::InvitationAlreadyAccepted`], [`Refusal::UnknownInviteCode`],
    /// [`Refusal::OwnInviteCode`], [`Refusal::InvitationLoop`]; [`Error::ProfileRefused`] if there are
    /// several of them. [`Refusal::TooManyRequests`] for a change with an invite code, if too many unknown
    /// ones were given or too many invitations were rejected by the gate, or with an email address, if too
    /// many were set. With an invite code also [`Refusal::RejectedByHost`] and [`Error::GateFailed`], if
    /// there is a [gate](crate::gate).
    pub async fn edit_profile(
        &self,
        current_user: &CurrentUser,
        request: EditProfile,
    ) -> Result<ProfileView, Error> {
        let (service, current_user) = (self.clone(), current_user.clone());
        self.complete(async move { service.perform_edit(&current_user, request).await }).await
    }

    async fn perform_edit(
        &self,
        current_user: &CurrentUser,
        request: EditProfile,
    ) -> Result<ProfileView, Error> {
        let EditProfile { change, client, locales, context } = request;
        let mut edit = ProfileEdit {
            user: current_user.user.id,
            change,
            now: self.now(),
            phone: current_user.user.phone.clone(),
            address: client.address,
            approval: self.approval(),
            policy: Arc::clone(&self.inner.policy),
        };
        let edited = self.approved_edit(&mut edit, &ForGate { client, locales, context }).await?;
        if let Some(invitation) = edited.accepted {
            self.emit(Event::InvitationAccepted(invitation)).await;
        }
        self.own_profile(current_user).await
    }

    /// Returns the current user as stored now.
    pub(super) async fn own_profile(&self, current_user: &CurrentUser) -> Result<ProfileView, Error> {
        let found = self.inner.storage.user(current_user.user.id, Self::INVITED_SHOWN).await?;
        Ok(self.viewer(current_user).profile(found.ok_or(Refusal::UserNotFound)?))
    }

    /// Stores an edit, after the gate has allowed its invitation. If the facts change meanwhile, the gate is
    /// asked again, up to the limit on questions.
    async fn approved_edit(
        &self,
        edit: &mut ProfileEdit,
        for_gate: &ForGate,
    ) -> Result<EditedProfile, Error> {
        loop {
            let outcome =
                self.inner.storage.edit_profile(edit).await?.map_err(|mut refusals| {
                    match refusals.len() {
                        1 => Error::Refused(refusals.remove(0)),
                        _ => Error::ProfileRefused(refusals),
                    }
                })?;
            match outcome {
                ProfileOutcome::Edited(edited) => return Ok(edited),
                ProfileOutcome::NeedsApproval(changes) => {
                    self.approve_changes(&edit.phone, for_gate, &changes).await?;
                    edit.approval = Approval::Granted(changes);
                }
            }
        }
    }

    pub(super) fn viewer<'a>(&self, current_user: &'a CurrentUser) -> Viewer<'a> {
        Viewer::new(&current_user.user, self.policy().visibility)
    }

    fn cursors(&self) -> Cursors {
        Cursors(Arc::clone(&self.secrets().peppers))
    }

    /// Returns the links `(next, previous)` of a page of users: `next` leads to older users, and `previous`
    /// to newer ones. A link is `None` if there is no such page. `start` is the start of this page, and
    /// `ends` are its first and its last user.
    ///
    /// The links of a page by offset are [`PageLink::Offset`], except that a `next` beyond
    /// [`ListUsers::MAX_OFFSET`] is a [`PageLink::Cursor`]. The links of all other pages are
    /// [`PageLink::Cursor`].
    fn links(
        &self,
        list: ListUsers<'_>,
        start: PageStart,
        ends: Option<(UserId, UserId)>,
        has_more: bool,
    ) -> (Option<PageLink>, Option<PageLink>) {
        let limit = u64::from(list.limit.get());
        let cursor = |start| self.cursors().seal(start).map(PageLink::Cursor);
        let older = || ends.and_then(|(_, last)| cursor(PageStart::OlderThan(last)));
        let newer = || ends.and_then(|(first, _)| cursor(PageStart::NewerThan(first)));
        match start {
            PageStart::Offset(offset) if list.offset.is_some() => {
                let next = Some(offset.saturating_add(limit)).filter(|next| *next <= ListUsers::MAX_OFFSET);
                let next = next.map(PageLink::Offset).or_else(older);
                let previous = (offset > 0).then(|| PageLink::Offset(offset.saturating_sub(limit)));
                (next.filter(|_| has_more), previous)
            }
            PageStart::Offset(_) => (older().filter(|_| has_more), None),
            PageStart::OlderThan(_) => (older().filter(|_| has_more), newer()),
            PageStart::NewerThan(_) => (older(), newer().filter(|_| has_more)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys::{Peppers, SigningKeys},
        sms::DevelopmentSender,
        storage::MemoryStorage,
        user::tests::user,
    };

    #[test]
    fn pages_beyond_the_largest_offset_are_linked_by_cursor() {
        let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("long enough");
        let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
        let storage = Arc::new(MemoryStorage::new());
        let referral = ReferralService::builder(storage, Arc::new(DevelopmentSender), keys, peppers);
        let referral = referral.build().expect("the policy and the key are valid");
        let links = |offset| {
            let list = ListUsers { offset: Some(offset), ..ListUsers::default() };
            referral.links(list, PageStart::Offset(offset), Some((user(2).id, user(1).id)), true)
        };
        let (next, previous) = links(ListUsers::MAX_OFFSET - 10);
        assert_eq!(next, Some(PageLink::Offset(ListUsers::MAX_OFFSET)));
        assert_eq!(previous, Some(PageLink::Offset(ListUsers::MAX_OFFSET - 20)));
        let (next, previous) = links(ListUsers::MAX_OFFSET - 9);
        let Some(PageLink::Cursor(cursor)) = next else { panic!("{next:?}") };
        assert_eq!(referral.cursors().open(&cursor), Ok(PageStart::OlderThan(user(1).id)));
        assert_eq!(previous, Some(PageLink::Offset(ListUsers::MAX_OFFSET - 19)));
    }
}
