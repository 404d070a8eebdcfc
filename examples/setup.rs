//! Parts that the examples share: their arguments, and a `ReferralService` for development.

use std::{
    env,
    error::Error,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, ErrorKind, Write as _},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use referral_core::{
    ReferralService,
    keys::{Peppers, SigningKeys},
    random::SystemRandom,
    sms::{DevelopmentSender, SmsSender},
    storage::Storage,
};

/// Error of an example.
pub type AnyError = Box<dyn Error + Send + Sync>;

/// Arguments of an example: `example-axum [DIRECTORY] [ADDRESS]`.
#[derive(Debug)]
pub struct Arguments {
    /// Directory of the database and the keys. Default: `example-data`.
    pub directory: PathBuf,
    /// Address of the service. Default: `127.0.0.1:8080`. Port 0 selects a free port.
    pub address: SocketAddr,
    /// Further arguments.
    pub others: Vec<String>,
}

impl Arguments {
    /// Parses the arguments of the process, and creates the directory. Only the owner can read it, because it
    /// contains phone numbers and keys.
    ///
    /// # Errors
    ///
    /// Returns an error if the address is not an IP address with a port, or if the directory cannot be
    /// created.
    pub fn parse() -> Result<Self, AnyError> {
        let mut arguments = env::args().skip(1);
        let directory = PathBuf::from(arguments.next().unwrap_or_else(|| "example-data".into()));
        let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into()).parse()?;
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        Ok(Self { directory, address, others: arguments.collect() })
    }

    /// Returns the URL of the SQLite database.
    #[must_use]
    pub fn database_url(&self) -> String {
        format!("sqlite:{}", self.directory.join("referral.db").display())
    }
}

/// Opens the service with its SQLite database, and creates the database if it is missing. No messages are
/// sent: the development sender returns codes in responses.
///
/// # Errors
///
/// Returns an error if a file cannot be created or read.
pub async fn open(arguments: &Arguments) -> Result<ReferralService, AnyError> {
    let storage = referral_sqlx::connect(&arguments.database_url()).await?;
    open_with(arguments, storage, Arc::new(DevelopmentSender)).await
}

/// Opens the service with this storage and this sender, and creates its keys if they are missing.
///
/// # Errors
///
/// Returns an error if a file cannot be created or read, or if the storage fails.
pub async fn open_with(
    arguments: &Arguments,
    storage: Arc<dyn Storage>,
    sender: Arc<dyn SmsSender>,
) -> Result<ReferralService, AnyError> {
    let path = |name| arguments.directory.join(name);
    let keys = read_or_create(&path("keys.json"), || SigningKeys::generate(&SystemRandom).to_jwk_set())?;
    let peppers = read_or_create(&path("peppers.json"), || Peppers::generate(&SystemRandom).to_jwk_set())?;
    let keys = SigningKeys::from_jwk_set(&keys)?;
    let referral =
        ReferralService::builder(storage, sender, keys, Peppers::from_jwk_set(&peppers)?).build()?;
    referral.register_keys().await?;
    tokio::spawn(run_maintenance(referral.clone()));
    Ok(referral)
}

/// Deletes expired rows every minute.
async fn run_maintenance(referral: ReferralService) {
    let mut ticks = tokio::time::interval(Duration::from_mins(1));
    loop {
        ticks.tick().await;
        // The next run repeats what this one has not done.
        let _ = referral.run_maintenance().await;
    }
}

/// Returns the content of a file with secrets. Creates the file if it is missing.
fn read_or_create<T: AsRef<str>>(path: &Path, create: impl FnOnce() -> T) -> io::Result<String> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => file.write_all(create().as_ref().as_bytes())?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    fs::read_to_string(path)
}
