//! Users, their inviters and their invitees.

pub(crate) mod change;
pub(crate) mod cursor;
pub(crate) mod daily_counts;
pub(crate) mod deletion;
pub(crate) mod email;
pub(crate) mod external_id;
pub(crate) mod import;
pub(crate) mod listing;
pub(crate) mod metadata;
pub(crate) mod name;
pub(crate) mod phone;
pub(crate) mod phone_change;
pub(crate) mod profile;
pub(crate) mod record;
pub(crate) mod search;
pub(crate) mod staff_role;
pub(crate) mod visibility;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    audit::{AuditAction, AuditContext, AuditEntry, FieldChange},
    decision::Decision,
    error::{
        input::{InvalidInput, parse_id},
        refusal::Refusal,
    },
    invite::code::InviteCode,
    user::{
        email::Email, external_id::ExternalId, metadata::Metadata, name::Name, phone::PhoneNumber,
        staff_role::StaffRole,
    },
};

/// Id of a user: a UUID that sorts by the time of the creation of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UserId(pub Uuid);

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for UserId {
    type Err = InvalidInput;

    fn from_str(input: &str) -> Result<Self, InvalidInput> {
        parse_id(input).map(Self)
    }
}

/// User of the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Id of the user.
    pub id: UserId,
    /// Phone that signs in as this user; unique. If [`phone_detached_at`](Self::phone_detached_at) is set, the
    /// phone that the user had: it signs in as another user, or as none.
    pub phone: PhoneNumber,
    /// Invite code of the user; unique.
    pub invite_code: InviteCode,
    /// Inviter of the user. Once it is set, only staff and the host can change it.
    pub invited_by: Option<InvitedBy>,
    /// Number of users who named this user as their inviter.
    pub invited_count: u64,
    /// Email address; unique.
    pub email: Option<Email>,
    /// First name.
    pub first_name: Option<Name>,
    /// Last name.
    pub last_name: Option<Name>,
    /// Role of a user who is staff. Staff may see the data of all users regardless of the
    /// [`Visibility`](crate::policy::Visibility).
    #[serde(default)]
    pub staff_role: Option<StaffRole>,
    /// `true` if the user may sign in. Tokens of an inactive user are not valid.
    pub is_active: bool,
    /// Time at which the user was created, by a first sign-in or as staff.
    #[serde(with = "crate::stored::micros")]
    pub date_joined: OffsetDateTime,
    /// Time of the last sign-in with a code; `None` for staff who never signed in.
    #[serde(with = "crate::stored::optional_micros")]
    pub last_login: Option<OffsetDateTime>,
    /// Time of the last sign-in or refresh, to within a day.
    #[serde(default, with = "crate::stored::optional_micros")]
    pub last_active: Option<OffsetDateTime>,
    /// Time at which the user lost the phone, because it may belong to another person, or because staff
    /// detached it. The user cannot sign in until staff link a phone, and no list has the user.
    #[serde(default, with = "crate::stored::optional_micros")]
    pub phone_detached_at: Option<OffsetDateTime>,
    /// Id of the user in the system of the host; unique.
    #[serde(default)]
    pub external_id: Option<ExternalId>,
    /// Data of the host about the user.
    #[serde(default)]
    pub metadata: Metadata,
    /// Time at which the user is deleted unless the user signs in before. All sessions of the user have ended.
    #[serde(default, with = "crate::stored::optional_micros")]
    pub deletion_at: Option<OffsetDateTime>,
}

impl User {
    /// Returns `true` if the user is staff.
    #[must_use]
    pub fn is_staff(&self) -> bool {
        self.staff_role.is_some()
    }

    /// Returns `true` if the user is an admin who may sign in, and whose deletion is not scheduled.
    #[must_use]
    pub fn is_active_admin(&self) -> bool {
        let may_sign_in = self.is_active && self.has_phone() && self.deletion_at.is_none();
        may_sign_in && self.staff_role == Some(StaffRole::Admin)
    }

    /// Returns the phone that signs in as this user.
    #[must_use]
    pub fn current_phone(&self) -> Option<&PhoneNumber> {
        self.has_phone().then_some(&self.phone)
    }

    /// Returns the phone that a user without a phone had.
    #[must_use]
    pub fn former_phone(&self) -> Option<&PhoneNumber> {
        (!self.has_phone()).then_some(&self.phone)
    }

    /// Returns `true` if the phone signs in as this user.
    #[must_use]
    pub fn has_phone(&self) -> bool {
        self.phone_detached_at.is_none()
    }

    /// Returns the time at which the user was last active, to within a day, or was created.
    #[must_use]
    pub fn last_seen(&self) -> OffsetDateTime {
        self.last_active.max(self.last_login).unwrap_or(self.date_joined)
    }
}

/// Inviter of a user, and the code that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitedBy {
    /// Inviter.
    pub inviter: UserId,
    /// Code of the inviter, as it was used.
    pub code: InviteCode,
}

/// Data of a user to create.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewUser {
    /// Id of the user.
    pub id: UserId,
    /// Phone of the user.
    pub phone: PhoneNumber,
    /// Candidate invite codes, of which the first free one is used.
    pub invite_codes: Vec<InviteCode>,
    /// Role of the user, if the user is staff.
    pub staff_role: Option<StaffRole>,
    /// Time of the creation of the user.
    pub date_joined: OffsetDateTime,
    /// Time of the first sign-in, if the user is created by one.
    pub last_login: Option<OffsetDateTime>,
    /// Id of the user in the system of the host.
    pub external_id: Option<ExternalId>,
    /// Data of the host about the user.
    pub metadata: Metadata,
}

impl NewUser {
    /// Returns the user with the invite code that was free.
    #[must_use]
    pub fn to_user(&self, invite_code: InviteCode, invited_by: Option<InvitedBy>) -> User {
        User {
            id: self.id,
            phone: self.phone.clone(),
            invite_code,
            invited_by,
            invited_count: 0,
            email: None,
            first_name: None,
            last_name: None,
            staff_role: self.staff_role,
            is_active: true,
            date_joined: self.date_joined,
            last_login: self.last_login,
            last_active: self.last_login,
            phone_detached_at: None,
            external_id: self.external_id.clone(),
            metadata: self.metadata.clone(),
            deletion_at: None,
        }
    }
}

/// Request to add a user without a sign-in, for [`UserStorage::add_user`](crate::storage::UserStorage::add_user).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AddUserRequest {
    /// User to create if the phone has no user. If it is staff, an existing user gets at least the same role.
    pub new_user: NewUser,
    /// Current time.
    pub now: OffsetDateTime,
    /// Data for the audit log, if the change is recorded there.
    pub(crate) audit: Option<AuditContext>,
}

/// Stored data on which [`AddUserRequest::decide`] depends.
#[derive(Clone, Debug, Default)]
pub struct AddUserFacts {
    /// User with the phone.
    pub user: Option<User>,
    /// Owner of the external id of the new user.
    pub external_id_owner: Option<UserId>,
}

/// Changes that add a user or make one staff.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddUserWrites {
    /// User to add or to change.
    pub user: Option<UserWrite>,
    /// `true` if all sessions of the user are ended. They were started with fewer rights, perhaps on a shared
    /// device.
    pub ends_sessions: bool,
    /// Entry to add to the audit log.
    pub audit: Option<AuditEntry>,
}

/// Decision about a user to add. The outcome is the user with the phone, after the writes.
pub type AddUserDecision = Decision<AddUserWrites, Result<User, Refusal>>;

impl AddUserRequest {
    /// Decides whether the user is added, or the user with the phone becomes staff. A new user gets the invite
    /// code `code`, which is one of [`NewUser::invite_codes`]. An existing user keeps the external id and the
    /// metadata.
    #[must_use]
    pub fn decide(&self, facts: &AddUserFacts, code: &InviteCode) -> AddUserDecision {
        let (write, user) = match &facts.user {
            None if self.new_user.external_id.is_some() && facts.external_id_owner.is_some() => {
                return Decision::refuse(Refusal::ExternalIdTaken);
            }
            None => {
                let user = self.new_user.to_user(code.clone(), None);
                (Some(UserWrite::Add(user.clone())), user)
            }
            Some(user) if user.staff_role >= self.new_user.staff_role => (None, user.clone()),
            Some(user) => {
                // The caller knows that the phone still belongs to this user.
                let last_active = Some(self.now).max(user.last_active);
                let user = User { staff_role: self.new_user.staff_role, last_active, ..user.clone() };
                (Some(UserWrite::Change(user.clone())), user)
            }
        };
        let ends_sessions = matches!(write, Some(UserWrite::Change(_)));
        let audit = write.as_ref().and(self.audit.as_ref()).map(|audit| {
            let (action, before) = match &facts.user {
                Some(before) => (AuditAction::UserChanged, before.staff_role),
                None => (AuditAction::UserAdded, None),
            };
            let role = |role: Option<StaffRole>| role.map(|role| role.to_string());
            let change = FieldChange::new("staff_role", role(before), role(user.staff_role));
            audit.entry(action, Some(user.id), vec![change])
        });
        Decision { writes: AddUserWrites { user: write, ends_sessions, audit }, outcome: Ok(user) }
    }
}

/// Change of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a storage must write each variant")]
pub enum UserWrite {
    /// Add the user.
    Add(User),
    /// Store the user in place of the one with the same id.
    Change(User),
}

impl UserWrite {
    /// Returns the user if it is added.
    #[must_use]
    pub fn added(&self) -> Option<&User> {
        match self {
            Self::Add(user) => Some(user),
            Self::Change(_) => None,
        }
    }
}

/// User with an inviter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitee {
    /// Id of the invited user.
    pub id: UserId,
    /// Phone of the invited user.
    pub phone: PhoneNumber,
    /// Time at which the invited user joined.
    pub joined_at: OffsetDateTime,
}

/// User with the newest of their invitees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserWithInvited {
    /// User.
    pub user: User,
    /// Invitees of the user, newest first, at most as many as were requested. [`User::invited_count`] is
    /// their total number.
    pub invited: Vec<Invitee>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a test user, a different one for each number.
    pub(crate) fn user(number: u8) -> User {
        let new = NewUser {
            id: UserId(Uuid::from_u128(number.into())),
            phone: PhoneNumber::parse(&format!("+79608543{number:03}"), None).expect("valid"),
            invite_codes: Vec::new(),
            staff_role: None,
            date_joined: OffsetDateTime::UNIX_EPOCH,
            last_login: None,
            external_id: None,
            metadata: Metadata::default(),
        };
        let code = InviteCode::parse(&format!("BCD{number:03}")).expect("valid");
        new.to_user(code, None)
    }
}
