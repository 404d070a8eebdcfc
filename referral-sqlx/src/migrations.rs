//! Migrations of the schema for both databases, and the program versions that each of them works with.

use std::{
    borrow::Cow,
    fmt::Write as _,
    sync::atomic::{AtomicI64, Ordering},
};

use semver::Version;
use sqlx::{
    AssertSqlSafe, SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
};

/// Version of this crate. A migration of a newer version may require a newer one.
const PROGRAM_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Error of a schema that does not work with this version of the program.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchemaError {
    /// Migrations are missing.
    #[error(
        "migration {version} of {table} is missing, but version {PROGRAM_VERSION} of the program needs it; run: \
         referral-server migrate"
    )]
    Missing {
        /// Number of the first missing migration.
        version: i64,
        /// Name of the table that lists the migrations.
        table: String,
    },
    /// An applied migration differs from the migration with the same number in this program.
    #[error(
        "migration {version} in {table} differs from that of version {PROGRAM_VERSION} of the program; another \
         build of the program created the database"
    )]
    Different {
        /// Number of the migration.
        version: i64,
        /// Name of the table that lists the migrations.
        table: String,
    },
    /// A newer version of the program applied a migration that this version cannot work with.
    #[error(
        "migration {version} in {table} works with version {oldest} of the program and later, but this is version \
         {PROGRAM_VERSION}; upgrade the program"
    )]
    Incompatible {
        /// Number of the migration.
        version: i64,
        /// Oldest version of the program that works with the migration.
        oldest: String,
        /// Name of the table that lists the migrations.
        table: String,
    },
    /// A migration was started but not finished.
    #[error(
        "migration {version} in {table} was not finished; restore the database from a backup, or undo the changes \
         of the migration and delete its row"
    )]
    Unfinished {
        /// Number of the migration.
        version: i64,
        /// Name of the table that lists the migrations.
        table: String,
    },
}

/// Migration of the schema, for hosts that apply migrations themselves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SchemaMigration {
    /// Number of the migration. They are applied in this order.
    pub version: i64,
    /// Name of the migration.
    pub name: Cow<'static, str>,
    /// Statements of the migration. The last one records it in the table that lists the migrations. Apply them in
    /// one transaction.
    pub sql: String,
}

/// Row of the table that lists the migrations.
pub(crate) struct Applied {
    pub(crate) version: i64,
    pub(crate) checksum: Vec<u8>,
    pub(crate) is_finished: bool,
    /// Oldest version of the program that works with the migration, if it is recorded.
    pub(crate) oldest_program: Option<String>,
}

/// Migrations of one database.
pub(crate) struct Migrations {
    /// Name of the table that lists the applied migrations.
    pub(crate) table: String,
    pub(crate) all: Vec<Migration>,
    /// Newest migration of a newer program that has been logged.
    logged: AtomicI64,
}

impl Migrations {
    pub(crate) fn new(table: &str, all: Vec<Migration>) -> Self {
        Self { table: table.to_owned(), all, logged: AtomicI64::new(0) }
    }

    /// Creates a migrator that applies the missing migrations. The applied ones must have passed
    /// [`check`](Self::check).
    pub(crate) fn migrator(&self) -> Migrator {
        let mut migrator = Migrator::with_migrations(self.all.clone());
        migrator.dangerous_set_table_name(self.table.clone());
        migrator.set_ignore_missing(true);
        migrator
    }

    /// Checks that this program works with the migrations in `applied` after the missing ones are applied
    /// too. Returns the number of the first missing migration. Logs a migration of a newer program when it is
    /// first seen.
    pub(crate) fn check(&self, applied: &[Applied]) -> Result<Option<i64>, SchemaError> {
        let table = || self.table.clone();
        let mut known = self.all.iter().peekable();
        for Applied { version, checksum, is_finished, oldest_program } in applied {
            let version = *version;
            if !is_finished {
                return Err(SchemaError::Unfinished { version, table: table() });
            }
            match known.peek() {
                Some(next) if next.version == version => {
                    if next.checksum != checksum.as_slice() {
                        return Err(SchemaError::Different { version, table: table() });
                    }
                    known.next();
                }
                // This migration was applied, but an earlier one was not.
                Some(next) if next.version < version && self.is_known(version) => {
                    return Err(SchemaError::Missing { version: next.version, table: table() });
                }
                _ => self.check_newer(version, oldest_program.as_deref())?,
            }
        }
        Ok(known.next().map(|migration| migration.version))
    }

    /// Returns each migration as a script that also records it, as [`migrator`](Self::migrator) does. `first`
    /// creates what the migrations need. `bytes` is the start of a literal of bytes.
    pub(crate) fn scripts(&self, first: &str, bytes: &str) -> Vec<SchemaMigration> {
        let script = |migration: &Migration| {
            let (version, table) = (migration.version, &self.table);
            let name = migration.description.clone();
            let mut checksum = String::new();
            for byte in migration.checksum.iter() {
                let _ = write!(checksum, "{byte:02x}");
            }
            let sql = format!(
                "{first}\n{}\n\
                 INSERT INTO {table} (version, description, success, checksum, execution_time) \
                 VALUES ({version}, '{name}', TRUE, {bytes}{checksum}', 0);\n",
                migration.sql.as_str(),
            );
            SchemaMigration { version, name, sql }
        };
        self.all.iter().map(script).collect()
    }

    /// Performs the same checks as [`check`](Self::check), and returns an error if a migration is missing.
    pub(crate) fn check_complete(&self, applied: &[Applied]) -> Result<(), SchemaError> {
        match self.check(applied)? {
            Some(version) => Err(SchemaError::Missing { version, table: self.table.clone() }),
            None => Ok(()),
        }
    }

    /// Logs that the migrations starting with `first` were applied, unless the database was new.
    pub(crate) fn log_applied(&self, first: i64) {
        let last = self.all.last().map(|migration| migration.version);
        if self.all.first().is_some_and(|migration| migration.version < first) {
            tracing::info!(first, last, "migrated the database");
        }
    }

    fn is_known(&self, version: i64) -> bool {
        self.all.iter().any(|migration| migration.version == version)
    }

    fn check_newer(&self, version: i64, oldest: Option<&str>) -> Result<(), SchemaError> {
        let table = self.table.clone();
        let Some(oldest) = oldest else { return Err(SchemaError::Different { version, table }) };
        let is_compatible = Version::parse(oldest).is_ok_and(|oldest| oldest <= program_version());
        if !is_compatible {
            return Err(SchemaError::Incompatible { version, oldest: oldest.to_owned(), table });
        }
        if self.logged.fetch_max(version, Ordering::Relaxed) < version {
            tracing::warn!(
                migration = version,
                oldest_program = oldest,
                program = PROGRAM_VERSION,
                "a newer version of the program has migrated the database; this version works with it"
            );
        }
        Ok(())
    }
}

fn program_version() -> Version {
    Version::parse(PROGRAM_VERSION).expect("the version of a crate is a valid semantic version")
}

/// Creates a migration. A published migration must never change.
///
/// `oldest_program` is the oldest version of the program that works with the schema after the migration. It
/// is recorded in `table`. For a migration that only adds something, it is an older version than the one that
/// introduces the migration. For a migration that removes something, it is the first version that does not
/// use the removed part.
pub(crate) fn migration(
    version: i64,
    description: &'static str,
    oldest_program: &str,
    sql: &str,
    table: &str,
) -> Migration {
    let record =
        format!("INSERT INTO {table} (version, oldest_program) VALUES ({version}, '{oldest_program}');");
    let sql = AssertSqlSafe(format!("{sql}\n{record}")).into_sql_str();
    Migration::new(version, Cow::Borrowed(description), MigrationType::Simple, sql, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migrations() -> Migrations {
        let all = [1, 2].map(|version| migration(version, "test", "0.1.0", "SELECT 1;", "compatibility"));
        Migrations::new("migrations", all.into())
    }

    fn applied(migrations: &Migrations, newer: &[(i64, &str)]) -> Vec<Applied> {
        let known = migrations.all.iter().map(|migration| Applied {
            version: migration.version,
            checksum: migration.checksum.to_vec(),
            is_finished: true,
            oldest_program: Some("0.1.0".to_owned()),
        });
        let newer = newer.iter().map(|(version, oldest)| Applied {
            version: *version,
            checksum: Vec::new(),
            is_finished: true,
            oldest_program: Some((*oldest).to_owned()),
        });
        known.chain(newer).collect()
    }

    #[test]
    fn the_first_missing_migration_is_returned() {
        let migrations = migrations();
        let mut applied = applied(&migrations, &[]);
        assert_eq!(migrations.check_complete(&applied), Ok(()));
        applied.pop();
        assert_eq!(migrations.check(&applied), Ok(Some(2)));
        let missing = SchemaError::Missing { version: 2, table: "migrations".to_owned() };
        assert_eq!(migrations.check_complete(&applied), Err(missing));
        assert_eq!(migrations.check(&[]), Ok(Some(1)));
    }

    #[test]
    fn a_newer_migration_is_accepted_only_if_it_works_with_this_version() {
        let migrations = migrations();
        for oldest in ["0.0.1", PROGRAM_VERSION] {
            assert_eq!(migrations.check_complete(&applied(&migrations, &[(3, oldest)])), Ok(()), "{oldest}");
        }
        let next = Version { minor: program_version().minor + 1, ..program_version() }.to_string();
        for oldest in [next.as_str(), "99.0.0", "no version"] {
            let newer = applied(&migrations, &[(3, "0.1.0"), (4, oldest)]);
            let error = migrations.check(&newer).expect_err(oldest);
            let text = error.to_string();
            assert!(text.contains("migration 4 in migrations") && text.contains(oldest), "{text}");
            assert!(text.contains(PROGRAM_VERSION), "{text}");
        }
    }

    #[test]
    fn different_unfinished_and_unrecorded_migrations_are_rejected() {
        let migrations = migrations();
        let mut others = applied(&migrations, &[]);
        others[1].checksum[0] ^= 1;
        assert!(matches!(migrations.check(&others), Err(SchemaError::Different { version: 2, .. })));
        let mut unfinished = applied(&migrations, &[]);
        unfinished[1].is_finished = false;
        assert!(matches!(migrations.check(&unfinished), Err(SchemaError::Unfinished { version: 2, .. })));
        let mut unrecorded = applied(&migrations, &[(3, "0.1.0")]);
        unrecorded[2].oldest_program = None;
        assert!(matches!(migrations.check(&unrecorded), Err(SchemaError::Different { version: 3, .. })));
        let mut gap = applied(&migrations, &[]);
        gap.remove(0);
        assert!(matches!(migrations.check(&gap), Err(SchemaError::Missing { version: 1, .. })));
    }
}
