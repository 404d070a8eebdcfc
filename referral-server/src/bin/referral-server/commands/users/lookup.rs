//! Search of the users that the operator means.

use referral_core::{
    Email, ExternalId, FilterInput, InviteCode, ListUsers, PageSize, PhoneNumber, ReferralService, User,
    UserId,
};

use crate::commands::{serve::Result, users::view::label};

/// Number of users that an error about an ambiguous text names.
const NAMED_IN_ERROR: usize = 5;

/// Fewest digits that are searched as a part of a phone.
const MIN_PHONE_DIGITS: usize = 7;

/// Users that were found.
pub(crate) struct Found {
    pub(crate) users: Vec<User>,
    pub(crate) count: u64,
    pub(crate) count_is_exact: bool,
}

/// Finds users by any of their values. A user with exactly this id, external id or phone is the first.
pub(crate) async fn find(referral: &ReferralService, text: &str, limit: PageSize) -> Result<Found> {
    let text = text.trim();
    let mut exact: Vec<User> = Vec::new();
    if let Ok(id) = text.parse() {
        exact.extend(referral.find_user(UserId(id)).await?);
    }
    if let Ok(id) = ExternalId::parse(text) {
        exact.extend(referral.find_user_by_external_id(&id).await?);
    }
    if let Ok(phone) = PhoneNumber::parse(text, referral.policy().default_region) {
        exact.extend(referral.find_user_by_phone(&phone).await?);
    }
    let mut page = search(referral, text, limit).await?;
    if exact.is_empty() && page.items.is_empty() {
        // An operator may copy a phone as it is dialed in its country, whose region the server does not know.
        if let Some(digits) = without_trunk_prefix(text) {
            page = search(referral, &digits, limit).await?;
        }
    }
    // The search finds each user with this phone, but no ids.
    let only_exact: Vec<_> =
        exact.iter().filter(|user| page.items.iter().all(|found| found.id != user.id)).collect();
    let count = page.count + only_exact.len() as u64;
    let mut users: Vec<User> = Vec::new();
    for user in exact.iter().chain(&page.items) {
        if users.iter().all(|known| known.id != user.id) {
            users.push(user.clone());
        }
    }
    users.truncate(limit.get() as usize);
    Ok(Found { users, count, count_is_exact: page.count_exact })
}

async fn search(
    referral: &ReferralService,
    text: &str,
    limit: PageSize,
) -> Result<referral_core::Page<User>> {
    FilterInput::check_search(text)?;
    let filter = FilterInput { search: Some(text), ..FilterInput::default() };
    Ok(referral.find_users(ListUsers { limit, filter, ..ListUsers::default() }).await?)
}

/// Returns the user that the text names: by id, phone, external id, email address or invite code, or as the
/// only match of a search.
///
/// # Errors
///
/// If no user or several users match.
pub(crate) async fn one(referral: &ReferralService, text: &str) -> Result<User> {
    let text = text.trim();
    let is_named = |user: &User| {
        let phone = PhoneNumber::parse(text, referral.policy().default_region);
        text.parse() == Ok(user.id.0)
            || phone.is_ok_and(|phone| phone == user.phone)
            || user.external_id.as_ref().is_some_and(|id| id.as_str() == text)
            || Email::parse(text).is_ok_and(|email| user.email == Some(email))
            || InviteCode::parse(text).is_ok_and(|code| code == user.invite_code)
    };
    let mut found = find(referral, text, PageSize::MAX).await?;
    if found.users.len() > 1 {
        let named: Vec<_> = found.users.iter().filter(|user| is_named(user)).cloned().collect();
        if named.len() == 1 {
            return Ok(named.into_iter().next().expect("one user"));
        }
    }
    match found.users.len() {
        0 => Err("no user matches; `users find` searches for a part of a value".into()),
        1 => Ok(found.users.remove(0)),
        _ => {
            let labels = found.users.iter().take(NAMED_IN_ERROR).map(label);
            let labels: Vec<_> = labels.collect();
            let more = if found.count > labels.len() as u64 { ", …" } else { "" };
            Err(format!("{} users match ({}{more}); name one of them", found.count, labels.join(", ")).into())
        }
    }
}

/// Returns the digits of a phone without the prefix that is dialed only within a country: zeros, or the 8 of
/// Russia and Kazakhstan. Returns `None` if the text is not a phone.
fn without_trunk_prefix(text: &str) -> Option<String> {
    let is_phone = !text.contains(|c: char| c.is_alphabetic() || c == '@');
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_start_matches('0');
    let digits = digits.strip_prefix('8').unwrap_or(digits);
    (is_phone && digits.len() >= MIN_PHONE_DIGITS).then(|| digits.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn national_prefixes_are_removed() {
        for (text, digits) in [
            ("8 (960) 854-30-17", Some("9608543017")),
            ("+8 960 854 30 17", Some("9608543017")),
            ("007 960 854-30-17", Some("79608543017")),
            ("0701 123 45 67", Some("7011234567")),
            ("854-30-17", None),
            ("8 960", None),
            ("anna 8 960 854-30-17", None),
            ("89608543017@example.com", None),
        ] {
            assert_eq!(without_trunk_prefix(text).as_deref(), digits, "{text}");
        }
    }
}
