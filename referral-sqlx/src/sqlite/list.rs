//! The list of users. Its statement holds only the conditions that are asked for, so that each
//! can use its index: a condition that is sometimes off, such as `? IS NULL OR …`, never does.

use referral_core::{
    COUNT_LIMIT, Position, User,
    storage::{FoundUsers, Result, UserFilter, UserQuery},
};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::{
    rows,
    statements::{self, user_columns},
};
use crate::error::failure;

/// A page of users and the count of all that match. Both see the same only in one transaction.
pub(crate) async fn users(connection: &mut SqliteConnection, query: &UserQuery) -> Result<FoundUsers> {
    let limit = query.limit.get() as usize;
    let rows = page(query).build().fetch_all(&mut *connection).await.map_err(failure)?;

    let has_more = rows.len() > limit;
    let mut users: Vec<User> = rows.iter().take(limit).map(rows::user).collect::<Result<_>>()?;
    if matches!(query.position, Position::NewerThan(_)) {
        users.reverse();
    }
    let (count, count_exact) = count_users(connection, &query.filter).await?;
    Ok(FoundUsers { users, has_more, count, count_exact })
}

async fn count_users(connection: &mut SqliteConnection, filter: &UserFilter) -> Result<(u64, bool)> {
    let counted: i64 = if filter.is_empty() {
        sqlx::query_scalar(statements::USER_TOTAL).fetch_one(connection).await
    } else {
        count(filter).build_query_scalar().fetch_one(connection).await
    }
    .map_err(failure)?;
    let counted = counted.unsigned_abs();
    let is_exact = filter.is_empty() || counted <= COUNT_LIMIT;
    Ok((if is_exact { counted } else { COUNT_LIMIT }, is_exact))
}

/// The users of a page in the order in which they are walked, and one more if there is more.
pub(super) fn page(query: &UserQuery) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new(concat!("SELECT ", user_columns!()));
    let id = if query.filter.invited_by_code.is_some() {
        // The invitees of one inviter lie together, in the order of their ids.
        sql.push(" FROM invitations i JOIN users u ON u.id = i.invitee WHERE TRUE");
        "i.invitee"
    } else {
        sql.push(" FROM users u LEFT JOIN invitations i ON i.invitee = u.id WHERE TRUE");
        "u.id"
    };
    push_filter(&mut sql, &query.filter);
    let (order, offset) = match query.position {
        Position::Offset(offset) => ("DESC", offset),
        Position::OlderThan(older_than) => {
            sql.push(" AND ").push(id).push(" < ").push_bind(older_than.0);
            ("DESC", 0)
        }
        Position::NewerThan(newer_than) => {
            sql.push(" AND ").push(id).push(" > ").push_bind(newer_than.0);
            ("ASC", 0)
        }
    };
    sql.push(" ORDER BY ").push(id).push(" ").push(order);
    sql.push(" LIMIT ").push_bind(query.limit.get() + 1);
    if offset > 0 {
        sql.push(" OFFSET ").push_bind(i64::try_from(offset).unwrap_or(i64::MAX));
    }
    sql
}

/// The number of users that match, but no more than one above [`COUNT_LIMIT`].
pub(super) fn count(filter: &UserFilter) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT count(*) FROM (SELECT 1");
    sql.push(match filter.invited_by_code {
        Some(_) => " FROM invitations i JOIN users u ON u.id = i.invitee WHERE TRUE",
        None => " FROM users u WHERE TRUE",
    });
    push_filter(&mut sql, filter);
    sql.push(" LIMIT ").push_bind(i64::try_from(COUNT_LIMIT + 1).unwrap_or(i64::MAX)).push(")");
    sql
}

fn push_filter(sql: &mut QueryBuilder<Sqlite>, filter: &UserFilter) {
    // A new field must not be overlooked.
    let UserFilter { phone, email, first_name, last_name, invite_code, invited_by_code, search } = filter;
    if let Some(phone) = phone {
        sql.push(" AND u.phone = ").push_bind(phone.as_str());
    }
    if let Some(email) = email {
        sql.push(" AND u.email = ").push_bind(email.as_str());
    }
    if let Some(name) = first_name {
        sql.push(" AND u.first_name = ").push_bind(name.as_str());
    }
    if let Some(name) = last_name {
        sql.push(" AND u.last_name = ").push_bind(name.as_str());
    }
    if let Some(code) = invite_code {
        sql.push(" AND u.invite_code = ").push_bind(code.as_str());
    }
    if let Some(code) = invited_by_code {
        sql.push(" AND i.inviter = (SELECT id FROM users WHERE invite_code = ").push_bind(code.as_str());
        sql.push(")");
    }
    for term in search {
        sql.push(" AND (instr(u.search_public, ").push_bind(&*term.pattern).push(") > 0");
        if term.sees_private {
            sql.push(" OR instr(u.search_private, ").push_bind(&*term.pattern).push(") > 0");
        }
        sql.push(")");
    }
}
