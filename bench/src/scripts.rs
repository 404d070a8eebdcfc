//! Creates scripts for pgbench: the statements of the storage, with expressions in place of their values.

use std::path::{Path, PathBuf};

use referral_sqlx::statements;

pub(crate) fn write(directory: &Path, name: &str, script: &str) -> PathBuf {
    let path = directory.join(format!("{name}.sql"));
    std::fs::write(&path, script).expect("written");
    path
}

/// Replaces the parameters of a statement by expressions, in their order.
fn with_values(statement: &str, values: &[&str]) -> String {
    let mut sql = statement.to_owned();
    for (index, value) in values.iter().enumerate().rev() {
        sql = sql.replace(&format!("${}", index + 1), &format!("({value})"));
    }
    sql
}

pub(crate) fn current_user() -> String {
    let session = "lpad((:n)::text, 32, '0')::uuid";
    let statement = statements::SESSION_WITH_INVITED.replace("{limit}", "100");
    format!("\\set n random(0, 199)\n{};\n", with_values(&statement, &[session]))
}

const SESSION: [&str; 17] = [
    "now()",
    "now()",
    "NULL::timestamptz",
    "now() + interval '30 days'",
    "'k1'",
    "gen_random_uuid()",
    "gen_random_uuid()",
    "now()",
    "now()",
    "now()",
    "TRUE",
    "NULL::uuid",
    "''::bytea",
    "'127.0.0.1'",
    "NULL::text",
    "FALSE",
    "0",
];

/// Returns the key of the counter of a phone, and its events.
fn counter(phone: &str) -> [String; 2] {
    let key = format!("('phone/' || {phone})");
    let events = format!("coalesce((SELECT events FROM referral.counters WHERE key = {key}), '{{}}')");
    [key, events]
}

/// Returns the statements of a request for a code, which is counted for its phone: the counter gets another
/// event and keeps the newest five. The first statement also generates the id of the challenge, which both
/// requests use.
fn send_code(phone: &str) -> String {
    let [key, former] = counter(phone);
    let window = "now() - interval '10 minutes'";
    let values = [&key, "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", window, phone];
    let facts = with_values(statements::CHALLENGE_FACTS, &values);
    let event = "(extract(epoch FROM clock_timestamp()) * 8000000)::bigint";
    let events = format!("ARRAY(SELECT unnest({former} || {event}) AS event ORDER BY event DESC LIMIT 5)");
    let values = [
        phone,
        "(:challenge)::uuid",
        phone,
        "(coalesce(nullif((:number)::text, '')::bigint, 0) + 1)",
        "4",
        "decode(repeat('00', 32), 'hex')",
        "'p1'",
        "now()",
        "now() + interval '5 minutes'",
        "NULL",
        "0",
        "0",
        "'127.0.0.1'",
        &key,
        &events,
        "date_trunc('hour', now()) + interval '1 hour'",
        &former,
    ];
    let insert = with_values(&statements::add_challenge(), &values);
    format!("SELECT f.number, gen_random_uuid() AS challenge FROM ({facts}) f \\gset\n{insert};\n")
}

fn sign_in_facts(phone: &str) -> String {
    let [key, _] = counter(phone);
    let window = "now() - interval '10 minutes'";
    let values = [&key, "NULL", "NULL", "NULL", window, phone, "NULL::text", "(:challenge)::uuid"];
    with_values(statements::SIGN_IN_FACTS_NAMED, &values)
}

/// Values of the redeemed challenge: its new state, its id, and its former numbers of attempts.
const REDEEMED: [&str; 7] = ["now()", "0", "0", "''::bytea", "(:challenge)::uuid", "0", "0"];

pub(crate) fn sign_in() -> String {
    let phone = "('+7960' || lpad((:n)::text, 7, '0'))";
    let facts = sign_in_facts(phone);
    let [key, events] = counter(phone);
    let mut values = REDEEMED.to_vec();
    values.extend([&*key, &*events, "(:user)::uuid", "now()", "TRUE", "FALSE"]);
    values.extend(["gen_random_uuid()", "(:user)::uuid"].into_iter().chain(SESSION));
    let sign_in = with_values(&statements::sign_in(), &values);
    // Each client has its own phones: if two clients write for one phone concurrently, one has to retry.
    format!(
        "\\set n 1000 + :client_id * 800 + random(0, 799)\n{}SELECT id AS \"user\" FROM ({facts}) f \\gset\n{sign_in};\n",
        send_code(phone)
    )
}

pub(crate) fn sign_up() -> String {
    let phone = "('+7' || (:n)::text)";
    let facts = sign_in_facts(phone);
    let [key, events] = counter(phone);
    let ngrams = "(SELECT array_agg((random() * 100000)::int) FROM generate_series(1, 45))";
    let user = "(:user)::uuid";
    let mut values = REDEEMED.to_vec();
    values.extend([&*key, &*events]);
    values.extend([user, phone, "upper(substr(md5((:n)::text), 1, 12))", "FALSE", "TRUE", "now()", "now()"]);
    values.extend([user, "E'\\nabcdef'", "E'\\n+79608543017\\n79608543017'", ngrams]);
    values.extend(["gen_random_uuid()", user].into_iter().chain(SESSION));
    let sign_up = with_values(&statements::sign_up(), &values);
    format!(
        "\\set n random(10000000000000, 99999999999999)\n{}SELECT gen_random_uuid() AS \"user\" FROM ({facts}) f \
         \\gset\n{sign_up};\n",
        send_code(phone)
    )
}
