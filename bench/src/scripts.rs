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
        sql = sql.replace(&format!("${}", index + 1), value);
    }
    sql
}

pub(crate) fn current_user() -> String {
    let session = "lpad((:n)::text, 32, '0')::uuid";
    format!("\\set n random(0, 199)\n{};\n", with_values(statements::SESSION_WITH_INVITED, &[session, "100"]))
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

/// Returns the values of the counters that a request for a code updates: only the counter of the phone, which
/// gets another event and keeps the newest five.
fn counters(phone: &str) -> [String; 7] {
    let key = format!("('phone/' || {phone})");
    let former = format!("coalesce((SELECT events FROM referral.counters WHERE key = {key}), '{{}}')");
    let event = "(extract(epoch FROM clock_timestamp()) * 8000000)::bigint";
    let events = format!("ARRAY(SELECT unnest({former} || {event}) AS event ORDER BY event DESC LIMIT 5)");
    let ends_at = "date_trunc('hour', now()) + interval '1 hour'";
    [
        format!("ARRAY[{key}]"),
        format!("ARRAY[({former})::text]"),
        format!("ARRAY[({events})::text]"),
        format!("ARRAY[{ends_at}]"),
        "NULL::text".into(),
        "NULL::timestamptz".into(),
        "NULL::bigint".into(),
    ]
}

/// Returns the statements of a request for a code, which is counted for its phone. The first statement also
/// generates the id of the challenge, which both requests use.
fn send_code(phone: &str) -> String {
    let key = format!("('phone/' || {phone})");
    let window = "now() - interval '10 minutes'";
    let values = [&key, "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", window, phone];
    let facts = with_values(statements::CHALLENGE_FACTS, &values);
    let counters = counters(phone);
    let mut values: Vec<_> = counters.iter().map(String::as_str).collect();
    values.extend([
        "(:challenge)::uuid",
        phone,
        "(coalesce(nullif((:number)::text, '')::bigint, 0) + 1)",
        "4::bigint",
        "decode(repeat('00', 32), 'hex')",
        "'p1'",
        "now()",
        "now() + interval '5 minutes'",
        "NULL::timestamptz",
        "0::bigint",
        "0::bigint",
        "'127.0.0.1'",
        "NULL::timestamptz",
    ]);
    let insert = with_values(statements::ADD_CHALLENGE, &values);
    format!("SELECT f.number, gen_random_uuid() AS challenge FROM ({facts}) f \\gset\n{insert};\n")
}

/// Returns the first values of a sign-in: no counters, no refunds, the challenge, its attempts, the time, a session.
fn sign_in_values() -> Vec<&'static str> {
    let own = [
        "ARRAY[]::text[]",
        "ARRAY[]::text[]",
        "ARRAY[]::text[]",
        "ARRAY[]::timestamptz[]",
        "ARRAY[]::text[]",
        "ARRAY[]::bigint[]",
        "(:challenge)::uuid",
        "0",
        "0",
        "now()",
        "gen_random_uuid()",
        "(:user)::uuid",
    ];
    own.into_iter().chain(SESSION).collect()
}

fn sign_in_facts(phone: &str) -> String {
    let key = format!("('phone/' || {phone})");
    let window = "now() - interval '10 minutes'";
    let values = [&key, "NULL", "NULL", "NULL", window, phone, "NULL::text", "(:challenge)::uuid"];
    with_values(statements::SIGN_IN_FACTS_NAMED, &values)
}

pub(crate) fn sign_in() -> String {
    let phone = "('+7960' || lpad((:n)::text, 7, '0'))";
    let facts = sign_in_facts(phone);
    let mut values = sign_in_values();
    values.extend(["now()", "TRUE", "FALSE", "NULL::bigint"]);
    let sign_in = with_values(statements::SIGN_IN, &values);
    // Each client has its own phones: if two clients write for one phone concurrently, one has to retry.
    format!(
        "\\set n 1000 + :client_id * 800 + random(0, 799)\n{}SELECT id AS \"user\" FROM ({facts}) f \\gset\n{sign_in};\n",
        send_code(phone)
    )
}

pub(crate) fn sign_up() -> String {
    let phone = "('+7' || (:n)::text)";
    let facts = sign_in_facts(phone);
    let mut values = sign_in_values();
    let ngrams = "(SELECT array_agg((random() * 100000)::int) FROM generate_series(1, 45))";
    values.extend([
        phone,
        "upper(substr(md5((:n)::text), 1, 12))",
        "FALSE",
        "TRUE",
        "now()",
        "now()",
        "E'\\nabcdef'",
        "E'\\n+79608543017\\n79608543017'",
        ngrams,
        "NULL",
        "NULL::text",
        "NULL::timestamptz",
        "NULL::text",
    ]);
    let sign_up = with_values(statements::SIGN_UP, &values);
    format!(
        "\\set n random(10000000000000, 99999999999999)\n{}SELECT gen_random_uuid() AS \"user\" FROM ({facts}) f \
         \\gset\n{sign_up};\n",
        send_code(phone)
    )
}
