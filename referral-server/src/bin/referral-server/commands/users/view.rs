//! Users in the output of commands.

use std::collections::BTreeMap;

use referral_core::{ExternalId, Name, Session, StaffRole, User, UserDetails};
use serde::Serialize;
use serde_json::Value;
use time::{OffsetDateTime, macros::format_description};

use super::tree::hidden_invitees;
use crate::{
    commands::output::{Cell, Style, Table, shown},
    transfer::timestamp,
};

/// Number of invitees that `users show` prints for people.
const SHOWN_INVITEES: usize = 10;

/// User as JSON, with the fields of the API.
#[derive(Serialize)]
pub(crate) struct UserJson {
    id: String,
    phone: String,
    invite_code: String,
    invited_by_code: Option<String>,
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    is_staff: bool,
    is_active: bool,
    date_joined: String,
    last_login: Option<String>,
    external_id: Option<String>,
    metadata: BTreeMap<String, Value>,
    staff_role: Option<&'static str>,
    last_active: Option<String>,
    phone_detached_at: Option<String>,
    invited_count: u64,
    deletion_at: Option<String>,
}

impl UserJson {
    pub(crate) fn of(user: &User) -> Self {
        Self {
            id: user.id.to_string(),
            phone: user.phone.as_str().to_owned(),
            invite_code: user.invite_code.as_str().to_owned(),
            invited_by_code: user.invited_by.as_ref().map(|by| by.code.as_str().to_owned()),
            email: user.email.as_ref().map(|email| email.as_str().to_owned()),
            first_name: user.first_name.as_ref().map(|name| name.as_str().to_owned()),
            last_name: user.last_name.as_ref().map(|name| name.as_str().to_owned()),
            is_staff: user.is_staff(),
            is_active: user.is_active,
            date_joined: timestamp::format(user.date_joined),
            last_login: user.last_login.map(timestamp::format),
            external_id: user.external_id.as_ref().map(ExternalId::to_string),
            metadata: serde_json::from_str(&user.metadata.to_string()).unwrap_or_default(),
            staff_role: user.staff_role.map(StaffRole::as_str),
            last_active: user.last_active.map(timestamp::format),
            phone_detached_at: user.phone_detached_at.map(timestamp::format),
            invited_count: user.invited_count,
            deletion_at: user.deletion_at.map(timestamp::format),
        }
    }
}

/// User with inviter, invitees and sessions as JSON, with the fields of the API.
#[derive(Serialize)]
pub(crate) struct DetailsJson {
    #[serde(flatten)]
    user: UserJson,
    inviter: Option<RelatedJson>,
    invitation: Option<InvitationJson>,
    invited: Vec<RelatedJson>,
    sessions: Vec<SessionJson>,
    former_users: Vec<RelatedJson>,
}

#[derive(Serialize)]
struct RelatedJson {
    id: String,
    phone: String,
    joined_at: String,
}

#[derive(Serialize)]
struct InvitationJson {
    accepted_at: String,
    via: &'static str,
}

#[derive(Serialize)]
struct SessionJson {
    id: String,
    created_at: String,
    last_used_at: String,
    expires_at: String,
    user_agent: Option<String>,
    address: Option<String>,
}

impl DetailsJson {
    pub(crate) fn of(found: &UserDetails) -> Self {
        let session = |session: &Session| SessionJson {
            id: session.id.to_string(),
            created_at: timestamp::format(session.created_at),
            last_used_at: timestamp::format(session.last_used_at()),
            expires_at: timestamp::format(session.ends_at()),
            user_agent: session.user_agent.clone(),
            address: session.address.map(|address| address.to_string()),
        };
        let related = |user: &User| RelatedJson {
            id: user.id.to_string(),
            phone: user.phone.as_str().to_owned(),
            joined_at: timestamp::format(user.date_joined),
        };
        Self {
            user: UserJson::of(&found.user),
            inviter: found.inviter.as_ref().map(related),
            invitation: found.invitation.as_ref().map(|invitation| InvitationJson {
                accepted_at: timestamp::format(invitation.accepted_at),
                via: invitation.via.as_str(),
            }),
            invited: found
                .invited
                .iter()
                .map(|invitee| RelatedJson {
                    id: invitee.id.to_string(),
                    phone: invitee.phone.as_str().to_owned(),
                    joined_at: timestamp::format(invitee.joined_at),
                })
                .collect(),
            sessions: found.sessions.iter().map(session).collect(),
            former_users: found.former_users.iter().map(related).collect(),
        }
    }
}

/// Returns the cells of a user in a list: phone, name, state, number of invitees, day of joining and id.
pub(crate) fn summary(user: &User) -> [Cell; 6] {
    [
        Cell::new(user.phone.as_str()),
        Cell::new(full_name(user)),
        state(user),
        Cell::new(user.invited_count.to_string()),
        Cell::new(day(user.date_joined)),
        Cell::new(user.id.to_string()).style(Style::Dim),
    ]
}

/// Returns a table with all data of a user.
pub(crate) fn details(found: &UserDetails) -> Table {
    let user = &found.user;
    let mut table = Table::default();
    let mut row = |name: &str, cell: Cell| table.row([Cell::new(name).style(Style::Bold), cell]);
    let absent = || Cell::new("–").style(Style::Dim);
    let optional = |text: Option<String>| text.map_or_else(absent, Cell::new);
    row("Phone", Cell::new(user.phone.as_str()));
    if let Some(time) = user.phone_detached_at {
        row("", Cell::new(format!("detached {}", second(time))).style(Style::Alert));
    }
    for former in &found.former_users {
        let detached = former.phone_detached_at.map(day).unwrap_or_default();
        let text = format!("{detached} detached from {} {}", former.id, full_name(former));
        row("", Cell::new(text.trim_end()).style(Style::Dim));
    }
    row("Name", optional(Some(full_name(user)).filter(|name| !name.is_empty())));
    row("Email", optional(user.email.as_ref().map(|email| email.to_unicode().into_owned())));
    row("State", state(user));
    if let Some(deletion_at) = user.deletion_at {
        row("Deletion", Cell::new(second(deletion_at)));
    }
    row("Id", Cell::new(user.id.to_string()));
    row("External id", optional(user.external_id.as_ref().map(ExternalId::to_string)));
    row("Joined", Cell::new(second(user.date_joined)));
    row("Last sign-in", optional(user.last_login.map(second)));
    row("Last active", optional(user.last_active.map(day)));
    row("Invite code", Cell::new(user.invite_code.as_str()));
    let inviter = match (&found.inviter, &found.invitation) {
        (Some(inviter), _) => Cell::new(label(inviter)),
        (None, Some(invitation)) => Cell::new(format!("deleted user {}", invitation.inviter)),
        (None, None) => absent(),
    };
    row("Inviter", inviter);
    if let Some(invitation) = &found.invitation {
        let via = invitation.via.as_str();
        row("", Cell::new(format!("{} by {via}", second(invitation.accepted_at))).style(Style::Dim));
    }
    row("Invited", Cell::new(user.invited_count.to_string()));
    for invitee in found.invited.iter().take(SHOWN_INVITEES) {
        row("", Cell::new(format!("{}  {}", day(invitee.joined_at), invitee.phone.as_str())));
    }
    let listed = found.invited.len().min(SHOWN_INVITEES);
    let hidden = user.invited_count.saturating_sub(listed as u64);
    if hidden > 0 {
        row("", Cell::new(hidden_invitees(hidden, listed < SHOWN_INVITEES)).style(Style::Dim));
    }
    row("Sessions", Cell::new(found.sessions.len().to_string()));
    for session in &found.sessions {
        let address = session.address.map(|address| address.to_string()).unwrap_or_default();
        let agent = session.user_agent.as_deref().unwrap_or_default();
        let text = format!("{}  {address}  {agent}", second(session.last_used_at()));
        row("", Cell::new(text.trim_end()));
    }
    row("Metadata", Cell::new(user.metadata.to_string()));
    table
}

/// Returns phone and name of a user.
pub(crate) fn label(user: &User) -> String {
    shown(format!("{} {}", user.phone.as_str(), full_name(user)).trim_end())
}

/// Returns the role and the activity of a user.
fn state(user: &User) -> Cell {
    let role = user.staff_role.map(StaffRole::as_str);
    if !user.has_phone() {
        let blocked = if user.is_active { "" } else { ", blocked" };
        let role = role.map(|role| format!(", {role}")).unwrap_or_default();
        return Cell::new(format!("no phone{blocked}{role}")).style(Style::Alert);
    }
    match (user.is_active, role) {
        (false, None) => Cell::new("blocked").style(Style::Alert),
        (false, Some(role)) => Cell::new(format!("blocked {role}")).style(Style::Alert),
        (true, Some(role)) => Cell::new(role).style(Style::Bold),
        (true, None) => Cell::new("active"),
    }
}

fn full_name(user: &User) -> String {
    let names = [&user.first_name, &user.last_name];
    let names: Vec<_> = names.into_iter().flatten().map(Name::as_str).collect();
    names.join(" ")
}

fn day(time: OffsetDateTime) -> String {
    time.format(format_description!("[year]-[month]-[day]")).unwrap_or_default()
}

/// Returns a time for people, in UTC.
pub(crate) fn second(time: OffsetDateTime) -> String {
    time.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC")).unwrap_or_default()
}
