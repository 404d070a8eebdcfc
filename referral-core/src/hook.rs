//! Being told of what happened: the place for bonuses, welcome messages, statistics and alarms.

use std::fmt;

use async_trait::async_trait;

use crate::{
    ChallengeId, ClientAddress, DeliveryStatus, Invitation, MessageRoute, PhoneNumber, Refusal, SessionId,
    User, UserId, clock::ClockOffset,
};

/// Something that happened and, where anything was to be written, has been committed.
///
/// No code and no token is in it. Phones are [`PhoneNumber`]s, which show two digits where they are
/// printed by `{:?}`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A code was handed to the sender, which took it or did not say.
    CodeSent {
        /// To whom.
        phone: PhoneNumber,
        /// Which.
        challenge: ChallengeId,
        /// Its digits.
        code_length: u8,
        /// Where it was asked for from.
        address: Option<ClientAddress>,
        /// Which way the message goes, if the sender said which gateway accepted it.
        route: Option<MessageRoute>,
    },
    /// Something became of a message whose gateway gave it an id: once it was sent, and once for each
    /// status that its gateway reports, however often it does.
    MessageStatus {
        /// Which way it went.
        route: MessageRoute,
        /// What became of it.
        status: DeliveryStatus,
    },
    /// A test number was given its fixed code, and no message was sent.
    TestCodeIssued {
        /// The test number.
        phone: PhoneNumber,
        /// Which challenge the code answers.
        challenge: ChallengeId,
        /// Where it was asked for from.
        address: Option<ClientAddress>,
    },
    /// A code was not sent, since a rule is against it, or since the sender could not, for which
    /// there is no reason here.
    CodeNotSent {
        /// To whom.
        phone: PhoneNumber,
        /// The rule.
        reason: Option<Refusal>,
        /// Where it was asked for from.
        address: Option<ClientAddress>,
    },
    /// A user signed in.
    SignedIn {
        /// Who.
        user: UserId,
        /// The session that began.
        session: SessionId,
        /// Where they are.
        address: Option<ClientAddress>,
        /// Which way the message with their code went, if that is known.
        route: Option<MessageRoute>,
    },
    /// An attempt to sign in was refused.
    SignInRefused {
        /// The phone it was about, whoever tried.
        phone: PhoneNumber,
        /// Why.
        reason: Refusal,
        /// Where it came from.
        address: Option<ClientAddress>,
    },
    /// A phone became a user.
    UserCreated(User),
    /// Somebody accepted an invitation, which happens once per user, ever.
    InvitationAccepted(Invitation),
    /// A session ended before its time.
    SessionEnded {
        /// Whose.
        user: UserId,
        /// Which.
        session: SessionId,
        /// Why.
        reason: SessionEnd,
    },
    /// Far more wrong codes than usual come in, so that codes get longer; or that is over.
    UnderAttack(bool),
    /// The clock of this host was compared with the clock of the storage, which happens each minute.
    ClockMeasured(ClockOffset),
}

/// Why a session ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEnd {
    /// The user signed out.
    SignedOut,
    /// The user ended it from another session.
    EndedElsewhere,
    /// A refresh token that had been exchanged long ago was used again: somebody has a copy.
    RefreshReused,
    /// The user became staff.
    BecameStaff,
}

impl SessionEnd {
    /// The stable `snake_case` name.
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
    /// Writes the event into the log: ids, reasons, and of a phone two digits.
    pub(crate) fn log(&self) {
        match self {
            // Not which: whoever knows the challenge can use up its tries.
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
                tracing::warn!(%user, %session, "session ended: its refresh token was used again");
            }
            Self::SessionEnded { user, session, reason } => {
                tracing::info!(%user, %session, %reason, "session ended");
            }
            Self::UnderAttack(true) => tracing::warn!("under attack: codes get longer"),
            Self::UnderAttack(false) => tracing::warn!("no longer under attack"),
            Self::ClockMeasured(measured) => {
                tracing::debug!(offset_ms = measured.milliseconds(), "clock measured");
            }
        }
    }
}

/// Is told of every [`Event`].
#[async_trait]
pub trait Hook: Send + Sync + 'static {
    /// Called after the commit, in the order of events of one request, and awaited before the
    /// answer is given: hand long work to a task of your own. If the process dies, or the host
    /// drops the request, between the commit and this call, the event is not repeated; the storage
    /// has what happened. So hosts should run requests in tasks of their own.
    async fn on_event(&self, event: &Event);
}

/// Does nothing.
#[async_trait]
impl Hook for () {
    async fn on_event(&self, _event: &Event) {}
}
