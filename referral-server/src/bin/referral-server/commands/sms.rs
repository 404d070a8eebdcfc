//! Commands `sms …`, which test gateways and show message texts.

use std::io::{self, Write as _};

use clap::Subcommand;
use referral_core::{
    CodePurpose, OneTimeCode,
    policy::CODE_LENGTHS,
    random::{Random as _, SystemRandom},
    sms::{
        Attempt, Encoding, Locale, MessageTemplates, Observer, Receipt, SmsMessage, SmsSender as _,
        TemplatePreview,
        http::{PRESETS, preset},
    },
};
use referral_server::reports_url;

use crate::{commands::serve::Result, settings::Settings, sms_config::NO_CONFIG};

#[derive(Debug, Subcommand)]
pub(crate) enum SmsCommand {
    /// Send one message through the gateways, and print the outcome of each.
    ///
    /// The message costs as much as any other message. Its code is invalid. Limits are not enforced, and
    /// nothing is stored.
    Test {
        /// Phone of the recipient, in international form
        phone: String,
        /// Language of the message, such as `ru`
        #[arg(long, value_name = "LOCALE")]
        locale: Option<Locale>,
    },
    /// Show the text of messages in each language, with the number of segments.
    Preview,
    /// Print the URLs for delivery reports, for gateways that need them in their settings.
    Reports,
    /// Print the configuration of a preset.
    Presets {
        /// Name of the preset [default: list the names of all presets]
        name: Option<String>,
    },
}

pub(crate) async fn run(settings: &Settings, command: SmsCommand) -> Result<()> {
    match command {
        SmsCommand::Test { phone, locale } => test(settings, &phone, locale).await,
        SmsCommand::Preview => preview(settings),
        SmsCommand::Reports => reports(settings),
        SmsCommand::Presets { name } => presets(name.as_deref()),
    }
}

async fn test(settings: &Settings, phone: &str, locale: Option<Locale>) -> Result<()> {
    let config = settings.sms_config()?.ok_or(NO_CONFIG)?;
    let phone = referral_core::PhoneNumber::parse(phone, settings.sign_in.default_region)?;
    let policy = settings.policy();
    let code = OneTimeCode::from_static("0".repeat(policy.code_length.into()));
    let locales: Vec<_> = locale.into_iter().collect();
    let text = config.texts.write(CodePurpose::SignIn, &code, &locales);
    let public_url = settings.network.public_url.as_deref();
    let readers = config.report_readers(public_url)?;
    let sender = config.sender(Steps, public_url, &readers)?;

    let mut out = io::stdout();
    let region = phone.region().map_or("no region".to_owned(), |region| region.to_string());
    writeln!(out, "To {} ({region}):", phone.as_str())?;
    for line in text.lines() {
        writeln!(out, "  | {line}")?;
    }
    if !policy.serves(&phone) {
        writeln!(
            out,
            "  codes are not sent to this phone: it is not a mobile line, or its region is not served"
        )?;
    }
    let mut id = [0; 16];
    SystemRandom.fill(&mut id);
    let id = uuid::Builder::from_random_bytes(id).into_uuid();
    let message = SmsMessage::new(id, phone, code, text, locales.into_iter().next());
    let Receipt { gateway, message_id, .. } = sender.send(&message).await?;
    let gateway = gateway.as_deref().unwrap_or("a gateway");
    match message_id {
        Some(id) => writeln!(out, "accepted by {gateway} with the message id {}", id.escape_debug())?,
        None => writeln!(out, "accepted by {gateway}")?,
    }
    Ok(())
}

/// Prints each attempt as it happens.
struct Steps;

impl Observer for Steps {
    fn attempted(&self, attempt: &Attempt<'_>) {
        let (gateway, outcome) = (attempt.gateway, attempt.outcome.as_str());
        let after = attempt.took.as_millis();
        let reason = attempt.error.map(|error| format!(": {error}")).unwrap_or_default();
        // A closed pipe is not an error.
        let _ = writeln!(io::stdout(), "  {gateway}: {outcome} after {after} ms{reason}");
    }
}

fn preview(settings: &Settings) -> Result<()> {
    let texts = settings.sms_config()?.map_or_else(MessageTemplates::default, |config| config.texts);
    let mut out = io::stdout();
    for TemplatePreview { locale, text, segments, .. } in texts.preview(*CODE_LENGTHS.end()) {
        let encoding = match segments.encoding {
            Encoding::Gsm7 => "GSM-7",
            Encoding::Ucs2 => "UCS-2",
        };
        let count = match segments.count {
            1 => "1 segment".to_owned(),
            several => format!("{several} SEGMENTS"),
        };
        let of = segments.encoding.units_alone();
        writeln!(out, "{locale}: {count}, {} of {of} characters in {encoding}", segments.units)?;
        for line in text.lines() {
            writeln!(out, "  | {line}")?;
        }
    }
    Ok(())
}

fn reports(settings: &Settings) -> Result<()> {
    let config = settings.sms_config()?.ok_or(NO_CONFIG)?;
    let public_url = settings.network.public_url.as_deref();
    let public_url = public_url
        .ok_or("gateways require the URL of this server; set it with --public-url https://api.example.com")?;
    let readers = config.report_readers(Some(public_url))?;
    let mut out = io::stdout();
    for name in config.names() {
        match readers.iter().find(|reader| reader.gateway() == name) {
            Some(reader) => writeln!(out, "{name}: {}", reports_url(public_url, reader))?,
            None => writeln!(out, "{name}: none; the gateway has no `reports`, or their secret is not set")?,
        }
    }
    Ok(())
}

fn presets(name: Option<&str>) -> Result<()> {
    let mut out = io::stdout();
    let Some(name) = name else {
        for (name, _) in PRESETS {
            writeln!(out, "{name}")?;
        }
        return Ok(());
    };
    Ok(out.write_all(preset(name)?.as_bytes())?)
}
