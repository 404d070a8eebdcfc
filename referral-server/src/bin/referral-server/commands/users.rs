//! Commands `users …`, which find and show users.

mod lookup;
mod tree;
mod view;

use clap::{Args, Subcommand, builder::RangedU64ValueParser};
use referral_core::{PageSize, ReferralService};
use serde_json::json;

use self::{
    tree::TreeLimits,
    view::{UserJson, details, summary},
};
use crate::{
    commands::{
        output::{Colors, OutputFormat, Style, Table, print_json, print_text},
        serve::{self, Result},
    },
    settings::Settings,
    sms_config::Messages,
};

/// Number of invitees that `users show` prints.
const SHOWN_INVITEES: u32 = 10;

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
    /// Show all data of a user, with the inviter and the newest invitees.
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
}

/// User that a command is about.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Phone, id, external id, email address or invite code of the user, or a text that finds only this user
    #[arg(required = true, num_args = 1.., value_name = "USER")]
    user: Vec<String>,
}

fn page_size() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=u64::from(PageSize::MAX.get()))
}

pub(crate) async fn run(settings: &Settings, command: &UsersCommand) -> Result<()> {
    let referral = serve::build(settings, Messages::none(), None, ()).await?;
    let result = match command {
        UsersCommand::Find { text, limit, format } => find(&referral, &text.join(" "), *limit, *format).await,
        UsersCommand::Show { user, format } => show(&referral, user, *format).await,
        UsersCommand::Tree { user, depth, limit, format } => {
            let limits = TreeLimits { depth: *depth, invitees: PageSize::new(*limit)? };
            print_tree(&referral, user, limits, *format).await
        }
    };
    referral.close().await;
    result
}

async fn find(referral: &ReferralService, text: &str, limit: u32, format: OutputFormat) -> Result<()> {
    let found = lookup::find(referral, text, PageSize::new(limit)?).await?;
    if format.json {
        let results: Vec<_> = found.users.iter().map(UserJson::of).collect();
        let (count, is_exact) = (found.count, found.count_is_exact);
        return print_json(&json!({ "count": count, "count_exact": is_exact, "results": results }));
    }
    if found.users.is_empty() {
        return Err("no user matches".into());
    }
    let colors = Colors::of_standard_output();
    let mut table = Table::with_header(&["PHONE", "NAME", "STATE", "INVITED", "JOINED", "ID"]);
    for user in &found.users {
        table.row(summary(user));
    }
    print_text(&table.write(colors))?;
    let shown = found.users.len() as u64;
    if found.count > shown {
        let at_least = if found.count_is_exact { "" } else { "at least " };
        let more = format!("{at_least}{} more; add words, or raise --limit", found.count - shown);
        print_text(&colors.paint(Style::Dim, &more))?;
    }
    Ok(())
}

async fn show(referral: &ReferralService, named: &Named, format: OutputFormat) -> Result<()> {
    let user = lookup::one(referral, &named.user.join(" ")).await?;
    let inviter = match &user.invited_by {
        Some(invited_by) => referral.find_user(invited_by.inviter).await?,
        None => None,
    };
    let invitees = tree::invitees(referral, &user, PageSize::new(SHOWN_INVITEES)?).await?;
    if format.json {
        let invitees: Vec<_> = invitees.iter().map(UserJson::of).collect();
        return print_json(&json!({
            "user": UserJson::of(&user),
            "inviter": inviter.as_ref().map(UserJson::of),
            "newest_invitees": invitees,
        }));
    }
    print_text(&details(&user, inviter.as_ref(), &invitees).write(Colors::of_standard_output()))
}

async fn print_tree(
    referral: &ReferralService,
    named: &Named,
    limits: TreeLimits,
    format: OutputFormat,
) -> Result<()> {
    let user = lookup::one(referral, &named.user.join(" ")).await?;
    let tree = tree::load(referral, user, limits).await?;
    if format.json {
        return print_json(&tree.to_json());
    }
    print_text(&tree.write(Colors::of_standard_output()).join("\n"))
}
