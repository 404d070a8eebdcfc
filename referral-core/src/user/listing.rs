//! Lists of users: pages and filters.

use std::fmt;

use crate::{
    error::{catalog::ErrorCode, input::InvalidInput},
    invite::code::InviteCode,
    text::has_control,
    texts::Text,
    user::{
        User, UserId,
        email::Email,
        external_id::ExternalId,
        name::Name,
        phone::{PhoneNumber, Region},
        search::{SearchKeys, SearchTerm},
    },
};

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
    pub fn new(size: u32) -> Result<Self, InvalidInput> {
        if (1..=Self::MAX.0).contains(&size) { Ok(Self(size)) } else { Err(ErrorCode::InvalidLimit.into()) }
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
#[expect(clippy::exhaustive_enums, reason = "a storage must start at each variant")]
pub enum PageStart {
    /// Page that starts after this number of users. The cost grows with the number.
    Offset(u64),
    /// Page that starts at the first user that is older than this one. The cost is the same at any depth.
    OlderThan(UserId),
    /// Page of the users that are newer than this one and nearest to it.
    NewerThan(UserId),
}

impl PageStart {
    /// Start of the list: the newest user.
    pub const START: Self = Self::Offset(0);
}

/// Request for a page of users, as [`UserStorage::users`](crate::storage::UserStorage::users) receives it.
#[derive(Clone, Debug, PartialEq)]
pub struct UserQuery {
    /// Start of the page.
    pub start: PageStart,
    /// Largest number of users on the page.
    pub limit: PageSize,
    /// Filter that the users must match.
    pub filter: UserFilter,
    /// Caller of the list. A storage that limits expensive lists shares its places among callers.
    pub caller: UserId,
}

impl UserQuery {
    /// Largest number up to which the matches of a filter are counted. The cost of counting grows with the
    /// number of users, and no reader pages through a thousand matches.
    pub const COUNT_LIMIT: u64 = 1_000;

    /// Returns `true` if the list may read many rows, regardless of how many users it shows: a search, a page
    /// by a large offset, or several filters that each match many users but together few.
    ///
    /// A storage serves such lists with a part of its resources only, and with a short timeout.
    #[must_use]
    pub fn is_expensive(&self) -> bool {
        // This pattern names all fields, so that a new field is not overlooked.
        let UserFilter {
            phone,
            email,
            external_id,
            first_name,
            last_name,
            invite_code,
            invited_by_code,
            search,
        } = &self.filter;
        let is_unique = phone.is_some() || email.is_some() || external_id.is_some() || invite_code.is_some();
        let common_filters = [first_name.is_some(), last_name.is_some(), invited_by_code.is_some()];
        let common_filters = common_filters.into_iter().filter(|is_given| *is_given).count();
        // Counting the matches of a filter reads as many rows.
        let is_deep = matches!(self.start, PageStart::Offset(offset) if offset > Self::COUNT_LIMIT);
        is_deep || !search.is_empty() || (common_filters > 1 && !is_unique)
    }
}

/// Filter of users. A user must match all fields that are given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserFilter {
    /// Phone.
    pub phone: Option<PhoneNumber>,
    /// Email address.
    pub email: Option<Email>,
    /// Id in the system of the host.
    pub external_id: Option<ExternalId>,
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
            && same(self.external_id.as_ref(), user.external_id.as_ref())
            && same(self.first_name.as_ref(), user.first_name.as_ref())
            && same(self.last_name.as_ref(), user.last_name.as_ref())
            && same(self.invite_code.as_ref(), Some(&user.invite_code))
            && same(self.invited_by_code.as_ref(), inviters_code)
            && self.search.iter().all(|term| keys.matches(term))
    }
}

/// Filter as the caller wrote it, not parsed yet.
#[derive(Clone, Copy, Default)]
pub struct FilterInput<'a> {
    /// Phone in any form that [`PhoneNumber::parse`] accepts.
    pub phone: Option<&'a str>,
    /// Email address.
    pub email: Option<&'a str>,
    /// Id in the system of the host. Only staff and the host may filter by it.
    pub external_id: Option<&'a str>,
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

/// Largest number of characters of a search.
const MAX_SEARCH_CHARS: usize = 100;

/// Largest number of different terms in a search. Each common term scans its own part of the index.
/// Five terms are enough for both names, the phone, the email address and an invite code.
const MAX_SEARCH_TERMS: usize = 5;

impl FilterInput<'_> {
    /// Checks the text of a filter before it is processed.
    ///
    /// # Errors
    ///
    /// `invalid_text` if it has control characters.
    pub fn check_text(input: &str) -> Result<(), InvalidInput> {
        if has_control(input) {
            return Err(InvalidInput::with_text(ErrorCode::InvalidText, Text::ControlCharacters));
        }
        Ok(())
    }

    /// Checks a search before it is processed.
    ///
    /// # Errors
    ///
    /// - `invalid_text` if it has control characters or more than 100 characters.
    /// - `invalid_search` if it has more than five different terms, or several terms none of which has three
    ///   characters. Short terms match the start of a value, which many users have in common.
    pub fn check_search(input: &str) -> Result<(), InvalidInput> {
        if input.chars().nth(MAX_SEARCH_CHARS).is_some() {
            return Err(InvalidInput::with_text(ErrorCode::InvalidText, Text::SearchTooLong));
        }
        Self::check_text(input)?;
        let terms = SearchTerm::split(input, None, true);
        if terms.len() > MAX_SEARCH_TERMS {
            return Err(InvalidInput::with_text(ErrorCode::InvalidSearch, Text::TooManySearchTerms));
        }
        if terms.len() > 1 && terms.iter().all(SearchTerm::is_short) {
            return Err(InvalidInput::with_text(ErrorCode::InvalidSearch, Text::ShortSearchTerms));
        }
        Ok(())
    }

    /// Returns `true` if the filter has a phone or an email address, which may be private.
    pub(crate) fn names_private_fields(&self) -> bool {
        self.phone.is_some() || self.email.is_some()
    }

    /// Parses the filter. Returns `None` if no user can match because a value is not valid. Private fields
    /// are searched if `sees_private` is `true`.
    pub(crate) fn parse(&self, default_region: Option<Region>, sees_private: bool) -> Option<UserFilter> {
        // In a URL written by hand, the plus of a phone is decoded as a space.
        let phone = |input: &str| match input.strip_prefix(' ') {
            Some(rest) => PhoneNumber::parse_possible(&format!("+{rest}"), default_region),
            None => PhoneNumber::parse_possible(input, default_region),
        };
        Some(UserFilter {
            phone: self.phone.map(phone).transpose().ok()?,
            email: self.email.map(Email::parse).transpose().ok()?,
            external_id: self.external_id.map(ExternalId::parse).transpose().ok()?,
            first_name: self.first_name.map(Name::parse).transpose().ok()?,
            last_name: self.last_name.map(Name::parse).transpose().ok()?,
            invite_code: self.invite_code.map(InviteCode::parse).transpose().ok()?,
            invited_by_code: self.invited_by_code.map(InviteCode::parse).transpose().ok()?,
            search: self
                .search
                .map(|search| SearchTerm::split(search, default_region, sees_private))
                .unwrap_or_default(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::user::{InvitedBy, tests::user};

    pub(crate) fn anna() -> User {
        User {
            first_name: Name::parse("Анна").ok(),
            last_name: Name::parse("O'Neil_50%").ok(),
            email: Email::parse("anna@example.com").ok(),
            external_id: ExternalId::parse("A-1").ok(),
            invited_by: Some(InvitedBy {
                inviter: user(2).id,
                code: InviteCode::parse("XYZ789").expect("valid"),
            }),
            ..user(1)
        }
    }

    #[test]
    fn lists_that_may_read_many_rows_are_expensive() {
        let any = UserFilter::default();
        let named = UserFilter { first_name: Name::parse("Anna").ok(), ..any.clone() };
        let both = UserFilter { last_name: Name::parse("Smith").ok(), ..named.clone() };
        let code = InviteCode::parse("ABC234").ok();
        let (far, id) = (PageStart::Offset(UserQuery::COUNT_LIMIT + 1), user(1).id);
        for (start, filter, is_expensive) in [
            (PageStart::START, any.clone(), false),
            (PageStart::Offset(UserQuery::COUNT_LIMIT), any.clone(), false),
            (far, any.clone(), true),
            (PageStart::OlderThan(id), any.clone(), false),
            (PageStart::NewerThan(id), any.clone(), false),
            (PageStart::START, named.clone(), false),
            (far, named.clone(), true),
            (PageStart::START, both.clone(), true),
            (PageStart::OlderThan(id), UserFilter { invited_by_code: code.clone(), ..named }, true),
            (PageStart::START, UserFilter { invite_code: code, ..both.clone() }, false),
            (PageStart::START, UserFilter { external_id: anna().external_id, ..both }, false),
            (PageStart::START, UserFilter { search: SearchTerm::split("anna", None, false), ..any }, true),
        ] {
            let query = UserQuery { start, limit: PageSize::default(), filter, caller: id };
            assert_eq!(query.is_expensive(), is_expensive, "{query:?}");
        }
    }

    #[test]
    fn filters_parse_their_input_like_fields() {
        let all = FilterInput {
            phone: Some(" 7 960 854-30-01"),
            email: Some("ANNA@example.com"),
            external_id: Some("A-1"),
            first_name: Some(" Анна "),
            last_name: Some("O'Neil_50%"),
            invite_code: Some("bcd-001"),
            invited_by_code: Some("xyz789"),
            search: None,
        };
        assert!(all.parse(None, true).expect("possible").matches(&anna()));
        let other = FilterInput { first_name: Some("анна"), ..all };
        assert!(!other.parse(None, true).expect("possible").matches(&anna()), "names are case-sensitive");
        let other = FilterInput { external_id: Some("a-1"), ..all };
        assert!(!other.parse(None, true).expect("possible").matches(&anna()), "ids are case-sensitive");
    }

    #[test]
    fn filter_with_an_invalid_value_matches_no_user() {
        for input in [
            FilterInput { phone: Some("12"), ..FilterInput::default() },
            FilterInput { email: Some("x"), ..FilterInput::default() },
            FilterInput { external_id: Some(""), ..FilterInput::default() },
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
