//! Service with axum: the HTTP API below `/auth`, a route of its own for signed-in users, and a table of its
//! own with the points of each user. An inviter gets ten points for each invitee.
//!
//! `cargo run -p referral-examples --bin example-axum` prints the URL of Swagger UI.
#![expect(clippy::print_stdout, reason = "the program prints its address")]

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use axum::{
    Router,
    extract::{FromRef, FromRequestParts, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use referral_core::{
    CurrentUser, Error, Invitation, ReferralService, User, UserId, sms::DevelopmentSender, storage::BoxError,
};
use referral_examples::{AnyError, Arguments, open_with};
use referral_server::{AppOptions, TowerService, app};
use referral_sqlx::{SqliteOptions, SqliteStorage, TransactionHook};
use sqlx::{Executor as _, Sqlite, SqliteConnection, SqlitePool};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let arguments = Arguments::parse()?;
    let mut storage = SqliteOptions::default();
    storage.hook = Some(Arc::new(Rewards));
    // The storage creates the file, so that only its owner can read it.
    let storage = SqliteStorage::connect(&arguments.database_url(), &storage).await?;
    let pool = SqlitePool::connect(&arguments.database_url()).await?;
    pool.execute(PROFILES).await?;
    let referral = open_with(&arguments, Arc::new(storage), Arc::new(DevelopmentSender)).await?;

    let mut options = AppOptions::default();
    // The development sender returns codes in responses, so requests for other hosts are rejected.
    options.loopback_hosts_only = true;
    let api = TowerService::new(app(referral.clone(), options));
    let host = Host { referral, pool };
    let router = Router::new().route("/hello", get(hello)).with_state(host).nest_service("/auth", api);

    let listener = TcpListener::bind(arguments.address).await?;
    println!("http://{}/auth/docs/", listener.local_addr()?);
    // The limits per address need the connection information.
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

/// State of the routes of this service.
#[derive(Clone)]
struct Host {
    referral: ReferralService,
    pool: SqlitePool,
}

impl FromRef<Host> for ReferralService {
    fn from_ref(host: &Host) -> Self {
        host.referral.clone()
    }
}

/// Responds to signed-in users only.
async fn hello(SignedIn(current): SignedIn, State(host): State<Host>) -> Result<String, StatusCode> {
    let user = current.user;
    let points = points_of(user.id, &host.pool).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(format!("Hello, {}! You have {points} points.", user.phone.as_str()))
}

/// Table of this service. The id is the one of the user.
const PROFILES: &str = "CREATE TABLE IF NOT EXISTS profiles (
    user_id BLOB NOT NULL PRIMARY KEY REFERENCES referral_users (id),
    points INTEGER NOT NULL
) STRICT";

/// Returns the points of a user. A user of an earlier version of this service has no profile.
async fn points_of(user: UserId, pool: &SqlitePool) -> sqlx::Result<i64> {
    let points = sqlx::query_scalar("SELECT points FROM profiles WHERE user_id = $1").bind(user.0);
    Ok(points.fetch_optional(pool).await?.unwrap_or(0))
}

/// Writes profiles in the transaction of the sign-in, so that no profile or reward is lost or added twice.
struct Rewards;

#[async_trait]
impl TransactionHook<Sqlite> for Rewards {
    async fn user_created(&self, connection: &mut SqliteConnection, user: &User) -> Result<(), BoxError> {
        let profile = sqlx::query("INSERT INTO profiles (user_id, points) VALUES ($1, 0)").bind(user.id.0);
        profile.execute(connection).await?;
        Ok(())
    }

    async fn invitation_accepted(
        &self,
        connection: &mut SqliteConnection,
        invitation: &Invitation,
    ) -> Result<(), BoxError> {
        let reward = sqlx::query(
            "INSERT INTO profiles (user_id, points) VALUES ($1, 10)
            ON CONFLICT (user_id) DO UPDATE SET points = points + 10",
        );
        reward.bind(invitation.inviter.0).execute(connection).await?;
        Ok(())
    }
}

/// Extractor of the user and the session of the access token in the header `Authorization`.
struct SignedIn(CurrentUser);

impl<S> FromRequestParts<S> for SignedIn
where
    ReferralService: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let value = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let scheme_and_token = value.and_then(|value| value.split_once(' '));
        let Some((_, token)) = scheme_and_token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        else {
            return Err(unauthorized());
        };
        let referral = ReferralService::from_ref(state);
        referral.authenticate(token.trim()).await.map(Self).map_err(|error| match error {
            Error::Refused(_) => unauthorized(),
            // The storage is not available.
            _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        })
    }
}

fn unauthorized() -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response()
}
