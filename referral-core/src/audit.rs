//! Audit log of the changes that staff and the host make, and of those that users make with a code.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::{
    error::{
        catalog::ErrorCode,
        input::{InvalidInput, parse_id},
    },
    text::{has_control, has_visible},
    user::{User, UserId, listing::PageSize},
};

/// Id of an entry of the audit log: a UUID that sorts by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AuditEntryId(pub Uuid);

impl fmt::Display for AuditEntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AuditEntryId {
    type Err = InvalidInput;

    fn from_str(input: &str) -> Result<Self, InvalidInput> {
        parse_id(input).map(Self)
    }
}

/// Entry of the audit log. It is committed with the change that it describes. If the user is deleted, its
/// reason and its changes are erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Id of the entry.
    pub id: AuditEntryId,
    /// Time of the change.
    #[serde(with = "crate::stored::micros")]
    pub at: OffsetDateTime,
    /// Author of the change.
    pub actor: Actor,
    /// Kind of the change.
    pub action: AuditAction,
    /// User that was changed. `None` if a phone without a user was unlocked.
    pub user: Option<UserId>,
    /// Reason that the author gave. `None` for a change of the own account, and if the user was deleted.
    pub reason: Option<Reason>,
    /// Changed fields, with their values. Empty if the user was deleted.
    pub changes: Vec<FieldChange>,
}

impl AuditEntry {
    /// Returns the entry without its reason and its changes, as it stays after the deletion of its user.
    #[must_use]
    pub fn erased(self) -> Self {
        Self { reason: None, changes: Vec::new(), ..self }
    }
}

/// Author of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "a storage must write each variant")]
pub enum Actor {
    /// Member of staff, or the user whose account was changed.
    User(UserId),
    /// Host of the service, or a command of the server.
    Host,
}

impl Actor {
    /// Returns the user, unless the actor is the host.
    #[must_use]
    pub fn user(self) -> Option<UserId> {
        match self {
            Self::User(id) => Some(id),
            Self::Host => None,
        }
    }

    /// Returns the actor from [`user`](Self::user).
    #[must_use]
    pub fn from_user(user: Option<UserId>) -> Self {
        user.map_or(Self::Host, Self::User)
    }
}

/// Kind of a change in the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditAction {
    /// A user was added as staff. Imported users have no entry.
    UserAdded,
    /// Fields of a user were changed.
    UserChanged,
    /// A user changed the own phone.
    PhoneChanged,
    /// A user deleted the own account, which has a [grace period](crate::policy::Policy::deletion_grace).
    DeletionScheduled,
    /// A user signed in and so canceled the scheduled deletion of the own account.
    DeletionCanceled,
    /// A user was deleted.
    UserDeleted,
    /// All sessions of a user were ended.
    SessionsEnded,
    /// The counters of a phone were reset.
    PhoneUnlocked,
    /// Staff or the host exported everything that is stored about a user.
    DataExported,
}

impl AuditAction {
    /// All actions.
    pub const ALL: [Self; 9] = [
        Self::UserAdded,
        Self::UserChanged,
        Self::PhoneChanged,
        Self::DeletionScheduled,
        Self::DeletionCanceled,
        Self::UserDeleted,
        Self::SessionsEnded,
        Self::PhoneUnlocked,
        Self::DataExported,
    ];

    /// Returns the stable name under which the action is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UserAdded => "user_added",
            Self::UserChanged => "user_changed",
            Self::PhoneChanged => "phone_changed",
            Self::DeletionScheduled => "deletion_scheduled",
            Self::DeletionCanceled => "deletion_canceled",
            Self::UserDeleted => "user_deleted",
            Self::SessionsEnded => "sessions_ended",
            Self::PhoneUnlocked => "phone_unlocked",
            Self::DataExported => "data_exported",
        }
    }
}

impl fmt::Display for AuditAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AuditAction {
    type Err = InvalidInput;

    fn from_str(input: &str) -> Result<Self, InvalidInput> {
        let action = Self::ALL.into_iter().find(|action| action.as_str() == input);
        action.ok_or_else(|| ErrorCode::InvalidAction.into())
    }
}

/// Change of one field of a user.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Name of the field, such as `email`.
    pub field: String,
    /// Value before the change, as text. `None` if there was none.
    pub before: Option<String>,
    /// Value after the change, as text. `None` if there is none.
    pub after: Option<String>,
}

/// Shows no values, since they are personal data.
impl fmt::Debug for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FieldChange({})", self.field)
    }
}

impl FieldChange {
    pub(crate) fn new(field: &str, before: Option<String>, after: Option<String>) -> Self {
        Self { field: field.to_owned(), before, after }
    }

    /// Returns the changes between two versions of a user, in the order of the fields of the API.
    #[must_use]
    pub fn between(before: &User, after: &User) -> Vec<Self> {
        let fields = before.audited_fields().into_iter().zip(after.audited_fields());
        let changed = fields.filter(|(before, after)| before.1 != after.1);
        changed.map(|((field, before), (_, after))| Self::new(field, before, after)).collect()
    }
}

impl User {
    /// Returns the fields that the audit log has, as text.
    fn audited_fields(&self) -> [(&'static str, Option<String>); 10] {
        let text = |value: &dyn fmt::Display| Some(value.to_string());
        [
            ("phone", self.current_phone().map(|phone| phone.as_str().to_owned())),
            ("invited_by_code", self.invited_by.as_ref().map(|by| by.code.as_str().to_owned())),
            ("email", self.email.as_ref().map(|email| email.as_str().to_owned())),
            ("first_name", self.first_name.as_ref().map(|name| name.as_str().to_owned())),
            ("last_name", self.last_name.as_ref().map(|name| name.as_str().to_owned())),
            ("staff_role", self.staff_role.map(|role| role.as_str().to_owned())),
            ("is_active", text(&self.is_active)),
            ("external_id", self.external_id.as_ref().map(ToString::to_string)),
            ("metadata", text(&self.metadata)),
            ("deletion_at", self.deletion_at.and_then(|time| time.format(&Rfc3339).ok())),
        ]
    }
}

/// Author of a change, without the id of a member of staff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "each actor is one of these")]
pub enum AuditAuthor {
    /// User whose account was changed.
    User,
    /// Member of staff.
    Staff,
    /// Host of the service, a command of the server, or the service itself, which detaches a phone.
    Host,
}

impl AuditAuthor {
    /// All authors.
    pub const ALL: [Self; 3] = [Self::User, Self::Staff, Self::Host];

    /// Returns the stable `snake_case` name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Staff => "staff",
            Self::Host => "host",
        }
    }
}

/// Entry of the audit log about a user, in the [personal data](crate::PersonalData) of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditEntryView {
    /// Id of the entry.
    pub id: AuditEntryId,
    /// Time of the change.
    pub at: OffsetDateTime,
    /// Author of the change.
    pub author: AuditAuthor,
    /// Id of the author. `None` for the host, and in the data that users export themselves.
    pub author_id: Option<UserId>,
    /// Kind of the change.
    pub action: AuditAction,
    /// Reason that the author gave.
    pub reason: Option<Reason>,
    /// Changed fields, with their values.
    pub changes: Vec<FieldChange>,
}

impl AuditEntryView {
    /// Creates the view of an entry about `user`. The id of its author is shown if `names_author` is `true`.
    pub(crate) fn new(entry: AuditEntry, user: UserId, names_author: bool) -> Self {
        let AuditEntry { id, at, actor, action, user: _, reason, changes } = entry;
        let author = match actor {
            Actor::User(id) if id == user => AuditAuthor::User,
            Actor::User(_) => AuditAuthor::Staff,
            Actor::Host => AuditAuthor::Host,
        };
        let author_id = actor.user().filter(|_| names_author);
        Self { id, at, author, author_id, action, reason, changes }
    }
}

/// Reason of a change: 1 to 500 characters.
#[derive(Clone, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// Largest number of characters.
    pub const MAX_CHARS: usize = 500;

    /// Parses a reason. White space at its start and end is removed.
    ///
    /// # Errors
    ///
    /// `invalid_reason` if it has no visible characters, is too long, or has control characters.
    pub fn parse(input: &str) -> Result<Self, InvalidInput> {
        let reason = input.trim();
        if has_visible(reason) && !has_control(reason) {
            Self::from_stored(reason)
        } else {
            Err(ErrorCode::InvalidReason.into())
        }
    }

    /// Creates a reason from its stored form, unchanged.
    ///
    /// # Errors
    ///
    /// `invalid_reason` if it is empty or too long. Such a reason is never stored.
    pub fn from_stored(stored: &str) -> Result<Self, InvalidInput> {
        if (1..=Self::MAX_CHARS).contains(&stored.chars().count()) {
            Ok(Self(stored.to_owned()))
        } else {
            Err(ErrorCode::InvalidReason.into())
        }
    }

    /// Returns the reason.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Shows no text, since it may have personal data.
impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reason(…)")
    }
}

/// Data of an audit entry that is known before its change is decided.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditContext {
    pub(crate) id: AuditEntryId,
    pub(crate) at: OffsetDateTime,
    pub(crate) actor: Actor,
    pub(crate) reason: Option<Reason>,
}

impl AuditContext {
    pub(crate) fn entry(
        &self,
        action: AuditAction,
        user: Option<UserId>,
        changes: Vec<FieldChange>,
    ) -> AuditEntry {
        let Self { id, at, actor, reason } = self.clone();
        AuditEntry { id, at, actor, action, user, reason, changes }
    }
}

/// Query for a page of the audit log. An entry must match all filters.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct AuditQuery {
    /// Changes of this user.
    pub user: Option<UserId>,
    /// Changes by this author.
    pub actor: Option<Actor>,
    /// Changes of this kind.
    pub action: Option<AuditAction>,
    /// Entries before this one.
    pub older_than: Option<AuditEntryId>,
    /// Number of entries to return.
    pub limit: PageSize,
}

impl AuditQuery {
    /// Creates a query for the newest entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Selects the changes of a user.
    #[must_use]
    pub fn user(mut self, user: impl Into<Option<UserId>>) -> Self {
        self.user = user.into();
        self
    }

    /// Selects the changes by an author.
    #[must_use]
    pub fn actor(mut self, actor: impl Into<Option<Actor>>) -> Self {
        self.actor = actor.into();
        self
    }

    /// Selects the changes of a kind.
    #[must_use]
    pub fn action(mut self, action: impl Into<Option<AuditAction>>) -> Self {
        self.action = action.into();
        self
    }

    /// Selects the entries before another one.
    #[must_use]
    pub fn older_than(mut self, entry: impl Into<Option<AuditEntryId>>) -> Self {
        self.older_than = entry.into();
        self
    }

    /// Sets the number of entries to return.
    #[must_use]
    pub fn limit(mut self, limit: PageSize) -> Self {
        self.limit = limit;
        self
    }

    /// Returns `true` if an entry matches all filters.
    #[must_use]
    pub fn matches(&self, entry: &AuditEntry) -> bool {
        self.user.is_none_or(|user| entry.user == Some(user))
            && self.actor.is_none_or(|actor| entry.actor == actor)
            && self.action.is_none_or(|action| entry.action == action)
            && self.older_than.is_none_or(|id| entry.id < id)
    }
}

/// Page of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// Entries, newest first.
    pub entries: Vec<AuditEntry>,
    /// `true` if there are older entries.
    pub has_more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::{staff_role::StaffRole, tests::user};

    #[test]
    fn reasons_are_trimmed_and_limited() {
        assert_eq!(
            Reason::parse("  spam \u{a0}").map(|reason| reason.as_str().to_owned()),
            Ok("spam".into())
        );
        assert!(Reason::parse(&"ж".repeat(500)).is_ok());
        for input in ["", " ", "\u{200b}", "a\nb", "a\0b", &"ж".repeat(501)] {
            assert_eq!(Reason::parse(input), Err(ErrorCode::InvalidReason.into()), "{input:?}");
        }
    }

    #[test]
    fn only_changed_fields_are_listed_with_both_values() {
        let before = user(1);
        assert_eq!(FieldChange::between(&before, &before), []);
        let after = User { staff_role: Some(StaffRole::Support), is_active: false, ..before.clone() };
        let expected = [
            FieldChange::new("staff_role", None, Some("support".into())),
            FieldChange::new("is_active", Some("true".into()), Some("false".into())),
        ];
        assert_eq!(FieldChange::between(&before, &after), expected);
    }

    #[test]
    fn debug_output_has_no_personal_data() {
        let change = FieldChange::new("email", Some("anna@example.com".into()), None);
        let reason = Reason::parse("call from +79608543017").expect("valid");
        assert_eq!(format!("{change:?} {reason:?}"), "FieldChange(email) Reason(…)");
    }
}
