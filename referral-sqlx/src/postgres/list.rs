//! List of users. Its statement contains only the conditions of the filter, so that each condition can use an
//! index. An optional condition such as `$1 IS NULL OR …` never uses one.

use referral_core::{
    Email, ExternalId, InviteCode, Name, PageSize, PhoneNumber, User,
    storage::{PageStart, Result, SearchTerm, StoredPage, UserFilter, UserQuery},
};
use sqlx::{Postgres, QueryBuilder, postgres::PgRow};
use uuid::Uuid;

use super::{
    lease::Lease,
    rows,
    users::{to_stored, user_columns},
};
use crate::{
    error::failure,
    search_index::{self, Ngram},
};

/// Reads a page of users and the number of all matching users in one snapshot.
pub(super) async fn users(lease: &mut Lease, query: &UserQuery) -> Result<StoredPage<User>> {
    let limit = query.limit.get() as usize;
    // A search is planned for its terms. Depending on their frequency, the best plan looks them up in the
    // index, or scans until the page is full. All other lists have a single plan.
    let is_prepared = query.filter.search.is_empty() && lease.is_prepared;
    let statement = lease.build(page_with_count(query))?.persistent(is_prepared);
    let rows = lease.fetch_all(statement).await;
    let rows = rows.map_err(failure)?;

    let counted: u64 = match rows.first() {
        Some(row) => rows::number(row, "counted")?,
        None => 0,
    };
    let is_exact = query.filter.is_empty() || counted <= UserQuery::COUNT_LIMIT;
    let has_user = |row: &&PgRow| !matches!(rows::get::<Option<Uuid>>(row, "id"), Ok(None));
    let mut users: Vec<User> =
        rows.iter().filter(has_user).take(limit).map(rows::user).collect::<Result<_>>()?;
    if matches!(query.start, PageStart::NewerThan(_)) {
        users.reverse();
    }
    Ok(StoredPage {
        items: users,
        has_more: rows.len() > limit,
        count: if is_exact { counted } else { UserQuery::COUNT_LIMIT },
        count_exact: is_exact,
    })
}

/// Builds the statement that reads the users of a page in scan order, and one more user if there are more.
/// Each row has the count of all matching users. If the page has no users, there is one row without a user.
pub(super) fn page_with_count(query: &UserQuery) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new("SELECT counted.counted, page.* FROM (");
    push_count(&mut sql, &query.filter);
    sql.push(concat!(") counted LEFT JOIN (SELECT ", user_columns!()));
    let skips_rows = matches!(query.start, PageStart::Offset(offset) if offset > 0);
    if query.filter.search.is_empty() && !skips_rows {
        push_page(&mut sql, query);
    } else {
        // The ids of the page are read from the index alone, and then the columns of these users.
        sql.push(" FROM (");
        push_ids(&mut sql, query);
        sql.push(
            ") found JOIN referral.users u ON u.id = found.id \
             LEFT JOIN referral.invitations i ON i.invitee = u.id",
        );
    }
    sql.push(") page ON TRUE ORDER BY page.id ").push(direction(query.start));
    sql
}

fn push_ids(sql: &mut QueryBuilder<Postgres>, query: &UserQuery) {
    match query.start {
        PageStart::Offset(offset) if query.filter.is_empty() => push_ids_from_nearer_end(sql, query, offset),
        _ => {
            sql.push("SELECT ").push(id_column(&query.filter)).push(" AS id");
            push_page(sql, query);
        }
    }
}

/// Adds a query for the ids of a page of all users. Users are skipped one by one, so the scan starts with the
/// oldest user if the page is in the second half of the list. The condition of the other scan is not met, so
/// it reads no row. Only users with a phone have search keys.
fn push_ids_from_nearer_end(sql: &mut QueryBuilder<Postgres>, query: &UserQuery, offset: u64) {
    sql.push("WITH p AS MATERIALIZED (SELECT size, skipped, total - skipped AS rest FROM (SELECT ");
    sql.push_bind(i64::from(query.limit.get()) + 1).push(" AS size, ");
    sql.push_bind(i64::try_from(offset).unwrap_or(i64::MAX)).push(
        " AS skipped, (SELECT sum(users)::bigint FROM referral.user_totals WHERE slot >= 0) AS total) page) \
         (SELECT user_id AS id FROM referral.user_search WHERE (SELECT rest >= skipped FROM p) ORDER BY id DESC \
          LIMIT (SELECT size FROM p) OFFSET (SELECT skipped FROM p)) \
         UNION ALL \
         (SELECT user_id AS id FROM referral.user_search WHERE (SELECT rest < skipped FROM p) ORDER BY id \
          LIMIT (SELECT greatest(least(size, rest), 0) FROM p) OFFSET (SELECT greatest(rest - size, 0) FROM p))",
    );
    // Without a number the planner expects a tenth of the table, and would then read all users to join them.
    sql.push(format!(" LIMIT {}", PageSize::MAX.get() + 1));
}

fn direction(start: PageStart) -> &'static str {
    if matches!(start, PageStart::NewerThan(_)) { "ASC" } else { "DESC" }
}

fn push_page(sql: &mut QueryBuilder<Postgres>, query: &UserQuery) {
    push_source(sql, &query.filter);
    let id = id_column(&query.filter);
    match query.start {
        PageStart::Offset(_) => {}
        PageStart::OlderThan(older_than) => {
            sql.push(" AND ").push(id).push(" < ").push_bind(older_than.0);
        }
        PageStart::NewerThan(newer_than) => {
            sql.push(" AND ").push(id).push(" > ").push_bind(newer_than.0);
        }
    }
    sql.push(" ORDER BY ").push(id).push(" ").push(direction(query.start));
    // The limits are not parameters, see [`with_limit`](super::users::with_limit).
    sql.push(" LIMIT ").push(query.limit.get() + 1);
    if let PageStart::Offset(offset @ 1..) = query.start {
        sql.push(" OFFSET ").push_bind(i64::try_from(offset).unwrap_or(i64::MAX));
    }
}

/// Adds the count of matching users: of all users if there is no filter, and otherwise at most
/// [`UserQuery::COUNT_LIMIT`] plus one.
fn push_count(sql: &mut QueryBuilder<Postgres>, filter: &UserFilter) {
    if filter.is_empty() {
        // The condition permits an index scan. A sequential scan is expensive for the planner, see `open`.
        sql.push("SELECT sum(users)::bigint AS counted FROM referral.user_totals WHERE slot >= 0");
        return;
    }
    sql.push("SELECT count(*) AS counted FROM (SELECT 1");
    push_source(sql, filter);
    sql.push(" LIMIT ").push(UserQuery::COUNT_LIMIT + 1).push(") found");
}

/// Returns the column that orders the users in the index that finds them.
fn id_column(filter: &UserFilter) -> &'static str {
    if !filter.search.is_empty() {
        "s.user_id"
    } else if filter.invited_by_code.is_some() {
        "i.invitee"
    } else {
        "u.id"
    }
}

/// Adds the tables and the conditions.
fn push_source(sql: &mut QueryBuilder<Postgres>, filter: &UserFilter) {
    // The pattern lists all fields, so that a new field is a compile error here.
    let UserFilter { phone, email, external_id, first_name, last_name, invite_code, invited_by_code, search } =
        filter;
    let searches_only = UserFilter { search: search.clone(), ..UserFilter::default() } == *filter;
    if !search.is_empty() {
        sql.push(" FROM referral.user_search s");
        if !searches_only {
            sql.push(
                " JOIN referral.users u ON u.id = s.user_id \
                 LEFT JOIN referral.invitations i ON i.invitee = s.user_id",
            );
        }
        sql.push(" WHERE TRUE");
    } else if invited_by_code.is_some() {
        sql.push(" FROM referral.invitations i JOIN referral.users u ON u.id = i.invitee WHERE TRUE");
    } else {
        sql.push(" FROM referral.users u LEFT JOIN referral.invitations i ON i.invitee = u.id WHERE TRUE");
    }
    for (column, value) in [
        (" AND u.phone = ", phone.as_ref().map(PhoneNumber::as_str)),
        (" AND u.email = ", email.as_ref().map(Email::as_str)),
        (" AND u.external_id = ", external_id.as_ref().map(ExternalId::as_str)),
        (" AND u.first_name = ", first_name.as_ref().map(Name::as_str)),
        (" AND u.last_name = ", last_name.as_ref().map(Name::as_str)),
        (" AND u.invite_code = ", invite_code.as_ref().map(InviteCode::as_str)),
    ] {
        if let Some(value) = value {
            sql.push(column).push_bind(value.to_owned());
        }
    }
    // A list has no users without a phone. They have no search keys, and an erased user matches no other filter.
    let others = UserFilter { invite_code: None, invited_by_code: None, ..filter.clone() };
    if others.is_empty() {
        sql.push(" AND u.phone IS NOT NULL");
    } else if search.is_empty() {
        sql.push(" AND u.phone_detached_at IS NULL");
    }
    if let Some(code) = invited_by_code {
        sql.push(" AND i.inviter = (SELECT id FROM referral.users WHERE invite_code = ");
        sql.push_bind(code.as_str().to_owned()).push(")");
    }
    for term in search {
        push_term(sql, term);
    }
}

/// Adds the conditions of a search term. The index finds candidates, and the texts decide whether they match.
fn push_term(sql: &mut QueryBuilder<Postgres>, term: &SearchTerm) {
    let mut push = |joint: &'static str, text: &'static str, ngrams: &[Ngram]| {
        sql.push(joint).push("(s.ngrams @> ").push_bind(to_stored(ngrams)).push(" AND strpos(");
        sql.push(text).push(", ").push_bind(term.pattern.clone()).push(") > 0)");
    };
    push(" AND (", "s.public", &search_index::public(term));
    if let Some(ngrams) = search_index::private(term) {
        push(" OR ", "s.private", &ngrams);
    }
    sql.push(")");
}
