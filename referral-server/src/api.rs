//! The endpoints, and what their requests and responses share.

pub(crate) mod accept_language;
pub(crate) mod auth;
pub(crate) mod bearer;
pub(crate) mod json_body;
pub(crate) mod pagination;
pub(crate) mod sessions;
pub(crate) mod users;
