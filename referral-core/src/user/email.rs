//! Email addresses: parsing, and the canonical form that is stored.

use std::{borrow::Cow, fmt};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use unicode_normalization::UnicodeNormalization as _;

use crate::{
    error::{catalog::ErrorCode, input::InvalidInput},
    text::{has_control, invisible, is_joiner},
};

/// Email address in lower case, whose domain is in its ASCII form (`user@xn--e1afmkfd.xn--p1ai`).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

impl Email {
    /// Largest size of an address in bytes (RFC 5321, section 4.5.3.1.3, without the angle brackets).
    pub const MAX_BYTES: usize = 254;

    /// Largest number of bytes before the `@` (RFC 5321, section 4.5.3.1.1).
    const MAX_LOCAL_BYTES: usize = 64;

    /// Largest size of the input in bytes. Every character that becomes one of the
    /// [`MAX_BYTES`](Self::MAX_BYTES) has at most four bytes.
    const MAX_INPUT_BYTES: usize = 4 * Self::MAX_BYTES;

    /// Parses an address and returns it in canonical form, trimmed.
    ///
    /// The part before the `@` is a dot-string of RFC 5321, after NFKC and in lower case. It must be ASCII:
    /// few providers deliver to other addresses (RFC 6531), and letters that only look alike would be
    /// different addresses. The domain has at least two labels and may be internationalized (UTS 46).
    ///
    /// # Errors
    ///
    /// `invalid_email` if the input does not have that form, or the result has more than 254 bytes.
    pub fn parse(input: &str) -> Result<Self, InvalidInput> {
        canonical(input).map(Self).ok_or_else(|| ErrorCode::InvalidEmail.into())
    }

    /// Creates an address from its stored form, unchanged.
    ///
    /// # Errors
    ///
    /// `invalid_email` if it is not in canonical form. Such an address is never stored.
    pub fn from_stored(stored: &str) -> Result<Self, InvalidInput> {
        let is_kept = stored.len() <= Self::MAX_BYTES
            && !stored.bytes().any(|byte| byte.is_ascii_uppercase())
            && stored.split_once('@').is_some_and(|(local, domain)| is_local(local) && is_domain(domain));
        if is_kept {
            Ok(Self(stored.to_owned()))
        } else {
            Err(InvalidInput::new(ErrorCode::InvalidEmail, "The stored address is not in canonical form."))
        }
    }

    /// Returns the address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the address with its domain in Unicode: `user@пример.рф`.
    #[must_use]
    pub fn to_unicode(&self) -> Cow<'_, str> {
        match self.0.split_once('@') {
            Some((local, domain)) if domain.contains("xn--") => {
                let (domain, _) =
                    Uts46::new().to_unicode(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast);
                format!("{local}@{domain}").into()
            }
            _ => Cow::Borrowed(&self.0),
        }
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(…)")
    }
}

fn canonical(input: &str) -> Option<String> {
    if input.len() > Email::MAX_INPUT_BYTES || has_control(input) {
        return None;
    }
    let input: String = input.trim().nfkc().collect();
    let (local, domain) = input.split_once('@')?;
    // UTS 46 drops most invisible characters, so an address could hide some. It checks the position of
    // joiners itself.
    if !invisible(&input).all(|(_, c)| is_joiner(c)) {
        return None;
    }
    let local = local.to_ascii_lowercase();
    let domain = Uts46::new().to_ascii(
        domain.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
        DnsLength::Verify,
    );
    let domain = domain.ok()?;
    let email = format!("{local}@{domain}");
    (is_local(&local) && is_domain(&domain) && email.len() <= Email::MAX_BYTES).then_some(email)
}

/// Returns `true` for a dot-string of RFC 5321, section 4.1.2.
fn is_local(local: &str) -> bool {
    let is_text = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    local.len() <= Email::MAX_LOCAL_BYTES
        && local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_text))
}

/// Returns `true` for at least two labels of letters, digits and hyphens. The last label must not consist of
/// digits only, as in an IPv4 address.
fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let top = domain.rsplit_once('.').map_or("", |(_, top)| top);
    domain.split('.').all(is_label) && !top.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equivalent_inputs_have_the_same_canonical_form() {
        for (input, kept) in [
            (" Anna@Example.COM ", "anna@example.com"),
            ("a+b@почта.рф", "a+b@xn--80a1acny.xn--p1ai"),
            ("user@пример.рф", "user@xn--e1afmkfd.xn--p1ai"),
            ("User@ПРИМЕР.РФ", "user@xn--e1afmkfd.xn--p1ai"),
            ("user@xn--e1afmkfd.xn--p1ai", "user@xn--e1afmkfd.xn--p1ai"),
            ("user@XN--E1AFMKFD.xn--p1ai", "user@xn--e1afmkfd.xn--p1ai"),
            ("user@пример。рф", "user@xn--e1afmkfd.xn--p1ai"),
            ("ｕｓｅｒ＠ｅｘａｍｐｌｅ．ｃｏｍ", "user@example.com"),
            ("user@bu\u{308}cher.example", "user@xn--bcher-kva.example"),
            ("user@bücher.example", "user@xn--bcher-kva.example"),
            ("user@straße.example", "user@xn--strae-oqa.example"),
            ("!#$%&'*+-/=?^_`{|}~@a--b.c1", "!#$%&'*+-/=?^_`{|}~@a--b.c1"),
            ("-a-@1.2a", "-a-@1.2a"),
        ] {
            let email = Email::parse(input).expect(input);
            assert_eq!(email.as_str(), kept, "{input}");
            assert_eq!(Email::from_stored(kept), Ok(email));
        }
    }

    #[test]
    fn domain_is_returned_in_unicode() {
        for (input, read) in [
            ("user@xn--e1afmkfd.xn--p1ai", "user@пример.рф"),
            ("xn--e1afmkfd@example.com", "xn--e1afmkfd@example.com"),
            ("user@example.com", "user@example.com"),
        ] {
            assert_eq!(Email::parse(input).expect(input).to_unicode(), read);
        }
    }

    #[test]
    fn length_limits_are_those_of_rfc_5321() {
        let local = "a".repeat(64);
        assert!(Email::parse(&format!("{local}@example.com")).is_ok());
        assert!(Email::parse(&format!("a{local}@example.com")).is_err());
        let label = "b".repeat(63);
        assert!(Email::parse(&format!("a@{label}.com")).is_ok());
        assert!(Email::parse(&format!("a@b{label}.com")).is_err());
        // 64 + 1 + 189 bytes.
        let domain = format!("{label}.{label}.{}", "b".repeat(61));
        assert_eq!(Email::parse(&format!("{local}@{domain}")).expect("254 bytes").as_str().len(), 254);
        assert!(Email::parse(&format!("{local}@b{domain}")).is_err());
        // Short as input, and too long in canonical form.
        let label = "ж".repeat(48);
        assert!(Email::parse(&format!("a@{label}.{label}.{label}.{label}.{label}.рф")).is_err());
    }

    #[test]
    fn invalid_addresses_are_rejected() {
        let long = format!("{}@example.com", "a".repeat(250));
        let huge = format!("a@{}.com", "b.".repeat(1_000_000));
        for input in [
            "",
            "a",
            "@",
            "@example.com",
            "a@",
            "a@b",
            "a@b.",
            "a@.b",
            "a@b..c",
            "a@b@c.d",
            "a@b.c@",
            "a b@c.d",
            "a@b c.d",
            // Forms that RFC 5321 allows only in quotes or in other fields.
            "<a@example.com>",
            "Anna <a@example.com>",
            "a(b)@example.com",
            "a@(b)example.com",
            "\"a\"@example.com",
            "a,b@example.com",
            "a:b@example.com",
            "a\\b@example.com",
            "mailto:a@example.com",
            ".a@example.com",
            "a.@example.com",
            "a..b@example.com",
            // Domains.
            "a@-example.com",
            "a@example-.com",
            "a@example.-com",
            "a@ex_ample.com",
            "a@1.2.3.4",
            "a@１.２.３.４",
            "a@127.0.0.1",
            "a@[127.0.0.1]",
            "a@[IPv6:::1]",
            "a@::1",
            "a@example.1",
            "a@example.com:80",
            "a@example.com/b",
            "a@ex%61mple.com",
            "a@xn--a.com",
            "a@xn--.com",
            "a@xn--example-.com",
            "a@xn--\u{fe}.com",
            // Letters that only look like others, and addresses that cannot be delivered to.
            "аnna@example.com",
            "анна@пример.рф",
            "İ@example.com",
            // Control characters and invisible characters.
            "a\0@b.cd",
            "a@b.cd\n",
            "a\u{202e}@b.cd",
            "a@b.cd\u{200b}",
            "a@b\u{ad}.cd",
            "a\u{200d}@b.cd",
            "a@b\u{200d}c.cd",
            "a\u{fe0f}@b.cd",
            "a\u{34f}@b.cd",
            "\u{3164}a@b.cd",
            "a@b\u{e0100}.cd",
            "\u{feff}a@b.cd",
            &long,
            &huge,
        ] {
            assert!(Email::parse(input).is_err(), "{input:.60}");
        }
    }

    #[test]
    fn joiner_is_kept_in_a_domain_whose_script_needs_it() {
        let persian = Email::parse("user@نامه\u{200c}ای.example").expect("a Persian domain");
        assert_eq!(persian.as_str(), "user@xn--mgba3gch31f060k.example");
        assert_eq!(Email::parse(&persian.to_unicode()), Ok(persian));
        assert_ne!(Email::parse("user@نامهای.example"), Email::parse("user@نامه\u{200c}ای.example"));
    }

    #[test]
    fn stored_addresses_that_are_not_canonical_are_rejected() {
        for stored in ["Anna@example.com", "a@example", "a@пример.рф", "a b@example.com", "a@[::1]", ""]
        {
            assert!(Email::from_stored(stored).is_err(), "{stored}");
        }
    }
}
