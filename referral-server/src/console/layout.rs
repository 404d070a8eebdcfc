//! Frame of each page, and parts that several pages have.

use std::time::Duration;

use maud::{DOCTYPE, Markup, html};
use poem::{
    Response,
    http::{StatusCode, header},
};
use referral_core::{Name, StaffRole, User};
use time::{
    Date, OffsetDateTime, UtcOffset, format_description::BorrowedFormatItem, macros::format_description,
};

use super::{csrf, texts::Language, visit::Visit};

/// Place in the main menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Menu {
    Overview,
    Users,
    Audit,
    /// A page that is not in the menu.
    Other,
}

const MINUTE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]");
const EXACT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");

impl Visit {
    /// Creates a page.
    pub(super) fn page(&self, menu: Menu, title: &str, content: &Markup) -> Response {
        self.page_with_status(StatusCode::OK, menu, title, content)
    }

    /// Creates a page with a status.
    pub(super) fn page_with_status(
        &self,
        status: StatusCode,
        menu: Menu,
        title: &str,
        content: &Markup,
    ) -> Response {
        let (t, assets) = (self.language, &self.shared().assets);
        let page = html! {
            (DOCTYPE)
            html lang=(t.tag()) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · " (t.console()) }
                    link rel="icon" href="data:,";
                    link rel="stylesheet" href=(self.path(&format!("console.css?v={}", assets.style_version)));
                    script src=(self.path(&format!("console.js?v={}", assets.script_version))) defer {}
                }
                body {
                    a.skip href="#content" { (t.skip()) }
                    (self.header(menu))
                    main #content tabindex="-1" { (content) }
                    footer {
                        p { (t.utc_note()) }
                        (self.language_switch())
                    }
                }
            }
        };
        html_response(status, page)
    }

    fn header(&self, menu: Menu) -> Markup {
        let t = self.language;
        let entries = [
            (Menu::Overview, "", t.overview()),
            (Menu::Users, "users/", t.users()),
            (Menu::Audit, "audit/", t.audit_log()),
        ];
        html! {
            header {
                p.brand { a href=(self.path("")) { (t.console()) } }
                @if let Some(staff) = &self.staff {
                    nav aria-label=(t.main_menu()) {
                        ul {
                            @for (place, path, text) in entries {
                                li { a href=(self.path(path)) aria-current=[(place == menu).then_some("page")] { (text) } }
                            }
                        }
                    }
                    form.account method="post" action=(self.path("sign_out/")) {
                        (self.token_field())
                        a href=(self.user_path(&staff.user)) { bdi { (title_of(&staff.user)) } }
                        button.quiet type="submit" { (t.sign_out()) }
                    }
                }
            }
        }
    }

    fn language_switch(&self) -> Markup {
        html! {
            nav aria-label=(self.language.language()) {
                ul {
                    @for language in Language::ALL {
                        li {
                            a href={ "?language=" (language.tag()) (self.kept_query()) } lang=(language.tag()) hreflang=(language.tag())
                                aria-current=[(language == self.language).then_some("true")] { (language.own_name()) }
                        }
                    }
                }
            }
        }
    }

    /// Returns the query of this page without the language, for another link to this page.
    fn kept_query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in self.query.fields().filter(|(name, _)| *name != "language") {
            query.append_pair(name, value);
        }
        let query = query.finish();
        if query.is_empty() { query } else { format!("&{query}") }
    }

    /// Returns the hidden field with the token of a form.
    pub(super) fn token_field(&self) -> Markup {
        html! { input type="hidden" name=(csrf::FIELD) value=(self.token()); }
    }

    pub(super) fn user_path(&self, user: &User) -> String {
        self.path(&format!("users/{}/", user.id))
    }

    pub(super) fn tree_path(&self, user: &User) -> String {
        self.path(&format!("tree/?node={}", user.id))
    }

    /// Creates a page that has only a message.
    pub(super) fn message(&self, status: StatusCode, title: &str, text: &str) -> Response {
        let content = html! {
            h1 { (title) }
            p { (text) }
            p { a href=(self.path("")) { (self.language.back_to_start()) } }
        };
        self.page_with_status(status, Menu::Other, title, &content)
    }

    /// Returns the state of a user as labels.
    pub(super) fn labels(&self, user: &User) -> Markup {
        let t = self.language;
        html! {
            @if let Some(role) = user.staff_role { span.label { (role_text(t, role)) } " " }
            @if !user.is_active { span.label.bad { (t.blocked()) } " " }
            @if !user.has_phone() { span.label.bad { (t.no_phone()) } " " }
            @if user.deletion_at.is_some() { span.label.bad { (t.to_be_deleted()) } " " }
        }
    }

    /// Returns links to the previous and the next page of a list.
    pub(super) fn pager(&self, previous: Option<String>, next: Option<String>) -> Markup {
        let t = self.language;
        html! {
            @if previous.is_some() || next.is_some() {
                nav.pager aria-label=(t.pages()) {
                    @if let Some(previous) = previous { a.button rel="prev" href=(previous) { "← " (t.newer()) } }
                    @if let Some(next) = next { a.button rel="next" href=(next) { (t.older()) " →" } }
                }
            }
        }
    }
}

/// Creates a response with a page.
pub(super) fn html_response(status: StatusCode, page: Markup) -> Response {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "text/html; charset=utf-8")
        .body(page.into_string())
}

/// Returns the names of a user, if there are any.
pub(super) fn names_of(user: &User) -> Option<String> {
    let names: Vec<_> = [&user.first_name, &user.last_name].into_iter().flatten().map(Name::as_str).collect();
    (!names.is_empty()).then(|| names.join(" "))
}

/// Returns the names of a user, or the phone.
pub(super) fn title_of(user: &User) -> String {
    names_of(user).unwrap_or_else(|| user.phone.as_str().to_owned())
}

/// Returns the name of a role.
pub(super) fn role_text(t: Language, role: StaffRole) -> &'static str {
    match role {
        StaffRole::Admin => t.admin(),
        StaffRole::Support => t.support(),
        other => other.as_str(),
    }
}

/// Shows an error next to the fields of a form.
pub(super) fn error_note(error: Option<&str>) -> Markup {
    html! { @if let Some(error) = error { p.error role="alert" { (error) } } }
}

/// Shows a time.
pub(super) fn show_time(time: OffsetDateTime) -> Markup {
    let time = time.to_offset(UtcOffset::UTC);
    html! { time datetime=(time.format(EXACT).unwrap_or_default()) { (time.format(MINUTE).unwrap_or_default()) } }
}

/// Formats a day.
pub(super) fn day_text(day: Date) -> String {
    day.format(DAY).unwrap_or_default()
}

/// Formats a duration in its largest whole unit.
pub(super) fn duration_text(language: Language, duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    let units = [
        (86_400, 3, language.days_unit()),
        (3_600, 1, language.hours_unit()),
        (60, 1, language.minutes_unit()),
        (1, 0, language.seconds_unit()),
    ];
    let fits = |&(unit, least, _): &(u64, u64, &str)| seconds.is_multiple_of(unit) && seconds / unit >= least;
    let (unit, _, name) = units.into_iter().find(fits).unwrap_or((1, 0, language.seconds_unit()));
    format!("{}\u{a0}{name}", group_digits(seconds / unit))
}

/// Formats a number with spaces between groups of three digits.
pub(super) fn group_digits(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_in_their_largest_whole_unit() {
        for (seconds, text) in [
            (0, "0 s"),
            (1, "1 s"),
            (60, "1 min"),
            (90, "90 s"),
            (3_600, "1 h"),
            (86_400, "24 h"),
            (2_678_400, "31 d"),
        ] {
            let shown = duration_text(Language::English, Duration::from_secs(seconds));
            assert_eq!(shown.replace('\u{a0}', " "), text);
        }
        assert_eq!(duration_text(Language::Russian, Duration::from_millis(500)), "1\u{a0}с");
    }

    #[test]
    fn digits_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1 000"), (1_234_567, "1 234 567")] {
            assert_eq!(group_digits(number).replace('\u{202f}', " "), text);
        }
    }
}
