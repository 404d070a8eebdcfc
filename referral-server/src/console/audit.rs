//! Audit log: the changes of staff, of the host, and of users with a code, with the values before and after.

use std::{
    collections::{HashMap, hash_map::Entry},
    str::FromStr as _,
};

use maud::{Markup, html};
use poem::Response;
use referral_core::{
    PageSize, User, UserId,
    audit::{Actor, AuditAction, AuditEntry, AuditEntryId, AuditQuery, FieldChange},
};

use super::{
    edit,
    layout::{Menu, show_time, title_of},
    texts::Language,
    visit::Visit,
};
use crate::{error::Problem, error_code::ErrorCode};

/// Number of entries on a page.
const PAGE_SIZE: u32 = 50;

/// Value of the filter that selects the changes of the host.
const HOST: &str = "host";

impl Visit {
    /// Shows the audit log.
    pub(super) async fn audit(&self) -> Result<Response, Problem> {
        let t = self.language;
        let query = self.audit_query()?;
        let page = self.administration()?.audit_log(&query).await?;
        let users = self.users_of(&page.entries).await?;
        let next = page.entries.last().filter(|_| page.has_more).map(|entry| self.audit_path(Some(entry.id)));
        let content = html! {
            h1 { (t.audit_log()) }
            (self.audit_filter())
            @if page.entries.is_empty() {
                p { (t.no_entries()) }
            } @else {
                table.stacked {
                    thead {
                        tr {
                            @for name in [t.time(), t.actor(), t.change(), t.user(), t.values(), t.reason()] { th scope="col" { (name) } }
                        }
                    }
                    tbody {
                        @for entry in &page.entries { (self.entry(entry, &users)) }
                    }
                }
                (self.pager(None, next))
            }
        };
        Ok(self.page(Menu::Audit, t.audit_log(), &content))
    }

    fn audit_query(&self) -> Result<AuditQuery, Problem> {
        let given = |name| self.query.get(name).filter(|value| !value.is_empty());
        let id = |name| given(name).map(UserId::from_str).transpose();
        let invalid = |_| Problem::new(ErrorCode::NotFound);
        let actor = match given("actor") {
            Some(HOST) => Some(Actor::Host),
            _ => id("actor").map_err(invalid)?.map(Actor::User),
        };
        let action = given("action").map(AuditAction::from_str).transpose().map_err(invalid)?;
        let older_than = given("before").map(AuditEntryId::from_str).transpose().map_err(invalid)?;
        let query = AuditQuery::new().user(id("user").map_err(invalid)?).actor(actor).action(action);
        Ok(query.older_than(older_than).limit(PageSize::new(PAGE_SIZE).unwrap_or_default()))
    }

    fn audit_path(&self, before: Option<AuditEntryId>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for name in ["user", "actor", "action"] {
            query.extend_pairs(
                self.query.get(name).filter(|value| !value.is_empty()).map(|value| (name, value)),
            );
        }
        query.extend_pairs(before.map(|before| ("before", before.to_string())));
        format!("{}?{}", self.path("audit/"), query.finish())
    }

    /// Returns the users that entries name, if they have not been deleted.
    async fn users_of(&self, entries: &[AuditEntry]) -> Result<HashMap<UserId, Option<User>>, Problem> {
        let mut users = HashMap::new();
        for entry in entries {
            for id in [entry.user, entry.actor.user()].into_iter().flatten() {
                if let Entry::Vacant(vacant) = users.entry(id) {
                    vacant.insert(self.referral().find_user(id).await?);
                }
            }
        }
        Ok(users)
    }

    fn audit_filter(&self) -> Markup {
        let t = self.language;
        let (actor, action) =
            (self.query.get("actor").unwrap_or_default(), self.query.get("action").unwrap_or_default());
        let own = self.staff.as_ref().map_or_else(String::new, |staff| staff.user.id.to_string());
        let authors = [("", t.all_authors()), (&*own, t.own_changes()), (HOST, t.host())];
        html! {
            form.filter method="get" action=(self.path("audit/")) {
                @if let Some(user) = self.query.get("user").filter(|user| !user.is_empty()) {
                    div {
                        label for="user" { (t.user_id()) }
                        input #user type="text" name="user" value=(user);
                    }
                }
                div {
                    label for="actor" { (t.actor()) }
                    select #actor name="actor" {
                        @for (value, text) in authors { option value=(value) selected[value == actor] { (text) } }
                        @if !authors.iter().any(|(value, _)| *value == actor) { option value=(actor) selected { (actor) } }
                    }
                }
                div {
                    label for="action" { (t.change()) }
                    select #action name="action" {
                        option value="" { (t.all_changes()) }
                        @for kind in AuditAction::ALL {
                            option value=(kind.as_str()) selected[kind.as_str() == action] { (action_text(t, kind)) }
                        }
                    }
                }
                button type="submit" { (t.find()) }
            }
        }
    }

    fn entry(&self, entry: &AuditEntry, users: &HashMap<UserId, Option<User>>) -> Markup {
        let t = self.language;
        html! {
            tr {
                td data-name=(t.time()) { (show_time(entry.at)) }
                td data-name=(t.actor()) {
                    @match entry.actor { Actor::User(id) => { (self.named(id, users)) } Actor::Host => { (t.host()) } }
                }
                td data-name=(t.change()) { (action_text(t, entry.action)) }
                td data-name=(t.user()) { @if let Some(id) = entry.user { (self.named(id, users)) } }
                td data-name=(t.values()) {
                    @if !entry.changes.is_empty() {
                        ul.changes { @for change in &entry.changes { li { (self.field_change(change)) } } }
                    }
                    (self.undo_link(entry, users))
                }
                td data-name=(t.reason()) { @if let Some(reason) = &entry.reason { bdi.long { (reason.as_str()) } } }
            }
        }
    }

    fn named(&self, id: UserId, users: &HashMap<UserId, Option<User>>) -> Markup {
        html! {
            @match users.get(&id) {
                Some(Some(user)) => { a href=(self.user_path(user)) { bdi { (title_of(user)) } } }
                _ => { (self.language.deleted_user()) }
            }
        }
    }

    fn field_change(&self, change: &FieldChange) -> Markup {
        let t = self.language;
        let value = |value: &Option<String>| html! { @match value { Some(value) => { bdi.long { (value) } } None => { i { (t.none()) } } } };
        html! { (field_text(t, &change.field)) ": " (value(&change.before)) " → " (value(&change.after)) }
    }

    /// Returns a link to the form that restores the values before the change.
    fn undo_link(&self, entry: &AuditEntry, users: &HashMap<UserId, Option<User>>) -> Markup {
        let user = entry.user.and_then(|id| users.get(&id)).and_then(Option::as_ref);
        let is_undone = matches!(entry.action, AuditAction::UserChanged | AuditAction::PhoneChanged);
        let Some(user) = user.filter(|_| is_undone && self.is_admin()) else {
            return html! {};
        };
        let change = |field: &str| entry.changes.iter().find(|change| change.field == field);
        let path = |path: String| format!("{}{path}", self.user_path(user));
        let mut links = Vec::new();
        if edit::FIELDS.iter().any(|field| change(field).is_some()) {
            links.push((path(format!("edit/?undo={}", entry.id)), self.language.undo()));
        }
        if let Some(change) = change("is_active") {
            let action = if change.before.as_deref() == Some("true") { "unblock" } else { "block" };
            links.push((path(format!("{action}/")), self.language.undo_state()));
        }
        if let Some(change) = change("staff_role") {
            let role = change.before.as_deref().unwrap_or_default();
            links.push((path(format!("role/?role={role}")), self.language.undo_role()));
        }
        if let Some(change) = change("phone") {
            let phone = change.before.as_deref().unwrap_or_default();
            let query = form_urlencoded::Serializer::new(String::new()).append_pair("phone", phone).finish();
            links.push((path(format!("phone/?{query}")), self.language.undo_phone()));
        }
        html! { @for (href, text) in links { p { a href=(href) { (text) } } } }
    }
}

fn action_text(t: Language, action: AuditAction) -> &'static str {
    match action {
        AuditAction::UserAdded => t.action_user_added(),
        AuditAction::UserChanged => t.action_user_changed(),
        AuditAction::PhoneChanged => t.action_phone_changed(),
        AuditAction::DeletionScheduled => t.action_deletion_scheduled(),
        AuditAction::DeletionCanceled => t.action_deletion_canceled(),
        AuditAction::UserDeleted => t.action_user_deleted(),
        AuditAction::SessionsEnded => t.action_sessions_ended(),
        AuditAction::PhoneUnlocked => t.action_phone_unlocked(),
        AuditAction::DataExported => t.action_data_exported(),
        other => other.as_str(),
    }
}

fn field_text(t: Language, field: &str) -> &str {
    match field {
        "phone" => t.phone(),
        "invited_by_code" => t.invited_by(),
        "email" => t.email(),
        "first_name" => t.first_name(),
        "last_name" => t.last_name(),
        "staff_role" => t.role(),
        "is_active" => t.active_field(),
        "external_id" => t.external_id(),
        "metadata" => t.metadata(),
        "deletion_at" => t.deletion_at(),
        other => other,
    }
}
