//! Command `audit`, which prints the audit log.

use clap::Args;
use referral_core::{
    PageSize,
    audit::{Actor, AuditAction, AuditEntry, AuditEntryId, AuditQuery, FieldChange, Reason},
};
use serde_json::{Value, json};

use crate::{
    commands::{
        output::{Cell, Colors, OutputFormat, Style, Table, print_json, print_text},
        serve::{self, Result},
        users::{
            lookup::{self, Match},
            page_size,
            view::second,
        },
    },
    settings::Settings,
    sms_config::Messages,
    transfer::timestamp,
};

#[derive(Debug, Args)]
pub(crate) struct AuditArguments {
    /// Phone, id, external id, email address or invite code of the changed user [default: all users]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Author of the changes: a member of staff like `--user`, or `host` for commands [default: all]
    #[arg(long, value_name = "USER")]
    actor: Option<String>,
    /// Kind of the changes: `user_added`, `user_changed`, `phone_changed`, `deletion_scheduled`,
    /// `deletion_canceled`, `user_deleted`, `sessions_ended`, `phone_unlocked` or `data_exported`
    /// [default: all]
    #[arg(long)]
    action: Option<AuditAction>,
    /// Only entries before the one with this id [default: the newest entries]
    #[arg(long, value_name = "ID")]
    older_than: Option<AuditEntryId>,
    /// Largest number of entries to print, 1 to 100
    #[arg(long, default_value_t = 20, value_name = "NUMBER", value_parser = page_size())]
    limit: u32,
    #[command(flatten)]
    format: OutputFormat,
}

pub(crate) async fn run(settings: &Settings, arguments: &AuditArguments) -> Result<()> {
    let referral = serve::build(settings, Messages::none(), None, ()).await?;
    let result = print(&referral.host_administration(), arguments).await;
    referral.close().await;
    result
}

async fn print(host: &referral_core::Administration, arguments: &AuditArguments) -> Result<()> {
    let id_of = async |text: &str| -> Result<_> {
        // A deleted user has only an id.
        match text.parse() {
            Ok(id) => Ok(id),
            Err(_) => Ok(lookup::one(host, text, Match::Whole).await?.id),
        }
    };
    let mut query = AuditQuery::new()
        .action(arguments.action)
        .older_than(arguments.older_than)
        .limit(PageSize::new(arguments.limit)?);
    if let Some(user) = &arguments.user {
        query = query.user(id_of(user).await?);
    }
    query = match arguments.actor.as_deref() {
        None => query,
        Some("host") => query.actor(Actor::Host),
        Some(actor) => query.actor(Actor::User(id_of(actor).await?)),
    };
    let page = host.audit_log(&query).await?;
    if arguments.format.json {
        let results: Vec<_> = page.entries.iter().map(entry_json).collect();
        return print_json(&json!({ "has_more": page.has_more, "results": results }));
    }
    if page.entries.is_empty() {
        return Err("no entry matches".into());
    }
    let colors = Colors::of_standard_output();
    let mut table = Table::with_header(&["TIME", "ACTION", "USER", "ACTOR", "REASON"]);
    for entry in &page.entries {
        table.row([
            Cell::new(second(entry.at)),
            Cell::new(entry.action.as_str()),
            Cell::new(entry.user.map(|id| id.to_string()).unwrap_or_default()).style(Style::Dim),
            Cell::new(actor(entry.actor)).style(Style::Dim),
            Cell::new(entry.reason.as_ref().map_or("–", |reason| reason.as_str())),
        ]);
        for change in &entry.changes {
            table.row(["", "", "", ""].map(Cell::new).into_iter().chain([Cell::new(description(change))]));
        }
    }
    print_text(&table.write(colors))?;
    if let Some(last) = page.entries.last().filter(|_| page.has_more) {
        let more = format!("there are more; continue with --older-than {}", last.id);
        print_text(&colors.paint(Style::Dim, &more))?;
    }
    Ok(())
}

fn actor(actor: Actor) -> String {
    actor.user().map_or_else(|| "host".to_owned(), |id| id.to_string())
}

fn description(change: &FieldChange) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
    format!("{}: {} → {}", change.field, value(&change.before), value(&change.after))
}

/// Returns an entry as JSON, with the fields of the API.
pub(crate) fn entry_json(entry: &AuditEntry) -> Value {
    let changes: Vec<_> = entry
        .changes
        .iter()
        .map(|change| json!({ "field": change.field, "before": change.before, "after": change.after }))
        .collect();
    json!({
        "id": entry.id.to_string(),
        "at": timestamp::format(entry.at),
        "actor": actor(entry.actor),
        "action": entry.action.as_str(),
        "user": entry.user.map(|id| id.to_string()),
        "reason": entry.reason.as_ref().map(Reason::as_str),
        "changes": changes,
    })
}
