//! Endpoints that change the phone of the own account.

use std::str::FromStr;

use poem_openapi::{Object, OpenApi, types::Example};
use referral_core::{ChallengeId, ChangePhone, CurrentUser, ReferralService, SendPhoneChangeCode};
use uuid::Uuid;

use crate::{
    api::{
        Refusals, Tag,
        accept_language::AcceptLanguage,
        auth::{SentCode, read_code, read_locale},
        bearer::Authorized,
        context::{ContextObject, read_context},
        examples,
        json_body::{Body, blank_or, text},
        json_response::Json,
        user_views::UserWithInvited,
    },
    client_ip::Client,
    error::Problem,
    error_code::ErrorCode,
};

/// Error codes of each operation, in addition to those that every operation can return.
pub(crate) const REFUSALS: &[Refusals] = &[
    (
        "sendPhoneChangeCode",
        &[
            ErrorCode::InvalidPhone,
            ErrorCode::OwnPhone,
            ErrorCode::PhoneNotAllowed,
            ErrorCode::PhoneUnreachable,
            ErrorCode::InvalidContext,
            ErrorCode::RejectedByHost,
            ErrorCode::TestNumber,
            ErrorCode::TooManyRequests,
            ErrorCode::SmsNotSent,
        ],
    ),
    (
        "changePhone",
        &[
            ErrorCode::InvalidPhone,
            ErrorCode::OwnPhone,
            ErrorCode::MalformedCode,
            ErrorCode::InvalidId,
            ErrorCode::InvalidCode,
            ErrorCode::PhoneTaken,
            ErrorCode::TooManyRequests,
        ],
    ),
];

/// Request to send a code to a new phone.
#[derive(Object)]
#[oai(example)]
struct SendPhoneChangeCodeRequest {
    /// The new phone, in the same form as for `POST /auth/send_code/`.
    #[oai(validator(min_length = 1, max_length = 32))]
    phone: String,
    /// The language of the message, as for `POST /auth/send_code/`.
    #[oai(skip_serializing_if_is_none)]
    locale: Option<String>,
    /// An object for the gate of the operator, such as the token of a captcha. At most 4096 bytes. If there
    /// is no gate, it is ignored.
    #[oai(skip_serializing_if_is_none)]
    context: Option<ContextObject>,
}

impl Example for SendPhoneChangeCodeRequest {
    fn example() -> Self {
        Self { phone: examples::NEW_PHONE.into(), locale: None, context: None }
    }
}

/// Request to change the phone.
#[derive(Object)]
#[oai(example)]
struct ChangePhoneRequest {
    /// The new phone, to which the code was sent.
    #[oai(validator(min_length = 1, max_length = 32))]
    phone: String,
    /// The code as a string of digits.
    code: String,
    /// The `challenge_id` from the response to `POST /users/current_user/phone/send_code/`.
    challenge_id: Uuid,
}

impl Example for ChangePhoneRequest {
    fn example() -> Self {
        Self { phone: examples::NEW_PHONE.into(), code: "4711".into(), challenge_id: examples::CHALLENGE_ID }
    }
}

pub(crate) struct PhoneApi {
    pub(crate) referral: ReferralService,
}

#[OpenApi(prefix_path = "/users", tag = "Tag::Users")]
impl PhoneApi {
    /// Send a code to change the phone
    ///
    /// Sends a one-time code to the new phone. The code is valid for `POST /users/current_user/phone/` of the
    /// current user only, and a code of `POST /auth/send_code/` is not valid there. Both count for the same
    /// limits. The response does not show whether the new phone has an account.
    #[oai(path = "/current_user/phone/send_code", method = "post", operation_id = "sendPhoneChangeCode")]
    async fn send_code(
        &self,
        Authorized(current_user): Authorized<CurrentUser>,
        Client(client): Client,
        AcceptLanguage(accepted): AcceptLanguage,
        mut body: Body<SendPhoneChangeCodeRequest>,
    ) -> Result<Json<SentCode>, Problem> {
        let phone = body.fields.required("phone", text(|input| self.referral.parse_phone(input)));
        let locale = body.fields.optional("locale", blank_or(read_locale));
        let context = body.fields.optional("context", read_context);
        body.fields.finish()?;

        let locales = locale?.flatten().flatten().map_or(accepted, |locale| vec![locale]);
        let request = SendPhoneChangeCode::new(phone?).locales(locales).client(client);
        let request = request.context(context?.unwrap_or_default());
        Ok(Json(self.referral.send_phone_change_code(&current_user, request).await?.into()))
    }

    /// Change the phone
    ///
    /// Changes the phone of the current user to the phone to which the code was sent. All other sessions of
    /// the user end, and the former phone gets a notice. The former phone can sign up as a new user.
    ///
    /// If the new phone has another account, the response is 409 `phone_taken`, after the correct code only.
    #[oai(path = "/current_user/phone", method = "post", operation_id = "changePhone")]
    async fn change(
        &self,
        Authorized(current_user): Authorized<CurrentUser>,
        Client(client): Client,
        AcceptLanguage(locales): AcceptLanguage,
        mut body: Body<ChangePhoneRequest>,
    ) -> Result<Json<UserWithInvited>, Problem> {
        let phone = body.fields.required("phone", text(|input| self.referral.parse_phone(input)));
        let code = body.fields.required("code", read_code);
        let challenge = body.fields.required("challenge_id", text(ChallengeId::from_str));
        body.fields.finish()?;

        let request = ChangePhone::new(phone?, challenge?, code?).client(client).locales(locales);
        Ok(Json(self.referral.change_phone(&current_user, request).await?.into()))
    }
}
