//! Records of requests to send and to redeem codes.

use std::cmp::Reverse;

use referral_core::{CodeRequest, CodeRequestView, PhoneHash, storage::Result};
use serde_json::json;

use super::{batch::Batch, connection::Connection, rows};
use crate::{encoding::time_to_micros, error::failure, rows::code_request_columns};

/// Adds the records of a JSON array of arrays. One statement for all records is prepared once.
const RECORD: &str = "\
    INSERT INTO referral_code_requests (phone_hash, id, requested_at, kind, purpose, outcome, reason, limit_name, \
                                        limit_rule, free_at, gateway, message_id, request_id) \
    SELECT unhex(value ->> 0), unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
           value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12 \
    FROM json_each($1) WHERE TRUE \
    ON CONFLICT (phone_hash, id) DO NOTHING";

/// Deletes the records of the phones of a JSON array except the newest `$2` of each phone.
pub(super) const KEEP_NEWEST: &str = "\
    DELETE FROM referral_code_requests WHERE (phone_hash, id) IN ( \
        SELECT r.phone_hash, r.id FROM json_each($1) p CROSS JOIN referral_code_requests r \
        WHERE r.phone_hash = unhex(p.value) AND r.id <= ( \
            SELECT n.id FROM referral_code_requests n WHERE n.phone_hash = unhex(p.value) \
            ORDER BY n.id DESC LIMIT 1 OFFSET $2 + 0))";

/// Adds records, and deletes older records of their phones.
pub(super) async fn record(connection: &mut Connection<'_>, requests: &[CodeRequest]) -> Result<()> {
    let records: Vec<_> = requests.iter().map(to_json).collect();
    let mut phones: Vec<_> = requests.iter().map(|request| request.phone).collect();
    phones.sort_unstable();
    phones.dedup();
    let phones: Vec<_> = phones.into_iter().map(|phone| phone.to_string()).collect();
    let mut batch = Batch::new();
    batch.push(RECORD).bind(json!(records).to_string());
    batch.push(KEEP_NEWEST).bind(json!(phones).to_string()).bind(CodeRequest::MAX_PER_PHONE);
    batch.write(connection).await
}

fn to_json(request: &CodeRequest) -> serde_json::Value {
    let limit = request.limit.as_ref();
    json!([
        request.phone.to_string(),
        request.id.simple().to_string(),
        time_to_micros(request.at),
        request.kind.as_str(),
        request.purpose,
        request.outcome.as_str(),
        request.reason,
        limit.map(|limit| &limit.name),
        limit.and_then(|limit| limit.rule.as_ref()),
        limit.map(|limit| time_to_micros(limit.free_at)),
        request.gateway,
        request.message_id,
        request.request_id,
    ])
}

/// Selects the newest `$2` records of the phone `$1`, with the status of their messages.
pub(super) const CODE_REQUESTS: &str = concat!(
    "SELECT ",
    code_request_columns!(),
    " FROM referral_code_requests r \
     LEFT JOIN referral_messages m ON m.gateway = r.gateway AND m.message_id = r.message_id \
     WHERE r.phone_hash = $1 ORDER BY r.id DESC LIMIT $2 + 0"
);

/// Reads the newest records of phones.
pub(super) async fn code_requests(
    connection: &mut Connection<'_>,
    phones: &[PhoneHash],
    limit: u32,
) -> Result<Vec<CodeRequestView>> {
    let mut requests = Vec::new();
    // There is one hash for each pepper, and usually one pepper.
    for phone in phones {
        let of_phone = sqlx::query(CODE_REQUESTS).bind(phone.0.as_slice()).bind(limit);
        let found = connection.fetch_all(of_phone).await.map_err(failure)?;
        requests.extend(found.iter().map(rows::code_request).collect::<Result<Vec<_>>>()?);
    }
    requests.sort_unstable_by_key(|found| Reverse(found.request.id));
    requests.truncate(limit as usize);
    Ok(requests)
}

pub(super) const DELETE_OF_PHONE: &str = "DELETE FROM referral_code_requests WHERE phone_hash = $1";

/// Adds statements that delete all records of phones.
pub(super) fn push_deletion(batch: &mut Batch, phones: &[PhoneHash]) {
    for phone in phones {
        batch.push(DELETE_OF_PHONE).bind(phone.0.as_slice());
    }
}
