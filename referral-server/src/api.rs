//! The endpoints, and what their requests and responses share.

pub(crate) mod accept_language;
pub(crate) mod account;
pub(crate) mod admin;
pub(crate) mod auth;
pub(crate) mod bearer;
mod context;
pub(crate) mod examples;
pub(crate) mod json_body;
mod json_response;
mod list_input;
pub(crate) mod pagination;
pub(crate) mod personal_data;
pub(crate) mod phone;
pub(crate) mod sessions;
pub(crate) mod texts;
mod timestamp;
mod user_views;
pub(crate) mod users;
mod verified_token;

use poem_openapi::Tags;

use self::{
    account::AccountApi,
    admin::{AdminApi, audit_log::AuditLogApi, code_requests::CodeRequestsApi},
    auth::AuthApi,
    phone::PhoneApi,
    sessions::SessionsApi,
    texts::TextsApi,
    users::UsersApi,
};
use crate::error_code::ErrorCode;

/// All groups of endpoints.
pub(crate) type Apis =
    (AuthApi, SessionsApi, AccountApi, PhoneApi, UsersApi, AdminApi, AuditLogApi, CodeRequestsApi, TextsApi);

/// The groups of operations.
#[derive(Tags)]
#[oai(rename_all = "lowercase")]
pub(crate) enum Tag {
    /// Codes, tokens and sessions.
    Auth,
    /// Users and the users that they invited.
    Users,
    /// Operations of staff.
    Admin,
    /// Texts for the users of an app.
    Texts,
}

/// Id of an operation and its error codes.
pub(crate) type Refusals = (&'static str, &'static [ErrorCode]);
