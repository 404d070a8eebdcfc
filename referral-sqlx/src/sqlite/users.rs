//! Users: reading one, its invitees, and changes of users with their search keys.

use std::fmt::Write as _;

use referral_core::{
    Email, ExternalId, InviteCode, Name, PageSize, PhoneNumber, StaffRole, User, UserId,
    storage::{DetachedPhone, Invitee, Result, SearchKeys, SearchTerm, StoredPage, UserWithInvited},
};
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{batch::Batch, connection::Connection, deletion::DELETE_SESSIONS, rows};
use crate::{
    encoding::time_to_micros,
    error::failure,
    rows::invitee_columns,
    search_index::{self, Ngram},
};

/// Columns of a user `u` with the invitation `i`.
macro_rules! user_columns {
    () => {
        $crate::rows::user_columns!("u.invited_count")
    };
}
pub(super) use user_columns;

/// Column that is true if there is an active admin besides the user `$user`.
macro_rules! has_other_admin {
    ($user:literal) => {
        concat!(
            "EXISTS (SELECT 1 FROM referral_users WHERE staff_role = 'admin' AND is_active \
             AND phone IS NOT NULL AND deletion_at IS NULL AND id <> ",
            $user,
            ") AS has_other_admin"
        )
    };
}
pub(super) use has_other_admin;

/// A user of the table `v`, which has [`user_columns`], as a JSON array.
macro_rules! json_user {
    () => {
        "json_array(hex(v.id), v.phone, v.invite_code, v.email, v.first_name, v.last_name, v.staff_role, \
                    v.is_active, v.date_joined, v.last_login, v.last_active, v.phone_detached_at, \
                    iif(v.inviter IS NULL, NULL, hex(v.inviter)), v.inviter_code, v.invited_count, v.external_id, \
                    v.metadata, v.deletion_at)"
    };
}
pub(super) use json_user;

/// Column with the newest invitees of `u`, at most `$2`, as a JSON array. Each row of a result passes from
/// the thread of the connection to the task, which takes longer than reading the row.
macro_rules! newest_invitees {
    () => {
        "(SELECT json_group_array(json_array(hex(v.id), v.phone, v.date_joined)) FROM ( \
             SELECT p.id, p.phone, p.date_joined FROM referral_invitations j JOIN referral_users p ON p.id = j.invitee \
             WHERE j.inviter = u.id AND p.phone IS NOT NULL ORDER BY j.invitee DESC LIMIT $2 + 0 \
         ) v) AS invited"
    };
}
pub(super) use newest_invitees;

pub(super) const USER: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM referral_users u LEFT JOIN referral_invitations i ON i.invitee = u.id \
     WHERE u.id = $1 AND u.erased_at IS NULL"
);

pub(super) const USER_WITH_INVITED: &str = concat!(
    "SELECT ",
    user_columns!(),
    ", ",
    newest_invitees!(),
    " FROM referral_users u LEFT JOIN referral_invitations i ON i.invitee = u.id \
     WHERE u.id = $1 AND u.erased_at IS NULL"
);

/// Reads a user with the newest invitees.
pub(super) async fn with_invited(
    connection: &mut Connection<'_>,
    id: UserId,
    invited: u32,
) -> Result<Option<UserWithInvited>> {
    let found = match invited {
        0 => sqlx::query(USER).bind(id.0),
        _ => sqlx::query(USER_WITH_INVITED).bind(id.0).bind(invited),
    };
    let found = connection.fetch_optional(found).await.map_err(failure)?;
    found.map(|row| user_with_invited(&row, invited)).transpose()
}

/// Reads the user of a row, and the invitees if `invited` is not zero.
pub(super) fn user_with_invited(row: &SqliteRow, invited: u32) -> Result<UserWithInvited> {
    let invited = if invited == 0 { Vec::new() } else { rows::invited(row)? };
    Ok(UserWithInvited { user: rows::user(row)?, invited })
}

/// Selects a page of invitees. Each row has the count of all invitees. If there are no invitees, there is one
/// row without an invitee.
pub(super) const INVITEES: &str = concat!(
    "SELECT u.invited_count, ",
    invitee_columns!(),
    " FROM referral_users u LEFT JOIN referral_invitations j ON j.inviter = u.id AND j.invitee < $2 \
      AND EXISTS (SELECT 1 FROM referral_users e WHERE e.id = j.invitee AND e.phone IS NOT NULL) \
      LEFT JOIN referral_users p ON p.id = j.invitee \
      WHERE u.id = $1 AND u.erased_at IS NULL ORDER BY j.invitee DESC LIMIT $3 + 0"
);

/// Reads a page of invitees. Returns `None` if the inviter does not exist.
pub(super) async fn invitees(
    connection: &mut Connection<'_>,
    inviter: UserId,
    older_than: Option<UserId>,
    limit: PageSize,
) -> Result<Option<StoredPage<Invitee>>> {
    let older_than = older_than.map_or(Uuid::max(), |id| id.0);
    // One more than the limit shows whether there are more.
    let limit = limit.get();
    let found = sqlx::query(INVITEES).bind(inviter.0).bind(older_than).bind(limit + 1);
    let found = connection.fetch_all(found).await.map_err(failure)?;
    let Some(first) = found.first() else {
        return Ok(None);
    };
    let count = rows::number(first, "invited_count")?;
    let limit = limit as usize;
    let invitees = found.iter().take(limit).filter_map(|row| rows::invitee(row).transpose());
    let items = invitees.collect::<Result<_>>()?;
    Ok(Some(StoredPage { items, has_more: found.len() > limit, count, count_exact: true }))
}

/// Selects users without a phone who had the phone `$1`, newest first.
pub(super) const FORMER_USERS: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM referral_users u LEFT JOIN referral_invitations i ON i.invitee = u.id \
     WHERE u.former_phone = $1 ORDER BY u.id DESC LIMIT $2 + 0"
);

/// Reads users without a phone who had this phone before.
pub(super) async fn former_users(
    connection: &mut Connection<'_>,
    phone: &PhoneNumber,
    limit: u32,
) -> Result<Vec<User>> {
    let found = connection.fetch_all(sqlx::query(FORMER_USERS).bind(phone.as_str()).bind(limit)).await;
    found.map_err(failure)?.iter().map(rows::user).collect()
}

/// Selects the first of the invite codes in the JSON array `$code` that no user has.
macro_rules! free_code {
    ($codes:literal) => {
        concat!(
            "(SELECT value FROM json_each(",
            $codes,
            ") WHERE NOT EXISTS (SELECT 1 FROM referral_users WHERE invite_code = value) LIMIT 1)"
        )
    };
}
pub(super) use free_code;

const FREE_CODE: &str = concat!("SELECT ", free_code!("$1"), " AS free_code");

/// Reads a free invite code for a new user.
pub(super) async fn read_free_code(
    connection: &mut Connection<'_>,
    codes: &[InviteCode],
) -> Result<InviteCode> {
    let found = connection.fetch_one(sqlx::query(FREE_CODE).bind(json_codes(codes))).await;
    rows::free_code(&found.map_err(failure)?)
}

/// Formats invite codes as a JSON array. They contain only letters and digits.
pub(super) fn json_codes(codes: &[InviteCode]) -> String {
    let codes: Vec<_> = codes.iter().map(InviteCode::as_str).collect();
    format!("[\"{}\"]", codes.join("\",\""))
}

/// Adds a user without the rows of the search index.
const ADD_USER: &str = "\
    INSERT INTO referral_users (id, phone, invite_code, staff_role, is_active, date_joined, last_login, last_active, \
                       external_id, metadata, search_public, search_private) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

const ADD_NUMBER: &str = "INSERT INTO referral_user_numbers (user_id) VALUES ($1)";

const PUT_NGRAMS: &str = "\
    INSERT OR REPLACE INTO referral_user_ngrams (rowid, ngrams) \
    SELECT number, $2 FROM referral_user_numbers WHERE user_id = $1";

const DELETE_NGRAMS: &str = "\
    DELETE FROM referral_user_ngrams \
    WHERE rowid = (SELECT number FROM referral_user_numbers WHERE user_id = $1)";

const DELETE_NUMBER: &str = "DELETE FROM referral_user_numbers WHERE user_id = $1";

/// Adds statements that remove a user from the search index.
pub(super) fn push_search_removal(batch: &mut Batch, user: UserId) {
    batch.push(DELETE_NGRAMS).bind(user.0);
    batch.push(DELETE_NUMBER).bind(user.0);
}

/// Adds statements that add a user.
pub(super) fn push_new(batch: &mut Batch, user: &User) {
    let keys = SearchKeys::of(user);
    batch
        .push(ADD_USER)
        .bind(user.id.0)
        .bind(user.phone.as_str())
        .bind(user.invite_code.as_str())
        .bind(user.staff_role.map(StaffRole::as_str))
        .bind(user.is_active)
        .bind(time_to_micros(user.date_joined))
        .bind(user.last_login.map(time_to_micros))
        .bind(user.last_active.map(time_to_micros))
        .bind(user.external_id.as_ref().map(ExternalId::as_str))
        .bind(user.metadata.to_string())
        .bind(&*keys.public)
        .bind(&*keys.private);
    batch.push(ADD_NUMBER).bind(user.id.0);
    batch.push(PUT_NGRAMS).bind(user.id.0).bind(words(&keys));
}

/// Changes all mutable columns of a user except those of the host, and the count of invitees, which a trigger
/// updates.
pub(super) const CHANGE_USER: &str = "\
    UPDATE referral_users SET email = $2, first_name = $3, last_name = $4, staff_role = $5, is_active = $6, \
                     last_login = $7, last_active = $8, search_public = $9, search_private = $10, deletion_at = $11 \
    WHERE id = $1";

/// Changes the phone of a user, and the texts that a search matches.
pub(super) const CHANGE_PHONE: &str =
    "UPDATE referral_users SET phone = $2, search_public = $3, search_private = $4 WHERE id = $1";

/// Adds statements that replace the phone of the user with the same id, and the entry in the search index.
pub(super) fn push_phone(batch: &mut Batch, user: &User) {
    let keys = SearchKeys::of(user);
    let change = batch.push_update(CHANGE_PHONE).bind(user.id.0).bind(user.phone.as_str());
    change.bind(&*keys.public).bind(&*keys.private);
    batch.push(PUT_NGRAMS).bind(user.id.0).bind(words(&keys));
}

/// Sets or detaches the phone of a user.
pub(super) const SET_PHONE: &str =
    "UPDATE referral_users SET phone = $2, former_phone = $3, phone_detached_at = $4 WHERE id = $1";

/// Adds statements that detach the phone of a user or link one. The caller replaces the entry in the search index
/// of a user with a phone.
pub(super) fn push_phone_link(batch: &mut Batch, before: &User, after: &User) {
    if before.has_phone() && !after.has_phone() {
        push_search_removal(batch, after.id);
    }
    batch
        .push_update(SET_PHONE)
        .bind(after.id.0)
        .bind(after.current_phone().map(PhoneNumber::as_str))
        .bind(after.former_phone().map(PhoneNumber::as_str))
        .bind(after.phone_detached_at.map(time_to_micros));
    if after.has_phone() && !before.has_phone() {
        batch.push(ADD_NUMBER).bind(after.id.0);
    }
}

const DETACH_PHONE: &str = "\
    UPDATE referral_users SET former_phone = phone, phone = NULL, phone_detached_at = $2 \
    WHERE id = $1 AND phone IS NOT NULL";

/// Adds statements that store the loss of a phone.
pub(super) fn push_detached(batch: &mut Batch, detached: &DetachedPhone) {
    batch.push(DELETE_SESSIONS).bind(detached.user.0);
    push_search_removal(batch, detached.user);
    batch.push_update(DETACH_PHONE).bind(detached.user.0).bind(time_to_micros(detached.at));
}

/// Adds statements that replace the user with the same id, and its entry in the search index.
pub(super) fn push_change(batch: &mut Batch, user: &User) {
    let keys = SearchKeys::of(user);
    batch
        .push_update(CHANGE_USER)
        .bind(user.id.0)
        .bind(user.email.as_ref().map(Email::as_str))
        .bind(user.first_name.as_ref().map(Name::as_str))
        .bind(user.last_name.as_ref().map(Name::as_str))
        .bind(user.staff_role.map(StaffRole::as_str))
        .bind(user.is_active)
        .bind(user.last_login.map(time_to_micros))
        .bind(user.last_active.map(time_to_micros))
        .bind(&*keys.public)
        .bind(&*keys.private)
        .bind(user.deletion_at.map(time_to_micros));
    batch.push(PUT_NGRAMS).bind(user.id.0).bind(words(&keys));
}

/// Returns the words that the search index stores for a user.
pub(super) fn words(keys: &SearchKeys) -> String {
    search_index::of_user(keys).into_iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Formats an n-gram as a word. It starts with a letter, so that it is not parsed as a number.
fn word(ngram: Ngram) -> String {
    format!("g{ngram:x}")
}

/// Returns the expression that finds all candidates for a match of every term in the search index. Words need
/// no escaping, because they have letters and digits only.
pub(super) fn search_expression(terms: &[SearchTerm]) -> String {
    let mut expression = String::new();
    for term in terms {
        let joint = if expression.is_empty() { "" } else { " AND " };
        let public = all_of(&search_index::public(term));
        let _ = match search_index::private(term) {
            Some(private) => write!(expression, "{joint}(({public}) OR ({}))", all_of(&private)),
            None => write!(expression, "{joint}({public})"),
        };
    }
    expression
}

fn all_of(ngrams: &[Ngram]) -> String {
    ngrams.iter().map(|ngram| word(*ngram)).collect::<Vec<_>>().join(" AND ")
}
