//! Users in responses.

use std::collections::BTreeMap;

use poem_openapi::{Object, types::Example};
use referral_core::{ProfileView, UserView};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{examples, timestamp::Timestamp};

/// A user.
#[derive(Object, Serialize)]
#[oai(example)]
pub(super) struct User {
    /// The id (UUID version 7).
    id: Uuid,
    /// The phone (E.164). It is masked if the service hides the phones of other users.
    phone: String,
    /// The user's own invite code.
    invite_code: String,
    /// The invite code of the user's inviter.
    invited_by_code: Option<String>,
    /// The email address.
    email: Option<String>,
    /// The first name.
    first_name: Option<String>,
    /// The last name.
    last_name: Option<String>,
    /// `true` if the user can see the data of all users, regardless of the visibility setting.
    is_staff: bool,
    /// `true` if the user can sign in.
    is_active: bool,
    /// The time at which the user was created.
    date_joined: Timestamp,
    /// The time of the last sign-in with a code.
    last_login: Option<Timestamp>,
    /// The id of the user in the system of the operator. `null` for another user, unless the caller is staff.
    external_id: Option<String>,
    /// Data of the operator about the user. `null` for another user, unless the caller is staff.
    metadata: Option<BTreeMap<String, Value>>,
}

impl Example for User {
    fn example() -> Self {
        Self {
            id: examples::USER_ID,
            phone: examples::PHONE.into(),
            invite_code: examples::INVITE_CODE.into(),
            invited_by_code: Some(examples::FRIENDS_INVITE_CODE.into()),
            email: Some("anna@example.com".into()),
            first_name: Some("Anna".into()),
            last_name: None,
            is_staff: false,
            is_active: true,
            date_joined: examples::TIME,
            last_login: Some(examples::TIME),
            external_id: Some(examples::EXTERNAL_ID.into()),
            metadata: Some(examples::metadata()),
        }
    }
}

impl From<UserView> for User {
    fn from(user: UserView) -> Self {
        Self {
            id: user.id.0,
            phone: user.phone.as_str().to_owned(),
            invite_code: user.invite_code.to_string(),
            invited_by_code: user.invited_by_code.map(|code| code.to_string()),
            email: user.email.map(|email| email.as_str().to_owned()),
            first_name: user.first_name.map(|name| name.as_str().to_owned()),
            last_name: user.last_name.map(|name| name.as_str().to_owned()),
            is_staff: user.is_staff,
            is_active: user.is_active,
            date_joined: user.date_joined.into(),
            last_login: user.last_login.map(Timestamp),
            external_id: user.external_id.map(|id| id.as_str().to_owned()),
            metadata: user.metadata.map(|metadata| metadata.into_object().into_iter().collect()),
        }
    }
}

/// Shows all data, for staff.
impl From<referral_core::User> for User {
    fn from(user: referral_core::User) -> Self {
        Self {
            id: user.id.0,
            phone: user.phone.as_str().to_owned(),
            invite_code: user.invite_code.to_string(),
            invited_by_code: user.invited_by.map(|by| by.code.to_string()),
            email: user.email.map(|email| email.as_str().to_owned()),
            first_name: user.first_name.map(|name| name.as_str().to_owned()),
            last_name: user.last_name.map(|name| name.as_str().to_owned()),
            is_staff: user.staff_role.is_some(),
            is_active: user.is_active,
            date_joined: user.date_joined.into(),
            last_login: user.last_login.map(Timestamp),
            external_id: user.external_id.map(|id| id.as_str().to_owned()),
            metadata: Some(user.metadata.into_object().into_iter().collect()),
        }
    }
}

/// A user with the users that they invited.
#[derive(Object, Serialize)]
#[oai(example)]
pub(super) struct UserWithInvited {
    #[oai(flatten)]
    #[serde(flatten)]
    user: User,
    /// The newest invited users. At most 100.
    invited: Vec<Invited>,
    /// The total number of invited users.
    invited_count: u64,
}

impl Example for UserWithInvited {
    fn example() -> Self {
        let invited = vec![Invited { id: examples::FRIENDS_ID, phone: examples::FRIENDS_PHONE.into() }];
        Self { user: User::example(), invited, invited_count: 1 }
    }
}

impl From<ProfileView> for UserWithInvited {
    fn from(profile: ProfileView) -> Self {
        let invited = profile
            .invited
            .into_iter()
            .map(|invitee| Invited { id: invitee.id.0, phone: invitee.phone.as_str().to_owned() });
        Self { invited: invited.collect(), invited_count: profile.invited_count, user: profile.user.into() }
    }
}

/// An invited user, without the time of joining.
#[derive(Object, Serialize)]
struct Invited {
    /// The id.
    id: Uuid,
    /// The phone.
    phone: String,
}
