//! Commands `users …`, which find, show and change users.

mod changes;
mod export;
pub(crate) mod lookup;
mod tree;
pub(crate) mod view;

use std::path::PathBuf;

use clap::{Args, Subcommand, builder::RangedU64ValueParser};
use referral_core::{Administration, PageSize, audit::Reason};
use serde_json::json;

use self::{
    changes::{ChangeCommand, Role},
    lookup::Match,
    tree::TreeLimits,
    view::{DetailsJson, UserJson, details, summary},
};
use crate::{
    commands::{
        output::{Colors, OutputFormat, Style, Table, print_json, print_text},
        serve::{self, Result},
    },
    settings::{Settings, flags},
    sms_config::Messages,
};

#[derive(Debug, Subcommand)]
pub(crate) enum UsersCommand {
    /// Find users by phone, name, email address, invite code, id or external id.
    ///
    /// A phone can have any spelling. Of several words, each must match a part of a value.
    Find {
        /// Text to find, such as `8 960 854-30-17` or `anna example.com`
        #[arg(required = true, num_args = 1.., value_name = "TEXT")]
        text: Vec<String>,
        /// Largest number of users to print, 1 to 100
        #[arg(long, default_value_t = 20, value_name = "NUMBER", value_parser = page_size())]
        limit: u32,
        #[command(flatten)]
        format: OutputFormat,
    },
    /// Show all data of a user, with the inviter, the invitees and the sessions.
    Show {
        #[command(flatten)]
        user: Named,
        #[command(flatten)]
        format: OutputFormat,
    },
    /// Print the users that a user invited, the users that these invited, and so on, newest first.
    Tree {
        #[command(flatten)]
        user: Named,
        /// Number of levels below the user, 1 to 20
        #[arg(long, default_value_t = 3, value_name = "LEVELS", value_parser = RangedU64ValueParser::<u32>::new().range(1..=20))]
        depth: u32,
        /// Largest number of invitees to print for each user, 1 to 100
        #[arg(long, default_value_t = 20, value_name = "NUMBER", value_parser = page_size())]
        limit: u32,
        #[command(flatten)]
        format: OutputFormat,
    },
    /// Deactivate a user and end the sessions of the user.
    Block(Change),
    /// Activate a user again. The sessions stay ended.
    Unblock(Change),
    /// End all sessions of a user.
    SignOut(Change),
    /// Set, replace or remove the inviter of a user.
    SetInviter {
        #[command(flatten)]
        change: Change,
        /// Invite code of the new inviter
        #[arg(long, value_name = "CODE", required_unless_present = "none", conflicts_with = "none")]
        code: Option<String>,
        /// Remove the inviter
        #[arg(long)]
        none: bool,
    },
    /// Replace or detach the phone of a user, and end the sessions of the user.
    ///
    /// A phone of another user must be detached from that user before.
    SetPhone {
        #[command(flatten)]
        change: Change,
        /// New phone, in any spelling
        #[arg(long, value_name = "PHONE", required_unless_present = "none", conflicts_with = "none")]
        phone: Option<String>,
        /// Detach the phone. The user stays, and cannot sign in
        #[arg(long)]
        none: bool,
    },
    /// Set or remove the role of a member of staff.
    SetRole {
        #[command(flatten)]
        change: Change,
        /// New role
        #[arg(long)]
        role: Role,
    },
    /// Write everything that is stored about a user as JSON. The export has an entry in the audit log.
    Export {
        #[command(flatten)]
        user: Named,
        #[command(flatten)]
        reason: GivenReason,
        /// File to create, with mode 0600 [default: standard output]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Replace the file if it exists
        #[arg(long, requires = "output")]
        force: bool,
    },
    /// Cancel the deletion that a user has scheduled.
    CancelDeletion(Change),
    /// Delete a user and all personal data. This cannot be undone.
    Erase {
        #[command(flatten)]
        change: Change,
        /// Delete the user. Without this flag, the command only says which user it would delete
        #[arg(long)]
        yes: bool,
    },
}

/// User that a command is about.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Phone, id, external id, email address or invite code of the user
    #[arg(required = true, num_args = 1.., value_name = "USER")]
    user: Vec<String>,
}

impl Named {
    fn text(&self) -> String {
        self.user.join(" ")
    }
}

/// Change of a user.
#[derive(Debug, Args)]
pub(crate) struct Change {
    #[command(flatten)]
    user: Named,
    #[command(flatten)]
    reason: GivenReason,
    #[command(flatten)]
    format: OutputFormat,
}

/// Flag of all commands that make a change.
#[derive(Debug, Args)]
pub(crate) struct GivenReason {
    /// Reason for the audit log, 1 to 500 characters
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

impl GivenReason {
    pub(crate) fn parse(&self) -> Result<Reason> {
        let reason = Reason::parse(&self.reason);
        Ok(reason.map_err(|error| format!("--reason: {}", flags::phrase(&error.to_string())))?)
    }
}

/// Parser of the number of items to print.
pub(crate) fn page_size() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=u64::from(PageSize::MAX.get()))
}

pub(crate) async fn run(settings: &Settings, command: UsersCommand) -> Result<()> {
    let referral = serve::build(settings, Messages::none(), None, ()).await?;
    let result = perform(&referral.host_administration(), command).await;
    referral.close().await;
    result
}

async fn perform(host: &Administration, command: UsersCommand) -> Result<()> {
    let (change, command) = match command {
        UsersCommand::Find { text, limit, format } => {
            return find(host, &text.join(" "), limit, format).await;
        }
        UsersCommand::Show { user, format } => return show(host, &user, format).await,
        UsersCommand::Tree { user, depth, limit, format } => {
            let limits = TreeLimits { depth, invitees: PageSize::new(limit)? };
            return print_tree(host, &user, limits, format).await;
        }
        UsersCommand::Export { user, reason, output, force } => {
            return export::run(host, &user, &reason, output.as_deref(), force).await;
        }
        UsersCommand::Block(change) => (change, ChangeCommand::Block),
        UsersCommand::Unblock(change) => (change, ChangeCommand::Unblock),
        UsersCommand::SignOut(change) => (change, ChangeCommand::SignOut),
        UsersCommand::SetInviter { change, code, .. } => (change, ChangeCommand::SetInviter(code)),
        UsersCommand::SetPhone { change, phone, .. } => (change, ChangeCommand::SetPhone(phone)),
        UsersCommand::SetRole { change, role } => (change, ChangeCommand::SetRole(role)),
        UsersCommand::CancelDeletion(change) => (change, ChangeCommand::CancelDeletion),
        UsersCommand::Erase { change, yes } => (change, ChangeCommand::Erase { is_confirmed: yes }),
    };
    changes::run(host, &change, command).await
}

async fn find(host: &Administration, text: &str, limit: u32, format: OutputFormat) -> Result<()> {
    let page = lookup::find(host, text, PageSize::new(limit)?).await?;
    if format.json {
        let results: Vec<_> = page.items.iter().map(UserJson::of).collect();
        let (count, is_exact) = (page.count, page.count_exact);
        return print_json(&json!({ "count": count, "count_exact": is_exact, "results": results }));
    }
    if page.items.is_empty() {
        return Err("no user matches".into());
    }
    let colors = Colors::of_standard_output();
    let mut table = Table::with_header(&["PHONE", "NAME", "STATE", "INVITED", "JOINED", "ID"]);
    for user in &page.items {
        table.row(summary(user));
    }
    print_text(&table.write(colors))?;
    let shown = page.items.len() as u64;
    if page.count > shown {
        let at_least = if page.count_exact { "" } else { "at least " };
        let more = format!("{at_least}{} more; add words, or raise --limit", page.count - shown);
        print_text(&colors.paint(Style::Dim, &more))?;
    }
    Ok(())
}

async fn show(host: &Administration, named: &Named, format: OutputFormat) -> Result<()> {
    let user = lookup::one(host, &named.text(), Match::Part).await?;
    let found = host.user(user.id).await?;
    if format.json {
        return print_json(&DetailsJson::of(&found));
    }
    print_text(&details(&found).write(Colors::of_standard_output()))
}

async fn print_tree(
    host: &Administration,
    named: &Named,
    limits: TreeLimits,
    format: OutputFormat,
) -> Result<()> {
    let user = lookup::one(host, &named.text(), Match::Part).await?;
    let tree = tree::load(host, user, limits).await?;
    if format.json {
        return print_json(&tree.to_json());
    }
    print_text(&tree.write(Colors::of_standard_output()).join("\n"))
}
