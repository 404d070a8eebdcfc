//! Command `openapi`.

use std::{
    io::{self, Write as _},
    sync::Arc,
};

use referral_core::{
    ReferralService,
    keys::{Peppers, SigningKeys},
    random::SystemRandom,
    sms::DevelopmentSender,
    storage::MemoryStorage,
};

use crate::commands::serve::Result;

/// Prints the OpenAPI document. It does not depend on settings, so no database is opened.
pub(crate) fn run() -> Result<()> {
    let keys = SigningKeys::generate(&SystemRandom);
    let peppers = Peppers::generate(&SystemRandom);
    let storage = Arc::new(MemoryStorage::new());
    let referral = ReferralService::builder(storage, Arc::new(DevelopmentSender), keys, peppers).build()?;
    match io::stdout().write_all(referral_server::openapi(&referral).as_bytes()) {
        // The reader, such as `head`, may close the pipe early.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
