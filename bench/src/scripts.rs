//! Scripts for pgbench: the very statements of the storage, with expressions in place of their values.

use std::path::{Path, PathBuf};

use crate::statements;

pub(crate) fn write(folder: &Path, name: &str, script: &str) -> PathBuf {
    let path = folder.join(format!("{name}.sql"));
    std::fs::write(&path, script).expect("written");
    path
}

/// A statement with expressions in place of its values, in their order.
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

const SESSION: [&str; 13] = [
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
];

/// The statements of asking for a code. The first also draws what both requests share.
fn send_code(phone: &str) -> String {
    let facts = with_values(statements::CHALLENGE_FACTS, &[phone]);
    let values = [
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
    ];
    let insert = with_values(statements::NEW_CHALLENGE, &values);
    format!("SELECT f.*, gen_random_uuid() AS challenge FROM ({facts}) f \\gset\n{insert};\n")
}

pub(crate) fn sign_in() -> String {
    let phone = "('+7960' || lpad((:n)::text, 7, '0'))";
    let facts = with_values(statements::SIGN_IN_FACTS_NAMED, &[phone, "NULL::text", "(:challenge)::uuid"]);
    let mut values = vec!["(:challenge)::uuid", "0", "0", "now()", "gen_random_uuid()", "(:user)::uuid"];
    values.extend(SESSION);
    let sign_in = with_values(statements::SIGN_IN, &values);
    format!(
        "\\set n random(1000, 9000)\n{}SELECT id AS \"user\" FROM ({facts}) f \\gset\n{sign_in};\n",
        send_code(phone)
    )
}

pub(crate) fn sign_up() -> String {
    let phone = "('+7' || (:n)::text)";
    let facts = with_values(statements::SIGN_IN_FACTS_NAMED, &[phone, "NULL::text", "(:challenge)::uuid"]);
    let mut values = vec!["(:challenge)::uuid", "0", "0", "now()", "gen_random_uuid()", "(:user)::uuid"];
    values.extend(SESSION);
    let grams = "(SELECT array_agg((random() * 100000)::int) FROM generate_series(1, 45))";
    values.extend([
        phone,
        "upper(substr(md5((:n)::text), 1, 12))",
        "FALSE",
        "TRUE",
        "now()",
        "now()",
        "E'\\nabcdef'",
        "E'\\n+79608543017\\n79608543017'",
        grams,
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
