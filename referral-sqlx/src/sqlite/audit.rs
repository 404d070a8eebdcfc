//! Audit log.

use referral_core::{
    UserId,
    audit::{AuditEntry, Reason},
    storage::{AuditPage, AuditQuery, Result, UnlockRequest},
};
use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use super::{batch::Batch, connection::Connection, rows};
use crate::{encoding::time_to_micros, error::failure, rows::audit_columns};

const ADD_ENTRY: &str = "\
    INSERT INTO referral_audit_log (id, at, actor, action, user_id, reason, changes) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

/// Adds a statement that adds an entry.
pub(super) fn push(batch: &mut Batch, entry: &AuditEntry) -> Result<()> {
    let changes = serde_json::to_string(&entry.changes).map_err(crate::error::unreadable)?;
    batch
        .push(ADD_ENTRY)
        .bind(entry.id.0)
        .bind(time_to_micros(entry.at))
        .bind(entry.actor.user().map(|id| id.0))
        .bind(entry.action.as_str())
        .bind(entry.user.map(|id| id.0))
        .bind(entry.reason.as_ref().map(Reason::as_str))
        .bind(changes);
    Ok(())
}

/// Adds an entry.
pub(super) async fn add(connection: &mut Connection<'_>, entry: &AuditEntry) -> Result<()> {
    let mut batch = Batch::new();
    push(&mut batch, entry)?;
    batch.write(connection).await
}

/// Builds the statement that reads the entries of a page, and one more if there are more.
pub(super) fn page_query(query: &AuditQuery) -> QueryBuilder<Sqlite> {
    let mut sql =
        QueryBuilder::new(concat!("SELECT ", audit_columns!(), " FROM referral_audit_log WHERE TRUE"));
    if let Some(user) = query.user {
        sql.push(" AND user_id = ").push_bind(user.0);
    }
    if let Some(actor) = query.actor {
        sql.push(" AND actor IS ").push_bind(actor.user().map(|id| id.0));
    }
    if let Some(action) = query.action {
        sql.push(" AND action = ").push_bind(action.as_str());
    }
    if let Some(entry) = query.older_than {
        sql.push(" AND id < ").push_bind(entry.0);
    }
    sql.push(" ORDER BY id DESC LIMIT 0 + ").push_bind(query.limit.get() + 1);
    sql
}

/// Reads a page of the audit log.
pub(super) async fn page(connection: &mut Connection<'_>, query: &AuditQuery) -> Result<AuditPage> {
    let mut sql = page_query(query);
    let found = connection.fetch_all(sql.build()).await.map_err(failure)?;
    let limit = query.limit.get() as usize;
    let entries = found.iter().take(limit).map(rows::audit_entry).collect::<Result<_>>()?;
    Ok(AuditPage { entries, has_more: found.len() > limit })
}

pub(super) const DELETE_COUNTER: &str = "DELETE FROM referral_counters WHERE key = $1";

pub(super) const DELETE_PAIRS: &str = "DELETE FROM referral_counters WHERE key >= $1 AND key < $2";

pub(super) const USER_WITH_PHONE: &str = "SELECT id FROM referral_users WHERE phone = $1";

/// Deletes the counters of a phone.
pub(super) async fn unlock(connection: &mut Connection<'_>, request: &UnlockRequest) -> Result<AuditEntry> {
    let user = sqlx::query(USER_WITH_PHONE).bind(request.phone.as_str().to_owned());
    let user = connection.fetch_optional(user).await.map_err(failure)?;
    let user = user.map(|row| rows::get::<Uuid>(&row, "id")).transpose()?;
    let mut batch = Batch::new();
    let pairs = request.pairs();
    batch.push(DELETE_COUNTER).bind(request.counter().as_str());
    batch.push(DELETE_PAIRS).bind(pairs.start).bind(pairs.end);
    let entry = request.entry(user.map(UserId));
    push(&mut batch, &entry)?;
    batch.write(connection).await?;
    Ok(entry)
}
