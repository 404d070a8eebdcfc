//! Purposes of one-time codes.

use crate::user::UserId;

/// Purpose of a one-time code. The hash of a code contains its purpose, so a code is valid for its purpose
/// only: a code to sign in, which a user may tell an attacker, deletes no account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CodePurpose {
    /// Sign in, or create an account.
    #[default]
    SignIn,
    /// Delete the account of this user.
    DeleteUser(UserId),
    /// Change the phone of this user to the phone to which the code is sent.
    ChangePhone(UserId),
}

impl CodePurpose {
    /// Returns the stable `snake_case` name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::DeleteUser(_) => "delete_user",
            Self::ChangePhone(_) => "change_phone",
        }
    }

    /// Returns the part of the hash of a code. It differs for different purposes and users.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let (name, user): (&[u8], _) = match self {
            Self::SignIn => (b"sign-in", None),
            Self::DeleteUser(user) => (b"delete-user", Some(user)),
            Self::ChangePhone(user) => (b"change-phone", Some(user)),
        };
        let user = user.as_ref().map_or(&[] as &[u8], |user| user.0.as_bytes());
        [name, user].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::tests::user;

    #[test]
    fn purposes_of_different_kinds_and_users_differ_in_the_hash() {
        let [anna, boris] = [user(1).id, user(2).id];
        let of_user = |user| [CodePurpose::DeleteUser(user), CodePurpose::ChangePhone(user)];
        let purposes = [&[CodePurpose::SignIn][..], &of_user(anna), &of_user(boris)].concat();
        for (index, one) in purposes.iter().enumerate() {
            for other in &purposes[..index] {
                assert_ne!(one.to_bytes(), other.to_bytes());
            }
        }
        assert_eq!(CodePurpose::SignIn.to_bytes(), b"sign-in");
    }
}
