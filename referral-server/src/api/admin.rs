//! Endpoints below `/admin/`, which only staff can use.

pub(crate) mod audit_log;
pub(crate) mod code_requests;
pub(crate) mod views;

use std::{collections::BTreeMap, str::FromStr};

use poem::Request;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    types::Example,
};
use referral_core::{
    Administration, Email, ExternalId, FilterInput, InviteCode, ListUsers, Metadata, Name, PhoneNumber,
    ReferralService, StaffRole, UserChange, UserId, audit::Reason,
};
use serde_json::Value;
use uuid::Uuid;

use self::views::{AdminUser, AdminUserDetails, AdminUserPage, AuditEntry};
use crate::{
    api::{
        Refusals, Tag,
        bearer::Authorized,
        examples,
        json_body::{Body, boolean, null, nullable, object, text},
        json_response::Json,
        list_input::{check_texts, page_size},
        pagination::Links,
        personal_data::PersonalDataFile,
        sessions::Ended,
    },
    error::Problem,
    error_code::ErrorCode,
};

/// Error codes of each operation, in addition to those that every operation can return.
pub(crate) const REFUSALS: &[Refusals] = &[
    (
        "findUsers",
        &[
            ErrorCode::InvalidLimit,
            ErrorCode::InvalidCursor,
            ErrorCode::InvalidText,
            ErrorCode::InvalidSearch,
            ErrorCode::SearchTooBroad,
            ErrorCode::StaffOnly,
        ],
    ),
    ("getUserDetails", &[ErrorCode::StaffOnly, ErrorCode::NotFound]),
    (
        "updateUser",
        &[
            ErrorCode::InvalidPhone,
            ErrorCode::InvalidName,
            ErrorCode::InvalidEmail,
            ErrorCode::InvalidInviteCode,
            ErrorCode::InvalidRole,
            ErrorCode::InvalidExternalId,
            ErrorCode::InvalidMetadata,
            ErrorCode::InvalidReason,
            ErrorCode::UnknownInviteCode,
            ErrorCode::OwnInviteCode,
            ErrorCode::InvitationLoop,
            ErrorCode::StaffOnly,
            ErrorCode::AdminOnly,
            ErrorCode::NotFound,
            ErrorCode::PhoneTaken,
            ErrorCode::EmailTaken,
            ErrorCode::ExternalIdTaken,
            ErrorCode::LastAdmin,
            ErrorCode::TestNumber,
        ],
    ),
    (
        "deleteUser",
        &[
            ErrorCode::InvalidReason,
            ErrorCode::StaffOnly,
            ErrorCode::AdminOnly,
            ErrorCode::NotFound,
            ErrorCode::LastAdmin,
        ],
    ),
    (
        "endUserSessions",
        &[ErrorCode::InvalidReason, ErrorCode::StaffOnly, ErrorCode::AdminOnly, ErrorCode::NotFound],
    ),
    (
        "exportUser",
        &[ErrorCode::InvalidReason, ErrorCode::StaffOnly, ErrorCode::AdminOnly, ErrorCode::NotFound],
    ),
    (
        "unlockPhone",
        &[ErrorCode::InvalidPhone, ErrorCode::InvalidReason, ErrorCode::StaffOnly, ErrorCode::AdminOnly],
    ),
];

/// Changes of a user. A field that is absent does not change. `null` clears a field.
#[derive(Object)]
#[oai(example)]
struct UserPatch {
    /// The reason of the change, for the audit log. 1 to 500 characters.
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
    /// The phone, in any form. `null` detaches the phone: the account stays, and no sign-in to it is possible. Both
    /// end all sessions. A phone of another user must be detached from that user before.
    #[oai(skip_serializing_if_is_none, validator(min_length = 1, max_length = 32))]
    phone: Option<String>,
    /// The first name, 1 to 64 characters (grapheme clusters), at most 1024 bytes in UTF-8.
    #[oai(skip_serializing_if_is_none, validator(min_length = 1, max_length = 1024))]
    first_name: Option<String>,
    /// The last name, 1 to 64 characters (grapheme clusters), at most 1024 bytes in UTF-8.
    #[oai(skip_serializing_if_is_none, validator(min_length = 1, max_length = 1024))]
    last_name: Option<String>,
    /// The email address. It is stored in lower case, with the domain in its ASCII form (`xn--…`).
    #[oai(skip_serializing_if_is_none, validator(min_length = 5, max_length = 254))]
    email: Option<String>,
    /// The invite code of the inviter, which replaces the current inviter. `null` removes the inviter.
    #[oai(skip_serializing_if_is_none)]
    invited_by_code: Option<String>,
    /// `false` blocks the user: all sessions end, and a correct code is rejected with `user_inactive`.
    #[oai(skip_serializing_if_is_none)]
    is_active: Option<bool>,
    /// The role: `support` or `admin`. `null` removes it. Additional rights end the sessions of the user.
    #[oai(skip_serializing_if_is_none)]
    staff_role: Option<String>,
    /// The id of the user in your system, 1 to 255 bytes in UTF-8. It is compared exactly.
    #[oai(validator(min_length = 1, max_length = 255))]
    external_id: Option<String>,
    /// Your data about the user, which replace the current ones: an object of at most 4096 bytes, without
    /// white space between values, and with at most 32 nested objects and arrays. Numbers must be integers of
    /// 64 bits or less than 2^53.
    metadata: Option<BTreeMap<String, Value>>,
    /// Only `null`, which cancels the deletion that the user has scheduled.
    #[oai(skip_serializing_if_is_none)]
    deletion_at: Option<String>,
}

impl Example for UserPatch {
    fn example() -> Self {
        Self {
            reason: examples::REASON.into(),
            phone: None,
            first_name: None,
            last_name: None,
            email: None,
            invited_by_code: None,
            is_active: None,
            staff_role: None,
            external_id: Some(examples::EXTERNAL_ID.into()),
            metadata: Some(examples::metadata()),
            deletion_at: None,
        }
    }
}

/// Reason of an operation.
#[derive(Object)]
#[oai(example)]
struct ReasonRequest {
    /// The reason, for the audit log. 1 to 500 characters.
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
}

impl Example for ReasonRequest {
    fn example() -> Self {
        Self { reason: examples::REASON.into() }
    }
}

/// Request to unlock a phone.
#[derive(Object)]
#[oai(example)]
struct UnlockPhoneRequest {
    /// The phone, in any form.
    phone: String,
    /// The reason, for the audit log. 1 to 500 characters.
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
}

impl Example for UnlockPhoneRequest {
    fn example() -> Self {
        Self { phone: examples::PHONE.into(), reason: examples::REASON.into() }
    }
}

pub(crate) struct AdminApi {
    pub(crate) referral: ReferralService,
    pub(crate) links: Links,
}

#[OpenApi(prefix_path = "/admin", tag = "Tag::Admin")]
impl AdminApi {
    /// Find users
    ///
    /// Lists users, newest first. A search finds users by their phone in any form, email address, names,
    /// invite code, inviter's code, id, and external id. See `GET /users/` for the search terms. If no user has a
    /// searched phone, the users who had it and lost it are returned.
    #[oai(path = "/users", method = "get", operation_id = "findUsers")]
    async fn find(
        &self,
        Authorized(staff): Authorized<Administration>,
        /// The search terms, separated by spaces.
        Query(search): Query<Option<String>>,
        /// The number of users per page. Default: 10.
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
        Query(limit): Query<Option<u32>>,
        /// The cursor of a page, from a URL in `next` or `previous`.
        Query(cursor): Query<Option<String>>,
        request: &Request,
    ) -> Result<Json<AdminUserPage>, Problem> {
        let filter = FilterInput { search: search.as_deref(), ..FilterInput::default() };
        check_texts(&filter)?;
        let list = ListUsers { limit: page_size(limit)?, offset: None, cursor: cursor.as_deref(), filter };
        let page = staff.find_users(list).await?;
        Ok(Json(AdminUserPage {
            count: page.count,
            count_exact: page.count_exact,
            next: page.next.map(|link| self.links.to(request, &link)),
            previous: page.previous.map(|link| self.links.to(request, &link)),
            results: page.items.into_iter().map(AdminUser::from).collect(),
        }))
    }

    /// Get a user with all details
    ///
    /// Returns a user with the inviter, the newest invited users, the sessions, and the users who had the phone
    /// before.
    #[oai(path = "/users/:id", method = "get", operation_id = "getUserDetails")]
    async fn get(
        &self,
        Authorized(staff): Authorized<Administration>,
        /// The user's id.
        Path(id): Path<Uuid>,
    ) -> Result<Json<AdminUserDetails>, Problem> {
        Ok(Json(staff.user(UserId(id)).await?.into()))
    }

    /// Update a user
    ///
    /// Changes all fields of the request, or none if one of them is rejected. Only admins can do this. Other
    /// than in `PATCH /users/current_user/`, the inviter can be replaced and removed.
    #[oai(path = "/users/:id", method = "patch", operation_id = "updateUser")]
    async fn update_user(
        &self,
        Authorized(staff): Authorized<Administration>,
        /// The user's id.
        Path(id): Path<Uuid>,
        mut body: Body<UserPatch>,
    ) -> Result<Json<AdminUserDetails>, Problem> {
        let fields = &mut body.fields;
        let reason = fields.required("reason", text(Reason::parse));
        let read_phone = |phone: &str| -> Result<PhoneNumber, _> { self.referral.parse_phone(phone) };
        let phone = fields.optional("phone", nullable(text(read_phone)));
        let first_name = fields.optional("first_name", nullable(text(Name::parse)));
        let last_name = fields.optional("last_name", nullable(text(Name::parse)));
        let email = fields.optional("email", nullable(text(Email::parse)));
        let invited_by_code = fields.optional("invited_by_code", nullable(text(InviteCode::parse)));
        let is_active = fields.optional("is_active", boolean);
        let staff_role = fields.optional("staff_role", nullable(text(StaffRole::from_str)));
        let external_id = fields.optional("external_id", nullable(text(ExternalId::parse)));
        let metadata = fields.optional("metadata", nullable(object(Metadata::new)));
        let deletion_at = fields.optional("deletion_at", null);
        body.fields.finish()?;

        let change = UserChange {
            phone: phone?,
            first_name: first_name?,
            last_name: last_name?,
            email: email?,
            invited_by_code: invited_by_code?,
            is_active: is_active?,
            staff_role: staff_role?,
            external_id: external_id?,
            metadata: metadata?.map(Option::unwrap_or_default),
            cancels_deletion: deletion_at?.is_some(),
        };
        staff.change_user(UserId(id), change, reason?).await?;
        Ok(Json(staff.user(UserId(id)).await?.into()))
    }

    /// Delete a user
    ///
    /// Deletes all personal data and the sessions of a user, as `DELETE /users/current_user/` does. Only admins
    /// can do this. The reason stays in the audit log, so it must not contain personal data.
    #[oai(path = "/users/:id", method = "delete", operation_id = "deleteUser")]
    async fn delete(
        &self,
        Authorized(staff): Authorized<Administration>,
        /// The user's id.
        Path(id): Path<Uuid>,
        mut body: Body<ReasonRequest>,
    ) -> Result<Json<AdminUser>, Problem> {
        let reason = body.fields.required("reason", text(Reason::parse));
        body.fields.finish()?;

        Ok(Json(staff.delete_user(UserId(id), reason?).await?.into()))
    }

    /// End all sessions of a user
    ///
    /// The tokens of all sessions are no longer valid.
    #[oai(path = "/users/:id/sessions", method = "delete", operation_id = "endUserSessions")]
    async fn end_sessions(
        &self,
        Authorized(staff): Authorized<Administration>,
        /// The user's id.
        Path(id): Path<Uuid>,
        mut body: Body<ReasonRequest>,
    ) -> Result<Json<Ended>, Problem> {
        let reason = body.fields.required("reason", text(Reason::parse));
        body.fields.finish()?;

        Ok(Json(Ended { ended: staff.end_sessions(UserId(id), reason?).await? }))
    }

    /// Export all data of a user
    ///
    /// Returns everything that is stored about a user, as a file. Only admins can do this. The entry in the audit
    /// log is written before the first byte is sent. After a failure, or if the user is deleted meanwhile, the
    /// connection is closed before the end of the JSON object.
    #[oai(path = "/users/:id/export", method = "post", operation_id = "exportUser")]
    async fn export(
        &self,
        Authorized(staff): Authorized<Administration>,
        /// The user's id.
        Path(id): Path<Uuid>,
        mut body: Body<ReasonRequest>,
    ) -> Result<PersonalDataFile, Problem> {
        let reason = body.fields.required("reason", text(Reason::parse));
        body.fields.finish()?;

        Ok(staff.personal_data(UserId(id), reason?).await?.into())
    }

    /// Unlock a phone
    ///
    /// Resets the counters of a phone: its codes, wrong codes, unknown invite codes and changes of the email
    /// address. The limits of addresses and number ranges still apply.
    #[oai(path = "/phones/unlock", method = "post", operation_id = "unlockPhone")]
    async fn unlock_phone(
        &self,
        Authorized(staff): Authorized<Administration>,
        mut body: Body<UnlockPhoneRequest>,
    ) -> Result<Json<AuditEntry>, Problem> {
        let read = |phone: &str| -> Result<PhoneNumber, _> { self.referral.parse_phone(phone) };
        let phone = body.fields.required("phone", text(read));
        let reason = body.fields.required("reason", text(Reason::parse));
        body.fields.finish()?;

        Ok(Json(staff.unlock_phone(phone?, reason?).await?.into()))
    }
}
