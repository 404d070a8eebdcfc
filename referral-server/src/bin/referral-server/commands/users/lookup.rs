//! Search of the users that the operator means.

use referral_core::{
    Administration, Email, ExternalId, FilterInput, InviteCode, ListUsers, Page, PageSize, PhoneNumber, User,
};

use crate::commands::{serve::Result, users::view::label};

/// Number of users that an error about an ambiguous text names.
const NAMED_IN_ERROR: usize = 5;

/// Fewest digits that name a phone, without the country code. With fewer, a mistyped digit could name another
/// user.
const MIN_PHONE_DIGITS: usize = 9;

/// Part of a value that names a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// Any part of a value, if it matches one user only.
    Part,
    /// A whole phone, id, external id, email address or invite code.
    Whole,
}

/// Finds users by any of their values.
pub(crate) async fn find(host: &Administration, text: &str, limit: PageSize) -> Result<Page<User>> {
    let text = text.trim();
    FilterInput::check_search(text)?;
    let filter = FilterInput { search: Some(text), ..FilterInput::default() };
    Ok(host.find_users(ListUsers { limit, filter, ..ListUsers::default() }).await?)
}

/// Returns the user that the text names.
///
/// # Errors
///
/// If no user or several users match.
pub(crate) async fn one(host: &Administration, text: &str, part: Match) -> Result<User> {
    let text = text.trim();
    let mut found = find(host, text, PageSize::MAX).await?;
    // A code can also be a part of a name, for example.
    let named: Vec<_> = found.items.iter().filter(|user| is_named(host, user, text)).collect();
    if let [user] = named[..] {
        return Ok(user.clone());
    }
    // An id of a host can be equal to the name of another user.
    if let Ok(id) = ExternalId::parse(text)
        && let Some(user) = host.service().find_user_by_external_id(&id).await?
    {
        return Ok(user);
    }
    match (found.items.len(), part) {
        (0, _) => Err("no user matches; `users find` searches for a part of a value".into()),
        (1, Match::Part) => Ok(found.items.remove(0)),
        (1, Match::Whole) => {
            let user = label(&found.items[0]);
            Err(format!("only a part matches, of {user}; give the whole phone, id or code of the user")
                .into())
        }
        _ => {
            let labels: Vec<_> = found.items.iter().take(NAMED_IN_ERROR).map(label).collect();
            let more = if found.count > labels.len() as u64 { ", …" } else { "" };
            Err(format!("{} users match ({}{more}); name one of them", found.count, labels.join(", ")).into())
        }
    }
}

/// Returns `true` if the text is a whole value of the user that identifies the user. A phone that the user lost may
/// belong to another person.
fn is_named(host: &Administration, user: &User, text: &str) -> bool {
    let is_phone = || {
        let phone = PhoneNumber::parse(text, host.service().policy().default_region);
        phone.map_or_else(|_| is_end_of_phone(text, user), |phone| phone == user.phone)
    };
    text.parse() == Ok(user.id)
        || (user.has_phone() && is_phone())
        || user.external_id.as_ref().is_some_and(|id| id.as_str() == text)
        || Email::parse(text).is_ok_and(|email| user.email == Some(email))
        || InviteCode::parse(text).is_ok_and(|code| code == user.invite_code)
}

/// Returns `true` if the text is the phone of the user as it is dialed within its country, after zeros or the
/// 8 of Russia and Kazakhstan.
fn is_end_of_phone(text: &str, user: &User) -> bool {
    let is_phone = !text.contains(|c: char| c.is_alphabetic() || c == '@');
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_start_matches('0');
    let without_trunk_prefix = digits.strip_prefix('8').unwrap_or(digits);
    let is_end = |digits: &str| digits.len() >= MIN_PHONE_DIGITS && user.phone.as_str().ends_with(digits);
    is_phone && (is_end(digits) || is_end(without_trunk_prefix))
}
