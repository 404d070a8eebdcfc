//! `/auth/logout` and `/auth/sessions`: where one is signed in, and signing out there.

use poem_openapi::{Object, OpenApi, param::Path, payload::Json, types::Example};
use referral_core::{Bearer, Referral, SessionId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    bearer::Authorized,
    code::Code,
    document::{Refusals, Tag},
    example,
    input::{Body, text},
    problem::Problem,
};

/// What each operation refuses, beside what any operation may.
pub(crate) const REFUSALS: &[Refusals] = &[
    ("logOut", &[Code::TokenNotValid]),
    ("listSessions", &[]),
    ("endSession", &[Code::NotFound]),
    ("endOtherSessions", &[]),
];

/// A session to be ended.
#[derive(Object)]
#[oai(example)]
struct LogOutRequest {
    /// The refresh token of the session.
    #[oai(validator(min_length = 1))]
    refresh: String,
}

impl Example for LogOutRequest {
    fn example() -> Self {
        Self { refresh: example::TOKEN.into() }
    }
}

/// Sessions have ended; their tokens are not valid any more.
#[derive(Object)]
#[oai(example)]
struct Ended {
    /// How many sessions ended by this. None, if that had happened before.
    ended: u64,
}

impl Example for Ended {
    fn example() -> Self {
        Self { ended: 1 }
    }
}

/// A session that has not ended.
#[derive(Object)]
#[oai(example)]
struct Session {
    /// The session.
    id: Uuid,
    /// Whether it is the session of the access token that was sent.
    current: bool,
    /// When it began.
    created_at: OffsetDateTime,
    /// When it was last signed in or refreshed, which happens at least once in the lifetime of an
    /// access token while it is in use.
    last_used_at: OffsetDateTime,
    /// When it ends, unless it is refreshed before.
    expires_at: OffsetDateTime,
    /// What program it was used by then, by its own account.
    user_agent: Option<String>,
    /// The address it was used from then; of IPv6 the network.
    address: Option<String>,
}

impl Example for Session {
    fn example() -> Self {
        Self {
            id: example::SESSION_ID,
            current: true,
            created_at: example::TIME,
            last_used_at: example::TIME,
            expires_at: example::TIME + time::Duration::days(30),
            user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0".into()),
            address: Some("203.0.113.9".into()),
        }
    }
}

/// The sessions of a user.
#[derive(Object)]
#[oai(example)]
struct Sessions {
    /// The sessions, newest first; 100 at most.
    results: Vec<Session>,
}

impl Example for Sessions {
    fn example() -> Self {
        Self { results: vec![Session::example()] }
    }
}

pub(crate) struct SessionsApi {
    pub(crate) referral: Referral,
}

#[OpenApi(prefix_path = "/auth", tag = "Tag::Auth")]
impl SessionsApi {
    /// Sign out
    ///
    /// Ends the session of a refresh token, which is enough when the access token has expired.
    /// Doing it again does no harm.
    #[oai(path = "/logout", method = "post", operation_id = "logOut")]
    async fn log_out(&self, mut body: Body<LogOutRequest>) -> Result<Json<Ended>, Problem> {
        let refresh = body.fields.required("refresh", text(|token| Ok(token.to_owned())));
        body.fields.finish()?;

        let ended = self.referral.sign_out(&refresh?).await?;
        Ok(Json(Ended { ended: u64::from(ended) }))
    }

    /// List your sessions
    ///
    /// Those that have not ended, newest first.
    #[oai(path = "/sessions", method = "get", operation_id = "listSessions")]
    async fn list(&self, Authorized(bearer): Authorized<Bearer>) -> Result<Json<Sessions>, Problem> {
        let sessions = self.referral.sessions(&bearer).await?;
        let shown = sessions.into_iter().map(|session| Session {
            id: session.id.0,
            current: session.id == bearer.session,
            created_at: session.created_at,
            last_used_at: session.last_used_at(),
            expires_at: session.ends_at(),
            user_agent: session.user_agent,
            address: session.address.map(|address| address.to_string()),
        });
        Ok(Json(Sessions { results: shown.collect() }))
    }

    /// End one of your sessions
    ///
    /// Its tokens are not valid any more, from now on.
    #[oai(path = "/sessions/:id", method = "delete", operation_id = "endSession")]
    async fn end(
        &self,
        Authorized(bearer): Authorized<Bearer>,
        /// The session's id.
        Path(id): Path<Uuid>,
    ) -> Result<Json<Ended>, Problem> {
        self.referral.end_session(&bearer, SessionId(id)).await?;
        Ok(Json(Ended { ended: 1 }))
    }

    /// End all your other sessions
    ///
    /// For whoever has lost a phone, or signed in somewhere and forgot to sign out.
    #[oai(path = "/sessions", method = "delete", operation_id = "endOtherSessions")]
    async fn end_others(&self, Authorized(bearer): Authorized<Bearer>) -> Result<Json<Ended>, Problem> {
        Ok(Json(Ended { ended: self.referral.end_other_sessions(&bearer).await? }))
    }
}
