//! What became of a message: a gateway accepted it, and later tells whether it arrived.
//!
//! A report may come before it is noted that the message was accepted, more than once, out of order, to
//! another process, and about a message that is none of ours. So each piece of news is decided on with
//! what is stored of the message, and each status is told of once.

use time::OffsetDateTime;

use crate::{ChallengeId, PhoneNumber, Region};

/// The most characters of a gateway's name.
const MAX_GATEWAY_CHARS: usize = 64;

/// The most characters of a gateway's id of a message; those in use have 40 at most.
const MAX_ID_CHARS: usize = 128;

/// How long is remembered what became of a message: as long as networks try to deliver one to a phone
/// that is switched off, after which gateways report that it failed.
pub(crate) const MESSAGE_MEMORY: std::time::Duration = std::time::Duration::from_hours(3 * 24);

/// What became of a message. It only ever becomes a later one of these: gateways that gave a message up
/// have been seen to deliver it, but none takes it back from a phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeliveryStatus {
    /// A gateway accepted it.
    Sent,
    /// It does not arrive.
    Failed,
    /// It is on the phone.
    Delivered,
}

impl DeliveryStatus {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Sent, Self::Failed, Self::Delivered];

    /// The stable `snake_case` name.
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

/// What a gateway tells of a message, often by calling an address of ours. To be given to
/// [`Referral::report_delivery`](crate::Referral::report_delivery) once it is certain that the gateway
/// said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryReport {
    /// The name of the gateway, as [`Receipt::gateway`](crate::sms::Receipt::gateway) has it.
    pub gateway: String,
    /// The gateway's id of the message, as [`Receipt::message_id`](crate::sms::Receipt::message_id) has it.
    pub message_id: String,
    /// What became of it.
    pub status: DeliveryStatus,
    /// Evidence that the gateway said this, and said it recently.
    pub evidence: ReportEvidence,
}

/// The evidence that a gateway sent a report.
///
/// A report may arrive before the message is known, so it is kept until then. Without strong evidence,
/// [`Referral::report_delivery`](crate::Referral::report_delivery) keeps only a few of such reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportEvidence {
    /// The signature covers the id, the status and a recent time, or the report was fetched from the
    /// gateway. Only the gateway can produce reports about a message of its choice.
    Strong,
    /// The signature does not cover all of that, or there is none but a token. One captured report is
    /// enough to produce others, or can be sent again at any time.
    Weak,
}

/// The way of a message, as far as is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRoute {
    /// The name of the gateway that accepted it.
    pub gateway: String,
    /// Where the phone belongs, if anywhere.
    pub region: Option<Region>,
}

impl MessageRoute {
    pub(crate) fn new(gateway: String, phone: &PhoneNumber) -> Self {
        Self { gateway, region: phone.region() }
    }
}

/// Names a message: a gateway, and what the gateway calls it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MessageKey {
    gateway: String,
    id: String,
}

impl MessageKey {
    /// `None` for what no storage has room for: a gateway of more than 64 characters or an id of more
    /// than 128; and for an empty one, or one with control characters.
    #[must_use]
    pub fn new(gateway: &str, id: &str) -> Option<Self> {
        let is_sound = is_gateway_name(gateway) && is_sound(id, MAX_ID_CHARS);
        is_sound.then(|| Self { gateway: gateway.to_owned(), id: id.to_owned() })
    }

    /// The name of the gateway: 1 to 64 characters.
    #[must_use]
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// What it calls the message: 1 to 128 characters.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Whether messages can be tracked by a gateway of this name.
pub(crate) fn is_gateway_name(name: &str) -> bool {
    is_sound(name, MAX_GATEWAY_CHARS)
}

fn is_sound(text: &str, max_chars: usize) -> bool {
    !text.is_empty() && text.chars().nth(max_chars).is_none() && !text.contains(char::is_control)
}

/// Something new about a message, as [`Storage::note_message`] gets it.
///
/// [`Storage::note_message`]: crate::storage::Storage::note_message
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MessageNews {
    /// Which message; `None` if the gateway gave it no id by which a report could name it.
    pub message: Option<MessageKey>,
    /// A challenge that is to remember which gateway accepted its message, unless it is redeemed or gone.
    pub challenge: Option<(ChallengeId, String)>,
    /// The time.
    pub now: OffsetDateTime,
    /// Whether a report is stored if nothing is stored of its message yet.
    keeps_unknown: bool,
    news: News,
}

#[derive(Clone, Copy, Debug)]
enum News {
    Accepted(Option<Region>),
    Reported(DeliveryStatus),
}

/// What is kept of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Whether it is noted that the gateway accepted it from here. Until then there is only a report.
    pub is_ours: bool,
    /// Where its phone belongs, if anywhere; `None` as long as that it is ours is not noted.
    pub region: Option<Region>,
    /// What became of it.
    pub status: DeliveryStatus,
}

/// What is to become of something new about a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageDecision {
    /// To be stored in place of what is stored of the message, if anything.
    pub put: Option<StoredMessage>,
    /// The answer.
    pub change: MessageChange,
}

/// What a message has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageChange {
    /// Where its phone belongs, if anywhere.
    pub region: Option<Region>,
    /// What became of it that was not told before, in order.
    pub reached: Vec<DeliveryStatus>,
    /// Whether a report was not stored, since nothing is stored of its message.
    pub is_unknown: bool,
}

impl MessageNews {
    /// That a gateway accepted the message of a challenge. `None` if its name has no room anywhere.
    pub(crate) fn accepted(
        route: &MessageRoute,
        message_id: Option<&str>,
        challenge: ChallengeId,
        now: OffsetDateTime,
    ) -> Option<Self> {
        is_gateway_name(&route.gateway).then(|| Self {
            message: message_id.and_then(|id| MessageKey::new(&route.gateway, id)),
            challenge: Some((challenge, route.gateway.clone())),
            now,
            keeps_unknown: true,
            news: News::Accepted(route.region),
        })
    }

    /// That a gateway told what became of a message.
    pub(crate) fn reported(message: MessageKey, status: DeliveryStatus, now: OffsetDateTime) -> Self {
        let news = News::Reported(status);
        Self { message: Some(message), challenge: None, now, keeps_unknown: true, news }
    }

    /// Leaves nothing behind if nothing is stored of the message.
    pub(crate) fn of_known_message_only(self) -> Self {
        Self { keeps_unknown: false, ..self }
    }

    /// Decides what is to be stored of the message, and told: nothing, if there is no
    /// [`message`](Self::message).
    #[must_use]
    pub fn decide(&self, stored: Option<StoredMessage>) -> MessageDecision {
        let is_ours = stored.is_some_and(|stored| stored.is_ours);
        let known = stored.map(|stored| stored.status);
        let is_known = match self.news {
            News::Accepted(_) => is_ours,
            // That a message was accepted, whoever sent it says.
            News::Reported(status) => status <= known.unwrap_or(DeliveryStatus::Sent),
        };
        if self.message.is_none() || is_known {
            return MessageDecision::default();
        }
        if stored.is_none() && !self.keeps_unknown {
            let change = MessageChange { is_unknown: true, ..MessageChange::default() };
            return MessageDecision { put: None, change };
        }
        let (put, reached) = match self.news {
            News::Accepted(region) => {
                let status = known.unwrap_or(DeliveryStatus::Sent);
                let reached = [DeliveryStatus::Sent].into_iter().chain(known);
                (StoredMessage { is_ours: true, region, status }, reached.collect())
            }
            News::Reported(status) => {
                let region = stored.and_then(|stored| stored.region);
                let reached = is_ours.then_some(status).into_iter();
                (StoredMessage { is_ours, region, status }, reached.collect())
            }
        };
        let change = MessageChange { region: put.region, reached, is_unknown: false };
        MessageDecision { put: Some(put), change }
    }
}

#[cfg(test)]
mod tests {
    use super::{DeliveryStatus::*, *};

    fn news(news: News) -> MessageNews {
        let message = MessageKey::new("g1", "m1");
        MessageNews { message, challenge: None, now: OffsetDateTime::UNIX_EPOCH, keeps_unknown: true, news }
    }

    /// Everything that can be told of a message, in whatever order, and how it ends.
    #[test]
    fn each_status_is_told_once_and_none_is_taken_back() {
        let region = Region::parse("RU").ok();
        let accepted = News::Accepted(region);
        for (told, expected) in [
            (&[accepted] as &[News], &[Sent] as &[DeliveryStatus]),
            (&[accepted, accepted], &[Sent]),
            (&[accepted, News::Reported(Sent)], &[Sent]),
            (&[News::Reported(Sent), accepted], &[Sent]),
            (&[accepted, News::Reported(Delivered), News::Reported(Delivered)], &[Sent, Delivered]),
            (&[News::Reported(Delivered), News::Reported(Delivered), accepted], &[Sent, Delivered]),
            (&[accepted, News::Reported(Delivered), News::Reported(Failed)], &[Sent, Delivered]),
            (&[accepted, News::Reported(Delivered), News::Reported(Sent)], &[Sent, Delivered]),
            (&[accepted, News::Reported(Failed), News::Reported(Delivered)], &[Sent, Failed, Delivered]),
            (&[News::Reported(Failed), accepted, News::Reported(Delivered)], &[Sent, Failed, Delivered]),
            (&[News::Reported(Failed), News::Reported(Delivered), accepted], &[Sent, Delivered]),
            (&[News::Reported(Delivered), News::Reported(Failed), accepted], &[Sent, Delivered]),
            (&[News::Reported(Delivered), News::Reported(Failed)], &[]),
        ] {
            let (mut stored, mut reached) = (None, Vec::new());
            for told in told {
                let decision = news(*told).decide(stored);
                let is_told = !decision.change.reached.is_empty();
                assert_eq!(decision.change.region, region.filter(|_| is_told), "{told:?} of {stored:?}");
                stored = decision.put.or(stored);
                reached.extend(decision.change.reached);
            }
            assert_eq!(reached, expected, "{told:?}");
        }
    }

    #[test]
    fn nothing_is_kept_of_a_message_without_an_id() {
        let accepted = MessageNews { message: None, ..news(News::Accepted(None)) };
        assert_eq!(accepted.decide(None), MessageDecision::default());
    }

    #[test]
    fn a_report_of_a_message_that_was_merely_accepted_is_not_kept() {
        assert_eq!(news(News::Reported(Sent)).decide(None), MessageDecision::default());
    }

    #[test]
    fn a_report_for_known_messages_only_changes_them_and_stores_no_other() {
        let delivered = news(News::Reported(Delivered)).of_known_message_only();
        let decision = delivered.decide(None);
        assert_eq!((decision.put, decision.change.is_unknown), (None, true));
        for is_ours in [false, true] {
            let stored = StoredMessage { is_ours, region: None, status: Failed };
            let decision = delivered.decide(Some(stored));
            assert_eq!(decision.put, Some(StoredMessage { status: Delivered, ..stored }));
            assert!(!decision.change.is_unknown);
        }
        let sent = news(News::Reported(Sent)).of_known_message_only();
        assert_eq!(sent.decide(None), MessageDecision::default());
    }

    #[test]
    fn a_message_is_named_by_what_every_storage_can_hold() {
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
