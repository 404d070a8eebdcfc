//! Key files: read if nobody else can read them, made where the data folder has none.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use referral_core::{Peppers, SigningKeys, keys::KeyError, random::SystemRandom};

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
    #[error("{}: {source}", path.display())]
    Broken { path: PathBuf, source: KeyError },
}

/// The keys that sign tokens.
pub(crate) fn signing_keys(settings: &Settings) -> Result<SigningKeys, SecretError> {
    let (path, json) =
        read(settings.tokens.key_file.as_deref(), &settings.store.data_dir.join("keys.json"), || {
            SigningKeys::generate_jwk_set(&SystemRandom)
        })?;
    SigningKeys::from_jwk_set(&json).map_err(|source| SecretError::Broken { path, source })
}

/// The peppers that hash codes.
pub(crate) fn peppers(settings: &Settings) -> Result<Peppers, SecretError> {
    let (path, json) =
        read(settings.sign_in.pepper_file.as_deref(), &settings.store.data_dir.join("peppers.json"), || {
            Peppers::generate_jwk_set(&SystemRandom)
        })?;
    Peppers::from_jwk_set(&json).map_err(|source| SecretError::Broken { path, source })
}

/// Reads the file that was given, or else the usual one, which is made if it is not there.
fn read<S: AsRef<str>>(
    given: Option<&Path>,
    usual: &Path,
    generate: impl FnOnce() -> S,
) -> Result<(PathBuf, String), SecretError> {
    let path = given.unwrap_or(usual);
    let failed = |source| SecretError::Io { path: path.to_owned(), source };
    if given.is_some() && !path.exists() {
        return Err(SecretError::Missing(path.to_owned()));
    }
    if !path.exists() {
        create(path, generate().as_ref()).map_err(failed)?;
        tracing::info!(path = %path.display(), "a new key file was made");
    }
    let json = fs::read_to_string(path).map_err(failed)?;
    if is_exposed(path).map_err(failed)? {
        return Err(SecretError::Exposed(path.to_owned()));
    }
    Ok((path.to_owned(), json))
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
