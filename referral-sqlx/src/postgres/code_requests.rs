//! Records of requests to send and to redeem codes.

use referral_core::{CodeRequest, CodeRequestView, PhoneHash, storage::Result};

use super::{
    lease::{AnyLease, Lease},
    retry::write_error,
    rows,
    users::with_limit,
};
use crate::{error::failure, rows::code_request_columns};

/// Adds the records of arrays, one for each column.
pub(super) const RECORD: &str = "\
    INSERT INTO referral.code_requests (phone_hash, id, requested_at, kind, purpose, outcome, reason, limit_name, \
                                        limit_rule, free_at, gateway, message_id, request_id) \
    SELECT * FROM unnest($1::bytea[], $2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[], \
                         $8::text[], $9::text[], $10::timestamptz[], $11::text[], $12::text[], $13::text[]) \
    ON CONFLICT (phone_hash, id) DO NOTHING";

/// Deletes the records of the phones `$1` except the newest `{limit}` of each phone.
pub(super) const KEEP_NEWEST: &str = "\
    DELETE FROM referral.code_requests r USING unnest($1::bytea[]) AS p (hash) \
    WHERE r.phone_hash = p.hash AND r.id <= ( \
        SELECT n.id FROM referral.code_requests n WHERE n.phone_hash = p.hash \
        ORDER BY n.id DESC LIMIT 1 OFFSET {limit})";

/// Adds records, and deletes older records of their phones.
pub(super) async fn record(lease: &mut Lease, requests: &[CodeRequest]) -> Result<()> {
    // Concurrent transactions lock rows in the same order.
    let mut requests: Vec<_> = requests.iter().collect();
    requests.sort_unstable_by_key(|request| (request.phone, request.id));
    macro_rules! column {
        ($request:ident => $value:expr) => {
            requests.iter().map(|$request| $value).collect::<Vec<_>>()
        };
    }
    let insert = lease
        .query(RECORD)
        .bind(column!(request => request.phone.0.to_vec()))
        .bind(column!(request => request.id))
        .bind(column!(request => request.at))
        .bind(column!(request => request.kind.as_str()))
        .bind(column!(request => request.purpose.as_str()))
        .bind(column!(request => request.outcome.as_str()))
        .bind(column!(request => request.reason.as_deref()))
        .bind(column!(request => request.limit.as_ref().map(|limit| limit.name.as_str())))
        .bind(column!(request => request.limit.as_ref().and_then(|limit| limit.rule.as_deref())))
        .bind(column!(request => request.limit.as_ref().map(|limit| limit.free_at)))
        .bind(column!(request => request.gateway.as_deref()))
        .bind(column!(request => request.message_id.as_deref()))
        .bind(column!(request => request.request_id.as_deref()));
    lease.execute(insert).await.map_err(write_error)?;
    let mut phones = column!(request => request.phone.0.to_vec());
    phones.dedup();
    let delete = lease.query(with_limit(KEEP_NEWEST, CodeRequest::MAX_PER_PHONE)).bind(phones);
    lease.execute(delete).await.map_err(write_error)?;
    Ok(())
}

/// Selects the newest records of the phones `$1`, with the status of their messages. A phone has few records,
/// so that sorting them is cheap.
pub(super) const CODE_REQUESTS: &str = concat!(
    "SELECT ",
    code_request_columns!(),
    " FROM referral.code_requests r \
     LEFT JOIN referral.messages m ON m.gateway = r.gateway AND m.message_id = r.message_id \
     WHERE r.phone_hash = ANY ($1::bytea[]) ORDER BY r.id DESC LIMIT {limit}"
);

/// Reads the newest records of phones.
pub(super) async fn code_requests(
    lease: &mut Lease,
    phones: &[PhoneHash],
    limit: u32,
) -> Result<Vec<CodeRequestView>> {
    let found = lease.query(with_limit(CODE_REQUESTS, limit)).bind(hashes(phones));
    let found = lease.fetch_all(found).await.map_err(failure)?;
    found.iter().map(rows::code_request).collect()
}

pub(super) const DELETE_OF_PHONES: &str =
    "DELETE FROM referral.code_requests WHERE phone_hash = ANY ($1::bytea[])";

/// Deletes all records of phones.
pub(super) async fn delete(lease: &mut AnyLease<'_>, phones: &[PhoneHash]) -> Result<()> {
    let delete = lease.query(DELETE_OF_PHONES).bind(hashes(phones));
    lease.execute(delete).await.map_err(failure)?;
    Ok(())
}

fn hashes(phones: &[PhoneHash]) -> Vec<Vec<u8>> {
    phones.iter().map(|phone| phone.0.to_vec()).collect()
}
