//! Lists of users: pages, filters and search.

use std::fmt;

use unicode_normalization::UnicodeNormalization as _;

use crate::{
    Email, Invalid, InviteCode, Invitee, Name, PhoneNumber, User, UserId,
    text::has_control,
    user::{
        gram::{self, Gram},
        phone::Region,
    },
};

/// Largest number up to which the matches of a filter are counted. The cost of counting grows with the number
/// of users, and no reader pages through a thousand matches.
pub const COUNT_LIMIT: u64 = 1_000;

/// Largest offset of a page of users. A page by offset reads every row before it, so its cost grows with the
/// offset: 100 000 rows take about ten milliseconds on either database. No person pages that far, and a
/// program uses a cursor.
pub const MAX_OFFSET: u64 = 100_000;

/// Largest number of characters of a search.
const MAX_SEARCH_CHARS: usize = 100;

/// Largest number of different terms in a search. Each common term costs a walk through its own part of the
/// index. Five terms are enough for both names, the phone, the email address and an invite code.
const MAX_SEARCH_TERMS: usize = 5;

/// Number of characters from which a term matches anywhere in a value. A shorter term matches only the start
/// of a value, because almost every value contains a given letter.
const MIN_INFIX_CHARS: usize = 3;

/// Number of users on a page: 1 to 100, by default 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u32);

impl PageSize {
    /// Largest size of a page.
    pub const MAX: Self = Self(100);

    /// Creates a page size of `size` users.
    ///
    /// # Errors
    ///
    /// `invalid_limit` if it is less than 1 or more than 100.
    pub fn new(size: u32) -> Result<Self, Invalid> {
        if (1..=Self::MAX.0).contains(&size) {
            Ok(Self(size))
        } else {
            Err(Invalid::new("invalid_limit", "`limit` is out of range. Use a whole number from 1 to 100."))
        }
    }

    /// Returns the number of users.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for PageSize {
    fn default() -> Self {
        Self(10)
    }
}

/// Start of a page, in a list with the newest user first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageStart {
    /// After this number of users. The cost grows with the number.
    Offset(u64),
    /// At the first user that is older than this one. The cost is the same at any depth.
    OlderThan(UserId),
    /// At the users that are newer than this one and nearest to it, as many as fit on the page.
    NewerThan(UserId),
}

impl PageStart {
    /// Start of the list: the newest user.
    pub const START: Self = Self::Offset(0);
}

/// Request for a page of users, as [`Storage::users`](crate::storage::Storage::users) receives it.
#[derive(Clone, Debug, PartialEq)]
pub struct UserQuery {
    /// Start of the page.
    pub start: PageStart,
    /// Largest number of users on the page.
    pub limit: PageSize,
    /// Filter that the users must match.
    pub filter: UserFilter,
    /// Caller of the list. A storage that limits expensive lists shares its slots among callers.
    pub caller: UserId,
}

impl UserQuery {
    /// Returns `true` if the list may read many rows, regardless of how many users it shows: a search, a page
    /// by a large offset, or several filters that each match many users but together few.
    ///
    /// A storage serves such lists with a part of its resources only, and with a short timeout.
    #[must_use]
    pub fn is_expensive(&self) -> bool {
        // This pattern names all fields, so that a new field is not overlooked.
        let UserFilter { phone, email, first_name, last_name, invite_code, invited_by_code, search } =
            &self.filter;
        let is_unique = phone.is_some() || email.is_some() || invite_code.is_some();
        let common_filters = [first_name.is_some(), last_name.is_some(), invited_by_code.is_some()];
        let common_filters = common_filters.into_iter().filter(|is_given| *is_given).count();
        // CounterUpdate the matches of a filter reads as many rows.
        let is_deep = matches!(self.start, PageStart::Offset(offset) if offset > COUNT_LIMIT);
        is_deep || !search.is_empty() || (common_filters > 1 && !is_unique)
    }
}

/// Page of users found.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundUsers {
    /// Users, newest first, in either direction of the list.
    pub users: Vec<User>,
    /// `true` if there are more users in the direction of the list.
    pub has_more: bool,
    /// Number of all users that match: exact without a filter, else at most [`COUNT_LIMIT`].
    pub count: u64,
    /// `true` if `count` is exact.
    pub count_exact: bool,
}

/// Page of invitees found.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundInvitees {
    /// Invitees, newest first.
    pub invitees: Vec<Invitee>,
    /// `true` if there are more invitees.
    pub has_more: bool,
    /// Number of all invitees.
    pub count: u64,
}

/// Filter of users. A user must match all fields that are given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserFilter {
    /// Phone.
    pub phone: Option<PhoneNumber>,
    /// Email address.
    pub email: Option<Email>,
    /// First name; must match exactly.
    pub first_name: Option<Name>,
    /// Last name; must match exactly.
    pub last_name: Option<Name>,
    /// Invite code of the user.
    pub invite_code: Option<InviteCode>,
    /// Code of the inviter.
    pub invited_by_code: Option<InviteCode>,
    /// Search terms, all of which must match.
    pub search: Vec<SearchTerm>,
}

impl UserFilter {
    /// Returns `true` if all users match.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns `true` if `user` matches. A storage should use an index instead of calling this for each user.
    #[must_use]
    pub fn matches(&self, user: &User) -> bool {
        fn same<T: PartialEq>(wanted: Option<&T>, actual: Option<&T>) -> bool {
            wanted.is_none() || wanted == actual
        }
        let inviters_code = user.invited_by.as_ref().map(|named| &named.code);
        let keys = SearchKeys::of(user);
        same(self.phone.as_ref(), Some(&user.phone))
            && same(self.email.as_ref(), user.email.as_ref())
            && same(self.first_name.as_ref(), user.first_name.as_ref())
            && same(self.last_name.as_ref(), user.last_name.as_ref())
            && same(self.invite_code.as_ref(), Some(&user.invite_code))
            && same(self.invited_by_code.as_ref(), inviters_code)
            && self.search.iter().all(|term| keys.match_term(term))
    }
}

/// Filter as the caller wrote it, not parsed yet.
#[derive(Clone, Copy, Default)]
pub struct FilterInput<'a> {
    /// Phone in any form that [`PhoneNumber::parse`] accepts.
    pub phone: Option<&'a str>,
    /// Email address.
    pub email: Option<&'a str>,
    /// First name.
    pub first_name: Option<&'a str>,
    /// Last name.
    pub last_name: Option<&'a str>,
    /// Invite code.
    pub invite_code: Option<&'a str>,
    /// Code of the inviter.
    pub invited_by_code: Option<&'a str>,
    /// Search terms, separated by white space.
    pub search: Option<&'a str>,
}

/// Shows no values, since the values can be phones and addresses of users.
impl fmt::Debug for FilterInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FilterInput(…)")
    }
}

impl FilterInput<'_> {
    /// Returns `true` if the filter has a phone or an email address, which may be private.
    pub(crate) fn names_private_fields(&self) -> bool {
        self.phone.is_some() || self.email.is_some()
    }

    /// Parses the filter. Returns `None` if no user can match because a value is not valid. Private fields
    /// are searched if `sees_private` is `true`.
    pub(crate) fn parse(&self, default_region: Option<Region>, sees_private: bool) -> Option<UserFilter> {
        // In a URL written by hand, the plus of a phone is decoded as a space.
        let phone = |input: &str| match input.strip_prefix(' ') {
            Some(rest) => PhoneNumber::parse(&format!("+{rest}"), default_region),
            None => PhoneNumber::parse(input, default_region),
        };
        Some(UserFilter {
            phone: self.phone.map(phone).transpose().ok()?,
            email: self.email.map(Email::parse).transpose().ok()?,
            first_name: self.first_name.map(Name::parse).transpose().ok()?,
            last_name: self.last_name.map(Name::parse).transpose().ok()?,
            invite_code: self.invite_code.map(InviteCode::parse).transpose().ok()?,
            invited_by_code: self.invited_by_code.map(InviteCode::parse).transpose().ok()?,
            search: self.search.map(|search| SearchTerm::split(search, sees_private)).unwrap_or_default(),
        })
    }
}

/// Checks a search before it is processed.
///
/// # Errors
///
/// - `invalid_text` if it has control characters or more than 100 characters.
/// - `invalid_search` if it has more than five different terms, or several terms none of which has three
///   characters. Short terms match the start of a value, which many users have in common.
pub fn check_search(input: &str) -> Result<(), Invalid> {
    if input.chars().nth(MAX_SEARCH_CHARS).is_some() {
        return Err(Invalid::new("invalid_text", "The search is too long. Use at most 100 characters."));
    }
    check_filter(input)?;
    let terms = SearchTerm::split(input, true);
    if terms.len() > MAX_SEARCH_TERMS {
        let detail = "The search has too many different terms. Use at most 5.";
        return Err(Invalid::new("invalid_search", detail));
    }
    if terms.len() > 1 && terms.iter().all(SearchTerm::is_short) {
        let detail = "All search terms are shorter than 3 characters. Use at least one longer term, or a \
                      single short term.";
        return Err(Invalid::new("invalid_search", detail));
    }
    Ok(())
}

/// Checks the text of a filter before it is processed.
///
/// # Errors
///
/// `invalid_text` if it has control characters.
pub fn check_filter(input: &str) -> Result<(), Invalid> {
    if has_control(input) {
        return Err(Invalid::new("invalid_text", "The text has control characters. Remove them."));
    }
    Ok(())
}

/// Term of a search, in lower case.
#[derive(Clone, PartialEq, Eq)]
pub struct SearchTerm {
    /// Text that one of the [`SearchKeys`] must contain. No character in it has a special meaning.
    pub pattern: String,
    /// `true` if [`SearchKeys::private`] may be searched.
    pub sees_private: bool,
}

impl fmt::Debug for SearchTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SearchTerm(…)")
    }
}

impl SearchTerm {
    /// Splits an input into terms, at white space. Private values are searched if `sees_private` is `true`.
    ///
    /// A term that is contained in another one is omitted, since every match of the longer term is a match of
    /// both. That includes repeated terms.
    #[must_use]
    pub fn split(input: &str, sees_private: bool) -> Vec<Self> {
        let mut terms: Vec<Self> = Vec::new();
        for term in input.split_whitespace() {
            // A complete address is brought into canonical form, so that each form of its domain finds it.
            let term = Email::parse(term).map_or_else(|_| fold(term), |email| email.as_str().to_owned());
            let is_infix = term.chars().nth(MIN_INFIX_CHARS - 1).is_some();
            let pattern = if is_infix { term } else { format!("{KEY_START}{term}") };
            if terms.iter().all(|known| !known.pattern.contains(&pattern)) {
                terms.retain(|known| !pattern.contains(&known.pattern));
                terms.push(Self { pattern, sees_private });
            }
        }
        terms
    }

    /// Returns `true` if the term has fewer than three characters and thus matches only the start of a value.
    fn is_short(&self) -> bool {
        self.pattern.starts_with(KEY_START)
    }

    /// Returns the [grams](SearchKeys::grams) of each user who matches in a public value.
    #[must_use]
    pub fn public_grams(&self) -> Vec<Gram> {
        gram::of_pattern(gram::PUBLIC, &self.pattern)
    }

    /// Returns the grams of each user who matches in a private value, or `None` if private values may not be
    /// searched.
    #[must_use]
    pub fn private_grams(&self) -> Option<Vec<Gram>> {
        self.sees_private.then(|| gram::of_pattern(gram::PRIVATE, &self.pattern))
    }
}

/// Mark of the start of each value in the [`SearchKeys`]. No value contains it.
pub(crate) const KEY_START: char = '\n';

/// Texts in which a user is searched, in lower case. A storage stores them with the user. Each value in them
/// follows a line feed, so that a pattern that starts with a line feed matches the start of a value.
#[derive(Clone, PartialEq, Eq)]
pub struct SearchKeys {
    /// Names, own invite code and code of the inviter.
    pub public: String,
    /// Phone, with and without its plus, and email address, with its domain in ASCII and in Unicode.
    pub private: String,
}

impl fmt::Debug for SearchKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SearchKeys(…)")
    }
}

impl SearchKeys {
    /// Returns the keys of `user`.
    #[must_use]
    pub fn of(user: &User) -> Self {
        fn keys<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> String {
            let values = values.into_iter().flatten();
            values.flat_map(|value| [KEY_START.to_string(), fold(value)]).collect()
        }
        let phone = user.phone.as_str();
        let email = user.email.as_ref().map(Email::as_str);
        // The Unicode form is added, so that a part of the domain finds the address.
        let readable = user.email.as_ref().map(Email::to_unicode);
        let readable = readable.as_deref().filter(|readable| Some(*readable) != email);
        Self {
            public: keys([
                user.first_name.as_ref().map(Name::as_str),
                user.last_name.as_ref().map(Name::as_str),
                Some(user.invite_code.as_str()),
                user.invited_by.as_ref().map(|named| named.code.as_str()),
            ]),
            private: keys([Some(phone), phone.strip_prefix('+'), email, readable]),
        }
    }

    /// Returns the grams by which an index finds the user. A user who matches a term has all its public
    /// grams, or all its private grams. The reverse does not hold, so each user that the index finds must be
    /// compared with the pattern. Each gram occurs once, in ascending order.
    #[must_use]
    pub fn grams(&self) -> Vec<Gram> {
        let mut grams = gram::of_values(gram::PUBLIC, &self.public, KEY_START);
        grams.extend(gram::of_values(gram::PRIVATE, &self.private, KEY_START));
        grams.sort_unstable();
        grams.dedup();
        grams
    }

    fn match_term(&self, term: &SearchTerm) -> bool {
        self.public.contains(&term.pattern) || (term.sees_private && self.private.contains(&term.pattern))
    }
}

/// Returns `text` in the form that searches compare: in lower case and in NFKC, so that equal-looking texts
/// are equal.
fn fold(text: &str) -> String {
    text.nfkc().collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InvitedBy, user::tests::user};

    fn anna() -> User {
        User {
            first_name: Name::parse("Анна").ok(),
            last_name: Name::parse("O'Neil_50%").ok(),
            email: Email::parse("anna@example.com").ok(),
            invited_by: Some(InvitedBy {
                inviter: user(2).id,
                code: InviteCode::parse("XYZ789").expect("valid"),
            }),
            ..user(1)
        }
    }

    fn finds(search: &str, sees_private: bool) -> bool {
        let input = FilterInput { search: Some(search), ..FilterInput::default() };
        input.parse(None, sees_private).expect("possible").matches(&anna())
    }

    #[test]
    fn long_terms_match_anywhere_and_short_terms_match_the_start() {
        for search in [
            "анн",
            "АННА",
            "neil",
            "_50%",
            "bcd001",
            "xyz789",
            "z78",
            "example",
            "854300",
            "+7960",
            "an",
            "ан",
            "79",
            "+7",
            "o'",
            "анна NEIL example",
            "  анна  ",
            "",
        ] {
            assert!(finds(search, true), "{search}");
        }
        for search in ["нн", "l_", "il", "%", "_", "анна boris", "анна\\", "_5%", "an na", "\u{0}"]
        {
            assert!(!finds(search, true), "{search}");
        }
    }

    #[test]
    fn address_is_found_by_each_form_of_its_domain() {
        let user = User { email: Email::parse("anna@пример.рф").ok(), ..anna() };
        let finds = |search, sees_private| {
            let input = FilterInput { search: Some(search), ..FilterInput::default() };
            input.parse(None, sees_private).expect("possible").matches(&user)
        };
        for search in [
            "anna@пример.рф",
            "ANNA@ПРИМЕР.РФ",
            "anna@xn--e1afmkfd.xn--p1ai",
            "ａｎｎａ@пример。рф",
            "пример",
            "@ПРИМЕР",
            "xn--e1",
        ] {
            assert!(finds(search, true), "{search}");
            assert!(!finds(search, false), "{search}");
        }
        for email in ["anna@пример.рф", "Anna@XN--e1afmkfd.xn--p1ai"] {
            let input = FilterInput { email: Some(email), ..FilterInput::default() };
            assert!(input.parse(None, true).expect("possible").matches(&user), "{email}");
        }
    }

    #[test]
    fn terms_contained_in_others_are_omitted() {
        for (search, expected) in [
            ("", vec![]),
            ("7 7 7 7", vec!["\n7"]),
            ("7 79 7", vec!["\n79"]),
            ("Anna ANNA anna", vec!["anna"]),
            ("ann anna nna", vec!["anna"]),
            ("anna ann boris", vec!["anna", "boris"]),
            // A short term matches only the start of a value, and the longer term need not be there.
            ("an anna", vec!["\nan", "anna"]),
        ] {
            let terms = SearchTerm::split(search, true);
            let patterns: Vec<_> = terms.iter().map(|term| &*term.pattern).collect();
            assert_eq!(patterns, expected, "{search}");
        }
    }

    #[test]
    fn names_are_found_in_composed_and_decomposed_form() {
        let user = User { first_name: Name::parse("Jose\u{301} Zaﬃro").ok(), ..anna() };
        for search in ["josé", "JOSE\u{301}", "affi", "aﬃro"] {
            let input = FilterInput { search: Some(search), ..FilterInput::default() };
            assert!(input.parse(None, true).expect("possible").matches(&user), "{search}");
        }
    }

    #[test]
    fn search_with_too_many_terms_or_only_short_terms_is_rejected() {
        let many_repeated = "7 ".repeat(50);
        let one_too_many = "on one two three four five";
        for (search, expected) in [
            ("", Ok(())),
            ("7", Ok(())),
            ("+7", Ok(())),
            (&*many_repeated, Ok(())),
            ("7 79", Ok(())),
            ("ан петрова", Ok(())),
            ("a b c d anna", Ok(())),
            ("one two three four five", Ok(())),
            ("one two three four five FIVE one", Ok(())),
            (one_too_many, Err("invalid_search")),
            ("7 8", Err("invalid_search")),
            ("a b c d e", Err("invalid_search")),
            ("+7 an", Err("invalid_search")),
            ("a\u{0}b c d", Err("invalid_text")),
            (&"x ".repeat(51), Err("invalid_text")),
        ] {
            assert_eq!(check_search(search).map_err(|invalid| invalid.code()), expected, "{search}");
        }
    }

    #[test]
    fn lists_that_may_read_many_rows_are_expensive() {
        let any = UserFilter::default();
        let named = UserFilter { first_name: Name::parse("Anna").ok(), ..any.clone() };
        let both = UserFilter { last_name: Name::parse("Smith").ok(), ..named.clone() };
        let code = InviteCode::parse("ABC234").ok();
        let (far, id) = (PageStart::Offset(COUNT_LIMIT + 1), user(1).id);
        for (start, filter, is_expensive) in [
            (PageStart::START, any.clone(), false),
            (PageStart::Offset(COUNT_LIMIT), any.clone(), false),
            (far, any.clone(), true),
            (PageStart::OlderThan(id), any.clone(), false),
            (PageStart::NewerThan(id), any.clone(), false),
            (PageStart::START, named.clone(), false),
            (far, named.clone(), true),
            (PageStart::START, both.clone(), true),
            (PageStart::OlderThan(id), UserFilter { invited_by_code: code.clone(), ..named }, true),
            (PageStart::START, UserFilter { invite_code: code, ..both }, false),
            (PageStart::START, UserFilter { search: SearchTerm::split("anna", false), ..any }, true),
        ] {
            let query = UserQuery { start, limit: PageSize::default(), filter, caller: id };
            assert_eq!(query.is_expensive(), is_expensive, "{query:?}");
        }
    }

    #[test]
    fn private_fields_are_searched_only_if_the_caller_may_see_them() {
        for search in ["example", "854300", "+7960", "79"] {
            assert!(!finds(search, false), "{search}");
        }
        assert!(finds("анна xyz", false));
    }

    #[test]
    fn filters_parse_their_input_like_fields() {
        let all = FilterInput {
            phone: Some(" 7 960 854-30-01"),
            email: Some("ANNA@example.com"),
            first_name: Some(" Анна "),
            last_name: Some("O'Neil_50%"),
            invite_code: Some("bcd-001"),
            invited_by_code: Some("xyz789"),
            search: None,
        };
        assert!(all.parse(None, true).expect("possible").matches(&anna()));
        let other = FilterInput { first_name: Some("анна"), ..all };
        assert!(!other.parse(None, true).expect("possible").matches(&anna()), "names are case-sensitive");
    }

    #[test]
    fn filter_with_an_invalid_value_matches_no_user() {
        for input in [
            FilterInput { phone: Some("12"), ..FilterInput::default() },
            FilterInput { email: Some("x"), ..FilterInput::default() },
            FilterInput { invite_code: Some(""), ..FilterInput::default() },
            FilterInput { first_name: Some(""), ..FilterInput::default() },
        ] {
            assert_eq!(input.parse(None, true), None);
        }
    }

    #[test]
    fn page_size_is_limited_to_one_to_a_hundred_users() {
        assert!(PageSize::new(0).is_err());
        assert!(PageSize::new(101).is_err());
        assert_eq!(PageSize::new(100), Ok(PageSize::MAX));
    }
}
