//! Changes of a user by the host or by staff.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::{
    audit::{AuditAction, AuditContext, AuditEntry, FieldChange},
    decision::Decision,
    error::refusal::Refusal,
    events::SessionEnd,
    invite::{
        code::InviteCode,
        invitation::{AcceptedVia, Ancestry, Invitation, Inviter},
    },
    policy::Policy,
    session::SessionId,
    user::{
        InvitedBy, User, UserId, email::Email, external_id::ExternalId, metadata::Metadata, name::Name,
        phone::PhoneNumber, staff_role::StaffRole,
    },
};

/// Changes of a user by the host or by staff. A field that is `None` does not change, and `Some(None)` clears
/// a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserChange {
    /// First name.
    pub first_name: Option<Option<Name>>,
    /// Last name.
    pub last_name: Option<Option<Name>>,
    /// Email address; unique.
    pub email: Option<Option<Email>>,
    /// Invite code of the inviter, which replaces an earlier inviter.
    pub invited_by_code: Option<Option<InviteCode>>,
    /// `false` deactivates the user, and ends the sessions of the user.
    pub is_active: Option<bool>,
    /// Role. Additional rights end the sessions of the user: they were started with fewer rights, perhaps on a
    /// shared device.
    pub staff_role: Option<Option<StaffRole>>,
    /// External id; unique.
    pub external_id: Option<Option<ExternalId>>,
    /// Metadata that replace the current ones.
    pub metadata: Option<Metadata>,
    /// Phone. `Some(None)` detaches the phone: the user stays, cannot sign in, and is in no list. Both end the
    /// sessions of the user. The phone must not sign in as another user: detach it from that user before.
    pub phone: Option<Option<PhoneNumber>>,
    /// `true` cancels the scheduled deletion of the user, if there is one.
    pub cancels_deletion: bool,
}

/// Request to change a user, for [`UserStorage::change_user`](crate::storage::UserStorage::change_user).
/// [`change_user_request`](crate::ReferralService::change_user_request) creates it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UserChangeRequest {
    /// User to change.
    pub user: UserId,
    /// Changes.
    pub change: UserChange,
    /// Current time.
    pub now: OffsetDateTime,
    pub(crate) policy: Arc<Policy>,
    pub(crate) audit: Option<AuditContext>,
}

/// Stored data on which [`UserChangeRequest::decide`] depends.
#[derive(Clone, Debug, Default)]
pub struct UserChangeFacts {
    /// User to change, if the user exists.
    pub user: Option<User>,
    /// Owner of the requested email address.
    pub email_owner: Option<UserId>,
    /// Owner of the requested external id.
    pub external_id_owner: Option<UserId>,
    /// User with the requested phone.
    pub phone_owner: Option<UserId>,
    /// Owner of the given invite code.
    pub inviter: Option<Inviter>,
    /// Ancestry of the inviter, if [`UserChangeRequest::needs_ancestry`] returns `true`.
    pub ancestry: Ancestry,
    /// `true` if there is an active admin besides the user, if [`UserChangeRequest::needs_other_admin`]
    /// returns `true`.
    pub has_other_admin: bool,
}

/// Changes of a decision about a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserChangeWrites {
    /// User to store in place of the current one, if a field changes. If it [has no phone](User::has_phone),
    /// no search and no list finds it from then on.
    pub user: Option<User>,
    /// Change of the invitation of the user.
    pub invitation: Option<InvitationWrite>,
    /// `true` if all sessions of the user end.
    pub ends_sessions: bool,
    /// Entry to add to the audit log.
    pub audit: Option<AuditEntry>,
}

/// Change of the invitation that a user accepted. The counts of both inviters change with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a storage must write each variant")]
pub enum InvitationWrite {
    /// Store the invitation in place of the current one, if there is one.
    Put(Invitation),
    /// Remove the invitation.
    Remove,
}

/// User after a change by the host or by staff.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangedUser {
    /// User.
    pub user: User,
    /// Reason for which the sessions ended, if they ended.
    pub session_end: Option<SessionEnd>,
    /// Sessions that were ended, in any order. The storage sets them.
    pub ended_sessions: Vec<SessionId>,
    /// `true` if the change has canceled the scheduled deletion of the user.
    pub deletion_canceled: bool,
    /// Entry that was added to the audit log.
    pub audit: Option<AuditEntry>,
}

impl ChangedUser {
    /// Returns the same result with the sessions that the storage has ended.
    #[must_use]
    pub fn with_ended_sessions(self, ended_sessions: Vec<SessionId>) -> Self {
        Self { ended_sessions, ..self }
    }
}

/// Decision about a change.
pub type UserChangeDecision = Decision<UserChangeWrites, Result<ChangedUser, Refusal>>;

impl UserChangeRequest {
    /// Returns the email address that the user requests, if it is not cleared.
    #[must_use]
    pub fn email(&self) -> Option<&Email> {
        self.change.email.as_ref()?.as_ref()
    }

    /// Returns the external id that the user requests, if it is not cleared.
    #[must_use]
    pub fn external_id(&self) -> Option<&ExternalId> {
        self.change.external_id.as_ref()?.as_ref()
    }

    /// Returns the requested phone, if it is not detached.
    #[must_use]
    pub fn phone(&self) -> Option<&PhoneNumber> {
        self.change.phone.as_ref()?.as_ref()
    }

    /// Returns the invite code of the requested inviter, if it is not cleared.
    #[must_use]
    pub fn invited_by_code(&self) -> Option<&InviteCode> {
        self.change.invited_by_code.as_ref()?.as_ref()
    }

    /// Returns `true` if [`UserChangeFacts::ancestry`] must be read, under the lock for late acceptances.
    #[must_use]
    pub fn needs_ancestry(&self, facts: &UserChangeFacts) -> bool {
        let Some((user, inviter)) = facts.user.as_ref().zip(facts.inviter.as_ref()) else {
            return false;
        };
        user.id != inviter.id && user.invited_by.as_ref().map(|by| by.inviter) != Some(inviter.id)
    }

    /// Returns `true` if [`UserChangeFacts::has_other_admin`] must be read, under the lock for staff.
    #[must_use]
    pub fn needs_other_admin(&self, facts: &UserChangeFacts) -> bool {
        facts.user.as_ref().is_some_and(|user| {
            user.is_active_admin()
                && (self.change.is_active == Some(false)
                    || self.change.phone == Some(None)
                    || self.change.staff_role.is_some_and(|role| role != Some(StaffRole::Admin)))
        })
    }

    /// Applies the complete change, or refuses it.
    #[must_use]
    pub fn decide(&self, facts: &UserChangeFacts) -> UserChangeDecision {
        match self.changed(facts) {
            Ok((before, after, invitation)) => self.write(before, after, invitation),
            Err(refusal) => Decision::refuse(refusal),
        }
    }

    /// Returns the user before and after the change, and the change of the invitation.
    fn changed<'f>(
        &self,
        facts: &'f UserChangeFacts,
    ) -> Result<(&'f User, User, Option<InvitationWrite>), Refusal> {
        let user = facts.user.as_ref().ok_or(Refusal::UserNotFound)?;
        let is_taken = |owner: Option<UserId>| owner.is_some_and(|owner| owner != self.user);
        if self.email().is_some() && is_taken(facts.email_owner) {
            return Err(Refusal::EmailTaken);
        }
        if self.external_id().is_some() && is_taken(facts.external_id_owner) {
            return Err(Refusal::ExternalIdTaken);
        }
        if self.phone().is_some() && is_taken(facts.phone_owner) {
            return Err(Refusal::PhoneTaken);
        }
        if self.needs_other_admin(facts) && !facts.has_other_admin {
            return Err(Refusal::LastAdmin);
        }
        let role = self.change.staff_role.unwrap_or(user.staff_role);
        let (phone, phone_detached_at) = match &self.change.phone {
            Some(Some(phone)) => (phone, None),
            Some(None) => (&user.phone, user.phone_detached_at.or(Some(self.now))),
            None => (&user.phone, user.phone_detached_at),
        };
        let gets_phone = phone_detached_at.is_none() && user.current_phone() != Some(phone);
        let gets_role = role > user.staff_role || (gets_phone && role.is_some());
        if gets_role && self.policy.test_number(phone, self.now).is_some() {
            return Err(Refusal::TestNumber);
        }
        let invitation = self.invitation(user, facts)?;
        let UserChange { first_name, last_name, email, is_active, staff_role, external_id, metadata, .. } =
            self.change.clone();
        let before = user.clone();
        let after = User {
            phone: phone.clone(),
            phone_detached_at,
            // Otherwise the phone could be detached again at the next sign-in.
            last_active: if gets_phone { Some(self.now) } else { before.last_active },
            first_name: first_name.unwrap_or(before.first_name),
            last_name: last_name.unwrap_or(before.last_name),
            email: email.unwrap_or(before.email),
            invited_by: match &invitation {
                Some(InvitationWrite::Put(invitation)) => Some(InvitedBy::from(invitation)),
                Some(InvitationWrite::Remove) => None,
                None => before.invited_by,
            },
            is_active: is_active.unwrap_or(before.is_active),
            staff_role: staff_role.unwrap_or(before.staff_role),
            external_id: external_id.unwrap_or(before.external_id),
            metadata: metadata.unwrap_or(before.metadata),
            deletion_at: before.deletion_at.filter(|_| !self.change.cancels_deletion),
            ..before
        };
        Ok((user, after, invitation))
    }

    fn invitation(&self, user: &User, facts: &UserChangeFacts) -> Result<Option<InvitationWrite>, Refusal> {
        let Some(code) = &self.change.invited_by_code else {
            return Ok(None);
        };
        let Some(code) = code else {
            return Ok(user.invited_by.as_ref().map(|_| InvitationWrite::Remove));
        };
        let inviter = facts.inviter.as_ref().ok_or(Refusal::UnknownInviteCode)?;
        if inviter.id == user.id {
            return Err(Refusal::OwnInviteCode);
        }
        if !self.needs_ancestry(facts) {
            return Ok(None);
        }
        if facts.ancestry == Ancestry::WithInvitee {
            return Err(Refusal::InvitationLoop);
        }
        debug_assert_ne!(facts.ancestry, Ancestry::NotWalked, "the ancestry was not loaded");
        Ok(Some(InvitationWrite::Put(Invitation {
            invitee: user.id,
            inviter: inviter.id,
            code: code.clone(),
            accepted_at: self.now,
            via: AcceptedVia::Staff,
        })))
    }

    fn write(&self, before: &User, after: User, invitation: Option<InvitationWrite>) -> UserChangeDecision {
        if *before == after {
            let changed = ChangedUser {
                user: after,
                session_end: None,
                ended_sessions: Vec::new(),
                deletion_canceled: false,
                audit: None,
            };
            return Decision { writes: UserChangeWrites::default(), outcome: Ok(changed) };
        }
        let session_end = if before.is_active && !after.is_active {
            Some(SessionEnd::Deactivated)
        } else if before.current_phone() != after.current_phone() {
            Some(SessionEnd::PhoneChanged)
        } else if after.staff_role > before.staff_role {
            Some(SessionEnd::BecameStaff)
        } else {
            None
        };
        let audit = self.audit.as_ref().map(|audit| {
            audit.entry(AuditAction::UserChanged, Some(after.id), FieldChange::between(before, &after))
        });
        let writes = UserChangeWrites {
            user: Some(after.clone()),
            invitation,
            ends_sessions: session_end.is_some(),
            audit: audit.clone(),
        };
        let deletion_canceled = before.deletion_at.is_some() && after.deletion_at.is_none();
        let changed =
            ChangedUser { user: after, session_end, ended_sessions: Vec::new(), deletion_canceled, audit };
        Decision { writes, outcome: Ok(changed) }
    }
}

#[cfg(test)]
mod tests;
