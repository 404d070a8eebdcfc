//! Connections that replace the prefix of the tables in each statement.

use futures_util::stream::BoxStream;
use sqlx::{
    ConnectOptions as _, Connection as _, Either, Execute, Executor as _, SqlStr, Sqlite, SqliteConnection,
    error::BoxDynError,
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteQueryResult, SqliteRow, SqliteStatement},
};

use super::table_prefix::TablePrefix;
use crate::pool::Pooled;

/// Database file with the prefix of its tables.
#[derive(Clone)]
pub(super) struct File {
    pub(super) options: SqliteConnectOptions,
    pub(super) prefix: TablePrefix,
}

impl File {
    pub(super) async fn connect(&self) -> sqlx::Result<Connection<'static>> {
        Ok(Connection { raw: Raw::Own(self.options.connect().await?), prefix: self.prefix.clone() })
    }
}

/// Connection for statements whose text has the default prefix. With another prefix, the text is replaced
/// before each execution. The connection keeps the statements prepared, because the same text results each
/// time.
pub(crate) struct Connection<'c> {
    raw: Raw<'c>,
    prefix: TablePrefix,
}

enum Raw<'c> {
    Own(SqliteConnection),
    /// Connection in a transaction of the host.
    Host(&'c mut SqliteConnection),
}

impl<'c> Connection<'c> {
    /// Wraps a connection of the host to the same file.
    pub(super) fn of_host(connection: &'c mut SqliteConnection, prefix: TablePrefix) -> Self {
        Self { raw: Raw::Host(connection), prefix }
    }

    /// Returns the connection for statements without tables of the storage, such as those of the host.
    pub(super) fn raw(&mut self) -> &mut SqliteConnection {
        match &mut self.raw {
            Raw::Own(connection) => connection,
            Raw::Host(connection) => connection,
        }
    }

    pub(super) async fn execute<'q>(
        &mut self,
        query: impl Execute<'q, Sqlite> + 'q,
    ) -> sqlx::Result<SqliteQueryResult> {
        let query = self.renamed(query);
        self.raw().execute(query).await
    }

    pub(super) async fn fetch_one<'q>(
        &mut self,
        query: impl Execute<'q, Sqlite> + 'q,
    ) -> sqlx::Result<SqliteRow> {
        let query = self.renamed(query);
        self.raw().fetch_one(query).await
    }

    pub(super) async fn fetch_optional<'q>(
        &mut self,
        query: impl Execute<'q, Sqlite> + 'q,
    ) -> sqlx::Result<Option<SqliteRow>> {
        let query = self.renamed(query);
        self.raw().fetch_optional(query).await
    }

    pub(super) async fn fetch_all<'q>(
        &mut self,
        query: impl Execute<'q, Sqlite> + 'q,
    ) -> sqlx::Result<Vec<SqliteRow>> {
        let query = self.renamed(query);
        self.raw().fetch_all(query).await
    }

    pub(super) fn fetch_many<'e, 'q: 'e>(
        &'e mut self,
        query: impl Execute<'q, Sqlite> + 'q,
    ) -> BoxStream<'e, sqlx::Result<Either<SqliteQueryResult, SqliteRow>>> {
        let query = self.renamed(query);
        self.raw().fetch_many(query)
    }

    fn renamed<E>(&self, query: E) -> Renamed<E> {
        Renamed { query, prefix: self.prefix.clone() }
    }
}

impl Pooled for Connection<'static> {
    async fn ping(&mut self) -> sqlx::Result<()> {
        self.raw().ping().await
    }

    async fn close(self) -> sqlx::Result<()> {
        match self.raw {
            Raw::Own(connection) => connection.close().await,
            Raw::Host(_) => Ok(()),
        }
    }
}

/// Query whose statement gets the prefix of the tables.
struct Renamed<E> {
    query: E,
    prefix: TablePrefix,
}

impl<'q, E: Execute<'q, Sqlite>> Execute<'q, Sqlite> for Renamed<E> {
    fn sql(self) -> SqlStr {
        self.prefix.rename_in(self.query.sql())
    }

    fn statement(&self) -> Option<&SqliteStatement> {
        None
    }

    fn take_arguments(&mut self) -> Result<Option<SqliteArguments>, BoxDynError> {
        self.query.take_arguments()
    }

    fn persistent(&self) -> bool {
        self.query.persistent()
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row as _;

    use super::*;

    #[tokio::test]
    async fn a_renamed_statement_stays_prepared() {
        let options = SqliteConnectOptions::new().in_memory(true);
        let file = File { options, prefix: TablePrefix::parse("other_").expect("valid") };
        let mut connection = file.connect().await.expect("opened");
        connection.execute("CREATE TABLE referral_users (id)").await.expect("created");
        for number in 1..=3 {
            let add = sqlx::query("INSERT INTO referral_users (id) VALUES ($1)").bind("referral_");
            connection.execute(add).await.expect("added");
            let row = connection.fetch_one(sqlx::query("SELECT count(*), id FROM referral_users")).await;
            let row = row.expect("a row");
            assert_eq!(
                (row.get::<i64, _>(0), row.get::<&str, _>(1)),
                (number, "referral_"),
                "values are not renamed"
            );
        }
        let table = connection.raw().fetch_one("SELECT name FROM sqlite_master").await.expect("a table");
        assert_eq!(table.get::<&str, _>(0), "other_users");
        // The thread of the connection updates the number after each statement, so before the last one.
        assert_eq!(connection.raw().cached_statements_size(), 2);
    }
}
