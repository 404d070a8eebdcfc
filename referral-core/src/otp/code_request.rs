//! Records of requests to send and to redeem one-time codes, from which support learns why no code arrived.
//!
//! A record has the hash of the phone and no address, no code and no hash of a code. Without a pepper, a
//! record cannot be attributed to a phone.

mod explanation;

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    keys::Peppers,
    policy::Policy,
    rate_limit::limits::LimitName,
    sms::delivery::{DeliveryStatus, MessageKey, is_gateway_name},
    user::phone::PhoneNumber,
};

/// Time for which a record is stored. It equals the time for which the status of a message is stored: later,
/// a record could not state whether its message arrived.
pub(crate) const CODE_REQUEST_RETENTION: Duration = crate::sms::delivery::MESSAGE_RETENTION;

/// Maximum number of characters of the numbers of a limit. The longest of the predefined policies has 17.
const MAX_RULE_CHARS: usize = 128;

/// First part of the hash of a phone. No other hash with a pepper has it.
const PHONE_LABEL: &[u8] = b"phone of a code request";

/// Keyed hash of a phone: the first 16 bytes of an HMAC-SHA-256 with a pepper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PhoneHash(pub [u8; 16]);

/// Formats the hash as 32 hexadecimal digits.
impl fmt::Display for PhoneHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl PhoneHash {
    /// Returns the hash of a phone with the first pepper of the ring, for a new record.
    pub(crate) fn current(phone: &PhoneNumber, peppers: &Peppers) -> Self {
        Self::with(phone, peppers, peppers.current_id()).expect("the ring contains its current pepper")
    }

    /// Returns the hash of a phone with each pepper of the ring. Records from before a key rotation have the
    /// hash with a former pepper.
    pub(crate) fn all(phone: &PhoneNumber, peppers: &Peppers) -> Vec<Self> {
        peppers.ids().filter_map(|id| Self::with(phone, peppers, id)).collect()
    }

    fn with(phone: &PhoneNumber, peppers: &Peppers, id: &str) -> Option<Self> {
        let hash = peppers.hash(id, &[PHONE_LABEL, phone.as_str().as_bytes()])?;
        hash.first_chunk().copied().map(Self)
    }
}

macro_rules! named {
    ($(#[$doc:meta])+ $name:ident { $($(#[$variant_doc:meta])+ $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[expect(clippy::exhaustive_enums, reason = "a storage has each value in its schema")]
        pub enum $name { $($(#[$variant_doc])+ $variant,)+ }

        impl $name {
            /// All values.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the stable `snake_case` name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

named! {
    /// Kind of a request about a one-time code.
    CodeRequestKind {
        /// Request to send a code.
        Send = "send",
        /// Request to redeem a code.
        Redeem = "redeem",
    }
}

named! {
    /// Outcome of a request about a one-time code.
    CodeRequestOutcome {
        /// The sender accepted the message.
        Sent = "sent",
        /// It is unknown whether the message was sent.
        Unknown = "unknown",
        /// The phone is a test number, to which no message is sent.
        TestNumber = "test_number",
        /// The message was not sent, and the code is invalid.
        NotSent = "not_sent",
        /// The code was redeemed.
        Redeemed = "redeemed",
        /// A rule refused the request.
        Refused = "refused",
        /// The gate of the host rejected the request.
        RejectedByHost = "rejected_by_host",
        /// The gate failed, so the request was rejected.
        GateFailed = "gate_failed",
        /// The service failed to process the request, or the request was aborted.
        Failed = "failed",
    }
}

impl CodeRequestOutcome {
    /// Returns `true` if each such request costs a message or needs the correct code, so that a client cannot
    /// cause any number of them.
    pub(crate) fn is_limited(self) -> bool {
        matches!(self, Self::Sent | Self::Unknown | Self::Redeemed)
    }
}

/// Limit that refused a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "a storage reads and writes each field")]
pub struct ReachedLimit {
    /// Stable name, such as `codes_per_phone`, at most 64 characters.
    pub name: String,
    /// Numbers of the limit at the time of the request, such as `3/15m,5/1h`. `None` if they are not known or
    /// have more than 128 characters.
    pub rule: Option<String>,
    /// Time from which the limit no longer refuses the same request.
    #[serde(with = "crate::stored::micros")]
    pub free_at: OffsetDateTime,
}

impl ReachedLimit {
    pub(crate) fn new(name: LimitName, retry_after: Duration, policy: &Policy, now: OffsetDateTime) -> Self {
        let rule = policy.rule_of(name, retry_after).filter(|rule| rule.len() <= MAX_RULE_CHARS);
        Self { name: name.as_str().to_owned(), rule, free_at: now + retry_after }
    }
}

/// Request to send or to redeem a one-time code, as it is recorded for support.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "a storage reads and writes each field")]
pub struct CodeRequest {
    /// Id. Ids sort by [`at`](Self::at) (UUID version 7).
    pub id: Uuid,
    /// Time of the request.
    #[serde(with = "crate::stored::micros")]
    pub at: OffsetDateTime,
    /// Keyed hash of the phone.
    pub phone: PhoneHash,
    /// Kind.
    pub kind: CodeRequestKind,
    /// Stable name of the [purpose](crate::CodePurpose) of the code, at most 32 characters.
    pub purpose: String,
    /// Outcome.
    pub outcome: CodeRequestOutcome,
    /// Reason of the outcome, if it has one: an [error code](crate::ErrorCode), the code of the host if the
    /// gate rejected the request, or `aborted`. At most 64 characters.
    pub reason: Option<String>,
    /// Limit that refused the request.
    pub limit: Option<ReachedLimit>,
    /// Name of the gateway that accepted the message, 1 to 64 characters.
    pub gateway: Option<String>,
    /// Id of the message at the gateway, 1 to 128 characters.
    pub message_id: Option<String>,
    /// Id of the request in the log, 1 to 128 characters.
    pub request_id: Option<String>,
}

impl CodeRequest {
    /// Maximum number of records that are stored with one [`PhoneHash`]. Older records are deleted, so that
    /// requests about one phone cannot fill the storage. The limits of the predefined policies refuse further
    /// codes long before a phone has 50 requests.
    pub const MAX_PER_PHONE: u32 = 50;

    /// Sets the gateway and the id that it gave to the message, unless a storage cannot store them.
    pub(crate) fn set_message(&mut self, gateway: &str, message_id: Option<&str>) {
        self.gateway = is_gateway_name(gateway).then(|| gateway.to_owned());
        let key = message_id.and_then(|id| MessageKey::new(gateway, id));
        self.message_id = key.map(|key| key.id().to_owned());
    }

    /// Returns the key of the message, if it has one.
    #[must_use]
    pub fn message_key(&self) -> Option<MessageKey> {
        MessageKey::new(self.gateway.as_deref()?, self.message_id.as_deref()?)
    }
}

/// Recorded request, with the newest status of its message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a storage creates it")]
pub struct CodeRequestView {
    /// Request.
    pub request: CodeRequest,
    /// Status of the message, if the gateway gave the message an id, and the status is still stored.
    pub message_status: Option<DeliveryStatus>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys::tests::pepper_ring,
        otp::challenge::{ChallengeId, hash_code},
        otp::purpose::CodePurpose,
    };

    #[test]
    fn hash_of_a_phone_depends_on_the_phone_and_the_pepper() {
        let [anna, boris] = ["+79608543017", "+77011234567"]
            .map(|phone| PhoneNumber::parse(phone, None).expect("a mobile number"));
        let (old, new) = (pepper_ring(&["p1"]), pepper_ring(&["p2", "p1"]));
        let hash = PhoneHash::current(&anna, &old);
        assert_ne!(hash, PhoneHash::current(&boris, &old));
        assert_ne!(hash, PhoneHash::current(&anna, &new));
        assert_eq!(PhoneHash::all(&anna, &new), [PhoneHash::current(&anna, &new), hash]);
        assert_eq!(hash.to_string().len(), 32);
    }

    #[test]
    fn hash_of_a_phone_differs_from_the_hash_of_a_code() {
        let phone = PhoneNumber::parse("+79608543017", None).expect("a mobile number");
        let peppers = pepper_ring(&["p1"]);
        let hash = PhoneHash::current(&phone, &peppers);
        let of_code = hash_code(&peppers, "p1", ChallengeId(Uuid::nil()), CodePurpose::SignIn, &phone, "");
        let of_code = of_code.expect("a known pepper");
        assert_ne!(hash.0, of_code[..16]);
        let unlabeled = peppers.hash("p1", &[phone.as_str().as_bytes()]).expect("a known pepper");
        assert_ne!(hash.0, unlabeled[..16]);
    }
}
