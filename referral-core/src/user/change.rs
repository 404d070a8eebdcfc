//! Changes of a user by the host or by staff.

use crate::{
    decision::Decision,
    error::refusal::Refusal,
    user::{User, UserId, external_id::ExternalId, metadata::Metadata},
};

/// Changes of a user by the host or by staff. A field that is `None` does not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserChange {
    /// `false` deactivates the user. All tokens of the user are invalid from then on.
    pub is_active: Option<bool>,
    /// New external id, or `Some(None)` to clear it.
    pub external_id: Option<Option<ExternalId>>,
    /// Metadata that replace the current ones.
    pub metadata: Option<Metadata>,
}

/// Request to change a user, for [`UserStorage::change_user`](crate::storage::UserStorage::change_user).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UserChangeRequest {
    /// User to change.
    pub user: UserId,
    /// Changes.
    pub change: UserChange,
}

/// Stored data on which [`UserChangeRequest::decide`] depends.
#[derive(Clone, Debug, Default)]
pub struct UserChangeFacts {
    /// User to change, if the user exists.
    pub user: Option<User>,
    /// Owner of the requested external id.
    pub external_id_owner: Option<UserId>,
}

/// Decision about a change. The writes are the user to store in place of the current one, if a field changes.
pub type UserChangeDecision = Decision<Option<User>, Result<User, Refusal>>;

impl UserChangeRequest {
    /// Creates a request.
    #[must_use]
    pub fn new(user: UserId, change: UserChange) -> Self {
        Self { user, change }
    }

    /// Returns the external id that the user requests, if it is not cleared.
    #[must_use]
    pub fn external_id(&self) -> Option<&ExternalId> {
        self.change.external_id.as_ref()?.as_ref()
    }

    /// Applies the complete change, or refuses it.
    #[must_use]
    pub fn decide(&self, facts: &UserChangeFacts) -> UserChangeDecision {
        let Some(user) = &facts.user else {
            return Decision::refuse(Refusal::UserNotFound);
        };
        if self.external_id().is_some() && facts.external_id_owner.is_some_and(|owner| owner != self.user) {
            return Decision::refuse(Refusal::ExternalIdTaken);
        }
        let UserChange { is_active, external_id, metadata } = self.change.clone();
        let changed = User {
            is_active: is_active.unwrap_or(user.is_active),
            external_id: external_id.unwrap_or_else(|| user.external_id.clone()),
            metadata: metadata.unwrap_or_else(|| user.metadata.clone()),
            ..user.clone()
        };
        Decision { writes: Some(changed.clone()).filter(|changed| changed != user), outcome: Ok(changed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::tests::user;

    fn id(id: &str) -> Option<ExternalId> {
        ExternalId::parse(id).ok()
    }

    fn anna() -> User {
        let metadata = r#"{"plan":"gold"}"#.parse().expect("valid");
        User { external_id: id("a1"), metadata, ..user(1) }
    }

    fn decide(change: UserChange, external_id_owner: Option<UserId>) -> UserChangeDecision {
        UserChangeRequest::new(user(1).id, change)
            .decide(&UserChangeFacts { user: Some(anna()), external_id_owner })
    }

    #[test]
    fn absent_fields_are_kept() {
        for (change, expected) in [
            (
                UserChange { is_active: Some(false), ..UserChange::default() },
                User { is_active: false, ..anna() },
            ),
            (
                UserChange { external_id: Some(id("a2")), ..UserChange::default() },
                User { external_id: id("a2"), ..anna() },
            ),
            (
                UserChange { external_id: Some(None), ..UserChange::default() },
                User { external_id: None, ..anna() },
            ),
            (
                UserChange { metadata: Some(Metadata::default()), ..UserChange::default() },
                User { metadata: Metadata::default(), ..anna() },
            ),
        ] {
            assert_eq!(
                decide(change, None),
                Decision { writes: Some(expected.clone()), outcome: Ok(expected) }
            );
        }
    }

    #[test]
    fn change_to_the_same_values_writes_nothing() {
        let same = UserChange {
            is_active: Some(true),
            external_id: Some(anna().external_id),
            metadata: Some(anna().metadata),
        };
        for change in [same, UserChange::default()] {
            assert_eq!(decide(change, Some(user(1).id)), Decision { writes: None, outcome: Ok(anna()) });
        }
    }

    #[test]
    fn external_id_of_another_user_is_refused_with_the_whole_change() {
        let change =
            UserChange { is_active: Some(false), external_id: Some(id("b1")), ..UserChange::default() };
        let refused = Decision::refuse(Refusal::ExternalIdTaken);
        assert_eq!(decide(change, Some(user(2).id)), refused);
    }

    #[test]
    fn unknown_user_is_refused() {
        let request = UserChangeRequest::new(user(1).id, UserChange::default());
        assert_eq!(request.decide(&UserChangeFacts::default()), Decision::refuse(Refusal::UserNotFound));
    }
}
