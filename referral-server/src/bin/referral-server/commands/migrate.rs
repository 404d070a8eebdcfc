//! Command `migrate`.

use std::io::{self, Write as _};

use crate::{
    commands::serve::{self, Result},
    settings::Settings,
};

/// Applies the migrations that are missing.
pub(crate) async fn run(mut settings: Settings) -> Result<()> {
    if settings.postgres.database_pooler == Some(true) && settings.postgres.database_migration_url.is_none() {
        return Err(
            "failed to migrate the database: a pooler cannot apply migrations; give the direct URL of the \
                    database with --database-migration-url"
                .into(),
        );
    }
    settings.store.migrate = true;
    let storage = serve::connect(&settings).await?;
    storage.close().await;
    Ok(writeln!(io::stdout(), "the schema of the database is up to date")?)
}
