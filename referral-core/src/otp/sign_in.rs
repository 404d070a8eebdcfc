//! Rule of signing in with a code and an optional invite code.

mod refunds;

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use uuid::Uuid;

use self::refunds::refund_failed_attempts;
use crate::{
    decision::Decision,
    error::refusal::Refusal,
    gate::approval::{Approval, GatedChanges},
    invite::{
        code::InviteCode,
        invitation::{self, AcceptedVia, Ancestry, Invitation, InvitationDecision, Inviter},
    },
    keys::Peppers,
    otp::{
        challenge::{Challenge, ChallengeId, FailedAttempt, hash_code},
        code::{CODE_LENGTHS, CodeInput},
    },
    policy::Policy,
    rate_limit::{
        attack::{GlobalCounter, GlobalCounterFacts, GlobalCounterQuery, GlobalCounterUpdate},
        client::Client,
        counter_update::{CounterUpdate, CounterUpdater},
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
    /// Id of the challenge in the request. Without it, the newest challenge of the phone is used.
    pub challenge: Option<ChallengeId>,
    /// Invite code in the request.
    pub invite_code: Option<InviteCode>,
    /// User to create if the phone has no user.
    pub new_user: NewUser,
    /// Current time.
    pub now: OffsetDateTime,
    pub(crate) client: Client,
    pub(crate) approval: Approval,
    /// `true` if an attempt without a valid challenge is counted, which may add a row for each address.
    pub(crate) counts_attempts_without_challenge: bool,
    pub(crate) code: CodeInput,
    pub(crate) session: SessionId,
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
    /// another phone. If the request has no id: the newest challenge of the phone.
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
        /// User to add or to change.
        user: UserWrite,
        /// Invitation to add and to count for its inviter.
        invitation: Option<Invitation>,
        /// Session to add.
        session: Session,
        /// Number of older sessions of the user to keep. The oldest sessions beyond it are deleted.
        /// Concurrent sign-ins may exceed it by the number of their sessions.
        kept_sessions: Option<u32>,
        /// Changes of counters.
        counters: CounterUpdate,
    },
}

impl Default for SignInWrites {
    fn default() -> Self {
        Self::Attempt { challenge: None, counters: CounterUpdate::default() }
    }
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
    /// Accepted invitation.
    pub accepted: Option<Invitation>,
    /// Outcome of the invite code in the request.
    pub outcome: InvitationOutcome,
    /// [`Challenge::gateway`] of the redeemed challenge.
    pub gateway: Option<String>,
}

impl SignInRequest {
    /// Returns the keys of the counters on which the decision depends, sorted. There are four at most.
    #[must_use]
    pub fn counters(&self) -> Vec<CounterKey> {
        let Policy { unknown_invite_codes, failed_attempts_per_address, attempts_without_challenge, .. } =
            &*self.policy;
        let counts_invites = self.invite_code.is_some() && !unknown_invite_codes.is_off();
        let counts_address =
            counts_invites || !failed_attempts_per_address.is_off() || !attempts_without_challenge.is_off();
        let counts_phone = counts_invites || self.policy.max_relevant_failures() > 0;
        let of_address = CounterKey::networks(self.client.address.filter(|_| counts_address));
        let mut keys: Vec<_> =
            of_address.chain(counts_phone.then(|| CounterKey::phone(&self.phone))).collect();
        keys.sort_unstable();
        keys
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
        invitation::needs_ancestry(facts.user.as_ref(), facts.inviter.as_ref())
            && self.wait(facts, EventKind::FailedAttempt).is_none()
            && self.right_challenge(facts, self.is_right_code(facts)).is_some()
    }

    /// Decides whether the attempt signs in. A new user gets the invite code `code`, which is one of
    /// [`NewUser::invite_codes`]. If another user has the code, the storage calls this again with the next
    /// one.
    ///
    /// # Errors
    ///
    /// [`ClaimsError`] if the function of the [custom claims](crate::ReferralServiceBuilder::claims) fails.
    pub fn decide(&self, facts: &SignInFacts, code: &InviteCode) -> Result<SignInDecision, ClaimsError> {
        if let Some(retry_after) = self.wait(facts, EventKind::FailedAttempt) {
            let limit = LimitName::FailedAttemptsPerAddress;
            return Ok(Decision::refuse(Refusal::TooManyRequests { retry_after, limit }));
        }
        if self.has_wrong_length(facts) {
            return Ok(Decision::refuse(Refusal::MalformedCode));
        }
        let is_right_code = self.is_right_code(facts);
        let Some(challenge) = self.right_challenge(facts, is_right_code) else {
            return Ok(self.refuse_code(facts, is_right_code));
        };
        let redeemed = Challenge { redeemed_at: Some(self.now), ..challenge.clone() };
        let mut updater = self.updater(facts);

        if facts.user.as_ref().is_some_and(|user| !user.is_active) {
            refund_failed_attempts(&mut updater, challenge);
            return Ok(refuse(Refusal::UserInactive, Some(redeemed), updater.finish()));
        }

        // If the invite code is refused, the correct code from the message stays valid, so a mistyped invite
        // code does not cost a message.
        if self.invite_code.is_some()
            && let Some(retry_after) = self.wait(facts, EventKind::UnknownInvite)
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
        refund_failed_attempts(&mut updater, challenge);
        self.refund_codes(&mut updater, challenge, facts);
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
        let created = facts.user.is_none();
        let invitation = inviter.zip(self.invite_code.clone()).map(|(inviter, code)| Invitation {
            invitee: facts.user.as_ref().map_or(self.new_user.id, |user| user.id),
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
        let user = match facts.user.clone() {
            None => self.new_user.to_user(code.clone(), invited_by),
            Some(user) => {
                User { invited_by: invited_by.or(user.invited_by), last_login: Some(self.now), ..user }
            }
        };
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
                accepted: invitation.clone(),
                outcome,
                gateway: challenge.gateway.clone(),
            })),
            writes: SignInWrites::SignIn {
                challenge,
                user: if created { UserWrite::Add(user) } else { UserWrite::Change(user) },
                invitation,
                session,
                kept_sessions: self.policy.kept_sessions(&self.phone, self.now),
                counters,
            },
        })
    }

    /// Refuses a code that is wrong or no longer valid.
    fn refuse_code(&self, facts: &SignInFacts, is_right_code: bool) -> SignInDecision {
        // The response must not reveal whether the phone has a valid challenge.
        let limit = LimitName::AttemptsWithoutChallenge;
        let wait = self.wait(facts, EventKind::AttemptWithoutChallenge);
        let refusal =
            wait.map_or(Refusal::InvalidCode, |retry_after| Refusal::TooManyRequests { retry_after, limit });
        if is_right_code {
            // A correct code that is expired, too short, redeemed or has no attempts left is not a guess.
            return Decision::refuse(refusal);
        }
        let valid = facts.challenge.as_ref().filter(|challenge| self.is_valid(challenge, facts));
        let Some(challenge) = valid else {
            if wait.is_some() || !self.counts_attempts_without_challenge {
                return Decision::refuse(refusal);
            }
            // There was no code to guess, so the attempt does not count for the phone, which may belong to
            // another person.
            let of_address = self.counters().into_iter().filter(CounterKey::is_of_address);
            let mut updater = CounterUpdater::new(&facts.counters, of_address, &self.policy, self.now);
            let kind = EventKind::AttemptWithoutChallenge;
            updater.count(kind, updater.unused_timestamp(kind));
            return refuse(refusal, None, updater.finish());
        };
        let mut updater = self.updater(facts);
        let at = updater.unused_timestamp(EventKind::FailedAttempt);
        updater.count(EventKind::FailedAttempt, at);
        if self.policy.attack_threshold.is_some() {
            updater.count_globally(GlobalCounterUpdate::one(GlobalCounter::FailedAttempts, at));
        }
        refuse(refusal, Some(self.with_counted_attempt(challenge, at)), updater.finish())
    }

    /// Returns the longest wait until the limits of all counters allow another event of the kind `kind`.
    fn wait(&self, facts: &SignInFacts, kind: EventKind) -> Option<Duration> {
        let of_address = CounterKey::networks(self.client.address);
        // Wrong codes for a phone make its codes longer, and do not require a wait.
        let phone = (kind == EventKind::UnknownInvite).then(|| CounterKey::phone(&self.phone));
        let keys = of_address.chain(phone);
        keys.filter_map(|key| self.policy.wait(&facts.counters, &key, kind, self.now)).max()
    }

    fn updater<'a>(&'a self, facts: &'a SignInFacts) -> CounterUpdater<'a> {
        CounterUpdater::new(&facts.counters, self.counters(), &self.policy, self.now)
    }

    /// Returns `true` if the code cannot be the one that was sent, because of its length. A form that submits
    /// on each key must not use up the attempts.
    ///
    /// Only a request with the id of the challenge is compared with its length. Otherwise the response would
    /// reveal whether the phone has a valid challenge.
    fn has_wrong_length(&self, facts: &SignInFacts) -> bool {
        let named = facts.challenge.as_ref().filter(|_| self.challenge.is_some());
        if let Some(challenge) = named.filter(|challenge| self.is_valid(challenge, facts)) {
            return !self.code.has_length(challenge.code_length);
        }
        self.code.is_shorter_than(self.policy.code_length)
    }

    /// Returns `true` if the code is that of the challenge, which may be invalid.
    fn is_right_code(&self, facts: &SignInFacts) -> bool {
        let Some(challenge) = &facts.challenge else {
            // Compute the same hash as for a challenge that exists, so that both cases take the same time.
            let (id, code) = (ChallengeId(Uuid::nil()), self.code.for_length(*CODE_LENGTHS.start()));
            let _ = hash_code(&self.peppers, self.peppers.current_id(), id, &self.phone, &code);
            return false;
        };
        challenge.accepts(&self.code, &self.peppers) && !self.is_test_of_staff(facts)
    }

    /// Returns the challenge, if it is valid and the code is correct.
    fn right_challenge<'a>(&self, facts: &'a SignInFacts, is_right_code: bool) -> Option<&'a Challenge> {
        facts.challenge.as_ref().filter(|challenge| is_right_code && self.is_valid(challenge, facts))
    }

    /// Returns `true` if the user is staff and the phone is a test number, whose code is known to several
    /// people. The code is treated as a wrong code.
    fn is_test_of_staff(&self, facts: &SignInFacts) -> bool {
        facts.user.as_ref().is_some_and(|user| user.is_staff)
            && self.policy.test_number(&self.phone, self.now).is_some()
    }

    fn is_valid(&self, challenge: &Challenge, facts: &SignInFacts) -> bool {
        let failed_attempts =
            facts.counters.timestamps(&CounterKey::phone(&self.phone), EventKind::FailedAttempt);
        let under_attack = self.policy.attack_status(&facts.global_counters, self.now).under_attack;
        let required_length = self.policy.required_length(&failed_attempts, under_attack, self.now);
        self.policy.lockout(&self.phone, &failed_attempts, self.now).is_none()
            && challenge.is_valid(
                self.challenge.is_some(),
                self.policy.attempts_per_code,
                required_length,
                self.now,
            )
    }

    fn with_counted_attempt(&self, challenge: &Challenge, at: OffsetDateTime) -> Challenge {
        let mut counted = challenge.clone();
        if self.challenge.is_some() {
            counted.attempts_with_id += 1;
        } else {
            counted.attempts_without_id += 1;
        }
        // Only attempts that probably come from the owner are refunded when the owner signs in.
        let is_owner = |address| self.challenge.is_some() || challenge.address == Some(address);
        let address = self.client.address.filter(|address| is_owner(*address));
        counted.failed_attempts.extend(address.map(|address| FailedAttempt { address, at }));
        counted
    }

    fn decide_invitation(&self, facts: &SignInFacts) -> Result<(InvitationOutcome, Option<UserId>), Refusal> {
        if self.invite_code.is_none() {
            return Ok((InvitationOutcome::None, None));
        }
        match invitation::decide(facts.user.as_ref(), facts.inviter.as_ref(), facts.ancestry) {
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
