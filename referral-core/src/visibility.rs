//! What one user may see of another.

use std::fmt;

use time::OffsetDateTime;

use crate::{
    Bearer, Email, FilterInput, InviteCode, Invitee, Name, PhoneNumber, Refusal, User, UserId,
    UserWithInvited, Visibility,
};

/// A phone as somebody may see it: whole, or as `+7960*****17`.
#[derive(Clone, PartialEq, Eq)]
pub struct ShownPhone(String);

impl ShownPhone {
    /// What may be seen.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Shows no digits but the last two, so that logs hold no phone.
impl fmt::Debug for ShownPhone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShownPhone(…{})", &self.0[self.0.len() - 2..])
    }
}

/// A user as somebody may see them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserView {
    /// The id.
    pub id: UserId,
    /// The phone, masked where it is private.
    pub phone: ShownPhone,
    /// The user's own invite code.
    pub invite_code: InviteCode,
    /// The code by which the user was invited.
    pub invited_by_code: Option<InviteCode>,
    /// The e-mail address; none where it is private.
    pub email: Option<Email>,
    /// The first name.
    pub first_name: Option<Name>,
    /// The last name.
    pub last_name: Option<Name>,
    /// Whether the user is staff.
    pub is_staff: bool,
    /// Whether the user may sign in.
    pub is_active: bool,
    /// When the user was made, by a first sign-in or as staff.
    pub date_joined: OffsetDateTime,
    /// When the user last signed in with a code.
    pub last_login: Option<OffsetDateTime>,
}

/// A user with those invited, as somebody may see them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProfileView {
    /// The user.
    pub user: UserView,
    /// The newest users among those invited.
    pub invited: Vec<InviteeView>,
    /// How many were invited in all.
    pub invited_count: u64,
}

/// One of those whom a user invited, as somebody may see them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InviteeView {
    /// The id.
    pub id: UserId,
    /// The phone, masked where it is private.
    pub phone: ShownPhone,
    /// When the invited user joined.
    pub joined_at: OffsetDateTime,
}

/// Somebody who looks, under the rule that is set.
pub(crate) struct Viewer<'a> {
    pub(crate) user: &'a User,
    pub(crate) visibility: Visibility,
}

impl<'a> Viewer<'a> {
    pub(crate) fn new(bearer: &'a Bearer, visibility: Visibility) -> Self {
        Self { user: &bearer.user, visibility }
    }

    /// Whether phones and e-mail addresses of others are shown, and others found by them.
    pub(crate) fn sees_private(&self) -> bool {
        self.user.is_staff || self.visibility == Visibility::Full
    }

    /// Refuses those who may not see others at all.
    pub(crate) fn may_list(&self, filter: &FilterInput<'_>) -> Result<(), Refusal> {
        let allowed = match self.visibility {
            Visibility::Full => true,
            Visibility::Masked => !filter.names_private_fields(),
            Visibility::Staff => false,
        };
        if allowed || self.user.is_staff { Ok(()) } else { Err(Refusal::StaffOnly) }
    }

    /// Refuses those who may not see this user.
    pub(crate) fn may_see(&self, id: UserId) -> Result<(), Refusal> {
        if self.user.is_staff || self.user.id == id || self.visibility != Visibility::Staff {
            Ok(())
        } else {
            Err(Refusal::StaffOnly)
        }
    }

    pub(crate) fn profile(&self, found: UserWithInvited) -> ProfileView {
        ProfileView {
            invited: found.invited.iter().map(|invitee| self.invitee(invitee)).collect(),
            invited_count: found.user.invited_count,
            user: self.user(found.user),
        }
    }

    pub(crate) fn user(&self, user: User) -> UserView {
        let is_open = self.is_open(user.id);
        UserView {
            id: user.id,
            phone: self.phone(user.id, &user.phone),
            invite_code: user.invite_code,
            invited_by_code: user.invited_by.map(|named| named.code),
            email: user.email.filter(|_| is_open),
            first_name: user.first_name,
            last_name: user.last_name,
            is_staff: user.is_staff,
            is_active: user.is_active,
            date_joined: user.date_joined,
            last_login: user.last_login,
        }
    }

    pub(crate) fn invitee(&self, invitee: &Invitee) -> InviteeView {
        let phone = self.phone(invitee.id, &invitee.phone);
        InviteeView { id: invitee.id, phone, joined_at: invitee.joined_at }
    }

    fn phone(&self, of: UserId, phone: &PhoneNumber) -> ShownPhone {
        ShownPhone(if self.is_open(of) { phone.as_str().to_owned() } else { phone.masked() })
    }

    /// Whether nothing of this user is hidden. One's own data never is.
    fn is_open(&self, id: UserId) -> bool {
        self.sees_private() || self.user.id == id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::tests::user;

    fn others() -> UserWithInvited {
        let email = Email::parse("boris@example.com").ok();
        let invitee = Invitee { id: user(3).id, phone: user(3).phone, joined_at: OffsetDateTime::UNIX_EPOCH };
        UserWithInvited { user: User { email, ..user(2) }, invited: vec![invitee] }
    }

    #[test]
    fn masking_hides_phones_and_addresses_of_others_only() {
        let anna = user(1);
        let masked = Viewer { user: &anna, visibility: Visibility::Masked };
        let seen = masked.profile(others());
        assert_eq!(seen.user.phone.as_str(), "+7960*****02");
        assert_eq!(seen.user.email, None);
        assert_eq!(seen.invited[0].phone.as_str(), "+7960*****03");
        assert_eq!(masked.user(anna.clone()).phone.as_str(), anna.phone.as_str());

        let full = Viewer { user: &anna, visibility: Visibility::Full };
        assert_eq!(full.profile(others()).user.phone.as_str(), user(2).phone.as_str());
    }

    #[test]
    fn who_may_look_depends_on_the_setting_and_staff_always_may() {
        let [anna, staff] = [user(1), User { is_staff: true, ..user(9) }];
        let everybody = FilterInput::default();
        let by_phone = FilterInput { phone: Some("+79608543002"), ..everybody };
        for (visibility, list, filter, detail) in [
            (Visibility::Full, true, true, true),
            (Visibility::Masked, true, false, true),
            (Visibility::Staff, false, false, false),
        ] {
            let viewer = Viewer { user: &anna, visibility };
            assert_eq!(viewer.may_list(&everybody).is_ok(), list, "{visibility:?}");
            assert_eq!(viewer.may_list(&by_phone).is_ok(), filter, "{visibility:?}");
            assert_eq!(viewer.may_see(user(2).id).is_ok(), detail, "{visibility:?}");
            assert!(viewer.may_see(anna.id).is_ok(), "{visibility:?}");

            let viewer = Viewer { user: &staff, visibility };
            assert!(
                viewer.sees_private()
                    && viewer.may_list(&by_phone).is_ok()
                    && viewer.may_see(user(2).id).is_ok()
            );
        }
    }
}
