//! Endpoint `/admin/audit_log/`.

use std::str::FromStr;

use poem::Request;
use poem_openapi::{OpenApi, param::Query};
use referral_core::{
    Administration, InvalidInput, PageLink, UserId,
    audit::{Actor, AuditAction, AuditEntryId, AuditQuery},
};

use super::views::{AuditEntry, AuditEntryPage};
use crate::{
    api::{Refusals, Tag, bearer::Authorized, json_response::Json, list_input::page_size, pagination::Links},
    error::Problem,
    error_code::ErrorCode,
};

/// Error codes of each operation, in addition to those that every operation can return.
pub(crate) const REFUSALS: &[Refusals] = &[(
    "listAuditLog",
    &[
        ErrorCode::InvalidLimit,
        ErrorCode::InvalidCursor,
        ErrorCode::InvalidId,
        ErrorCode::InvalidAction,
        ErrorCode::StaffOnly,
    ],
)];

/// Value of the parameter `actor` for the host.
const HOST: &str = "host";

pub(crate) struct AuditLogApi {
    pub(crate) links: Links,
}

#[OpenApi(prefix_path = "/admin", tag = "Tag::Admin")]
impl AuditLogApi {
    /// List the audit log
    ///
    /// Lists the changes by staff and by commands of the server, and the changes that users made with a code,
    /// newest first. Entries about a deleted user have no `reason` and no `changes`, except the entry about the
    /// deletion, which has its reason.
    #[oai(path = "/audit_log", method = "get", operation_id = "listAuditLog")]
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the query")]
    async fn list(
        &self,
        Authorized(staff): Authorized<Administration>,
        /// The id of the user that was changed.
        Query(user): Query<Option<String>>,
        /// The id of the user that made the change, or `host` for commands of the server.
        Query(actor): Query<Option<String>>,
        /// The kind of change: `user_added`, `user_changed`, `phone_changed`, `deletion_scheduled`, `deletion_canceled`,
        /// `user_deleted`, `sessions_ended`, `phone_unlocked` or `data_exported`.
        Query(action): Query<Option<String>>,
        /// The number of entries per page. Default: 10.
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
        Query(limit): Query<Option<u32>>,
        /// The cursor of a page, from a URL in `next`.
        Query(cursor): Query<Option<String>>,
        request: &Request,
    ) -> Result<Json<AuditEntryPage>, Problem> {
        let query = AuditQuery::new()
            .user(read("user", user, UserId::from_str)?)
            .actor(read("actor", actor, parse_actor)?)
            .action(read("action", action, AuditAction::from_str)?)
            .older_than(read("cursor", cursor, parse_cursor)?)
            .limit(page_size(limit)?);
        let page = staff.audit_log(&query).await?;
        let last = page.entries.last().filter(|_| page.has_more).map(|entry| entry.id.to_string());
        Ok(Json(AuditEntryPage {
            next: last.map(|id| self.links.to(request, &PageLink::Cursor(id))),
            results: page.entries.into_iter().map(AuditEntry::from).collect(),
        }))
    }
}

fn parse_actor(actor: &str) -> Result<Actor, InvalidInput> {
    if actor == HOST { Ok(Actor::Host) } else { actor.parse().map(Actor::User) }
}

fn parse_cursor(cursor: &str) -> Result<AuditEntryId, InvalidInput> {
    cursor.parse().map_err(|_: InvalidInput| referral_core::ErrorCode::InvalidCursor.into())
}

/// Parses a parameter of the query. An empty value counts as absent.
fn read<T>(
    name: &str,
    value: Option<String>,
    parse: impl FnOnce(&str) -> Result<T, InvalidInput>,
) -> Result<Option<T>, Problem> {
    let value = value.filter(|value| !value.is_empty());
    value.map(|value| parse(&value)).transpose().map_err(|invalid| Problem::of_field(name, invalid))
}
