//! Listing users: pages, filters and search.

use std::fmt;

use unicode_normalization::UnicodeNormalization as _;

use crate::{
    Email, Invalid, InviteCode, Invitee, Name, PhoneNumber, User, UserId,
    gram::{self, Gram},
    phone::Region,
    text::has_control,
};

/// How far a list that is filtered is counted. Counting on would cost the more the more users
/// there are, and nobody pages through a thousand matches.
pub const COUNT_LIMIT: u64 = 1_000;

/// Largest offset of a page of users. A page by offset reads every row before it, so its cost grows
/// with the offset: 100 000 rows take some ten milliseconds on either database. No person pages that
/// far, and a program follows a cursor.
pub const MAX_OFFSET: u64 = 100_000;

/// The most characters of a search.
const MAX_SEARCH_CHARS: usize = 100;

/// Largest number of different terms in a search. Each common term costs a walk through its own part
/// of the index. Five are enough for both names, the phone, the e-mail address and an invite code.
const MAX_SEARCH_TERMS: usize = 5;

/// A term with fewer characters matches beginnings only: everything contains an `a`.
const MIN_INFIX_CHARS: usize = 3;

/// How many users a page has: 1 to 100, by default 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u32);

impl PageSize {
    /// The largest page.
    pub const MAX: Self = Self(100);

    /// A page of `size`.
    ///
    /// # Errors
    ///
    /// `invalid_limit` for less than 1 or more than 100.
    pub fn new(size: u32) -> Result<Self, Invalid> {
        if (1..=Self::MAX.0).contains(&size) {
            Ok(Self(size))
        } else {
            Err(Invalid::new("invalid_limit", "`limit` is a whole number from 1 to 100."))
        }
    }

    /// The size.
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

/// Where a page begins, in a list whose newest user comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// After so many users; the further, the dearer.
    Offset(u64),
    /// With the first user that is older than this one, at the same cost at any depth.
    OlderThan(UserId),
    /// With those users, as many as fit, that are newer than this one and nearest to it.
    NewerThan(UserId),
}

impl Position {
    /// The newest user.
    pub const START: Self = Self::Offset(0);
}

/// A page of users that is asked for, as [`Storage::users`](crate::storage::Storage::users)
/// gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct UserQuery {
    /// Where the page begins.
    pub position: Position,
    /// How many users it has at most.
    pub limit: PageSize,
    /// Which users count.
    pub filter: UserFilter,
    /// Caller of the list. A storage that limits expensive lists shares its places among callers.
    pub caller: UserId,
}

impl UserQuery {
    /// Returns `true` if the list may read many rows, however few users it shows: a search, a page by
    /// a large offset, or several filters that many users match one by one and few together.
    ///
    /// A storage answers such lists with a part of its resources only, and within a short time.
    #[must_use]
    pub fn is_expensive(&self) -> bool {
        // A new field must not be overlooked.
        let UserFilter { phone, email, first_name, last_name, invite_code, invited_by_code, search } =
            &self.filter;
        let is_unique = phone.is_some() || email.is_some() || invite_code.is_some();
        let common_filters = [first_name.is_some(), last_name.is_some(), invited_by_code.is_some()];
        let common_filters = common_filters.into_iter().filter(|is_given| *is_given).count();
        // Counting the matches of a filter reads as many rows.
        let is_deep = matches!(self.position, Position::Offset(offset) if offset > COUNT_LIMIT);
        is_deep || !search.is_empty() || (common_filters > 1 && !is_unique)
    }
}

/// A page of users as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundUsers {
    /// The users, newest first, in whichever direction the list is walked.
    pub users: Vec<User>,
    /// Whether there are more beyond, in the direction of the walk.
    pub has_more: bool,
    /// How many users match in all: exact without a filter, else at most [`COUNT_LIMIT`].
    pub count: u64,
    /// Whether there are no more than `count`.
    pub count_exact: bool,
}

/// A page of somebody's invitees as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundInvitees {
    /// The invitees, newest users first.
    pub invitees: Vec<Invitee>,
    /// Whether there are more beyond.
    pub has_more: bool,
    /// How many there are in all.
    pub count: u64,
}

/// Which users are listed: those that match in everything that is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserFilter {
    /// This phone.
    pub phone: Option<PhoneNumber>,
    /// This e-mail address.
    pub email: Option<Email>,
    /// Exactly this first name.
    pub first_name: Option<Name>,
    /// Exactly this last name.
    pub last_name: Option<Name>,
    /// This invite code of their own.
    pub invite_code: Option<InviteCode>,
    /// This code of their inviter.
    pub invited_by_code: Option<InviteCode>,
    /// All of these terms.
    pub search: Vec<SearchTerm>,
}

impl UserFilter {
    /// Whether it lets everybody through.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `user` passes. A store that can do better than to ask for each user should.
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

/// A filter as it was asked for, in the words of whoever asks.
#[derive(Clone, Copy, Default)]
pub struct FilterInput<'a> {
    /// A phone in any form that can be typed.
    pub phone: Option<&'a str>,
    /// An e-mail address.
    pub email: Option<&'a str>,
    /// A first name.
    pub first_name: Option<&'a str>,
    /// A last name.
    pub last_name: Option<&'a str>,
    /// An invite code.
    pub invite_code: Option<&'a str>,
    /// An inviter's code.
    pub invited_by_code: Option<&'a str>,
    /// Search terms, separated by white space.
    pub search: Option<&'a str>,
}

/// Shows nothing: what is searched for is somebody's phone or address.
impl fmt::Debug for FilterInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FilterInput(…)")
    }
}

impl FilterInput<'_> {
    /// Whether it asks for a phone or an e-mail address, which may be private.
    pub(crate) fn names_private_fields(&self) -> bool {
        self.phone.is_some() || self.email.is_some()
    }

    /// Reads the filter. `None` stands for one that nobody can match, because it asks for
    /// something that no user can have. Private fields are searched if `sees_private`.
    pub(crate) fn parse(&self, default_region: Option<Region>, sees_private: bool) -> Option<UserFilter> {
        // In a URL that was put together by hand, the plus of a phone is a space.
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

/// Checks a search before anything is done with it.
///
/// # Errors
///
/// - `invalid_text` if it has control characters or more than 100 characters.
/// - `invalid_search` if it has more than five different terms, or several terms none of which has
///   three characters. Short terms match beginnings, which many users have in common.
pub fn check_search(input: &str) -> Result<(), Invalid> {
    if input.chars().nth(MAX_SEARCH_CHARS).is_some() {
        return Err(Invalid::new("invalid_text", "A search has at most 100 characters."));
    }
    check_filter(input)?;
    let terms = SearchTerm::split(input, true);
    if terms.len() > MAX_SEARCH_TERMS {
        let detail = "A search has at most 5 different terms. Leave out the others.";
        return Err(Invalid::new("invalid_search", detail));
    }
    if terms.len() > 1 && terms.iter().all(SearchTerm::is_short) {
        let detail = "One of several search terms must have at least 3 characters. Use a longer term, or a \
                      short term alone.";
        return Err(Invalid::new("invalid_search", detail));
    }
    Ok(())
}

/// Checks the text of a filter before anything is done with it.
///
/// # Errors
///
/// `invalid_text` if it has control characters.
pub fn check_filter(input: &str) -> Result<(), Invalid> {
    if has_control(input) {
        return Err(Invalid::new("invalid_text", "Leave out the control characters."));
    }
    Ok(())
}

/// One term of a search, in lower case.
#[derive(Clone, PartialEq, Eq)]
pub struct SearchTerm {
    /// What one of the [`SearchKeys`] must contain: no character in it has a special meaning.
    pub pattern: String,
    /// Whether [`SearchKeys::private`] may be looked at.
    pub sees_private: bool,
}

impl fmt::Debug for SearchTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SearchTerm(…)")
    }
}

impl SearchTerm {
    /// Splits what was typed into terms, at white space. Private values are looked at if
    /// `sees_private`.
    ///
    /// A term that is contained in another one is left out, since every match of the longer term is a
    /// match of both. That includes repeated terms.
    #[must_use]
    pub fn split(input: &str, sees_private: bool) -> Vec<Self> {
        let mut terms: Vec<Self> = Vec::new();
        for term in input.split_whitespace() {
            // A whole address as it is kept, so that each form of its domain finds it.
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

    /// Returns `true` if the term has fewer than three characters and so matches beginnings only.
    fn is_short(&self) -> bool {
        self.pattern.starts_with(KEY_START)
    }

    /// The [grams](SearchKeys::grams) that each user has who matches in a public value.
    #[must_use]
    pub fn public_grams(&self) -> Vec<Gram> {
        gram::of_pattern(gram::PUBLIC, &self.pattern)
    }

    /// The grams that each user has who matches in a private value; `None` if these may not be
    /// looked at.
    #[must_use]
    pub fn private_grams(&self) -> Option<Vec<Gram>> {
        self.sees_private.then(|| gram::of_pattern(gram::PRIVATE, &self.pattern))
    }
}

/// What marks the beginning of each value in the [`SearchKeys`]. No value contains it.
pub(crate) const KEY_START: char = '\n';

/// The texts in which a user is searched, in lower case; to be stored with the user. Each value
/// in them is preceded by a line feed, so that a pattern that starts with one matches beginnings.
#[derive(Clone, PartialEq, Eq)]
pub struct SearchKeys {
    /// The names, the own code and the inviter's.
    pub public: String,
    /// The phone, with and without its plus, and the e-mail address, with its domain as it is kept and as
    /// people read it.
    pub private: String,
}

impl fmt::Debug for SearchKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SearchKeys(…)")
    }
}

impl SearchKeys {
    /// The keys of `user`.
    #[must_use]
    pub fn of(user: &User) -> Self {
        fn keys<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> String {
            let values = values.into_iter().flatten();
            values.flat_map(|value| [KEY_START.to_string(), fold(value)]).collect()
        }
        let phone = user.phone.as_str();
        let email = user.email.as_ref().map(Email::as_str);
        // Also as people read it, so that a part of the domain finds it.
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

    /// What an index finds the user by: whoever matches a term has all its public grams, or all
    /// its private ones. The reverse does not hold, so whom an index finds must be asked for the
    /// pattern itself. Each gram comes once, in ascending order.
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

/// Returns `text` in the form that searches compare: what looks the same is the same (NFKC), in lower case.
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
    fn terms_match_parts_and_short_ones_beginnings() {
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
    fn an_address_is_found_by_each_form_of_its_domain() {
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
    fn terms_contained_in_others_are_left_out() {
        for (search, expected) in [
            ("", vec![]),
            ("7 7 7 7", vec!["\n7"]),
            ("7 79 7", vec!["\n79"]),
            ("Anna ANNA anna", vec!["anna"]),
            ("ann anna nna", vec!["anna"]),
            ("anna ann boris", vec!["anna", "boris"]),
            // A short term matches beginnings, where the longer one need not be.
            ("an anna", vec!["\nan", "anna"]),
        ] {
            let terms = SearchTerm::split(search, true);
            let patterns: Vec<_> = terms.iter().map(|term| &*term.pattern).collect();
            assert_eq!(patterns, expected, "{search}");
        }
    }

    #[test]
    fn names_are_found_however_their_characters_are_composed() {
        let user = User { first_name: Name::parse("Jose\u{301} Zaﬃro").ok(), ..anna() };
        for search in ["josé", "JOSE\u{301}", "affi", "aﬃro"] {
            let input = FilterInput { search: Some(search), ..FilterInput::default() };
            assert!(input.parse(None, true).expect("possible").matches(&user), "{search}");
        }
    }

    #[test]
    fn a_search_has_few_terms_and_a_long_one_among_several() {
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
        let (far, id) = (Position::Offset(COUNT_LIMIT + 1), user(1).id);
        for (position, filter, is_expensive) in [
            (Position::START, any.clone(), false),
            (Position::Offset(COUNT_LIMIT), any.clone(), false),
            (far, any.clone(), true),
            (Position::OlderThan(id), any.clone(), false),
            (Position::NewerThan(id), any.clone(), false),
            (Position::START, named.clone(), false),
            (far, named.clone(), true),
            (Position::START, both.clone(), true),
            (Position::OlderThan(id), UserFilter { invited_by_code: code.clone(), ..named }, true),
            (Position::START, UserFilter { invite_code: code, ..both }, false),
            (Position::START, UserFilter { search: SearchTerm::split("anna", false), ..any }, true),
        ] {
            let query = UserQuery { position, limit: PageSize::default(), filter, caller: id };
            assert_eq!(query.is_expensive(), is_expensive, "{query:?}");
        }
    }

    #[test]
    fn private_fields_are_found_only_by_those_who_may_see_them() {
        for search in ["example", "854300", "+7960", "79"] {
            assert!(!finds(search, false), "{search}");
        }
        assert!(finds("анна xyz", false));
    }

    #[test]
    fn filters_read_their_input_as_fields_do() {
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
        assert!(!other.parse(None, true).expect("possible").matches(&anna()), "exactly, so case counts");
    }

    #[test]
    fn a_filter_that_nobody_can_match_is_no_error() {
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
    fn a_page_has_one_to_a_hundred_users() {
        assert!(PageSize::new(0).is_err());
        assert!(PageSize::new(101).is_err());
        assert_eq!(PageSize::new(100), Ok(PageSize::MAX));
    }
}
