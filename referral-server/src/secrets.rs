//! Key sets: given as they are, read from files that nobody else can read, or made where the data
//! folder has none.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use referral_core::{
    KeyPurpose, Peppers, SigningKeys, keys::KeyError, random::SystemRandom, storage::KnownKey,
};
use zeroize::Zeroizing;

use crate::cli::Settings;

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("cannot use {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("there is no file {}; leave the flag out, and one is made in the data folder", .0.display())]
    Missing(PathBuf),
    #[error("{} can be read by others; run: chmod 600 {}", .0.display(), .0.display())]
    Exposed(PathBuf),
    #[error("{place}: {source}")]
    Broken { place: String, source: KeyError },
    #[error(
        "the database is in use with the {purpose} `{id}`, but there is no file {}; copy it from where the \
         database was used before, or name it in the settings", path.display()
    )]
    InUse { purpose: KeyPurpose, id: String, path: PathBuf },
}

/// The keys that sign tokens. `known` are those that the database is in use with.
pub(crate) fn signing_keys(settings: &Settings, known: &[KnownKey]) -> Result<SigningKeys, SecretError> {
    let secret = Secret {
        purpose: KeyPurpose::Signing,
        given: settings.tokens.keys.as_deref(),
        variable: "REFERRAL_KEYS",
        file: settings.tokens.key_file.as_deref(),
        usual: settings.store.data_dir.join("keys.json"),
    };
    let json = secret.read(known, || SigningKeys::generate_jwk_set(&SystemRandom))?;
    SigningKeys::from_jwk_set(&json).map_err(|source| secret.broken(source))
}

/// The peppers that hash codes.
pub(crate) fn peppers(settings: &Settings, known: &[KnownKey]) -> Result<Peppers, SecretError> {
    let secret = Secret {
        purpose: KeyPurpose::Pepper,
        given: settings.sign_in.peppers.as_deref(),
        variable: "REFERRAL_PEPPERS",
        file: settings.sign_in.pepper_file.as_deref(),
        usual: settings.store.data_dir.join("peppers.json"),
    };
    let json = secret.read(known, || Peppers::generate_jwk_set(&SystemRandom))?;
    Peppers::from_jwk_set(&json).map_err(|source| secret.broken(source))
}

/// Where a key set may be.
struct Secret<'a> {
    purpose: KeyPurpose,
    /// The set itself, and the variable that it comes from.
    given: Option<&'a str>,
    variable: &'static str,
    /// A file with it.
    file: Option<&'a Path>,
    /// The file where it is otherwise, made if it is not there.
    usual: PathBuf,
}

impl Secret<'_> {
    /// Reads the set. A new one is made only for a database that has not been in use: else what
    /// others sign and hash would be refused here.
    fn read<S: AsRef<str>>(
        &self,
        known: &[KnownKey],
        generate: impl FnOnce() -> S,
    ) -> Result<Zeroizing<String>, SecretError> {
        if let Some(json) = self.given {
            return Ok(json.to_owned().into());
        }
        let path = self.path();
        let failed = |source| SecretError::Io { path: path.to_owned(), source };
        if self.file.is_some() && !path.exists() {
            return Err(SecretError::Missing(path.to_owned()));
        }
        if !path.exists() {
            if let Some(key) = known.iter().find(|key| key.purpose == self.purpose) {
                let (purpose, id) = (key.purpose, key.id.clone());
                return Err(SecretError::InUse { purpose, id, path: path.to_owned() });
            }
            create(path, generate().as_ref()).map_err(failed)?;
            tracing::info!(path = %path.display(), "a new key file was made");
        }
        let json = fs::read_to_string(path).map_err(failed)?;
        if is_exposed(path).map_err(failed)? {
            return Err(SecretError::Exposed(path.to_owned()));
        }
        Ok(json.into())
    }

    fn path(&self) -> &Path {
        self.file.unwrap_or(&self.usual)
    }

    fn broken(&self, source: KeyError) -> SecretError {
        match self.given {
            Some(_) => SecretError::Broken { place: self.variable.to_owned(), source },
            None => SecretError::Broken { place: self.path().display().to_string(), source },
        }
    }
}

/// Writes a whole file or none, for its owner only, and never over one that another process has
/// made meanwhile.
fn create(path: &Path, content: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    draft.write_all(content.as_bytes())?;
    draft.as_file().sync_all()?;
    match draft.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        _ => Ok(()),
    }
}

/// Makes the data folder, for its owner only.
pub(crate) fn create_data_dir(path: &Path) -> Result<(), SecretError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| SecretError::Io { path: path.to_owned(), source })
}

fn is_exposed(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::metadata(path)?.permissions().mode() & 0o077 != 0)
}
