//! Endpoints below `/auth/` for one-time codes and tokens.

use std::str::FromStr;

use poem_openapi::{Object, OpenApi, types::Example};
use referral_core::{
    ChallengeId, CodeInput, InvitationOutcome, InviteCode, ReferralService, Refresh, SendCode, SignIn,
    sms::Locale, texts::Text,
};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    api::{
        Refusals, Tag,
        accept_language::AcceptLanguage,
        context::{ContextObject, read_context},
        examples,
        json_body::{Body, blank_or, text, token},
        json_response::Json,
        verified_token::{VerifiedToken, VerifyRequest, read_kind},
    },
    client_ip::Client,
    error::{FieldError, Problem, whole_seconds},
    error_code::ErrorCode,
};

/// Error codes of each operation, in addition to those that every operation can return.
pub(crate) const REFUSALS: &[Refusals] = &[
    (
        "sendCode",
        &[
            ErrorCode::InvalidPhone,
            ErrorCode::PhoneNotAllowed,
            ErrorCode::PhoneUnreachable,
            ErrorCode::InvalidContext,
            ErrorCode::RejectedByHost,
            ErrorCode::TooManyRequests,
            ErrorCode::SmsNotSent,
        ],
    ),
    (
        "signIn",
        &[
            ErrorCode::InvalidPhone,
            ErrorCode::MalformedCode,
            ErrorCode::InvalidInviteCode,
            ErrorCode::InvalidId,
            ErrorCode::ChallengeRequired,
            ErrorCode::UnknownInviteCode,
            ErrorCode::OwnInviteCode,
            ErrorCode::InvitationLoop,
            ErrorCode::InvalidCode,
            ErrorCode::UserInactive,
            ErrorCode::InvalidContext,
            ErrorCode::RejectedByHost,
            ErrorCode::TooManyRequests,
        ],
    ),
    ("verifyToken", &[ErrorCode::InvalidTokenType, ErrorCode::TokenNotValid]),
    ("refreshToken", &[ErrorCode::TokenNotValid, ErrorCode::RefreshReused]),
];

/// Request to send a code to a phone.
#[derive(Object)]
#[oai(example)]
struct SendCodeRequest {
    /// The phone in international form. The national form is accepted if the service has a default
    /// region. Spaces and punctuation are ignored.
    #[oai(validator(min_length = 1, max_length = 32))]
    phone: String,
    /// The language of the message, as a BCP 47 tag such as `ru` or `pt-BR`, or as an identifier of a
    /// platform such as `pt_BR`. If it is absent, `null`, empty or not valid, the header `Accept-Language` is
    /// used. If the service has no text in this language, the message is in the default language.
    #[oai(skip_serializing_if_is_none)]
    locale: Option<String>,
    /// An object for the gate of the operator, such as the token of a captcha. At most 4096 bytes. If there
    /// is no gate, it is ignored.
    #[oai(skip_serializing_if_is_none)]
    context: Option<ContextObject>,
}

impl Example for SendCodeRequest {
    fn example() -> Self {
        // Without a locale, so that only the phone has to be entered in Swagger UI.
        Self { phone: examples::PHONE.into(), locale: None, context: None }
    }
}

/// A code that was sent.
#[derive(Object, Serialize)]
#[oai(example)]
pub(super) struct SentCode {
    /// The phone in canonical form (E.164).
    phone: String,
    /// The id of this code. Send it with the code, so that other clients cannot use up the attempts for the
    /// code.
    challenge_id: Uuid,
    /// The number of digits of the code.
    code_length: u8,
    /// The number of seconds until the code expires.
    expires_in: u64,
    /// The number of seconds until another code can be requested.
    resend_in: u64,
    /// The code itself. Present only if the server uses the development sender.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
}

impl Example for SentCode {
    fn example() -> Self {
        Self {
            phone: examples::PHONE.into(),
            challenge_id: examples::CHALLENGE_ID,
            code_length: 4,
            expires_in: 300,
            resend_in: 60,
            code: Some("4711".into()),
        }
    }
}

impl From<referral_core::SentCode> for SentCode {
    fn from(sent: referral_core::SentCode) -> Self {
        Self {
            phone: sent.phone.as_str().to_owned(),
            challenge_id: sent.challenge.0,
            code_length: sent.code_length,
            expires_in: sent.expires_in.as_secs(),
            resend_in: whole_seconds(sent.resend_in),
            code: sent.revealed_code.map(|code| code.reveal().to_owned()),
        }
    }
}

/// Request to sign in with a code.
#[derive(Object)]
#[oai(example)]
struct SignInRequest {
    /// The phone that the code was sent to.
    #[oai(validator(min_length = 1, max_length = 32))]
    phone: String,
    /// The code as a string of digits. A whole number, which older clients send, is accepted too.
    code: String,
    /// The invite code of the friend that invited the user. If it is absent, `null` or an empty string,
    /// the inviter does not change.
    #[oai(skip_serializing_if_is_none)]
    invited_by_code: Option<String>,
    /// The `challenge_id` from the response to `POST /auth/send_code/`.
    #[oai(skip_serializing_if_is_none)]
    challenge_id: Option<Uuid>,
    /// A refresh token from an earlier sign-in of this client, even an expired one. It is needed only if the
    /// operator protects accounts that were not used for a long time: without it, the phone then gets a new
    /// account. A token that is not valid is ignored.
    #[oai(skip_serializing_if_is_none)]
    refresh_token: Option<String>,
    /// An object for the gate of the operator, such as the token of a captcha. At most 4096 bytes. If there
    /// is no gate, it is ignored.
    #[oai(skip_serializing_if_is_none)]
    context: Option<ContextObject>,
}

impl Example for SignInRequest {
    fn example() -> Self {
        Self {
            phone: examples::PHONE.into(),
            code: "4711".into(),
            // Omitted, so that only the code has to be entered in Swagger UI.
            invited_by_code: None,
            challenge_id: None,
            refresh_token: None,
            context: None,
        }
    }
}

/// Result of a successful sign-in.
#[derive(Object, Serialize)]
#[oai(example)]
pub(super) struct SignedIn {
    /// The access token, for the header `Authorization: Bearer …`.
    access: String,
    /// The refresh token, which can be exchanged for new tokens.
    refresh: String,
    /// Always `Bearer`.
    token_type: String,
    /// The number of seconds until the access token expires.
    expires_in: u64,
    /// The id of the user.
    user_id: Uuid,
    /// `true` if the sign-in created the user.
    created: bool,
    /// The outcome of the invite code. `none`: the request has no invite code. `accepted`: the inviter was
    /// set. `already_accepted`: the inviter had been set to the same user before. `ignored`: the user
    /// already has another inviter.
    invitation: Invitation,
}

impl Example for SignedIn {
    fn example() -> Self {
        Self {
            access: examples::TOKEN.into(),
            refresh: examples::TOKEN.into(),
            token_type: "Bearer".into(),
            expires_in: 900,
            user_id: examples::USER_ID,
            created: true,
            invitation: Invitation::Accepted,
        }
    }
}

/// Outcome of an invite code.
#[derive(poem_openapi::Enum, Serialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
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

/// Request to exchange a refresh token.
#[derive(Object)]
#[oai(example)]
struct RefreshRequest {
    /// The refresh token.
    #[oai(validator(min_length = 1))]
    refresh: String,
}

impl Example for RefreshRequest {
    fn example() -> Self {
        Self { refresh: examples::TOKEN.into() }
    }
}

/// New tokens.
#[derive(Object, Serialize)]
#[oai(example)]
pub(super) struct Refreshed {
    /// The new access token.
    access: String,
    /// The new refresh token. It replaces the old one.
    refresh: String,
    /// Always `Bearer`.
    token_type: String,
    /// The number of seconds until the access token expires.
    expires_in: u64,
}

impl Example for Refreshed {
    fn example() -> Self {
        Self {
            access: examples::TOKEN.into(),
            refresh: examples::TOKEN.into(),
            token_type: "Bearer".into(),
            expires_in: 900,
        }
    }
}

pub(crate) struct AuthApi {
    pub(crate) referral: ReferralService,
}

#[OpenApi(prefix_path = "/auth", tag = "Tag::Auth")]
impl AuthApi {
    /// Send a code
    ///
    /// Sends a one-time code to the phone. The phone does not need to have an account. An earlier code
    /// stays valid together with its `challenge_id`. After wrong codes, new codes have more digits:
    /// `code_length` is their number.
    #[oai(path = "/send_code", method = "post", operation_id = "sendCode")]
    async fn send_code(
        &self,
        Client(client): Client,
        AcceptLanguage(accepted): AcceptLanguage,
        mut body: Body<SendCodeRequest>,
    ) -> Result<Json<SentCode>, Problem> {
        let phone = body.fields.required("phone", text(|input| self.referral.parse_phone(input)));
        let locale = body.fields.optional("locale", blank_or(read_locale));
        let context = body.fields.optional("context", read_context);
        body.fields.finish()?;

        let locales = locale?.flatten().flatten().map_or(accepted, |locale| vec![locale]);
        let request = SendCode::new(phone?).locales(locales).client(client);
        let sent = self.referral.send_code(request.context(context?.unwrap_or_default())).await?;
        Ok(Json(sent.into()))
    }

    /// Sign in with a code
    ///
    /// Redeems the code. If the phone has no account, a user with a new invite code is created. The owner of
    /// `invited_by_code` becomes the inviter of the user, which cannot be changed later. If the invite code
    /// is rejected, nothing changes, and the code from the message stays valid.
    #[oai(path = "/jwt/get_by_phone", method = "post", operation_id = "signIn")]
    async fn sign_in(
        &self,
        Client(client): Client,
        AcceptLanguage(locales): AcceptLanguage,
        mut body: Body<SignInRequest>,
    ) -> Result<Json<SignedIn>, Problem> {
        let fields = &mut body.fields;
        let phone = fields.required("phone", text(|input| self.referral.parse_phone(input)));
        let code = fields.required("code", read_code);
        let invited_by_code = fields.optional("invited_by_code", blank_or(text(InviteCode::parse)));
        let challenge = fields.optional("challenge_id", blank_or(text(ChallengeId::from_str)));
        let refresh_token = fields.optional("refresh_token", blank_or(token));
        let context = fields.optional("context", read_context);
        body.fields.finish()?;

        let request = SignIn::new(phone?, code?)
            .challenge(challenge?.flatten())
            .invited_by(invited_by_code?.flatten())
            .refresh_token(refresh_token?.flatten())
            .client(client)
            .locales(locales)
            .context(context?.unwrap_or_default());
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
    /// Returns the content of a token if it is valid: this service signed it, it has not expired, its session
    /// has not ended, and its user is active.
    #[oai(path = "/jwt/verify", method = "post", operation_id = "verifyToken")]
    async fn verify(&self, mut body: Body<VerifyRequest>) -> Result<Json<VerifiedToken>, Problem> {
        let token = body.fields.required("token", token);
        let kind = body.fields.optional("token_type", read_kind);
        body.fields.finish()?;

        Ok(Json(self.referral.verify(&token?, kind?.flatten()).await?.into()))
    }

    /// Refresh the tokens
    ///
    /// Exchanges a refresh token for new tokens. The refresh token that was exchanged last returns the same
    /// new tokens again until they are used, so a lost response does not end the session. A refresh token
    /// that was exchanged earlier ends the session.
    #[oai(path = "/jwt/refresh", method = "post", operation_id = "refreshToken")]
    async fn refresh(
        &self,
        Client(client): Client,
        mut body: Body<RefreshRequest>,
    ) -> Result<Json<Refreshed>, Problem> {
        let refresh = body.fields.required("refresh", token);
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

/// Parses a code: a string of digits, or a whole number, which older clients send.
pub(super) fn read_code(value: &Value) -> Result<CodeInput, FieldError> {
    match value {
        Value::String(digits) => Ok(CodeInput::parse(digits)?),
        Value::Number(number) if number.is_u64() => {
            Ok(CodeInput::from_number(number.as_u64().unwrap_or_default())?)
        }
        _ => Err(FieldError::new(ErrorCode::WrongType, Text::DigitsExpected)),
    }
}

/// Parses a locale. One that is not valid is ignored, because it must not keep a user from signing in.
pub(super) fn read_locale(value: &Value) -> Result<Option<Locale>, FieldError> {
    text(|input| Ok(Locale::parse(input).ok()))(value)
}
