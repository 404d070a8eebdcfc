//! Regions of numbering plans.

use std::fmt;

use super::metadata::NUMBERING_PLANS;
use crate::error::{catalog::ErrorCode, input::InvalidInput};

/// Region of a numbering plan, such as `RU`. A number without country code is parsed as a number of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region(pub(super) rlibphonenumber::Region);

impl Region {
    /// Parses an ISO 3166-1 alpha-2 code, in either letter case.
    ///
    /// # Errors
    ///
    /// `invalid_region` if the code is not that of a region with a numbering plan.
    pub fn parse(input: &str) -> Result<Self, InvalidInput> {
        rlibphonenumber::Region::from_code(&input.trim().to_ascii_uppercase())
            .ok()
            .filter(|region| NUMBERING_PLANS.has_region(*region))
            .map(Self)
            .ok_or_else(|| ErrorCode::InvalidRegion.into())
    }

    /// Returns the region if mobile numbers belong to it.
    ///
    /// # Errors
    ///
    /// `invalid_region` if the mobile numbers of the region belong to another region with the same calling
    /// code. The detail has that region. A list of regions with such a region would not have the effect that
    /// its author expects.
    pub fn require_mobile_numbers(self) -> Result<Self, InvalidInput> {
        let region = self.to_string();
        match WITHOUT_MOBILE_NUMBERS.iter().find(|(without, _)| *without == region) {
            Some((_, main)) => Err(InvalidInput::new(
                ErrorCode::InvalidRegion,
                format!(
                    "No mobile number belongs to the region {region}. Use {main}, to which its numbers belong."
                ),
            )),
            None => Ok(self),
        }
    }
}

/// Regions without mobile numbers of their own, and the regions to which the mobile numbers belong that are
/// used there.
const WITHOUT_MOBILE_NUMBERS: [(&str, &str); 9] = [
    ("AX", "FI"),
    ("BL", "GP"),
    ("CC", "AU"),
    ("CX", "AU"),
    ("EH", "MA"),
    ("MF", "GP"),
    ("SJ", "NO"),
    ("TA", "SH"),
    ("VA", "IT"),
];

/// Writes the two capital letters.
impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Region {
    type Err = InvalidInput;

    fn from_str(input: &str) -> Result<Self, InvalidInput> {
        Self::parse(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::phone::{
        PhoneNumber,
        metadata::tests::{COMPLETE, Kind},
    };

    #[test]
    fn regions_without_a_numbering_plan_are_rejected() {
        assert!(Region::parse(" ru ").is_ok());
        for input in ["", "XX", "ZZ", "001", "RUS", "Россия", "\0"] {
            assert!(Region::parse(input).is_err(), "{input}");
        }
    }

    #[test]
    fn regions_without_mobile_numbers_are_the_ones_of_the_metadata() {
        let mut found = Vec::new();
        for region in COMPLETE.get_supported_regions() {
            let example = COMPLETE.get_example_number_for_type_and_region(region, Kind::Mobile);
            let phone = example.ok().map(|number| NUMBERING_PLANS.e164(&number));
            let of_example = phone.and_then(|phone| PhoneNumber::parse(&phone, None).ok()?.region());
            // The example of the Isle of Man belongs to Great Britain, but other numbers do not.
            if of_example != Some(Region(region)) && region != rlibphonenumber::Region::IM {
                let main = of_example.map_or("SH".to_owned(), |region| region.to_string());
                found.push((region.to_string(), main));
            }
        }
        found.sort();
        assert_eq!(found, WITHOUT_MOBILE_NUMBERS.map(|(region, main)| (region.to_owned(), main.to_owned())));
        for (region, main) in WITHOUT_MOBILE_NUMBERS {
            let error = Region::parse(region).expect("a region").require_mobile_numbers().expect_err(region);
            assert_eq!(error.code(), ErrorCode::InvalidRegion);
            assert!(error.to_string().contains(&format!("Use {main}")), "{error}");
        }
        assert!(Region::parse("IM").expect("a region").require_mobile_numbers().is_ok());
    }
}
