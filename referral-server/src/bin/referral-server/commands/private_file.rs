//! Files with personal data that commands create.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process,
};

use tempfile::NamedTempFile;
use tokio::task::JoinHandle;

use crate::commands::serve::{Result, StopSignals};

/// File with mode 0600 that gets its name when it is complete. Before, it has a hidden name in the same directory.
/// It is removed if it is dropped, and if a signal ends the process.
pub(crate) struct PrivateFile {
    temporary: NamedTempFile,
    path: PathBuf,
    replaces: bool,
    removal: JoinHandle<()>,
}

impl PrivateFile {
    /// Creates the file. An existing file with the name is an error, unless it `replaces` that file.
    pub(crate) fn create(path: &Path, replaces: bool) -> Result<Self> {
        if !replaces && path.exists() {
            return Err(exists(path).into());
        }
        // Before the file is created, so that no signal is lost.
        let mut signals = StopSignals::new()?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        // A temporary file has the mode 0600.
        let temporary = NamedTempFile::new_in(directory.unwrap_or(Path::new(".")));
        let temporary = temporary.map_err(|error| failed(path, &error))?;
        let hidden = temporary.path().to_owned();
        let removal = tokio::spawn(async move {
            let code = signals.next().await;
            let _ = fs::remove_file(hidden);
            process::exit(code)
        });
        Ok(Self { temporary, path: path.to_owned(), replaces, removal })
    }

    pub(crate) fn as_file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Gives the file its name, and returns the name.
    pub(crate) fn finish(self) -> Result<PathBuf> {
        let Self { temporary, path, replaces, removal } = self;
        temporary.as_file().sync_all().map_err(|error| failed(&path, &error))?;
        let persisted = if replaces { temporary.persist(&path) } else { temporary.persist_noclobber(&path) };
        persisted.map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => exists(&path),
            _ => failed(&path, &error.error),
        })?;
        removal.abort();
        Ok(path)
    }
}

fn exists(path: &Path) -> String {
    format!("{} exists; remove it, or replace it with --force", path.display())
}

fn failed(path: &Path, error: &io::Error) -> String {
    format!("failed to write {}: {error}", path.display())
}
