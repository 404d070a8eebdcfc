//! Parts that the examples share: their arguments, and a `ReferralService` for development.

use std::{
    env,
    error::Error,
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write as _},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use referral_core::{
    ReferralService,
    keys::{Peppers, SigningKeys},
    random::SystemRandom,
    sms::DevelopmentSender,
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
}

impl Arguments {
    /// Parses the arguments of the process.
    ///
    /// # Errors
    ///
    /// Returns an error if the address is not an IP address with a port.
    pub fn parse() -> Result<Self, AnyError> {
        let mut arguments = env::args().skip(1);
        let directory = arguments.next().unwrap_or_else(|| "example-data".into()).into();
        let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into()).parse()?;
        Ok(Self { directory, address })
    }
}

/// Opens the service with its SQLite database and its keys in `directory`, and creates them if they are
/// missing. No messages are sent: the development sender returns codes in responses.
///
/// # Errors
///
/// Returns an error if a file cannot be created or read.
pub async fn open(directory: &Path) -> Result<ReferralService, AnyError> {
    fs::create_dir_all(directory)?;
    let keys =
        read_or_create(&directory.join("keys.json"), || SigningKeys::generate(&SystemRandom).to_jwk_set())?;
    let peppers =
        read_or_create(&directory.join("peppers.json"), || Peppers::generate(&SystemRandom).to_jwk_set())?;
    let database = format!("sqlite:{}", directory.join("referral.db").display());
    let referral = ReferralService::builder(
        referral_sqlx::connect(&database).await?,
        Arc::new(DevelopmentSender),
        SigningKeys::from_jwk_set(&keys)?,
        Peppers::from_jwk_set(&peppers)?,
    )
    .build()?;
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
