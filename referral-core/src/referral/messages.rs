//! What is asked of the handle, and what it answers, about signing in.

use std::time::Duration;

use crate::{
    ChallengeId, Client, InvitationOutcome, InviteCode, Locale, PhoneNumber, SessionId, SmsCode, TokenPair,
    User, sms_code::CodeInput,
};

/// A request for a code.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SendCode {
    /// Where to send it.
    pub phone: PhoneNumber,
    /// The languages that the message may be in, the best first.
    pub locales: Vec<Locale>,
    /// Who asks for it.
    pub client: Client,
}

impl SendCode {
    /// A code for `phone`, in a message in the language that is usual.
    #[must_use]
    pub fn new(phone: PhoneNumber) -> Self {
        Self { phone, locales: Vec::new(), client: Client::default() }
    }

    /// In a message in the first of these languages that there is a text in.
    #[must_use]
    pub fn locales(mut self, locales: impl Into<Vec<Locale>>) -> Self {
        self.locales = locales.into();
        self
    }

    /// Asked for by this client.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }
}

/// A code is on its way.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SentCode {
    /// The phone in canonical form.
    pub phone: PhoneNumber,
    /// Names this code among others sent to the phone.
    pub challenge: ChallengeId,
    /// How many digits the code has.
    pub code_length: u8,
    /// How long the code lives.
    pub expires_in: Duration,
    /// After how long another can be asked for.
    pub resend_in: Duration,
    /// The code itself, from a sender that reveals it: see
    /// [`DevelopmentSender`](crate::sms::DevelopmentSender). Never that of a
    /// [test number](crate::TestNumber), to which nothing is sent.
    pub revealed_code: Option<SmsCode>,
}

/// A code that comes back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignIn {
    /// The phone it was sent to.
    pub phone: PhoneNumber,
    /// The code.
    pub code: CodeInput,
    /// The id that came back when it was sent; without, the phone's newest is meant.
    pub challenge: Option<ChallengeId>,
    /// A friend's invite code.
    pub invited_by_code: Option<InviteCode>,
    /// Who sends it.
    pub client: Client,
}

impl SignIn {
    /// The code that came back from `phone`.
    #[must_use]
    pub fn new(phone: PhoneNumber, code: CodeInput) -> Self {
        Self { phone, code, challenge: None, invited_by_code: None, client: Client::default() }
    }

    /// The code answers this challenge, and no other.
    #[must_use]
    pub fn challenge(mut self, challenge: impl Into<Option<ChallengeId>>) -> Self {
        self.challenge = challenge.into();
        self
    }

    /// A friend's invite code came along.
    #[must_use]
    pub fn invited_by(mut self, code: impl Into<Option<InviteCode>>) -> Self {
        self.invited_by_code = code.into();
        self
    }

    /// Sent by this client.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }
}

/// Somebody is signed in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignedIn {
    /// The user.
    pub user: User,
    /// The session.
    pub session: SessionId,
    /// The tokens.
    pub tokens: TokenPair,
    /// For how long the access token is valid.
    pub expires_in: Duration,
    /// Whether the user is new.
    pub created: bool,
    /// What became of the invite code.
    pub invitation: InvitationOutcome,
}

/// A refresh token that is to be exchanged.
#[derive(Clone)]
#[non_exhaustive]
pub struct Refresh<'a> {
    /// The token.
    pub token: &'a str,
    /// Who has it.
    pub client: Client,
}

impl<'a> From<&'a str> for Refresh<'a> {
    fn from(token: &'a str) -> Self {
        Self { token, client: Client::default() }
    }
}

impl<'a> From<&'a String> for Refresh<'a> {
    fn from(token: &'a String) -> Self {
        token.as_str().into()
    }
}

impl Refresh<'_> {
    /// Sent by this client.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }
}

/// New tokens for old.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refreshed {
    /// The tokens.
    pub tokens: TokenPair,
    /// For how long the access token is valid.
    pub expires_in: Duration,
}

/// Whoever showed a valid access token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Bearer {
    /// The user.
    pub user: User,
    /// The session that the token belongs to.
    pub session: SessionId,
}
