//! Conversion of PostgreSQL rows. PostgreSQL has a type for times.

use sqlx::{Postgres, postgres::PgRow};

use crate::encoding::events_from_numbers;

crate::rows::read_rows!(Postgres, PgRow, OffsetDateTime, Ok, events_from_numbers);

/// Reads the invitees of a row from three array columns. Returns none if the columns are NULL.
pub(super) fn invited(row: &PgRow) -> Result<Vec<Invitee>> {
    let Some(ids) = get::<Option<Vec<Uuid>>>(row, "invited_ids")? else {
        return Ok(Vec::new());
    };
    let phones = get::<Vec<String>>(row, "invited_phones")?;
    let joined = get::<Vec<OffsetDateTime>>(row, "invited_joined")?;
    let invited = ids.into_iter().zip(phones).zip(joined);
    invited
        .map(|((id, phone), joined_at)| {
            let phone = PhoneNumber::from_stored(phone).map_err(unreadable)?;
            Ok(Invitee { id: UserId(id), phone, joined_at })
        })
        .collect()
}
