//! Command `create-superuser`.

use std::io::{self, Write as _};

use referral_core::PhoneNumber;

use crate::{
    commands::serve::{self, Result},
    settings::{Settings, flags},
    sms_config::Messages,
};

/// Makes the user with a phone staff.
pub(crate) async fn run(settings: &Settings, phone: &str) -> Result<()> {
    let phone = PhoneNumber::parse(phone, settings.policy().default_region)
        .map_err(|error| format!("--phone: {}", flags::phrase(&error.to_string())))?;
    let referral = serve::build(settings, Messages::none(), None, ()).await?;
    let user = referral.make_staff(phone).await?;
    referral.close().await;
    Ok(writeln!(io::stdout(), "{} is staff: user {}", user.phone.as_str(), user.id)?)
}
