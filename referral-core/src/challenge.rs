//! Challenges: a code was sent to a phone and is waited for.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use subtle::ConstantTimeEq;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Invalid, PhoneNumber, Refusal, SmsCode, error::parse_id, keys::Peppers, sms_code::CodeInput};

/// The id of a challenge. Whoever asked for the code has it, and no one else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChallengeId(pub Uuid);

impl fmt::Display for ChallengeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ChallengeId {
    type Err = Invalid;

    fn from_str(input: &str) -> Result<Self, Invalid> {
        parse_id(input).map(Self)
    }
}

/// A code that was sent, kept as its keyed hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The id.
    pub id: ChallengeId,
    /// Where the code was sent.
    pub phone: PhoneNumber,
    /// The code's length in digits.
    pub code_length: u8,
    /// HMAC-SHA-256 over the purpose, the id, the phone and the code.
    pub code_hash: [u8; 32],
    /// The id of the pepper that the hash was made with.
    pub pepper_id: String,
    /// When the code was drawn.
    pub sent_at: OffsetDateTime,
    /// From when on the code is dead.
    pub expires_at: OffsetDateTime,
    /// When the code was redeemed; it is dead from then on.
    pub redeemed_at: Option<OffsetDateTime>,
    /// Wrong tries that named the challenge's id.
    pub tries_with_id: u32,
    /// Wrong tries that did not. They are counted apart, so that a stranger who knows only the
    /// phone cannot use up the tries of the one who asked for the code.
    pub tries_without_id: u32,
}

impl Challenge {
    /// Whether a right code is still worth something in a request that names the id, or not.
    pub(crate) fn is_live(&self, names_id: bool, tries_per_code: u32, now: OffsetDateTime) -> bool {
        let tries = if names_id { self.tries_with_id } else { self.tries_without_id };
        self.redeemed_at.is_none() && now < self.expires_at && tries < tries_per_code
    }

    /// Whether `input` is the code that was sent, told in a time that does not depend on where
    /// the two differ.
    pub(crate) fn accepts(&self, input: &CodeInput, peppers: &Peppers) -> bool {
        let code = input.for_length(self.code_length);
        let hash = hash_code(peppers, &self.pepper_id, self.id, &self.phone, &code);
        hash.is_some_and(|hash| hash.ct_eq(&self.code_hash).into())
    }
}

/// The keyed hash under which a code is kept.
pub(crate) fn hash_code(
    peppers: &Peppers,
    pepper_id: &str,
    id: ChallengeId,
    phone: &PhoneNumber,
    code: &str,
) -> Option<[u8; 32]> {
    let parts = [b"sign-in", id.0.as_bytes().as_slice(), phone.as_str().as_bytes(), code.as_bytes()];
    peppers.hash(pepper_id, &parts)
}

/// A request to send a code, as [`Storage::start_challenge`] gets it.
///
/// [`Storage::start_challenge`]: crate::storage::Storage::start_challenge
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChallengeRequest {
    /// The id of the challenge that is granted.
    pub id: ChallengeId,
    /// Where the code is to be sent.
    pub phone: PhoneNumber,
    /// The time.
    pub now: OffsetDateTime,
    /// As many digits as a code can have. How many of them are sent is decided with the facts.
    pub(crate) digits: SmsCode,
    pub(crate) code_length: u8,
    pub(crate) code_lifetime: Duration,
    pub(crate) cool_down: Duration,
    pub(crate) peppers: Arc<Peppers>,
}

/// What [`ChallengeRequest::decide`] must know.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChallengeFacts {
    /// [`Challenge::sent_at`] of the phone's newest challenge.
    pub last_sent_at: Option<OffsetDateTime>,
    /// [`User::last_login`](crate::User::last_login) of the phone's user.
    pub last_login: Option<OffsetDateTime>,
}

/// What is to become of a request to send a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChallengeDecision {
    /// Store this challenge; it is the answer.
    Grant(Challenge),
    /// Store nothing and refuse.
    Refuse(Refusal),
}

impl ChallengeRequest {
    /// Decides whether the code may be sent. Between two codes lies the cool-down, unless the
    /// phone has signed in since the last.
    #[must_use]
    pub fn decide(&self, facts: &ChallengeFacts) -> ChallengeDecision {
        match self.wait(facts) {
            Some(retry_after) => ChallengeDecision::Refuse(Refusal::TooManyRequests { retry_after }),
            None => ChallengeDecision::Grant(self.challenge(self.code_length)),
        }
    }

    /// How long to wait before another code.
    fn wait(&self, facts: &ChallengeFacts) -> Option<Duration> {
        let last_sent_at = facts.last_sent_at?;
        let signed_in_since = facts.last_login.is_some_and(|login| login >= last_sent_at);
        let wait = last_sent_at + self.cool_down - self.now;
        // Never longer than the cool-down, even if the clock was set back.
        (!signed_in_since && wait.is_positive()).then(|| wait.unsigned_abs().min(self.cool_down))
    }

    /// The challenge for a code of so many digits.
    fn challenge(&self, code_length: u8) -> Challenge {
        let pepper_id = self.peppers.current_id();
        let code = self.digits.first(code_length);
        let code_hash = hash_code(&self.peppers, pepper_id, self.id, &self.phone, code.reveal());
        Challenge {
            id: self.id,
            phone: self.phone.clone(),
            code_length,
            code_hash: code_hash.expect("the ring has its current pepper"),
            pepper_id: pepper_id.to_owned(),
            sent_at: self.now,
            expires_at: self.now + self.code_lifetime,
            redeemed_at: None,
            tries_with_id: 0,
            tries_without_id: 0,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::random::SystemRandom;

    pub(crate) const MINUTE: time::Duration = time::Duration::MINUTE;

    pub(crate) fn peppers() -> Peppers {
        Peppers::from_secret("p1", &[7; 32]).expect("long enough")
    }

    /// A challenge for `phone` with the code 4711, sent at the epoch, live for five minutes.
    pub(crate) fn challenge(phone: PhoneNumber) -> Challenge {
        let id = ChallengeId(Uuid::from_u128(1));
        Challenge {
            id,
            code_length: 4,
            code_hash: hash_code(&peppers(), "p1", id, &phone, "4711").expect("a known pepper"),
            phone,
            pepper_id: "p1".into(),
            sent_at: OffsetDateTime::UNIX_EPOCH,
            expires_at: OffsetDateTime::UNIX_EPOCH + 5 * MINUTE,
            redeemed_at: None,
            tries_with_id: 0,
            tries_without_id: 0,
        }
    }

    fn phone() -> PhoneNumber {
        PhoneNumber::parse("+79608543017", None).expect("valid")
    }

    #[test]
    fn the_hash_is_bound_to_challenge_phone_and_pepper() {
        let sent = challenge(phone());
        let right = CodeInput::parse("4711").expect("digits");
        assert!(sent.accepts(&right, &peppers()));
        assert!(!sent.accepts(&CodeInput::parse("4712").expect("digits"), &peppers()));

        let other_id = Challenge { id: ChallengeId(Uuid::from_u128(2)), ..sent.clone() };
        let other_phone = PhoneNumber::parse("+79608543018", None).expect("valid");
        let other_phone = Challenge { phone: other_phone, ..sent.clone() };
        let other_pepper = Peppers::from_secret("p1", &[8; 32]).expect("long enough");
        let unknown_pepper = Peppers::from_secret("p2", &[7; 32]).expect("long enough");
        assert!(!other_id.accepts(&right, &peppers()));
        assert!(!other_phone.accepts(&right, &peppers()));
        assert!(!sent.accepts(&right, &other_pepper));
        assert!(!sent.accepts(&right, &unknown_pepper));
    }

    #[test]
    fn a_code_is_dead_at_its_end_after_its_tries_and_when_used() {
        let start = OffsetDateTime::UNIX_EPOCH;
        let sent = challenge(phone());
        let last_moment = start + 5 * MINUTE - time::Duration::MICROSECOND;
        assert!(sent.is_live(true, 3, last_moment));
        assert!(!sent.is_live(true, 3, start + 5 * MINUTE));

        let tried = Challenge { tries_without_id: 3, ..sent.clone() };
        assert!(!tried.is_live(false, 3, start));
        assert!(tried.is_live(true, 3, start), "the owner's tries are counted apart");

        let redeemed = Challenge { redeemed_at: Some(start), ..sent };
        assert!(!redeemed.is_live(true, 3, start));
    }

    #[test]
    fn the_cool_down_ends_with_its_time_or_a_sign_in() {
        let sent = OffsetDateTime::UNIX_EPOCH;
        let wait_at = |now, facts: &ChallengeFacts| {
            let request = ChallengeRequest {
                id: ChallengeId(Uuid::from_u128(1)),
                phone: phone(),
                now,
                digits: SmsCode::draw(&SystemRandom, 10),
                code_length: 4,
                code_lifetime: Duration::from_mins(5),
                cool_down: Duration::from_mins(1),
                peppers: Arc::new(peppers()),
            };
            match request.decide(facts) {
                ChallengeDecision::Grant(challenge) => {
                    let code = CodeInput::parse(request.digits.first(4).reveal()).expect("digits");
                    assert!(challenge.accepts(&code, &peppers()), "the hash is that of the digits sent");
                    None
                }
                ChallengeDecision::Refuse(Refusal::TooManyRequests { retry_after }) => Some(retry_after),
                ChallengeDecision::Refuse(other) => panic!("{other:?}"),
            }
        };
        let facts = ChallengeFacts { last_sent_at: Some(sent), last_login: None };
        let half_a_minute = sent + MINUTE / 2;

        assert_eq!(wait_at(sent, &ChallengeFacts::default()), None);
        assert_eq!(wait_at(half_a_minute, &facts), Some(Duration::from_secs(30)));
        assert_eq!(wait_at(sent + MINUTE, &facts), None, "waiting as long as told helps");
        assert_eq!(
            wait_at(sent - 9 * MINUTE, &facts),
            Some(Duration::from_mins(1)),
            "the clock was set back"
        );
        let signed_in = ChallengeFacts { last_login: Some(sent), ..facts };
        assert_eq!(wait_at(half_a_minute, &signed_in), None);
        let signed_in_before = ChallengeFacts { last_login: Some(sent - MINUTE), ..facts };
        assert!(wait_at(half_a_minute, &signed_in_before).is_some());
    }
}
