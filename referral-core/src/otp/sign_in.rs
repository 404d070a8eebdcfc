//! Rule of signing in with a code and an optional invite code.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::{
    audit::{Actor, AuditAction, AuditContext, AuditEntry, AuditEntryId, FieldChange},
    decision::Decision,
    error::refusal::Refusal,
    gate::approval::{Approval, GatedChanges},
    invite::{
        code::InviteCode,
        invitation::{self, AcceptedVia, Ancestry, Invitation, InvitationDecision, Inviter},
    },
    keys::Peppers,
    otp::{
        attempt::{self, Attempt, AttemptWrites},
        challenge::{Challenge, ChallengeId},
        code::CodeInput,
        purpose::CodePurpose,
    },
    policy::Policy,
    rate_limit::{
        attack::{GlobalCounterFacts, GlobalCounterQuery},
        client::Client,
        counter_update::CounterUpdate,
        counters::{CounterKey, Counters, EventKind},
        limits::LimitName,
    },
    session::{
        IssuedTokens, Session, SessionId,
        claims::{ClaimsError, ClaimsFn},
    },
    user::{InvitedBy, NewUser, User, UserId, UserWrite, phone::PhoneNumber},
};

/// Attempt to sign in, for [`ChallengeStorage::sign_in`](crate::storage::ChallengeStorage::sign_in).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignInRequest {
    /// Phone in the request.
    pub phone: PhoneNumber,
    /// Id of the challenge in the request. Without it, the newest challenge of the phone that
    /// [signs in](Challenge::signs_in) is used.
    pub challenge: Option<ChallengeId>,
    /// Invite code in the request.
    pub invite_code: Option<InviteCode>,
    /// User to create if the phone has no user.
    pub new_user: NewUser,
    /// Current time.
    pub now: OffsetDateTime,
    pub(crate) client: Client,
    pub(crate) approval: Approval,
    /// `true` if only staff may sign in.
    pub(crate) staff_only: bool,
    /// `true` if an attempt without a valid challenge is counted, which may add a row for each address.
    pub(crate) counts_attempts_without_challenge: bool,
    /// User of an old refresh token in the request, which proves that the client was a client of this user.
    pub(crate) proven_user: Option<UserId>,
    pub(crate) code: CodeInput,
    pub(crate) session: SessionId,
    /// Id of the entry in the audit log, if the sign-in detaches the phone of a user or cancels a deletion.
    pub(crate) audit: AuditEntryId,
    pub(crate) session_expires_at: OffsetDateTime,
    pub(crate) issued: IssuedTokens,
    pub(crate) claims: Option<ClaimsFn>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) peppers: Arc<Peppers>,
}

/// Stored data on which [`SignInRequest::decide`] depends.
#[derive(Clone, Debug, Default)]
pub struct SignInFacts {
    /// If the request has an id: the challenge with this id, or `None` if it does not exist or was sent to
    /// another phone. If the request has no id: the newest challenge of the phone that
    /// [signs in](Challenge::signs_in).
    pub challenge: Option<Challenge>,
    /// User with this phone.
    pub user: Option<User>,
    /// Owner of the invite code in the request.
    pub inviter: Option<Inviter>,
    /// Ancestry of the inviter, if [`SignInRequest::needs_ancestry`] requires it.
    pub ancestry: Ancestry,
    /// Counters with the keys of [`SignInRequest::counters`].
    pub counters: Counters,
    /// Counts that [`SignInRequest::global_counters`] queries.
    pub global_counters: GlobalCounterFacts,
}

/// Changes of a decision about an attempt to sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    clippy::large_enum_variant,
    reason = "a storage must write each variant; one is created per request, and moved once"
)]
pub enum SignInWrites {
    /// Changes of a refused attempt.
    Attempt {
        /// Challenge to store in place of the current one.
        challenge: Option<Challenge>,
        /// Changes of counters.
        counters: CounterUpdate,
    },
    /// Changes of a sign-in.
    SignIn {
        /// Redeemed challenge to store in place of the current one.
        challenge: Challenge,
        /// Loss of the phone, to store before the user is added.
        detached: Option<DetachedPhone>,
        /// User to add or to change.
        user: UserWrite,
        /// Invitation to add and to count for its inviter.
        invitation: Option<Invitation>,
        /// Session to add.
        session: Session,
        /// Number of older active sessions of the user to keep. The oldest ones beyond it are deleted, and so
        /// are sessions of the user that have ended. The storage returns the active ones that it deleted with
        /// [`SignInOutcome::with_ended_sessions`]. Concurrent sign-ins may exceed the number by the number of
        /// their sessions.
        kept_sessions: Option<u32>,
        /// Changes of counters.
        counters: CounterUpdate,
        /// Entry to add to the audit log.
        audit: Option<AuditEntry>,
    },
}

impl Default for SignInWrites {
    fn default() -> Self {
        Self::Attempt { challenge: None, counters: CounterUpdate::default() }
    }
}

/// Loss of the phone of a user who was not active for
/// [`phones_recycled_after`](Policy::phones_recycled_after). The user stays without a phone and without sessions,
/// and the storage deletes the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a storage must write each field")]
pub struct DetachedPhone {
    /// User who loses the phone.
    pub user: UserId,
    /// Time of the loss, to store as [`User::phone_detached_at`].
    pub at: OffsetDateTime,
}

/// Decision about an attempt to sign in.
pub type SignInDecision = Decision<SignInWrites, Result<SignInOutcome, Refusal>>;

/// Outcome of an attempt that no rule refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    clippy::large_enum_variant,
    reason = "a storage returns the outcome of the decision; one is created per request, and moved once"
)]
pub enum SignInOutcome {
    /// The user signed in.
    SignedIn(StoredSignIn),
    /// The sign-in requires the approval of the gate. Nothing is stored, and the code stays valid.
    NeedsApproval(GatedChanges),
}

impl SignInOutcome {
    /// Returns the same outcome with the sessions that were active and that the storage deleted, because the
    /// user has a maximum number of sessions.
    #[must_use]
    pub fn with_ended_sessions(self, ended_sessions: Vec<SessionId>) -> Self {
        match self {
            Self::SignedIn(stored) => Self::SignedIn(StoredSignIn { ended_sessions, ..stored }),
            Self::NeedsApproval(_) => self,
        }
    }
}

/// Outcome of the invite code in a sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the embedding service shows each outcome")]
pub enum InvitationOutcome {
    /// The request has no invite code.
    None,
    /// The owner of the code is now the inviter.
    Accepted,
    /// The owner of the code was already the inviter.
    AlreadyAccepted,
    /// Another user is the inviter, and remains the inviter.
    Ignored,
}

/// Sign-in as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSignIn {
    /// The user.
    pub user: User,
    /// New session.
    pub session: Session,
    /// `true` if the sign-in created the user.
    pub created: bool,
    /// Loss of the phone of the user who had it before.
    pub detached: Option<DetachedPhone>,
    /// Accepted invitation.
    pub accepted: Option<Invitation>,
    /// Outcome of the invite code in the request.
    pub outcome: InvitationOutcome,
    /// [`Challenge::gateway`] of the redeemed challenge.
    pub gateway: Option<String>,
    /// Sessions of the user that were active and that the sign-in ended, in any order.
    pub ended_sessions: Vec<SessionId>,
    /// Entry that was added to the audit log.
    pub audit: Option<AuditEntry>,
}

impl SignInRequest {
    /// Returns the keys of the counters on which the decision depends, sorted. There are four at most.
    #[must_use]
    pub fn counters(&self) -> Vec<CounterKey> {
        let counts_invites = self.invite_code.is_some() && !self.policy.unknown_invite_codes.is_off();
        attempt::counters(&self.policy, &self.phone, self.client.address, counts_invites)
    }

    /// Returns the query for the counts of the whole service on which the decision depends.
    #[must_use]
    pub fn global_counters(&self) -> GlobalCounterQuery {
        self.policy.global_counter_query(self.now).without_messages()
    }

    /// Returns `true` if [`SignInFacts::ancestry`] must be loaded, under the lock for late acceptances. The
    /// code must be correct first. Otherwise an attacker could keep other requests waiting for that lock.
    #[must_use]
    pub fn needs_ancestry(&self, facts: &SignInFacts) -> bool {
        invitation::needs_ancestry(self.user(facts), facts.inviter.as_ref())
            && self.attempt(facts, &self.counters()).check().is_ok()
    }

    /// Returns `true` if the user with the phone may lose it. Then `decide` needs a free invite code, and the
    /// facts must be locked. As for [`needs_ancestry`](Self::needs_ancestry), the code must be correct first.
    #[must_use]
    pub fn detaches_phone(&self, facts: &SignInFacts) -> bool {
        self.former_user(facts).is_some() && self.attempt(facts, &self.counters()).check().is_ok()
    }

    /// Returns the user with the phone, if the phone may belong to another person and the request has no proof
    /// that it does not.
    fn former_user<'f>(&self, facts: &'f SignInFacts) -> Option<&'f User> {
        let is_proven = |user: &User| self.proven_user == Some(user.id);
        let user = facts.user.as_ref()?;
        (self.policy.may_be_recycled(user, self.now) && !is_proven(user)).then_some(user)
    }

    /// Returns the user who signs in. If there is none, a correct code creates one. A user who loses the phone
    /// does not count, so that no response shows that the phone had a user.
    fn user<'f>(&self, facts: &'f SignInFacts) -> Option<&'f User> {
        facts.user.as_ref().filter(|_| self.former_user(facts).is_none())
    }

    /// Decides whether the attempt signs in. A new user gets the invite code `code`, which is one of
    /// [`NewUser::invite_codes`]. If another user has the code, the storage calls this again with the next
    /// one.
    ///
    /// # Errors
    ///
    /// [`ClaimsError`] if the function of the [custom claims](crate::ReferralServiceBuilder::claims) fails.
    pub fn decide(&self, facts: &SignInFacts, code: &InviteCode) -> Result<SignInDecision, ClaimsError> {
        let keys = self.counters();
        let attempt = self.attempt(facts, &keys);
        let challenge = match attempt.check() {
            Ok(challenge) => challenge,
            Err((refusal, AttemptWrites { challenge, counters })) => {
                return Ok(refuse(refusal, challenge, counters));
            }
        };
        // The code stays valid, so that the owner of the phone can use it where others may sign in.
        if self.staff_only && !self.user(facts).is_some_and(User::is_staff) {
            return Ok(Decision::refuse(Refusal::StaffOnly));
        }
        let redeemed = attempt.redeemed(challenge);
        let mut updater = attempt.updater();

        if self.user(facts).is_some_and(|user| !user.is_active) {
            Attempt::refund_failed_attempts(&mut updater, challenge);
            return Ok(refuse(Refusal::UserInactive, Some(redeemed), updater.finish()));
        }

        // If the invite code is refused, the correct code from the message stays valid, so a mistyped invite
        // code does not cost a message.
        if self.invite_code.is_some()
            && let Some(retry_after) = attempt.wait(EventKind::UnknownInvite)
        {
            let limit = LimitName::UnknownInviteCodes;
            return Ok(Decision::refuse(Refusal::TooManyRequests { retry_after, limit }));
        }
        let (outcome, inviter) = match self.decide_invitation(facts) {
            Ok(decided) => decided,
            Err(refusal @ Refusal::UnknownInviteCode) => {
                updater.count(EventKind::UnknownInvite, updater.unused_timestamp(EventKind::UnknownInvite));
                return Ok(refuse(refusal, None, updater.finish()));
            }
            Err(refusal) => return Ok(Decision::refuse(refusal)),
        };
        Attempt::refund_failed_attempts(&mut updater, challenge);
        attempt.refund_codes(&mut updater, challenge);
        self.accept(facts, code, redeemed, outcome, inviter, updater.finish())
    }

    fn accept(
        &self,
        facts: &SignInFacts,
        code: &InviteCode,
        challenge: Challenge,
        outcome: InvitationOutcome,
        inviter: Option<UserId>,
        counters: CounterUpdate,
    ) -> Result<SignInDecision, ClaimsError> {
        let user = self.user(facts);
        let created = user.is_none();
        let invitation = inviter.zip(self.invite_code.clone()).map(|(inviter, code)| Invitation {
            invitee: user.map_or(self.new_user.id, |user| user.id),
            inviter,
            code,
            accepted_at: self.now,
            via: if created { AcceptedVia::SignUp } else { AcceptedVia::SignIn },
        });
        if let Some(changes) = self.approval.missing(created, invitation.as_ref()) {
            return Ok(Decision {
                writes: SignInWrites::default(),
                outcome: Ok(SignInOutcome::NeedsApproval(changes)),
            });
        }
        let invited_by = invitation.as_ref().map(InvitedBy::from);
        let user = match user.cloned() {
            None => self.new_user.to_user(code.clone(), invited_by),
            Some(user) => User {
                invited_by: invited_by.or(user.invited_by),
                last_login: Some(self.now),
                last_active: Some(self.now),
                deletion_at: None,
                ..user
            },
        };
        let detached = self.former_user(facts).map(|user| DetachedPhone { user: user.id, at: self.now });
        let audit = self.audit_entry(facts);
        let session = Session::start(
            self.session,
            user.id,
            self.now,
            self.session_expires_at,
            self.issued.clone().with_claims(self.claims.as_ref(), &user, self.session)?,
            self.client.clone(),
        );
        Ok(Decision {
            outcome: Ok(SignInOutcome::SignedIn(StoredSignIn {
                user: user.clone(),
                session: session.clone(),
                created,
                detached,
                accepted: invitation.clone(),
                outcome,
                gateway: challenge.gateway.clone(),
                ended_sessions: Vec::new(),
                audit: audit.clone(),
            })),
            writes: SignInWrites::SignIn {
                challenge,
                detached,
                user: if created { UserWrite::Add(user) } else { UserWrite::Change(user) },
                invitation,
                session,
                kept_sessions: self.policy.kept_sessions(&self.phone, self.now),
                counters,
                audit,
            },
        })
    }

    /// Returns the entry in the audit log, if a user loses the phone, or if the sign-in cancels the deletion of the
    /// user. A deletion that is due but was not carried out yet is canceled as well.
    fn audit_entry(&self, facts: &SignInFacts) -> Option<AuditEntry> {
        let before = facts.user.as_ref()?;
        let (actor, action, after) = if self.former_user(facts).is_some() {
            let after = User { phone_detached_at: Some(self.now), ..before.clone() };
            (Actor::Host, AuditAction::PhoneChanged, after)
        } else {
            before.deletion_at?;
            let after = User { deletion_at: None, ..before.clone() };
            (Actor::User(before.id), AuditAction::DeletionCanceled, after)
        };
        let context = AuditContext { id: self.audit, at: self.now, actor, reason: None };
        Some(context.entry(action, Some(before.id), FieldChange::between(before, &after)))
    }

    /// Returns the attempt to redeem the code. `keys` are the [`counters`](Self::counters).
    fn attempt<'a>(&'a self, facts: &'a SignInFacts, keys: &'a [CounterKey]) -> Attempt<'a> {
        Attempt {
            phone: &self.phone,
            named: self.challenge,
            code: &self.code,
            purpose: CodePurpose::SignIn,
            now: self.now,
            address: self.client.address,
            counts_attempts_without_challenge: self.counts_attempts_without_challenge,
            policy: &self.policy,
            peppers: &self.peppers,
            keys,
            challenge: facts.challenge.as_ref(),
            user: self.user(facts),
            counters: &facts.counters,
            global_counters: &facts.global_counters,
        }
    }

    fn decide_invitation(&self, facts: &SignInFacts) -> Result<(InvitationOutcome, Option<UserId>), Refusal> {
        if self.invite_code.is_none() {
            return Ok((InvitationOutcome::None, None));
        }
        match invitation::decide(self.user(facts), facts.inviter.as_ref(), facts.ancestry) {
            InvitationDecision::Accept(inviter) => Ok((InvitationOutcome::Accepted, Some(inviter))),
            InvitationDecision::SameInviter => Ok((InvitationOutcome::AlreadyAccepted, None)),
            InvitationDecision::OtherInviter => Ok((InvitationOutcome::Ignored, None)),
            InvitationDecision::Refuse(refusal) => Err(refusal),
        }
    }
}

/// Refuses an attempt, and changes the challenge and the counters.
fn refuse(refusal: Refusal, challenge: Option<Challenge>, counters: CounterUpdate) -> SignInDecision {
    Decision { writes: SignInWrites::Attempt { challenge, counters }, outcome: Err(refusal) }
}

impl From<&Invitation> for InvitedBy {
    fn from(invitation: &Invitation) -> Self {
        Self { inviter: invitation.inviter, code: invitation.code.clone() }
    }
}

#[cfg(test)]
mod tests;
