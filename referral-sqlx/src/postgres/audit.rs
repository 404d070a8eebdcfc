//! Audit log.

use referral_core::{
    UserId,
    audit::{Actor, AuditEntry, Reason},
    storage::{AuditPage, AuditQuery, Result, UnlockRequest},
};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::{
    lease::{AnyLease, Lease},
    rows,
    write::Write,
};
use crate::{
    error::{failure, unreadable},
    rows::audit_columns,
};

/// Adds an entry.
pub(super) async fn add(lease: &mut AnyLease<'_>, entry: &AuditEntry) -> Result<()> {
    let mut write = Write::new();
    push(&mut write, entry)?;
    write.execute(lease).await
}

pub(super) const ADD_ENTRY: &str = "\
    INSERT INTO referral.audit_log (id, at, actor, action, user_id, reason, changes) \
    SELECT $1::uuid, $2::timestamptz, $3::uuid, $4, $5::uuid, $6, $7 WHERE $after RETURNING 1";

/// Adds a step that adds an entry.
pub(super) fn push(write: &mut Write, entry: &AuditEntry) -> Result<()> {
    let changes = serde_json::to_string(&entry.changes).map_err(unreadable)?;
    write
        .step("audited", ADD_ENTRY)
        .bind(entry.id.0)
        .bind(entry.at)
        .bind(entry.actor.user().map(|id| id.0))
        .bind(entry.action.as_str())
        .bind(entry.user.map(|id| id.0))
        .bind(entry.reason.as_ref().map(Reason::as_str))
        .bind(changes);
    Ok(())
}

/// Builds the statement that reads the entries of a page, and one more if there are more.
pub(super) fn page_query(query: &AuditQuery) -> QueryBuilder<Postgres> {
    let mut sql =
        QueryBuilder::new(concat!("SELECT ", audit_columns!(), " FROM referral.audit_log WHERE TRUE"));
    if let Some(user) = query.user {
        sql.push(" AND user_id = ").push_bind(user.0);
    }
    match query.actor.map(Actor::user) {
        Some(Some(user)) => sql.push(" AND actor = ").push_bind(user.0),
        Some(None) => sql.push(" AND actor IS NULL"),
        None => &mut sql,
    };
    if let Some(action) = query.action {
        sql.push(" AND action = ").push_bind(action.as_str());
    }
    if let Some(entry) = query.older_than {
        sql.push(" AND id < ").push_bind(entry.0);
    }
    sql.push(" ORDER BY id DESC LIMIT ").push(query.limit.get() + 1);
    sql
}

/// Reads a page of the audit log.
pub(super) async fn page(lease: &mut Lease, query: &AuditQuery) -> Result<AuditPage> {
    let found = lease.fetch_all(lease.build(page_query(query))?).await.map_err(failure)?;
    let limit = query.limit.get() as usize;
    let entries = found.iter().take(limit).map(rows::audit_entry).collect::<Result<_>>()?;
    Ok(AuditPage { entries, has_more: found.len() > limit })
}

pub(super) const DELETE_COUNTERS: &str =
    "DELETE FROM referral.counters WHERE key = $1 OR (key >= $2 AND key < $3)";

pub(super) const USER_WITH_PHONE: &str = "SELECT id FROM referral.users WHERE phone = $1";

/// Deletes the counters of a phone, in a transaction.
pub(super) async fn unlock(lease: &mut Lease, request: &UnlockRequest) -> Result<AuditEntry> {
    let pairs = request.pairs();
    let delete = lease
        .query(DELETE_COUNTERS)
        .bind(request.counter().as_str().to_owned())
        .bind(pairs.start)
        .bind(pairs.end);
    lease.execute(delete).await.map_err(failure)?;
    let user = lease.query(USER_WITH_PHONE).bind(request.phone.as_str().to_owned());
    let user = lease.fetch_optional(user).await.map_err(failure)?;
    let user = user.map(|row| rows::get::<Uuid>(&row, "id")).transpose()?;
    let entry = request.entry(user.map(UserId));
    add(lease, &entry).await?;
    Ok(entry)
}
