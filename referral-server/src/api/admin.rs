//! Endpoints below `/admin/`, which only staff can use.

use std::collections::BTreeMap;

use poem_openapi::{Object, OpenApi, param::Path, types::Example};
use referral_core::{CurrentUser, ExternalId, Metadata, ReferralService, UserChange, UserId};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    api::{
        Refusals, Tag,
        bearer::Authorized,
        examples,
        json_body::{Body, nullable, object, text},
        json_response::Json,
        user_views::UserWithInvited,
    },
    error::Problem,
    error_code::ErrorCode,
};

/// Error codes of each operation, in addition to those that every operation can return.
pub(crate) const REFUSALS: &[Refusals] = &[(
    "updateUser",
    &[
        ErrorCode::InvalidExternalId,
        ErrorCode::InvalidMetadata,
        ErrorCode::StaffOnly,
        ErrorCode::NotFound,
        ErrorCode::ExternalIdTaken,
    ],
)];

/// Changes of a user. A field that is absent does not change. `null` clears a field.
#[derive(Object)]
#[oai(example)]
struct UserPatch {
    /// The id of the user in your system, 1 to 255 bytes in UTF-8. It is compared exactly.
    #[oai(validator(min_length = 1, max_length = 255))]
    external_id: Option<String>,
    /// Your data about the user, which replace the current ones: an object of at most 4096 bytes, without
    /// white space between values, and with at most 32 nested objects and arrays. Numbers must be integers of
    /// 64 bits or less than 2^53.
    metadata: Option<BTreeMap<String, Value>>,
}

impl Example for UserPatch {
    fn example() -> Self {
        Self { external_id: Some(examples::EXTERNAL_ID.into()), metadata: Some(examples::metadata()) }
    }
}

pub(crate) struct AdminApi {
    pub(crate) referral: ReferralService,
}

#[OpenApi(prefix_path = "/admin", tag = "Tag::Admin")]
impl AdminApi {
    /// Update a user
    ///
    /// Changes all fields of the request, or none if one of them is rejected. Only staff can do this.
    #[oai(path = "/users/:id", method = "patch", operation_id = "updateUser")]
    async fn update_user(
        &self,
        Authorized(current_user): Authorized<CurrentUser>,
        /// The user's id.
        Path(id): Path<Uuid>,
        mut body: Body<UserPatch>,
    ) -> Result<Json<UserWithInvited>, Problem> {
        let external_id = body.fields.optional("external_id", nullable(text(ExternalId::parse)));
        let metadata = body.fields.optional("metadata", nullable(object(Metadata::new)));
        body.fields.finish()?;

        let change = UserChange {
            external_id: external_id?,
            metadata: metadata?.map(Option::unwrap_or_default),
            ..UserChange::default()
        };
        Ok(Json(self.referral.edit_user(&current_user, UserId(id), change).await?.into()))
    }
}
