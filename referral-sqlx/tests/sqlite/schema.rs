//! Tests of the constraints of the schema with raw SQL that bypasses the storage.

use sqlx::{Row, SqliteConnection};
use tempfile::TempDir;

/// Database file with a few rows, and a connection that bypasses the storage.
struct Harness {
    connection: SqliteConnection,
    _directory: TempDir,
}

const ANNA: &str = "INSERT INTO referral_users (id, phone, invite_code, is_active, date_joined, \
     search_public, search_private) VALUES (unhex('000000000000000000000000000000a1'), '+79608543001', \
     'ANNA22', 1, 0, '', '')";
const BORIS: &str = "INSERT INTO referral_users (id, phone, invite_code, is_active, date_joined, \
     search_public, search_private) VALUES (unhex('000000000000000000000000000000b2'), '+79608543002', \
     'BORIS2', 1, 0, '', '')";
const VERA: &str = "INSERT INTO referral_users (id, phone, invite_code, is_active, date_joined, \
     search_public, search_private) VALUES (unhex('000000000000000000000000000000c3'), '+79608543003', \
     'VERA22', 1, 0, '', '')";
/// User that is not in the database.
const GALYA: &str = "INSERT INTO referral_users (id, phone, invite_code, is_active, date_joined, \
     search_public, search_private) VALUES (unhex('000000000000000000000000000000d4'), '+79608543004', \
     'GALYA2', 1, 0, '', '')";
/// Invitation of Boris by Anna.
const INVITATION: &str = "INSERT INTO referral_invitations (invitee, inviter, code, accepted_at, via) VALUES \
     (unhex('000000000000000000000000000000b2'), unhex('000000000000000000000000000000a1'), 'ANNA22', \
     0, 'sign_up')";
const CHALLENGE: &str = "INSERT INTO referral_challenges (id, phone, code_length, code_hash, pepper_id, sent_at, \
     expires_at) VALUES (unhex('000000000000000000000000000000d4'), '+79608543001', 4, zeroblob(32), \
     'p1', 0, 1)";
const AUDIT_ENTRY: &str = "INSERT INTO referral_audit_log (id, at, action, user_id, reason, changes) VALUES \
     (zeroblob(16), 0, 'user_changed', unhex('000000000000000000000000000000a1'), 'x', '[{}]')";
const SESSION: &str = "INSERT INTO referral_sessions (id, user_id, created_at, expires_at, ends_at, key_id, \
     access_id, refresh_id, issued_at, access_expires_at, refresh_expires_at, tokens_used, superseded) VALUES \
     (zeroblob(16), unhex('000000000000000000000000000000a1'), 0, 1, 1, 'k1', zeroblob(16), \
     zeroblob(16), 0, 1, 1, 1, x'')";

impl Harness {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let url = crate::url_in(directory.path());
        drop(referral_sqlx::connect(&url).await.expect("a new file"));
        let mut connection = crate::raw(&url).await;
        for sql in [ANNA, BORIS, VERA, INVITATION, CHALLENGE, SESSION] {
            sqlx::query(sql).execute(&mut connection).await.expect(sql);
        }
        Self { connection, _directory: directory }
    }

    async fn execute(&mut self, sql: &str) -> sqlx::Result<u64> {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        Ok(sqlx::query(sql).execute(&mut self.connection).await?.rows_affected())
    }

    /// Asserts that a constraint rejects each statement. Other errors, such as a syntax error, fail the test.
    async fn assert_rejected(&mut self, statements: &[&str]) {
        for sql in statements {
            let error = self.execute(sql).await.expect_err(sql);
            let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
            assert_eq!(code.map(|code| code & 0xff), Some(19), "{sql}: {error}");
        }
    }

    async fn number(&mut self, sql: &'static str) -> i64 {
        sqlx::query(sql).fetch_one(&mut self.connection).await.expect(sql).get(0)
    }

    /// Asserts the stored and the counted number of users, and the stored number of invitees of Anna.
    async fn assert_counts(&mut self, users: i64, invitees_of_anna: i64) {
        assert_eq!(self.number("SELECT users FROM referral_user_totals").await, users);
        assert_eq!(self.number("SELECT count(*) FROM referral_users").await, users);
        let anna = "SELECT invited_count FROM referral_users WHERE invite_code = 'ANNA22'";
        assert_eq!(self.number(anna).await, invitees_of_anna);
    }
}

#[path = "../common/emails.rs"]
mod emails;
use emails::{EMAILS, NO_EMAILS};

/// Replaces one part of a statement.
fn but(statement: &str, old: &str, new: &str) -> String {
    assert!(statement.contains(old), "{statement} has no {old}");
    statement.replace(old, new)
}

#[tokio::test]
async fn unique_values_belong_to_one_user() {
    let mut harness = Harness::new().await;
    harness
        .execute(
            "UPDATE referral_users SET email = 'anna@example.com', external_id = 'a1' WHERE invite_code = 'ANNA22'",
        )
        .await
        .expect("a valid statement");
    harness
        .assert_rejected(&[
            &but(GALYA, "+79608543004", "+79608543001"),
            &but(&but(GALYA, "+79608543004", "+79608543001"), "INSERT", "INSERT OR REPLACE"),
            &but(ANNA, "INSERT", "INSERT OR REPLACE"),
            &but(CHALLENGE, "INSERT", "INSERT OR REPLACE"),
            &but(GALYA, "GALYA2", "ANNA22"),
            "UPDATE referral_users SET phone = '+79608543001' WHERE invite_code = 'BORIS2'",
            "UPDATE referral_users SET invite_code = 'ANNA22' WHERE invite_code = 'BORIS2'",
            "UPDATE referral_users SET email = 'anna@example.com' WHERE invite_code = 'BORIS2'",
            "UPDATE referral_users SET external_id = 'a1' WHERE invite_code = 'BORIS2'",
            &but(
                &but(&but(GALYA, "search_private)", "search_private, external_id)"), "'')", "'', 'a1')"),
                "INSERT",
                "INSERT OR REPLACE",
            ),
        ])
        .await;
    harness.execute(GALYA).await.expect("the rest of the statement is valid");
}

#[tokio::test]
async fn a_user_has_valid_values() {
    let mut harness = Harness::new().await;
    let long_name = format!("UPDATE referral_users SET first_name = '{}'", "x".repeat(1025));
    let long_email = format!("UPDATE referral_users SET email = '{}@example.com'", "a".repeat(250));
    harness
        .assert_rejected(&[
            "UPDATE referral_users SET phone = '79608543001' WHERE invite_code = 'ANNA22'",
            "UPDATE referral_users SET phone = '+796085' WHERE invite_code = 'ANNA22'",
            "UPDATE referral_users SET phone = '+7960854300112345' WHERE invite_code = 'ANNA22'",
            "UPDATE referral_users SET phone = '+7960854300a' WHERE invite_code = 'ANNA22'",
            "UPDATE referral_users SET phone = '+7960854' || char(0) || '001' WHERE invite_code = 'ANNA22'",
            "UPDATE referral_users SET invite_code = 'ABC23' WHERE invite_code = 'ANNA22'",
            "UPDATE referral_users SET invite_code = 'ABCDEFGHIJKLM' WHERE invite_code = 'ANNA22'",
            "UPDATE referral_users SET invite_code = 'abc234' WHERE invite_code = 'ANNA22'",
            "UPDATE referral_users SET invite_code = 'АВСЕНК' WHERE invite_code = 'ANNA22'",
            &format!("{long_email} WHERE invite_code = 'ANNA22'"),
            "UPDATE referral_users SET first_name = '' WHERE invite_code = 'ANNA22'",
            "UPDATE referral_users SET last_name = '' WHERE invite_code = 'ANNA22'",
            &format!("{long_name} WHERE invite_code = 'ANNA22'"),
            "UPDATE referral_users SET staff_role = 'owner' WHERE invite_code = 'ANNA22'",
            "UPDATE referral_users SET is_active = -1 WHERE invite_code = 'ANNA22'",
            "UPDATE referral_users SET is_active = NULL WHERE invite_code = 'ANNA22'",
            "UPDATE referral_users SET invited_count = -1 WHERE invite_code = 'ANNA22'",
            "UPDATE referral_users SET date_joined = 'yesterday' WHERE invite_code = 'ANNA22'",
            &but(GALYA, "unhex('000000000000000000000000000000d4')", "x'd4'"),
            &but(&but(GALYA, "search_private)", "search_private, invited_count)"), "'')", "'', 7)"),
        ])
        .await;
}

#[tokio::test]
async fn data_of_the_host_are_valid() {
    let mut harness = Harness::new().await;
    let with = |change: &str| format!("UPDATE referral_users SET {change} WHERE invite_code = 'ANNA22'");
    let metadata = |length: usize| format!("metadata = '{{\"a\":\"{}\"}}'", "x".repeat(length - 8));
    for valid in [
        "external_id = 'A 1|Ж'",
        &format!("external_id = '{}'", "x".repeat(255)),
        "external_id = NULL",
        r#"metadata = ' {"b": [1, {}], "a": null} '"#,
        &metadata(4096),
        "metadata = '{}'",
    ] {
        harness.execute(&with(valid)).await.expect(valid);
    }
    for invalid in [
        "external_id = ''",
        &format!("external_id = '{}'", "ж".repeat(128)),
        "external_id = 'a' || char(0)",
        "metadata = NULL",
        "metadata = ''",
        "metadata = '[]'",
        "metadata = '\"{}\"'",
        "metadata = 'null'",
        "metadata = '{'",
        "metadata = '{a:1}'",
        "metadata = '{} {}'",
        "metadata = '{}' || char(0)",
        &metadata(4097),
        "metadata = jsonb('{}')",
    ] {
        harness.assert_rejected(&[&with(invalid)]).await;
    }
}

#[tokio::test]
async fn an_email_address_is_in_normal_form() {
    let mut harness = Harness::new().await;
    let with =
        |email: &str| format!("UPDATE referral_users SET email = '{email}' WHERE invite_code = 'ANNA22'");
    let long = format!("{}@example.com", "a".repeat(65));
    for email in EMAILS {
        harness.execute(&with(&email.replace('\'', "''"))).await.expect(email);
    }
    for email in NO_EMAILS.iter().chain([&&*long, &"anna@example.com' || char(0) || 'a"]) {
        harness.assert_rejected(&[&with(email)]).await;
    }
}

#[tokio::test]
async fn an_invitation_is_immutable() {
    let mut harness = Harness::new().await;
    let by_vera = but(INVITATION, "0000a1", "0000c3");
    let ignored = but(&by_vera, "INSERT", "INSERT OR IGNORE");
    harness
        .assert_rejected(&[
            &by_vera,
            &but(&by_vera, "INSERT", "INSERT OR REPLACE"),
            &ignored,
            "UPDATE referral_invitations SET inviter = unhex('000000000000000000000000000000c3')",
            "UPDATE OR REPLACE referral_invitations SET accepted_at = 1",
        ])
        .await;
    harness.assert_counts(3, 1).await;
}

#[tokio::test]
async fn an_invitation_connects_two_users() {
    let mut harness = Harness::new().await;
    let vera = but(INVITATION, "0000b2", "0000c3");
    harness
        .assert_rejected(&[
            &but(&vera, "0000a1", "0000c3"),
            &but(&vera, "0000a1", "0000ff"),
            &but(&vera, "0000c3", "0000ff"),
            &but(&vera, "'sign_up'", "'hearsay'"),
            &but(&vera, "'ANNA22'", "'anna22'"),
            "DELETE FROM referral_users WHERE invite_code = 'ANNA22'",
            "DELETE FROM referral_users WHERE invite_code = 'BORIS2'",
        ])
        .await;
    harness.execute(&vera).await.expect("the rest of the statement is valid");
}

/// Detaches the phone of Vera.
const DETACH_VERA: &str = "UPDATE referral_users SET former_phone = phone, phone = NULL, phone_detached_at = 1 \
     WHERE invite_code = 'VERA22'";

/// Erases Vera, who has neither a session nor a code.
const ERASE_VERA: &str = "UPDATE referral_users SET phone = NULL, staff_role = NULL, is_active = 0, erased_at = 1 \
     WHERE invite_code = 'VERA22'";

#[tokio::test]
async fn an_erased_user_has_no_personal_data() {
    let mut harness = Harness::new().await;
    harness
        .execute("INSERT INTO referral_user_numbers (user_id) SELECT id FROM referral_users")
        .await
        .expect("numbers");
    harness
        .assert_rejected(&[
            // Vera has a number in the search index.
            ERASE_VERA,
            "UPDATE referral_users SET phone = NULL WHERE invite_code = 'VERA22'",
        ])
        .await;
    harness.execute("DELETE FROM referral_user_numbers").await.expect("deleted");
    for column in [
        "email = 'v@example.com'",
        "first_name = 'V'",
        "last_name = 'V'",
        "last_login = 0",
        "last_active = 0",
        "former_phone = '+79608543003', phone_detached_at = 0",
        "deletion_at = 0",
        "search_public = 'v'",
        "search_private = 'v'",
    ] {
        harness
            .assert_rejected(&[&but(ERASE_VERA, "phone = NULL", &format!("phone = NULL, {column}"))])
            .await;
    }
    harness
        .assert_rejected(&[
            &but(ERASE_VERA, "phone = NULL, ", ""),
            &but(ERASE_VERA, "staff_role = NULL", "staff_role = 'admin'"),
            &but(ERASE_VERA, "is_active = 0", "is_active = 1"),
            // Anna has a session and a code.
            &but(ERASE_VERA, "VERA22", "ANNA22"),
            &but(&but(GALYA, "search_private)", "search_private, erased_at)"), "'')", "'', 1)"),
        ])
        .await;
    harness.execute("DELETE FROM referral_sessions").await.expect("deleted");
    harness.assert_rejected(&[&but(ERASE_VERA, "VERA22", "ANNA22")]).await;
    harness.execute("DELETE FROM referral_challenges").await.expect("deleted");
    harness.execute(&but(ERASE_VERA, "VERA22", "ANNA22")).await.expect("erased");
    harness.execute(ERASE_VERA).await.expect("erased");
    assert_eq!(harness.number("SELECT users FROM referral_user_totals").await, 1);
}

#[tokio::test]
async fn a_user_has_a_phone_or_a_former_phone() {
    let mut harness = Harness::new().await;
    harness
        .execute("INSERT INTO referral_user_numbers (user_id) SELECT id FROM referral_users")
        .await
        .expect("numbers");
    // Vera is in the search index.
    harness.assert_rejected(&[DETACH_VERA]).await;
    harness.execute("DELETE FROM referral_user_numbers").await.expect("deleted");
    harness
        .assert_rejected(&[
            &but(DETACH_VERA, "phone = NULL, ", ""),
            &but(DETACH_VERA, "former_phone = phone, ", ""),
            &but(DETACH_VERA, ", phone_detached_at = 1", ""),
            &but(DETACH_VERA, "former_phone = phone", "former_phone = '1'"),
        ])
        .await;
    harness.execute(DETACH_VERA).await.expect("detached");
    assert_eq!(harness.number("SELECT users FROM referral_user_totals").await, 2);
    let vera = "unhex('000000000000000000000000000000c3')";
    let session = but(SESSION, "(zeroblob(16), unhex", "(randomblob(16), unhex");
    harness.assert_rejected(&[&but(&session, "unhex('000000000000000000000000000000a1')", vera)]).await;
    let galya = but(GALYA, "+79608543004", "+79608543003");
    harness.execute(&galya).await.expect("the phone is free");
    let link =
        but(DETACH_VERA, "former_phone = phone, phone = NULL", "phone = former_phone, former_phone = NULL");
    let link = but(&link, "phone_detached_at = 1", "phone_detached_at = NULL");
    harness.assert_rejected(&[&link]).await;
    let other = but(&link, "phone = former_phone,", "phone = '+79608543005',");
    harness.execute(&other).await.expect("linked");
    assert_eq!(harness.number("SELECT users FROM referral_user_totals").await, 4);
    harness.execute(DETACH_VERA).await.expect("detached");
    let erase =
        but(ERASE_VERA, "phone = NULL", "phone = NULL, former_phone = NULL, phone_detached_at = NULL");
    harness.execute(&erase).await.expect("erased");
    assert_eq!(harness.number("SELECT users FROM referral_user_totals").await, 3);
}

#[tokio::test]
async fn an_erased_user_keeps_the_invite_code_and_stays_erased() {
    let mut harness = Harness::new().await;
    harness.execute(ERASE_VERA).await.expect("erased");
    let vera = "unhex('000000000000000000000000000000c3')";
    let session = but(SESSION, "(zeroblob(16), unhex", "(randomblob(16), unhex");
    harness
        .assert_rejected(&[
            "UPDATE referral_users SET phone = '+79608543003', erased_at = NULL WHERE invite_code = 'VERA22'",
            "UPDATE referral_users SET erased_at = 2 WHERE invite_code = 'VERA22'",
            "UPDATE referral_users SET first_name = 'V' WHERE invite_code = 'VERA22'",
            "UPDATE referral_users SET is_active = 1 WHERE invite_code = 'VERA22'",
            "UPDATE referral_users SET invite_code = 'VERA23' WHERE invite_code = 'VERA22'",
            "DELETE FROM referral_users WHERE invite_code = 'VERA22'",
            &but(GALYA, "GALYA2", "VERA22"),
            &but(&but(GALYA, "GALYA2", "VERA22"), "INSERT", "INSERT OR REPLACE"),
            &but(INVITATION, "0000b2", "0000c3"),
            &but(&but(INVITATION, "0000a1", "0000c3"), "0000b2", "0000a1"),
            &but(&session, "unhex('000000000000000000000000000000a1')", vera),
        ])
        .await;
    harness
        .execute(&but(&VERA.replace("0000c3", "0000c4"), "VERA22", "VERA23"))
        .await
        .expect("the phone is free");
    // Anna keeps her count when Boris is erased.
    harness.execute(&but(ERASE_VERA, "VERA22", "BORIS2")).await.expect("erased");
    let anna = "SELECT invited_count FROM referral_users WHERE invite_code = 'ANNA22'";
    assert_eq!(harness.number(anna).await, 1);
    assert_eq!(harness.number("SELECT users FROM referral_user_totals").await, 2);
}

#[tokio::test]
async fn counts_match_the_rows_after_raw_writes() {
    let mut harness = Harness::new().await;
    harness.assert_counts(3, 1).await;
    harness.execute(&but(INVITATION, "0000b2", "0000c3")).await.expect("inserted");
    harness.assert_counts(3, 2).await;
    harness.execute("DELETE FROM referral_invitations").await.expect("deleted");
    harness.assert_counts(3, 0).await;
    harness.execute("DELETE FROM referral_users WHERE invite_code = 'VERA22'").await.expect("deleted");
    harness.assert_counts(2, 0).await;
    harness.execute("BEGIN").await.expect("started");
    harness.execute(GALYA).await.expect("inserted");
    harness.execute("ROLLBACK").await.expect("rolled back");
    harness.assert_counts(2, 0).await;
    harness.assert_rejected(&["INSERT INTO referral_user_totals (only_row, users) VALUES (2, 0)"]).await;
}

#[tokio::test]
async fn a_challenge_is_redeemed_once() {
    let mut harness = Harness::new().await;
    harness
        .assert_rejected(&[
            "UPDATE referral_challenges SET attempts_with_id = -1",
            "UPDATE referral_challenges SET attempts_without_id = -1",
            "UPDATE referral_challenges SET code_length = 3",
            "UPDATE referral_challenges SET code_hash = zeroblob(31)",
            "UPDATE referral_challenges SET phone = '12'",
        ])
        .await;
    assert_eq!(harness.execute("UPDATE referral_challenges SET redeemed_at = 1").await.ok(), Some(1));
    harness
        .assert_rejected(&[
            "UPDATE referral_challenges SET redeemed_at = 2",
            "UPDATE referral_challenges SET redeemed_at = NULL",
            "UPDATE referral_challenges SET attempts_with_id = 1",
        ])
        .await;
}

#[tokio::test]
async fn columns_of_a_message_are_short_and_consistent() {
    let mut harness = Harness::new().await;
    let message = "INSERT INTO referral_messages (gateway, message_id, is_ours, region, status, recorded_at) \
         VALUES ('g1', 'm1', 1, 'RU', 'sent', 0)";
    harness.execute(message).await.expect("a message");
    let to = |changes: &str| format!("UPDATE referral_messages SET {changes}");
    harness
        .assert_rejected(&[
            message,
            &to("gateway = ''"),
            &to(&format!("gateway = '{}'", "ж".repeat(65))),
            &to("message_id = ''"),
            &to(&format!("message_id = '{}'", "ж".repeat(129))),
            &to("region = '+79608543001'"),
            &to("region = 'ru'"),
            &to("status = 'lost'"),
            &to("is_ours = 2"),
            &to("is_ours = 0"),
            &to("is_ours = 0, region = NULL"),
            "UPDATE referral_challenges SET gateway = ''",
            &format!("UPDATE referral_challenges SET gateway = '{}'", "ж".repeat(65)),
        ])
        .await;
    harness
        .execute(&to("is_ours = 0, region = NULL, status = 'failed'"))
        .await
        .expect("a report without a sent message");
}

#[tokio::test]
async fn columns_of_a_code_request_are_short_and_consistent() {
    let mut harness = Harness::new().await;
    let request = "INSERT INTO referral_code_requests (phone_hash, id, requested_at, kind, purpose, outcome, reason, limit_name, \
                                limit_rule, free_at, gateway, message_id, request_id) \
         VALUES (zeroblob(16), zeroblob(16), 0, 'send', 'sign_in', 'refused', 'too_many_requests', 'codes_per_phone', \
                 '3/15m', 1, 'g1', 'm1', 'r1')";
    harness.execute(request).await.expect("a record");
    let to = |changes: &str| format!("UPDATE referral_code_requests SET {changes}");
    let long = |column: &str, length: usize| to(&format!("{column} = '{}'", "ж".repeat(length)));
    harness
        .assert_rejected(&[
            request,
            &to("phone_hash = zeroblob(15)"),
            &to("phone_hash = NULL"),
            &to("kind = 'guess'"),
            &to("outcome = 'lost'"),
            &to("purpose = ''"),
            &long("purpose", 33),
            &long("reason", 65),
            &long("limit_name", 65),
            &long("limit_rule", 129),
            &long("gateway", 65),
            &long("message_id", 129),
            &long("request_id", 129),
            &to("free_at = NULL"),
            &to("limit_name = NULL, limit_rule = NULL"),
            &to("limit_name = NULL, free_at = NULL"),
            &to("gateway = NULL"),
        ])
        .await;
    let no_limit = "limit_name = NULL, limit_rule = NULL, free_at = NULL, gateway = NULL, message_id = NULL";
    harness.execute(&to(no_limit)).await.expect("a record without a limit and a message");
}

/// Returns custom claims of this size in bytes, with two bytes in each character.
fn custom_claims(bytes: usize) -> String {
    let claims = format!(r#"{{"a:b":"{}"}}"#, "я".repeat((bytes - 10) / 2));
    claims.clone() + &" ".repeat(bytes - claims.len())
}

#[tokio::test]
async fn a_session_belongs_to_a_user() {
    let mut harness = Harness::new().await;
    let of_unknown_user =
        but(&but(SESSION, "(zeroblob(16), unhex", "(randomblob(16), unhex"), "0000a1", "0000ff");
    harness
        .assert_rejected(&[
            &of_unknown_user,
            SESSION,
            "UPDATE referral_sessions SET tokens_used = 2",
            "UPDATE referral_sessions SET previous_refresh_id = x'00'",
            "UPDATE referral_sessions SET superseded = zeroblob(25)",
            "UPDATE referral_sessions SET claims = '[1]'",
            &format!("UPDATE referral_sessions SET claims = '{}'", custom_claims(2_049)),
        ])
        .await;
    let largest = format!("UPDATE referral_sessions SET claims = '{}'", custom_claims(2_048));
    harness.execute(&largest).await.expect("claims of the largest size");
    harness
        .execute(&but(&of_unknown_user, "0000ff", "0000a1"))
        .await
        .expect("the rest of the statement is valid");
}

#[tokio::test]
async fn entries_of_the_audit_log_are_only_erased() {
    let mut harness = Harness::new().await;
    harness.execute(AUDIT_ENTRY).await.expect("accepted");
    harness
        .assert_rejected(&[
            AUDIT_ENTRY,
            &AUDIT_ENTRY.replace("INSERT INTO", "INSERT OR REPLACE INTO"),
            &AUDIT_ENTRY.replace("user_changed", "user_renamed").replace("zeroblob(16)", "randomblob(16)"),
            &AUDIT_ENTRY.replace("'[{}]'", "'{}'").replace("zeroblob(16)", "randomblob(16)"),
            &AUDIT_ENTRY.replace("'x'", "''").replace("zeroblob(16)", "randomblob(16)"),
            "DELETE FROM referral_audit_log",
            "UPDATE referral_audit_log SET reason = 'y'",
            "UPDATE referral_audit_log SET changes = '[1]'",
            "UPDATE referral_audit_log SET action = 'user_deleted', reason = NULL, changes = '[]'",
            "UPDATE referral_audit_log SET actor = zeroblob(16), reason = NULL, changes = '[]'",
        ])
        .await;
    harness.execute("UPDATE referral_audit_log SET reason = NULL, changes = '[]'").await.expect("accepted");

    // An entry about a user who was deleted meanwhile is erased, except the entry about the deletion.
    harness.execute(ERASE_VERA).await.expect("erased");
    let of_vera = AUDIT_ENTRY.replace("0a1')", "0c3')").replace("zeroblob(16)", "randomblob(16)");
    harness.execute(&of_vera).await.expect("accepted");
    harness.execute(&of_vera.replace("user_changed", "user_deleted")).await.expect("accepted");
    let kept = "SELECT count(*) FROM referral_audit_log WHERE reason IS NOT NULL AND changes <> '[]'";
    assert_eq!(harness.number(kept).await, 1);
}
