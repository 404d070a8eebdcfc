//! Users and entries of the audit log, as staff see them.

use poem_openapi::{Object, types::Example};
use referral_core::{Invitation, InviteeView, Session, UserDetails, audit};
use serde::Serialize;
use uuid::Uuid;

use crate::api::{examples, timestamp::Timestamp, user_views::User};

/// A user, as staff see it.
#[derive(Object, Serialize)]
#[oai(example)]
pub(crate) struct AdminUser {
    #[oai(flatten)]
    #[serde(flatten)]
    user: User,
    /// The role of a user who is staff: `support` or `admin`.
    staff_role: Option<String>,
    /// The time of the last sign-in or refresh, to within a day.
    last_active: Option<Timestamp>,
    /// The time at which the user lost `phone`. `null` if the user has it.
    phone_detached_at: Option<Timestamp>,
    /// The total number of invited users.
    invited_count: u64,
    /// The time at which the user is deleted unless the user signs in before. `null` if the user has not deleted
    /// the account.
    deletion_at: Option<Timestamp>,
}

impl Example for AdminUser {
    fn example() -> Self {
        let last_active = Some(examples::TIME);
        Self {
            user: User::example(),
            staff_role: None,
            last_active,
            phone_detached_at: None,
            invited_count: 1,
            deletion_at: None,
        }
    }
}

impl From<referral_core::User> for AdminUser {
    fn from(user: referral_core::User) -> Self {
        Self {
            staff_role: user.staff_role.map(|role| role.to_string()),
            last_active: user.last_active.map(Timestamp),
            phone_detached_at: user.phone_detached_at.map(Timestamp),
            invited_count: user.invited_count,
            deletion_at: user.deletion_at.map(Timestamp),
            user: user.into(),
        }
    }
}

/// A page of users.
#[derive(Object, Serialize)]
#[oai(example)]
pub(super) struct AdminUserPage {
    /// The number of users that match. With a search, at most 1000.
    pub(super) count: u64,
    /// `true` if exactly `count` users match, `false` if more users match.
    pub(super) count_exact: bool,
    /// The URL of the page with older users.
    pub(super) next: Option<String>,
    /// The URL of the page with newer users.
    pub(super) previous: Option<String>,
    /// The users, newest first.
    pub(super) results: Vec<AdminUser>,
}

impl Example for AdminUserPage {
    fn example() -> Self {
        Self { count: 1, count_exact: true, next: None, previous: None, results: vec![AdminUser::example()] }
    }
}

/// A user with the inviter, the newest invited users and the sessions.
#[derive(Object, Serialize)]
#[oai(example)]
pub(super) struct AdminUserDetails {
    #[oai(flatten)]
    #[serde(flatten)]
    user: AdminUser,
    /// The inviter. `null` also if the inviter was deleted.
    inviter: Option<RelatedUser>,
    /// The invitation that the user accepted.
    invitation: Option<AcceptedInvitation>,
    /// The newest invited users. At most 100.
    invited: Vec<RelatedUser>,
    /// The sessions that have not ended, newest first. At most 100.
    sessions: Vec<UserSession>,
    /// The other users who had the phone and lost it, newest first. At most 20.
    former_users: Vec<RelatedUser>,
}

impl Example for AdminUserDetails {
    fn example() -> Self {
        Self {
            user: AdminUser::example(),
            inviter: Some(RelatedUser::example()),
            invitation: Some(AcceptedInvitation::example()),
            invited: vec![RelatedUser::example()],
            sessions: vec![UserSession::example()],
            former_users: Vec::new(),
        }
    }
}

impl From<UserDetails> for AdminUserDetails {
    fn from(details: UserDetails) -> Self {
        let invited = details.invited.into_iter().map(|invitee| RelatedUser {
            id: invitee.id.0,
            phone: invitee.phone.as_str().to_owned(),
            joined_at: invitee.joined_at.into(),
        });
        Self {
            user: details.user.into(),
            inviter: details.inviter.map(RelatedUser::from),
            invitation: details.invitation.as_ref().map(AcceptedInvitation::from),
            invited: invited.collect(),
            sessions: details.sessions.into_iter().map(UserSession::from).collect(),
            former_users: details.former_users.into_iter().map(RelatedUser::from).collect(),
        }
    }
}

/// The inviter of a user, an invited user, or a user who had the phone before.
#[derive(Object, Serialize)]
pub(crate) struct RelatedUser {
    /// The id.
    id: Uuid,
    /// The phone (E.164).
    phone: String,
    /// The time at which this user joined.
    joined_at: Timestamp,
}

impl RelatedUser {
    pub(crate) fn example() -> Self {
        Self { id: examples::FRIENDS_ID, phone: examples::FRIENDS_PHONE.into(), joined_at: examples::TIME }
    }
}

impl From<referral_core::User> for RelatedUser {
    fn from(user: referral_core::User) -> Self {
        Self { id: user.id.0, phone: user.phone.as_str().to_owned(), joined_at: user.date_joined.into() }
    }
}

impl From<InviteeView> for RelatedUser {
    fn from(invitee: InviteeView) -> Self {
        Self {
            id: invitee.id.0,
            phone: invitee.phone.as_str().to_owned(),
            joined_at: invitee.joined_at.into(),
        }
    }
}

/// An invitation that a user accepted.
#[derive(Object, Serialize)]
pub(crate) struct AcceptedInvitation {
    /// The time at which the invitation was accepted.
    accepted_at: Timestamp,
    /// The operation: `sign_up`, `sign_in`, `profile`, or `staff` if staff set the inviter.
    via: String,
}

impl AcceptedInvitation {
    pub(crate) fn example() -> Self {
        Self { accepted_at: examples::TIME, via: "sign_up".into() }
    }
}

impl From<&Invitation> for AcceptedInvitation {
    fn from(invitation: &Invitation) -> Self {
        Self { accepted_at: invitation.accepted_at.into(), via: invitation.via.as_str().to_owned() }
    }
}

/// A session of a user.
#[derive(Object, Serialize)]
#[oai(example)]
pub(crate) struct UserSession {
    /// The id of the session.
    id: Uuid,
    /// The time at which the session was created.
    created_at: Timestamp,
    /// The time of the sign-in or of the last refresh.
    last_used_at: Timestamp,
    /// The time at which the session ends if it is not refreshed before.
    expires_at: Timestamp,
    /// The `User-Agent` header of the client at `last_used_at`.
    user_agent: Option<String>,
    /// The address of the client at `last_used_at`. For IPv6 it is the network.
    address: Option<String>,
}

impl Example for UserSession {
    fn example() -> Self {
        Self {
            id: examples::SESSION_ID,
            created_at: examples::TIME,
            last_used_at: examples::TIME,
            expires_at: (examples::TIME.0 + time::Duration::days(30)).into(),
            user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0".into()),
            address: Some("203.0.113.9".into()),
        }
    }
}

impl From<Session> for UserSession {
    fn from(session: Session) -> Self {
        Self {
            id: session.id.0,
            created_at: session.created_at.into(),
            last_used_at: session.last_used_at().into(),
            expires_at: session.ends_at().into(),
            address: session.address.map(|address| address.to_string()),
            user_agent: session.user_agent,
        }
    }
}

/// An entry of the audit log.
#[derive(Object, Serialize)]
#[oai(example)]
pub(super) struct AuditEntry {
    /// The id (UUID version 7).
    id: Uuid,
    /// The time of the change.
    at: Timestamp,
    /// The id of the user that made the change, or `host` for a command and for the server itself.
    actor: String,
    /// The kind of change: `user_added`, `user_changed`, `phone_changed`, `deletion_scheduled`, `deletion_canceled`,
    /// `user_deleted`, `sessions_ended`, `phone_unlocked` or `data_exported`.
    action: String,
    /// The id of the user that was changed.
    user: Option<Uuid>,
    /// The reason of the change.
    reason: Option<String>,
    /// The changed fields.
    changes: Vec<FieldChange>,
}

/// The change of a field. To undo it, set the field to `before`.
#[derive(Object, Serialize)]
pub(crate) struct FieldChange {
    /// The name of the field, such as `email`.
    field: String,
    /// The value before the change, as text.
    before: Option<String>,
    /// The value after the change, as text.
    after: Option<String>,
}

impl FieldChange {
    pub(crate) fn example() -> Self {
        Self { field: "external_id".into(), before: None, after: Some(examples::EXTERNAL_ID.into()) }
    }
}

impl From<audit::FieldChange> for FieldChange {
    fn from(change: audit::FieldChange) -> Self {
        Self { field: change.field, before: change.before, after: change.after }
    }
}

impl Example for AuditEntry {
    fn example() -> Self {
        Self {
            id: examples::AUDIT_ENTRY_ID,
            at: examples::TIME,
            actor: examples::FRIENDS_ID.to_string(),
            action: "user_changed".into(),
            user: Some(examples::USER_ID),
            reason: Some(examples::REASON.into()),
            changes: vec![FieldChange::example()],
        }
    }
}

impl From<audit::AuditEntry> for AuditEntry {
    fn from(entry: audit::AuditEntry) -> Self {
        Self {
            id: entry.id.0,
            at: entry.at.into(),
            actor: entry.actor.user().map_or_else(|| "host".to_owned(), |id| id.to_string()),
            action: entry.action.to_string(),
            user: entry.user.map(|user| user.0),
            reason: entry.reason.map(|reason| reason.as_str().to_owned()),
            changes: entry.changes.into_iter().map(FieldChange::from).collect(),
        }
    }
}

/// A page of the audit log.
#[derive(Object, Serialize)]
#[oai(example)]
pub(super) struct AuditEntryPage {
    /// The URL of the page with older entries.
    pub(super) next: Option<String>,
    /// The entries, newest first.
    pub(super) results: Vec<AuditEntry>,
}

impl Example for AuditEntryPage {
    fn example() -> Self {
        Self { next: None, results: vec![AuditEntry::example()] }
    }
}
