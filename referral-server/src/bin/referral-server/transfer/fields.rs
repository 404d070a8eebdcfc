//! Text fields of a row, and their conversion to values.

use std::fmt::Display;

use referral_core::{
    Email, ExternalId, InvalidInput, InviteCode, Name, PhoneNumber, Region, UserId, storage::UserRecord,
};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use super::timestamp;
use crate::settings::flags;

/// Problem of one field of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Name of the field, or nothing if the whole row is concerned.
    pub(crate) field: &'static str,
    pub(crate) reason: String,
}

impl Problem {
    pub(crate) fn new(field: &'static str, reason: impl Display) -> Self {
        Self { field, reason: reason.to_string() }
    }

    /// Converts the error of a value. Its text is that of the API, in sentences.
    pub(crate) fn of(field: &'static str, error: &InvalidInput) -> Self {
        Self { field, reason: flags::phrase(&error.to_string()) }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Problem>;

/// Record of a row, with problems that do not prevent the import of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) record: UserRecord,
    pub(crate) warnings: Vec<Problem>,
}

/// Kind of rows: the names of their columns, and their conversion to records.
pub(crate) struct Source {
    /// Names of all columns.
    pub(crate) columns: &'static [&'static str],
    /// Columns of which each file must have at least one.
    pub(crate) required: &'static [&'static [&'static str]],
    pub(crate) parse: fn(&Fields, Option<Region>) -> Result<Parsed>,
}

/// Text fields of a row, in the order of the columns of its [`Source`]. An empty field is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) columns: &'static [&'static str],
    pub(crate) values: Vec<Option<String>>,
}

impl Fields {
    pub(crate) fn new(columns: &'static [&'static str]) -> Self {
        Self { columns, values: vec![None; columns.len()] }
    }

    /// Returns a field that is not empty.
    pub(crate) fn get(&self, field: &str) -> Option<&str> {
        let index = self.columns.iter().position(|column| *column == field)?;
        self.values[index].as_deref()
    }

    /// Parses a field, if it is not empty.
    pub(crate) fn parse<T>(
        &self,
        field: &'static str,
        parse: impl Fn(&str) -> std::result::Result<T, InvalidInput>,
    ) -> Result<Option<T>> {
        let parse = |text| parse(text).map_err(|error| Problem::of(field, &error));
        self.get(field).map(parse).transpose()
    }

    pub(crate) fn invite_code(&self) -> Result<InviteCode> {
        required("invite_code", self.parse("invite_code", InviteCode::parse)?)
    }

    pub(crate) fn email(&self) -> Result<Option<Email>> {
        self.parse("email", Email::parse)
    }

    pub(crate) fn name(&self, field: &'static str) -> Result<Option<Name>> {
        self.parse(field, Name::parse)
    }

    pub(crate) fn external_id(&self, field: &'static str) -> Result<Option<ExternalId>> {
        self.parse(field, ExternalId::parse)
    }

    /// Parses the phone. A number in E.164 form that no numbering plan assigns is kept with a warning, since
    /// plans change.
    pub(crate) fn phone(
        &self,
        default_region: Option<Region>,
        warnings: &mut Vec<Problem>,
    ) -> Result<Option<PhoneNumber>> {
        let Some(text) = self.get("phone") else { return Ok(None) };
        match PhoneNumber::parse(text, default_region) {
            Ok(phone) => Ok(Some(phone)),
            Err(error) => {
                let kept = PhoneNumber::from_stored(text.trim().to_owned());
                let kept = kept.map_err(|_| Problem::of("phone", &error))?;
                let reason = "no numbering plan assigns the number, so the user cannot sign in";
                warnings.push(Problem::new("phone", reason));
                Ok(Some(kept))
            }
        }
    }

    pub(crate) fn time(&self, field: &'static str) -> Result<Option<OffsetDateTime>> {
        let parse = |text| {
            timestamp::parse(text).ok_or_else(|| {
                Problem::new(field, "the time must have the form 2026-11-22T10:15:30.123456Z (RFC 3339)")
            })
        };
        self.get(field).map(parse).transpose()
    }

    pub(crate) fn date_joined(&self) -> Result<OffsetDateTime> {
        required("date_joined", self.time("date_joined")?)
    }

    pub(crate) fn flag(&self, field: &'static str) -> Result<Option<bool>> {
        let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Ok(true),
            "false" | "f" | "0" => Ok(false),
            _ => Err(Problem::new(field, "the value must be `true` or `false`")),
        };
        self.get(field).map(parse).transpose()
    }
}

pub(crate) fn required<T>(field: &'static str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Problem::new(field, "the value is missing"))
}

/// Returns the id of a user of another system: a UUID of version 7 that depends only on the time and the
/// external id, so that a repeated import finds the user. It sorts by the time, with microseconds.
pub(crate) fn derived_id(date_joined: OffsetDateTime, external_id: &ExternalId) -> UserId {
    let micros = u64::try_from(date_joined.unix_timestamp_nanos().div_euclid(1_000)).unwrap_or_default();
    let hash = Sha256::new().chain_update("referral-import\0").chain_update(external_id.as_str()).finalize();
    let mut random = [0; 10];
    random.copy_from_slice(&hash[..10]);
    let fraction = u16::try_from(micros % 1_000).unwrap_or_default().to_be_bytes();
    random[..2].copy_from_slice(&fraction);
    UserId(uuid::Builder::from_unix_timestamp_millis(micros / 1_000, &random).into_uuid())
}

/// Parses the id of a user. The nil UUID is the id of no user.
pub(crate) fn parse_id(field: &'static str, text: &str) -> Result<UserId> {
    let id = text.parse::<UserId>().map_err(|error| Problem::of(field, &error))?;
    if id.0 == Uuid::nil() { Err(Problem::new(field, "the nil UUID is no id of a user")) } else { Ok(id) }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn fields(phone: &str) -> Fields {
        Fields { columns: &["phone", "is_active"], values: vec![Some(phone.to_owned()), None] }
    }

    #[test]
    fn derived_ids_depend_on_time_and_external_id_only_and_sort_by_time() {
        let id = |text: &str| ExternalId::parse(text).expect("valid");
        let joined = datetime!(2023-05-06 07:08:09.123456 UTC);
        let derived = derived_id(joined, &id("42"));
        assert_eq!(derived, derived_id(joined, &id("42")));
        assert_eq!(derived.to_string(), "0187efe3-b023-71c8-a49e-ceece66ce5a7");
        assert_ne!(derived, derived_id(joined, &id("43")));
        let later = derived_id(joined + time::Duration::microseconds(1), &id("7"));
        assert!(derived < later && derived_id(joined - time::Duration::days(1), &id("9")) < derived);
        assert_eq!(derived.0.get_version_num(), 7);
        let before_1970 = derived_id(datetime!(1969-01-01 0:00 UTC), &id("42"));
        assert!(before_1970.to_string().starts_with("00000000-0000-7"));
    }

    #[test]
    fn phones_of_former_plans_are_kept_with_a_warning() {
        for (text, expected, has_warning) in [
            ("+79608543017", Some("+79608543017"), false),
            ("8 (960) 854-30-17", Some("+79608543017"), false),
            ("+70000000000", Some("+70000000000"), true),
            ("+7", None, false),
            ("phone", None, false),
            ("", None, false),
        ] {
            let mut warnings = Vec::new();
            let phone = fields(text).phone(Region::parse("RU").ok(), &mut warnings);
            let phone = phone.ok().flatten();
            assert_eq!(phone.as_ref().map(PhoneNumber::as_str), expected, "{text}");
            assert_eq!(!warnings.is_empty(), has_warning, "{text}");
        }
    }

    #[test]
    fn flags_have_the_forms_of_json_and_postgresql() {
        let flag = |text: &str| {
            Fields { columns: &["is_active"], values: vec![Some(text.to_owned())] }.flag("is_active")
        };
        for (text, value) in [("true", true), ("t", true), ("True", true), ("f", false), ("0", false)] {
            assert_eq!(flag(text), Ok(Some(value)));
        }
        assert!(flag("yes").is_err());
        assert_eq!(fields("").flag("is_active"), Ok(None));
    }
}
