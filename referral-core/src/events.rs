//! Events and the hook that is called for them. Use it for bonuses, welcome messages, statistics and alerts.

use std::fmt;

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::{
    audit::AuditEntry,
    clock::ClockOffset,
    error::refusal::Refusal,
    gate::{GateOperation, GateOutcome},
    invite::invitation::Invitation,
    otp::{challenge::ChallengeId, purpose::CodePurpose},
    rate_limit::client::ClientAddress,
    session::SessionId,
    sms::{
        delivery::{DeliveryStatus, MessageRoute},
        notice::Notice,
    },
    user::{User, UserId, phone::PhoneNumber},
};

/// Event of the service. Changes in the storage that belong to it are committed before it is emitted.
///
/// Events contain no codes and no tokens. Each phone is a [`PhoneNumber`], which holds the whole number. Its
/// `Debug` output shows only the last two digits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A code was passed to the sender, and the message was sent or its outcome is unknown.
    CodeSent(CodeSent),
    /// The status of a message changed. It is emitted for messages with an id from their gateway: once when
    /// the message is sent, and once for each status that the gateway reports.
    DeliveryStatusChanged(DeliveryStatusChanged),
    /// A challenge was created for a test number, and no message was sent.
    TestCodeIssued(TestCodeIssued),
    /// A code was not sent, because a rule refused it or the sender failed.
    CodeNotSent(CodeNotSent),
    /// A user signed in.
    UserSignedIn(UserSignedIn),
    /// An attempt to sign in was refused.
    SignInRefused(SignInRefused),
    /// A user was created.
    UserCreated(User),
    /// A user was deleted. The event has the user as before the deletion.
    UserDeleted(User),
    /// A user deleted the own account, which has a [grace period](crate::policy::Policy::deletion_grace).
    DeletionScheduled(DeletionScheduled),
    /// The scheduled deletion of this user was canceled, by a sign-in, by staff or by the host.
    DeletionCanceled(UserId),
    /// A user changed the phone. A change by staff or the host has an entry in the audit log only.
    PhoneChanged(PhoneChanged),
    /// A sign-in created a new user with the phone of a user who was not active for a long time.
    PhoneDetached(PhoneDetached),
    /// A notice was passed to the sender, and the message was sent or its outcome is unknown.
    NoticeSent(NoticeSent),
    /// A notice was not sent, because the sender failed or sends no notices.
    NoticeNotSent(NoticeNotSent),
    /// A code for a change of the own account was refused.
    CodeRefused(CodeRefused),
    /// A user accepted an invitation. This happens at most once per user.
    InvitationAccepted(Invitation),
    /// The gate was asked. It is emitted before the event of the request, such as [`SignInRefused`].
    GateDecided(GateDecided),
    /// An entry was added to the audit log, after the other events of the change.
    Audited(AuditEntry),
    /// A session ended before it expired.
    SessionEnded(SessionEnded),
    /// An attack started or ended.
    AttackChanged(AttackChanged),
    /// The clock of this host was compared with the clock of the storage. This happens each minute.
    ClockMeasured(ClockOffset),
}

/// Code that was passed to the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodeSent {
    /// Phone to which the code was sent.
    pub phone: PhoneNumber,
    /// Purpose of the code.
    pub purpose: CodePurpose,
    /// Challenge of the code.
    pub challenge: ChallengeId,
    /// Number of digits of the code.
    pub code_length: u8,
    /// Address of the client.
    pub address: Option<ClientAddress>,
    /// Route of the message, if the sender returned the gateway that accepted it.
    pub route: Option<MessageRoute>,
}

/// New status of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryStatusChanged {
    /// Route of the message.
    pub route: MessageRoute,
    /// New status.
    pub status: DeliveryStatus,
}

/// Challenge of a test number.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TestCodeIssued {
    /// The test number.
    pub phone: PhoneNumber,
    /// Challenge of the code.
    pub challenge: ChallengeId,
    /// Address of the client.
    pub address: Option<ClientAddress>,
}

/// Code that was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodeNotSent {
    /// Phone for which the code was requested.
    pub phone: PhoneNumber,
    /// Reason of the refusal, or `None` if the sender failed.
    pub reason: Option<Refusal>,
    /// Address of the client.
    pub address: Option<ClientAddress>,
}

/// Sign-in of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserSignedIn {
    /// The user.
    pub user: UserId,
    /// New session.
    pub session: SessionId,
    /// Address of the client.
    pub address: Option<ClientAddress>,
    /// Route of the message with the code, if it is known.
    pub route: Option<MessageRoute>,
}

/// Refused attempt to sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignInRefused {
    /// Phone in the attempt, which may belong to another person.
    pub phone: PhoneNumber,
    /// Reason of the refusal.
    pub reason: Refusal,
    /// Address of the client.
    pub address: Option<ClientAddress>,
}

/// Question to the gate, with its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GateDecided {
    /// Method of the gate.
    pub operation: GateOperation,
    /// Outcome.
    pub outcome: GateOutcome,
}

/// Refused code for a change of the own account.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodeRefused {
    /// User whose account stays unchanged.
    pub user: UserId,
    /// Purpose of the request.
    pub purpose: CodePurpose,
    /// Reason of the refusal.
    pub reason: Refusal,
    /// Address of the client.
    pub address: Option<ClientAddress>,
}

/// Scheduled deletion of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeletionScheduled {
    /// The user.
    pub user: UserId,
    /// Time at which the user is deleted unless the user signs in before.
    pub deletion_at: OffsetDateTime,
}

/// Change of the phone of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PhoneChanged {
    /// The user.
    pub user: UserId,
    /// Phone before the change. It may belong to another person from now on.
    pub old: PhoneNumber,
    /// New phone.
    pub new: PhoneNumber,
}

/// Loss of a phone, which may belong to another person.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PhoneDetached {
    /// User who lost the phone.
    pub user: UserId,
    /// User who has the phone.
    pub new_user: UserId,
}

/// Notice that was passed to the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoticeSent {
    /// User whom the notice is about.
    pub user: UserId,
    /// Phone to which the notice was sent.
    pub phone: PhoneNumber,
    /// Content of the notice.
    pub notice: Notice,
    /// Route of the message, if the sender returned the gateway that accepted it.
    pub route: Option<MessageRoute>,
}

/// Notice that was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoticeNotSent {
    /// User whom the notice is about.
    pub user: UserId,
    /// Phone to which the notice was to be sent.
    pub phone: PhoneNumber,
    /// Content of the notice.
    pub notice: Notice,
}

/// Session that ended before it expired.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionEnded {
    /// User of the session.
    pub user: UserId,
    /// The session.
    pub session: SessionId,
    /// Reason of the end.
    pub reason: SessionEnd,
}

/// Start or end of an attack. During an attack there are far more wrong codes than usual, and codes are
/// longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttackChanged {
    /// `true` if the attack started, `false` if it ended.
    pub under_attack: bool,
}

/// Reason why a session ended before it expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEnd {
    /// The user signed out.
    SignedOut,
    /// The user ended the session from another session.
    EndedElsewhere,
    /// A refresh token was used again after its grace period, so another person may have a copy of it.
    RefreshReused,
    /// The user got more rights as staff.
    BecameStaff,
    /// The user was deleted.
    UserDeleted,
    /// The user deleted the own account, and the grace period has started.
    DeletionScheduled,
    /// The user was deactivated.
    Deactivated,
    /// Staff or the host ended all sessions of the user.
    EndedByStaff,
    /// The user changed the phone in another session.
    PhoneChanged,
    /// The user signed in and had the maximum number of sessions, of which this was the oldest.
    SessionLimit,
}

impl SessionEnd {
    /// Returns the stable `snake_case` name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignedOut => "signed_out",
            Self::EndedElsewhere => "ended_elsewhere",
            Self::RefreshReused => "refresh_reused",
            Self::BecameStaff => "became_staff",
            Self::UserDeleted => "user_deleted",
            Self::DeletionScheduled => "deletion_scheduled",
            Self::Deactivated => "deactivated",
            Self::EndedByStaff => "ended_by_staff",
            Self::PhoneChanged => "phone_changed",
            Self::SessionLimit => "session_limit",
        }
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Event {
    /// Writes the event to the log. The log lines contain ids, reasons, and the last two digits of phones.
    pub(crate) fn log(&self) {
        match self {
            // The id of the challenge is not logged, since it is enough to use up the attempts of the code.
            Self::CodeSent(CodeSent { phone, purpose, code_length, .. }) => {
                tracing::info!(?phone, purpose = purpose.as_str(), code_length, "code sent");
            }
            Self::DeliveryStatusChanged(DeliveryStatusChanged { route, status }) => {
                let MessageRoute { gateway, region } = route;
                let region = region.map(tracing::field::display);
                tracing::info!(gateway, region, %status, "message status changed");
            }
            Self::TestCodeIssued(TestCodeIssued { phone, .. }) => tracing::info!(?phone, "test code issued"),
            Self::CodeNotSent(CodeNotSent { phone, reason, .. }) => {
                let reason = reason.as_ref().map_or("sms_not_sent", Refusal::reason);
                tracing::info!(?phone, reason, "code not sent");
            }
            Self::UserSignedIn(UserSignedIn { user, session, .. }) => {
                tracing::info!(%user, %session, "signed in");
            }
            Self::SignInRefused(SignInRefused { phone, reason, .. }) => {
                tracing::info!(?phone, reason = reason.reason(), "sign-in refused");
            }
            Self::UserCreated(user) => tracing::info!(user = %user.id, "user created"),
            Self::UserDeleted(user) => tracing::info!(user = %user.id, "user deleted"),
            Self::DeletionScheduled(DeletionScheduled { user, deletion_at }) => {
                tracing::info!(%user, %deletion_at, "deletion scheduled");
            }
            Self::DeletionCanceled(user) => tracing::info!(%user, "deletion canceled"),
            Self::PhoneChanged(PhoneChanged { user, old, new }) => {
                tracing::info!(%user, ?old, ?new, "phone changed");
            }
            Self::PhoneDetached(PhoneDetached { user, new_user }) => {
                tracing::info!(%user, %new_user, "phone detached");
            }
            Self::NoticeSent(NoticeSent { user, phone, notice, .. }) => {
                tracing::info!(%user, ?phone, notice = notice.as_str(), "notice sent");
            }
            Self::NoticeNotSent(NoticeNotSent { user, phone, notice }) => {
                tracing::warn!(%user, ?phone, notice = notice.as_str(), "notice not sent");
            }
            Self::CodeRefused(CodeRefused { user, purpose, reason, .. }) => {
                let (purpose, reason) = (purpose.as_str(), reason.reason());
                tracing::info!(%user, purpose, reason, "code refused");
            }
            Self::InvitationAccepted(invitation) => tracing::info!(
                invitee = %invitation.invitee,
                inviter = %invitation.inviter,
                via = invitation.via.as_str(),
                "invitation accepted"
            ),
            Self::GateDecided(GateDecided { operation, outcome: GateOutcome::Failed(failure) }) => {
                tracing::warn!(%operation, %failure, "failed to ask the gate");
            }
            Self::GateDecided(GateDecided { operation, outcome: GateOutcome::Rejected(rejection) }) => {
                tracing::info!(%operation, code = rejection.code(), "rejected by the gate");
            }
            Self::GateDecided(GateDecided { operation, .. }) => {
                tracing::debug!(%operation, "allowed by the gate");
            }
            Self::SessionEnded(SessionEnded { user, session, reason: SessionEnd::RefreshReused }) => {
                tracing::warn!(%user, %session, "session ended: a refresh token was reused");
            }
            Self::SessionEnded(SessionEnded { user, session, reason }) => {
                tracing::info!(%user, %session, %reason, "session ended");
            }
            Self::Audited(AuditEntry { id, actor, action, user, .. }) => {
                let (actor, user) = (actor.user(), *user);
                let (actor, user) = (actor.map(tracing::field::display), user.map(tracing::field::display));
                tracing::info!(entry = %id, actor, %action, user, "audit entry added");
            }
            Self::AttackChanged(AttackChanged { under_attack: true }) => {
                tracing::warn!("attack started: codes are longer until it ends");
            }
            Self::AttackChanged(AttackChanged { under_attack: false }) => tracing::warn!("attack ended"),
            Self::ClockMeasured(measured) => {
                tracing::debug!(offset_ms = measured.milliseconds(), "clock measured");
            }
        }
    }
}

/// Receiver of [`Event`]s.
#[async_trait]
pub trait Hook: Send + Sync + 'static {
    /// Handles an event.
    ///
    /// It is called after the commit, in the order of the events of a request. The response waits for it, so
    /// do long work in a separate task. The event is lost if the process stops, or if the embedding
    /// service drops the request, between the commit and this call. The changes in the storage remain. So the
    /// embedding service should run each request in a separate task.
    async fn on_event(&self, event: &Event);
}

/// Hook that does nothing.
#[async_trait]
impl Hook for () {
    async fn on_event(&self, _event: &Event) {}
}
