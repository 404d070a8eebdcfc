//! Endpoints of the own account: its profile, the export of its data, and its deletion with a one-time code.

use std::str::FromStr;

use poem_openapi::{Object, OpenApi, types::Example};
use referral_core::{
    AccountDeletion, ChallengeId, CurrentUser, DeleteAccount, EditProfile, Email, InviteCode, Name,
    ProfileChange, ReferralService, SendDeletionCode,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    api::{
        Refusals, Tag,
        accept_language::AcceptLanguage,
        auth::{SentCode, read_code, read_locale},
        bearer::{AccessToken, Authorized},
        context::{ContextObject, read_context},
        examples,
        json_body::{Body, blank_or, nullable, text},
        json_response::Json,
        personal_data::PersonalDataFile,
        timestamp::Timestamp,
        user_views::UserWithInvited,
    },
    client_ip::Client,
    error::Problem,
    error_code::ErrorCode,
};

/// Error codes of each operation, in addition to those that every operation can return.
pub(crate) const REFUSALS: &[Refusals] = &[
    ("getCurrentUser", &[]),
    ("exportCurrentUser", &[ErrorCode::NotFound]),
    (
        "updateCurrentUser",
        &[
            ErrorCode::InvalidName,
            ErrorCode::InvalidEmail,
            ErrorCode::InvalidInviteCode,
            ErrorCode::UnknownInviteCode,
            ErrorCode::OwnInviteCode,
            ErrorCode::InvitationLoop,
            ErrorCode::Conflict,
            ErrorCode::EmailTaken,
            ErrorCode::InvitationAlreadyAccepted,
            ErrorCode::InvalidContext,
            ErrorCode::RejectedByHost,
            ErrorCode::TooManyRequests,
        ],
    ),
    (
        "sendDeletionCode",
        &[
            ErrorCode::PhoneNotAllowed,
            ErrorCode::PhoneUnreachable,
            ErrorCode::TooManyRequests,
            ErrorCode::SmsNotSent,
        ],
    ),
    (
        "deleteCurrentUser",
        &[
            ErrorCode::MalformedCode,
            ErrorCode::InvalidId,
            ErrorCode::InvalidCode,
            ErrorCode::LastAdmin,
            ErrorCode::TooManyRequests,
        ],
    ),
];

/// Changes of a profile. A field that is absent does not change. `null` clears a name or the email
/// address. An inviter cannot be cleared after it was set.
#[derive(Object)]
#[oai(example)]
struct ProfilePatch {
    /// The first name, 1 to 64 characters (grapheme clusters), at most 1024 bytes in UTF-8.
    #[oai(validator(min_length = 1, max_length = 1024))]
    first_name: Option<String>,
    /// The last name, 1 to 64 characters (grapheme clusters), at most 1024 bytes in UTF-8.
    #[oai(skip_serializing_if_is_none, validator(min_length = 1, max_length = 1024))]
    last_name: Option<String>,
    /// The email address. It is stored in lower case, with the domain in its ASCII form (`xn--…`).
    #[oai(validator(min_length = 5, max_length = 254))]
    email: Option<String>,
    /// The invite code of the inviter. The inviter can be set once and cannot be changed.
    #[oai(skip_serializing_if_is_none)]
    invited_by_code: Option<String>,
    /// An object for the gate of the operator, such as the token of a captcha. At most 4096 bytes. If there
    /// is no gate, it is ignored.
    #[oai(skip_serializing_if_is_none)]
    context: Option<ContextObject>,
}

impl Example for ProfilePatch {
    fn example() -> Self {
        Self {
            first_name: Some("Anna".into()),
            last_name: None,
            email: Some("anna@example.com".into()),
            invited_by_code: None,
            context: None,
        }
    }
}

/// Request to send a code that deletes the account.
#[derive(Object)]
#[oai(example)]
struct SendDeletionCodeRequest {
    /// The language of the message, as for `POST /auth/send_code/`.
    #[oai(skip_serializing_if_is_none)]
    locale: Option<String>,
}

impl Example for SendDeletionCodeRequest {
    fn example() -> Self {
        Self { locale: None }
    }
}

/// Request to delete the account.
#[derive(Object)]
#[oai(example)]
struct DeleteAccountRequest {
    /// The code as a string of digits.
    code: String,
    /// The `challenge_id` from the response to `POST /users/current_user/deletion/send_code/`.
    challenge_id: Uuid,
}

impl Example for DeleteAccountRequest {
    fn example() -> Self {
        Self { code: "4711".into(), challenge_id: examples::CHALLENGE_ID }
    }
}

/// A deletion of the account.
#[derive(Object, Serialize)]
#[oai(example)]
struct DeletedAccount {
    /// The number of sessions that this request ended. Their tokens are no longer valid.
    ended: u64,
    /// The time at which the account is deleted unless the user signs in before. Absent if the account is deleted.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_at: Option<Timestamp>,
}

impl Example for DeletedAccount {
    fn example() -> Self {
        Self { ended: 1, deletion_at: None }
    }
}

impl From<AccountDeletion> for DeletedAccount {
    fn from(deletion: AccountDeletion) -> Self {
        Self { ended: deletion.ended_sessions, deletion_at: deletion.deletion_at.map(Timestamp) }
    }
}

pub(crate) struct AccountApi {
    pub(crate) referral: ReferralService,
}

#[OpenApi(prefix_path = "/users", tag = "Tag::Users")]
impl AccountApi {
    /// Get the current user
    ///
    /// Returns the user of the access token, with the newest invited users.
    #[oai(path = "/current_user", method = "get", operation_id = "getCurrentUser")]
    async fn current_user(
        &self,
        Authorized(token): Authorized<AccessToken>,
    ) -> Result<Json<UserWithInvited>, Problem> {
        Ok(Json(self.referral.current_user(&token.0).await?.into()))
    }

    /// Export all data of the current user
    ///
    /// Returns everything that is stored about the current user, as a file. The phones of invited users are masked
    /// as in `GET /users/current_user/`. Entries of the audit log do not have the ids of staff. After a failure, or
    /// if the user is deleted meanwhile, the connection is closed before the end of the JSON object.
    #[oai(path = "/current_user/export", method = "get", operation_id = "exportCurrentUser")]
    async fn export(
        &self,
        Authorized(current_user): Authorized<CurrentUser>,
    ) -> Result<PersonalDataFile, Problem> {
        Ok(self.referral.personal_data(&current_user).await?.into())
    }

    /// Update the current user
    ///
    /// Changes all fields of the request, or none if one of them is rejected. A user without an inviter can
    /// set it here. The inviter cannot be changed later.
    #[oai(path = "/current_user", method = "patch", operation_id = "updateCurrentUser")]
    async fn update_current_user(
        &self,
        Authorized(current_user): Authorized<CurrentUser>,
        Client(client): Client,
        AcceptLanguage(locales): AcceptLanguage,
        mut body: Body<ProfilePatch>,
    ) -> Result<Json<UserWithInvited>, Problem> {
        let fields = &mut body.fields;
        let first_name = fields.optional("first_name", nullable(text(Name::parse)));
        let last_name = fields.optional("last_name", nullable(text(Name::parse)));
        let email = fields.optional("email", nullable(text(Email::parse)));
        let invited_by_code = fields.optional("invited_by_code", text(InviteCode::parse));
        let context = fields.optional("context", read_context);
        body.fields.finish()?;

        let change = ProfileChange {
            first_name: first_name?,
            last_name: last_name?,
            email: email?,
            invited_by_code: invited_by_code?,
        };
        let edit = EditProfile::new(change).client(client).locales(locales);
        let edit = edit.context(context?.unwrap_or_default());
        Ok(Json(self.referral.edit_profile(&current_user, edit).await?.into()))
    }

    /// Send a code to delete the account
    ///
    /// Sends a one-time code to the phone of the current user. The code is valid for
    /// `DELETE /users/current_user/` only, and a code of `POST /auth/send_code/` is not valid there. Both
    /// count for the same limits.
    #[oai(path = "/current_user/deletion/send_code", method = "post", operation_id = "sendDeletionCode")]
    async fn send_deletion_code(
        &self,
        Authorized(current_user): Authorized<CurrentUser>,
        Client(client): Client,
        AcceptLanguage(accepted): AcceptLanguage,
        mut body: Body<SendDeletionCodeRequest>,
    ) -> Result<Json<SentCode>, Problem> {
        let locale = body.fields.optional("locale", blank_or(read_locale));
        body.fields.finish()?;

        let locales = locale?.flatten().flatten().map_or(accepted, |locale| vec![locale]);
        let request = SendDeletionCode::new().locales(locales).client(client);
        Ok(Json(self.referral.send_deletion_code(&current_user, request).await?.into()))
    }

    /// Delete the account
    ///
    /// Deletes all personal data and the sessions of the current user. The user is then
    /// not found, and appears in no list. The phone can sign up again as a new user. The invite code stays
    /// taken and is not accepted any more.
    ///
    /// Invitations stay: the deleted user counts in the `invited_count` of their inviter, but is not in
    /// `invited`. The users that the deleted user invited keep their `invited_by_code`.
    ///
    /// If the operator has set a grace period, the sessions end, and the response has `deletion_at`, the time at
    /// which the data are deleted. Until then, the user can sign in, which cancels the deletion, and other users
    /// see the user as before.
    #[oai(path = "/current_user", method = "delete", operation_id = "deleteCurrentUser")]
    async fn delete(
        &self,
        Authorized(current_user): Authorized<CurrentUser>,
        Client(client): Client,
        mut body: Body<DeleteAccountRequest>,
    ) -> Result<Json<DeletedAccount>, Problem> {
        let code = body.fields.required("code", read_code);
        let challenge = body.fields.required("challenge_id", text(ChallengeId::from_str));
        body.fields.finish()?;

        let request = DeleteAccount::new(challenge?, code?).client(client);
        Ok(Json(self.referral.delete_account(&current_user, request).await?.into()))
    }
}
