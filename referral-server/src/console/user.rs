//! Page of a user.

use maud::{Markup, html};
use poem::Response;
use referral_core::{Session, User, UserDetails, UserId};

use super::{
    layout::{Menu, group_digits, names_of, role_text, show_time, title_of},
    visit::Visit,
};
use crate::error::Problem;

impl Visit {
    /// Shows a user.
    pub(super) async fn user(&self, id: UserId) -> Result<Response, Problem> {
        let t = self.language;
        let UserDetails { user, inviter, sessions, former_users, .. } =
            self.administration()?.user(id).await?;
        // The codes of a detached phone belong to another user.
        let codes = if user.has_phone() {
            self.code_requests(&user.phone).await?
        } else {
            html! {}
        };
        let branch = self.branch(&user, self.query.get("cursor")).await?;
        let title = title_of(&user);
        let content = html! {
            h1 { bdi { (title) } " " (self.labels(&user)) }
            (self.done_note())
            (self.action_links(&user))
            (self.profile(&user))
            (self.former_users(&former_users))
            (codes)
            (self.session_list(&sessions))
            section aria-labelledby="referrals" {
                h2 #referrals { (t.referrals()) }
                dl.facts {
                    dt { (t.invited_by()) }
                    dd {
                        @match (&user.invited_by, &inviter) {
                            (Some(invited_by), inviter) => {
                                code { (invited_by.code) } " "
                                @match inviter {
                                    Some(inviter) => { a href=(self.user_path(inviter)) { bdi { (title_of(inviter)) } } }
                                    _ => { (t.deleted_user()) }
                                }
                            }
                            (None, _) => { (t.none()) }
                        }
                    }
                    dt { (t.invitees()) }
                    dd { (group_digits(user.invited_count)) }
                }
                nav.pager aria-label=(t.referrals()) {
                    a.button href=(self.tree_path(&user)) { (t.show_tree()) }
                    a.button href=(self.path(&format!("audit/?user={id}"))) { (t.audit_of_user()) }
                }
                @if branch.users.is_empty() {
                    p { (t.no_invitees()) }
                } @else {
                    h3 { (t.invitees()) ", " (t.newest_first()) }
                    (self.user_table(&branch.users))
                    @let next = branch.next.map(|cursor| format!("?cursor={cursor}"));
                    (self.pager(None, next))
                }
            }
            @if !user.metadata.is_empty() {
                section aria-labelledby="metadata" {
                    h2 #metadata { (t.metadata()) }
                    pre tabindex="0" { (indented(&user)) }
                }
            }
        };
        Ok(self.page(Menu::Other, &title, &content))
    }

    fn profile(&self, user: &User) -> Markup {
        let t = self.language;
        let text = |value: Option<String>| html! { @match &value { Some(value) => { bdi { (value) } } None => { (t.none()) } } };
        html! {
            section aria-labelledby="profile" {
                h2 #profile { (t.profile()) }
                dl.facts {
                    dt { (t.phone()) } dd { (user.phone.as_str()) }
                    @if let Some(time) = user.phone_detached_at { dt { (t.detached()) } dd { (show_time(time)) } }
                    dt { (t.name()) } dd { (text(names_of(user))) }
                    dt { (t.email()) } dd { (text(user.email.as_ref().map(|email| email.as_str().to_owned()))) }
                    dt { (t.invite_code()) } dd { code { (user.invite_code) } }
                    dt { (t.state()) } dd { @if user.is_active { (t.active()) } @else { (t.blocked()) } @if !user.has_phone() { ", " (t.no_phone()) } }
                    @if let Some(time) = user.deletion_at { dt { (t.deletion_at()) } dd { (show_time(time)) } }
                    dt { (t.joined()) } dd { (show_time(user.date_joined)) }
                    dt { (t.last_login()) }
                    dd { @match user.last_login { Some(time) => { (show_time(time)) } None => { (t.never()) } } }
                    @if let Some(time) = user.last_active { dt { (t.last_active()) } dd { (show_time(time)) } }
                    @if let Some(role) = user.staff_role { dt { (t.role()) } dd { (role_text(t, role)) } }
                    dt { (t.external_id()) } dd { (text(user.external_id.as_ref().map(|id| id.as_str().to_owned()))) }
                    dt { "id" } dd { code { (user.id) } }
                }
            }
        }
    }

    fn former_users(&self, users: &[User]) -> Markup {
        let t = self.language;
        html! {
            @if !users.is_empty() {
                section aria-labelledby="former-users" {
                    h2 #former-users { (t.former_users()) }
                    p { (t.former_users_text()) }
                    (self.user_table(users))
                }
            }
        }
    }

    fn session_list(&self, sessions: &[Session]) -> Markup {
        let t = self.language;
        html! {
            section aria-labelledby="sessions" {
                h2 #sessions { (t.sessions()) }
                @if sessions.is_empty() {
                    p { (t.no_sessions()) }
                } @else {
                    table.stacked {
                        thead {
                            tr {
                                @for name in [t.started(), t.last_used(), t.address(), t.device()] { th scope="col" { (name) } }
                            }
                        }
                        tbody {
                            @for session in sessions {
                                tr {
                                    td data-name=(t.started()) { (show_time(session.created_at)) }
                                    td data-name=(t.last_used()) { (show_time(session.last_used_at())) }
                                    td data-name=(t.address()) { @if let Some(address) = session.address { (address) } }
                                    td data-name=(t.device()) {
                                        @if let Some(agent) = &session.user_agent { bdi.long { (agent) } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn user_table(&self, users: &[User]) -> Markup {
        let t = self.language;
        html! {
            table.stacked {
                thead {
                    tr {
                        @for name in [t.phone(), t.name(), t.joined(), t.invitees(), t.state()] { th scope="col" { (name) } }
                    }
                }
                tbody {
                    @for user in users {
                        tr {
                            th scope="row" data-name=(t.phone()) { a href=(self.user_path(user)) { (user.phone.as_str()) } }
                            td data-name=(t.name()) { @if let Some(names) = names_of(user) { bdi { (names) } } }
                            td data-name=(t.joined()) { (show_time(user.date_joined)) }
                            td data-name=(t.invitees()) { (group_digits(user.invited_count)) }
                            td data-name=(t.state()) {
                                @if user.is_active && user.has_phone() { (t.active()) }
                                @if !user.is_active { span.label.bad { (t.blocked()) } " " }
                                @if !user.has_phone() { span.label.bad { (t.no_phone()) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Formats the metadata of a user with one key on each line.
fn indented(user: &User) -> String {
    let object: serde_json::Map<String, serde_json::Value> = user.metadata.clone().into_object();
    serde_json::to_string_pretty(&object).unwrap_or_default()
}
