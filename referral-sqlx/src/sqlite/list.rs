//! List of users. Its statement contains only the conditions of the filter, so that each condition can use an
//! index. An optional condition such as `? IS NULL OR …` never uses one.

use referral_core::{
    Email, ExternalId, InviteCode, Name, PhoneNumber, User, UserId,
    storage::{PageStart, Result, StoredPage, UserFilter, UserQuery},
};
use sqlx::{QueryBuilder, Sqlite};

use super::{
    connection::Connection,
    rows,
    users::{json_user, search_expression, user_columns},
};
use crate::error::failure;

/// Reads a page of users and the number of all matching users in one snapshot.
pub(super) async fn users(connection: &mut Connection<'_>, query: &UserQuery) -> Result<StoredPage<User>> {
    let row = connection.fetch_one(page(query).build()).await.map_err(failure)?;
    let limit = query.limit.get() as usize;
    let mut users = rows::users(&row)?;
    let has_more = users.len() > limit;
    users.truncate(limit);
    if matches!(query.start, PageStart::NewerThan(_)) {
        users.reverse();
    }
    let counted: u64 = rows::number(&row, "counted")?;
    let is_exact = query.filter.is_empty() || counted <= UserQuery::COUNT_LIMIT;
    let count = if is_exact { counted } else { UserQuery::COUNT_LIMIT };
    Ok(StoredPage { items: users, has_more, count, count_exact: is_exact })
}

/// Builds the statement that reads the users of a page in scan order, and one more user if there are more,
/// with the count of all matching users. The users are one JSON array: each row of a result passes from the
/// thread of the connection to the task, which takes longer than reading the row. SQLite keeps the order of the
/// inner query: it may drop it only for aggregates that do not depend on the order.
pub(super) fn page(query: &UserQuery) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT (");
    push_count(&mut sql, &query.filter);
    sql.push(") AS counted, (SELECT json_group_array(").push(json_user!()).push(") FROM (");
    push_users(&mut sql, query);
    sql.push(") v) AS users");
    sql
}

fn push_users(sql: &mut QueryBuilder<Sqlite>, query: &UserQuery) {
    sql.push(concat!("SELECT ", user_columns!()));
    // A search reads the columns of the rows that it skips, because it must match them.
    let skips_rows = matches!(query.start, PageStart::Offset(offset) if offset > 0);
    if skips_rows && query.filter.search.is_empty() {
        // The ids of the page are read from the index alone, and then the columns of these users.
        sql.push(" FROM (");
        push_ids(sql, query);
        sql.push(
            ") found CROSS JOIN referral_users u ON u.id = found.id \
             LEFT JOIN referral_invitations i ON i.invitee = u.id ORDER BY u.id DESC",
        );
    } else {
        push_page(sql, query);
    }
}

fn push_ids(sql: &mut QueryBuilder<Sqlite>, query: &UserQuery) {
    match query.start {
        PageStart::Offset(offset) if query.filter.is_empty() => push_ids_from_nearer_end(sql, query, offset),
        _ => {
            sql.push("SELECT ").push(Order::of(&query.filter).column()).push(" AS id");
            push_page(sql, query);
        }
    }
}

/// Adds a query for the ids of a page of all users. Users are skipped one by one, so the scan starts with the
/// oldest user if the page is in the second half of the list. The limit of the other scan is zero. Only users
/// with a phone have a number.
fn push_ids_from_nearer_end(sql: &mut QueryBuilder<Sqlite>, query: &UserQuery, offset: u64) {
    sql.push("WITH p AS MATERIALIZED (SELECT size, skipped, total - skipped AS rest FROM (SELECT ");
    sql.push_bind(query.limit.get() + 1).push(" AS size, ");
    sql.push_bind(i64::try_from(offset).unwrap_or(i64::MAX)).push(
        " AS skipped, (SELECT users FROM referral_user_totals) AS total) page) \
         SELECT id FROM (SELECT user_id AS id FROM referral_user_numbers ORDER BY user_id DESC \
             LIMIT (SELECT iif(rest >= skipped, size, 0) FROM p) OFFSET (SELECT skipped FROM p)) \
         UNION ALL \
         SELECT id FROM (SELECT user_id AS id FROM referral_user_numbers ORDER BY user_id \
             LIMIT (SELECT iif(rest < skipped, max(min(size, rest), 0), 0) FROM p) \
             OFFSET (SELECT max(rest - size, 0) FROM p))",
    );
}

fn push_page(sql: &mut QueryBuilder<Sqlite>, query: &UserQuery) {
    push_source(sql, &query.filter);
    let order = Order::of(&query.filter);
    let (direction, offset) = match query.start {
        PageStart::Offset(offset) => ("DESC", offset),
        PageStart::OlderThan(id) => {
            order.push_beyond(sql, "<", id);
            ("DESC", 0)
        }
        PageStart::NewerThan(id) => {
            order.push_beyond(sql, ">", id);
            ("ASC", 0)
        }
    };
    sql.push(" ORDER BY ").push(order.column()).push(" ").push(direction);
    // If the limit were a parameter alone, SQLite would plan the statement again for each value.
    sql.push(" LIMIT 0 + ").push_bind(query.limit.get() + 1);
    if offset > 0 {
        sql.push(" OFFSET 0 + ").push_bind(i64::try_from(offset).unwrap_or(i64::MAX));
    }
}

/// Adds the count of matching users: of all users if there is no filter, and otherwise at most
/// [`UserQuery::COUNT_LIMIT`] plus one.
fn push_count(sql: &mut QueryBuilder<Sqlite>, filter: &UserFilter) {
    if filter.is_empty() {
        sql.push("SELECT users AS counted FROM referral_user_totals");
        return;
    }
    sql.push("SELECT count(*) AS counted FROM (SELECT 1");
    push_source(sql, filter);
    sql.push(format!(" LIMIT {})", UserQuery::COUNT_LIMIT + 1));
}

/// Order of the users in the index of a list, which needs no sorting.
#[derive(Clone, Copy)]
enum Order {
    /// By id.
    User,
    /// By id, among the invitees of one inviter, which are adjacent in the index.
    Invitee,
    /// By the number in the search index. The number increases with each added user. The order is therefore
    /// the order of ids, except for users who joined at the same time, or who got a phone again.
    Found,
}

impl Order {
    /// Returns the order of the index that finds the users for `filter`.
    fn of(filter: &UserFilter) -> Self {
        if !filter.search.is_empty() {
            Self::Found
        } else if filter.invited_by_code.is_some() {
            Self::Invitee
        } else {
            Self::User
        }
    }

    fn column(self) -> &'static str {
        match self {
            Self::User => "u.id",
            Self::Invitee => "i.invitee",
            Self::Found => "g.rowid",
        }
    }

    /// Adds a condition that excludes all users up to the user with this id.
    fn push_beyond(self, sql: &mut QueryBuilder<Sqlite>, comparison: &'static str, id: UserId) {
        sql.push(" AND ").push(self.column()).push(" ").push(comparison).push(" ");
        match self {
            Self::User | Self::Invitee => sql.push_bind(id.0),
            // A user who was deleted since the page before has no number. The nearest other user has.
            Self::Found => {
                let (next, rest) = if comparison == "<" {
                    ("number + 1", " ORDER BY user_id DESC LIMIT 1))")
                } else {
                    ("number - 1", " ORDER BY user_id LIMIT 1))")
                };
                sql.push("coalesce((SELECT number FROM referral_user_numbers WHERE user_id = ")
                    .push_bind(id.0)
                    .push("), (SELECT ")
                    .push(next)
                    .push(" FROM referral_user_numbers WHERE user_id ")
                    .push(comparison)
                    .push(" ")
                    .push_bind(id.0)
                    .push(rest)
            }
        };
    }
}

/// Adds the tables and the conditions.
fn push_source(sql: &mut QueryBuilder<Sqlite>, filter: &UserFilter) {
    // The pattern lists all fields, so that a new field is a compile error here.
    let UserFilter { phone, email, external_id, first_name, last_name, invite_code, invited_by_code, search } =
        filter;
    if !search.is_empty() {
        // The index is scanned first, in its own order. The conditions below check the pattern for each
        // candidate.
        sql.push(
            " FROM referral_user_ngrams g CROSS JOIN referral_user_numbers n ON n.number = g.rowid \
             CROSS JOIN referral_users u ON u.id = n.user_id LEFT JOIN referral_invitations i ON i.invitee = u.id \
             WHERE referral_user_ngrams MATCH ",
        );
        sql.push_bind(search_expression(search));
    } else if invited_by_code.is_some() {
        sql.push(" FROM referral_invitations i JOIN referral_users u ON u.id = i.invitee WHERE TRUE");
    } else {
        sql.push(" FROM referral_users u LEFT JOIN referral_invitations i ON i.invitee = u.id WHERE TRUE");
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
    // A list has no users without a phone. An erased user matches no other filter.
    let others = UserFilter { invite_code: None, invited_by_code: None, ..filter.clone() };
    sql.push(if others.is_empty() { " AND u.phone IS NOT NULL" } else { " AND u.phone_detached_at IS NULL" });
    if let Some(code) = invited_by_code {
        sql.push(" AND i.inviter = (SELECT id FROM referral_users WHERE invite_code = ");
        sql.push_bind(code.as_str().to_owned()).push(")");
    }
    for term in search {
        sql.push(" AND (instr(u.search_public, ").push_bind(term.pattern.clone()).push(") > 0");
        if term.sees_private {
            sql.push(" OR instr(u.search_private, ").push_bind(term.pattern.clone()).push(") > 0");
        }
        sql.push(")");
    }
}
