//! Signing in: a code comes back, perhaps with a friend's invite code.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Challenge, ChallengeId, Client, Invitation, InviteCode, InvitedBy, Inviter, Lineage, PhoneNumber, Policy,
    Refusal, Session, SessionId, User, UserId, Via,
    challenge::{FailedTry, hash_code},
    counters::{Counted, CounterKey, Counters, Counting, Ledger},
    invitation::{self, Verdict},
    keys::Peppers,
    limits::LimitName,
    service::{ServiceCount, ServiceFacts, ServiceFigure, ServiceQuery},
    session::Grant,
    sms_code::{CODE_LENGTHS, CodeInput},
    user::NewUser,
};

/// An attempt to sign in, as [`Storage::sign_in`](crate::storage::Storage::sign_in) gets it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignInRequest {
    /// Whose phone it is said to be.
    pub phone: PhoneNumber,
    /// The challenge that the code is said to answer; without, it is the phone's newest.
    pub challenge: Option<ChallengeId>,
    /// The friend's code that came along.
    pub invite_code: Option<InviteCode>,
    /// Whom to make if the phone is unknown.
    pub new_user: NewUser,
    /// The time.
    pub now: OffsetDateTime,
    pub(crate) client: Client,
    /// Whether an attempt without a valid challenge is counted, which adds a row for each address.
    pub(crate) counts_attempts_without_challenge: bool,
    pub(crate) code: CodeInput,
    pub(crate) session: SessionId,
    pub(crate) session_expires_at: OffsetDateTime,
    pub(crate) grant: Grant,
    pub(crate) policy: Arc<Policy>,
    pub(crate) peppers: Arc<Peppers>,
}

/// What [`SignInRequest::decide`] must know.
#[derive(Clone, Debug, Default)]
pub struct SignInFacts {
    /// The challenge with the id that was named, if it was sent to this phone; or, if none was
    /// named, the phone's newest.
    pub challenge: Option<Challenge>,
    /// The user with this phone.
    pub user: Option<User>,
    /// The owner of the invite code that came along.
    pub inviter: Option<Inviter>,
    /// The inviter's lineage, where [`SignInRequest::needs_lineage`] asks for it.
    pub lineage: Lineage,
    /// The counters that [`SignInRequest::counters`] names.
    pub counters: Counters,
    /// The figures that [`SignInRequest::service`] asks for.
    pub service: ServiceFacts,
}

/// What is to become of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one is made per request, and moved once")]
pub enum SignInDecision {
    /// Refuse.
    Refuse {
        /// The answer.
        refusal: Refusal,
        /// To be stored in place of the challenge, and committed although the answer is no.
        challenge: Option<Challenge>,
        /// To be counted, likewise.
        counting: Counting,
    },
    /// Sign in.
    Accept {
        /// To be stored in place of the challenge.
        challenge: Challenge,
        /// To be stored in place of the user; `None` if [`SignInRequest::new_user`] is to be
        /// made, with the first invite code that is free.
        user: Option<User>,
        /// To be added, and counted for its inviter.
        invitation: Option<Invitation>,
        /// What became of the invite code that came along.
        outcome: InvitationOutcome,
        /// To be counted.
        counting: Counting,
        /// How many sessions the user may have, with the new one; older ones are to be deleted. Sign-ins
        /// at the same time may pass it by one another's sessions.
        max_sessions: Option<u32>,
    },
}

/// What became of an invite code that came along with a sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvitationOutcome {
    /// None came.
    None,
    /// Its owner is the inviter from now on.
    Accepted,
    /// Its owner was the inviter already.
    AlreadyAccepted,
    /// Somebody else is the inviter, and stays.
    Ignored,
}

/// A sign-in as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSignIn {
    /// The user.
    pub user: User,
    /// The session that began.
    pub session: Session,
    /// Whether the user was made by this sign-in.
    pub created: bool,
    /// The invitation that was accepted.
    pub accepted: Option<Invitation>,
    /// What became of the invite code that came along.
    pub outcome: InvitationOutcome,
    /// [`Challenge::gateway`] of the challenge that was redeemed.
    pub gateway: Option<String>,
}

impl SignInRequest {
    /// The counters to decide on, in order: four at most.
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

    /// The figures of the whole service to decide on.
    #[must_use]
    pub fn service(&self) -> ServiceQuery {
        ServiceQuery { messages_since: None, ..self.policy.service_query(self.now) }
    }

    /// Which times to load [`ServiceFacts::usual_failures`] of, if that matters.
    #[must_use]
    pub fn usual_times(&self, facts: &SignInFacts) -> Option<Vec<(OffsetDateTime, OffsetDateTime)>> {
        self.policy.usual_times(&facts.service, self.now)
    }

    /// Whether [`SignInFacts::lineage`] must be walked, under the lock for late acceptances. Not
    /// before the code is right: else anybody could hold up that lock.
    #[must_use]
    pub fn needs_lineage(&self, facts: &SignInFacts) -> bool {
        invitation::needs_lineage(facts.user.as_ref(), facts.inviter.as_ref())
            && self.wait(facts, Counted::Failure).is_none()
            && self.right_challenge(facts).is_some()
    }

    /// Decides about the attempt.
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

        // Whatever is wrong with the invite code, the code from the message was right and stays
        // usable: a mistyped invite code costs no message.
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
            via: if facts.user.is_some() { Via::SignIn } else { Via::SignUp },
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

    /// The session that begins if the attempt is accepted.
    #[must_use]
    pub fn session_of(&self, user: UserId) -> Session {
        let (expires_at, grant) = (self.session_expires_at, self.grant.clone());
        Session::begin(self.session, user, self.now, expires_at, grant, self.client.clone())
    }

    /// Refuses a code that is wrong, or not worth anything any more.
    fn refuse_code(&self, facts: &SignInFacts) -> SignInDecision {
        // One response, whether the phone has a valid challenge or not.
        let limit = LimitName::AttemptsWithoutChallenge;
        let wait = self.wait(facts, Counted::AttemptWithoutChallenge);
        let refusal =
            wait.map_or(Refusal::InvalidCode, |retry_after| Refusal::TooManyRequests { retry_after, limit });
        let is_match = |sent: &Challenge| sent.accepts(&self.code, &self.peppers);
        if facts.challenge.as_ref().is_some_and(is_match) && !self.is_test_of_staff(facts) {
            // A code that is late, too short, used up or repeated is not a guess.
            return refuse(refusal);
        }
        let live = facts.challenge.as_ref().filter(|challenge| self.is_live(challenge, facts));
        let Some(challenge) = live else {
            if wait.is_some() || !self.counts_attempts_without_challenge {
                return refuse(refusal);
            }
            // Nothing was guessed at, so nothing counts for the phone, be it anybody's.
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

    /// How long to wait until this may be counted again, over all counters that are full.
    fn wait(&self, facts: &SignInFacts, what: Counted) -> Option<Duration> {
        let of_address = self.client.address.into_iter().flat_map(CounterKey::of_networks);
        // The wrong codes of a phone make its codes longer, and do not wait.
        let of_phone = (what == Counted::UnknownInvite).then(|| CounterKey::of_phone(&self.phone));
        let keys = of_address.chain(of_phone);
        keys.filter_map(|key| facts.counters.wait(&key, what, &self.policy, self.now)).max()
    }

    fn ledger(&self, facts: &SignInFacts) -> Ledger<'_> {
        Ledger::new(&facts.counters, self.counters(), &self.policy, self.now)
    }

    /// Refunds the code that led to the sign-in, and earlier ones that the phone did not sign in with: they
    /// came late or were mistyped, and their phone is that of a user.
    fn take_back_codes(&self, ledger: &mut Ledger<'_>, challenge: &Challenge, facts: &SignInFacts) {
        // Those before the last sign-in were refunded then.
        let last_login = facts.user.as_ref().and_then(|user| user.last_login);
        let mut codes = facts.counters.moments(&CounterKey::of_phone(&self.phone), Counted::Code);
        codes.retain(|sent_at| {
            last_login.is_none_or(|login| *sent_at > login) && *sent_at != challenge.sent_at
        });
        codes.push(challenge.sent_at);
        for sent_at in codes {
            ledger.refund(CounterKey::of_block(&self.phone), Counted::Code, sent_at);
            let of_address = challenge.address.into_iter().flat_map(|address| {
                let of_phone_and_address = [
                    CounterKey::of_block_and_address(&self.phone, address),
                    CounterKey::of_pair(&self.phone, address),
                ];
                CounterKey::of_networks(address).chain(of_phone_and_address)
            });
            for key in of_address {
                ledger.refund(key, Counted::Code, sent_at);
            }
        }
    }

    /// The challenge, if it is live and the code is the one that was sent.
    fn right_challenge<'a>(&self, facts: &'a SignInFacts) -> Option<&'a Challenge> {
        let Some(challenge) = &facts.challenge else {
            // The same hash as for a challenge that is there.
            let (id, code) = (ChallengeId(Uuid::nil()), self.code.for_length(*CODE_LENGTHS.start()));
            let _ = hash_code(&self.peppers, self.peppers.current_id(), id, &self.phone, &code);
            return None;
        };
        let right = challenge.accepts(&self.code, &self.peppers);
        (right && self.is_live(challenge, facts) && !self.is_test_of_staff(facts)).then_some(challenge)
    }

    /// Whether staff would sign in by a test number, whose code several people know. To whoever tries it
    /// is a wrong code like any other.
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
        // The owner's, as far as can be told: a stranger's are not taken back when the owner signs in.
        let is_owner = |address| self.challenge.is_some() || challenge.address == Some(address);
        let address = self.client.address.filter(|address| is_owner(*address));
        counted.failed_tries.extend(address.map(|address| FailedTry { address, at }));
        counted
    }

    fn judge_invitation(&self, facts: &SignInFacts) -> Result<(InvitationOutcome, Option<UserId>), Refusal> {
        if self.invite_code.is_none() {
            return Ok((InvitationOutcome::None, None));
        }
        match invitation::decide(facts.user.as_ref(), facts.inviter.as_ref(), facts.lineage) {
            Verdict::Accept(inviter) => Ok((InvitationOutcome::Accepted, Some(inviter))),
            Verdict::SameInviter => Ok((InvitationOutcome::AlreadyAccepted, None)),
            Verdict::OtherInviter => Ok((InvitationOutcome::Ignored, None)),
            Verdict::Refuse(refusal) => Err(refusal),
        }
    }
}

/// Refuses what changes nothing.
fn refuse(refusal: Refusal) -> SignInDecision {
    SignInDecision::Refuse { refusal, challenge: None, counting: Counting::default() }
}

/// Whoever has the right code in the end just mistyped it.
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
