//! Phone numbers: parsing, and the canonical form that is stored.

mod metadata;
mod prefix;
mod region;

use std::fmt;

use self::metadata::{LineType, NUMBERING_PLANS};
pub use self::{prefix::NumberPrefix, region::Region};
use crate::{
    error::{catalog::ErrorCode, input::InvalidInput},
    text::{is_ignored_in_code, is_separator},
    texts::Text,
};

/// Largest number of characters of an input. The longest real number with punctuation has fewer.
const MAX_INPUT_CHARS: usize = 32;

/// Valid phone number of a numbering plan, in E.164 form (`+79608543017`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhoneNumber(String);

impl PhoneNumber {
    /// Parses a phone number as people type or paste it. White space, invisible characters, dashes, dots,
    /// slashes, brackets and tildes are ignored, and digits of any script are accepted. A number without a
    /// leading `+` is parsed as dialed in `default_region`.
    ///
    /// # Errors
    ///
    /// `invalid_phone` if the input does not have that form, or no numbering plan assigns the number.
    pub fn parse(input: &str, default_region: Option<Region>) -> Result<Self, InvalidInput> {
        Self::parse_if(input, default_region, |_| false)
    }

    /// Parses a phone number like [`parse`](Self::parse), and accepts any number whose length is possible in
    /// its region, even if no numbering plan assigns it.
    pub(crate) fn parse_possible(input: &str, default_region: Option<Region>) -> Result<Self, InvalidInput> {
        Self::parse_if(input, default_region, |_| true)
    }

    /// Parses a phone number like [`parse_possible`](Self::parse_possible). A number that no numbering plan
    /// assigns is accepted only if `is_known` returns `true`.
    pub(crate) fn parse_if(
        input: &str,
        default_region: Option<Region>,
        is_known: impl FnOnce(&Self) -> bool,
    ) -> Result<Self, InvalidInput> {
        let invalid = |text| InvalidInput::with_text(ErrorCode::InvalidPhone, text);

        let digits = plain_digits(input).ok_or_else(|| invalid(Text::PhoneCharacters))?;
        if !digits.starts_with('+') && default_region.is_none() {
            return Err(invalid(Text::PhoneCountryCode));
        }
        // The digits after a plus sign are always read as a country code, even if no such code exists, so the
        // region is ignored.
        let region = default_region.filter(|_| !digits.starts_with('+'));
        let no_such = || invalid(Text::PhoneNotAssigned);
        let number = NUMBERING_PLANS.parse(&digits, region.map(|region| region.0)).ok_or_else(no_such)?;
        let number = without_former_prefix(&number).unwrap_or(number);
        // Some plans have numbers that are longer than E.164 allows.
        let phone = Self::from_stored(NUMBERING_PLANS.e164(&number)).map_err(|_| no_such())?;
        let is_accepted = NUMBERING_PLANS.line_type(&number).is_some()
            || NUMBERING_PLANS.is_possible(&number) && is_known(&phone);
        if is_accepted { Ok(phone) } else { Err(no_such()) }
    }

    /// Creates a number from its stored form, unchanged.
    ///
    /// # Errors
    ///
    /// `invalid_phone` if it does not have the form `+` and 7 to 15 digits. Such a number is never stored.
    pub fn from_stored(stored: String) -> Result<Self, InvalidInput> {
        let digits = stored.strip_prefix('+').unwrap_or_default();
        if (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(stored))
        } else {
            Err(InvalidInput::new(ErrorCode::InvalidPhone, "The stored number is not in E.164 form."))
        }
    }

    /// Returns the E.164 form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the number as other users see it if phones are private: `+7960*****17`.
    ///
    /// At least four digits are hidden. If the number is too short to show the first four and the last two
    /// digits as well, only the country code is shown. The number of `*` is always the same, so that it does
    /// not reveal the length of the number.
    #[must_use]
    pub fn masked(&self) -> String {
        const SHOWN_FIRST: usize = 4;
        const SHOWN_LAST: usize = 2;
        const MIN_HIDDEN: usize = 4;
        const HIDDEN: &str = "*****";

        let digits = &self.0[1..];
        if digits.len() >= SHOWN_FIRST + MIN_HIDDEN + SHOWN_LAST {
            let (first, last) = (&digits[..SHOWN_FIRST], &digits[digits.len() - SHOWN_LAST..]);
            return format!("+{first}{HIDDEN}{last}");
        }
        let country_code = NUMBERING_PLANS.parse(&self.0, None).map(|number| number.country_code);
        country_code.map_or_else(|| format!("+{HIDDEN}"), |country_code| format!("+{country_code}{HIDDEN}"))
    }

    /// Returns the region that the number belongs to, if there is one.
    #[must_use]
    pub fn region(&self) -> Option<Region> {
        let number = NUMBERING_PLANS.parse(&self.0, None)?;
        let region = NUMBERING_PLANS.region(&number)?;
        // International services such as +800 belong to no region.
        (region != rlibphonenumber::Region::World).then_some(Region(region))
    }

    /// Returns the number range: the number without its last three digits.
    pub(crate) fn number_range(&self) -> &str {
        &self.0[..self.0.len() - 3]
    }

    /// Returns `true` if the number is a landline of Argentina that would be a mobile number with a 9 after
    /// the calling code. Within the country, mobile numbers are dialed without the 9.
    pub(crate) fn lacks_mobile_prefix(&self) -> bool {
        self.0.strip_prefix("+54").is_some_and(|national| {
            !self.may_be_mobile()
                && Self::parse(&format!("+549{national}"), None).is_ok_and(|phone| phone.may_be_mobile())
        })
    }

    /// Returns `true` if the number may belong to a mobile phone. Messages to any other kind of line are not
    /// delivered, or are expensive.
    #[must_use]
    pub fn may_be_mobile(&self) -> bool {
        let number = NUMBERING_PLANS.parse(&self.0, None);
        number.and_then(|number| NUMBERING_PLANS.line_type(&number)) == Some(LineType::MaybeMobile)
    }
}

/// Returns the number without a prefix that is no longer dialed, if it has one. Until 3 August 2019 mobile
/// numbers of Mexico had a 1 after the calling code, and many address books still have it.
fn without_former_prefix(number: &rlibphonenumber::PhoneNumber) -> Option<rlibphonenumber::PhoneNumber> {
    let national = number.national_number.to_string();
    let current = national.strip_prefix('1').filter(|rest| number.country_code == 52 && rest.len() == 10)?;
    NUMBERING_PLANS.parse(&format!("+52{current}"), None)
}

/// Shows only the last two digits, so that logs contain no phone.
impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhoneNumber(…{})", &self.0[self.0.len() - 2..])
    }
}

/// Returns `+` and ASCII digits, without separators, or `None` if the input is too long or has other
/// characters. Letters must be rejected: libphonenumber would read them as the digits of their keys.
fn plain_digits(input: &str) -> Option<String> {
    let input = input.trim_matches(is_ignored_in_code);
    if input.chars().nth(MAX_INPUT_CHARS).is_some() {
        return None;
    }
    let mut plain = String::with_capacity(input.len());
    for c in input.chars() {
        match c {
            '+' | '＋' if plain.is_empty() => plain.push('+'),
            c if is_separator(c) => {}
            c => plain.push(decimal_digit(c)?),
        }
    }
    Some(plain)
}

/// Returns the ASCII digit of the same value, for a decimal digit of any script.
pub(crate) fn decimal_digit(c: char) -> Option<char> {
    if c.is_ascii() {
        return c.is_ascii_digit().then_some(c);
    }
    NUMBERING_PLANS.ascii_digits(c.encode_utf8(&mut [0; 4])).chars().next()
}

#[cfg(test)]
mod tests {
    use rlibphonenumber::{PhoneNumberFormat, PhoneNumberType};

    use super::{metadata::tests::COMPLETE, *};

    /// Columns: input, default region or `-`, expected E.164 form or `!` if the input is rejected, note.
    const TABLE: &str = include_str!("../../tests/data/phones.tsv");

    #[test]
    fn phones_of_the_table_are_parsed_as_expected() {
        let mut wrong = Vec::new();
        for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
            let [input, region, expected, ..] = *line.split('\t').collect::<Vec<_>>() else {
                panic!("a line has at least three columns: {line}");
            };
            let region = (region != "-").then(|| Region::parse(region).expect("a region"));
            let read = PhoneNumber::parse(input, region);
            let read = read.as_ref().map_or("!", PhoneNumber::as_str);
            if read != expected {
                wrong.push(format!("{line}: parsed as {read}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn malformed_input_is_rejected() {
        let long = "+7".to_owned() + &"9".repeat(1_000_000);
        for input in [
            &*long,
            "\0",
            "+7960854\u{0}3017",
            "+79608543017;ext=1",
            "tel:+79608543017",
            "🙂",
            "\n",
            "+7x9608543017",
            "+79608543017, +77011234567",
        ] {
            let error = PhoneNumber::parse(input, None).expect_err("refused");
            assert_eq!(error.code().as_str(), "invalid_phone");
        }
    }

    #[test]
    fn region_of_a_number_can_be_parsed_or_is_none() {
        for (input, region) in
            [("+79608543017", Some("RU")), ("+14155552671", Some("US")), ("+80012345678", None)]
        {
            let found = PhoneNumber::parse(input, None).expect("valid").region();
            assert_eq!(found.map(|region| region.to_string()).as_deref(), region);
            assert_eq!(found, region.map(|region| Region::parse(region).expect("a region")));
        }
    }

    #[test]
    fn masked_number_hides_at_least_four_digits_and_its_length() {
        for (phone, masked) in [
            ("+79608543017", "+7960*****17"),
            ("+14155552671", "+1415*****71"),
            ("+447911123456", "+4479*****56"),
            // Numbers of ten and nine digits.
            ("+2903123412", "+2903*****12"),
            ("+298211234", "+298*****"),
            ("+6834002", "+683*****"),
            // A stored number that no plan assigns.
            ("+9991234", "+*****"),
        ] {
            let phone = PhoneNumber::from_stored(phone.into()).expect("E.164");
            assert_eq!(phone.masked(), masked);
        }
    }

    #[test]
    fn masked_number_of_any_region_and_kind_hides_at_least_four_digits() {
        const KINDS: [PhoneNumberType; 5] = [
            PhoneNumberType::Mobile,
            PhoneNumberType::FixedLine,
            PhoneNumberType::TollFree,
            PhoneNumberType::PremiumRate,
            PhoneNumberType::VoIP,
        ];
        let (mut long, mut short) = (0, 0);
        for region in COMPLETE.get_supported_regions() {
            for kind in KINDS {
                let Ok(example) = COMPLETE.get_example_number_for_type_and_region(region, kind) else {
                    continue;
                };
                let number = COMPLETE.format(&example, PhoneNumberFormat::E164);
                let phone = PhoneNumber::parse(&number, None).expect("valid");
                let masked = phone.masked();
                let (first, last) = masked.split_once("*****").expect("five stars");
                assert!(number.starts_with(first) && number.ends_with(last), "{number}: {masked}");
                let hidden = number.len() - first.len() - last.len();
                let country_code = format!("+{}", example.country_code);
                if last.is_empty() {
                    short += 1;
                    assert_eq!(first, country_code, "{number}");
                    assert!(number.len() < 11, "{number} is long enough to show more");
                } else {
                    long += 1;
                    assert!(hidden >= 4 && first.starts_with(&country_code), "{number}: {masked}");
                }
                // A number that differs only in the hidden digits or in its length has the same masked form.
                let filled = [&number[..first.len()], &"0".repeat(hidden), last].concat();
                assert_eq!(PhoneNumber(filled).masked(), masked);
                let longer = [&number[..first.len()], &"0".repeat(hidden + 1), last].concat();
                if !last.is_empty() {
                    assert_eq!(PhoneNumber(longer).masked(), masked);
                }
            }
        }
        assert!(long > 400 && short > 20, "{long} long and {short} short numbers");
    }

    #[test]
    fn debug_shows_only_the_last_two_digits() {
        let phone = PhoneNumber::parse("+79608543017", None).expect("valid");
        assert_eq!(format!("{phone:?}"), "PhoneNumber(…17)");
    }

    #[test]
    fn only_possible_mobile_numbers_may_be_mobile() {
        for (input, mobile) in [
            ("+79608543017", true),
            ("+14155552671", true),
            ("+78121234567", false),
            ("+78005553535", false),
            ("+78091234567", false),
        ] {
            let phone = PhoneNumber::parse(input, None).expect("valid");
            assert_eq!(phone.may_be_mobile(), mobile, "{input}");
        }
    }
}
