//! Command `limits unlock`, which resets the counters of a phone.

use clap::Subcommand;

use crate::{
    commands::{
        audit::entry_json,
        output::{OutputFormat, print_json, print_text},
        serve::{self, Result},
        users::{
            GivenReason,
            lookup::{self, Match},
        },
    },
    settings::{Settings, flags},
    sms_config::Messages,
};

#[derive(Debug, Subcommand)]
pub(crate) enum LimitsCommand {
    /// Reset the counters of a phone: its codes, wrong codes, unknown invite codes and changes of the email
    /// address. The limits of addresses and number ranges still apply.
    Unlock {
        /// Phone, in international form, or in any spelling if it is the phone of a user
        #[arg(long)]
        phone: String,
        #[command(flatten)]
        reason: GivenReason,
        #[command(flatten)]
        format: OutputFormat,
    },
}

pub(crate) async fn run(settings: &Settings, command: &LimitsCommand) -> Result<()> {
    let LimitsCommand::Unlock { phone, reason, format } = command;
    let reason = reason.parse()?;
    let referral = serve::build(settings, Messages::none(), None, ()).await?;
    let host = referral.host_administration();
    let unlock = async {
        let phone = match referral.parse_phone(phone) {
            Ok(phone) => phone,
            Err(invalid) => match lookup::one(&host, phone, Match::Whole).await {
                Ok(user) => user.phone,
                Err(error) => {
                    let invalid = flags::phrase(&invalid.to_string());
                    return Err(format!("--phone: {invalid}; as a user: {error}").into());
                }
            },
        };
        let entry = host.unlock_phone(phone.clone(), reason).await?;
        if format.json {
            return print_json(&entry_json(&entry));
        }
        print_text(&format!("unlocked {}", phone.as_str()))
    };
    let result = unlock.await;
    referral.close().await;
    result
}
