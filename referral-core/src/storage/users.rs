//! Storage of users and their invitations.

use async_trait::async_trait;
use time::{Date, OffsetDateTime};

use super::{
    AddUserRequest, AddedUser, ChangedPhone, ChangedUser, Decided, DeletedUser, DeletionRequest, DueDeletion,
    ImportBatch, ImportOutcome, PhoneChangeRequest, ProfileEdit, ProfileOutcome, Result, StoredPage,
    UserChangeRequest, UserQuery, UserRecord, UserWithInvited,
};
use crate::{
    error::refusal::Refusal,
    invite::invitation::Invitation,
    user::{Invitee, User, UserId, daily_counts::DailyCounts, listing::PageSize, phone::PhoneNumber},
};

/// Stores users and the invitations between them.
#[async_trait]
pub trait UserStorage: Send + Sync + 'static {
    /// Returns a user with their newest invitees, at most `invited` of them. A user without a phone is
    /// returned as well.
    async fn user(&self, id: UserId, invited: u32) -> Result<Option<UserWithInvited>>;

    /// Returns a page of users, newest first, which is in descending order of their ids. Users
    /// [without a phone](User::has_phone) are not in it, and are not counted.
    ///
    /// A list that [is expensive](UserQuery::is_expensive) must not delay other requests. It waits for one of
    /// a few places, and a caller has at most one place at a time. If the list takes too long, the result is
    /// [`Refusal::SearchTooBroad`]. A storage that reads from memory may omit both.
    async fn users(&self, query: &UserQuery) -> Decided<StoredPage<User>>;

    /// Returns a page of the users that `inviter` invited, newest first, starting with the first user older
    /// than `older_than`. Returns `None` if the inviter does not exist. Invitees without a phone are not returned.
    async fn invitees(
        &self,
        inviter: UserId,
        older_than: Option<UserId>,
        limit: PageSize,
    ) -> Result<Option<StoredPage<Invitee>>>;

    /// Returns users without a phone who had this phone before, newest first, at most `limit`.
    async fn former_users(&self, phone: &PhoneNumber, limit: u32) -> Result<Vec<User>>;

    /// Returns the invitation that a user accepted, or `None` if the user has no inviter or does not exist.
    async fn invitation(&self, invitee: UserId) -> Result<Option<Invitation>>;

    /// Applies all changes of a profile, or none.
    ///
    /// Facts: the user, the owner of the requested email address, the owner of the invite code, the counters
    /// that the request names, and the ancestry as for [`sign_in`](super::ChallengeStorage::sign_in). Of
    /// concurrent requests for one address, only one gets it.
    async fn edit_profile(&self, edit: &ProfileEdit) -> Decided<ProfileOutcome, Vec<Refusal>>;

    /// Adds a user, unless the phone has one. If the new user is staff, a user with the phone gets at least the
    /// same role, and their sessions end if they had fewer rights.
    ///
    /// Facts: the user with the phone, and the owner of the external id. A new user gets the first of
    /// [`NewUser::invite_codes`](super::NewUser::invite_codes) that is free. Of concurrent requests for one
    /// external id, only one gets it.
    ///
    /// # Errors
    ///
    /// [`StorageError::InviteCodesExhausted`](super::StorageError::InviteCodesExhausted) if none of these
    /// codes is free.
    async fn add_user(&self, request: &AddUserRequest) -> Decided<AddedUser>;

    /// Erases a user. The counted attempt of a wrong code is committed as well.
    ///
    /// Facts: the user, and whether there is another active admin; if the request has a [`redemption`](DeletionRequest::redemption), also the challenge,
    /// as [`RedemptionFacts::challenge`](super::RedemptionFacts::challenge) describes it, the counters that
    /// the redemption names, and the global counters. Deletions exclude each other and all operations that
    /// change the user, start a session of the user, or accept an invitation of the user or with the invite
    /// code of the user.
    ///
    /// Everything about the user is deleted, including all sessions, all challenges and
    /// [records of requests](super::CodeRequest) of the phone, and the search index, except the id, the invite code, and the invitations with their counts. From then on:
    ///
    /// - No method returns the user: not by its id, phone, invite code or session, not in a list, and not
    ///   among the invitees of its inviter. [`User::invited_count`] of the inviter does not change.
    /// - The invite code has no owner, but is not [free](super::NewUser::invite_codes).
    /// - [`invitation`](Self::invitation) still returns the invitations of the user and of its invitees, and
    ///   a list filtered by the invite code of the inviter still finds the invitees.
    /// - The phone, the email address and the external id are free.
    /// - The entries of the audit log about the user have no reason and no changes:
    ///   [`AuditEntry::erased`](crate::audit::AuditEntry::erased).
    ///
    /// Counters stay, because their limits also apply after the deletion.
    ///
    /// [`DeletionWrites::Schedule`](super::DeletionWrites::Schedule) erases nothing: it stores
    /// [`User::deletion_at`], ends all sessions, and keeps the challenges. Until a sign-in or
    /// [`change_user`](Self::change_user) clears [`User::deletion_at`], [`users_to_delete`](Self::users_to_delete)
    /// returns the user after that time. A sign-in whose facts have another [`User::deletion_at`] than the stored
    /// user starts again.
    async fn delete_user(&self, request: &DeletionRequest) -> Decided<DeletedUser>;

    /// Returns users whose [`User::deletion_at`] is at or before `now`, in ascending order of the time and then
    /// of the id. They start after the one in `after`, and are at most `limit`.
    async fn users_to_delete(
        &self,
        now: OffsetDateTime,
        after: Option<&DueDeletion>,
        limit: u32,
    ) -> Result<Vec<DueDeletion>>;

    /// Changes the phone of a user, and ends all sessions of the user except
    /// [`PhoneChangeRequest::session`]. The counted attempt of a wrong code is committed as well.
    ///
    /// Facts: the user; the owner of the new phone; the challenge, as
    /// [`RedemptionFacts::challenge`](super::RedemptionFacts::challenge) describes it, the counters that the
    /// redemption names, and the global counters. The change excludes attempts at the challenge, and all
    /// operations that change the user or start a session of the user. Of concurrent requests for one phone,
    /// also of sign-ups, only one gets it.
    ///
    /// From then on, the user is found by the new phone, and not by the old one: not at a sign-in, also if it
    /// started before, and not in a filter or a search. The challenges of the old phone stay, and those to
    /// sign in create a new user.
    async fn change_phone(&self, request: &PhoneChangeRequest) -> Decided<ChangedPhone>;

    /// Applies all changes of a user by the host or by staff, or none. Sets
    /// [`ChangedUser::ended_sessions`].
    ///
    /// Facts: the user; the owners of the requested email address, external id, phone and invite code; the ancestry
    /// as for [`sign_in`](super::ChallengeStorage::sign_in); and whether there is another active admin. Of
    /// concurrent requests for one email address, external id or phone, only one gets it. Of concurrent requests
    /// that would leave no active admin, also by [`delete_user`](Self::delete_user), one is refused.
    async fn change_user(&self, request: &UserChangeRequest) -> Decided<ChangedUser>;

    /// Returns the numbers of sign-ups and invitations of the days from `since` to `until`, both included, in
    /// ascending order. Days without events may be left out. Each user and each invitation is counted when it
    /// is added, and stays counted.
    async fn daily_counts(&self, since: Date, until: Date) -> Result<Vec<DailyCounts>>;

    /// Returns the records of users in ascending order of their ids, with those of erased users. The records
    /// start after the id `after`, and are at most `limit`.
    async fn export_users(&self, after: Option<UserId>, limit: u32) -> Result<Vec<UserRecord>>;

    /// Adds the users of a batch with their invitations. Returns the outcome of each record, in the order of
    /// the records.
    ///
    /// Facts: the records of users with the ids of the batch, and the owners of the phones, invite codes,
    /// email addresses and external ids in the batch. The owner of an invite code can be erased. If
    /// [`late_inviters`](ImportBatch::late_inviters) returns inviters, also the inviters above them, up to
    /// the first inviters. Imports exclude each other and all operations that accept an invitation of an
    /// existing user, if the batch has such invitations. Of concurrent requests for a phone, an invite code,
    /// an email address or an external id, only one gets it.
    ///
    /// Unlike all other operations, an import adds erased users, and invitations from and to them.
    async fn import_users(&self, batch: &ImportBatch) -> Result<Vec<ImportOutcome>>;
}
