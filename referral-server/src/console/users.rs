//! Search and list of users.

use maud::{Markup, html};
use poem::Response;
use referral_core::{FilterInput, ListUsers, Page, PageLink, PageSize, User, UserId};
use uuid::Uuid;

use super::{
    errors::invalid,
    layout::{Menu, group_digits, names_of, show_time},
    visit::Visit,
};
use crate::{error::Problem, error_code::ErrorCode};

/// Number of users on a page.
const PAGE_SIZE: u32 = 50;

/// Number of the last digits of a phone that are searched if the typed number is not valid. The digits before
/// them are the country code or a prefix for calls inside a country, which can be wrong or missing.
const SEARCHED_DIGITS: usize = 10;

/// Number of digits from which a text of digits is a phone and not a part of another value.
const LEAST_DIGITS: usize = 6;

/// Users that are shown.
struct Found {
    users: Vec<User>,
    page: Option<Page<User>>,
}

impl Found {
    fn has_phone(&self) -> bool {
        let listed = self.page.iter().flat_map(|page| &page.items);
        self.users.iter().chain(listed).any(User::has_phone)
    }
}

impl Visit {
    /// Shows the users that match a search, or all users.
    pub(super) async fn users(&self) -> Result<Response, Problem> {
        let t = self.language;
        let text = self.query.get("q").unwrap_or_default();
        let found = match self.find(text).await {
            Ok(found) => Ok(found),
            Err(problem)
                if problem.code().status().is_client_error() && problem.code() != ErrorCode::StaffOnly =>
            {
                Err(problem)
            }
            Err(problem) => return Err(problem),
        };
        let codes = match (&found, self.referral().parse_phone(text)) {
            // Users who had the phone and lost it are found too.
            (Ok(found), Ok(phone)) if !found.has_phone() => Some(self.code_requests(&phone).await?),
            _ => None,
        };
        let content = html! {
            h1 { (t.users()) }
            (self.done_note())
            form.search role="search" method="get" action=(self.path("users/")) {
                label for="q" { (t.search_label()) }
                div.row {
                    input #q type="search" name="q" value=(text) maxlength="100" autofocus[text.is_empty()];
                    button type="submit" { (t.find()) }
                }
            }
            @match &found {
                Ok(found) => { (self.results(found, text)) }
                Err(problem) => { p.error role="alert" { (self.describe(problem)) } }
            }
            @if let Some(codes) = codes { (codes) }
        };
        let status = found.err().map_or(poem::http::StatusCode::OK, |problem| problem.code().status());
        Ok(self.page_with_status(status, Menu::Users, t.users(), &content))
    }

    async fn find(&self, text: &str) -> Result<Found, Problem> {
        let cursor = self.query.get("cursor");
        if cursor.is_none() {
            let exact = self.find_exactly(text).await?;
            if !exact.is_empty() {
                return Ok(Found { users: exact, page: None });
            }
        }
        let search = searched_text(text);
        if let Some(search) = &search {
            FilterInput::check_search(search).map_err(invalid)?;
        }
        let filter = FilterInput { search: search.as_deref(), ..FilterInput::default() };
        let limit = PageSize::new(PAGE_SIZE).unwrap_or_default();
        let list = ListUsers { limit, cursor, filter, ..ListUsers::default() };
        let page = self.administration()?.find_users(list).await?;
        Ok(Found { users: Vec::new(), page: Some(page) })
    }

    /// Returns the users that have the text as their id, their phone in any spelling, or their external id.
    async fn find_exactly(&self, text: &str) -> Result<Vec<User>, Problem> {
        let referral = self.referral();
        let mut users = Vec::new();
        if let Ok(id) = Uuid::try_parse(text) {
            users.extend(referral.find_user(UserId(id)).await?);
        }
        if let Ok(phone) = referral.parse_phone(text) {
            users.extend(referral.find_user_by_phone(&phone).await?);
        }
        if let Ok(id) = referral_core::ExternalId::parse(text) {
            users.extend(referral.find_user_by_external_id(&id).await?);
        }
        users.dedup_by_key(|user| user.id);
        Ok(users)
    }

    fn results(&self, found: &Found, text: &str) -> Markup {
        let t = self.language;
        let rows = found.page.as_ref().map_or(&found.users, |page| &page.items);
        let link = |link: &Option<PageLink>| match link {
            Some(PageLink::Cursor(cursor)) => Some(self.list_path(text, Some(cursor))),
            _ => None,
        };
        html! {
                   p {
                       @match &found.page {
                           Some(page) if !page.count_exact => { (t.found()) ": " (t.more_than()) " " (group_digits(page.count)) }
                           Some(page) => { (t.found()) ": " (group_digits(page.count)) }
                           None => { (t.found()) ": " (rows.len()) }
                       }
                       ", " (t.newest_first()) "."
                   }
                   @if rows.is_empty() {
                       (self.unlock_link(text))
        p { (t.no_users()) } } @else { (self.table(rows)) }
                   @if let Some(page) = &found.page { (self.pager(link(&page.previous), link(&page.next))) }
               }
    }

    /// Returns a link to unlock a phone that has no user.
    fn unlock_link(&self, text: &str) -> Markup {
        html! {
            @if self.referral().parse_phone(text).is_ok() {
                p { a.button href=(self.path("unlock/")) { (self.language.unlock_phone()) } }
            }
        }
    }

    fn list_path(&self, text: &str, cursor: Option<&str>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !text.is_empty() {
            query.append_pair("q", text);
        }
        query.extend_pairs(cursor.map(|cursor| ("cursor", cursor)));
        format!("{}?{}", self.path("users/"), query.finish())
    }

    fn table(&self, rows: &[User]) -> Markup {
        let t = self.language;
        html! {
            table.stacked {
                thead {
                    tr {
                        @for name in [t.phone(), t.name(), t.email(), t.invite_code(), t.invited_by(), t.joined(), t.state()] {
                            th scope="col" { (name) }
                        }
                    }
                }
                tbody {
                    @for user in rows {
                        tr {
                            th scope="row" data-name=(t.phone()) { a href=(self.user_path(user)) { (user.phone.as_str()) } }
                            td data-name=(t.name()) { @if let Some(names) = names_of(user) { bdi { (names) } } }
                            td data-name=(t.email()) { @if let Some(email) = &user.email { span.long { (email.as_str()) } } }
                            td data-name=(t.invite_code()) { code { (user.invite_code) } }
                            td data-name=(t.invited_by()) {
                                @if let Some(by) = &user.invited_by {
                                    a href=(self.list_path(by.code.as_str(), None)) { code { (by.code) } }
                                }
                            }
                            td data-name=(t.joined()) { (show_time(user.date_joined)) }
                            td data-name=(t.state()) {
                                (self.labels(user))
                                @if user.is_active { (t.active()) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the text to search for: the last digits of a text that looks like a phone, or the text itself.
fn searched_text(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let is_phone = digits.len() >= LEAST_DIGITS
        && text.chars().all(|c| c.is_ascii_digit() || c.is_whitespace() || "+-–—()./\u{a0}".contains(c));
    let searched = if is_phone {
        digits[digits.len().saturating_sub(SEARCHED_DIGITS)..].to_owned()
    } else {
        text.to_owned()
    };
    Some(searched).filter(|searched| !searched.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_phone_is_searched_by_its_last_digits() {
        for (text, searched) in [
            ("", None),
            ("8 (960) 854-30-17", Some("9608543017")),
            ("+7960 854 30 17 ", Some("9608543017")),
            ("543017", Some("543017")),
            ("3017", Some("3017")),
            ("12-34", Some("12-34")),
            ("Anna 9608543017", Some("Anna 9608543017")),
            ("anna@example.com", Some("anna@example.com")),
        ] {
            assert_eq!(searched_text(text).as_deref(), searched, "{text}");
        }
    }
}
