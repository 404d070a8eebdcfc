//! Checks of the parameters of lists.

use referral_core::{FilterInput, InvalidInput, PageSize};

use crate::error::{FieldErrors, Problem};

/// Parses the number of items per page.
pub(super) fn page_size(limit: Option<u32>) -> Result<PageSize, Problem> {
    let size = limit.map(PageSize::new).transpose();
    size.map(Option::unwrap_or_default).map_err(|invalid| Problem::of_field("limit", invalid))
}

/// Checks the text of each filter. The error names all invalid filters.
pub(super) fn check_texts(filter: &FilterInput<'_>) -> Result<(), Problem> {
    type Check = fn(&str) -> Result<(), InvalidInput>;
    let texts: [(&str, Option<&str>, Check); 8] = [
        ("phone", filter.phone, FilterInput::check_text),
        ("email", filter.email, FilterInput::check_text),
        ("external_id", filter.external_id, FilterInput::check_text),
        ("first_name", filter.first_name, FilterInput::check_text),
        ("last_name", filter.last_name, FilterInput::check_text),
        ("invite_code", filter.invite_code, FilterInput::check_text),
        ("invited_by_code", filter.invited_by_code, FilterInput::check_text),
        ("search", filter.search, FilterInput::check_search),
    ];
    let wrong = |(name, text, check): (&str, Option<&str>, Check)| {
        let invalid = check(text?).err()?;
        Some((name.to_owned(), vec![invalid.into()]))
    };
    let errors: FieldErrors = texts.into_iter().filter_map(wrong).collect();
    if errors.is_empty() { Ok(()) } else { Err(Problem::of_fields(errors)) }
}
