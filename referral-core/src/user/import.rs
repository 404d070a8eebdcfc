//! Rule of importing users.
//!
//! An import only adds. It is idempotent: a record whose user is stored with the same data changes nothing. A
//! batch adds its users first and then their invitations, so the inviter can follow the invitee in a batch.
//! If the inviter follows in a later batch, the invitee is added without an inviter, and the same record adds
//! the invitation when it is imported again.

use std::collections::{HashMap, HashSet};

use crate::{
    decision::Decision,
    invite::{code::InviteCode, invitation::Invitation},
    user::{
        InvitedBy, User, UserId,
        email::Email,
        external_id::ExternalId,
        phone::PhoneNumber,
        record::{RecordedInvitation, RecordedUser, UserRecord},
    },
};

/// Records to import together, for [`UserStorage::import_users`](crate::storage::UserStorage::import_users).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImportBatch {
    /// Records, at most [`MAX_RECORDS`](Self::MAX_RECORDS).
    pub records: Vec<UserRecord>,
}

/// Stored data on which [`ImportBatch::decide`] depends.
#[derive(Clone, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a storage must load each fact")]
pub struct ImportFacts {
    /// Records of stored users by their ids: those with the id of a record.
    pub stored: HashMap<UserId, UserRecord>,
    /// Owners of phones.
    pub phones: HashMap<PhoneNumber, UserId>,
    /// Owners of invite codes: those of the users and of the inviters in the batch. They can be erased.
    pub codes: HashMap<InviteCode, UserId>,
    /// Owners of email addresses.
    pub emails: HashMap<Email, UserId>,
    /// Owners of external ids.
    pub external_ids: HashMap<ExternalId, UserId>,
    /// Inviters of stored users: of [`ImportBatch::late_inviters`] and of all users above them.
    pub inviters: HashMap<UserId, UserId>,
}

/// Changes of an import, in the order in which they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a storage must write each change")]
pub struct ImportWrites {
    /// Users to add. A user with an invitation in [`invitations`](Self::invitations) has
    /// [`User::invited_by`].
    pub added: Vec<RecordedUser>,
    /// Invitations to add. [`User::invited_count`] of the inviters increases.
    pub invitations: Vec<Invitation>,
    /// Users who were stored before and accept one of the invitations. Only [`User::invited_by`] differs from
    /// the stored user.
    pub invited: Vec<User>,
}

/// Decision about a batch. The outcome has one item for each record.
pub type ImportDecision = Decision<ImportWrites, Vec<ImportOutcome>>;

/// Outcome of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a report must name each outcome")]
pub enum ImportOutcome {
    /// The user was added.
    Added(ImportedInvitation),
    /// The user was stored before, with the same data.
    Stored(ImportedInvitation),
    /// The record conflicts with a stored user, or with an earlier record. Nothing of it was imported.
    Rejected(ImportRejection),
}

/// Outcome of the invitation of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a report must name each outcome")]
pub enum ImportedInvitation {
    /// The record has no invitation.
    None,
    /// The invitation was added.
    Added,
    /// The invitation was stored before.
    Stored,
    /// No user has the invite code, or another user than the inviter of the record has it. The user has no
    /// inviter.
    UnknownInviter,
    /// The invite code is that of the user. The user has no inviter.
    OwnCode,
    /// The user is among the inviters above the inviter. The user has no inviter.
    Loop,
}

/// Reason for which a record is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a report must name each reason")]
pub enum ImportRejection {
    /// The user with the id has other data. The names of the fields that differ follow.
    Differs(Vec<&'static str>),
    /// The user with the id has been deleted.
    Deleted,
    /// The record is of a deleted user, and the user with the id is not deleted.
    NotDeleted,
    /// This user has the phone.
    PhoneTaken(UserId),
    /// This user has or had the invite code.
    InviteCodeTaken(UserId),
    /// This user has the email address.
    EmailTaken(UserId),
    /// This user has the external id.
    ExternalIdTaken(UserId),
}

impl ImportBatch {
    /// Largest number of records of a batch. A batch of this size takes a fraction of a second, for which
    /// other writes may wait.
    pub const MAX_RECORDS: usize = 1_000;

    /// Creates a batch.
    #[must_use]
    pub fn new(records: Vec<UserRecord>) -> Self {
        debug_assert!(records.len() <= Self::MAX_RECORDS, "the batch is too large");
        Self { records }
    }

    /// Returns the ids of the users.
    pub fn ids(&self) -> impl Iterator<Item = UserId> {
        self.records.iter().map(|record| record.user.id())
    }

    /// Returns the users who are not erased.
    pub fn present(&self) -> impl Iterator<Item = &User> {
        self.records.iter().filter_map(|record| record.user.present())
    }

    /// Returns the invite codes of the users and of their inviters. A code can occur several times.
    pub fn codes(&self) -> impl Iterator<Item = &InviteCode> {
        self.records.iter().flat_map(|record| {
            let code_of_inviter = record.invitation.as_ref().map(|invitation| &invitation.code);
            [record.user.invite_code()].into_iter().chain(code_of_inviter)
        })
    }

    /// Returns the stored inviters whose ancestry the decision needs. There are none unless a stored user
    /// accepts an invitation, since other users have invited no stored user.
    #[must_use]
    pub fn late_inviters(&self, facts: &ImportFacts) -> Vec<UserId> {
        let is_late = |record: &UserRecord| {
            let stored = facts.stored.get(&record.user.id());
            record.invitation.is_some() && stored.is_some_and(|stored| stored.invitation.is_none())
        };
        if !self.records.iter().any(is_late) {
            return Vec::new();
        }
        let codes = self.records.iter().filter_map(|record| Some(&record.invitation.as_ref()?.code));
        let inviters: HashSet<_> = codes.filter_map(|code| facts.codes.get(code).copied()).collect();
        inviters.into_iter().collect()
    }

    /// Decides about each record.
    #[must_use]
    pub fn decide(&self, facts: ImportFacts) -> ImportDecision {
        let mut import = Import { facts, writes: ImportWrites::default(), added: HashMap::new() };
        let users: Vec<_> = self.records.iter().map(|record| import.add(record)).collect();
        let outcome = users.into_iter().zip(&self.records).map(|(user, record)| match user {
            Ok(true) => ImportOutcome::Added(import.invite(record)),
            Ok(false) => ImportOutcome::Stored(import.invite(record)),
            Err(rejection) => ImportOutcome::Rejected(rejection),
        });
        let outcome = outcome.collect();
        Decision { writes: import.writes, outcome }
    }
}

/// State of a decision: the facts, with the changes by the records so far.
struct Import {
    facts: ImportFacts,
    writes: ImportWrites,
    /// Indexes of the added users in the writes.
    added: HashMap<UserId, usize>,
}

impl Import {
    /// Adds the user of a record. Returns `false` if the user is stored.
    fn add(&mut self, record: &UserRecord) -> Result<bool, ImportRejection> {
        let id = record.user.id();
        if let Some(stored) = self.facts.stored.get(&id) {
            return compare(stored, record).map(|()| false);
        }
        self.check_free(&record.user)?;
        let facts = &mut self.facts;
        if let Some(user) = record.user.present() {
            facts.phones.extend(user.current_phone().map(|phone| (phone.clone(), id)));
            facts.emails.extend(user.email.clone().map(|email| (email, id)));
            facts.external_ids.extend(user.external_id.clone().map(|external_id| (external_id, id)));
        }
        facts.codes.insert(record.user.invite_code().clone(), id);
        facts.stored.insert(id, UserRecord { invitation: None, ..record.clone() });
        self.added.insert(id, self.writes.added.len());
        self.writes.added.push(record.user.clone());
        Ok(true)
    }

    fn check_free(&self, user: &RecordedUser) -> Result<(), ImportRejection> {
        let ImportFacts { phones, codes, emails, external_ids, .. } = &self.facts;
        if let Some(user) = user.present() {
            if let Some(owner) = user.current_phone().and_then(|phone| phones.get(phone)) {
                return Err(ImportRejection::PhoneTaken(*owner));
            }
            if let Some(owner) = user.email.as_ref().and_then(|email| emails.get(email)) {
                return Err(ImportRejection::EmailTaken(*owner));
            }
            if let Some(owner) = user.external_id.as_ref().and_then(|id| external_ids.get(id)) {
                return Err(ImportRejection::ExternalIdTaken(*owner));
            }
        }
        match codes.get(user.invite_code()) {
            Some(owner) => Err(ImportRejection::InviteCodeTaken(*owner)),
            None => Ok(()),
        }
    }

    /// Adds the invitation of a record whose user is stored or added.
    fn invite(&mut self, record: &UserRecord) -> ImportedInvitation {
        let Some(invitation) = &record.invitation else {
            return ImportedInvitation::None;
        };
        let invitee = record.user.id();
        if self.facts.stored.get(&invitee).is_some_and(|stored| stored.invitation.is_some()) {
            return ImportedInvitation::Stored;
        }
        let owner = self.facts.codes.get(&invitation.code).copied();
        let Some(inviter) = owner.filter(|owner| invitation.inviter.is_none_or(|named| named == *owner))
        else {
            return ImportedInvitation::UnknownInviter;
        };
        if inviter == invitee {
            return ImportedInvitation::OwnCode;
        }
        if self.is_above(invitee, inviter) {
            return ImportedInvitation::Loop;
        }
        self.facts.inviters.insert(invitee, inviter);
        if let Some(stored) = self.facts.stored.get_mut(&invitee) {
            stored.invitation = Some(invitation.clone());
        }
        self.record(invitee, inviter, invitation);
        ImportedInvitation::Added
    }

    /// Returns `true` if `invitee` is among the inviters above `inviter`.
    fn is_above(&self, invitee: UserId, inviter: UserId) -> bool {
        let mut ancestor = Some(inviter);
        // At most one step for each invitation, so the search ends even if the stored inviters form a loop.
        for _ in 0..=self.facts.inviters.len() {
            match ancestor {
                Some(id) if id == invitee => return true,
                Some(id) => ancestor = self.facts.inviters.get(&id).copied(),
                None => break,
            }
        }
        false
    }

    fn record(&mut self, invitee: UserId, inviter: UserId, invitation: &RecordedInvitation) {
        let RecordedInvitation { inviter: _, code, accepted_at, via } = invitation.clone();
        let invited_by = Some(InvitedBy { inviter, code: code.clone() });
        let added = self.added.get(&invitee).and_then(|index| self.writes.added.get_mut(*index));
        match (added, self.facts.stored.get(&invitee)) {
            (Some(RecordedUser::Present(user)), _) => user.invited_by = invited_by,
            (None, Some(UserRecord { user: RecordedUser::Present(user), .. })) => {
                self.writes.invited.push(User { invited_by, ..(**user).clone() });
            }
            // An erased user is not searched, so nothing else changes.
            _ => {}
        }
        self.writes.invitations.push(Invitation { invitee, inviter, code, accepted_at, via });
    }
}

/// Checks that the user of a record is stored with the same data.
///
/// The user may have signed in, accepted an invitation, or scheduled or canceled the deletion of the account
/// since the record was written. None of them is a difference.
fn compare(stored: &UserRecord, record: &UserRecord) -> Result<(), ImportRejection> {
    let mut differences = match (&stored.user, &record.user) {
        (RecordedUser::Present(stored), RecordedUser::Present(user)) => differences(stored, user),
        (RecordedUser::Erased(stored), RecordedUser::Erased(user)) => [
            ("invite_code", stored.invite_code != user.invite_code),
            ("date_joined", stored.date_joined != user.date_joined),
            ("erased_at", stored.erased_at != user.erased_at),
        ]
        .into_iter()
        .filter_map(named)
        .collect(),
        (RecordedUser::Erased(_), RecordedUser::Present(_)) => return Err(ImportRejection::Deleted),
        (RecordedUser::Present(_), RecordedUser::Erased(_)) => return Err(ImportRejection::NotDeleted),
    };
    if let (Some(stored), Some(invitation)) = (&stored.invitation, &record.invitation)
        && stored.code != invitation.code
    {
        differences.push("invited_by_code");
    }
    if differences.is_empty() { Ok(()) } else { Err(ImportRejection::Differs(differences)) }
}

/// Returns the names of the fields of a record in which two users differ.
fn differences(stored: &User, user: &User) -> Vec<&'static str> {
    // The pattern lists all fields, so that a new field is a compile error here.
    let User {
        id: _,
        phone,
        invite_code,
        invited_by: _,
        invited_count: _,
        email,
        first_name,
        last_name,
        staff_role,
        is_active,
        date_joined,
        last_login,
        last_active,
        phone_detached_at,
        external_id,
        metadata,
        deletion_at: _,
    } = user;
    [
        ("phone", stored.phone != *phone),
        ("invite_code", stored.invite_code != *invite_code),
        ("email", stored.email != *email),
        ("first_name", stored.first_name != *first_name),
        ("last_name", stored.last_name != *last_name),
        ("staff_role", stored.staff_role != *staff_role),
        ("is_active", stored.is_active != *is_active),
        ("date_joined", stored.date_joined != *date_joined),
        ("last_login", stored.last_login < *last_login),
        ("last_active", stored.last_active < *last_active),
        ("phone_detached_at", stored.phone_detached_at != *phone_detached_at),
        ("external_id", stored.external_id != *external_id),
        ("metadata", stored.metadata != *metadata),
    ]
    .into_iter()
    .filter_map(named)
    .collect()
}

fn named((name, differs): (&'static str, bool)) -> Option<&'static str> {
    differs.then_some(name)
}

#[cfg(test)]
mod tests;
