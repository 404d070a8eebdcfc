//! Accepting an invitation: the one way there is, for signing in and for editing a profile.

use time::OffsetDateTime;

use crate::{InviteCode, Refusal, User, UserId};

/// The owner of the invite code that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inviter {
    /// Whose code it is.
    pub id: UserId,
    /// The code.
    pub code: InviteCode,
}

/// What is known of the inviter's inviters, and of theirs, up to the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lineage {
    /// Nobody looked.
    #[default]
    NotWalked,
    /// The invitee is not among them.
    WithoutInvitee,
    /// The invitee is among them: accepting would close a loop.
    WithInvitee,
}

/// An accepted invitation, to be written once and never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Who was invited.
    pub invitee: UserId,
    /// By whom.
    pub inviter: UserId,
    /// With which code.
    pub code: InviteCode,
    /// When it was accepted.
    pub accepted_at: OffsetDateTime,
    /// In the course of what.
    pub via: Via,
}

/// In the course of what an invitation was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The sign-in that made the user.
    SignUp,
    /// A later sign-in.
    SignIn,
    /// An edit of the profile.
    Profile,
}

impl Via {
    /// A stable name, as it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignUp => "sign_up",
            Self::SignIn => "sign_in",
            Self::Profile => "profile",
        }
    }
}

/// What a given invite code leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The owner of the code becomes the inviter.
    Accept(UserId),
    /// The owner of the code already is the inviter.
    SameInviter,
    /// Another user already is the inviter.
    OtherInviter,
    /// The code cannot be accepted.
    Refuse(Refusal),
}

/// Decides about an invite code that `invitee` gave, where `None` is somebody about to become a
/// user, and `inviter` is the owner of the code, if it has one.
pub(crate) fn decide(invitee: Option<&User>, inviter: Option<&Inviter>, lineage: Lineage) -> Verdict {
    let Some(inviter) = inviter else {
        return Verdict::Refuse(Refusal::UnknownInviteCode);
    };
    // Nobody was invited by somebody who is only now becoming a user, so there can be no loop.
    let Some(invitee) = invitee else {
        return Verdict::Accept(inviter.id);
    };
    if inviter.id == invitee.id {
        return Verdict::Refuse(Refusal::OwnInviteCode);
    }
    match &invitee.invited_by {
        Some(named) if named.inviter == inviter.id => Verdict::SameInviter,
        Some(_) => Verdict::OtherInviter,
        None if lineage == Lineage::WithInvitee => Verdict::Refuse(Refusal::InvitationLoop),
        None => {
            debug_assert_ne!(lineage, Lineage::NotWalked, "`needs_lineage` was not asked");
            Verdict::Accept(inviter.id)
        }
    }
}

/// Whether the inviter's lineage must be walked, under the lock for late acceptances, before
/// [`decide`] can be asked.
pub(crate) fn needs_lineage(invitee: Option<&User>, inviter: Option<&Inviter>) -> bool {
    matches!((invitee, inviter), (Some(invitee), Some(inviter))
        if invitee.invited_by.is_none() && invitee.id != inviter.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InvitedBy, user::tests::user};

    fn inviter(of: &User) -> Inviter {
        Inviter { id: of.id, code: of.invite_code.clone() }
    }

    #[test]
    fn every_case_has_its_verdict() {
        let [anna, boris, vera] = [user(1), user(2), user(3)];
        let invited_by = |named: &User| User {
            invited_by: Some(InvitedBy { inviter: named.id, code: named.invite_code.clone() }),
            ..anna.clone()
        };
        let clear = Lineage::WithoutInvitee;

        for (case, invitee, code_of, lineage, verdict) in [
            (
                "unknown code, new",
                None,
                None,
                Lineage::NotWalked,
                Verdict::Refuse(Refusal::UnknownInviteCode),
            ),
            ("unknown code", Some(&anna), None, clear, Verdict::Refuse(Refusal::UnknownInviteCode)),
            ("new user", None, Some(&boris), Lineage::NotWalked, Verdict::Accept(boris.id)),
            ("own code", Some(&anna), Some(&anna), clear, Verdict::Refuse(Refusal::OwnInviteCode)),
            ("first inviter", Some(&anna), Some(&boris), clear, Verdict::Accept(boris.id)),
            (
                "loop",
                Some(&anna),
                Some(&boris),
                Lineage::WithInvitee,
                Verdict::Refuse(Refusal::InvitationLoop),
            ),
            ("same again", Some(&invited_by(&boris)), Some(&boris), Lineage::NotWalked, Verdict::SameInviter),
            ("another", Some(&invited_by(&boris)), Some(&vera), Lineage::NotWalked, Verdict::OtherInviter),
        ] {
            let inviter = code_of.map(inviter);
            assert_eq!(decide(invitee, inviter.as_ref(), lineage), verdict, "{case}");
            if lineage == Lineage::NotWalked {
                assert!(!needs_lineage(invitee, inviter.as_ref()), "{case}");
            }
        }
        assert!(needs_lineage(Some(&anna), Some(&inviter(&boris))));
    }
}
