//! Documents: the types that are stored, and the entries by which they are found.

use std::fmt::Display;

use referral_core::{
    CodeRequest, Invitation, Session, User,
    audit::AuditEntry,
    storage::{Challenge, Counter, ErasedUser, MessageKey, StoredMessage},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use time::OffsetDateTime;

/// Value with an id, stored as JSON.
pub(crate) trait Document: Serialize + DeserializeOwned {
    /// Start of the key.
    const KIND: &'static str;

    /// Returns the id of the document.
    fn id(&self) -> String;

    /// Returns the key of the sorted set that has the id of the document. Ids of one set sort by their time.
    fn list(&self) -> Option<String> {
        None
    }

    /// Returns the time after which retention deletes the document.
    fn ends_at(&self) -> Option<OffsetDateTime> {
        None
    }

    /// Returns the key of the document with an id.
    fn key(id: impl Display) -> String {
        format!("{}/{id}", Self::KIND)
    }
}

impl Document for User {
    const KIND: &'static str = "user";

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn list(&self) -> Option<String> {
        Some(list::of_user(self).to_owned())
    }
}

impl Document for ErasedUser {
    const KIND: &'static str = "erased";

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn list(&self) -> Option<String> {
        Some(list::ERASED.to_owned())
    }
}

impl Document for Invitation {
    const KIND: &'static str = "invitation";

    fn id(&self) -> String {
        self.invitee.to_string()
    }

    fn list(&self) -> Option<String> {
        Some(list::invitees(self.inviter))
    }
}

impl Document for Challenge {
    const KIND: &'static str = "challenge";

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn list(&self) -> Option<String> {
        Some(list::challenges(&self.phone))
    }

    fn ends_at(&self) -> Option<OffsetDateTime> {
        Some(self.expires_at)
    }
}

impl Document for Session {
    const KIND: &'static str = "session";

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn list(&self) -> Option<String> {
        Some(list::sessions(self.user))
    }

    fn ends_at(&self) -> Option<OffsetDateTime> {
        Some(self.ends_at())
    }
}

impl Document for AuditEntry {
    const KIND: &'static str = "audit";

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn list(&self) -> Option<String> {
        Some(list::AUDIT.to_owned())
    }
}

impl Document for Counter {
    const KIND: &'static str = "counter";

    fn id(&self) -> String {
        self.key.as_str().to_owned()
    }

    fn ends_at(&self) -> Option<OffsetDateTime> {
        Some(self.ends_at)
    }
}

/// Message with the time at which it was stored first, which determines its retention.
#[derive(Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) key: MessageKey,
    pub(crate) state: StoredMessage,
    /// Microseconds since 1970.
    pub(crate) stored_at: i64,
}

impl Message {
    /// Returns the id of the message with a key. The parts of a key have no line feed, so different keys have
    /// different ids.
    pub(crate) fn id_of(key: &MessageKey) -> String {
        format!("{}\n{}", key.gateway(), key.id())
    }
}

impl Document for Message {
    const KIND: &'static str = "message";

    fn id(&self) -> String {
        Self::id_of(&self.key)
    }

    fn ends_at(&self) -> Option<OffsetDateTime> {
        time_of(self.stored_at)
    }
}

/// The ids of the records of one phone sort by their time.
impl Document for CodeRequest {
    const KIND: &'static str = "code_request";

    fn id(&self) -> String {
        format!("{}/{}", self.phone, self.id)
    }

    fn list(&self) -> Option<String> {
        Some(list::code_requests(self.phone))
    }

    fn ends_at(&self) -> Option<OffsetDateTime> {
        Some(self.at)
    }
}

/// Keys of lists: sorted sets of ids that all have the same score, so that Redis sorts them by their bytes.
pub(crate) mod list {
    use referral_core::{PhoneHash, PhoneNumber, User, UserId};

    pub(crate) const USERS: &str = "list/users";

    pub(crate) const WITHOUT_PHONE: &str = "list/without_phone";

    /// Returns the key of the list that has a user.
    pub(crate) fn of_user(user: &User) -> &'static str {
        if user.has_phone() { USERS } else { WITHOUT_PHONE }
    }

    pub(crate) const STAFF: &str = "list/staff";

    pub(crate) const AUDIT: &str = "list/audit";

    pub(crate) fn audit_of(user: UserId) -> String {
        format!("list/audit/{user}")
    }

    pub(crate) const ERASED: &str = "list/erased";

    pub(crate) fn invitees(inviter: UserId) -> String {
        format!("list/invitees/{inviter}")
    }

    pub(crate) fn challenges(phone: &PhoneNumber) -> String {
        format!("list/challenges/{}", phone.as_str())
    }

    pub(crate) fn code_requests(phone: PhoneHash) -> String {
        format!("list/code_requests/{phone}")
    }

    pub(crate) fn sessions(user: UserId) -> String {
        format!("list/sessions/{user}")
    }
}

/// Keys of the ids of users by their unique values.
pub(crate) mod owner {
    use referral_core::{Email, ExternalId, InviteCode, PhoneNumber};

    pub(crate) fn phone(phone: &PhoneNumber) -> String {
        format!("owner/phone/{}", phone.as_str())
    }

    pub(crate) fn code(code: &InviteCode) -> String {
        format!("owner/code/{}", code.as_str())
    }

    pub(crate) fn email(email: &Email) -> String {
        format!("owner/email/{}", email.as_str())
    }

    pub(crate) fn external_id(id: &ExternalId) -> String {
        format!("owner/external_id/{}", id.as_str())
    }
}

/// Returns a time as microseconds since 1970.
pub(crate) fn micros(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000)).expect("times have at most four-digit years")
}

/// Returns the time of a number of microseconds since 1970, if there is one.
pub(crate) fn time_of(micros: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok()
}
