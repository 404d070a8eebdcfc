//! Values that the examples in the OpenAPI document share, so that all examples describe the same two users.
//! The types of requests and responses in [`auth`](super::auth), [`phone`](super::phone),
//! [`sessions`](super::sessions), [`users`](super::users), [`admin`](super::admin) and
//! [`user_views`](super::user_views) have examples with these values, and `openapi.rs` has those of the
//! errors.

use std::collections::BTreeMap;

use serde_json::Value;
use time::macros::datetime;
use uuid::{Uuid, uuid};

use super::timestamp::Timestamp;

pub(crate) const PHONE: &str = "+79608543017";
pub(crate) const NEW_PHONE: &str = "+79608543099";
pub(crate) const FRIENDS_PHONE: &str = "+77011234567";
pub(crate) const INVITE_CODE: &str = "K7M2QX";
pub(crate) const FRIENDS_INVITE_CODE: &str = "W4DH9T";
pub(crate) const EXTERNAL_ID: &str = "customer-4711";
pub(crate) const USER_ID: Uuid = uuid!("019aad7e-52a0-7c1f-8b3a-6f2d94e1c5b7");
pub(crate) const FRIENDS_ID: Uuid = uuid!("019aad7f-0c44-7e90-a1d2-3b4c5d6e7f80");
pub(crate) const CHALLENGE_ID: Uuid = uuid!("019aad7e-1f3b-7a52-9c4e-8d7f6a5b4c3d");
pub(crate) const SESSION_ID: Uuid = uuid!("019aad7e-52a1-7b04-8e6f-1a2b3c4d5e6f");
pub(crate) const AUDIT_ENTRY_ID: Uuid = uuid!("019aad80-11c2-7d3e-9f4a-5b6c7d8e9fa0");
pub(crate) const REASON: &str = "Requested in ticket 4711";
pub(crate) const TIME: Timestamp = Timestamp(datetime!(2026-11-22 10:15:30.123456 UTC));
pub(crate) const TOKEN: &str =
    "eyJ0eXAiOiJKV1QiLCJhbGciOiJFZERTQSIsImtpZCI6ImsxIn0.eyJpc3MiOiJyZWZlcnJhbCJ9.c2lnbmF0dXJl";

/// Returns the data of the host about the user.
pub(crate) fn metadata() -> BTreeMap<String, Value> {
    BTreeMap::from([("plan".to_owned(), "gold".into())])
}
