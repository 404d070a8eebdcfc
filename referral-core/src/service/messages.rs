//! Requests and results of the handle for signing in.

use std::time::Duration;

use crate::{
    ChallengeId, Client, InvitationOutcome, InviteCode, Locale, OneTimeCode, PhoneNumber, SessionId,
    TokenPair, User, otp::code::CodeInput,
};

/// Request for a code.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SendCode {
    /// Phone to send the code to.
    pub phone: PhoneNumber,
    /// Languages for the message, in order of preference.
    pub locales: Vec<Locale>,
    /// Client that sends the request.
    pub client: Client,
}

impl SendCode {
    /// Creates a request for a code for `phone`, with a message in the default language.
    #[must_use]
    pub fn new(phone: PhoneNumber) -> Self {
        Self { phone, locales: Vec::new(), client: Client::default() }
    }

    /// Sets the languages for the message. The first one for which there is a text is used.
    #[must_use]
    pub fn locales(mut self, locales: impl Into<Vec<Locale>>) -> Self {
        self.locales = locales.into();
        self
    }

    /// Sets the client that sends the request.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }
}

/// Result of a sent code.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SentCode {
    /// Phone in canonical form.
    pub phone: PhoneNumber,
    /// Challenge that identifies this code among others sent to the phone.
    pub challenge: ChallengeId,
    /// Number of digits of the code.
    pub code_length: u8,
    /// Time until the code expires.
    pub expires_in: Duration,
    /// Time after which another code can be requested.
    pub resend_in: Duration,
    /// Code, if the sender reveals it: see [`DevelopmentSender`](crate::sms::DevelopmentSender). The code of
    /// a [test number](crate::TestNumber), to which no message is sent, is never revealed.
    pub revealed_code: Option<OneTimeCode>,
}

/// Request to sign in with a code.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignIn {
    /// Phone that the code was sent to.
    pub phone: PhoneNumber,
    /// Code.
    pub code: CodeInput,
    /// Challenge that was returned when the code was sent. If it is `None`, the newest challenge of the phone
    /// is used.
    pub challenge: Option<ChallengeId>,
    /// Invite code of another user.
    pub invited_by_code: Option<InviteCode>,
    /// Client that sends the request.
    pub client: Client,
}

impl SignIn {
    /// Creates a request to sign in with the code that was sent to `phone`.
    #[must_use]
    pub fn new(phone: PhoneNumber, code: CodeInput) -> Self {
        Self { phone, code, challenge: None, invited_by_code: None, client: Client::default() }
    }

    /// Sets the challenge that the code belongs to.
    #[must_use]
    pub fn challenge(mut self, challenge: impl Into<Option<ChallengeId>>) -> Self {
        self.challenge = challenge.into();
        self
    }

    /// Sets the invite code of another user.
    #[must_use]
    pub fn invited_by(mut self, code: impl Into<Option<InviteCode>>) -> Self {
        self.invited_by_code = code.into();
        self
    }

    /// Sets the client that sends the request.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }
}

/// Result of a sign-in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignedIn {
    /// User.
    pub user: User,
    /// Session.
    pub session: SessionId,
    /// Tokens.
    pub tokens: TokenPair,
    /// Time until the access token expires.
    pub expires_in: Duration,
    /// `true` if the user was created by this sign-in.
    pub created: bool,
    /// Outcome of the invite code.
    pub invitation: InvitationOutcome,
}

/// Request to exchange a refresh token.
#[derive(Clone)]
#[non_exhaustive]
pub struct Refresh<'a> {
    /// Refresh token.
    pub token: &'a str,
    /// Client that sends the request.
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
    /// Sets the client that sends the request.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }
}

/// Result of a refresh.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refreshed {
    /// New tokens.
    pub tokens: TokenPair,
    /// Time until the access token expires.
    pub expires_in: Duration,
}

/// User and session of a valid access token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CurrentUser {
    /// User.
    pub user: User,
    /// Session that the token belongs to.
    pub session: SessionId,
}
