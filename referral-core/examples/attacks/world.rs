//! Service with a manual clock, and the counts of an attack.

use std::{collections::HashMap, net::Ipv4Addr, sync::Arc, time::Duration};

use referral_core::{
    Client, CodeInput, Error, InviteCode, OneTimeCode, PhoneNumber, ReferralService, Refusal, SendCode,
    SentCode, SignIn,
    clock::Clock,
    keys::{Peppers, SigningKeys},
    policy::Policy,
    sms::DevelopmentSender,
    storage::MemoryStorage,
    test_util::{ManualClock, SeededRandom},
};
use time::OffsetDateTime;

use super::{Bound, NamedPolicy, Row};

pub(crate) const MINUTE: Duration = Duration::from_mins(1);
pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const DAY: Duration = Duration::from_hours(24);
pub(crate) const YEAR: Duration = Duration::from_hours(24 * 365);

/// Time longer than the microseconds that separate simultaneous requests.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// Digits of the code of a test number, which uses as many of them as it needs.
pub(crate) const FIXED_CODE: &str = "4711081547";

pub(crate) struct World {
    pub(crate) policy: Policy,
    policy_name: &'static str,
    referral: ReferralService,
    clock: ManualClock,
    start: OffsetDateTime,
    /// Newest code of each phone, with which a guess without the id of a challenge is compared.
    newest: HashMap<PhoneNumber, SentCode>,
    addresses: u32,
    deleted: Duration,
    requests: u64,
    codes: u64,
    takeovers: f64,
}

/// Address of a client.
#[derive(Clone, Copy)]
pub(crate) struct Address(u32);

/// Result of a guess.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guess {
    /// The guess was compared with a valid code.
    Compared,
    /// The guess could not have been correct.
    Worthless,
}

/// Response to a code that a user typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    SignedIn,
    /// The code is wrong or no longer valid.
    Invalid,
    /// There were too many requests.
    TooMany,
}

/// Target of a guess.
#[derive(Clone, Copy)]
pub(crate) enum At<'a> {
    /// Code whose challenge id is sent, which only the client that requested it knows.
    Challenge(&'a SentCode),
    /// Newest code of the phone.
    Newest(&'a PhoneNumber),
}

impl World {
    pub(crate) fn new((policy_name, policy): NamedPolicy) -> Self {
        let start = OffsetDateTime::from_unix_timestamp(1_790_000_000).expect("a time in this century");
        let clock = ManualClock::new(start);
        let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("long enough");
        let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
        let storage = Arc::new(MemoryStorage::new());
        let referral = ReferralService::builder(storage, Arc::new(DevelopmentSender), keys, peppers)
            .policy(policy.clone())
            .clock(Arc::new(clock.clone()))
            .random(Arc::new(SeededRandom::new(1)))
            .build()
            .expect("the policy and the key are valid");
        Self {
            policy,
            policy_name,
            referral,
            clock,
            start,
            newest: HashMap::new(),
            addresses: 0,
            deleted: Duration::ZERO,
            requests: 0,
            codes: 0,
            takeovers: 0.0,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        (self.clock.now() - self.start).unsigned_abs()
    }

    pub(crate) fn wait(&self, duration: Duration) {
        self.clock.advance(duration);
    }

    pub(crate) fn wait_until(&self, elapsed: Duration) {
        self.wait(elapsed.saturating_sub(self.elapsed()));
    }

    /// Returns an address that was not used yet.
    pub(crate) fn new_address(&mut self) -> Address {
        self.addresses += 1;
        Address(self.addresses)
    }

    /// Requests a code as an attacker, or returns the time to wait.
    pub(crate) async fn request_code(
        &mut self,
        phone: &PhoneNumber,
        from: Address,
    ) -> Result<SentCode, Duration> {
        self.requests += 1;
        self.run_maintenance().await;
        let sent = self.send(phone, from).await;
        self.codes += u64::from(sent.is_ok());
        sent
    }

    /// Requests a code as an attacker with any number of addresses, as soon as one is available. Returns
    /// `None` at the end of the time.
    pub(crate) async fn request_code_until(
        &mut self,
        end: Duration,
        phone: &PhoneNumber,
    ) -> Option<SentCode> {
        while self.elapsed() < end {
            let from = self.new_address();
            match self.request_code(phone, from).await {
                Ok(sent) => return Some(sent),
                Err(wait) => self.wait(wait),
            }
        }
        None
    }

    /// Guesses a code as an attacker.
    pub(crate) async fn guess(&mut self, at: At<'_>, from: Address) -> Guess {
        self.requests += 1;
        let (sent, challenge) = match at {
            At::Challenge(sent) => (sent.clone(), Some(sent.challenge)),
            At::Newest(phone) => (self.newest.get(phone).expect("a code was sent").clone(), None),
        };
        let is_valid = self.is_valid(&sent, challenge.is_some()).await;
        let right = revealed(&sent);
        let wrong: String = right.chars().map(|digit| if digit == '9' { '0' } else { '9' }).collect();
        let guess = SignIn::new(sent.phone.clone(), typed(&wrong)).challenge(challenge);
        match self.referral.sign_in(guess.client(from.into())).await {
            Err(Error::Refused(Refusal::InvalidCode)) if is_valid => {
                self.takeovers += 0.1_f64.powi(sent.code_length.into());
                Guess::Compared
            }
            Err(Error::Refused(_)) => Guess::Worthless,
            other => panic!("unexpected result with a wrong code: {other:?}"),
        }
    }

    /// Guesses a code with all its attempts, each from another address. Returns the number of guesses that
    /// were compared with the code, at most `most`.
    pub(crate) async fn guess_all(&mut self, sent: &SentCode, most: u32) -> u32 {
        let mut compared = 0;
        for at in [At::Challenge(sent), At::Newest(&sent.phone)] {
            while compared < most {
                let from = self.new_address();
                if self.guess(at, from).await == Guess::Worthless {
                    break;
                }
                compared += 1;
            }
        }
        compared
    }

    /// Requests a code as the owner of a phone or another legitimate user.
    pub(crate) async fn send(&mut self, phone: &PhoneNumber, from: Address) -> Result<SentCode, Duration> {
        let request = SendCode::new(phone.clone()).client(from.into());
        match self.referral.send_code(request).await {
            Ok(mut sent) => {
                // The simulation needs the code. Attackers do not use it.
                let fixed_code = || OneTimeCode::from_static(&FIXED_CODE[..sent.code_length.into()]);
                sent.revealed_code = Some(sent.revealed_code.unwrap_or_else(fixed_code));
                self.newest.insert(phone.clone(), sent.clone());
                Ok(sent)
            }
            Err(Error::Refused(Refusal::TooManyRequests { retry_after, .. })) => Err(retry_after),
            other => panic!("unexpected result of a request for a code: {other:?}"),
        }
    }

    /// Signs in with the code of a received message. Returns `true` if the code is still valid.
    pub(crate) async fn sign_in(&self, sent: &SentCode, from: Address) -> bool {
        let right = SignIn::new(sent.phone.clone(), typed(revealed(sent))).challenge(sent.challenge);
        match self.referral.sign_in(right.client(from.into())).await {
            Ok(_) => true,
            Err(Error::Refused(Refusal::InvalidCode)) => false,
            other => panic!("unexpected result with a correct code: {other:?}"),
        }
    }

    /// Submits the code that was sent.
    pub(crate) async fn respond(&self, sent: &SentCode, from: Address) -> Response {
        let request = SignIn::new(sent.phone.clone(), typed(revealed(sent))).challenge(sent.challenge);
        self.response(request, from).await
    }

    /// Submits the code that was sent, without the id of the challenge.
    pub(crate) async fn respond_unnamed(&self, sent: &SentCode, from: Address) -> Response {
        self.response(SignIn::new(sent.phone.clone(), typed(revealed(sent))), from).await
    }

    /// Submits another code than the one that was sent.
    pub(crate) async fn mistype(&self, sent: &SentCode, from: Address) -> Response {
        let wrong: String =
            revealed(sent).chars().rev().map(|digit| if digit == '9' { '0' } else { '9' }).collect();
        let request = SignIn::new(sent.phone.clone(), typed(&wrong)).challenge(sent.challenge);
        self.response(request, from).await
    }

    /// Submits a code for a phone that has none.
    pub(crate) async fn attempt_without_code(&self, phone: &PhoneNumber, from: Address) {
        let response = self.response(SignIn::new(phone.clone(), typed("0000")), from).await;
        assert_ne!(response, Response::SignedIn, "there is no code");
    }

    async fn response(&self, request: SignIn, from: Address) -> Response {
        match self.referral.sign_in(request.client(from.into())).await {
            Ok(_) => Response::SignedIn,
            Err(Error::Refused(Refusal::InvalidCode)) => Response::Invalid,
            Err(Error::Refused(Refusal::TooManyRequests { .. })) => Response::TooMany,
            other => panic!("unexpected result of a sign-in: {other:?}"),
        }
    }

    /// Returns the result of the attack.
    pub(crate) fn row(&self, attack: impl Into<String>, bound: Bound) -> Row {
        Row {
            attack: attack.into(),
            policy: self.policy_name,
            requests: self.requests,
            codes: self.codes,
            takeovers: self.takeovers,
            days_lost: 0,
            rejections: 0,
            bound,
            note: String::new(),
        }
    }

    /// Runs the maintenance once a day. The deletion must keep rows that still count.
    async fn run_maintenance(&mut self) {
        if self.elapsed() >= self.deleted + DAY {
            self.deleted = self.elapsed();
            self.referral.run_maintenance().await.expect("the memory storage does not fail");
        }
    }

    /// Returns `true` if the correct code would be accepted now. Submits it with an unknown invite code,
    /// which is checked after the code and leaves the code usable, so that nothing changes.
    async fn is_valid(&self, sent: &SentCode, names_id: bool) -> bool {
        let unknown = InviteCode::parse("ZZZZZZZZZZZZ").expect("a code");
        let probe = SignIn::new(sent.phone.clone(), typed(revealed(sent)))
            .challenge(names_id.then_some(sent.challenge))
            .invited_by(unknown);
        match self.referral.sign_in(probe).await {
            Err(Error::Refused(refusal)) => refusal == Refusal::UnknownInviteCode,
            other => panic!("unexpected result with an unknown invite code: {other:?}"),
        }
    }
}

impl From<Address> for Client {
    fn from(Address(number): Address) -> Self {
        Self::default().address(std::net::IpAddr::from(Ipv4Addr::from(number)))
    }
}

/// Returns a mobile number: one of a thousand in one of a million number ranges.
pub(crate) fn phone(range: u32, number: u32) -> PhoneNumber {
    PhoneNumber::from_stored(format!("+79{range:06}{number:03}")).expect("a mobile number")
}

fn revealed(sent: &SentCode) -> &str {
    sent.revealed_code.as_ref().expect("the development sender reveals it").reveal()
}

fn typed(code: &str) -> CodeInput {
    CodeInput::parse(code).expect("digits")
}
