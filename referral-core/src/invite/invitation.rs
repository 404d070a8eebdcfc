//! Rule of accepting an invitation, at sign-in and in a profile edit.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    error::refusal::Refusal,
    invite::code::InviteCode,
    user::{User, UserId},
};

/// Owner of the invite code in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inviter {
    /// Id of the owner.
    pub id: UserId,
    /// Invite code of the owner.
    pub code: InviteCode,
}

/// Result of the search for the invitee among the inviters of the inviter, up to the first inviter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a storage reads one of the variants")]
pub enum Ancestry {
    /// The inviters were not searched.
    #[default]
    NotWalked,
    /// The invitee is not one of the inviters.
    WithoutInvitee,
    /// The invitee is one of the inviters, so the invitation would create a loop.
    WithInvitee,
}

/// Accepted invitation. It is stored once. Only staff and the host can remove or replace it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// User that was invited.
    pub invitee: UserId,
    /// User that invited the invitee.
    pub inviter: UserId,
    /// Invite code of the inviter.
    pub code: InviteCode,
    /// Time at which the invitation was accepted.
    #[serde(with = "crate::stored::micros")]
    pub accepted_at: OffsetDateTime,
    /// Operation that accepted the invitation.
    pub via: AcceptedVia,
}

/// Operation that accepted an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AcceptedVia {
    /// The sign-in that created the user.
    SignUp,
    /// A later sign-in.
    SignIn,
    /// A profile edit.
    Profile,
    /// A change by staff or by the host, which can also replace an earlier invitation.
    Staff,
    /// The import of the user from a system that did not record the operation.
    Import,
}

impl AcceptedVia {
    /// All values.
    pub const ALL: [Self; 5] = [Self::SignUp, Self::SignIn, Self::Profile, Self::Staff, Self::Import];

    /// Returns the stable name under which the operation is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignUp => "sign_up",
            Self::SignIn => "sign_in",
            Self::Profile => "profile",
            Self::Staff => "staff",
            Self::Import => "import",
        }
    }
}

/// Decision about an invite code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InvitationDecision {
    /// The owner of the code becomes the inviter.
    Accept(UserId),
    /// The owner of the code already is the inviter.
    SameInviter,
    /// Another user already is the inviter.
    OtherInviter,
    /// The code cannot be accepted.
    Refuse(Refusal),
}

/// Decides about an invite code that `invitee` sent. `invitee` is `None` if the user does not exist yet.
/// `inviter` is the owner of the code, if there is one.
pub(crate) fn decide(
    invitee: Option<&User>,
    inviter: Option<&Inviter>,
    ancestry: Ancestry,
) -> InvitationDecision {
    let Some(inviter) = inviter else {
        return InvitationDecision::Refuse(Refusal::UnknownInviteCode);
    };
    // A user that does not exist yet has not invited other users, so there is no loop.
    let Some(invitee) = invitee else {
        return InvitationDecision::Accept(inviter.id);
    };
    if inviter.id == invitee.id {
        return InvitationDecision::Refuse(Refusal::OwnInviteCode);
    }
    match &invitee.invited_by {
        Some(named) if named.inviter == inviter.id => InvitationDecision::SameInviter,
        Some(_) => InvitationDecision::OtherInviter,
        None if ancestry == Ancestry::WithInvitee => InvitationDecision::Refuse(Refusal::InvitationLoop),
        None => {
            debug_assert_ne!(ancestry, Ancestry::NotWalked, "the ancestry was not loaded");
            InvitationDecision::Accept(inviter.id)
        }
    }
}

/// Returns `true` if [`decide`] needs the ancestry of the inviter. The ancestry must be loaded under the lock
/// for late acceptances.
pub(crate) fn needs_ancestry(invitee: Option<&User>, inviter: Option<&Inviter>) -> bool {
    matches!((invitee, inviter), (Some(invitee), Some(inviter))
        if invitee.invited_by.is_none() && invitee.id != inviter.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::{InvitedBy, tests::user};

    fn inviter(of: &User) -> Inviter {
        Inviter { id: of.id, code: of.invite_code.clone() }
    }

    #[test]
    fn each_case_has_the_expected_decision() {
        let [anna, boris, vera] = [user(1), user(2), user(3)];
        let invited_by = |named: &User| User {
            invited_by: Some(InvitedBy { inviter: named.id, code: named.invite_code.clone() }),
            ..anna.clone()
        };
        let clear = Ancestry::WithoutInvitee;

        for (case, invitee, code_of, ancestry, expected) in [
            (
                "unknown code, new user",
                None,
                None,
                Ancestry::NotWalked,
                InvitationDecision::Refuse(Refusal::UnknownInviteCode),
            ),
            (
                "unknown code",
                Some(&anna),
                None,
                clear,
                InvitationDecision::Refuse(Refusal::UnknownInviteCode),
            ),
            ("new user", None, Some(&boris), Ancestry::NotWalked, InvitationDecision::Accept(boris.id)),
            ("own code", Some(&anna), Some(&anna), clear, InvitationDecision::Refuse(Refusal::OwnInviteCode)),
            ("first inviter", Some(&anna), Some(&boris), clear, InvitationDecision::Accept(boris.id)),
            (
                "loop",
                Some(&anna),
                Some(&boris),
                Ancestry::WithInvitee,
                InvitationDecision::Refuse(Refusal::InvitationLoop),
            ),
            (
                "same inviter",
                Some(&invited_by(&boris)),
                Some(&boris),
                Ancestry::NotWalked,
                InvitationDecision::SameInviter,
            ),
            (
                "other inviter",
                Some(&invited_by(&boris)),
                Some(&vera),
                Ancestry::NotWalked,
                InvitationDecision::OtherInviter,
            ),
        ] {
            let inviter = code_of.map(inviter);
            assert_eq!(decide(invitee, inviter.as_ref(), ancestry), expected, "{case}");
            if ancestry == Ancestry::NotWalked {
                assert!(!needs_ancestry(invitee, inviter.as_ref()), "{case}");
            }
        }
        assert!(needs_ancestry(Some(&anna), Some(&inviter(&boris))));
    }
}
