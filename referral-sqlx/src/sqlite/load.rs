//! Reading what is asked for, and the facts that the core's rules decide on.

use referral_core::{
    Challenge, Email, InviteCode, Invitee, Inviter, Lineage, PageSize, PhoneNumber, Session, SessionId, User,
    UserId, UserWithInvited,
    storage::{
        ChallengeFacts, FoundInvitees, KnownKey, ProfileEdit, ProfileFacts, Result, SignInFacts,
        SignInRequest, StoredSession,
    },
};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{rows, statements};
use crate::error::failure;

pub(super) async fn challenge_facts(
    connection: &mut SqliteConnection,
    phone: &PhoneNumber,
) -> Result<ChallengeFacts> {
    let facts = sqlx::query(statements::CHALLENGE_FACTS).bind(phone.as_str());
    let row = facts.fetch_one(connection).await.map_err(failure)?;
    Ok(ChallengeFacts {
        last_sent_at: rows::optional_time(&row, "last_sent_at")?,
        last_login: rows::optional_time(&row, "last_login")?,
    })
}

/// All but the lineage.
pub(super) async fn sign_in_facts(
    connection: &mut SqliteConnection,
    request: &SignInRequest,
) -> Result<SignInFacts> {
    Ok(SignInFacts {
        challenge: challenge(connection, request).await?,
        user: user_with_phone(connection, &request.phone).await?,
        inviter: owner_of_code(connection, request.invite_code.as_ref()).await?,
        lineage: Lineage::NotWalked,
    })
}

/// All but the lineage; `None` if there is no such user.
pub(super) async fn profile_facts(
    connection: &mut SqliteConnection,
    edit: &ProfileEdit,
) -> Result<Option<ProfileFacts>> {
    let Some(user) = user(connection, edit.user).await? else {
        return Ok(None);
    };
    let email = edit.change.email.as_ref().and_then(Option::as_ref);
    Ok(Some(ProfileFacts {
        user,
        email_owner: owner_of_email(connection, email).await?,
        inviter: owner_of_code(connection, edit.change.invited_by_code.as_ref()).await?,
        lineage: Lineage::NotWalked,
    }))
}

/// Walks from `inviter` up to the first inviter. Whoever asks must be in a transaction that
/// writes, since nobody may become an inviter meanwhile.
pub(super) async fn lineage(
    connection: &mut SqliteConnection,
    inviter: UserId,
    invitee: UserId,
) -> Result<Lineage> {
    let has_invitee = sqlx::query_scalar(statements::LINEAGE_HAS).bind(inviter.0).bind(invitee.0);
    let has_invitee: bool = has_invitee.fetch_one(connection).await.map_err(failure)?;
    Ok(if has_invitee { Lineage::WithInvitee } else { Lineage::WithoutInvitee })
}

/// A session with its user, whose invitees are left out.
pub(super) async fn session(
    connection: &mut SqliteConnection,
    id: SessionId,
) -> Result<Option<StoredSession>> {
    let found = sqlx::query(statements::SESSION).bind(id.0).fetch_optional(connection).await;
    let Some(row) = found.map_err(failure)? else {
        return Ok(None);
    };
    let user = UserWithInvited { user: rows::user(&row)?, invited: Vec::new() };
    Ok(Some(StoredSession { session: rows::session(&row)?, user }))
}

/// A session, and whether its user is active.
pub(super) async fn refresh_facts(
    connection: &mut SqliteConnection,
    id: SessionId,
) -> Result<Option<(Session, bool)>> {
    let found = sqlx::query(statements::REFRESH_FACTS).bind(id.0).fetch_optional(connection).await;
    let row = found.map_err(failure)?;
    row.map(|row| Ok((rows::session(&row)?, rows::get(&row, "is_active")?))).transpose()
}

pub(super) async fn user(connection: &mut SqliteConnection, id: UserId) -> Result<Option<User>> {
    let found = sqlx::query(statements::USER).bind(id.0).fetch_optional(connection).await;
    found.map_err(failure)?.as_ref().map(rows::user).transpose()
}

pub(super) async fn user_with_phone(
    connection: &mut SqliteConnection,
    phone: &PhoneNumber,
) -> Result<Option<User>> {
    let found = sqlx::query(statements::USER_WITH_PHONE).bind(phone.as_str());
    let found = found.fetch_optional(connection).await.map_err(failure)?;
    found.as_ref().map(rows::user).transpose()
}

/// The newest invitees of `inviter` that are older than `older_than`.
pub(super) async fn invitees(
    connection: &mut SqliteConnection,
    inviter: UserId,
    older_than: Option<UserId>,
    limit: u32,
) -> Result<Vec<Invitee>> {
    let older_than = older_than.map_or(Uuid::max(), |id| id.0);
    let found = sqlx::query(statements::INVITEES).bind(inviter.0).bind(older_than).bind(limit);
    let found = found.fetch_all(connection).await.map_err(failure)?;
    found.iter().map(rows::invitee).collect()
}

/// A page of invitees; `None` if there is no such inviter.
pub(super) async fn page_of_invitees(
    connection: &mut SqliteConnection,
    inviter: UserId,
    older_than: Option<UserId>,
    limit: PageSize,
) -> Result<Option<FoundInvitees>> {
    let count = sqlx::query(statements::INVITED_COUNT).bind(inviter.0).fetch_optional(&mut *connection).await;
    let Some(row) = count.map_err(failure)? else {
        return Ok(None);
    };
    // One more than fits tells whether there is more.
    let limit = limit.get();
    let mut invitees = invitees(connection, inviter, older_than, limit + 1).await?;
    let has_more = invitees.len() > limit as usize;
    invitees.truncate(limit as usize);
    Ok(Some(FoundInvitees { invitees, has_more, count: rows::number(&row, "invited_count")? }))
}

pub(super) async fn known_keys(connection: &mut SqliteConnection) -> Result<Vec<KnownKey>> {
    let known = sqlx::query(statements::KNOWN_KEYS).fetch_all(connection).await.map_err(failure)?;
    known.iter().map(rows::known_key).collect()
}

async fn challenge(connection: &mut SqliteConnection, request: &SignInRequest) -> Result<Option<Challenge>> {
    let phone = request.phone.as_str();
    let found = match request.challenge {
        Some(id) => sqlx::query(statements::CHALLENGE).bind(id.0).bind(phone),
        None => sqlx::query(statements::NEWEST_CHALLENGE).bind(phone),
    };
    let found = found.fetch_optional(connection).await.map_err(failure)?;
    found.as_ref().map(|row| rows::challenge(row, &request.phone)).transpose()
}

async fn owner_of_code(
    connection: &mut SqliteConnection,
    code: Option<&InviteCode>,
) -> Result<Option<Inviter>> {
    let Some(code) = code else {
        return Ok(None);
    };
    let owner = sqlx::query_scalar(statements::OWNER_OF_CODE).bind(code.as_str());
    let owner = owner.fetch_optional(connection).await.map_err(failure)?;
    Ok(owner.map(|id| Inviter { id: UserId(id), code: code.clone() }))
}

async fn owner_of_email(connection: &mut SqliteConnection, email: Option<&Email>) -> Result<Option<UserId>> {
    let Some(email) = email else {
        return Ok(None);
    };
    let owner = sqlx::query_scalar(statements::OWNER_OF_EMAIL).bind(email.as_str());
    Ok(owner.fetch_optional(connection).await.map_err(failure)?.map(UserId))
}
