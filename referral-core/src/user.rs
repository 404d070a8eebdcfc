//! Users and what of them can be typed.

use std::{fmt, str::FromStr, sync::LazyLock};

use regex::Regex;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Invalid, InviteCode, PhoneNumber, error::parse_id};

/// The id of a user: a UUID that sorts by the time the user was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub Uuid);

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for UserId {
    type Err = Invalid;

    fn from_str(input: &str) -> Result<Self, Invalid> {
        parse_id(input).map(Self)
    }
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// The phone that signs in as this user; unique.
    pub phone: PhoneNumber,
    /// The user's own invite code; unique.
    pub invite_code: InviteCode,
    /// By whom the user was invited, once and for good.
    pub invited_by: Option<InvitedBy>,
    /// How many users named this one as their inviter.
    pub invited_count: u64,
    /// The e-mail address; unique.
    pub email: Option<Email>,
    /// The first name.
    pub first_name: Option<Name>,
    /// The last name.
    pub last_name: Option<Name>,
    /// Whether the user may see everybody's data whatever the [`Visibility`](crate::Visibility).
    pub is_staff: bool,
    /// Whether the user may sign in. Tokens of an inactive user are not valid.
    pub is_active: bool,
    /// When the user was made, by a first sign-in or as staff.
    pub date_joined: OffsetDateTime,
    /// When the user last signed in with a code; none for staff that never did.
    pub last_login: Option<OffsetDateTime>,
}

/// Who invited a user, and with which code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvitedBy {
    /// The inviter.
    pub inviter: UserId,
    /// The inviter's code, as it was used.
    pub code: InviteCode,
}

/// What is to become of somebody who is not a user yet.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewUser {
    /// The user's id.
    pub id: UserId,
    /// The user's phone.
    pub phone: PhoneNumber,
    /// Codes to try in turn until one is free.
    pub invite_codes: Vec<InviteCode>,
    /// Whether the user is staff.
    pub is_staff: bool,
    /// The time of joining.
    pub date_joined: OffsetDateTime,
    /// The time of the first sign-in, if this is one.
    pub last_login: Option<OffsetDateTime>,
}

impl NewUser {
    /// The user with the invite code that was free.
    #[must_use]
    pub fn to_user(&self, invite_code: InviteCode, invited_by: Option<InvitedBy>) -> User {
        User {
            id: self.id,
            phone: self.phone.clone(),
            invite_code,
            invited_by,
            invited_count: 0,
            email: None,
            first_name: None,
            last_name: None,
            is_staff: self.is_staff,
            is_active: true,
            date_joined: self.date_joined,
            last_login: self.last_login,
        }
    }
}

/// One of the users that somebody invited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitee {
    /// The invited user's id.
    pub id: UserId,
    /// The invited user's phone.
    pub phone: PhoneNumber,
    /// When the invited user joined.
    pub joined_at: OffsetDateTime,
}

/// A user together with the newest of those invited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserWithInvited {
    /// The user.
    pub user: User,
    /// Those who named the user as their inviter, newest users first, at most as many as were
    /// asked for. [`User::invited_count`] says how many there are in all.
    pub invited: Vec<Invitee>,
}

/// A first or last name: 1 to 32 characters, no control characters, nothing to trim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// The most characters of a name.
    pub const MAX_CHARS: usize = 32;

    /// Reads a name, trimming it.
    ///
    /// # Errors
    ///
    /// `invalid_name` if nothing is left, if it is too long, or if it has control characters.
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        let name = input.trim();
        let length = name.chars().take(Self::MAX_CHARS + 1).count();
        if length == 0 || length > Self::MAX_CHARS || has_control(input) || !is_legible(name) {
            let detail = "A name has 1 to 32 characters, none of them invisible.";
            return Err(Invalid::new("invalid_name", detail));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An e-mail address in lower case.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

impl Email {
    /// The most bytes of an address (RFC 5321, section 4.5.3.1.3, without the angle brackets).
    pub const MAX_BYTES: usize = 254;

    /// Reads an address, trimming it. Whether it exists, only a message to it can tell; so no
    /// more is asked than one `@`, no spaces, and a domain of two labels or more.
    ///
    /// # Errors
    ///
    /// `invalid_email` if it is not of that form or has more than 254 bytes.
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        // The bound comes first, to spare the work; and last, since lower case can be longer.
        let bounded = |email: &str| email.len() <= Self::MAX_BYTES;
        let email = Some(input.trim())
            .filter(|email| {
                bounded(email) && !has_control(input) && shows_all(email) && has_form_of_email(email)
            })
            .map(str::to_lowercase)
            .filter(|email| bounded(email));
        email.map(Self).ok_or_else(|| {
            let detail = "An e-mail address looks like name@example.com and has at most 254 bytes.";
            Invalid::new("invalid_email", detail)
        })
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(…)")
    }
}

fn has_form_of_email(email: &str) -> bool {
    let Some((local, domain)) = email.split_once('@') else {
        return false;
    };
    !local.is_empty()
        && domain.contains('.')
        && domain.split('.').all(|label| !label.is_empty())
        && !domain.contains('@')
        && !email.chars().any(char::is_whitespace)
}

/// Whether there is something to see, and nothing that hides among it: no marks that turn the
/// direction of writing around, no spaces without width. What joins characters is let through.
fn is_legible(text: &str) -> bool {
    static HIDDEN: LazyLock<Regex> = LazyLock::new(|| regex(r"[\p{Cf}\p{Cn}--[\u{200c}\u{200d}]]"));
    static SEEN: LazyLock<Regex> =
        LazyLock::new(|| regex(r"[^\p{Default_Ignorable_Code_Point}\p{White_Space}\p{M}\u{2800}]"));
    SEEN.is_match(text) && !HIDDEN.is_match(text)
}

/// Whether everything in it is to be seen, so that no two that differ look the same for that.
fn shows_all(text: &str) -> bool {
    static UNSEEN: LazyLock<Regex> =
        LazyLock::new(|| regex(r"[\p{Default_Ignorable_Code_Point}\p{Cf}\p{Cn}\u{2800}]"));
    !UNSEEN.is_match(text)
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is fixed and has been tried")
}

pub(crate) fn has_control(input: &str) -> bool {
    input.chars().any(char::is_control)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A user like any other; different ones for different numbers.
    pub(crate) fn user(number: u8) -> User {
        let new = NewUser {
            id: UserId(Uuid::from_u128(number.into())),
            phone: PhoneNumber::parse(&format!("+79608543{number:03}"), None).expect("valid"),
            invite_codes: Vec::new(),
            is_staff: false,
            date_joined: OffsetDateTime::UNIX_EPOCH,
            last_login: None,
        };
        let code = InviteCode::parse(&format!("BCD{number:03}")).expect("valid");
        new.to_user(code, None)
    }

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(Name::parse("  Анна-Мария ").expect("a name").as_str(), "Анна-Мария");
        assert!(Name::parse(&"ж".repeat(32)).is_ok());
        for input in
            ["\u{202e}abc", "\u{200b}", "\u{2060}", "\u{feff}", "\u{3164}", "\u{301}", "\u{ffff}", "\u{2800}"]
        {
            assert!(Name::parse(input).is_err(), "{input:?}");
        }
        assert!(Name::parse("👩‍👩‍👧").is_ok());
        for input in ["", "   ", "a\0b", "a\nb", "\n", &"ж".repeat(33), &"x".repeat(1_000_000)] {
            assert!(Name::parse(input).is_err(), "{input:.20}");
        }
    }

    #[test]
    fn addresses_are_kept_in_lower_case() {
        assert_eq!(Email::parse(" Anna@Example.COM ").expect("valid").as_str(), "anna@example.com");
        assert_eq!(Email::parse("a+b@почта.рф").expect("valid").as_str(), "a+b@почта.рф");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@example.com", "a".repeat(250));
        let longer_in_lower_case = format!("{}@example.com", "İ".repeat(120));
        for input in [
            "",
            "a",
            "@example.com",
            "a@",
            "a@b",
            "a@b.",
            "a@.b",
            "a@b..c",
            "a@b@c.d",
            "a b@c.d",
            "a\0@b.c",
            "a\u{202e}@b.cd",
            "a@b.cd\u{200b}",
            "a\u{200d}@b.cd",
            "a\u{fe0f}@b.cd",
            "a\u{34f}@b.cd",
            "\u{3164}a@b.cd",
            "a@b\u{e0100}.cd",
            &long,
            &longer_in_lower_case,
        ] {
            assert!(Email::parse(input).is_err(), "{input}");
        }
    }
}
