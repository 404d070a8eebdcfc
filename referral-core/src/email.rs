//! E-mail addresses: what may be typed, and the one form that is kept.

use std::{borrow::Cow, fmt};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use unicode_normalization::UnicodeNormalization as _;

use crate::{
    Invalid,
    text::{has_control, invisible, is_joiner},
};

/// An e-mail address in lower case, whose domain is in its ASCII form (`user@xn--e1afmkfd.xn--p1ai`).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

impl Email {
    /// The most bytes of an address (RFC 5321, section 4.5.3.1.3, without the angle brackets).
    pub const MAX_BYTES: usize = 254;

    /// The most bytes before the `@` (RFC 5321, section 4.5.3.1.1).
    const MAX_LOCAL_BYTES: usize = 64;

    /// The most bytes of input that are read: no character that becomes one of [`MAX_BYTES`](Self::MAX_BYTES)
    /// has more than four bytes.
    const MAX_INPUT_BYTES: usize = 4 * Self::MAX_BYTES;

    /// Parses an address, trimming it and bringing it into the form that is kept.
    ///
    /// The part before the `@` is a dot-string of RFC 5321, after NFKC and in lower case. It is ASCII: few
    /// providers deliver to other addresses (RFC 6531), and letters that only look alike would be
    /// different addresses. The domain has at least two labels and may be internationalized (UTS 46).
    ///
    /// # Errors
    ///
    /// `invalid_email` if it is not of that form or has more than 254 bytes in it.
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        canonical(input).map(Self).ok_or_else(|| {
            let detail = "An e-mail address looks like name@example.com and has at most 254 characters, of which \
                          at most 64 stand before the @. Leave out quotes, brackets, comments and IP addresses.";
            Invalid::new("invalid_email", detail)
        })
    }

    /// Takes an address that was stored before, as it is.
    ///
    /// # Errors
    ///
    /// `invalid_email` if it is not of the form that is kept, so was never stored.
    pub fn from_stored(stored: &str) -> Result<Self, Invalid> {
        let is_kept = stored.len() <= Self::MAX_BYTES
            && !stored.bytes().any(|byte| byte.is_ascii_uppercase())
            && stored.split_once('@').is_some_and(|(local, domain)| is_local(local) && is_domain(domain));
        if is_kept {
            Ok(Self(stored.to_owned()))
        } else {
            Err(Invalid::new("invalid_email", "The stored address is not in the form that is kept."))
        }
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the address with its domain as people read it: `user@пример.рф`.
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
    // UTS 46 drops most invisible characters, so an address could hide some. Of joiners it knows where they
    // belong.
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

/// Returns `true` for at least two labels of letters, digits and hyphens, the last of which is not all
/// digits, as that of an IPv4 address is.
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
    fn one_address_has_one_form() {
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
    fn a_domain_can_be_read_as_its_letters() {
        for (input, read) in [
            ("user@xn--e1afmkfd.xn--p1ai", "user@пример.рф"),
            ("xn--e1afmkfd@example.com", "xn--e1afmkfd@example.com"),
            ("user@example.com", "user@example.com"),
        ] {
            assert_eq!(Email::parse(input).expect(input).to_unicode(), read);
        }
    }

    #[test]
    fn the_bounds_are_those_of_rfc_5321() {
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
        // Short as typed, and too long as kept.
        let label = "ж".repeat(48);
        assert!(Email::parse(&format!("a@{label}.{label}.{label}.{label}.{label}.рф")).is_err());
    }

    #[test]
    fn what_is_no_address_is_refused() {
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
            // What RFC 5321 allows only in quotes or in other fields.
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
            // Letters that only look like others, and what cannot be delivered to.
            "аnna@example.com",
            "анна@пример.рф",
            "İ@example.com",
            // Control characters and what cannot be seen.
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
    fn a_joiner_stays_in_a_domain_of_a_script_that_needs_it() {
        let persian = Email::parse("user@نامه\u{200c}ای.example").expect("a Persian domain");
        assert_eq!(persian.as_str(), "user@xn--mgba3gch31f060k.example");
        assert_eq!(Email::parse(&persian.to_unicode()), Ok(persian));
        assert_ne!(Email::parse("user@نامهای.example"), Email::parse("user@نامه\u{200c}ای.example"));
    }

    #[test]
    fn what_was_never_stored_is_refused() {
        for stored in ["Anna@example.com", "a@example", "a@пример.рф", "a b@example.com", "a@[::1]", ""]
        {
            assert!(Email::from_stored(stored).is_err(), "{stored}");
        }
    }
}
