//! Reset of the counters of a phone.

use std::ops::Range;

use crate::{
    audit::{AuditAction, AuditContext, AuditEntry, FieldChange},
    rate_limit::counters::CounterKey,
    user::{UserId, phone::PhoneNumber},
};

/// Request to reset the counters of a phone, for
/// [`AuditStorage::unlock_phone`](crate::storage::AuditStorage::unlock_phone).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UnlockRequest {
    /// Phone to unlock.
    pub phone: PhoneNumber,
    pub(crate) audit: AuditContext,
}

impl UnlockRequest {
    /// Returns the key of the counter of the phone.
    #[must_use]
    pub fn counter(&self) -> CounterKey {
        CounterKey::phone(&self.phone)
    }

    /// Returns the range of the keys of the counters of the phone with an address, in the order of their bytes.
    #[must_use]
    pub fn pairs(&self) -> Range<String> {
        let phone = self.phone.as_str();
        // The character after `/` is `0`.
        format!("pair/{phone}/")..format!("pair/{phone}0")
    }

    /// Returns the entry for the audit log. `user` is the user with the phone. The entry has no complete phone,
    /// because it stays if a user with the phone is deleted later.
    #[must_use]
    pub fn entry(&self, user: Option<UserId>) -> AuditEntry {
        let phone = Some(self.phone.masked());
        let changes = vec![FieldChange::new("phone", phone.clone(), phone)];
        self.audit.entry(AuditAction::PhoneUnlocked, user, changes)
    }
}
