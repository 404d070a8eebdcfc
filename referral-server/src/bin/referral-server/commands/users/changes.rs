//! Changes of users by commands. Each has a reason and an entry in the audit log.

use clap::ValueEnum;
use referral_core::{Administration, InviteCode, StaffRole, User, UserChange};
use serde_json::json;

use super::{
    Change,
    lookup::{self, Match},
    view::{UserJson, label},
};
use crate::{
    commands::{
        output::{print_json, print_text},
        serve::Result,
    },
    settings::flags,
};

/// Role of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// See all data, unlock phones and end sessions
    Support,
    /// Also change and delete users, and give roles
    Admin,
    /// No staff
    None,
}

/// Change of a user.
pub(crate) enum ChangeCommand {
    Block,
    Unblock,
    SignOut,
    /// Invite code of the new inviter, or `None` to remove the inviter.
    SetInviter(Option<String>),
    /// New phone, or `None` to detach the phone.
    SetPhone(Option<String>),
    SetRole(Role),
    CancelDeletion,
    Erase {
        is_confirmed: bool,
    },
}

/// Makes a change, and prints the result.
pub(crate) async fn run(host: &Administration, change: &Change, command: ChangeCommand) -> Result<()> {
    let reason = change.reason.parse()?;
    let user = lookup::one(host, &change.user.text(), Match::Whole).await?;
    let named = label(&user);
    let (changes, done) = match command {
        ChangeCommand::SignOut => {
            let ended = host.end_sessions(user.id, reason).await?;
            if change.format.json {
                return print_json(&json!({ "user": UserJson::of(&user), "ended": ended }));
            }
            let sessions = if ended == 1 { "session" } else { "sessions" };
            return print_text(&format!("ended {ended} {sessions} of {named}"));
        }
        ChangeCommand::Erase { is_confirmed: false } => {
            return Err(format!(
                "this deletes {named} with all personal data, and cannot be undone; repeat the command with --yes"
            )
            .into());
        }
        ChangeCommand::Erase { is_confirmed: true } => {
            let deleted = host.delete_user(user.id, reason).await?;
            if change.format.json {
                return print_json(&json!({ "user": UserJson::of(&deleted), "deleted": true }));
            }
            return print_text(&format!("deleted {named}, user {}", deleted.id));
        }
        ChangeCommand::Block => {
            (UserChange { is_active: Some(false), ..UserChange::default() }, format!("blocked {named}"))
        }
        ChangeCommand::Unblock => {
            (UserChange { is_active: Some(true), ..UserChange::default() }, format!("unblocked {named}"))
        }
        ChangeCommand::SetInviter(code) => set_inviter(host, code.as_deref(), &named).await?,
        ChangeCommand::SetPhone(phone) => set_phone(host, phone.as_deref(), &named)?,
        ChangeCommand::SetRole(role) => {
            let (staff_role, done) = match role {
                Role::Support => (Some(StaffRole::Support), format!("{named} is support")),
                Role::Admin => (Some(StaffRole::Admin), format!("{named} is an admin")),
                Role::None => (None, format!("{named} is not staff")),
            };
            (UserChange { staff_role: Some(staff_role), ..UserChange::default() }, done)
        }
        ChangeCommand::CancelDeletion => (
            UserChange { cancels_deletion: true, ..UserChange::default() },
            format!("canceled the deletion of {named}"),
        ),
    };
    let before = user.clone();
    let after = host.change_user(user.id, changes, reason).await?;
    report(&before, &after, &done, change.format.json)
}

/// Returns the change of the inviter, and its description.
async fn set_inviter(host: &Administration, code: Option<&str>, named: &str) -> Result<(UserChange, String)> {
    let Some(code) = code else {
        let change = UserChange { invited_by_code: Some(None), ..UserChange::default() };
        return Ok((change, format!("{named} has no inviter")));
    };
    let code =
        InviteCode::parse(code).map_err(|error| format!("--code: {}", flags::phrase(&error.to_string())))?;
    let inviter = lookup::one(host, code.as_str(), Match::Whole).await;
    let done = match inviter {
        Ok(inviter) => format!("{named} was invited by {}", label(&inviter)),
        // The change fails with the reason.
        Err(_) => String::new(),
    };
    Ok((UserChange { invited_by_code: Some(Some(code)), ..UserChange::default() }, done))
}

/// Returns the change of the phone, and its description.
fn set_phone(host: &Administration, phone: Option<&str>, named: &str) -> Result<(UserChange, String)> {
    let phone = phone.map(|phone| host.service().parse_phone(phone)).transpose();
    let phone = phone.map_err(|error| format!("--phone: {}", flags::phrase(&error.to_string())))?;
    let done = match &phone {
        Some(phone) => format!("{named} has the phone {}", phone.as_str()),
        None => format!("{named} has no phone"),
    };
    Ok((UserChange { phone: Some(phone), ..UserChange::default() }, done))
}

fn report(before: &User, after: &User, done: &str, is_json: bool) -> Result<()> {
    if is_json {
        return print_json(&json!({ "user": UserJson::of(after), "changed": before != after }));
    }
    let unchanged = if before == after { " (as before: nothing was changed)" } else { "" };
    print_text(&format!("{done}{unchanged}"))
}
