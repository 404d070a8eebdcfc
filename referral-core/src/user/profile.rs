//! Changes that users make to their own profiles.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;

use crate::{
    decision::Decision,
    error::refusal::Refusal,
    gate::approval::{Approval, GatedChanges},
    invite::{
        code::InviteCode,
        invitation::{self, AcceptedVia, Ancestry, Invitation, InvitationDecision, Inviter},
    },
    policy::Policy,
    rate_limit::{
        client::ClientAddress,
        counter_update::{CounterUpdate, CounterUpdater},
        counters::{CounterKey, Counters, EventKind},
        limits::LimitName,
    },
    user::{InvitedBy, User, UserId, email::Email, name::Name, phone::PhoneNumber},
};

/// Changes of a profile. `None` keeps a field, and `Some(None)` clears it.
#[derive(Clone, Debug, Default)]
pub struct ProfileChange {
    /// First name.
    pub first_name: Option<Option<Name>>,
    /// Last name.
    pub last_name: Option<Option<Name>>,
    /// Email address; unique.
    pub email: Option<Option<Email>>,
    /// Invite code of the inviter. The inviter can be set once and never changes.
    pub invited_by_code: Option<InviteCode>,
}

/// Change of a profile, as [`UserStorage::edit_profile`](crate::storage::UserStorage::edit_profile) receives
/// it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProfileEdit {
    /// User whose profile changes.
    pub user: UserId,
    /// Changes.
    pub change: ProfileChange,
    /// Current time.
    pub now: OffsetDateTime,
    pub(crate) phone: PhoneNumber,
    pub(crate) address: Option<ClientAddress>,
    pub(crate) approval: Approval,
    pub(crate) policy: Arc<Policy>,
}

/// Stored data on which [`ProfileEdit::decide`] depends.
#[derive(Clone, Debug, Default)]
pub struct ProfileFacts {
    /// User whose profile changes, if the user exists.
    pub user: Option<User>,
    /// Owner of the requested email address.
    pub email_owner: Option<UserId>,
    /// Owner of the given invite code.
    pub inviter: Option<Inviter>,
    /// Ancestry of the inviter, if [`ProfileEdit::needs_ancestry`] returns `true`.
    pub ancestry: Ancestry,
    /// Counters that [`ProfileEdit::counters`] returns.
    pub counters: Counters,
}

/// Changes of a decision about a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileWrites {
    /// User to store in place of the current one.
    pub user: Option<User>,
    /// Invitation to add, and to count for its inviter.
    pub invitation: Option<Invitation>,
    /// Changes of counters.
    pub counters: CounterUpdate,
}

/// Decision about a change. The outcome is the changed profile, or all reasons for the refusal.
pub type ProfileDecision = Decision<ProfileWrites, Result<ProfileOutcome, Vec<Refusal>>>;

/// Outcome of a change that no rule refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    clippy::large_enum_variant,
    reason = "a storage returns the outcome of the decision; one is created per request, and moved once"
)]
pub enum ProfileOutcome {
    /// The profile changed.
    Edited(EditedProfile),
    /// The invitation requires the approval of the gate. Only counters are stored.
    NeedsApproval(GatedChanges),
}

/// Accepted change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditedProfile {
    /// Changed user.
    pub user: User,
    /// Accepted invitation.
    pub accepted: Option<Invitation>,
}

impl ProfileEdit {
    /// Returns `true` if [`ProfileFacts::ancestry`] must be read, under the lock for late acceptances.
    #[must_use]
    pub fn needs_ancestry(&self, facts: &ProfileFacts) -> bool {
        facts.user.is_some() && invitation::needs_ancestry(facts.user.as_ref(), facts.inviter.as_ref())
    }

    /// Returns the keys of the counters for the decision, in order: at most four.
    #[must_use]
    pub fn counters(&self) -> Vec<CounterKey> {
        let counts_invites =
            self.change.invited_by_code.is_some() && !self.policy.unknown_invite_codes.is_off();
        let counts_phone = counts_invites || self.counts_email();
        let of_address = CounterKey::networks(self.address.filter(|_| counts_invites));
        let mut keys: Vec<_> =
            of_address.chain(counts_phone.then(|| CounterKey::phone(&self.phone))).collect();
        keys.sort_unstable();
        keys
    }

    /// Returns `true` if the change sets an email address. It is counted whether or not the address is free,
    /// and before the gate is asked.
    fn counts_email(&self) -> bool {
        matches!(self.change.email, Some(Some(_)))
            && !self.policy.email_changes.is_off()
            && !self.approval.is_granted()
    }

    /// Returns the longest wait of all counters that are full.
    fn wait(&self, facts: &ProfileFacts) -> Option<(Duration, LimitName)> {
        let invite = self.change.invited_by_code.is_some();
        let invite = invite.then_some((EventKind::UnknownInvite, LimitName::UnknownInviteCodes));
        let email = self.counts_email().then_some((EventKind::EmailChange, LimitName::EmailChanges));
        let waits = invite.into_iter().chain(email).flat_map(|(kind, name)| {
            let full =
                move |key| self.policy.wait(&facts.counters, &key, kind, self.now).map(|wait| (wait, name));
            self.counters().into_iter().filter_map(full)
        });
        waits.max()
    }

    /// Accepts the complete change, or refuses it with all reasons.
    #[must_use]
    pub fn decide(&self, facts: &ProfileFacts) -> ProfileDecision {
        // The request was authenticated before these facts were loaded.
        let Some(user) = facts.user.as_ref().filter(|user| user.has_phone()) else {
            return Decision::refuse(vec![Refusal::UserNotFound]);
        };
        if let Some((retry_after, limit)) = self.wait(facts) {
            return Decision::refuse(vec![Refusal::TooManyRequests { retry_after, limit }]);
        }
        let mut updater = CounterUpdater::new(&facts.counters, self.counters(), &self.policy, self.now);
        if self.counts_email() {
            updater.count(EventKind::EmailChange, updater.unused_timestamp(EventKind::EmailChange));
        }
        let outcome = self.judge(user, facts);
        let mut writes = ProfileWrites::default();
        match &outcome {
            Ok(ProfileOutcome::Edited(edited)) => {
                writes.user = Some(edited.user.clone());
                writes.invitation.clone_from(&edited.accepted);
            }
            Err(refusals) if refusals.contains(&Refusal::UnknownInviteCode) => {
                updater.count(EventKind::UnknownInvite, updater.unused_timestamp(EventKind::UnknownInvite));
            }
            Ok(ProfileOutcome::NeedsApproval(_)) | Err(_) => {}
        }
        writes.counters = updater.finish();
        Decision { writes, outcome }
    }

    fn judge(&self, user: &User, facts: &ProfileFacts) -> Result<ProfileOutcome, Vec<Refusal>> {
        let mut refusals = Vec::new();
        let change = self.change.clone();

        if change.email.is_some() && facts.email_owner.is_some_and(|owner| owner != self.user) {
            refusals.push(Refusal::EmailTaken);
        }
        let accepted = change.invited_by_code.and_then(|code| {
            match invitation::decide(Some(user), facts.inviter.as_ref(), facts.ancestry) {
                InvitationDecision::Accept(inviter) => Some(Invitation {
                    invitee: self.user,
                    inviter,
                    code,
                    accepted_at: self.now,
                    via: AcceptedVia::Profile,
                }),
                InvitationDecision::SameInviter => None,
                InvitationDecision::OtherInviter => {
                    refusals.push(Refusal::InvitationAlreadyAccepted);
                    None
                }
                InvitationDecision::Refuse(refusal) => {
                    refusals.push(refusal);
                    None
                }
            }
        });
        if !refusals.is_empty() {
            return Err(refusals);
        }
        if let Some(changes) = self.approval.missing(false, accepted.as_ref()) {
            return Ok(ProfileOutcome::NeedsApproval(changes));
        }

        let user = user.clone();
        let user = User {
            first_name: change.first_name.unwrap_or(user.first_name),
            last_name: change.last_name.unwrap_or(user.last_name),
            email: change.email.unwrap_or(user.email),
            invited_by: accepted.as_ref().map(InvitedBy::from).or(user.invited_by),
            ..user
        };
        Ok(ProfileOutcome::Edited(EditedProfile { user, accepted }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::tests::user;

    fn edit(change: ProfileChange) -> ProfileEdit {
        ProfileEdit {
            user: user(1).id,
            change,
            now: OffsetDateTime::UNIX_EPOCH,
            phone: user(1).phone,
            address: None,
            approval: Approval::NotRequired,
            policy: Arc::new(Policy::standard()),
        }
    }

    fn edited(outcome: Result<ProfileOutcome, Vec<Refusal>>) -> EditedProfile {
        match outcome {
            Ok(ProfileOutcome::Edited(edited)) => edited,
            other => panic!("{other:?}"),
        }
    }

    fn facts() -> ProfileFacts {
        ProfileFacts { user: Some(user(1)), ..ProfileFacts::default() }
    }

    #[test]
    fn absent_fields_are_kept_and_none_clears_a_field() {
        let name = |name| Some(Name::parse(name).expect("a name"));
        let facts = ProfileFacts {
            user: Some(User { first_name: name("Anna"), last_name: name("Ivanova"), ..user(1) }),
            ..facts()
        };
        let change = ProfileChange { last_name: Some(None), ..ProfileChange::default() };
        let edited = edited(edit(change).decide(&facts).outcome).user;
        assert_eq!((edited.first_name, edited.last_name), (name("Anna"), None));
    }

    #[test]
    fn unknown_user_is_refused() {
        let refused = Decision::refuse(vec![Refusal::UserNotFound]);
        assert_eq!(edit(ProfileChange::default()).decide(&ProfileFacts::default()), refused);
    }

    #[test]
    fn refusal_has_all_reasons() {
        let change = ProfileChange {
            email: Some(Some(Email::parse("a@b.cd").expect("valid"))),
            invited_by_code: Some(user(2).invite_code),
            ..ProfileChange::default()
        };
        let facts = ProfileFacts { email_owner: Some(user(2).id), ..facts() };
        let refusals = edit(change).decide(&facts).outcome.expect_err("refused");
        assert_eq!(refusals, [Refusal::EmailTaken, Refusal::UnknownInviteCode]);
    }

    #[test]
    fn own_email_address_is_accepted() {
        let change = ProfileChange {
            email: Some(Some(Email::parse("a@b.cd").expect("valid"))),
            ..ProfileChange::default()
        };
        let facts = ProfileFacts { email_owner: Some(user(1).id), ..facts() };
        assert!(edit(change).decide(&facts).outcome.is_ok());
    }

    #[test]
    fn inviter_cannot_be_changed() {
        let [boris, vera] = [user(2), user(3)];
        let naming = |inviter: &User| {
            let change = ProfileChange {
                invited_by_code: Some(inviter.invite_code.clone()),
                ..ProfileChange::default()
            };
            let inviter = Some(Inviter { id: inviter.id, code: inviter.invite_code.clone() });
            (edit(change), ProfileFacts { inviter, ancestry: Ancestry::WithoutInvitee, ..facts() })
        };
        let (first, facts) = naming(&boris);
        let named = edited(first.decide(&facts).outcome);
        assert_eq!(named.accepted.expect("accepted").inviter, boris.id);

        let again = ProfileFacts { user: Some(named.user.clone()), ..facts };
        assert_eq!(edited(first.decide(&again).outcome).accepted, None);
        let (other, facts) = naming(&vera);
        let facts = ProfileFacts { user: Some(named.user), ..facts };
        assert_eq!(other.decide(&facts).outcome, Err(vec![Refusal::InvitationAlreadyAccepted]));
    }

    #[test]
    fn unknown_invite_codes_are_counted_and_limited() {
        let edit =
            edit(ProfileChange { invited_by_code: Some(user(2).invite_code), ..ProfileChange::default() });
        let mut facts = facts();
        for _ in 0..10 {
            let Decision { writes, outcome } = edit.decide(&facts);
            assert_eq!(outcome, Err(vec![Refusal::UnknownInviteCode]));
            facts.counters.apply(writes.counters);
        }
        let retry_after = std::time::Duration::from_hours(1);
        let limit = LimitName::UnknownInviteCodes;
        let refused = Decision::refuse(vec![Refusal::TooManyRequests { retry_after, limit }]);
        assert_eq!(edit.decide(&facts), refused);
    }

    #[test]
    fn approved_edit_counts_its_email_address_once() {
        let boris = user(2);
        let inviter = Some(Inviter { id: boris.id, code: boris.invite_code.clone() });
        let mut facts = ProfileFacts { inviter, ancestry: Ancestry::WithoutInvitee, ..facts() };
        let change = ProfileChange {
            email: Some(Some(Email::parse("a@b.cd").expect("valid"))),
            invited_by_code: Some(boris.invite_code),
            ..ProfileChange::default()
        };
        let required = ProfileEdit { approval: Approval::Required, ..edit(change) };
        let key = CounterKey::phone(&required.phone);
        for count in 1..=10 {
            let Decision { writes, outcome } = required.decide(&facts);
            assert_eq!((writes.user, writes.invitation), (None, None));
            let Ok(ProfileOutcome::NeedsApproval(changes)) = outcome else { panic!("{outcome:?}") };
            facts.counters.apply(writes.counters);
            assert_eq!(facts.counters.timestamps(&key, EventKind::EmailChange).len(), count);

            let granted = ProfileEdit { approval: Approval::Granted(changes), ..required.clone() };
            let Decision { writes, outcome } = granted.decide(&facts);
            assert!(edited(outcome).accepted.is_some());
            facts.counters.apply(writes.counters);
            assert_eq!(facts.counters.timestamps(&key, EventKind::EmailChange).len(), count);
        }
        assert!(
            matches!(required.decide(&facts).outcome, Err(refusals) if refusals[0].retry_after().is_some())
        );
    }
}
