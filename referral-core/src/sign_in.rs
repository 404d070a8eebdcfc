//! Signing in: a code comes back, perhaps with a friend's invite code.

use std::sync::Arc;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Challenge, ChallengeId, Invitation, InviteCode, InvitedBy, Inviter, Lineage, PhoneNumber, Refusal,
    Session, SessionId, User, UserId, Via,
    challenge::hash_code,
    invitation::{self, Verdict},
    keys::Peppers,
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
    pub(crate) code: CodeInput,
    pub(crate) session: SessionId,
    pub(crate) session_expires_at: OffsetDateTime,
    pub(crate) grant: Grant,
    pub(crate) tries_per_code: u32,
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
    /// Whether [`SignInFacts::lineage`] must be walked, under the lock for late acceptances. Not
    /// before the code is right: else anybody could hold up that lock.
    #[must_use]
    pub fn needs_lineage(&self, facts: &SignInFacts) -> bool {
        invitation::needs_lineage(facts.user.as_ref(), facts.inviter.as_ref())
            && self.right_challenge(facts).is_some()
    }

    /// Decides about the attempt.
    #[must_use]
    pub fn decide(&self, facts: &SignInFacts) -> SignInDecision {
        let Some(challenge) = self.right_challenge(facts) else {
            let live = facts.challenge.as_ref().filter(|challenge| self.is_live(challenge));
            return SignInDecision::Refuse {
                refusal: Refusal::InvalidCode,
                challenge: live.map(|challenge| self.with_try_counted(challenge)),
            };
        };
        let redeemed = Challenge { redeemed_at: Some(self.now), ..challenge.clone() };

        if facts.user.as_ref().is_some_and(|user| !user.is_active) {
            return SignInDecision::Refuse { refusal: Refusal::UserInactive, challenge: Some(redeemed) };
        }

        let (outcome, inviter) = match self.judge_invitation(facts) {
            Ok(judged) => judged,
            // The code was right and stays usable: a mistyped invite code costs no message.
            Err(refusal) => return SignInDecision::Refuse { refusal, challenge: None },
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
        SignInDecision::Accept { challenge: redeemed, user, invitation, outcome }
    }

    /// The session that begins if the attempt is accepted.
    #[must_use]
    pub fn session_of(&self, user: UserId) -> Session {
        Session::begin(self.session, user, self.now, self.session_expires_at, self.grant.clone())
    }

    /// The challenge, if it is live and the code is the one that was sent.
    fn right_challenge<'a>(&self, facts: &'a SignInFacts) -> Option<&'a Challenge> {
        let Some(challenge) = &facts.challenge else {
            // The same work as for a challenge that is there, so that its absence does not show.
            let (id, code) = (ChallengeId(Uuid::nil()), self.code.for_length(*CODE_LENGTHS.start()));
            let _ = hash_code(&self.peppers, self.peppers.current_id(), id, &self.phone, &code);
            return None;
        };
        let right = challenge.accepts(&self.code, &self.peppers);
        (right && self.is_live(challenge)).then_some(challenge)
    }

    fn is_live(&self, challenge: &Challenge) -> bool {
        challenge.is_live(self.challenge.is_some(), self.tries_per_code, self.now)
    }

    fn with_try_counted(&self, challenge: &Challenge) -> Challenge {
        let mut counted = challenge.clone();
        if self.challenge.is_some() {
            counted.tries_with_id += 1;
        } else {
            counted.tries_without_id += 1;
        }
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

impl From<&Invitation> for InvitedBy {
    fn from(invitation: &Invitation) -> Self {
        Self { inviter: invitation.inviter, code: invitation.code.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        challenge::tests::{MINUTE, challenge, peppers},
        user::tests::user,
    };

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

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
            tries_per_code: 3,
            peppers: Arc::new(peppers()),
        }
    }

    fn facts(user: Option<User>) -> SignInFacts {
        let phone = attempt("4711").phone;
        SignInFacts { challenge: Some(challenge(phone)), user, ..SignInFacts::default() }
    }

    #[test]
    fn a_right_code_is_redeemed_and_an_unknown_phone_becomes_a_user() {
        let SignInDecision::Accept { challenge, user, invitation, outcome } =
            attempt("4711").decide(&facts(None))
        else {
            panic!("refused");
        };
        assert_eq!(challenge.redeemed_at, Some(NOW));
        assert_eq!((user, invitation, outcome), (None, None, InvitationOutcome::None));
    }

    #[test]
    fn a_wrong_code_counts_one_try_in_its_own_count() {
        let SignInDecision::Refuse { refusal, challenge: Some(counted) } =
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

    #[test]
    fn every_dead_code_gets_the_same_answer_and_counts_nothing() {
        let live = facts(None).challenge.expect("a challenge");
        for (case, dead) in [
            ("never sent", None),
            ("expired", Some(Challenge { expires_at: NOW, ..live.clone() })),
            ("used", Some(Challenge { redeemed_at: Some(NOW), ..live.clone() })),
            ("tried out", Some(Challenge { tries_without_id: 3, ..live })),
        ] {
            for code in ["4711", "4712"] {
                let facts = SignInFacts { challenge: dead.clone(), ..facts(None) };
                let refused = SignInDecision::Refuse { refusal: Refusal::InvalidCode, challenge: None };
                assert_eq!(attempt(code).decide(&facts), refused, "{case}");
            }
        }
    }

    #[test]
    fn an_inactive_user_shows_only_after_a_right_code_and_uses_it_up() {
        let inactive = Some(User { is_active: false, ..user(1) });
        let wrong = attempt("4712").decide(&facts(inactive.clone()));
        assert!(matches!(wrong, SignInDecision::Refuse { refusal: Refusal::InvalidCode, .. }));
        let right = attempt("4711").decide(&facts(inactive));
        assert!(
            matches!(right, SignInDecision::Refuse { refusal: Refusal::UserInactive, challenge: Some(used) }
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
            assert_eq!(with_code.decide(&facts), SignInDecision::Refuse { refusal, challenge: None });
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
