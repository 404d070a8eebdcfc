//! Users in the output of commands.

use std::collections::BTreeMap;

use referral_core::{ExternalId, Name, StaffRole, User};
use serde::Serialize;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

use crate::commands::{
    output::{Cell, Style, Table, shown},
    users::{SHOWN_INVITEES, tree::hidden_invitees},
};

/// User as JSON, with the fields of the API.
#[derive(Serialize)]
pub(crate) struct UserJson {
    id: String,
    phone: String,
    invite_code: String,
    invited_by: Option<String>,
    invited_by_code: Option<String>,
    invited_count: u64,
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    is_staff: bool,
    staff_role: Option<StaffRole>,
    is_active: bool,
    date_joined: String,
    last_login: Option<String>,
    external_id: Option<String>,
    metadata: BTreeMap<String, Value>,
}

impl UserJson {
    pub(crate) fn of(user: &User) -> Self {
        let metadata = serde_json::from_str(&user.metadata.to_string()).unwrap_or_default();
        Self {
            id: user.id.to_string(),
            phone: user.phone.as_str().to_owned(),
            invite_code: user.invite_code.as_str().to_owned(),
            invited_by: user.invited_by.as_ref().map(|invited_by| invited_by.inviter.to_string()),
            invited_by_code: user.invited_by.as_ref().map(|invited_by| invited_by.code.as_str().to_owned()),
            invited_count: user.invited_count,
            email: user.email.as_ref().map(|email| email.as_str().to_owned()),
            first_name: user.first_name.as_ref().map(|name| name.as_str().to_owned()),
            last_name: user.last_name.as_ref().map(|name| name.as_str().to_owned()),
            is_staff: user.is_staff(),
            staff_role: user.staff_role,
            is_active: user.is_active,
            date_joined: exact_time(user.date_joined),
            last_login: user.last_login.map(exact_time),
            external_id: user.external_id.as_ref().map(|id| id.as_str().to_owned()),
            metadata,
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
pub(crate) fn details(user: &User, inviter: Option<&User>, invitees: &[User]) -> Table {
    let mut table = Table::default();
    let mut row = |name: &str, cell: Cell| table.row([Cell::new(name).style(Style::Bold), cell]);
    let absent = || Cell::new("–").style(Style::Dim);
    let optional = |text: Option<String>| text.map_or_else(absent, Cell::new);
    row("Phone", Cell::new(user.phone.as_str()));
    row("Name", optional(Some(full_name(user)).filter(|name| !name.is_empty())));
    row("Email", optional(user.email.as_ref().map(|email| email.to_unicode().into_owned())));
    row("State", state(user));
    row("Id", Cell::new(user.id.to_string()));
    row("External id", optional(user.external_id.as_ref().map(ExternalId::to_string)));
    row("Joined", Cell::new(second(user.date_joined)));
    row("Last sign-in", optional(user.last_login.map(second)));
    row("Invite code", Cell::new(user.invite_code.as_str()));
    row(
        "Inviter",
        match (inviter, &user.invited_by) {
            (Some(inviter), _) => Cell::new(label(inviter)),
            // The inviter was deleted.
            (None, Some(invited_by)) => Cell::new(format!("deleted user {}", invited_by.inviter)),
            (None, None) => absent(),
        },
    );
    row("Invited", Cell::new(user.invited_count.to_string()));
    for invitee in invitees {
        row("", Cell::new(label(invitee)));
    }
    let hidden = user.invited_count.saturating_sub(invitees.len() as u64);
    if hidden > 0 {
        let is_complete = invitees.len() < SHOWN_INVITEES as usize;
        row("", Cell::new(hidden_invitees(hidden, is_complete)).style(Style::Dim));
    }
    row("Metadata", Cell::new(user.metadata.to_string()));
    table
}

/// Returns phone and name of a user.
pub(crate) fn label(user: &User) -> String {
    shown(format!("{} {}", user.phone.as_str(), full_name(user)).trim_end())
}

/// Returns the state of a user that differs from the usual one.
pub(crate) fn state(user: &User) -> Cell {
    match (user.is_active, user.staff_role) {
        (false, None) => Cell::new("inactive").style(Style::Alert),
        (false, Some(role)) => Cell::new(format!("inactive {role}")).style(Style::Alert),
        (true, Some(role)) => Cell::new(role.to_string()).style(Style::Bold),
        (true, None) => Cell::new("active"),
    }
}

fn full_name(user: &User) -> String {
    let names = [&user.first_name, &user.last_name];
    let names: Vec<_> = names.into_iter().flatten().map(Name::as_str).collect();
    names.join(" ")
}

fn exact_time(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

fn day(time: OffsetDateTime) -> String {
    time.format(format_description!("[year]-[month]-[day]")).unwrap_or_default()
}

fn second(time: OffsetDateTime) -> String {
    time.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC")).unwrap_or_default()
}
