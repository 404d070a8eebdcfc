//! Rule of signing in with a code and an optional invite code.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    AcceptedVia, Ancestry, Challenge, ChallengeId, Client, Invitation, InviteCode, InvitedBy, Inviter,
    PhoneNumber, Policy, Refusal, Session, SessionId, User, UserId,
    invite::invitation::{self, Verdict},
    otp::{
        challenge::{FailedTry, hash_code},
        code::{CODE_LENGTHS, CodeInput},
    },
    rate_limit::{
        attack::{ServiceCount, ServiceFacts, ServiceFigure, ServiceQuery},
        counters::{Counted, CounterKey, Counters, Counting, Ledger},
        limits::LimitName,
    },
    session::{IssuedTokens, keys::Peppers},
    user::NewUser,
};

/// Attempt to sign in, for [`Storage::sign_in`](crate::storage::Storage::sign_in).
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
    /// `true` if an attempt without a valid challenge is counted, which may add a row for each address.
    pub(crate) counts_attempts_without_challenge: bool,
    pub(crate) code: CodeInput,
    pub(crate) session: SessionId,
    pub(crate) session_expires_at: OffsetDateTime,
    pub(crate) issued: IssuedTokens,
    pub(crate) policy: Arc<Policy>,
    pub(crate) peppers: Arc<Peppers>,
}

/// Stored data on which [`SignInRequest::decide`] depends.
#[derive(Clone, Debug, Default)]
pub struct SignInFacts {
    /// Challenge with the id in the request, if it was sent to this phone. Without an id in the request, the
    /// newest challenge of the phone.
    pub challenge: Option<Challenge>,
    /// User with this phone.
    pub user: Option<User>,
    /// Owner of the invite code in the request.
    pub inviter: Option<Inviter>,
    /// Ancestry of the inviter, if [`SignInRequest::needs_ancestry`] requires it.
    pub ancestry: Ancestry,
    /// Counters with the keys of [`SignInRequest::counters`].
    pub counters: Counters,
    /// Counts that [`SignInRequest::service`] queries.
    pub service: ServiceFacts,
}

/// Decision about an attempt to sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one is created per request, and moved once")]
pub enum SignInDecision {
    /// Refuse the attempt.
    Refuse {
        /// Reason of the refusal.
        refusal: Refusal,
        /// Challenge to store in place of the current one. It is committed although the attempt is refused.
        challenge: Option<Challenge>,
        /// Changes of counters. They are committed too.
        counting: Counting,
    },
    /// Sign the user in.
    Accept {
        /// Challenge to store in place of the current one.
        challenge: Challenge,
        /// User to store in place of the current one, or `None` to create [`SignInRequest::new_user`] with
        /// the first invite code that is free.
        user: Option<User>,
        /// Invitation to add and to count for its inviter.
        invitation: Option<Invitation>,
        /// Outcome of the invite code in the request.
        outcome: InvitationOutcome,
        /// Changes of counters.
        counting: Counting,
        /// Maximum number of sessions of the user, including the new one. The oldest sessions beyond it are
        /// deleted. Concurrent sign-ins may exceed it by the number of their sessions.
        max_sessions: Option<u32>,
    },
}

/// Outcome of the invite code in a sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        let Policy { invite_failures, failures_per_address, attempts_without_challenge, .. } = &*self.policy;
        let counts_invites = self.invite_code.is_some() && !invite_failures.is_off();
        let counts_address =
            counts_invites || !failures_per_address.is_off() || !attempts_without_challenge.is_off();
        let counts_phone = counts_invites || self.policy.failures_that_matter() > 0;
        let of_address = self.client.address.filter(|_| counts_address);
        let of_address = of_address.into_iter().flat_map(CounterKey::of_networks);
        let mut keys: Vec<_> =
            of_address.chain(counts_phone.then(|| CounterKey::of_phone(&self.phone))).collect();
        keys.sort_unstable();
        keys
    }

    /// Returns the query for the counts of the whole service on which the decision depends.
    #[must_use]
    pub fn service(&self) -> ServiceQuery {
        ServiceQuery { messages_since: None, ..self.policy.service_query(self.now) }
    }

    /// Returns the time ranges for which to load [`ServiceFacts::usual_failures`], if the decision depends on
    /// them.
    #[must_use]
    pub fn usual_times(&self, facts: &SignInFacts) -> Option<Vec<(OffsetDateTime, OffsetDateTime)>> {
        self.policy.usual_times(&facts.service, self.now)
    }

    /// Returns `true` if [`SignInFacts::ancestry`] must be loaded, under the lock for late acceptances. The
    /// code must be correct first. Otherwise an attacker could keep other requests waiting for that lock.
    #[must_use]
    pub fn needs_ancestry(&self, facts: &SignInFacts) -> bool {
        invitation::needs_ancestry(facts.user.as_ref(), facts.inviter.as_ref())
            && self.wait(facts, Counted::Failure).is_none()
            && self.right_challenge(facts).is_some()
    }

    /// Decides whether the attempt signs in.
    #[must_use]
    pub fn decide(&self, facts: &SignInFacts) -> SignInDecision {
        if let Some(retry_after) = self.wait(facts, Counted::Failure) {
            return refuse(Refusal::TooManyRequests { retry_after, limit: LimitName::FailuresPerAddress });
        }
        let Some(challenge) = self.right_challenge(facts) else {
            return self.refuse_code(facts);
        };
        let redeemed = Challenge { redeemed_at: Some(self.now), ..challenge.clone() };
        let mut ledger = self.ledger(facts);

        if facts.user.as_ref().is_some_and(|user| !user.is_active) {
            take_back_failures(&mut ledger, challenge);
            let counting = ledger.finish();
            return SignInDecision::Refuse {
                refusal: Refusal::UserInactive,
                challenge: Some(redeemed),
                counting,
            };
        }

        // If the invite code is refused, the correct code from the message stays valid, so a mistyped invite
        // code does not cost a message.
        if self.invite_code.is_some()
            && let Some(retry_after) = self.wait(facts, Counted::UnknownInvite)
        {
            return refuse(Refusal::TooManyRequests { retry_after, limit: LimitName::InviteFailures });
        }
        let (outcome, inviter) = match self.judge_invitation(facts) {
            Ok(judged) => judged,
            Err(Refusal::UnknownInviteCode) => {
                ledger.count(Counted::UnknownInvite, ledger.free_moment(Counted::UnknownInvite));
                let counting = ledger.finish();
                return SignInDecision::Refuse {
                    refusal: Refusal::UnknownInviteCode,
                    challenge: None,
                    counting,
                };
            }
            Err(refusal) => return refuse(refusal),
        };
        let invitation = inviter.zip(self.invite_code.clone()).map(|(inviter, code)| Invitation {
            invitee: facts.user.as_ref().map_or(self.new_user.id, |user| user.id),
            inviter,
            code,
            accepted_at: self.now,
            via: if facts.user.is_some() { AcceptedVia::SignIn } else { AcceptedVia::SignUp },
        });
        let user = facts.user.clone().map(|user| User {
            invited_by: invitation.as_ref().map(InvitedBy::from).or(user.invited_by),
            last_login: Some(self.now),
            ..user
        });
        take_back_failures(&mut ledger, challenge);
        self.take_back_codes(&mut ledger, challenge, facts);
        let counting = ledger.finish();
        let max_sessions = self.policy.max_sessions(&self.phone, self.now);
        SignInDecision::Accept { challenge: redeemed, user, invitation, outcome, counting, max_sessions }
    }

    /// Returns the session to create if the attempt is accepted.
    #[must_use]
    pub fn session_of(&self, user: UserId) -> Session {
        let (expires_at, issued) = (self.session_expires_at, self.issued.clone());
        Session::begin(self.session, user, self.now, expires_at, issued, self.client.clone())
    }

    /// Refuses a code that is wrong or no longer valid.
    fn refuse_code(&self, facts: &SignInFacts) -> SignInDecision {
        // The response must not reveal whether the phone has a valid challenge.
        let limit = LimitName::AttemptsWithoutChallenge;
        let wait = self.wait(facts, Counted::AttemptWithoutChallenge);
        let refusal =
            wait.map_or(Refusal::InvalidCode, |retry_after| Refusal::TooManyRequests { retry_after, limit });
        let is_match = |sent: &Challenge| sent.accepts(&self.code, &self.peppers);
        if facts.challenge.as_ref().is_some_and(is_match) && !self.is_test_of_staff(facts) {
            // A matching code that is expired, too short, redeemed or has no attempts left is not a guess.
            return refuse(refusal);
        }
        let live = facts.challenge.as_ref().filter(|challenge| self.is_live(challenge, facts));
        let Some(challenge) = live else {
            if wait.is_some() || !self.counts_attempts_without_challenge {
                return refuse(refusal);
            }
            // There was no code to guess, so the attempt does not count for the phone, which may belong to
            // another person.
            let of_address = self.counters().into_iter().filter(CounterKey::is_of_address);
            let mut ledger = Ledger::new(&facts.counters, of_address, &self.policy, self.now);
            let what = Counted::AttemptWithoutChallenge;
            ledger.count(what, ledger.free_moment(what));
            return SignInDecision::Refuse { refusal, challenge: None, counting: ledger.finish() };
        };
        let mut ledger = self.ledger(facts);
        let at = ledger.free_moment(Counted::Failure);
        ledger.count(Counted::Failure, at);
        if self.policy.attack_failures.is_some() {
            ledger.count_for_service(ServiceCount::one(ServiceFigure::Failures, at));
        }
        SignInDecision::Refuse {
            refusal,
            challenge: Some(self.with_try_counted(challenge, at)),
            counting: ledger.finish(),
        }
    }

    /// Returns the longest wait until the limits of all counters allow another event of the kind `what`.
    fn wait(&self, facts: &SignInFacts, what: Counted) -> Option<Duration> {
        let of_address = self.client.address.into_iter().flat_map(CounterKey::of_networks);
        // Wrong codes for a phone make its codes longer, and do not require a wait.
        let of_phone = (what == Counted::UnknownInvite).then(|| CounterKey::of_phone(&self.phone));
        let keys = of_address.chain(of_phone);
        keys.filter_map(|key| facts.counters.wait(&key, what, &self.policy, self.now)).max()
    }

    fn ledger(&self, facts: &SignInFacts) -> Ledger<'_> {
        Ledger::new(&facts.counters, self.counters(), &self.policy, self.now)
    }

    /// Refunds the code that led to the sign-in, and earlier codes that were not used to sign in. Those codes
    /// arrived late or were mistyped, and their phone belongs to a user.
    fn take_back_codes(&self, ledger: &mut Ledger<'_>, challenge: &Challenge, facts: &SignInFacts) {
        // The last sign-in refunded the codes before it.
        let last_login = facts.user.as_ref().and_then(|user| user.last_login);
        let mut codes = facts.counters.moments(&CounterKey::of_phone(&self.phone), Counted::Code);
        codes.retain(|sent_at| {
            last_login.is_none_or(|login| *sent_at > login) && *sent_at != challenge.sent_at
        });
        codes.push(challenge.sent_at);
        for sent_at in codes {
            ledger.refund(CounterKey::of_number_range(&self.phone), Counted::Code, sent_at);
            let of_address = challenge.address.into_iter().flat_map(|address| {
                let of_phone_and_address = [
                    CounterKey::of_number_range_and_address(&self.phone, address),
                    CounterKey::of_pair(&self.phone, address),
                ];
                CounterKey::of_networks(address).chain(of_phone_and_address)
            });
            for key in of_address {
                ledger.refund(key, Counted::Code, sent_at);
            }
        }
    }

    /// Returns the challenge, if it is valid and the code is correct.
    fn right_challenge<'a>(&self, facts: &'a SignInFacts) -> Option<&'a Challenge> {
        let Some(challenge) = &facts.challenge else {
            // Compute the same hash as for a challenge that exists, so that both cases take the same time.
            let (id, code) = (ChallengeId(Uuid::nil()), self.code.for_length(*CODE_LENGTHS.start()));
            let _ = hash_code(&self.peppers, self.peppers.current_id(), id, &self.phone, &code);
            return None;
        };
        let right = challenge.accepts(&self.code, &self.peppers);
        (right && self.is_live(challenge, facts) && !self.is_test_of_staff(facts)).then_some(challenge)
    }

    /// Returns `true` if the user is staff and the phone is a test number, whose code is known to several
    /// people. The code is treated as a wrong code.
    fn is_test_of_staff(&self, facts: &SignInFacts) -> bool {
        facts.user.as_ref().is_some_and(|user| user.is_staff)
            && self.policy.test_number(&self.phone, self.now).is_some()
    }

    fn is_live(&self, challenge: &Challenge, facts: &SignInFacts) -> bool {
        let failures = facts.counters.moments(&CounterKey::of_phone(&self.phone), Counted::Failure);
        let under_attack = self.policy.alert(&facts.service, self.now).under_attack;
        let required_length = self.policy.required_length(&failures, under_attack, self.now);
        self.policy.hold(&self.phone, &failures, self.now).is_none()
            && challenge.is_live(
                self.challenge.is_some(),
                self.policy.tries_per_code,
                required_length,
                self.now,
            )
    }

    fn with_try_counted(&self, challenge: &Challenge, at: OffsetDateTime) -> Challenge {
        let mut counted = challenge.clone();
        if self.challenge.is_some() {
            counted.tries_with_id += 1;
        } else {
            counted.tries_without_id += 1;
        }
        // Only attempts that probably come from the owner are refunded when the owner signs in.
        let is_owner = |address| self.challenge.is_some() || challenge.address == Some(address);
        let address = self.client.address.filter(|address| is_owner(*address));
        counted.failed_tries.extend(address.map(|address| FailedTry { address, at }));
        counted
    }

    fn judge_invitation(&self, facts: &SignInFacts) -> Result<(InvitationOutcome, Option<UserId>), Refusal> {
        if self.invite_code.is_none() {
            return Ok((InvitationOutcome::None, None));
        }
        match invitation::decide(facts.user.as_ref(), facts.inviter.as_ref(), facts.ancestry) {
            Verdict::Accept(inviter) => Ok((InvitationOutcome::Accepted, Some(inviter))),
            Verdict::SameInviter => Ok((InvitationOutcome::AlreadyAccepted, None)),
            Verdict::OtherInviter => Ok((InvitationOutcome::Ignored, None)),
            Verdict::Refuse(refusal) => Err(refusal),
        }
    }
}

/// Refuses an attempt without any change in the storage.
fn refuse(refusal: Refusal) -> SignInDecision {
    SignInDecision::Refuse { refusal, challenge: None, counting: Counting::default() }
}

/// Refunds the wrong attempts of a client that then sent the correct code: it had mistyped the code.
fn take_back_failures(ledger: &mut Ledger<'_>, challenge: &Challenge) {
    for failed in &challenge.failed_tries {
        for key in CounterKey::of_networks(failed.address) {
            ledger.refund(key, Counted::Failure, failed.at);
        }
    }
}

impl From<&Invitation> for InvitedBy {
    fn from(invitation: &Invitation) -> Self {
        Self { inviter: invitation.inviter, code: invitation.code.clone() }
    }
}

#[cfg(test)]
mod tests;
