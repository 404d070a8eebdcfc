//! Signing in: a code comes back, perhaps with a friend's invite code.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Challenge, ChallengeId, Client, Invitation, InviteCode, InvitedBy, Inviter, Lineage, PhoneNumber, Policy,
    Refusal, Session, SessionId, User, UserId, Via,
    challenge::{FailedTry, hash_code},
    invitation::{self, Verdict},
    keys::Peppers,
    limits::{Counted, CounterKey, Counters, Counting, Ledger, LimitName},
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
}

impl SignInRequest {
    /// The counters to decide on, in order: two at most.
    #[must_use]
    pub fn counters(&self) -> Vec<CounterKey> {
        let counts_invites = self.invite_code.is_some() && !self.policy.invite_failures.is_off();
        let counts_address = counts_invites || !self.policy.failures_per_address.is_off();
        let counts_phone = counts_invites || self.policy.failures_that_matter() > 0;
        let of_address = self.client.address.filter(|_| counts_address).map(CounterKey::of_address);
        let of_phone = counts_phone.then(|| CounterKey::of_phone(&self.phone));
        of_address.into_iter().chain(of_phone).collect()
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
        self.take_back_code(&mut ledger, challenge);
        let counting = ledger.finish();
        SignInDecision::Accept { challenge: redeemed, user, invitation, outcome, counting }
    }

    /// The session that begins if the attempt is accepted.
    #[must_use]
    pub fn session_of(&self, user: UserId) -> Session {
        let (expires_at, grant) = (self.session_expires_at, self.grant.clone());
        Session::begin(self.session, user, self.now, expires_at, grant, self.client.clone())
    }

    /// Refuses a code that is wrong, or not worth anything any more.
    fn refuse_code(&self, facts: &SignInFacts) -> SignInDecision {
        let is_repeated =
            |sent: &Challenge| sent.redeemed_at.is_some() && sent.accepts(&self.code, &self.peppers);
        if facts.challenge.as_ref().is_some_and(is_repeated) {
            // Whoever sends the right code twice has guessed nothing.
            return refuse(Refusal::InvalidCode);
        }
        let live = facts.challenge.as_ref().filter(|challenge| self.is_live(challenge, facts));
        let Some(challenge) = live else {
            // Nothing was guessed at, so nothing counts for the phone, be it anybody's.
            let of_address = self.counters().into_iter().filter(CounterKey::is_of_address);
            let mut ledger = Ledger::new(&facts.counters, of_address, &self.policy, self.now);
            ledger.count(Counted::Failure, ledger.free_moment(Counted::Failure));
            let (refusal, counting) = (Refusal::InvalidCode, ledger.finish());
            return SignInDecision::Refuse { refusal, challenge: None, counting };
        };
        let mut ledger = self.ledger(facts);
        let at = ledger.free_moment(Counted::Failure);
        ledger.count(Counted::Failure, at);
        if self.policy.attack_failures.is_some() {
            ledger.count_for_service(ServiceCount::one(ServiceFigure::Failures, at));
        }
        SignInDecision::Refuse {
            refusal: Refusal::InvalidCode,
            challenge: Some(self.with_try_counted(challenge, at)),
            counting: ledger.finish(),
        }
    }

    /// How long to wait until this may be counted again, over all counters that are full.
    fn wait(&self, facts: &SignInFacts, what: Counted) -> Option<Duration> {
        let of_address = self.client.address.map(CounterKey::of_address);
        let of_phone = (what == Counted::UnknownInvite).then(|| CounterKey::of_phone(&self.phone));
        let limits = match what {
            Counted::UnknownInvite => &self.policy.invite_failures,
            Counted::Failure | Counted::Code => &self.policy.failures_per_address,
        };
        let keys = of_address.into_iter().chain(of_phone);
        keys.filter_map(|key| limits.wait(&facts.counters.moments(&key, what), self.now)).max()
    }

    fn ledger(&self, facts: &SignInFacts) -> Ledger<'_> {
        Ledger::new(&facts.counters, self.counters(), &self.policy, self.now)
    }

    /// A code that led to a sign-in is not counted against where it was asked for from.
    fn take_back_code(&self, ledger: &mut Ledger<'_>, challenge: &Challenge) {
        ledger.refund(CounterKey::of_block(&self.phone), Counted::Code, challenge.sent_at);
        if let Some(address) = challenge.address {
            ledger.refund(CounterKey::of_address(address), Counted::Code, challenge.sent_at);
            let of_pair = CounterKey::of_pair(&self.phone, address);
            ledger.refund(of_pair, Counted::Code, challenge.sent_at);
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
        (right && self.is_live(challenge, facts)).then_some(challenge)
    }

    fn is_live(&self, challenge: &Challenge, facts: &SignInFacts) -> bool {
        let failures = facts.counters.moments(&CounterKey::of_phone(&self.phone), Counted::Failure);
        let under_attack = self.policy.alert(&facts.service, self.now).under_attack;
        let at_least = if under_attack { self.policy.attack_code_length } else { 0 };
        let required_length = self.policy.required_length(&failures, self.now).max(at_least);
        self.policy.hold(&failures, self.now).is_none()
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
        ledger.refund(CounterKey::of_address(failed.address), Counted::Failure, failed.at);
    }
}

impl From<&Invitation> for InvitedBy {
    fn from(invitation: &Invitation) -> Self {
        Self { inviter: invitation.inviter, code: invitation.code.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::{
        ClientAddress,
        challenge::tests::{MINUTE, challenge, peppers},
        user::tests::user,
    };

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

    /// The phone of `user(1)` sends `code` back, without the challenge's id.
    fn attempt(code: &str) -> SignInRequest {
        let anna = user(1);
        SignInRequest {
            phone: anna.phone.clone(),
            challenge: None,
            invite_code: None,
            new_user: NewUser {
                id: UserId(Uuid::from_u128(99)),
                phone: anna.phone,
                invite_codes: vec![anna.invite_code],
                is_staff: false,
                date_joined: NOW,
                last_login: Some(NOW),
            },
            now: NOW,
            code: CodeInput::parse(code).expect("digits"),
            session: SessionId(Uuid::nil()),
            session_expires_at: NOW + MINUTE,
            grant: Grant {
                key_id: "k1".into(),
                access_id: Uuid::nil(),
                refresh_id: Uuid::nil(),
                issued_at: NOW,
                access_expires_at: NOW + MINUTE,
                refresh_expires_at: NOW + MINUTE,
            },
            client: Client::default().address(ADDRESS),
            policy: Arc::new(Policy::standard()),
            peppers: Arc::new(peppers()),
        }
    }

    fn facts(user: Option<User>) -> SignInFacts {
        let phone = attempt("4711").phone;
        SignInFacts { challenge: Some(challenge(phone)), user, ..SignInFacts::default() }
    }

    #[test]
    fn a_right_code_is_redeemed_and_an_unknown_phone_becomes_a_user() {
        let SignInDecision::Accept { challenge, user, invitation, outcome, .. } =
            attempt("4711").decide(&facts(None))
        else {
            panic!("refused");
        };
        assert_eq!(challenge.redeemed_at, Some(NOW));
        assert_eq!((user, invitation, outcome), (None, None, InvitationOutcome::None));
    }

    #[test]
    fn a_wrong_code_counts_one_try_in_its_own_count() {
        let SignInDecision::Refuse { refusal, challenge: Some(counted), .. } =
            attempt("4712").decide(&facts(None))
        else {
            panic!("not counted");
        };
        assert_eq!(refusal, Refusal::InvalidCode);
        assert_eq!((counted.tries_with_id, counted.tries_without_id), (0, 1));

        let naming = SignInRequest { challenge: Some(counted.id), ..attempt("4712") };
        let SignInDecision::Refuse { challenge: Some(counted), .. } = naming.decide(&facts(None)) else {
            panic!("not counted");
        };
        assert_eq!((counted.tries_with_id, counted.tries_without_id), (1, 0));
    }

    /// What was counted: for whom, and what.
    fn counted(decision: &SignInDecision) -> Vec<(String, Vec<Counted>)> {
        let (SignInDecision::Refuse { counting, .. } | SignInDecision::Accept { counting, .. }) = decision;
        let subject = |key: &CounterKey| key.as_str().split('/').next().unwrap_or_default().to_owned();
        let counted = counting.counters.iter().filter(|counter| !counter.stamps.is_empty());
        counted
            .map(|counter| (subject(&counter.key), counter.stamps.iter().map(|stamp| stamp.what).collect()))
            .collect()
    }

    #[test]
    fn every_dead_code_gets_the_same_answer_and_counts_for_the_address_only() {
        let live = facts(None).challenge.expect("a challenge");
        for (case, dead) in [
            ("never sent", None),
            ("expired", Some(Challenge { expires_at: NOW, ..live.clone() })),
            ("used", Some(Challenge { redeemed_at: Some(NOW), ..live.clone() })),
            ("tried out", Some(Challenge { tries_without_id: 3, ..live })),
        ] {
            for code in ["4711", "4712"] {
                let decision = attempt(code).decide(&SignInFacts { challenge: dead.clone(), ..facts(None) });
                let SignInDecision::Refuse { refusal, challenge, counting } = &decision else {
                    panic!("accepted");
                };
                assert_eq!(
                    (*refusal, challenge, counting.service),
                    (Refusal::InvalidCode, &None, None),
                    "{case}"
                );
                let is_repeated = case == "used" && code == "4711";
                let expected =
                    if is_repeated { vec![] } else { vec![("address".into(), vec![Counted::Failure])] };
                assert_eq!(counted(&decision), expected, "{case} {code}");
            }
        }
    }

    #[test]
    fn a_wrong_code_counts_for_phone_address_and_service() {
        let decision = attempt("4712").decide(&facts(None));
        let failure = vec![Counted::Failure];
        assert_eq!(counted(&decision), [("address".into(), failure.clone()), ("phone".into(), failure)]);
        assert!(matches!(decision, SignInDecision::Refuse { counting, .. } if counting.service.is_some()));
    }

    fn with_stamps(facts: SignInFacts, key: CounterKey, number: usize, what: Counted) -> SignInFacts {
        let stamp =
            |number: usize| crate::limits::Stamp { at: NOW - Duration::from_micros(number as u64), what };
        SignInFacts {
            counters: [(key, (0..number).rev().map(stamp).collect())].into_iter().collect(),
            ..facts
        }
    }

    #[test]
    fn a_code_shorter_than_its_phone_now_requires_is_dead() {
        let of_phone = CounterKey::of_phone(&attempt("4711").phone);
        for (failures, is_accepted) in [(4, true), (5, false)] {
            let facts = with_stamps(facts(None), of_phone.clone(), failures, Counted::Failure);
            let decision = attempt("4711").decide(&facts);
            assert_eq!(matches!(decision, SignInDecision::Accept { .. }), is_accepted, "{failures}");
        }
    }

    #[test]
    fn under_attack_a_code_of_four_digits_is_dead() {
        for (failures, is_accepted) in [(50, true), (51, false)] {
            let service = ServiceFacts { failures, ..ServiceFacts::default() };
            let decision = attempt("4711").decide(&SignInFacts { service, ..facts(None) });
            assert_eq!(matches!(decision, SignInDecision::Accept { .. }), is_accepted, "{failures}");
        }
    }

    #[test]
    fn a_code_of_a_phone_that_is_held_is_dead() {
        let of_phone = CounterKey::of_phone(&attempt("4711").phone);
        let policy = Policy { hold_at: Some(100), lengthening: Vec::new(), ..Policy::standard() };
        let attempt = SignInRequest { policy: Arc::new(policy), ..attempt("4711") };
        for (failures, is_accepted) in [(99, true), (100, false)] {
            let facts = with_stamps(facts(None), of_phone.clone(), failures, Counted::Failure);
            let decision = attempt.decide(&facts);
            assert_eq!(matches!(decision, SignInDecision::Accept { .. }), is_accepted, "{failures}");
        }
    }

    #[test]
    fn a_strangers_failures_are_not_taken_back() {
        let elsewhere = ClientAddress::from_bytes([7; 16]);
        let mut facts = facts(None);
        facts.challenge = facts.challenge.map(|sent| Challenge { address: Some(elsewhere), ..sent });
        for (names_id, is_kept) in [(false, false), (true, true)] {
            let id = facts.challenge.as_ref().map(|sent| sent.id).filter(|_| names_id);
            let guess = SignInRequest { challenge: id, ..attempt("4712") };
            let SignInDecision::Refuse { challenge: Some(tried), .. } = guess.decide(&facts) else {
                panic!("not counted");
            };
            assert_eq!(!tried.failed_tries.is_empty(), is_kept, "with the id: {names_id}");
        }
    }

    #[test]
    fn an_address_with_too_many_failures_is_refused_before_anything_is_compared() {
        let of_address = CounterKey::of_address(ClientAddress::new(ADDRESS));
        let facts = with_stamps(facts(None), of_address, 20, Counted::Failure);
        let retry_after = Duration::from_hours(1).saturating_sub(Duration::from_micros(19));
        let limit = LimitName::FailuresPerAddress;
        for code in ["4711", "4712"] {
            assert_eq!(attempt(code).decide(&facts), refuse(Refusal::TooManyRequests { retry_after, limit }));
        }
        let elsewhere = SignInRequest { client: Client::default(), ..attempt("4711") };
        assert!(matches!(elsewhere.decide(&facts), SignInDecision::Accept { .. }));
    }

    #[test]
    fn a_redeemed_code_takes_back_what_was_counted_at_it() {
        let elsewhere = ClientAddress::from_bytes([7; 16]);
        let here = ClientAddress::new(ADDRESS);
        let mut facts = facts(None);
        let failed_tries = [here, elsewhere].map(|address| FailedTry { address, at: NOW }).to_vec();
        facts.challenge = facts.challenge.map(|sent| Challenge { address: Some(here), failed_tries, ..sent });
        let facts = with_stamps(facts, CounterKey::of_address(here), 1, Counted::Failure);
        let decision = attempt("4711").decide(&facts);
        assert_eq!(counted(&decision), [], "in the counters that were loaded");
        let SignInDecision::Accept { counting, .. } = decision else { panic!("refused") };
        let keys: Vec<_> = counting.refunds.iter().map(|(key, stamp)| (key.clone(), stamp.what)).collect();
        let phone = attempt("4711").phone;
        let expected = [
            (CounterKey::of_address(elsewhere), Counted::Failure),
            (CounterKey::of_block(&phone), Counted::Code),
            (CounterKey::of_pair(&phone, here), Counted::Code),
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn unknown_invite_codes_are_counted_and_refused_when_there_are_too_many() {
        let guess = SignInRequest { invite_code: Some(user(2).invite_code), ..attempt("4711") };
        let unknown = vec![Counted::UnknownInvite];
        let decision = guess.decide(&facts(None));
        assert_eq!(counted(&decision), [("address".into(), unknown.clone()), ("phone".into(), unknown)]);
        assert!(matches!(decision, SignInDecision::Refuse { refusal: Refusal::UnknownInviteCode, .. }));

        let of_phone = CounterKey::of_phone(&guess.phone);
        let full = with_stamps(facts(None), of_phone, 10, Counted::UnknownInvite);
        let refused = guess.decide(&full);
        assert!(matches!(
            refused,
            SignInDecision::Refuse { refusal: Refusal::TooManyRequests { .. }, challenge: None, .. }
        ));
        assert!(
            matches!(attempt("4711").decide(&full), SignInDecision::Accept { .. }),
            "without one it goes on"
        );
    }

    #[test]
    fn an_inactive_user_shows_only_after_a_right_code_and_uses_it_up() {
        let inactive = Some(User { is_active: false, ..user(1) });
        let wrong = attempt("4712").decide(&facts(inactive.clone()));
        assert!(matches!(wrong, SignInDecision::Refuse { refusal: Refusal::InvalidCode, .. }));
        let right = attempt("4711").decide(&facts(inactive));
        assert!(
            matches!(right, SignInDecision::Refuse { refusal: Refusal::UserInactive, challenge: Some(used), .. }
            if used.redeemed_at == Some(NOW))
        );
    }

    #[test]
    fn a_bad_invite_code_leaves_the_code_usable() {
        let with_code = SignInRequest { invite_code: Some(user(1).invite_code), ..attempt("4711") };
        let own = Inviter { id: user(1).id, code: user(1).invite_code };
        for (user, inviter, refusal) in
            [(None, None, Refusal::UnknownInviteCode), (Some(user(1)), Some(own), Refusal::OwnInviteCode)]
        {
            let facts = SignInFacts { inviter, ..facts(user) };
            let SignInDecision::Refuse { refusal: actual, challenge, .. } = with_code.decide(&facts) else {
                panic!("accepted");
            };
            assert_eq!((actual, challenge), (refusal, None));
        }
    }

    #[test]
    fn a_wrong_code_says_nothing_of_the_invite_code_and_asks_for_no_lock() {
        let boris = user(2);
        let inviter = Some(Inviter { id: boris.id, code: boris.invite_code.clone() });
        let facts = SignInFacts { inviter, ..facts(Some(user(1))) };
        let guess = SignInRequest { invite_code: Some(boris.invite_code.clone()), ..attempt("4712") };
        assert!(!guess.needs_lineage(&facts));
        assert!(matches!(guess.decide(&facts), SignInDecision::Refuse { refusal: Refusal::InvalidCode, .. }));

        let right = SignInRequest { invite_code: Some(boris.invite_code), ..attempt("4711") };
        assert!(right.needs_lineage(&facts));
    }

    #[test]
    fn signing_in_with_another_code_keeps_the_inviter() {
        let [boris, vera] = [user(2), user(3)];
        let invited_by = Some(InvitedBy { inviter: boris.id, code: boris.invite_code });
        let anna = User { invited_by: invited_by.clone(), ..user(1) };
        let inviter = Some(Inviter { id: vera.id, code: vera.invite_code.clone() });
        let facts = SignInFacts { inviter, ..facts(Some(anna)) };
        let with_code = SignInRequest { invite_code: Some(vera.invite_code), ..attempt("4711") };
        let SignInDecision::Accept { user: Some(user), invitation, outcome, .. } = with_code.decide(&facts)
        else {
            panic!("refused");
        };
        assert_eq!(user.invited_by, invited_by);
        assert_eq!((invitation, outcome), (None, InvitationOutcome::Ignored));
    }
}
