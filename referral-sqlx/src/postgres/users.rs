//! Users: reading one and its invitees, and adding one.

use referral_core::{
    ExternalId, PageSize, PhoneNumber, StaffRole, User, UserId,
    storage::{DetachedPhone, Invitee, Result, SearchKeys, StoredPage, UserWithInvited},
};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{
    deletion::{DELETE_SEARCH_KEYS, DELETE_SESSIONS},
    lease::{AnyLease, Lease},
    rows,
    write::{Values, Write},
};
use crate::{
    error::failure,
    rows::invitee_columns,
    search_index::{self, Ngram},
};

/// Number of invitees of the user `u`.
macro_rules! invited_count {
    () => {
        "CASE WHEN u.invited_count < 100 THEN u.invited_count ELSE u.invited_count + \
         coalesce((SELECT sum(count) FROM referral.invited_counts WHERE inviter = u.id), 0)::bigint END"
    };
}

/// Columns of a user `u` with the invitation `i`.
macro_rules! user_columns {
    () => {
        $crate::rows::user_columns!($crate::postgres::users::invited_count!())
    };
}

/// Column with the owner of the external id `$id`.
macro_rules! external_id_owner {
    ($id:literal) => {
        concat!("(SELECT id FROM referral.users WHERE external_id = ", $id, ") AS external_id_owner")
    };
}
pub(super) use {external_id_owner, invited_count, user_columns};

/// Locks changes of staff. It is a separate statement, so that the next statement sees the writes of earlier
/// holders of the lock.
const LOCK_STAFF: &str = "SELECT 1 FROM referral.locks WHERE name = 'staff' FOR UPDATE";

/// Selects whether there is an active admin besides the user `$1`.
pub(super) const HAS_OTHER_ADMIN: &str = "\
    SELECT EXISTS ( \
        SELECT 1 FROM referral.users \
        WHERE staff_role = 'admin' AND is_active AND phone IS NOT NULL AND deletion_at IS NULL AND id <> $1 \
    ) AS has_other_admin";

/// Returns `true` if there is an active admin besides a user, who must be locked. Takes the lock for staff
/// until the end of the transaction.
pub(super) async fn has_other_admin(lease: &mut AnyLease<'_>, user: UserId) -> Result<bool> {
    lease.fetch_one(lease.query(LOCK_STAFF)).await.map_err(failure)?;
    let other = lease.query(HAS_OTHER_ADMIN).bind(user.0);
    rows::get(&lease.fetch_one(other).await.map_err(failure)?, "has_other_admin")
}

/// Join with the newest invitees of `u`, at most `{limit}`, in three array columns. See [`with_limit`].
/// `OFFSET 0` keeps the planner from a join that reads all users in order.
macro_rules! newest_invitees {
    () => {
        " LEFT JOIN LATERAL ( \
            SELECT array_agg(v.id) AS invited_ids, array_agg(v.phone::text) AS invited_phones, \
                   array_agg(v.date_joined) AS invited_joined \
            FROM ( \
                SELECT p.id, p.phone, p.date_joined FROM referral.invitations j CROSS JOIN LATERAL ( \
                    SELECT * FROM referral.users WHERE id = j.invitee AND phone IS NOT NULL OFFSET 0 \
                ) p WHERE j.inviter = u.id ORDER BY j.invitee DESC LIMIT {limit} \
            ) v \
        ) invited ON TRUE"
    };
}
pub(super) use newest_invitees;

/// Replaces `{limit}` in a statement. If the limit were a parameter, the planner would expect a tenth of all rows,
/// and plan the statement again for each request.
pub(super) fn with_limit(statement: &str, limit: u32) -> AssertSqlSafe<String> {
    AssertSqlSafe(statement.replace("{limit}", &limit.to_string()))
}

pub(super) const USER: &str = concat!(
    "SELECT ",
    user_columns!(),
    ", invited.* FROM referral.users u LEFT JOIN referral.invitations i ON i.invitee = u.id",
    newest_invitees!(),
    " WHERE u.id = $1 AND u.erased_at IS NULL"
);

pub(super) async fn user(lease: &mut Lease, id: UserId, invited: u32) -> Result<Option<UserWithInvited>> {
    let found = lease.query(with_limit(USER, invited)).bind(id.0);
    let row = lease.fetch_optional(found).await.map_err(failure)?;
    row.map(|row| Ok(UserWithInvited { user: rows::user(&row)?, invited: rows::invited(&row)? })).transpose()
}

/// Selects a page of invitees. Each row has the count of all invitees. If there are no invitees, there is one
/// row without an invitee.
pub(super) const INVITEES: &str = concat!(
    "SELECT ",
    invited_count!(),
    " AS invited_count, v.* FROM referral.users u LEFT JOIN LATERAL (SELECT ",
    invitee_columns!(),
    " FROM referral.invitations j CROSS JOIN LATERAL ( \
         SELECT * FROM referral.users WHERE id = j.invitee AND phone IS NOT NULL OFFSET 0 \
     ) p WHERE j.inviter = u.id AND j.invitee < $2 ORDER BY j.invitee DESC LIMIT {limit} \
     ) v ON TRUE WHERE u.id = $1 AND u.erased_at IS NULL ORDER BY v.invitee_id DESC"
);

/// Reads a page of invitees. Returns `None` if the inviter does not exist.
pub(super) async fn invitees(
    lease: &mut Lease,
    inviter: UserId,
    older_than: Option<UserId>,
    limit: PageSize,
) -> Result<Option<StoredPage<Invitee>>> {
    let older_than = older_than.map_or(Uuid::max(), |id| id.0);
    // One more than the limit shows whether there are more.
    let found = lease.query(with_limit(INVITEES, limit.get() + 1)).bind(inviter.0).bind(older_than);
    let found = lease.fetch_all(found).await.map_err(failure)?;
    let Some(first) = found.first() else {
        return Ok(None);
    };
    let count = rows::number(first, "invited_count")?;
    let limit = limit.get() as usize;
    let invitees = found.iter().take(limit).filter_map(|row| rows::invitee(row).transpose());
    let items = invitees.collect::<Result<_>>()?;
    Ok(Some(StoredPage { items, has_more: found.len() > limit, count, count_exact: true }))
}

/// Selects users without a phone who had the phone `$1`, newest first.
pub(super) const FORMER_USERS: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM referral.users u LEFT JOIN referral.invitations i ON i.invitee = u.id \
     WHERE u.former_phone = $1 ORDER BY u.id DESC LIMIT {limit}"
);

/// Reads users without a phone who had this phone before.
pub(super) async fn former_users(lease: &mut Lease, phone: &PhoneNumber, limit: u32) -> Result<Vec<User>> {
    let found = lease.query(with_limit(FORMER_USERS, limit)).bind(phone.as_str());
    lease.fetch_all(found).await.map_err(failure)?.iter().map(rows::user).collect()
}

pub(super) const DETACH_PHONE: &str = "\
    UPDATE referral.users SET former_phone = phone, phone = NULL, phone_detached_at = $2 \
    WHERE id = $1 AND phone IS NOT NULL";

/// Stores the loss of a phone, in a transaction that locks the user.
pub(super) async fn detach(lease: &mut Lease, detached: &DetachedPhone) -> Result<()> {
    for delete in [DELETE_SESSIONS, DELETE_SEARCH_KEYS] {
        let delete = lease.query(delete).bind(detached.user.0);
        lease.execute(delete).await.map_err(failure)?;
    }
    let detach = lease.query(DETACH_PHONE).bind(detached.user.0).bind(detached.at);
    lease.write_row(detach).await
}

pub(super) const ADD_USER: &str = "\
    INSERT INTO referral.users (id, phone, invite_code, staff_role, is_active, date_joined, last_login, last_active, \
                                external_id, metadata) \
    SELECT $1::uuid, $2, $3, $4, $5::boolean, $6::timestamptz, $7::timestamptz, $8::timestamptz, $9, $10 \
    WHERE $after RETURNING 1";

pub(super) const ADD_SEARCH_KEYS: &str = "\
    INSERT INTO referral.user_search (user_id, public, private, ngrams) \
    SELECT $1::uuid, $2, $3, $4::integer[] WHERE $after RETURNING 1";

/// Adds steps that add a user with the searched texts.
pub(super) fn push_new(write: &mut Write, user: &User) {
    write
        .step("added", ADD_USER)
        .bind(user.id.0)
        .bind(user.phone.as_str())
        .bind(user.invite_code.as_str())
        .bind(user.staff_role.map(StaffRole::as_str))
        .bind(user.is_active)
        .bind(user.date_joined)
        .bind(user.last_login)
        .bind(user.last_active)
        .bind(user.external_id.as_ref().map(ExternalId::as_str))
        .bind(user.metadata.to_string());
    bind_search_keys(write.step("searched", ADD_SEARCH_KEYS).bind(user.id.0), user);
}

/// Adds a user without a session.
pub(super) async fn add(lease: &mut AnyLease<'_>, user: &User) -> Result<()> {
    let mut write = Write::new();
    push_new(&mut write, user);
    write.execute(lease).await
}

/// Binds the searched texts of a user and their n-grams.
pub(super) fn bind_search_keys(values: &mut Values, user: &User) {
    let keys = SearchKeys::of(user);
    let ngrams = to_stored(&search_index::of_user(&keys));
    values.bind(keys.public).bind(keys.private).bind(ngrams);
}

/// Converts n-grams to integers. The integers of PostgreSQL are signed.
pub(super) fn to_stored(ngrams: &[Ngram]) -> Vec<i32> {
    ngrams.iter().map(|ngram| ngram.cast_signed()).collect()
}
