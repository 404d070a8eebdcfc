//! Key sets of the settings: given as values, read from private files, or created in the data directory.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, fchown},
    path::{Path, PathBuf},
};

use referral_core::{
    keys::{KeyError, KeyPurpose, Peppers, SigningKeys},
    random::SystemRandom,
    storage::RegisteredKey,
};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use crate::settings::{Settings, flags};

/// Error of a key set or of the data directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("failed to use {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "there is no file {}; copy it from another host, or create it: referral-server keys generate --purpose {}",
        path.display(), purpose.as_str()
    )]
    Missing { purpose: KeyPurpose, path: PathBuf },
    #[error(
        "{path} has mode {mode:04o}, so other users can read or write it; run: chmod {needed:o} {path}",
        path = path.display()
    )]
    Exposed { path: PathBuf, mode: u32, needed: u32 },
    #[error(
        "{path} belongs to user {owner}, but this process runs as user {user}; run it as user {owner}, or run: \
         chown {user} {path}",
        path = path.display()
    )]
    OfOther { path: PathBuf, owner: u32, user: u32 },
    #[error("{}: {error}", flags::with_variable(flag))]
    Flag { flag: &'static str, error: Box<SecretError> },
    #[error("failed to use {} as the data directory: {reason}; name a directory that this process can create and \
             write to", path.display())]
    DataDir { path: PathBuf, reason: String },
    #[error("{place}: {source}")]
    Broken { place: String, source: KeyError },
    #[error(
        "the database is in use with the {purpose} `{id}`, but there is no file {}; copy it from the host that \
         used the database before, or name the file in the settings", path.display()
    )]
    InUse { purpose: KeyPurpose, id: String, path: PathBuf },
    #[error("{} already exists; to add another key to it, run: referral-server keys rotate", .0.display())]
    Present(PathBuf),
    #[error(
        "{variable} is set, and this command cannot change it; add `--purpose {} --print`, and set the variable to \
         the output on every host", purpose.as_str()
    )]
    Given { purpose: KeyPurpose, variable: &'static str },
}

/// Reads the keys that sign tokens and the peppers that hash codes.
pub(crate) fn read(settings: &Settings) -> Result<(SigningKeys, Peppers), SecretError> {
    let [signing, pepper] = KeyPurpose::ALL.map(|purpose| Secret::of(settings, purpose));
    let keys = SigningKeys::from_jwk_set(&signing.read()?).map_err(|source| signing.broken(source))?;
    let peppers = Peppers::from_jwk_set(&pepper.read()?).map_err(|source| pepper.broken(source))?;
    Ok((keys, peppers))
}

/// Checks the key sets that exist, and that files named by flags exist.
///
/// It is called before the database is opened, so that a mistake does not leave a new database behind.
pub(crate) fn check_present(settings: &Settings) -> Result<(), SecretError> {
    for purpose in KeyPurpose::ALL {
        let secret = Secret::of(settings, purpose);
        if secret.given.is_some() || secret.file.is_some() || secret.path().exists() {
            secret.check(&secret.read()?)?;
        }
    }
    Ok(())
}

/// Creates key sets that are missing in the data directory, but only for a database that was never used.
///
/// Otherwise this process would reject tokens and codes of other processes. `known` are the keys that the
/// database is in use with.
pub(crate) fn make_missing(settings: &Settings, known: &[RegisteredKey]) -> Result<(), SecretError> {
    for purpose in KeyPurpose::ALL {
        let secret = Secret::of(settings, purpose);
        if secret.given.is_some() || secret.path().exists() {
            continue;
        }
        let path = secret.path().to_owned();
        if let Some(key) = known.iter().find(|key| key.purpose == purpose) {
            return Err(SecretError::InUse { purpose, id: key.id.clone(), path });
        }
        if secret.file.is_some() {
            return Err(SecretError::Missing { purpose, path });
        }
        let json = match purpose {
            KeyPurpose::Signing => SigningKeys::generate(&SystemRandom).to_jwk_set(),
            KeyPurpose::Pepper => Peppers::generate(&SystemRandom).to_jwk_set(),
        };
        match secret.create(&json) {
            // Another process created the file first, and its keys can be used.
            Err(SecretError::Present(_)) => {}
            created => {
                created?;
                tracing::info!(path = %path.display(), "created a key file");
            }
        }
    }
    Ok(())
}

/// Sources of a key set.
pub(crate) struct Secret<'a> {
    pub(crate) purpose: KeyPurpose,
    /// Key set that was given as a value.
    given: Option<&'a str>,
    /// Environment variable of the value.
    variable: &'static str,
    /// File that a flag names.
    file: Option<&'a Path>,
    /// File in the data directory, which is used if there is no other source. It is created if it is missing.
    usual: PathBuf,
}

impl<'a> Secret<'a> {
    pub(crate) fn of(settings: &'a Settings, purpose: KeyPurpose) -> Self {
        let Settings { tokens, sign_in, store, .. } = settings;
        let (given, variable, file, usual) = match purpose {
            KeyPurpose::Signing => (&tokens.keys, "REFERRAL_KEYS", &tokens.key_file, "keys.json"),
            KeyPurpose::Pepper => {
                (&sign_in.peppers, "REFERRAL_PEPPERS", &sign_in.pepper_file, "peppers.json")
            }
        };
        let usual = store.data_dir.join(usual);
        Self { purpose, given: given.as_deref(), variable, file: file.as_deref(), usual }
    }

    pub(crate) fn read(&self) -> Result<Zeroizing<String>, SecretError> {
        self.read_text().map_err(|error| self.at_flag(error))
    }

    fn read_text(&self) -> Result<Zeroizing<String>, SecretError> {
        if let Some(json) = self.given {
            return Ok(json.to_owned().into());
        }
        read_private(self.path()).map_err(|error| match error {
            SecretError::Io { path, source } if source.kind() == io::ErrorKind::NotFound => {
                SecretError::Missing { purpose: self.purpose, path }
            }
            other => other,
        })
    }

    /// Checks that a key set can be used for the purpose of this one.
    pub(crate) fn check(&self, json: &str) -> Result<(), SecretError> {
        let checked = match self.purpose {
            KeyPurpose::Signing => SigningKeys::from_jwk_set(json).map(|_| ()),
            KeyPurpose::Pepper => Peppers::from_jwk_set(json).map(|_| ()),
        };
        checked.map_err(|source| self.broken(source))
    }

    /// Creates the file. Fails if it exists.
    pub(crate) fn create(&self, json: &str) -> Result<(), SecretError> {
        let path = self.own_file()?;
        match create(path, json) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(SecretError::Present(path.to_owned()))
            }
            created => created.map_err(|source| SecretError::Io { path: path.to_owned(), source }),
        }
    }

    pub(crate) fn refuse_if_present(&self) -> Result<(), SecretError> {
        let path = self.own_file()?;
        if path.exists() { Err(SecretError::Present(path.to_owned())) } else { Ok(()) }
    }

    /// Replaces the key set in the file.
    pub(crate) fn replace(&self, json: &str) -> Result<(), SecretError> {
        let path = self.own_file()?;
        replace(path, json).map_err(|source| SecretError::Io { path: path.to_owned(), source })
    }

    /// Returns the file. Fails if the key set was given as a value.
    pub(crate) fn own_file(&self) -> Result<&Path, SecretError> {
        match self.given {
            Some(_) => Err(SecretError::Given { purpose: self.purpose, variable: self.variable }),
            None => Ok(self.path()),
        }
    }

    /// Returns the variable or the path that the key set comes from.
    pub(crate) fn place(&self) -> String {
        match self.given {
            Some(_) => self.variable.to_owned(),
            None => self.path().display().to_string(),
        }
    }

    fn path(&self) -> &Path {
        self.file.unwrap_or(&self.usual)
    }

    fn broken(&self, source: KeyError) -> SecretError {
        let place = match (self.given, self.purpose) {
            (None, _) => self.place(),
            (Some(_), KeyPurpose::Signing) => flags::with_variable("--keys"),
            (Some(_), KeyPurpose::Pepper) => flags::with_variable("--peppers"),
        };
        self.at_flag(SecretError::Broken { place, source })
    }

    /// Adds the flag that names the file to an error, if there is one.
    fn at_flag(&self, error: SecretError) -> SecretError {
        let flag = match (self.file, self.purpose) {
            (None, _) => return error,
            (Some(_), KeyPurpose::Signing) => "--key-file",
            (Some(_), KeyPurpose::Pepper) => "--pepper-file",
        };
        SecretError::Flag { flag, error: Box::new(error) }
    }
}

/// Reads a file that no other user may read or write.
pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let failed = |source| SecretError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    check_private(path, &file.metadata().map_err(failed)?)?;
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Creates a file atomically, for its owner only. Fails if it exists.
fn create(path: &Path, content: &str) -> io::Result<()> {
    let directory = directory_of(path);
    draft(directory, content)?.persist_noclobber(path)?;
    File::open(directory)?.sync_all()
}

/// Replaces a file atomically, for the same owner only.
fn replace(path: &Path, content: &str) -> io::Result<()> {
    // Replaces the target of a link and keeps the link.
    let path = path.canonicalize()?;
    let directory = directory_of(&path);
    let draft = draft(directory, content)?;
    // The owner is the same, because otherwise the file could not have been read.
    let [former, own] = [fs::metadata(&path)?, draft.as_file().metadata()?];
    if former.gid() != own.gid() {
        fchown(draft.as_file(), None, Some(former.gid()))?;
    }
    draft.persist(&path)?;
    File::open(directory)?.sync_all()
}

/// Creates a temporary file in `directory` that only its owner can read.
fn draft(directory: &Path, content: &str) -> io::Result<NamedTempFile> {
    let mut draft = NamedTempFile::new_in(directory)?;
    draft.write_all(content.as_bytes())?;
    draft.as_file().sync_all()?;
    Ok(draft)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates the data directory, for its owner only, or checks the existing one.
///
/// Parent directories are not checked. Other users that can write to them can replace the data directory, but
/// only by one that they own, which the next start rejects.
pub(crate) fn create_data_dir(path: &Path) -> Result<(), SecretError> {
    let at_flag = |error| SecretError::Flag { flag: "--data-dir", error: Box::new(error) };
    let failed = |reason: String| at_flag(SecretError::DataDir { path: path.to_owned(), reason });
    if path.exists() && !path.is_dir() {
        return Err(failed("it is not a directory".into()));
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| failed(error.to_string()))?;
    let metadata = fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    check_private(path, &metadata).map_err(at_flag)
}

/// Checks the data directory if it exists.
pub(crate) fn check_data_dir(path: &Path) -> Result<(), SecretError> {
    match fs::metadata(path) {
        Ok(metadata) => check_private(path, &metadata)
            .map_err(|error| SecretError::Flag { flag: "--data-dir", error: Box::new(error) }),
        // Commands that read from it report the missing files.
        Err(_) => Ok(()),
    }
}

/// Rejects a file or directory that another user owns, or can read or write.
fn check_private(path: &Path, metadata: &Metadata) -> Result<(), SecretError> {
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        return Err(SecretError::OfOther { path: path.to_owned(), owner, user });
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        let needed = if metadata.is_dir() { 0o700 } else { 0o600 };
        return Err(SecretError::Exposed { path: path.to_owned(), mode, needed });
    }
    Ok(())
}
