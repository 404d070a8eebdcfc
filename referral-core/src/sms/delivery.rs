//! Delivery status of messages. A gateway accepts a message, and later reports whether it arrived.
//!
//! A report may arrive before the acceptance of the message is recorded, more than once, out of order, at
//! another process, and about a message that this service did not send. So the decision about each update
//! depends on what is stored of the message, and each status is emitted once.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    decision::Decision,
    otp::challenge::ChallengeId,
    user::phone::{PhoneNumber, Region},
};

/// Maximum number of characters of the name of a gateway.
const MAX_GATEWAY_CHARS: usize = 64;

/// Maximum number of characters of a message id. The ids of known gateways have at most 40.
const MAX_ID_CHARS: usize = 128;

/// Time for which the status of a message is stored. Networks try to deliver a message to a phone that is
/// switched off for as long. After that, gateways report that the message failed.
pub(crate) const MESSAGE_RETENTION: std::time::Duration = std::time::Duration::from_hours(3 * 24);

/// Delivery status of a message. It changes only to a later value in this list. Some gateways delivered a
/// message after they reported that it failed, but no gateway removes a message from a phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "a storage has each status in its schema")]
pub enum DeliveryStatus {
    /// A gateway accepted the message.
    Sent,
    /// The message is not delivered.
    Failed,
    /// The message is on the phone.
    Delivered,
}

impl DeliveryStatus {
    /// All values, in order.
    pub const ALL: [Self; 3] = [Self::Sent, Self::Failed, Self::Delivered];

    /// Returns the stable `snake_case` name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
        }
    }
}

impl std::fmt::Display for DeliveryStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Report of a gateway about a message. Many gateways send it to a callback URL of the server. Pass it to
/// [`ReferralService::report_delivery`](crate::ReferralService::report_delivery) after it is verified that
/// the gateway sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryReport {
    /// Name of the gateway, as in [`Receipt::gateway`](crate::sms::Receipt::gateway).
    pub gateway: String,
    /// Id of the message at the gateway, as in [`Receipt::message_id`](crate::sms::Receipt::message_id).
    pub message_id: String,
    /// Status of the message.
    pub status: DeliveryStatus,
    /// Evidence that the gateway sent this report recently.
    pub evidence: ReportEvidence,
}

/// Evidence that a gateway sent a report.
///
/// A report may arrive before the message is known, so it is stored until then. Without strong evidence,
/// [`ReferralService::report_delivery`](crate::ReferralService::report_delivery) stores only a few of such
/// reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReportEvidence {
    /// The signature covers the id, the status and a recent time, or the report was fetched from the
    /// gateway. Only the gateway can produce reports about a message of its choice.
    Strong,
    /// The signature does not cover all of these, or the report has only a token and no signature. One
    /// captured report is enough to produce others, or can be sent again at any time.
    Weak,
}

/// Gateway and region of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRoute {
    /// Name of the gateway that accepted the message.
    pub gateway: String,
    /// Region of the phone, if it has one.
    pub region: Option<Region>,
}

impl MessageRoute {
    pub(crate) fn new(gateway: String, phone: &PhoneNumber) -> Self {
        Self { gateway, region: phone.region() }
    }
}

/// Key of a message: a gateway and the id of the message at the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct MessageKey {
    gateway: String,
    id: String,
}

impl MessageKey {
    /// Creates a key. Returns `None` if a storage cannot store it: if the gateway has more than 64
    /// characters, if the id has more than 128, or if one of them is empty or has control characters.
    #[must_use]
    pub fn new(gateway: &str, id: &str) -> Option<Self> {
        let is_sound = is_gateway_name(gateway) && is_sound(id, MAX_ID_CHARS);
        is_sound.then(|| Self { gateway: gateway.to_owned(), id: id.to_owned() })
    }

    /// Returns the name of the gateway, of 1 to 64 characters.
    #[must_use]
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// Returns the id of the message at the gateway, of 1 to 128 characters.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Returns `true` if the messages of a gateway with this name can be tracked.
pub(crate) fn is_gateway_name(name: &str) -> bool {
    is_sound(name, MAX_GATEWAY_CHARS)
}

fn is_sound(text: &str, max_chars: usize) -> bool {
    !text.is_empty() && text.chars().nth(max_chars).is_none() && !text.contains(char::is_control)
}

/// Update of a message, for [`ChallengeStorage::record_delivery`].
///
/// [`ChallengeStorage::record_delivery`]: crate::storage::ChallengeStorage::record_delivery
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeliveryUpdate {
    /// Key of the message, or `None` if the gateway returned no id that a report could refer to.
    pub message: Option<MessageKey>,
    /// Challenge in which to record the gateway that accepted its message, and the name of the gateway. A
    /// redeemed or deleted challenge is not changed.
    pub challenge: Option<(ChallengeId, String)>,
    /// Current time.
    pub now: OffsetDateTime,
    /// `true` if a report is stored even if its message is not stored yet.
    keeps_unknown: bool,
    kind: UpdateKind,
}

#[derive(Clone, Copy, Debug)]
enum UpdateKind {
    Accepted(Option<Region>),
    Reported(DeliveryStatus),
}

/// Stored data of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMessage {
    /// `true` if it is recorded that the gateway accepted the message from this service. Until then, there is
    /// only a report.
    pub is_ours: bool,
    /// Region of the phone, if it has one. `None` until `is_ours` is recorded.
    pub region: Option<Region>,
    /// Status of the message.
    pub status: DeliveryStatus,
}

/// Stored data on which [`DeliveryUpdate::decide`] depends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFacts {
    /// Stored message, if the update names one that is stored.
    pub message: Option<StoredMessage>,
    /// `true` if the update names a challenge that exists and is not redeemed.
    pub has_open_challenge: bool,
}

/// Changes of a decision about an update of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryWrites {
    /// Data to store in place of the stored data of the message.
    pub message: Option<StoredMessage>,
    /// Challenge in which to record a gateway, and the name of the gateway.
    pub gateway: Option<(ChallengeId, String)>,
}

/// Decision about an update of a message.
pub type DeliveryDecision = Decision<DeliveryWrites, DeliveryTransition>;

/// Change of the status of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryTransition {
    /// Region of the phone, if it has one.
    pub region: Option<Region>,
    /// Statuses that were not emitted before, in order.
    pub reached: Vec<DeliveryStatus>,
    /// `true` if a report was not stored, because its message is not stored.
    pub is_unknown: bool,
}

impl DeliveryUpdate {
    /// Creates the update that a gateway accepted a message. `challenge` is the challenge of the message,
    /// unless it is a notice. Returns `None` if the name of the gateway cannot be stored.
    pub(crate) fn accepted(
        route: &MessageRoute,
        message_id: Option<&str>,
        challenge: Option<ChallengeId>,
        now: OffsetDateTime,
    ) -> Option<Self> {
        is_gateway_name(&route.gateway).then(|| Self {
            message: message_id.and_then(|id| MessageKey::new(&route.gateway, id)),
            challenge: challenge.map(|challenge| (challenge, route.gateway.clone())),
            now,
            keeps_unknown: true,
            kind: UpdateKind::Accepted(route.region),
        })
    }

    /// Creates the update that a gateway reported the status of a message.
    pub(crate) fn reported(message: MessageKey, status: DeliveryStatus, now: OffsetDateTime) -> Self {
        let kind = UpdateKind::Reported(status);
        Self { message: Some(message), challenge: None, now, keeps_unknown: true, kind }
    }

    /// Returns the same update, which is not stored if the message is not stored yet.
    pub(crate) fn of_known_message_only(self) -> Self {
        Self { keeps_unknown: false, ..self }
    }

    /// Decides what to store of the message, and which statuses to emit. Without a
    /// [`message`](Self::message), no message is stored and no status is emitted.
    #[must_use]
    pub fn decide(&self, facts: DeliveryFacts) -> DeliveryDecision {
        let (message, outcome) = self.decide_message(facts.message);
        let gateway = self.challenge.clone().filter(|_| facts.has_open_challenge);
        Decision { writes: DeliveryWrites { message, gateway }, outcome }
    }

    fn decide_message(&self, stored: Option<StoredMessage>) -> (Option<StoredMessage>, DeliveryTransition) {
        let is_ours = stored.is_some_and(|stored| stored.is_ours);
        let known = stored.map(|stored| stored.status);
        let is_known = match self.kind {
            UpdateKind::Accepted(_) => is_ours,
            // The process that sent the message records its acceptance, so a report of it is ignored.
            UpdateKind::Reported(status) => status <= known.unwrap_or(DeliveryStatus::Sent),
        };
        if self.message.is_none() || is_known {
            return (None, DeliveryTransition::default());
        }
        if stored.is_none() && !self.keeps_unknown {
            return (None, DeliveryTransition { is_unknown: true, ..DeliveryTransition::default() });
        }
        let (put, reached) = match self.kind {
            UpdateKind::Accepted(region) => {
                let status = known.unwrap_or(DeliveryStatus::Sent);
                let reached = [DeliveryStatus::Sent].into_iter().chain(known);
                (StoredMessage { is_ours: true, region, status }, reached.collect())
            }
            UpdateKind::Reported(status) => {
                let region = stored.and_then(|stored| stored.region);
                let reached = is_ours.then_some(status).into_iter();
                (StoredMessage { is_ours, region, status }, reached.collect())
            }
        };
        (Some(put), DeliveryTransition { region: put.region, reached, is_unknown: false })
    }
}

#[cfg(test)]
mod tests {
    use super::{DeliveryStatus::*, *};

    fn update_of(kind: UpdateKind) -> DeliveryUpdate {
        let message = MessageKey::new("g1", "m1");
        DeliveryUpdate {
            message,
            challenge: None,
            now: OffsetDateTime::UNIX_EPOCH,
            keeps_unknown: true,
            kind,
        }
    }

    fn known(message: Option<StoredMessage>) -> DeliveryFacts {
        DeliveryFacts { message, has_open_challenge: false }
    }

    fn nothing() -> DeliveryDecision {
        Decision { writes: DeliveryWrites::default(), outcome: DeliveryTransition::default() }
    }

    /// Sequences of updates of a message in different orders, and the statuses that they emit.
    #[test]
    fn each_status_is_emitted_once_and_never_reverted() {
        let region = Region::parse("RU").ok();
        let accepted = UpdateKind::Accepted(region);
        for (updates, expected) in [
            (&[accepted] as &[UpdateKind], &[Sent] as &[DeliveryStatus]),
            (&[accepted, accepted], &[Sent]),
            (&[accepted, UpdateKind::Reported(Sent)], &[Sent]),
            (&[UpdateKind::Reported(Sent), accepted], &[Sent]),
            (
                &[accepted, UpdateKind::Reported(Delivered), UpdateKind::Reported(Delivered)],
                &[Sent, Delivered],
            ),
            (
                &[UpdateKind::Reported(Delivered), UpdateKind::Reported(Delivered), accepted],
                &[Sent, Delivered],
            ),
            (&[accepted, UpdateKind::Reported(Delivered), UpdateKind::Reported(Failed)], &[Sent, Delivered]),
            (&[accepted, UpdateKind::Reported(Delivered), UpdateKind::Reported(Sent)], &[Sent, Delivered]),
            (
                &[accepted, UpdateKind::Reported(Failed), UpdateKind::Reported(Delivered)],
                &[Sent, Failed, Delivered],
            ),
            (
                &[UpdateKind::Reported(Failed), accepted, UpdateKind::Reported(Delivered)],
                &[Sent, Failed, Delivered],
            ),
            (&[UpdateKind::Reported(Failed), UpdateKind::Reported(Delivered), accepted], &[Sent, Delivered]),
            (&[UpdateKind::Reported(Delivered), UpdateKind::Reported(Failed), accepted], &[Sent, Delivered]),
            (&[UpdateKind::Reported(Delivered), UpdateKind::Reported(Failed)], &[]),
        ] {
            let (mut stored, mut reached) = (None, Vec::new());
            for update in updates {
                let Decision { writes, outcome } = update_of(*update).decide(known(stored));
                let is_emitted = !outcome.reached.is_empty();
                assert_eq!(outcome.region, region.filter(|_| is_emitted), "{update:?} of {stored:?}");
                stored = writes.message.or(stored);
                reached.extend(outcome.reached);
            }
            assert_eq!(reached, expected, "{updates:?}");
        }
    }

    #[test]
    fn a_message_without_an_id_is_not_stored() {
        let accepted = DeliveryUpdate { message: None, ..update_of(UpdateKind::Accepted(None)) };
        assert_eq!(accepted.decide(known(None)), nothing());
    }

    #[test]
    fn a_report_of_the_status_sent_is_not_stored() {
        assert_eq!(update_of(UpdateKind::Reported(Sent)).decide(known(None)), nothing());
    }

    #[test]
    fn a_report_for_known_messages_only_does_not_store_unknown_messages() {
        let delivered = update_of(UpdateKind::Reported(Delivered)).of_known_message_only();
        let Decision { writes, outcome } = delivered.decide(known(None));
        assert_eq!((writes.message, outcome.is_unknown), (None, true));
        for is_ours in [false, true] {
            let stored = StoredMessage { is_ours, region: None, status: Failed };
            let Decision { writes, outcome } = delivered.decide(known(Some(stored)));
            assert_eq!(writes.message, Some(StoredMessage { status: Delivered, ..stored }));
            assert!(!outcome.is_unknown);
        }
        let sent = update_of(UpdateKind::Reported(Sent)).of_known_message_only();
        assert_eq!(sent.decide(known(None)), nothing());
    }

    #[test]
    fn the_gateway_is_recorded_only_in_an_open_challenge() {
        let challenge = Some((ChallengeId(uuid::Uuid::nil()), "g1".to_owned()));
        let accepted =
            DeliveryUpdate { challenge: challenge.clone(), ..update_of(UpdateKind::Accepted(None)) };
        for (has_open_challenge, expected) in [(true, challenge), (false, None)] {
            let facts = DeliveryFacts { has_open_challenge, message: None };
            assert_eq!(accepted.decide(facts).writes.gateway, expected);
        }
    }

    #[test]
    fn keys_that_a_storage_cannot_store_are_rejected() {
        let (gateway, id) = ("ж".repeat(64), "🙂".repeat(128));
        assert!(MessageKey::new(&gateway, &id).is_some());
        for (gateway, id) in [
            ("", "m1"),
            ("g1", ""),
            (&*(gateway + "ж"), "m1"),
            ("g1", &*(id + "🙂")),
            ("g1", "m\0"),
            ("g\n", "m1"),
        ] {
            assert_eq!(MessageKey::new(gateway, id), None, "{gateway:?} {id:?}");
        }
    }
}
