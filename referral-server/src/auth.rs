//! `/auth/…`: codes and tokens.

use std::str::FromStr;

use poem_openapi::{Object, OpenApi, payload::Json, types::Example};
use referral_core::{
    ChallengeId, CodeInput, Invalid, InvitationOutcome, InviteCode, Locale, Referral, Refresh, SendCode,
    SignIn, TokenKind,
};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    accept_language::AcceptLanguage,
    client::Client,
    code::Code,
    document::{Refusals, Tag},
    example,
    input::{Body, blank_or, nullable, text},
    problem::{Problem, whole_seconds},
};

/// What each operation refuses, beside what any operation may.
pub(crate) const REFUSALS: &[Refusals] = &[
    (
        "sendCode",
        &[
            Code::InvalidPhone,
            Code::InvalidLocale,
            Code::PhoneNotAllowed,
            Code::TooManyRequests,
            Code::SmsNotSent,
        ],
    ),
    (
        "signIn",
        &[
            Code::InvalidPhone,
            Code::MalformedCode,
            Code::InvalidInviteCode,
            Code::InvalidId,
            Code::ChallengeRequired,
            Code::UnknownInviteCode,
            Code::OwnInviteCode,
            Code::InvitationLoop,
            Code::InvalidCode,
            Code::UserInactive,
            Code::TooManyRequests,
        ],
    ),
    ("verifyToken", &[Code::InvalidTokenType, Code::TokenNotValid]),
    ("refreshToken", &[Code::TokenNotValid, Code::RefreshReused]),
];

/// A phone that a code is to be sent to.
#[derive(Object)]
#[oai(example)]
struct SendCodeRequest {
    /// The phone in international form, or in national form where the service has a default
    /// region. Spaces and punctuation do not matter.
    #[oai(validator(min_length = 1, max_length = 32))]
    phone: String,
    /// The language of the message, as a BCP 47 tag such as `ru` or `pt-BR`. Without it or with `null`
    /// the header `Accept-Language` says it. For a language that the service has no text in, the
    /// message is in its usual one.
    #[oai(skip_serializing_if_is_none, validator(min_length = 1, max_length = 35))]
    locale: Option<String>,
}

impl Example for SendCodeRequest {
    fn example() -> Self {
        // Without a locale, so that in Swagger UI only the phone has to be filled in.
        Self { phone: example::PHONE.into(), locale: None }
    }
}

/// A code is on its way.
#[derive(Object)]
#[oai(example)]
struct SentCode {
    /// The phone in canonical form (E.164).
    phone: String,
    /// Names this code. Send it back with the code, so that a stranger cannot use up its tries.
    challenge_id: Uuid,
    /// How many digits the code has.
    code_length: u8,
    /// For how many seconds the code is good.
    expires_in: u64,
    /// After how many seconds another code can be asked for.
    resend_in: u64,
    /// The code itself: only where the development sender is configured.
    #[oai(skip_serializing_if_is_none)]
    code: Option<String>,
}

impl Example for SentCode {
    fn example() -> Self {
        Self {
            phone: example::PHONE.into(),
            challenge_id: example::CHALLENGE_ID,
            code_length: 4,
            expires_in: 300,
            resend_in: 60,
            code: Some("4711".into()),
        }
    }
}

/// A code that comes back.
#[derive(Object)]
#[oai(example)]
struct SignInRequest {
    /// The phone the code was sent to.
    #[oai(validator(min_length = 1, max_length = 32))]
    phone: String,
    /// The code: a string of digits, or a whole number, whose leading zeros are put back.
    code: String,
    /// The invite code of the friend who invited the user. Without it, with `null` or with an
    /// empty string nothing is changed.
    #[oai(skip_serializing_if_is_none)]
    invited_by_code: Option<String>,
    /// The `challenge_id` that came back when the code was asked for.
    #[oai(skip_serializing_if_is_none)]
    challenge_id: Option<Uuid>,
}

impl Example for SignInRequest {
    fn example() -> Self {
        Self {
            phone: example::PHONE.into(),
            code: "4711".into(),
            // Left out, so that in Swagger UI only the code has to be filled in.
            invited_by_code: None,
            challenge_id: None,
        }
    }
}

/// Somebody is signed in.
#[derive(Object)]
#[oai(example)]
struct SignedIn {
    /// The access token, for the header `Authorization: Bearer …`.
    access: String,
    /// The refresh token, to be exchanged for new tokens.
    refresh: String,
    /// Always `Bearer`.
    token_type: String,
    /// For how many seconds the access token is valid.
    expires_in: u64,
    /// The user.
    user_id: Uuid,
    /// Whether the user is new.
    created: bool,
    /// What became of the invite code: `none` was given, it was `accepted`, it had been
    /// `already_accepted`, or it was `ignored` since another inviter was named before.
    invitation: Invitation,
}

impl Example for SignedIn {
    fn example() -> Self {
        Self {
            access: example::TOKEN.into(),
            refresh: example::TOKEN.into(),
            token_type: "Bearer".into(),
            expires_in: 900,
            user_id: example::USER_ID,
            created: true,
            invitation: Invitation::Accepted,
        }
    }
}

/// What became of an invite code.
#[derive(poem_openapi::Enum)]
#[oai(rename_all = "snake_case")]
enum Invitation {
    None,
    Accepted,
    AlreadyAccepted,
    Ignored,
}

impl From<InvitationOutcome> for Invitation {
    fn from(outcome: InvitationOutcome) -> Self {
        match outcome {
            InvitationOutcome::None => Self::None,
            InvitationOutcome::Accepted => Self::Accepted,
            InvitationOutcome::AlreadyAccepted => Self::AlreadyAccepted,
            InvitationOutcome::Ignored => Self::Ignored,
        }
    }
}

/// A token to be looked at.
#[derive(Object)]
#[oai(example)]
struct VerifyRequest {
    /// The token.
    #[oai(validator(min_length = 1))]
    token: String,
    /// The kind it must be; without, either will do.
    #[oai(skip_serializing_if_is_none)]
    token_type: Option<TokenType>,
}

impl Example for VerifyRequest {
    fn example() -> Self {
        Self { token: example::TOKEN.into(), token_type: None }
    }
}

/// What a token is for.
#[derive(poem_openapi::Enum)]
#[oai(rename_all = "snake_case")]
enum TokenType {
    Access,
    Refresh,
}

impl From<TokenKind> for TokenType {
    fn from(kind: TokenKind) -> Self {
        match kind {
            TokenKind::Access => Self::Access,
            TokenKind::Refresh => Self::Refresh,
        }
    }
}

/// What a valid token says.
#[derive(Object)]
#[oai(example)]
struct VerifiedToken {
    /// What the token is for.
    token_type: TokenType,
    /// Whose it is.
    user_id: Uuid,
    /// The session it belongs to.
    session_id: Uuid,
    /// From when on it is not valid.
    expires_at: OffsetDateTime,
}

impl Example for VerifiedToken {
    fn example() -> Self {
        Self {
            token_type: TokenType::Access,
            user_id: example::USER_ID,
            session_id: example::SESSION_ID,
            expires_at: example::TIME,
        }
    }
}

/// A refresh token to be exchanged.
#[derive(Object)]
#[oai(example)]
struct RefreshRequest {
    /// The refresh token.
    #[oai(validator(min_length = 1))]
    refresh: String,
}

impl Example for RefreshRequest {
    fn example() -> Self {
        Self { refresh: example::TOKEN.into() }
    }
}

/// New tokens for old.
#[derive(Object)]
#[oai(example)]
struct Refreshed {
    /// The new access token.
    access: String,
    /// The new refresh token, which replaces the old.
    refresh: String,
    /// Always `Bearer`.
    token_type: String,
    /// For how many seconds the access token is valid.
    expires_in: u64,
}

impl Example for Refreshed {
    fn example() -> Self {
        Self {
            access: example::TOKEN.into(),
            refresh: example::TOKEN.into(),
            token_type: "Bearer".into(),
            expires_in: 900,
        }
    }
}

pub(crate) struct AuthApi {
    pub(crate) referral: Referral,
}

#[OpenApi(prefix_path = "/auth", tag = "Tag::Auth")]
impl AuthApi {
    /// Send a code
    ///
    /// Sends a one-time code to the phone, whether it has an account or not. A code sent before
    /// stays good under its `challenge_id`. After wrong codes the next has more digits:
    /// `code_length` says how many.
    #[oai(path = "/send_code", method = "post", operation_id = "sendCode")]
    async fn send_code(
        &self,
        Client(client): Client,
        AcceptLanguage(accepted): AcceptLanguage,
        mut body: Body<SendCodeRequest>,
    ) -> Result<Json<SentCode>, Problem> {
        let phone = body.fields.required("phone", text(|input| self.referral.parse_phone(input)));
        let locale = body.fields.optional("locale", nullable(text(Locale::parse)));
        body.fields.finish()?;

        let locales = locale?.flatten().map_or(accepted, |locale| vec![locale]);
        let sent = self.referral.send_code(SendCode::new(phone?).locales(locales).client(client)).await?;
        Ok(Json(SentCode {
            phone: sent.phone.as_str().to_owned(),
            challenge_id: sent.challenge.0,
            code_length: sent.code_length,
            expires_in: sent.expires_in.as_secs(),
            resend_in: whole_seconds(sent.resend_in),
            code: sent.revealed_code.map(|code| code.reveal().to_owned()),
        }))
    }

    /// Sign in with a code
    ///
    /// Redeems the code. A phone that is not known becomes a user with an invite code of their
    /// own. With a friend's invite code the friend becomes the inviter, once and for good; if
    /// that code cannot be accepted, nothing changes and the code from the message stays good.
    #[oai(path = "/jwt/get_by_phone", method = "post", operation_id = "signIn")]
    async fn sign_in(
        &self,
        Client(client): Client,
        mut body: Body<SignInRequest>,
    ) -> Result<Json<SignedIn>, Problem> {
        let fields = &mut body.fields;
        let phone = fields.required("phone", text(|input| self.referral.parse_phone(input)));
        let code = fields.required("code", read_code);
        let invited_by_code = fields.optional("invited_by_code", blank_or(text(InviteCode::parse)));
        let challenge = fields.optional("challenge_id", nullable(text(ChallengeId::from_str)));
        body.fields.finish()?;

        let request = SignIn::new(phone?, code?)
            .challenge(challenge?.flatten())
            .invited_by(invited_by_code?.flatten())
            .client(client);
        let signed_in = self.referral.sign_in(request).await?;
        Ok(Json(SignedIn {
            access: signed_in.tokens.access,
            refresh: signed_in.tokens.refresh,
            token_type: "Bearer".into(),
            expires_in: signed_in.expires_in.as_secs(),
            user_id: signed_in.user.id.0,
            created: signed_in.created,
            invitation: signed_in.invitation.into(),
        }))
    }

    /// Verify a token
    ///
    /// Says what a token is, if it is valid now: signed here, not expired, of a session that has
    /// not ended, and of a user who is active.
    #[oai(path = "/jwt/verify", method = "post", operation_id = "verifyToken")]
    async fn verify(&self, mut body: Body<VerifyRequest>) -> Result<Json<VerifiedToken>, Problem> {
        let token = body.fields.required("token", text(|token| Ok(token.to_owned())));
        let kind = body.fields.optional("token_type", text(read_kind));
        body.fields.finish()?;

        let token = self.referral.verify(&token?, kind?).await?;
        Ok(Json(VerifiedToken {
            token_type: token.kind.into(),
            user_id: token.user.0,
            session_id: token.session.0,
            expires_at: token.expires_at,
        }))
    }

    /// Refresh the tokens
    ///
    /// Exchanges a refresh token for new tokens. The token exchanged last gives the very same
    /// ones again until they are seen in use, so a lost answer signs nobody out; one exchanged
    /// before ends the session.
    #[oai(path = "/jwt/refresh", method = "post", operation_id = "refreshToken")]
    async fn refresh(
        &self,
        Client(client): Client,
        mut body: Body<RefreshRequest>,
    ) -> Result<Json<Refreshed>, Problem> {
        let refresh = body.fields.required("refresh", text(|token| Ok(token.to_owned())));
        body.fields.finish()?;

        let refreshed = self.referral.refresh(Refresh::from(&refresh?).client(client)).await?;
        Ok(Json(Refreshed {
            access: refreshed.tokens.access,
            refresh: refreshed.tokens.refresh,
            token_type: "Bearer".into(),
            expires_in: refreshed.expires_in.as_secs(),
        }))
    }
}

/// Reads a code: digits in a string, or a whole number, as older clients send it.
fn read_code(value: &Value) -> Result<CodeInput, Invalid> {
    match value {
        Value::String(digits) => CodeInput::parse(digits),
        Value::Number(number) if number.is_u64() => {
            CodeInput::from_number(number.as_u64().unwrap_or_default())
        }
        _ => Err(Invalid::new("wrong_type", "This must be a string of digits.")),
    }
}

fn read_kind(input: &str) -> Result<TokenKind, Invalid> {
    match input {
        "access" => Ok(TokenKind::Access),
        "refresh" => Ok(TokenKind::Refresh),
        _ => Err(Invalid::new("invalid_token_type", "This must be `access` or `refresh`.")),
    }
}
