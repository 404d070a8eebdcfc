//! Complete records of users, which an export returns and an import adds.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    invite::{
        code::InviteCode,
        invitation::{AcceptedVia, Invitation},
    },
    user::{User, UserId},
};

/// Everything that is stored about a user, except sessions, codes and counters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a storage must read and write each field")]
pub struct UserRecord {
    /// User.
    pub user: RecordedUser,
    /// Invitation that the user accepted.
    pub invitation: Option<RecordedInvitation>,
}

/// User of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a storage must read and write each variant")]
pub enum RecordedUser {
    /// User, of whom [`User::invited_by`] is `None` and [`User::invited_count`] is 0. Both follow from the
    /// invitations of all records.
    Present(Box<User>),
    /// Deleted user.
    Erased(ErasedUser),
}

/// Remainder of a deleted user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "a storage must read and write each field")]
pub struct ErasedUser {
    /// Id of the user.
    pub id: UserId,
    /// Invite code, which no user gets again.
    pub invite_code: InviteCode,
    /// Time at which the user was created.
    #[serde(with = "crate::stored::micros")]
    pub date_joined: OffsetDateTime,
    /// Time at which the user was deleted.
    #[serde(with = "crate::stored::micros")]
    pub erased_at: OffsetDateTime,
}

/// Invitation of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a storage must read and write each field")]
pub struct RecordedInvitation {
    /// Inviter, or `None` if only the code is known. The code determines the inviter, since no user gets the
    /// invite code of another one.
    pub inviter: Option<UserId>,
    /// Code of the inviter.
    pub code: InviteCode,
    /// Time at which the invitation was accepted.
    pub accepted_at: OffsetDateTime,
    /// Operation that accepted the invitation.
    pub via: AcceptedVia,
}

impl UserRecord {
    /// Creates the record of a stored user.
    #[must_use]
    pub fn of(user: User, invitation: Option<Invitation>) -> Self {
        let user = User { invited_by: None, invited_count: 0, ..user };
        Self {
            user: RecordedUser::Present(Box::new(user)),
            invitation: invitation.map(RecordedInvitation::from),
        }
    }

    /// Creates the record of an erased user.
    #[must_use]
    pub fn of_erased(user: ErasedUser, invitation: Option<Invitation>) -> Self {
        Self { user: RecordedUser::Erased(user), invitation: invitation.map(RecordedInvitation::from) }
    }
}

impl RecordedUser {
    /// Returns the id of the user.
    #[must_use]
    pub fn id(&self) -> UserId {
        match self {
            Self::Present(user) => user.id,
            Self::Erased(user) => user.id,
        }
    }

    /// Returns the invite code of the user.
    #[must_use]
    pub fn invite_code(&self) -> &InviteCode {
        match self {
            Self::Present(user) => &user.invite_code,
            Self::Erased(user) => &user.invite_code,
        }
    }

    /// Returns the user if it is not erased.
    #[must_use]
    pub fn present(&self) -> Option<&User> {
        match self {
            Self::Present(user) => Some(user),
            Self::Erased(_) => None,
        }
    }
}

impl From<Invitation> for RecordedInvitation {
    fn from(invitation: Invitation) -> Self {
        let Invitation { invitee: _, inviter, code, accepted_at, via } = invitation;
        Self { inviter: Some(inviter), code, accepted_at, via }
    }
}
