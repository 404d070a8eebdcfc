//! Command `create-superuser`.

use std::io::{self, Write as _};

use referral_core::{PhoneNumber, StaffRole};

use crate::{
    commands::serve::{self, Result},
    settings::{Settings, flags},
    sms_config::Messages,
};

/// Makes the user with a phone an admin.
pub(crate) async fn run(settings: &Settings, phone: &str) -> Result<()> {
    let phone = PhoneNumber::parse(phone, settings.policy().default_region)
        .map_err(|error| format!("--phone: {}", flags::phrase(&error.to_string())))?;
    let referral = serve::build(settings, Messages::none(), None, ()).await?;
    let user = referral.make_staff(phone, StaffRole::Admin).await?;
    referral.close().await;
    Ok(writeln!(io::stdout(), "{} is an admin: user {}", user.phone.as_str(), user.id)?)
}
