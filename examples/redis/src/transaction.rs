//! Transactions: watched reads, and writes that are applied only if nothing of what was read has changed.

use std::{collections::HashMap, fmt::Display, sync::Arc};

use redis::{FromRedisValue, Pipeline, Value};
use referral_core::{
    UserId,
    storage::{Result, StorageError},
};
use serde::{Serialize, de::DeserializeOwned};
use time::OffsetDateTime;

use crate::{
    Connection,
    documents::{Document, micros},
    failure,
};

/// Number of ids that reads a whole list.
pub(crate) const ALL: usize = u32::MAX as usize;

/// One attempt to execute an operation.
///
/// Reads watch their keys (`WATCH`). Writes are collected, and [`commit`](Self::commit) applies them together
/// (`MULTI`, `EXEC`), unless another client changed a watched key.
pub(crate) struct Transaction {
    connection: Connection,
    prefix: Arc<str>,
    writes: Pipeline,
    /// Values in `writes` by their keys, so that a transaction reads its own writes. `None` is a deletion.
    written: HashMap<String, Option<String>>,
}

impl Transaction {
    pub(crate) fn new(connection: Connection, prefix: Arc<str>) -> Self {
        let mut writes = redis::pipe();
        writes.atomic();
        Self { connection, prefix, writes, written: HashMap::new() }
    }

    /// Applies the writes and returns the outcome. Returns `None` if a watched key has changed: then nothing
    /// was applied, and the operation must start again. The commit of a transaction without writes verifies
    /// that all reads show the same state.
    pub(crate) async fn commit<T>(mut self, outcome: T) -> Result<Option<T>> {
        let applied: Value = self.writes.query_async(&mut *self.connection).await.map_err(failure)?;
        Ok((applied != Value::Nil).then_some(outcome))
    }

    /// Reads and watches a document.
    pub(crate) async fn get<D: Document>(&mut self, id: impl Display) -> Result<Option<D>> {
        self.value(&D::key(id)).await
    }

    /// Reads and watches documents, of which missing ones are left out.
    pub(crate) async fn get_all<D: Document>(&mut self, ids: &[impl Display]) -> Result<Vec<D>> {
        let keys: Vec<_> = ids.iter().map(D::key).collect();
        Ok(self.load(&keys, true).await?.into_iter().flatten().collect())
    }

    /// Reads documents without watching them, so that their changes cause no conflict.
    pub(crate) async fn peek_all<D: Document>(&mut self, ids: &[impl Display]) -> Result<Vec<D>> {
        let keys: Vec<_> = ids.iter().map(D::key).collect();
        Ok(self.load(&keys, false).await?.into_iter().flatten().collect())
    }

    /// Reads and watches a single value.
    pub(crate) async fn value<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        Ok(self.load(&[key.to_owned()], true).await?.pop().flatten())
    }

    /// Reads values in the order of their keys.
    pub(crate) async fn load<T: DeserializeOwned>(
        &mut self,
        keys: &[String],
        watches: bool,
    ) -> Result<Vec<Option<T>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let stored: Vec<_> = keys.iter().map(|key| self.key(key)).collect();
        let mut read = redis::pipe();
        if watches {
            read.cmd("WATCH").arg(&stored).ignore();
        }
        read.cmd("MGET").arg(&stored);
        let (values,): (Vec<Option<String>>,) = self.query(&read).await?;
        let values =
            keys.iter().zip(values).map(|(key, value)| self.written.get(key).cloned().unwrap_or(value));
        values
            .map(|value| value.map(|value| serde_json::from_str(&value)).transpose().map_err(invalid))
            .collect()
    }

    /// Reads and watches a list, and returns at most `limit` of the ids in it, newest first. Does not see the
    /// writes of this transaction.
    pub(crate) async fn newest(
        &mut self,
        list: &str,
        older_than: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<String>> {
        let list = self.key(list);
        let end = older_than.map_or("+".to_owned(), |id| format!("({id}"));
        let mut read = redis::pipe();
        read.cmd("WATCH").arg(&list).ignore();
        read.cmd("ZRANGE").arg(&list).arg(end).arg("-").arg(&["BYLEX", "REV", "LIMIT", "0"]).arg(limit);
        let (ids,): (Vec<String>,) = self.query(&read).await?;
        Ok(ids)
    }

    /// Returns at most `limit` ids of documents of a kind that ended before a time, without watching them.
    pub(crate) async fn ended(
        &mut self,
        kind: &str,
        before: OffsetDateTime,
        limit: u32,
    ) -> Result<Vec<String>> {
        let mut read = redis::pipe();
        let range = ["-inf".to_owned(), format!("({}", micros(before))];
        read.cmd("ZRANGE").arg(self.key(&ends(kind))).arg(&range).arg(&["BYSCORE", "LIMIT", "0"]).arg(limit);
        let (ids,): (Vec<String>,) = self.query(&read).await?;
        Ok(ids)
    }

    /// Sends commands that only read.
    pub(crate) async fn query<T: FromRedisValue>(&mut self, commands: &Pipeline) -> Result<T> {
        commands.query_async(&mut *self.connection).await.map_err(failure)
    }

    /// Writes a document, and the entries by which it is found.
    pub(crate) fn put<D: Document>(&mut self, document: &D) -> Result<()> {
        let id = document.id();
        if let Some(list) = document.list() {
            self.write("ZADD", &list).arg(0).arg(&id);
        }
        if let Some(end) = document.ends_at() {
            self.add_end(D::KIND, &id, end);
        }
        self.set(&D::key(id), document)
    }

    /// Deletes a document, and the entries by which it is found.
    pub(crate) fn delete<D: Document>(&mut self, document: &D) {
        let id = document.id();
        if let Some(list) = document.list() {
            self.write("ZREM", &list).arg(&id);
        }
        self.remove_end(D::KIND, &id);
        self.remove(&D::key(id));
    }

    /// Writes a single value.
    pub(crate) fn set<T: Serialize>(&mut self, key: &str, value: &T) -> Result<()> {
        let value = serde_json::to_string(value).map_err(invalid)?;
        self.write("SET", key).arg(&value);
        self.written.insert(key.to_owned(), Some(value));
        Ok(())
    }

    /// Deletes a single value.
    pub(crate) fn remove(&mut self, key: &str) {
        self.write("DEL", key);
        self.written.insert(key.to_owned(), None);
    }

    /// Adds to a number. The transaction need not read the number, so concurrent changes do not conflict.
    pub(crate) fn add(&mut self, key: &str, delta: i32) {
        self.write("INCRBY", key).arg(delta);
    }

    /// Records the time at which something of a kind ends, for [`ended`](Self::ended).
    pub(crate) fn add_end(&mut self, kind: &str, id: &str, end: OffsetDateTime) {
        self.write("ZADD", &ends(kind)).arg(micros(end)).arg(id);
    }

    /// Removes a recorded end.
    pub(crate) fn remove_end(&mut self, kind: &str, id: &str) {
        self.write("ZREM", &ends(kind)).arg(id);
    }

    /// Adds an id to a list, or removes it.
    pub(crate) fn set_member(&mut self, list: &str, id: impl Display, is_member: bool) {
        if is_member {
            self.write("ZADD", list).arg(0).arg(id.to_string());
        } else {
            self.write("ZREM", list).arg(id.to_string());
        }
    }

    /// Adds a command to the writes.
    fn write(&mut self, command: &str, key: &str) -> &mut Pipeline {
        let key = self.key(key);
        self.writes.cmd(command).arg(key).ignore()
    }

    /// Returns the key as Redis stores it.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

/// Returns the key of the sorted set of the ends of a kind. Scores are microseconds. Redis stores them as
/// floating-point numbers, which are exact up to the year 2255.
pub(crate) fn ends(kind: &str) -> String {
    format!("ends/{kind}")
}

fn invalid(error: serde_json::Error) -> StorageError {
    StorageError::Failed(error.into())
}

#[cfg(test)]
mod tests;
