//! Referral tree: a user, the inviters above, and the invitees below, which are loaded branch by branch.
//!
//! Each branch is a page of the invitees of one user, so the cost does not grow with the tree. Without
//! scripts, a link opens the branch as a page. With the script, the branch is loaded into the tree.

use maud::{Markup, html};
use poem::{Response, http::StatusCode};
use referral_core::{FilterInput, ListUsers, PageLink, PageSize, User, UserId};
use uuid::Uuid;

use super::{
    layout::{Menu, group_digits, html_response, names_of, title_of},
    visit::Visit,
};
use crate::{error::Problem, error_code::ErrorCode};

/// Number of invitees on a page of a branch.
const BRANCH_SIZE: u32 = 50;

/// Number of inviters above a user that are shown. More are reached through the highest one.
const MAX_ANCESTORS: usize = 20;

/// Page of the invitees of a user.
pub(super) struct Branch {
    pub(super) users: Vec<User>,
    /// Cursor of the next page.
    pub(super) next: Option<String>,
}

/// Inviters above a user, with the nearest first.
struct Ancestors {
    users: Vec<User>,
    end: End,
}

/// End of the shown ancestry.
enum End {
    /// The highest user has no inviter.
    Root,
    /// The inviter of the highest user was deleted.
    Deleted,
    /// The highest user has an inviter that is not shown.
    Further,
}

impl Visit {
    /// Returns a page of the users that a user invited, newest first.
    pub(super) async fn branch(&self, inviter: &User, cursor: Option<&str>) -> Result<Branch, Problem> {
        if inviter.invited_count == 0 {
            return Ok(Branch { users: Vec::new(), next: None });
        }
        let filter =
            FilterInput { invited_by_code: Some(inviter.invite_code.as_str()), ..FilterInput::default() };
        let limit = PageSize::new(BRANCH_SIZE).unwrap_or_default();
        let page =
            self.referral().find_users(ListUsers { limit, cursor, filter, ..ListUsers::default() }).await?;
        let next = match page.next {
            Some(PageLink::Cursor(cursor)) => Some(cursor),
            _ => None,
        };
        Ok(Branch { users: page.items, next })
    }

    /// Shows the tree around a user, or only the branch below.
    pub(super) async fn tree(&self) -> Result<Response, Problem> {
        let t = self.language;
        let not_found = || Problem::new(ErrorCode::NotFound);
        let id = self.query.get("node").and_then(|id| Uuid::try_parse(id).ok()).ok_or_else(not_found)?;
        let user = self.referral().find_user(UserId(id)).await?.ok_or_else(not_found)?;
        let branch = self.branch(&user, self.query.get("cursor")).await?;
        if self.query.get("part").is_some() {
            return Ok(html_response(StatusCode::OK, self.entries(&user, &branch)));
        }
        let ancestors = self.ancestors(&user).await?;
        let title = format!("{}: {}", t.tree(), title_of(&user));
        let content = html! {
            h1 { (t.tree()) }
            (self.ancestry(&ancestors))
            p.hint { (t.tree_hint()) }
            ul.tree data-loading=(t.loading()) {
                li {
                    (self.node(&user))
                    @if branch.users.is_empty() {
                        p { (t.no_invitees()) }
                    } @else {
                        ul { (self.entries(&user, &branch)) }
                    }
                }
            }
        };
        Ok(self.page(Menu::Other, &title, &content))
    }

    async fn ancestors(&self, user: &User) -> Result<Ancestors, Problem> {
        let mut users = Vec::<User>::new();
        let end = loop {
            let Some(invited_by) = &users.last().unwrap_or(user).invited_by else { break End::Root };
            if users.len() == MAX_ANCESTORS {
                break End::Further;
            }
            match self.referral().find_user(invited_by.inviter).await? {
                Some(found) => users.push(found),
                None => break End::Deleted,
            }
        };
        Ok(Ancestors { users, end })
    }

    fn ancestry(&self, ancestors: &Ancestors) -> Markup {
        let t = self.language;
        html! {
            @if !ancestors.users.is_empty() || !matches!(ancestors.end, End::Root) {
                nav.ancestry aria-label=(t.ancestors()) {
                    ol {
                        @match ancestors.end {
                            End::Root => {}
                            End::Deleted => { li { (t.deleted_user()) } }
                            End::Further => {
                                @if let Some(highest) = ancestors.users.last() {
                                    li { a href=(self.tree_path(highest)) { "… " (t.further_up()) } }
                                }
                            }
                        }
                        @for user in ancestors.users.iter().rev() {
                            li { a href=(self.tree_path(user)) { bdi { (title_of(user)) } } }
                        }
                    }
                }
            }
        }
    }

    /// Returns the entries of a page of a branch, and a link to the next page.
    fn entries(&self, inviter: &User, branch: &Branch) -> Markup {
        let t = self.language;
        html! {
            @for user in &branch.users {
                li {
                    div.entry {
                        @if user.invited_count > 0 {
                            a.branch href=(self.tree_path(user)) {
                                span.sign aria-hidden="true" {}
                                (group_digits(user.invited_count))
                                span.hidden { " " (t.invitees()) ": " bdi { (title_of(user)) } }
                            }
                        }
                        (self.node(user))
                    }
                }
            }
            @if let Some(cursor) = &branch.next {
                li.more { a.more href={ (self.tree_path(inviter)) "&cursor=" (cursor) } { (t.more_invitees()) } }
            }
        }
    }

    fn node(&self, user: &User) -> Markup {
        html! {
            span.node {
                a href=(self.user_path(user)) { (user.phone.as_str()) } " "
                @if let Some(names) = names_of(user) { bdi { (names) } " " }
                code { (user.invite_code) } " "
                (self.labels(user))
            }
        }
    }
}
