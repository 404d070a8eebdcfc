//! Numbering plans of all regions, in a compact form.
//!
//! libphonenumber matches a number against up to eleven patterns of a region. The crate `regex` keeps a cache
//! for each pattern and up to nine threads, and compiles `\d` as the decimal digits of all scripts. With a
//! phone of every region, this takes 120 MiB on one thread and 480 MiB on seventeen. This module therefore
//! compiles the patterns of a region into one automaton for ASCII digits, which needs no cache.
//! libphonenumber only parses and formats.

use std::{
    collections::HashMap,
    sync::{LazyLock, OnceLock},
};

use prost::Message as _;
use regex_automata::{
    Anchored, Input, MatchKind, PatternID, PatternSet,
    dfa::{Automaton as _, StartKind, dense},
    nfa::thompson,
    util::syntax,
};
use rlibphonenumber::{
    PhoneMetadata, PhoneMetadataCollection, PhoneNumber, PhoneNumberDesc, PhoneNumberFormat, PhoneNumberUtil,
    Region, get_national_significant_number_owned, interfaces::AsOriginal as _,
};

/// Metadata of libphonenumber 9.0.43, written by `data/phone_metadata.py`. The crate has an older version.
const METADATA: &[u8] = include_bytes!("../../../data/phone_metadata.bin");

/// Numbering plans of all regions.
pub(super) static NUMBERING_PLANS: LazyLock<NumberingPlans> = LazyLock::new(NumberingPlans::new);

/// Parser, formatter and classifier of phone numbers, with the results of libphonenumber.
pub(super) struct NumberingPlans {
    /// Parser with only the patterns that parsing reads, so that E.164 is the only supported format.
    parser: PhoneNumberUtil,
    /// Plans by country calling code. The first region of those that share a code is the main one.
    plans: HashMap<i32, Vec<NumberingPlan>>,
}

/// Kind of line that a number belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LineType {
    /// Mobile phone, or a number that mobile and fixed lines share.
    MaybeMobile,
    /// Any other kind of line.
    Other,
}

impl NumberingPlans {
    fn new() -> Self {
        let complete = complete();
        let mut collection = PhoneMetadataCollection::default();
        let mut plans = HashMap::<_, Vec<_>>::new();
        let metadata = complete.as_original();
        for code in complete.get_supported_calling_codes() {
            // If regions share a calling code, the order decides which of them a number belongs to.
            for region in complete.get_regions_for_country_calling_code(code).into_iter().flatten() {
                let Some(plan) = metadata.get_metadata_for_region_or_calling_code(code, region) else {
                    continue;
                };
                let lines = [
                    &plan.general_desc,
                    &plan.premium_rate,
                    &plan.toll_free,
                    &plan.shared_cost,
                    &plan.voip,
                    &plan.personal_number,
                    &plan.pager,
                    &plan.uan,
                    &plan.voicemail,
                    &plan.fixed_line,
                    &plan.mobile,
                ];
                let lines = lines.map(|line| Line {
                    pattern: line.national_number_pattern().pattern_base.as_deref().map(Into::into),
                    lengths: line.original.possible_length.as_slice().into(),
                });
                let patterns = [
                    plan.general_desc.national_number_pattern(),
                    plan.international_prefix(),
                    plan.national_prefix_for_parsing(),
                ];
                collection.metadata.push(for_parsing(
                    &plan.original,
                    &plan.general_desc.original,
                    patterns.map(|pattern| for_ascii(pattern.pattern_base.as_deref())),
                ));
                plans.entry(code).or_default().push(NumberingPlan {
                    region,
                    is_same_for_mobile_and_fixed: plan.original.same_mobile_and_fixed_line_pattern(),
                    lines,
                    leading_digits: plan.leading_digits().pattern_base.as_deref().map(Into::into),
                    automaton: OnceLock::new(),
                });
            }
        }
        let parser = PhoneNumberUtil::new_for_metadata(collection);
        Self { parser: parser.expect("the regions come from the complete metadata"), plans }
    }

    /// Returns `true` if the region has a numbering plan.
    pub(super) fn has_region(&self, region: Region) -> bool {
        self.parser.get_country_code_for_region(region).is_some()
    }

    /// Parses a number of ASCII digits, with a leading `+` or as dialed in `region`. The number need not be
    /// valid.
    pub(super) fn parse(&self, digits: &str, region: Option<Region>) -> Option<PhoneNumber> {
        self.parser.parse(digits, region).ok()
    }

    /// Formats the number as E.164.
    pub(super) fn e164(&self, number: &PhoneNumber) -> String {
        self.parser.format(number, PhoneNumberFormat::E164).into_owned()
    }

    /// Returns `true` if numbers of this length exist in one of the regions with the calling code.
    pub(super) fn is_possible(&self, number: &PhoneNumber) -> bool {
        let length = get_national_significant_number_owned(number).len();
        let plans = self.plans.get(&number.country_code).into_iter().flatten();
        plans.into_iter().any(|plan| plan.lines[0].has_length(length))
    }

    /// Returns the region that the number belongs to, which is [`Region::World`] for services such as +800.
    /// The number need not be valid.
    pub(super) fn region(&self, number: &PhoneNumber) -> Option<Region> {
        match &**self.plans.get(&number.country_code)? {
            [plan] => Some(plan.region),
            plans => Some(Self::find(plans, number)?.0.region),
        }
    }

    /// Returns the kind of line that the number belongs to, or `None` if the number is not valid.
    pub(super) fn line_type(&self, number: &PhoneNumber) -> Option<LineType> {
        Self::find(self.plans.get(&number.country_code)?, number)?.1
    }

    /// Finds the plan of the region that the number belongs to, among those that share its calling code.
    fn find<'p>(
        plans: &'p [NumberingPlan],
        number: &PhoneNumber,
    ) -> Option<(&'p NumberingPlan, Option<LineType>)> {
        let national = get_national_significant_number_owned(number);
        if let [plan] = plans {
            return Some((plan, plan.line_type(&national).0));
        }
        plans.iter().find_map(|plan| {
            let (line_type, has_leading_digits) = plan.line_type(&national);
            // All numbers with the leading digits of a region belong to it, including invalid ones.
            (line_type.is_some() || has_leading_digits).then_some((plan, line_type))
        })
    }

    /// Replaces each decimal digit of any script by its ASCII digit and drops everything else.
    pub(super) fn ascii_digits(&self, input: &str) -> String {
        self.parser.normalize_digits_only(input)
    }
}

/// Numbering plan of a region, or of a calling code that belongs to no region.
struct NumberingPlan {
    region: Region,
    is_same_for_mobile_and_fixed: bool,
    /// The general description, then the kinds of line in the order in which they are checked. Fixed lines
    /// and mobile phones are the last two.
    lines: [Line; LINES],
    leading_digits: Option<Box<str>>,
    /// Automaton, compiled when the first number of the region is checked.
    automaton: OnceLock<Automaton>,
}

/// Number of patterns: the general description and ten kinds of line.
const LINES: usize = 11;

const FIXED: usize = LINES - 2;
const MOBILE: usize = LINES - 1;

/// Pattern and lengths of the numbers of one kind of line.
struct Line {
    /// Pattern as in the metadata: `^(?:`, the pattern and `)$`.
    pattern: Option<Box<str>>,
    /// Possible numbers of digits. If it is empty, any number is possible.
    lengths: Box<[i32]>,
}

impl Line {
    fn has_length(&self, digits: usize) -> bool {
        self.lengths.is_empty() || self.lengths.iter().any(|length| usize::try_from(*length) == Ok(digits))
    }
}

/// Automaton that matches a number against all patterns of a plan in one pass.
struct Automaton {
    dfa: dense::DFA<Vec<u32>>,
    /// Index of the pattern of each line, and of the leading digits.
    patterns: [Option<usize>; LINES + 1],
}

impl NumberingPlan {
    /// Returns the kind of line that the number belongs to, or `None` if it is not valid, and whether it has
    /// the leading digits of the region. The result is that of `get_number_type` of libphonenumber.
    fn line_type(&self, national: &str) -> (Option<LineType>, bool) {
        let automaton = self.automaton.get_or_init(|| self.compile());
        let mut found = PatternSet::new(automaton.dfa.pattern_len());
        let input = Input::new(national).anchored(Anchored::Yes);
        automaton
            .dfa
            .try_which_overlapping_matches(&input, &mut found)
            .expect("the automaton supports anchored searches and has no quit bytes");
        let matches = |index: usize| {
            automaton.patterns[index].is_some_and(|pattern| found.contains(PatternID::must(pattern)))
        };
        let is = |line: usize| self.lines[line].has_length(national.len()) && matches(line);
        let line_type = if !is(0) {
            None
        } else if (1..FIXED).any(is) {
            Some(LineType::Other)
        } else if is(FIXED) {
            let is_both = self.is_same_for_mobile_and_fixed || is(MOBILE);
            Some(if is_both { LineType::MaybeMobile } else { LineType::Other })
        } else {
            (!self.is_same_for_mobile_and_fixed && is(MOBILE)).then_some(LineType::MaybeMobile)
        };
        (line_type, matches(LINES))
    }

    fn compile(&self) -> Automaton {
        let leading_digits = self.leading_digits.as_deref().map(|pattern| {
            // Other digits follow the leading digits.
            pattern.strip_suffix('$').expect("a pattern of the metadata ends with `$`")
        });
        let mut sources = Vec::new();
        let mut patterns = [None; LINES + 1];
        let all = self.lines.iter().map(|line| line.pattern.as_deref()).chain([leading_digits]);
        for (place, pattern) in patterns.iter_mut().zip(all) {
            if let Some(pattern) = pattern {
                *place = Some(sources.len());
                sources.push(pattern);
            }
        }
        let dfa = dense::Builder::new()
            .configure(dense::Config::new().match_kind(MatchKind::All).start_kind(StartKind::Anchored))
            .thompson(thompson::Config::new().utf8(false))
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .build_many(&sources)
            .expect("the patterns in the crate are valid");
        Automaton { dfa, patterns }
    }
}

/// Returns a parser with all metadata. Its patterns take much memory once they are used.
fn complete() -> PhoneNumberUtil {
    let metadata = PhoneMetadataCollection::decode(METADATA).expect("the metadata in the crate is valid");
    PhoneNumberUtil::new_for_metadata(metadata).expect("the metadata in the crate has known regions")
}

/// Returns the metadata of a region with these patterns, which are the only ones that parsing reads.
#[expect(
    deprecated,
    reason = "the fields are empty where they are read, and are the only way to set patterns"
)]
fn for_parsing(
    metadata: &PhoneMetadata,
    general: &PhoneNumberDesc,
    [national_number_pattern, international_prefix, national_prefix_for_parsing]: [Option<String>; 3],
) -> PhoneMetadata {
    PhoneMetadata {
        general_desc: Some(PhoneNumberDesc { national_number_pattern, ..general.clone() }),
        international_prefix,
        national_prefix_for_parsing,
        ..metadata.clone()
    }
}

/// Returns a pattern that matches only ASCII digits.
fn for_ascii(pattern: Option<&str>) -> Option<String> {
    Some(pattern?.replace(r"\d", "[0-9]"))
}

#[cfg(test)]
pub(super) mod tests {
    pub(crate) use rlibphonenumber::PhoneNumberType as Kind;
    use rlibphonenumber::PhoneNumberType::{FixedLineOrMobile, Mobile};

    use super::*;

    /// libphonenumber itself, with the same metadata.
    pub(crate) static COMPLETE: LazyLock<PhoneNumberUtil> = LazyLock::new(complete);

    /// Asserts that both sets of metadata give the same results for the input. Returns `true` if it is a
    /// valid number.
    fn assert_same(input: &str, region: Option<Region>) -> bool {
        let number = NUMBERING_PLANS.parse(input, region);
        assert_eq!(number, COMPLETE.parse(input, region).ok(), "{input} in {region:?}");
        let Some(number) = number else { return false };
        assert_eq!(
            NUMBERING_PLANS.e164(&number),
            COMPLETE.format(&number, PhoneNumberFormat::E164),
            "{input}"
        );
        assert_eq!(NUMBERING_PLANS.region(&number), COMPLETE.get_region_for_number(&number), "{input}");
        let theirs = COMPLETE.is_valid_number(&number).then(|| match COMPLETE.get_number_type(&number) {
            Mobile | FixedLineOrMobile => LineType::MaybeMobile,
            _ => LineType::Other,
        });
        assert_eq!(NUMBERING_PLANS.line_type(&number), theirs, "{input} in {region:?}");
        theirs.is_some()
    }

    /// Returns variants of a number in international form, and in national form with the number itself first.
    /// They are equivalent to the number or differ from it in a digit or two.
    fn variants(code: i32, national: &str) -> (Vec<String>, Vec<String>) {
        let mut nationals = vec![national.to_owned()];
        nationals.extend(["0", "1", "8", "9", "15"].map(|prefix| format!("{prefix}{national}")));
        nationals.extend(["0", "77"].map(|suffix| format!("{national}{suffix}")));
        nationals.extend(
            [1, 2, 4].iter().filter_map(|less| Some(national[..national.len().checked_sub(*less)?].into())),
        );
        for (at, digit) in national.bytes().enumerate().step_by(2) {
            let other = char::from(b'0' + (digit - b'0' + 1) % 10);
            nationals.push(format!("{}{other}{}", &national[..at], &national[at + 1..]));
        }
        let mut all: Vec<_> = nationals.iter().map(|national| format!("+{code}{national}")).collect();
        all.extend(["", "00", "011", "810", "+0", "+8"].map(|prefix| format!("{prefix}{code}{national}")));
        (all, nationals)
    }

    #[test]
    fn results_equal_those_of_libphonenumber() {
        let (mut count, mut valid) = (0_u32, 0_u32);
        let mut codes: Vec<_> = COMPLETE.get_supported_calling_codes().collect();
        codes.sort_unstable();
        for code in codes {
            let regions: Vec<_> =
                COMPLETE.get_regions_for_country_calling_code(code).expect("supported").collect();
            let ours = NUMBERING_PLANS.parser.get_regions_for_country_calling_code(code).expect("supported");
            assert_eq!(regions, ours.collect::<Vec<_>>(), "{code}");
            for region in &regions {
                let plan = COMPLETE.as_original().get_metadata_for_region_or_calling_code(code, *region);
                let plan = plan.expect("a region with a calling code has metadata");
                let lines = [
                    &plan.general_desc,
                    &plan.fixed_line,
                    &plan.mobile,
                    &plan.toll_free,
                    &plan.premium_rate,
                    &plan.shared_cost,
                    &plan.personal_number,
                    &plan.voip,
                    &plan.pager,
                    &plan.uan,
                    &plan.voicemail,
                ];
                for example in lines.into_iter().filter_map(|line| line.original.example_number.as_deref()) {
                    let (anywhere, national) = variants(code, example);
                    let inputs = anywhere.iter().map(|input| (input, None));
                    let dialed = national.iter().map(|input| (input, Some(*region)));
                    // The national number is also dialed in other regions with the same calling code.
                    let elsewhere = regions.iter().map(|region| (&national[0], Some(*region)));
                    for (input, region) in inputs.chain(dialed).chain(elsewhere) {
                        count += 1;
                        valid += u32::from(assert_same(input, region));
                    }
                }
            }
        }
        assert!(count > 20_000 && valid > count / 10 && valid < count, "{valid} of {count} are valid");
    }
}
