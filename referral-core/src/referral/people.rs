//! The part of the handle that shows users and edits one's own profile.

use std::sync::Arc;

use super::{INVITED_SHOWN, Referral};
use crate::{
    Bearer, Client, Error, Event, FilterInput, InviteeView, MAX_OFFSET, PageSize, PhoneNumber, Position,
    ProfileChange, ProfileView, Refusal, SessionEnd, User, UserId, UserView, check_search, cursor::Cursors,
    profile::ProfileEdit, storage::NewStaff, users::UserQuery, visibility::Viewer,
};

/// A page of users that is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListUsers<'a> {
    /// How many users to show.
    pub limit: PageSize,
    /// Number of the newest users to leave out, at most [`MAX_OFFSET`]. The cost grows with it, while a
    /// cursor costs the same at any depth.
    pub offset: Option<u64>,
    /// A cursor from another page; goes before the offset.
    pub cursor: Option<&'a str>,
    /// Which users to show.
    pub filter: FilterInput<'a>,
}

/// A page of users.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UserList {
    /// The users, newest first.
    pub users: Vec<UserView>,
    /// How many there are in all: exact without a filter, and up to
    /// [`COUNT_LIMIT`](crate::COUNT_LIMIT) with one.
    pub count: u64,
    /// Whether there are no more than `count`.
    pub count_exact: bool,
    /// Where older users are.
    pub next: Option<PageLink>,
    /// Where newer users are.
    pub previous: Option<PageLink>,
}

/// Where another page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageLink {
    /// At this offset.
    Offset(u64),
    /// At this cursor.
    Cursor(String),
}

/// A page of somebody's invitees.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InviteeList {
    /// The invitees, newest users first.
    pub invitees: Vec<InviteeView>,
    /// How many there are in all.
    pub count: u64,
    /// The cursor of the next page.
    pub next: Option<String>,
}

impl Referral {
    /// The user whose access token it is, in one step of the storage.
    ///
    /// # Errors
    ///
    /// [`Refusal::TokenNotValid`].
    pub async fn current_user(&self, access_token: &str) -> Result<ProfileView, Error> {
        let found = self.session_of(access_token, INVITED_SHOWN).await?.user;
        let own = found.user.clone();
        let viewer = Viewer { user: &own, visibility: self.policy().visibility };
        Ok(viewer.profile(found))
    }

    /// A user, as the bearer may see them.
    ///
    /// # Errors
    ///
    /// [`Refusal::UserNotFound`], [`Refusal::StaffOnly`].
    pub async fn user(&self, bearer: &Bearer, id: UserId) -> Result<ProfileView, Error> {
        let viewer = self.viewer(bearer);
        viewer.may_see(id)?;
        let found = self.inner.storage.user(id, INVITED_SHOWN).await?;
        Ok(viewer.profile(found.ok_or(Refusal::UserNotFound)?))
    }

    /// Returns a page of users, newest first, as the bearer may see them.
    ///
    /// # Errors
    ///
    /// [`Refusal::InvalidCursor`], [`Refusal::InvalidOffset`], [`Refusal::InvalidSearch`],
    /// [`Refusal::SearchTooBroad`], [`Refusal::StaffOnly`].
    pub async fn users(&self, bearer: &Bearer, list: ListUsers<'_>) -> Result<UserList, Error> {
        let viewer = self.viewer(bearer);
        viewer.may_list(&list.filter)?;
        let position = match (list.cursor, list.offset) {
            (Some(cursor), _) => self.cursors().open(cursor)?,
            (None, Some(offset)) if offset > MAX_OFFSET => return Err(Refusal::InvalidOffset.into()),
            (None, offset) => Position::Offset(offset.unwrap_or(0)),
        };
        if list.filter.search.is_some_and(|search| check_search(search).is_err()) {
            return Err(Refusal::InvalidSearch.into());
        }
        let Some(filter) = list.filter.parse(self.policy().default_region, viewer.sees_private()) else {
            return Ok(UserList {
                users: Vec::new(),
                count: 0,
                count_exact: true,
                next: None,
                previous: None,
            });
        };
        let query = UserQuery { position, limit: list.limit, filter, caller: bearer.user.id };
        let found = self.inner.storage.users(&query).await??;

        let ends = found.users.first().zip(found.users.last()).map(|(first, last)| (first.id, last.id));
        let (next, previous) = self.links(list, position, ends, found.has_more);
        Ok(UserList {
            users: found.users.into_iter().map(|user| viewer.user(user)).collect(),
            count: found.count,
            count_exact: found.count_exact,
            next,
            previous,
        })
    }

    /// A page of those whom a user invited, newest users first, as the bearer may see them.
    ///
    /// # Errors
    ///
    /// [`Refusal::UserNotFound`], [`Refusal::StaffOnly`], [`Refusal::InvalidCursor`].
    pub async fn invitees(
        &self,
        bearer: &Bearer,
        inviter: UserId,
        limit: PageSize,
        cursor: Option<&str>,
    ) -> Result<InviteeList, Error> {
        let viewer = self.viewer(bearer);
        viewer.may_see(inviter)?;
        let older_than = match cursor.map(|cursor| self.cursors().open(cursor)).transpose()? {
            None => None,
            Some(Position::OlderThan(id)) => Some(id),
            Some(_) => return Err(Refusal::InvalidCursor.into()),
        };
        let found = self.inner.storage.invitees(inviter, older_than, limit).await?;
        let found = found.ok_or(Refusal::UserNotFound)?;
        let last = found.invitees.last().filter(|_| found.has_more).map(|invitee| invitee.id);
        Ok(InviteeList {
            next: last.and_then(|id| self.cursors().seal(Position::OlderThan(id))),
            count: found.count,
            invitees: found.invitees.iter().map(|invitee| viewer.invitee(invitee)).collect(),
        })
    }

    /// Changes the bearer's own profile: all of it, or nothing.
    ///
    /// # Errors
    ///
    /// [`Refusal::EmailTaken`], [`Refusal::InvitationAlreadyAccepted`],
    /// [`Refusal::UnknownInviteCode`], [`Refusal::OwnInviteCode`], [`Refusal::InvitationLoop`];
    /// [`Error::ProfileRefused`] for several at once. [`Refusal::TooManyRequests`] with an invite
    /// code, where too many unknown ones were given.
    pub async fn edit_profile(
        &self,
        bearer: &Bearer,
        change: ProfileChange,
        client: &Client,
    ) -> Result<ProfileView, Error> {
        let edit = ProfileEdit {
            user: bearer.user.id,
            change,
            now: self.now(),
            phone: bearer.user.phone.clone(),
            address: client.address,
            policy: Arc::clone(&self.inner.policy),
        };
        let edited =
            self.inner.storage.edit_profile(&edit).await?.map_err(|refusals| match refusals[..] {
                [refusal] => Error::Refused(refusal),
                _ => Error::ProfileRefused(refusals),
            })?;
        if let Some(invitation) = edited.accepted {
            self.tell(Event::InvitationAccepted(invitation)).await;
        }
        let found = self.inner.storage.user(bearer.user.id, INVITED_SHOWN).await?;
        Ok(self.viewer(bearer).profile(found.ok_or(Refusal::UserNotFound)?))
    }

    /// Makes the user with this phone staff; makes the user first, if there is none. The sessions of a user
    /// who was not staff before end.
    ///
    /// # Errors
    ///
    /// [`Refusal::TestNumber`]; [`Refusal::PhoneNotAllowed`] for a phone that could never get a code.
    pub async fn make_staff(&self, phone: PhoneNumber) -> Result<User, Error> {
        let now = self.now();
        if self.policy().test_number(&phone, now).is_some() {
            return Err(Refusal::TestNumber.into());
        }
        if !phone.may_be_mobile() {
            return Err(Refusal::PhoneNotAllowed.into());
        }
        let new = self.new_user(phone, now);
        let NewStaff { user, ended_sessions } = self.inner.storage.make_staff(&new, now).await?;
        if user.id == new.id {
            self.tell(Event::UserCreated(user.clone())).await;
        }
        for session in ended_sessions {
            self.tell(Event::SessionEnded { user: user.id, session, reason: SessionEnd::BecameStaff }).await;
        }
        Ok(user)
    }

    /// Lets a user sign in, or not. All tokens of an inactive user are not valid, from now on.
    ///
    /// # Errors
    ///
    /// [`Refusal::UserNotFound`].
    pub async fn set_active(&self, id: UserId, is_active: bool) -> Result<User, Error> {
        let user = self.inner.storage.set_active(id, is_active).await?;
        Ok(user.ok_or(Refusal::UserNotFound)?)
    }

    fn viewer<'a>(&self, bearer: &'a Bearer) -> Viewer<'a> {
        Viewer::new(bearer, self.policy().visibility)
    }

    fn cursors(&self) -> Cursors {
        Cursors(Arc::clone(&self.secrets().peppers))
    }

    /// The next and the previous page of a page that begins at `position` and whose first and
    /// last user are `ends`. One that was asked for by its offset leads to others like it, up to the
    /// largest offset, and from there on by a cursor.
    fn links(
        &self,
        list: ListUsers<'_>,
        position: Position,
        ends: Option<(UserId, UserId)>,
        has_more: bool,
    ) -> (Option<PageLink>, Option<PageLink>) {
        let limit = u64::from(list.limit.get());
        let cursor = |position| self.cursors().seal(position).map(PageLink::Cursor);
        let older = || ends.and_then(|(_, last)| cursor(Position::OlderThan(last)));
        let newer = || ends.and_then(|(first, _)| cursor(Position::NewerThan(first)));
        match position {
            Position::Offset(offset) if list.offset.is_some() => {
                let next = Some(offset.saturating_add(limit)).filter(|next| *next <= MAX_OFFSET);
                let next = next.map(PageLink::Offset).or_else(older);
                let previous = (offset > 0).then(|| PageLink::Offset(offset.saturating_sub(limit)));
                (next.filter(|_| has_more), previous)
            }
            Position::Offset(_) => (older().filter(|_| has_more), None),
            Position::OlderThan(_) => (older().filter(|_| has_more), newer()),
            Position::NewerThan(_) => (older(), newer().filter(|_| has_more)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Peppers, SigningKeys, sms::DevelopmentSender, storage::MemoryStorage, user::tests::user};

    #[test]
    fn pages_beyond_the_largest_offset_are_linked_by_cursor() {
        let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("long enough");
        let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
        let storage = Arc::new(MemoryStorage::new());
        let referral = Referral::builder(storage, Arc::new(DevelopmentSender), keys, peppers);
        let referral = referral.build().expect("a sound policy and a sound key");
        let links = |offset| {
            let list = ListUsers { offset: Some(offset), ..ListUsers::default() };
            referral.links(list, Position::Offset(offset), Some((user(2).id, user(1).id)), true)
        };
        let (next, previous) = links(MAX_OFFSET - 10);
        assert_eq!(next, Some(PageLink::Offset(MAX_OFFSET)));
        assert_eq!(previous, Some(PageLink::Offset(MAX_OFFSET - 20)));
        let (next, previous) = links(MAX_OFFSET - 9);
        let Some(PageLink::Cursor(cursor)) = next else { panic!("{next:?}") };
        assert_eq!(referral.cursors().open(&cursor), Ok(Position::OlderThan(user(1).id)));
        assert_eq!(previous, Some(PageLink::Offset(MAX_OFFSET - 19)));
    }
}
