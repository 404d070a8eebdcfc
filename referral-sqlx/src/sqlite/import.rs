//! Import and export of users. A batch is one write, in which each table gets its rows by one statement from
//! a JSON array: statements for single rows take several times as long.

use std::collections::HashMap;

use referral_core::{
    Email, ExternalId, Invitation, InviteCode, Name, PhoneNumber, StaffRole, User, UserId,
    storage::{
        Decision, ImportBatch, ImportFacts, ImportOutcome, ImportWrites, RecordedUser, Result, SearchKeys,
        UserRecord,
    },
};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{
    batch::Batch,
    connection::Connection,
    rows::{self, get},
    users::words,
};
use crate::{
    encoding::time_to_micros,
    error::{failure, unreadable},
    rows::record_columns,
};

/// Selects the records of users after the id `$1`, at most `$2`.
pub(super) const RECORDS_AFTER: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM referral_users u LEFT JOIN referral_invitations i ON i.invitee = u.id \
     WHERE u.id > $1 ORDER BY u.id LIMIT $2 + 0"
);

/// Reads the records of users after an id, in ascending order. The nil UUID is no id.
pub(super) async fn records_after(
    connection: &mut Connection<'_>,
    after: Option<UserId>,
    limit: u32,
) -> Result<Vec<UserRecord>> {
    let after = after.map_or(Uuid::nil(), |id| id.0);
    let found = connection.fetch_all(sqlx::query(RECORDS_AFTER).bind(after).bind(limit)).await;
    found.map_err(failure)?.iter().map(rows::record).collect()
}

/// Selects the records of users with the ids in the JSON array `$1`. The rows of the array must be the outer
/// loop.
pub(super) const RECORDS: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM json_each($1) j CROSS JOIN referral_users u ON u.id = unhex(j.value) \
     LEFT JOIN referral_invitations i ON i.invitee = u.id"
);

/// Selects the owners of the phones `$1`, the invite codes `$2`, the email addresses `$3` and the external
/// ids `$4`, each with its value.
pub(super) const OWNERS: &str = "\
    SELECT 'phone' AS kind, u.phone AS value, u.id \
    FROM json_each($1) j CROSS JOIN referral_users u ON u.phone = j.value \
    UNION ALL \
    SELECT 'code', u.invite_code, u.id FROM json_each($2) j CROSS JOIN referral_users u ON u.invite_code = j.value \
    UNION ALL \
    SELECT 'email', u.email, u.id FROM json_each($3) j CROSS JOIN referral_users u ON u.email = j.value \
    UNION ALL \
    SELECT 'external_id', u.external_id, u.id \
    FROM json_each($4) j CROSS JOIN referral_users u ON u.external_id = j.value";

/// Selects the inviters of the users in the JSON array `$1`, and of all users above them. `UNION` visits each
/// user once.
pub(super) const INVITERS_ABOVE: &str = "\
    WITH RECURSIVE above (invitee, inviter) AS ( \
        SELECT i.invitee, i.inviter FROM json_each($1) j CROSS JOIN referral_invitations i ON i.invitee = unhex(j.value) \
        UNION \
        SELECT i.invitee, i.inviter FROM above a JOIN referral_invitations i ON i.invitee = a.inviter \
    ) \
    SELECT invitee, inviter FROM above";

async fn load(connection: &mut Connection<'_>, batch: &ImportBatch) -> Result<ImportFacts> {
    let mut facts = ImportFacts::default();
    let records = sqlx::query(RECORDS).bind(json_ids(batch.ids()));
    for row in connection.fetch_all(records).await.map_err(failure)? {
        let record = rows::record(&row)?;
        facts.stored.insert(record.user.id(), record);
    }
    let owners = sqlx::query(OWNERS)
        .bind(json_texts(batch.present().map(|user| user.phone.as_str())))
        .bind(json_texts(batch.codes().map(InviteCode::as_str)))
        .bind(json_texts(batch.present().filter_map(|user| Some(user.email.as_ref()?.as_str()))))
        .bind(json_texts(batch.present().filter_map(|user| Some(user.external_id.as_ref()?.as_str()))));
    for row in connection.fetch_all(owners).await.map_err(failure)? {
        read_owner(&row, &mut facts)?;
    }
    let late_inviters = batch.late_inviters(&facts);
    if !late_inviters.is_empty() {
        facts.inviters = inviters_above(connection, late_inviters).await?;
    }
    Ok(facts)
}

fn read_owner(row: &SqliteRow, facts: &mut ImportFacts) -> Result<()> {
    let (value, owner) = (get::<&str>(row, "value")?, UserId(get(row, "id")?));
    match get(row, "kind")? {
        "phone" => {
            facts.phones.insert(PhoneNumber::from_stored(value.to_owned()).map_err(unreadable)?, owner);
        }
        "code" => {
            facts.codes.insert(InviteCode::from_stored(value).map_err(unreadable)?, owner);
        }
        "email" => {
            facts.emails.insert(Email::from_stored(value).map_err(unreadable)?, owner);
        }
        _ => {
            facts.external_ids.insert(ExternalId::from_stored(value).map_err(unreadable)?, owner);
        }
    }
    Ok(())
}

async fn inviters_above(
    connection: &mut Connection<'_>,
    users: Vec<UserId>,
) -> Result<HashMap<UserId, UserId>> {
    let found = connection.fetch_all(sqlx::query(INVITERS_ABOVE).bind(json_ids(users.into_iter()))).await;
    let found = found.map_err(failure)?;
    found.iter().map(|row| Ok((UserId(get(row, "invitee")?), UserId(get(row, "inviter")?)))).collect()
}

/// Imports a batch, in a write.
pub(super) async fn import(
    connection: &mut Connection<'_>,
    batch: &ImportBatch,
) -> Result<Vec<ImportOutcome>> {
    let facts = load(connection, batch).await?;
    let Decision { writes, outcome } = batch.decide(facts);
    push(&writes).write(connection).await?;
    Ok(outcome)
}

const START: &str = "UPDATE referral_import SET is_running = 1";
const END: &str = "UPDATE referral_import SET is_running = 0";

const ADD_USERS: &str = "\
    INSERT INTO referral_users (id, phone, invite_code, email, first_name, last_name, staff_role, is_active, \
                       date_joined, last_login, external_id, metadata, erased_at, search_public, search_private, \
                       last_active, former_phone, phone_detached_at, deletion_at) \
    SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
           value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13, \
           value ->> 14, value ->> 15, value ->> 16, value ->> 17, value ->> 18 \
    FROM json_each($1)";

const ADD_NUMBERS: &str =
    "INSERT INTO referral_user_numbers (user_id) SELECT unhex(value ->> 0) FROM json_each($1)";

/// Adds the words of users to the search index, or replaces them.
const PUT_NGRAMS: &str = "\
    INSERT OR REPLACE INTO referral_user_ngrams (rowid, ngrams) \
    SELECT n.number, value ->> 1 \
    FROM json_each($1) CROSS JOIN referral_user_numbers n ON n.user_id = unhex(value ->> 0)";

const ADD_INVITATIONS: &str = "\
    INSERT INTO referral_invitations (invitee, inviter, code, accepted_at, via) \
    SELECT unhex(value ->> 0), unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4 FROM json_each($1)";

pub(super) const CHANGE_SEARCH_KEYS: &str = "\
    UPDATE referral_users SET search_public = j.value ->> 1, search_private = j.value ->> 2 \
    FROM json_each($1) j WHERE referral_users.id = unhex(j.value ->> 0)";

/// Returns the statements that write a decision.
fn push(writes: &ImportWrites) -> Batch {
    let mut batch = Batch::new();
    let ImportWrites { added, invitations, invited } = writes;
    if added.is_empty() && invitations.is_empty() {
        return batch;
    }
    batch.push(START);
    batch.push(ADD_USERS).bind(json_array(added.iter().map(json_user)));
    let present: Vec<_> = added.iter().filter_map(RecordedUser::present).collect();
    let with_phone = present.iter().filter(|user| user.has_phone());
    batch.push(ADD_NUMBERS).bind(json_array(with_phone.map(|user| json!([hex(user.id)]))));
    batch.push(CHANGE_SEARCH_KEYS).bind(json_array(invited.iter().map(json_keys)));
    let searched = present.into_iter().chain(invited);
    batch.push(PUT_NGRAMS).bind(json_array(searched.map(json_words)));
    batch.push(ADD_INVITATIONS).bind(json_array(invitations.iter().map(json_invitation)));
    batch.push(END);
    batch
}

fn json_user(user: &RecordedUser) -> Value {
    match user {
        RecordedUser::Present(user) => {
            let keys = SearchKeys::of(user);
            json!([
                hex(user.id),
                user.current_phone().map(PhoneNumber::as_str),
                user.invite_code.as_str(),
                user.email.as_ref().map(Email::as_str),
                user.first_name.as_ref().map(Name::as_str),
                user.last_name.as_ref().map(Name::as_str),
                user.staff_role.map(StaffRole::as_str),
                i32::from(user.is_active),
                time_to_micros(user.date_joined),
                user.last_login.map(time_to_micros),
                user.external_id.as_ref().map(ExternalId::as_str),
                user.metadata.to_string(),
                null,
                keys.public,
                keys.private,
                user.last_active.map(time_to_micros),
                user.former_phone().map(PhoneNumber::as_str),
                user.phone_detached_at.map(time_to_micros),
                user.deletion_at.map(time_to_micros),
            ])
        }
        RecordedUser::Erased(user) => json!([
            hex(user.id),
            null,
            user.invite_code.as_str(),
            null,
            null,
            null,
            null,
            0,
            time_to_micros(user.date_joined),
            null,
            null,
            "{}",
            time_to_micros(user.erased_at),
            "",
            "",
            null,
            null,
            null,
            null,
        ]),
    }
}

fn json_keys(user: &User) -> Value {
    let keys = SearchKeys::of(user);
    json!([hex(user.id), keys.public, keys.private])
}

fn json_words(user: &User) -> Value {
    json!([hex(user.id), words(&SearchKeys::of(user))])
}

fn json_invitation(invitation: &Invitation) -> Value {
    json!([
        hex(invitation.invitee),
        hex(invitation.inviter),
        invitation.code.as_str(),
        time_to_micros(invitation.accepted_at),
        invitation.via.as_str(),
    ])
}

fn json_ids(ids: impl Iterator<Item = UserId>) -> String {
    json_array(ids.map(|id| Value::String(hex(id))))
}

fn json_texts<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    json_array(texts.map(Value::from))
}

fn json_array(values: impl Iterator<Item = Value>) -> String {
    Value::Array(values.collect()).to_string()
}

fn hex(id: UserId) -> String {
    id.0.simple().to_string()
}
