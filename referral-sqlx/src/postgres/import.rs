//! Import and export of users. A batch is one transaction, in which each table gets its rows by one
//! statement: statements for single rows take several times as long.

use std::collections::{BTreeMap, HashMap};

use referral_core::{
    Email, ExternalId, InviteCode, Metadata, Name, PhoneNumber, StaffRole, UserId,
    storage::{
        Decision, ImportBatch, ImportFacts, ImportOutcome, ImportWrites, RecordedUser, Result, SearchKeys,
        UserRecord,
    },
};
use sqlx::{Postgres, postgres::PgRow, query::Query};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    invitations::lock_late_acceptance,
    lease::Lease,
    retry::{self, WriteConflict},
    rows::{self, get},
    users::with_limit,
};
use crate::{
    error::{failure, unreadable},
    rows::record_columns,
    search_index,
};

/// Selects the records of users after the id `$1`, at most `{limit}`.
pub(super) const RECORDS_AFTER: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM referral.users u LEFT JOIN referral.invitations i ON i.invitee = u.id \
     WHERE u.id > $1 ORDER BY u.id LIMIT {limit}"
);

/// Reads the records of users after an id, in ascending order. The nil UUID is no id.
pub(super) async fn records_after(
    lease: &mut Lease,
    after: Option<UserId>,
    limit: u32,
) -> Result<Vec<UserRecord>> {
    let after = after.map_or(Uuid::nil(), |id| id.0);
    let found = lease.query(with_limit(RECORDS_AFTER, limit)).bind(after);
    let found = lease.fetch_all(found).await.map_err(failure)?;
    found.iter().map(rows::record).collect()
}

/// Selects the records of users with the ids `$1`.
pub(super) const RECORDS: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM referral.users u LEFT JOIN referral.invitations i ON i.invitee = u.id WHERE u.id = ANY($1)"
);

/// Selects the owners of the phones `$1`, the invite codes `$2`, the email addresses `$3` and the external
/// ids `$4`, each with its value.
pub(super) const OWNERS: &str = "\
    SELECT 'phone' AS kind, phone::text AS value, id FROM referral.users WHERE phone = ANY($1) \
    UNION ALL \
    SELECT 'code', invite_code::text, id FROM referral.users WHERE invite_code = ANY($2) \
    UNION ALL \
    SELECT 'email', email::text, id FROM referral.users WHERE email = ANY($3) \
    UNION ALL \
    SELECT 'external_id', external_id::text, id FROM referral.users WHERE external_id = ANY($4)";

/// Selects the inviters of the users `$1`, and of all users above them. `UNION` visits each user once.
pub(super) const INVITERS_ABOVE: &str = "\
    WITH RECURSIVE above (invitee, inviter) AS ( \
        SELECT invitee, inviter FROM referral.invitations WHERE invitee = ANY($1) \
        UNION \
        SELECT i.invitee, i.inviter FROM above a JOIN referral.invitations i ON i.invitee = a.inviter \
    ) \
    SELECT invitee, inviter FROM above";

async fn load(lease: &mut Lease, batch: &ImportBatch) -> Result<ImportFacts> {
    let mut facts = ImportFacts::default();
    let ids: Vec<_> = batch.ids().map(|id| id.0).collect();
    let records = lease.query(RECORDS).bind(ids);
    for row in lease.fetch_all(records).await.map_err(failure)? {
        let record = rows::record(&row)?;
        facts.stored.insert(record.user.id(), record);
    }
    let phones: Vec<_> = batch.present().map(|user| user.phone.as_str()).collect();
    let codes: Vec<_> = batch.codes().map(InviteCode::as_str).collect();
    let emails: Vec<_> = batch.present().filter_map(|user| Some(user.email.as_ref()?.as_str())).collect();
    let external_ids: Vec<_> =
        batch.present().filter_map(|user| Some(user.external_id.as_ref()?.as_str())).collect();
    let owners = lease.query(OWNERS).bind(phones).bind(codes).bind(emails).bind(external_ids);
    for row in lease.fetch_all(owners).await.map_err(failure)? {
        read_owner(&row, &mut facts)?;
    }
    Ok(facts)
}

fn read_owner(row: &PgRow, facts: &mut ImportFacts) -> Result<()> {
    let (value, owner) = (get::<String>(row, "value")?, UserId(get(row, "id")?));
    match get(row, "kind")? {
        "phone" => {
            facts.phones.insert(PhoneNumber::from_stored(value).map_err(unreadable)?, owner);
        }
        "code" => {
            facts.codes.insert(InviteCode::from_stored(&value).map_err(unreadable)?, owner);
        }
        "email" => {
            facts.emails.insert(Email::from_stored(&value).map_err(unreadable)?, owner);
        }
        _ => {
            facts.external_ids.insert(ExternalId::from_stored(&value).map_err(unreadable)?, owner);
        }
    }
    Ok(())
}

async fn inviters_above(lease: &mut Lease, users: &[UserId]) -> Result<HashMap<UserId, UserId>> {
    let users: Vec<_> = users.iter().map(|user| user.0).collect();
    let found = lease.query(INVITERS_ABOVE).bind(users);
    let found = lease.fetch_all(found).await.map_err(failure)?;
    found.iter().map(|row| Ok((UserId(get(row, "invitee")?), UserId(get(row, "inviter")?)))).collect()
}

/// Locks the stored users of a batch, so that their phones and names do not change before their search keys are
/// written.
pub(super) const LOCK_USERS: &str = "SELECT 1 FROM referral.users WHERE id = ANY($1) ORDER BY id FOR UPDATE";

/// Imports a batch in a transaction. Invitations of stored users need the lock for late acceptances: without
/// it, the result is `None` if there are some.
pub(super) async fn import(
    lease: &mut Lease,
    batch: &ImportBatch,
    is_locked: bool,
) -> Result<Option<Vec<ImportOutcome>>> {
    if is_locked {
        lock_late_acceptance(lease).await?;
        let stored: Vec<_> = batch.ids().map(|id| id.0).collect();
        let lock = lease.query(LOCK_USERS).bind(stored);
        lease.execute(lock).await.map_err(failure)?;
    }
    let mut facts = load(lease, batch).await?;
    let late_inviters = batch.late_inviters(&facts);
    if !late_inviters.is_empty() {
        if !is_locked {
            return Ok(None);
        }
        facts.inviters = inviters_above(lease, &late_inviters).await?;
    }
    let Decision { writes, outcome } = batch.decide(facts);
    write(lease, &writes).await?;
    Ok(Some(outcome))
}

/// Turns off the triggers that reject erased users, and that count each user and each invitation, until the
/// end of the transaction. Also raises the limit of the pending list of the search index, so that the n-grams of
/// a batch are added to the index together: in several parts, this takes most of the time of an import.
const START: &str = "SET LOCAL referral_import.is_running = 'true'; SET LOCAL gin_pending_list_limit = '1MB'";

pub(super) const ADD_USERS: &str = "\
    INSERT INTO referral.users (id, phone, invite_code, email, first_name, last_name, staff_role, is_active, \
                                date_joined, last_login, external_id, metadata, erased_at, last_active, \
                                former_phone, phone_detached_at, deletion_at) \
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], \
                         $8::boolean[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::text[], \
                         $13::timestamptz[], $14::timestamptz[], $15::text[], $16::timestamptz[], \
                         $17::timestamptz[])";

pub(super) const ADD_SEARCH_KEYS: &str = "\
    INSERT INTO referral.user_search (user_id, public, private, ngrams) \
    SELECT id, public, private, ngrams::integer[] \
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS added (id, public, private, ngrams)";

pub(super) const CHANGE_SEARCH_KEYS: &str = "\
    UPDATE referral.user_search s \
    SET public = changed.public, private = changed.private, ngrams = changed.ngrams::integer[] \
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS changed (id, public, private, ngrams) \
    WHERE s.user_id = changed.id";

pub(super) const ADD_INVITATIONS: &str = "\
    INSERT INTO referral.invitations (invitee, inviter, code, accepted_at, via) \
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::text[])";

pub(super) const COUNT_INVITATIONS: &str = "\
    UPDATE referral.users u SET invited_count = u.invited_count + counted.added \
    FROM unnest($1::uuid[], $2::bigint[]) AS counted (inviter, added) WHERE u.id = counted.inviter";

/// Counts sign-ups at the times `$1`, and invitations at the times `$2`, on their days.
pub(super) const COUNT_DAYS: &str = "\
    INSERT INTO referral.daily_counts AS c (day, slot, sign_ups, invitations) \
    SELECT (at AT TIME ZONE 'UTC')::date AS day, 0, count(*) FILTER (WHERE is_sign_up), \
           count(*) FILTER (WHERE NOT is_sign_up) \
    FROM ( \
        SELECT unnest($1::timestamptz[]) AS at, TRUE AS is_sign_up \
        UNION ALL SELECT unnest($2::timestamptz[]), FALSE \
    ) counted GROUP BY day ORDER BY day \
    ON CONFLICT (day, slot) DO UPDATE \
    SET sign_ups = c.sign_ups + excluded.sign_ups, invitations = c.invitations + excluded.invitations";

/// Counts the added users in one row. The row stays locked until the commit, so this statement is the last
/// one.
pub(super) const COUNT_USERS: &str = "UPDATE referral.user_totals SET users = users + $1 WHERE slot = 0";

async fn write(lease: &mut Lease, writes: &ImportWrites) -> Result<()> {
    let ImportWrites { added, invitations, invited } = writes;
    if added.is_empty() && invitations.is_empty() {
        return Ok(());
    }
    lease.execute_text(START).await.map_err(failure)?;
    let users = lease.query(ADD_USERS);
    let users = Users::of(added).bind(users);
    execute(lease, users).await?;
    let present: Vec<_> = added.iter().filter_map(RecordedUser::present).collect();
    let with_phone: Vec<_> = present.iter().copied().filter(|user| user.has_phone()).collect();
    let number = i64::try_from(with_phone.len()).unwrap_or(i64::MAX);
    for (statement, users) in [(ADD_SEARCH_KEYS, with_phone), (CHANGE_SEARCH_KEYS, invited.iter().collect())]
    {
        if !users.is_empty() {
            let keys: Vec<_> = users.iter().map(|user| SearchKeys::of(user)).collect();
            let ngrams: Vec<_> = keys.iter().map(array_of_ngrams).collect();
            let (public, private): (Vec<_>, Vec<_>) =
                keys.into_iter().map(|keys| (keys.public, keys.private)).unzip();
            let ids: Vec<_> = users.iter().map(|user| user.id.0).collect();
            let query = lease.query(statement).bind(ids).bind(public).bind(private).bind(ngrams);
            execute(lease, query).await?;
        }
    }
    if !invitations.is_empty() {
        let mut counts = BTreeMap::<Uuid, i64>::new();
        for invitation in invitations {
            *counts.entry(invitation.inviter.0).or_default() += 1;
        }
        let invitations = lease
            .query(ADD_INVITATIONS)
            .bind(invitations.iter().map(|invitation| invitation.invitee.0).collect::<Vec<_>>())
            .bind(invitations.iter().map(|invitation| invitation.inviter.0).collect::<Vec<_>>())
            .bind(invitations.iter().map(|invitation| invitation.code.as_str()).collect::<Vec<_>>())
            .bind(invitations.iter().map(|invitation| invitation.accepted_at).collect::<Vec<_>>())
            .bind(invitations.iter().map(|invitation| invitation.via.as_str()).collect::<Vec<_>>());
        execute(lease, invitations).await?;
        let (inviters, counts): (Vec<_>, Vec<_>) = counts.into_iter().unzip();
        let counts = lease.query(COUNT_INVITATIONS).bind(inviters).bind(counts);
        execute(lease, counts).await?;
    }
    let joined: Vec<_> = present.iter().map(|user| user.date_joined).collect();
    let accepted: Vec<_> = invitations.iter().map(|invitation| invitation.accepted_at).collect();
    let days = lease.query(COUNT_DAYS).bind(joined).bind(accepted);
    execute(lease, days).await?;
    let count = lease.query(COUNT_USERS).bind(number);
    execute(lease, count).await
}

type Statement<'q> = Query<'q, Postgres, sqlx::postgres::PgArguments>;

async fn execute(lease: &mut Lease, statement: Statement<'_>) -> Result<()> {
    let done = lease.execute(statement).await.map_err(retry::write_error);
    done.map(drop).map_err(|error| match retry::reason(&error) {
        // Unlike a generated code, the code of a record is not replaced by another one.
        Some(WriteConflict::CodeTaken) => WriteConflict::Stale.into(),
        _ => error,
    })
}

/// Formats n-grams as the text of an array. `unnest` cannot return arrays of different lengths.
fn array_of_ngrams(keys: &SearchKeys) -> String {
    let ngrams = search_index::of_user(keys);
    let numbers: Vec<_> = ngrams.iter().map(|ngram| ngram.cast_signed().to_string()).collect();
    format!("{{{}}}", numbers.join(","))
}

/// Columns of users to add.
#[derive(Default)]
struct Users<'u> {
    ids: Vec<Uuid>,
    phones: Vec<Option<&'u str>>,
    invite_codes: Vec<&'u str>,
    emails: Vec<Option<&'u str>>,
    first_names: Vec<Option<&'u str>>,
    last_names: Vec<Option<&'u str>>,
    staff_roles: Vec<Option<&'u str>>,
    is_active: Vec<bool>,
    date_joined: Vec<OffsetDateTime>,
    last_login: Vec<Option<OffsetDateTime>>,
    external_ids: Vec<Option<&'u str>>,
    metadata: Vec<String>,
    erased_at: Vec<Option<OffsetDateTime>>,
    last_active: Vec<Option<OffsetDateTime>>,
    former_phones: Vec<Option<&'u str>>,
    phone_detached_at: Vec<Option<OffsetDateTime>>,
    deletion_at: Vec<Option<OffsetDateTime>>,
}

impl<'u> Users<'u> {
    fn of(users: &'u [RecordedUser]) -> Self {
        let mut columns = Self::default();
        for user in users {
            columns.push(user);
        }
        columns
    }

    fn push(&mut self, user: &'u RecordedUser) {
        let present = user.present();
        let (date_joined, erased_at) = match user {
            RecordedUser::Present(user) => (user.date_joined, None),
            RecordedUser::Erased(user) => (user.date_joined, Some(user.erased_at)),
        };
        self.ids.push(user.id().0);
        self.phones.push(present.and_then(|user| user.current_phone()).map(PhoneNumber::as_str));
        self.former_phones.push(present.and_then(|user| user.former_phone()).map(PhoneNumber::as_str));
        self.phone_detached_at.push(present.and_then(|user| user.phone_detached_at));
        self.last_active.push(present.and_then(|user| user.last_active));
        self.invite_codes.push(user.invite_code().as_str());
        self.emails.push(present.and_then(|user| user.email.as_ref()).map(Email::as_str));
        self.first_names.push(present.and_then(|user| user.first_name.as_ref()).map(Name::as_str));
        self.last_names.push(present.and_then(|user| user.last_name.as_ref()).map(Name::as_str));
        self.staff_roles.push(present.and_then(|user| user.staff_role).map(StaffRole::as_str));
        self.is_active.push(present.is_some_and(|user| user.is_active));
        self.date_joined.push(date_joined);
        self.last_login.push(present.and_then(|user| user.last_login));
        self.external_ids.push(present.and_then(|user| user.external_id.as_ref()).map(ExternalId::as_str));
        self.metadata
            .push(present.map_or_else(|| Metadata::default().to_string(), |user| user.metadata.to_string()));
        self.erased_at.push(erased_at);
        self.deletion_at.push(present.and_then(|user| user.deletion_at));
    }

    fn bind(self, statement: Statement<'u>) -> Statement<'u> {
        statement
            .bind(self.ids)
            .bind(self.phones)
            .bind(self.invite_codes)
            .bind(self.emails)
            .bind(self.first_names)
            .bind(self.last_names)
            .bind(self.staff_roles)
            .bind(self.is_active)
            .bind(self.date_joined)
            .bind(self.last_login)
            .bind(self.external_ids)
            .bind(self.metadata)
            .bind(self.erased_at)
            .bind(self.last_active)
            .bind(self.former_phones)
            .bind(self.phone_detached_at)
            .bind(self.deletion_at)
    }
}
