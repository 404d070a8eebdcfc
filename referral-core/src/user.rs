//! Users and what of them can be typed.

use std::{fmt, str::FromStr};

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Email, Invalid, InviteCode, Name, PhoneNumber, error::parse_id};

/// The id of a user: a UUID that sorts by the time the user was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub Uuid);

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for UserId {
    type Err = Invalid;

    fn from_str(input: &str) -> Result<Self, Invalid> {
        parse_id(input).map(Self)
    }
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// The phone that signs in as this user; unique.
    pub phone: PhoneNumber,
    /// The user's own invite code; unique.
    pub invite_code: InviteCode,
    /// By whom the user was invited, once and for good.
    pub invited_by: Option<InvitedBy>,
    /// How many users named this one as their inviter.
    pub invited_count: u64,
    /// The e-mail address; unique.
    pub email: Option<Email>,
    /// The first name.
    pub first_name: Option<Name>,
    /// The last name.
    pub last_name: Option<Name>,
    /// Whether the user may see everybody's data whatever the [`Visibility`](crate::Visibility).
    pub is_staff: bool,
    /// Whether the user may sign in. Tokens of an inactive user are not valid.
    pub is_active: bool,
    /// When the user was made, by a first sign-in or as staff.
    pub date_joined: OffsetDateTime,
    /// When the user last signed in with a code; none for staff that never did.
    pub last_login: Option<OffsetDateTime>,
}

/// Who invited a user, and with which code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvitedBy {
    /// The inviter.
    pub inviter: UserId,
    /// The inviter's code, as it was used.
    pub code: InviteCode,
}

/// What is to become of somebody who is not a user yet.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewUser {
    /// The user's id.
    pub id: UserId,
    /// The user's phone.
    pub phone: PhoneNumber,
    /// Codes to try in turn until one is free.
    pub invite_codes: Vec<InviteCode>,
    /// Whether the user is staff.
    pub is_staff: bool,
    /// The time of joining.
    pub date_joined: OffsetDateTime,
    /// The time of the first sign-in, if this is one.
    pub last_login: Option<OffsetDateTime>,
}

impl NewUser {
    /// The user with the invite code that was free.
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
            is_staff: self.is_staff,
            is_active: true,
            date_joined: self.date_joined,
            last_login: self.last_login,
        }
    }
}

/// One of the users that somebody invited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitee {
    /// The invited user's id.
    pub id: UserId,
    /// The invited user's phone.
    pub phone: PhoneNumber,
    /// When the invited user joined.
    pub joined_at: OffsetDateTime,
}

/// A user together with the newest of those invited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserWithInvited {
    /// The user.
    pub user: User,
    /// Those who named the user as their inviter, newest users first, at most as many as were
    /// asked for. [`User::invited_count`] says how many there are in all.
    pub invited: Vec<Invitee>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A user like any other; different ones for different numbers.
    pub(crate) fn user(number: u8) -> User {
        let new = NewUser {
            id: UserId(Uuid::from_u128(number.into())),
            phone: PhoneNumber::parse(&format!("+79608543{number:03}"), None).expect("valid"),
            invite_codes: Vec::new(),
            is_staff: false,
            date_joined: OffsetDateTime::UNIX_EPOCH,
            last_login: None,
        };
        let code = InviteCode::parse(&format!("BCD{number:03}")).expect("valid");
        new.to_user(code, None)
    }
}
