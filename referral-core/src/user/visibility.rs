//! Views of users: the data that one user may see of another.

use std::fmt;

use time::OffsetDateTime;

use crate::{
    error::refusal::Refusal,
    invite::code::InviteCode,
    policy::Visibility,
    user::{
        Invitee, User, UserId, UserWithInvited, email::Email, external_id::ExternalId, listing::FilterInput,
        metadata::Metadata, name::Name, phone::PhoneNumber,
    },
};

/// Phone as the viewer may see it: complete, or masked as `+7960*****17`.
#[derive(Clone, PartialEq, Eq)]
pub struct DisplayPhone(String);

impl DisplayPhone {
    /// Shows the complete phone if `is_open` is `true`, and masks it otherwise.
    fn new(phone: &PhoneNumber, is_open: bool) -> Self {
        Self(if is_open { phone.as_str().to_owned() } else { phone.masked() })
    }

    /// Returns the complete or masked phone.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Shows only the last two digits, so that logs contain no phone.
impl fmt::Debug for DisplayPhone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DisplayPhone(…{})", &self.0[self.0.len() - 2..])
    }
}

/// User as the viewer may see them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserView {
    /// Id of the user.
    pub id: UserId,
    /// Phone, masked if it is private.
    pub phone: DisplayPhone,
    /// Invite code of the user.
    pub invite_code: InviteCode,
    /// Code with which the user was invited.
    pub invited_by_code: Option<InviteCode>,
    /// Email address; `None` if it is private.
    pub email: Option<Email>,
    /// First name.
    pub first_name: Option<Name>,
    /// Last name.
    pub last_name: Option<Name>,
    /// `true` if the user is staff.
    pub is_staff: bool,
    /// `true` if the user may sign in.
    pub is_active: bool,
    /// Time at which the user was created, by a first sign-in or as staff.
    pub date_joined: OffsetDateTime,
    /// Time of the last sign-in with a code.
    pub last_login: Option<OffsetDateTime>,
    /// Id in the system of the host; `None` if the viewer is another user who is not staff.
    pub external_id: Option<ExternalId>,
    /// Data of the host; `None` if the viewer is another user who is not staff.
    pub metadata: Option<Metadata>,
}

/// User with their invitees, as the viewer may see them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProfileView {
    /// User.
    pub user: UserView,
    /// Newest of the invitees.
    pub invited: Vec<InviteeView>,
    /// Number of all invitees.
    pub invited_count: u64,
}

/// Invitee of a user, as the viewer may see them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InviteeView {
    /// Id of the invited user.
    pub id: UserId,
    /// Phone, masked if it is private.
    pub phone: DisplayPhone,
    /// Time at which the invited user joined.
    pub joined_at: OffsetDateTime,
}

impl InviteeView {
    /// Creates the view of an invitee, with the complete phone if `is_open` is `true`.
    pub(crate) fn new(invitee: &Invitee, is_open: bool) -> Self {
        let phone = DisplayPhone::new(&invitee.phone, is_open);
        Self { id: invitee.id, phone, joined_at: invitee.joined_at }
    }
}

/// User who views others, and the visibility that applies.
pub(crate) struct Viewer<'a> {
    pub(crate) user: &'a User,
    pub(crate) visibility: Visibility,
}

impl<'a> Viewer<'a> {
    pub(crate) fn new(user: &'a User, visibility: Visibility) -> Self {
        Self { user, visibility }
    }

    /// Returns `true` if the viewer may see and search phones and email addresses of others.
    pub(crate) fn sees_private(&self) -> bool {
        self.user.is_staff() || self.visibility == Visibility::Full
    }

    /// Refuses viewers who are not staff.
    pub(crate) fn may_administrate(&self) -> Result<(), Refusal> {
        if self.user.is_staff() { Ok(()) } else { Err(Refusal::StaffOnly) }
    }

    /// Refuses viewers who may not list others with this filter.
    pub(crate) fn may_list(&self, filter: &FilterInput<'_>) -> Result<(), Refusal> {
        let allowed = match self.visibility {
            _ if filter.external_id.is_some() => false,
            Visibility::Full => true,
            Visibility::Masked => !filter.names_private_fields(),
            Visibility::Staff => false,
        };
        if allowed { Ok(()) } else { self.may_administrate() }
    }

    /// Refuses viewers who may not see this user.
    pub(crate) fn may_see(&self, id: UserId) -> Result<(), Refusal> {
        if self.user.is_staff() || self.user.id == id || self.visibility != Visibility::Staff {
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
        let sees_host_data = self.user.is_staff() || self.user.id == user.id;
        UserView {
            id: user.id,
            phone: DisplayPhone::new(&user.phone, is_open),
            invite_code: user.invite_code,
            invited_by_code: user.invited_by.map(|named| named.code),
            email: user.email.filter(|_| is_open),
            first_name: user.first_name,
            last_name: user.last_name,
            is_staff: user.staff_role.is_some(),
            is_active: user.is_active,
            date_joined: user.date_joined,
            last_login: user.last_login,
            external_id: user.external_id.filter(|_| sees_host_data),
            metadata: sees_host_data.then_some(user.metadata),
        }
    }

    pub(crate) fn invitee(&self, invitee: &Invitee) -> InviteeView {
        InviteeView::new(invitee, self.is_open(invitee.id))
    }

    /// Returns `true` if no data of this user is hidden. Own data is never hidden.
    fn is_open(&self, id: UserId) -> bool {
        self.sees_private() || self.user.id == id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::{staff_role::StaffRole, tests::user};

    fn others() -> UserWithInvited {
        let email = Email::parse("boris@example.com").ok();
        let invitee = Invitee { id: user(3).id, phone: user(3).phone, joined_at: OffsetDateTime::UNIX_EPOCH };
        UserWithInvited { user: User { email, ..user(2) }, invited: vec![invitee] }
    }

    #[test]
    fn masked_visibility_hides_phones_and_addresses_of_others_only() {
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
    fn data_of_the_host_are_visible_to_the_user_and_to_staff_only() {
        let external_id = ExternalId::parse("a1").ok();
        let metadata: Metadata = r#"{"plan":"gold"}"#.parse().expect("valid");
        let anna = User { external_id: external_id.clone(), metadata: metadata.clone(), ..user(1) };
        let [boris, staff] = [user(2), User { staff_role: Some(StaffRole::Support), ..user(9) }];
        for visibility in [Visibility::Full, Visibility::Masked, Visibility::Staff] {
            for (viewer, sees) in [(&anna, true), (&staff, true), (&boris, false)] {
                let seen = Viewer { user: viewer, visibility }.user(anna.clone());
                let expected = (external_id.clone().filter(|_| sees), sees.then(|| metadata.clone()));
                assert_eq!((seen.external_id, seen.metadata), expected, "{visibility:?}");
            }
            let filter = FilterInput { external_id: Some("a1"), ..FilterInput::default() };
            assert_eq!(Viewer { user: &anna, visibility }.may_list(&filter), Err(Refusal::StaffOnly));
            assert!(Viewer { user: &staff, visibility }.may_list(&filter).is_ok());
        }
    }

    #[test]
    fn access_depends_on_the_visibility_and_staff_have_full_access() {
        let [anna, staff] = [user(1), User { staff_role: Some(StaffRole::Support), ..user(9) }];
        let all_users = FilterInput::default();
        let by_phone = FilterInput { phone: Some("+79608543002"), ..all_users };
        for (visibility, list, filter, detail) in [
            (Visibility::Full, true, true, true),
            (Visibility::Masked, true, false, true),
            (Visibility::Staff, false, false, false),
        ] {
            let viewer = Viewer { user: &anna, visibility };
            assert_eq!(viewer.may_list(&all_users).is_ok(), list, "{visibility:?}");
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
