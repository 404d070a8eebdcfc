//! Endpoints `/auth/logout` and `/auth/sessions`, which list and end sessions.

use poem_openapi::{Object, OpenApi, param::Path, types::Example};
use referral_core::{CurrentUser, ReferralService, SessionId};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    api::{
        Refusals, Tag,
        bearer::Authorized,
        examples,
        json_body::{Body, token},
        json_response::Json,
        timestamp::Timestamp,
    },
    error::Problem,
    error_code::ErrorCode,
};

/// Error codes of each operation, in addition to those that every operation can return.
pub(crate) const REFUSALS: &[Refusals] = &[
    ("logOut", &[ErrorCode::TokenNotValid]),
    ("listSessions", &[]),
    ("endSession", &[ErrorCode::NotFound]),
    ("endOtherSessions", &[]),
];

/// Request to end a session.
#[derive(Object)]
#[oai(example)]
struct LogOutRequest {
    /// The refresh token of the session.
    #[oai(validator(min_length = 1))]
    refresh: String,
}

impl Example for LogOutRequest {
    fn example() -> Self {
        Self { refresh: examples::TOKEN.into() }
    }
}

/// Number of sessions that were ended. Their tokens are no longer valid.
#[derive(Object, Serialize)]
#[oai(example)]
pub(super) struct Ended {
    /// The number of sessions that this request ended. 0 if they had ended before.
    pub(super) ended: u64,
}

impl Example for Ended {
    fn example() -> Self {
        Self { ended: 1 }
    }
}

/// A session that has not ended.
#[derive(Object, Serialize)]
#[oai(example)]
pub(super) struct Session {
    /// The id of the session.
    id: Uuid,
    /// `true` for the session of the access token in the request.
    current: bool,
    /// The time at which the session was created.
    created_at: Timestamp,
    /// The time of the sign-in or of the last refresh. A session in use is refreshed at least once in the
    /// lifetime of an access token.
    last_used_at: Timestamp,
    /// The time at which the session ends if it is not refreshed before.
    expires_at: Timestamp,
    /// The `User-Agent` header of the client at `last_used_at`. Clients can send any value.
    user_agent: Option<String>,
    /// The address of the client at `last_used_at`. For IPv6 it is the network.
    address: Option<String>,
}

impl Example for Session {
    fn example() -> Self {
        Self {
            id: examples::SESSION_ID,
            current: true,
            created_at: examples::TIME,
            last_used_at: examples::TIME,
            expires_at: (examples::TIME.0 + time::Duration::days(30)).into(),
            user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0".into()),
            address: Some("203.0.113.9".into()),
        }
    }
}

/// The sessions of a user.
#[derive(Object, Serialize)]
#[oai(example)]
pub(super) struct Sessions {
    /// The sessions, newest first. At most 100.
    results: Vec<Session>,
}

impl Example for Sessions {
    fn example() -> Self {
        Self { results: vec![Session::example()] }
    }
}

pub(crate) struct SessionsApi {
    pub(crate) referral: ReferralService,
}

#[OpenApi(prefix_path = "/auth", tag = "Tag::Auth")]
impl SessionsApi {
    /// Sign out
    ///
    /// Ends the session of a refresh token. An access token is not required, so this works after it has
    /// expired. A repeated request succeeds and changes nothing.
    #[oai(path = "/logout", method = "post", operation_id = "logOut")]
    async fn log_out(&self, mut body: Body<LogOutRequest>) -> Result<Json<Ended>, Problem> {
        let refresh = body.fields.required("refresh", token);
        body.fields.finish()?;

        let ended = self.referral.sign_out(&refresh?).await?;
        Ok(Json(Ended { ended: u64::from(ended) }))
    }

    /// List your sessions
    ///
    /// Lists the sessions that have not ended, newest first.
    #[oai(path = "/sessions", method = "get", operation_id = "listSessions")]
    async fn list(
        &self,
        Authorized(current_user): Authorized<CurrentUser>,
    ) -> Result<Json<Sessions>, Problem> {
        let sessions = self.referral.sessions(&current_user).await?;
        let shown = sessions.into_iter().map(|session| Session {
            id: session.id.0,
            current: session.id == current_user.session,
            created_at: session.created_at.into(),
            last_used_at: session.last_used_at().into(),
            expires_at: session.ends_at().into(),
            user_agent: session.user_agent,
            address: session.address.map(|address| address.to_string()),
        });
        Ok(Json(Sessions { results: shown.collect() }))
    }

    /// End one of your sessions
    ///
    /// Ends the session immediately. Its tokens are no longer valid.
    #[oai(path = "/sessions/:id", method = "delete", operation_id = "endSession")]
    async fn end(
        &self,
        Authorized(current_user): Authorized<CurrentUser>,
        /// The session's id.
        Path(id): Path<Uuid>,
    ) -> Result<Json<Ended>, Problem> {
        self.referral.end_session(&current_user, SessionId(id)).await?;
        Ok(Json(Ended { ended: 1 }))
    }

    /// End all your other sessions
    ///
    /// Ends all sessions except the current one, for example after a device was lost.
    #[oai(path = "/sessions", method = "delete", operation_id = "endOtherSessions")]
    async fn end_others(
        &self,
        Authorized(current_user): Authorized<CurrentUser>,
    ) -> Result<Json<Ended>, Problem> {
        Ok(Json(Ended { ended: self.referral.end_other_sessions(&current_user).await? }))
    }
}
