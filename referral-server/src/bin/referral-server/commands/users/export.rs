//! Command `users export`.

use std::{
    io::{self, Write},
    path::Path,
};

use referral_core::{Administration, UserId, audit::Reason};
use referral_server::PersonalDataText;

use super::{
    GivenReason, Named,
    lookup::{self, Match},
    view::label,
};
use crate::commands::{export::is_broken_pipe, output::escaped, private_file::PrivateFile, serve::Result};

/// Writes everything that is stored about a user.
pub(crate) async fn run(
    host: &Administration,
    named: &Named,
    reason: &GivenReason,
    output: Option<&Path>,
    replaces: bool,
) -> Result<()> {
    let reason = reason.parse()?;
    let user = lookup::one(host, &named.text(), Match::Whole).await?;
    let Some(path) = output else {
        return match write(host, user.id, reason, io::stdout()).await {
            // The reader, such as `head`, may close the pipe early.
            Err(error) if is_broken_pipe(&*error) => Ok(()),
            written => written,
        };
    };
    // An error of the file must not leave an entry in the audit log.
    let file = PrivateFile::create(path, replaces)?;
    write(host, user.id, reason, file.as_file()).await?;
    let path = file.finish()?;
    Ok(writeln!(io::stderr(), "exported the data of {} to {}", label(&user), path.display())?)
}

async fn write(host: &Administration, user: UserId, reason: Reason, mut output: impl Write) -> Result<()> {
    let mut text = PersonalDataText::new(host.personal_data(user, reason).await?);
    while let Some(part) = text.next_part().await? {
        output.write_all(escaped(&part).as_bytes())?;
    }
    Ok(output.flush()?)
}
