//! Events and the hook that is called for them. Use it for bonuses, welcome messages, statistics and alerts.

use std::fmt;

use async_trait::async_trait;

use crate::{
    clock::ClockOffset,
    error::refusal::Refusal,
    invite::invitation::Invitation,
    otp::challenge::ChallengeId,
    rate_limit::client::ClientAddress,
    session::SessionId,
    sms::delivery::{DeliveryStatus, MessageRoute},
    user::{User, UserId, phone::PhoneNumber},
};

/// Event of the service. Changes in the storage that belong to it are committed before it is emitted.
///
/// Events have no codes and no tokens. Phones are [`PhoneNumber`]s, whose `{:?}` output has only two digits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A code was passed to the sender, and the message was sent or its outcome is unknown.
    CodeSent {
        /// Phone to which the code was sent.
        phone: PhoneNumber,
        /// Challenge of the code.
        challenge: ChallengeId,
        /// Number of digits of the code.
        code_length: u8,
        /// Address of the client.
        address: Option<ClientAddress>,
        /// Route of the message, if the sender returned the gateway that accepted it.
        route: Option<MessageRoute>,
    },
    /// The status of a message changed. It is emitted for messages with an id from their gateway: once when
    /// the message is sent, and once for each status that the gateway reports.
    MessageStatus {
        /// Route of the message.
        route: MessageRoute,
        /// New status.
        status: DeliveryStatus,
    },
    /// A challenge was created for a test number, and no message was sent.
    TestCodeIssued {
        /// The test number.
        phone: PhoneNumber,
        /// Challenge of the code.
        challenge: ChallengeId,
        /// Address of the client.
        address: Option<ClientAddress>,
    },
    /// A code was not sent, because a rule refused it or the sender failed.
    CodeNotSent {
        /// Phone for which the code was requested.
        phone: PhoneNumber,
        /// Reason of the refusal, or `None` if the sender failed.
        reason: Option<Refusal>,
        /// Address of the client.
        address: Option<ClientAddress>,
    },
    /// A user signed in.
    SignedIn {
        /// The user.
        user: UserId,
        /// New session.
        session: SessionId,
        /// Address of the client.
        address: Option<ClientAddress>,
        /// Route of the message with the code, if it is known.
        route: Option<MessageRoute>,
    },
    /// An attempt to sign in was refused.
    SignInRefused {
        /// Phone in the attempt, which may belong to another person.
        phone: PhoneNumber,
        /// Reason of the refusal.
        reason: Refusal,
        /// Address of the client.
        address: Option<ClientAddress>,
    },
    /// A user was created.
    UserCreated(User),
    /// A user accepted an invitation. This happens at most once per user.
    InvitationAccepted(Invitation),
    /// A session ended before it expired.
    SessionEnded {
        /// User of the session.
        user: UserId,
        /// The session.
        session: SessionId,
        /// Reason of the end.
        reason: SessionEnd,
    },
    /// An attack started (`true`) or ended (`false`). During an attack there are far more wrong codes than
    /// usual, and codes are longer.
    UnderAttack(bool),
    /// The clock of this host was compared with the clock of the storage. This happens each minute.
    ClockMeasured(ClockOffset),
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
    /// The user became staff.
    BecameStaff,
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
        }
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Event {
    /// Writes the event to the log, with ids, reasons and two digits of phones.
    pub(crate) fn log(&self) {
        match self {
            // The id of the challenge is not logged, since it is enough to use up the attempts of the code.
            Self::CodeSent { phone, code_length, .. } => tracing::info!(?phone, code_length, "code sent"),
            Self::MessageStatus { route: MessageRoute { gateway, region }, status } => {
                let region = region.map(tracing::field::display);
                tracing::info!(gateway, region, %status, "message status");
            }
            Self::TestCodeIssued { phone, .. } => tracing::info!(?phone, "test code issued"),
            Self::CodeNotSent { phone, reason, .. } => {
                let reason = reason.as_ref().map_or("sms_not_sent", Refusal::reason);
                tracing::info!(?phone, reason, "code not sent");
            }
            Self::SignedIn { user, session, .. } => tracing::info!(%user, %session, "signed in"),
            Self::SignInRefused { phone, reason, .. } => {
                tracing::info!(?phone, reason = reason.reason(), "sign-in refused");
            }
            Self::UserCreated(user) => tracing::info!(user = %user.id, "user created"),
            Self::InvitationAccepted(invitation) => tracing::info!(
                invitee = %invitation.invitee,
                inviter = %invitation.inviter,
                via = invitation.via.as_str(),
                "invitation accepted"
            ),
            Self::SessionEnded { user, session, reason: SessionEnd::RefreshReused } => {
                tracing::warn!(%user, %session, "session ended: a refresh token was reused");
            }
            Self::SessionEnded { user, session, reason } => {
                tracing::info!(%user, %session, %reason, "session ended");
            }
            Self::UnderAttack(true) => tracing::warn!("attack started: codes are longer until it ends"),
            Self::UnderAttack(false) => tracing::warn!("attack ended"),
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
    /// do long work in a separate task. The event is lost if the process stops or the host drops the request
    /// between the commit and this call. The changes in the storage remain. So hosts should run each request
    /// in a separate task.
    async fn on_event(&self, event: &Event);
}

/// Hook that does nothing.
#[async_trait]
impl Hook for () {
    async fn on_event(&self, _event: &Event) {}
}
