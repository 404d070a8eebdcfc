//! Approvals of the gate, on which the rules of signing in and of editing a profile depend.

use super::{RequestedInvitation, RequestedSignUp};
use crate::invite::invitation::{AcceptedVia, Invitation};

/// Changes of a request that require the approval of the gate. Nothing of the request has been stored except
/// counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatedChanges {
    pub(crate) sign_up: Option<RequestedSignUp>,
    pub(crate) invitation: Option<RequestedInvitation>,
}

/// State of the approval of a request.
#[derive(Clone, Debug)]
pub(crate) enum Approval {
    /// There is no gate.
    NotRequired,
    /// The gate has not been asked.
    Required,
    /// The gate allowed these changes, and no others.
    Granted(GatedChanges),
}

impl Approval {
    /// Returns the changes that require an approval, or `None` if the request may change the user and the
    /// invitation.
    pub(crate) fn missing(&self, created: bool, invitation: Option<&Invitation>) -> Option<GatedChanges> {
        if matches!(self, Self::NotRequired) || (!created && invitation.is_none()) {
            return None;
        }
        let invitation = invitation.map(|invitation| RequestedInvitation {
            inviter: invitation.inviter,
            invitee: (invitation.via != AcceptedVia::SignUp).then_some(invitation.invitee),
            code: invitation.code.clone(),
            via: invitation.via,
        });
        let sign_up = created.then(|| RequestedSignUp { invitation: invitation.clone() });
        let changes = GatedChanges { sign_up, invitation };
        match self {
            Self::Granted(granted) if *granted == changes => None,
            _ => Some(changes),
        }
    }

    /// Returns `true` if the gate has allowed changes of the request.
    pub(crate) fn is_granted(&self) -> bool {
        matches!(self, Self::Granted(_))
    }
}
