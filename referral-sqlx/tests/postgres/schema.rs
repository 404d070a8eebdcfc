//! Tests of the constraints of the schema with raw SQL that bypasses the storage.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

use crate::server::Database;

const USERS: &str = "INSERT INTO referral.users (id, phone, invite_code, is_active, date_joined) \
    VALUES ('00000000-0000-0000-0000-0000000000a1', '+79608543001', 'ANNA22', TRUE, now()), \
           ('00000000-0000-0000-0000-0000000000b2', '+79608543002', 'BORIS2', TRUE, now()), \
           ('00000000-0000-0000-0000-0000000000c3', '+79608543003', 'VERA22', TRUE, now())";
/// User that is not in the database.
const GALYA: &str = "INSERT INTO referral.users (id, phone, invite_code, is_active, date_joined) \
    VALUES ('00000000-0000-0000-0000-0000000000d4', '+79608543004', 'GALYA2', TRUE, now())";
/// Invitation of Boris by Anna.
const INVITATION: &str = "INSERT INTO referral.invitations (invitee, inviter, code, accepted_at, via) VALUES \
    ('00000000-0000-0000-0000-0000000000b2', '00000000-0000-0000-0000-0000000000a1', 'ANNA22', now(), 'sign_up')";
const CHALLENGE: &str = "INSERT INTO referral.challenges (id, phone, number, code_length, code_hash, pepper_id, \
    sent_at, expires_at, attempts_with_id, attempts_without_id) VALUES \
    ('00000000-0000-0000-0000-0000000000d4', '+79608543001', 1, 4, decode(repeat('00', 32), 'hex'), 'p1', \
     now(), now(), 0, 0)";
const SESSION: &str = "INSERT INTO referral.sessions (id, user_id, created_at, expires_at, ends_at, key_id, \
    access_id, refresh_id, issued_at, access_expires_at, refresh_expires_at, tokens_used, superseded) VALUES \
    ('00000000-0000-0000-0000-0000000000e5', '00000000-0000-0000-0000-0000000000a1', now(), now(), now(), 'k1', \
     gen_random_uuid(), gen_random_uuid(), now(), now(), now(), TRUE, '')";

struct Harness {
    connection: PgConnection,
    _database: Database,
}

impl Harness {
    async fn new() -> Option<Self> {
        let database = Database::create().await?;
        referral_sqlx::connect(&database.url).await.expect("a new database").close().await;
        let mut connection = PgConnection::connect(&database.url).await.expect("a connection");
        for sql in [USERS, INVITATION, CHALLENGE, SESSION] {
            connection.execute(sql).await.expect(sql);
        }
        Some(Self { connection, _database: database })
    }

    async fn execute(&mut self, sql: &str) -> sqlx::Result<u64> {
        Ok(self.connection.execute(AssertSqlSafe(sql.to_owned())).await?.rows_affected())
    }

    /// Asserts that a constraint rejects each statement. Other errors, such as a syntax error, fail the test.
    async fn assert_rejected(&mut self, statements: &[&str]) {
        for sql in statements {
            let error = self.execute(sql).await.expect_err(sql);
            let code =
                error.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default();
            assert!(code.starts_with("23") || code.starts_with("22"), "{sql}: {error}");
        }
    }

    async fn number(&mut self, sql: &'static str) -> i64 {
        self.connection.fetch_one(sql).await.expect(sql).get(0)
    }

    /// Asserts the stored and the counted number of users, and the stored number of invitees of Anna.
    async fn assert_counts(&mut self, users: i64, invitees_of_anna: i64) {
        assert_eq!(self.number("SELECT sum(users)::bigint FROM referral.user_totals").await, users);
        assert_eq!(self.number("SELECT count(*) FROM referral.users").await, users);
        let anna = "SELECT invited_count FROM referral.users WHERE invite_code = 'ANNA22'";
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
async fn a_user_has_valid_and_unique_values() {
    let Some(mut harness) = Harness::new().await else { return };
    let anna = |change: &str| format!("UPDATE referral.users SET {change} WHERE invite_code = 'ANNA22'");
    harness
        .execute(&anna("email = 'anna@example.com', external_id = 'a1'"))
        .await
        .expect("a valid statement");
    let long_name = anna(&format!("first_name = '{}'", "x".repeat(1025)));
    let long_email = anna(&format!("email = '{}@example.com'", "a".repeat(250)));
    harness
        .assert_rejected(&[
            &but(GALYA, "+79608543004", "+79608543001"),
            &but(GALYA, "GALYA2", "ANNA22"),
            "UPDATE referral.users SET phone = '+79608543001' WHERE invite_code = 'BORIS2'",
            "UPDATE referral.users SET email = 'anna@example.com' WHERE invite_code = 'BORIS2'",
            "UPDATE referral.users SET external_id = 'a1' WHERE invite_code = 'BORIS2'",
            &anna("phone = '79608543001'"),
            &anna("phone = '+796085'"),
            &anna("phone = '+7960854300112345'"),
            &anna("phone = '+7960854300a'"),
            &anna("phone = E'+79608543001\\n'"),
            &anna("invite_code = 'ABC23'"),
            &anna("invite_code = 'ABCDEFGHIJKLM'"),
            &anna("invite_code = 'abc234'"),
            &anna("invite_code = 'АВСЕНК'"),
            &anna("first_name = ''"),
            &anna("last_name = ''"),
            &anna("is_active = NULL"),
            &anna("invited_count = -1"),
            &long_name,
            &long_email,
            &but(&but(GALYA, "date_joined)", "date_joined, invited_count)"), "now())", "now(), 7)"),
        ])
        .await;
    harness.execute(GALYA).await.expect("the rest of the statement is valid");
}

#[tokio::test]
async fn data_of_the_host_are_valid() {
    let Some(mut harness) = Harness::new().await else { return };
    let with = |change: &str| format!("UPDATE referral.users SET {change} WHERE invite_code = 'ANNA22'");
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
        "metadata = NULL",
        "metadata = ''",
        "metadata = '[]'",
        "metadata = '\"{}\"'",
        "metadata = 'null'",
        "metadata = '{'",
        "metadata = '{a:1}'",
        "metadata = '{} {}'",
        r#"metadata = '{"a":"\u0000"}'"#,
        &metadata(4097),
    ] {
        harness.assert_rejected(&[&with(invalid)]).await;
    }
}

#[tokio::test]
async fn an_email_address_is_in_normal_form() {
    let Some(mut harness) = Harness::new().await else { return };
    let with =
        |email: &str| format!("UPDATE referral.users SET email = '{email}' WHERE invite_code = 'ANNA22'");
    let long = format!("{}@example.com", "a".repeat(65));
    for email in EMAILS {
        harness.execute(&with(&email.replace('\'', "''"))).await.expect(email);
    }
    for email in NO_EMAILS.iter().chain([&&*long, &"anna@example.com\n"]) {
        harness.assert_rejected(&[&with(email)]).await;
    }
}

#[tokio::test]
async fn an_invitation_connects_two_users_and_is_immutable() {
    let Some(mut harness) = Harness::new().await else { return };
    let vera = but(INVITATION, "0000b2", "0000c3");
    harness
        .assert_rejected(&[
            &but(INVITATION, "0000a1", "0000c3"),
            "UPDATE referral.invitations SET inviter = '00000000-0000-0000-0000-0000000000c3'",
            "UPDATE referral.invitations SET accepted_at = now()",
            &but(&vera, "0000a1", "0000c3"),
            &but(&vera, "0000a1", "0000ff"),
            &but(&vera, "0000c3", "0000ff"),
            &but(&vera, "'sign_up'", "'hearsay'"),
            &but(&vera, "'ANNA22'", "'anna22'"),
            "DELETE FROM referral.users WHERE invite_code = 'ANNA22'",
            "DELETE FROM referral.users WHERE invite_code = 'BORIS2'",
        ])
        .await;
    harness.assert_counts(3, 1).await;
    harness.execute(&vera).await.expect("the rest of the statement is valid");
}

/// Detaches the phone of Vera.
const DETACH_VERA: &str = "UPDATE referral.users SET former_phone = phone, phone = NULL, phone_detached_at = now() \
    WHERE invite_code = 'VERA22'";

/// Erases Vera, who has no session.
const ERASE_VERA: &str = "UPDATE referral.users SET phone = NULL, staff_role = NULL, is_active = FALSE, \
    erased_at = now() WHERE invite_code = 'VERA22'";

#[tokio::test]
async fn an_erased_user_has_no_personal_data() {
    let Some(mut harness) = Harness::new().await else { return };
    let search_keys = "INSERT INTO referral.user_search (user_id, public, private, ngrams) \
        SELECT id, '', '', '{}' FROM referral.users";
    harness.execute(search_keys).await.expect("search keys");
    harness
        .assert_rejected(&[
            // Vera has search keys.
            ERASE_VERA,
            "UPDATE referral.users SET phone = NULL WHERE invite_code = 'VERA22'",
        ])
        .await;
    harness.execute("DELETE FROM referral.user_search").await.expect("deleted");
    for column in [
        "email = 'v@example.com'",
        "first_name = 'V'",
        "last_name = 'V'",
        "last_login = now()",
        "last_active = now()",
        "former_phone = '+79608543003', phone_detached_at = now()",
        "deletion_at = now()",
    ] {
        harness
            .assert_rejected(&[&but(ERASE_VERA, "phone = NULL", &format!("phone = NULL, {column}"))])
            .await;
    }
    harness
        .assert_rejected(&[
            &but(ERASE_VERA, "phone = NULL, ", ""),
            &but(ERASE_VERA, "staff_role = NULL", "staff_role = 'admin'"),
            &but(ERASE_VERA, "is_active = FALSE", "is_active = TRUE"),
            // Anna has a session.
            &but(ERASE_VERA, "VERA22", "ANNA22"),
            &but(&but(GALYA, "date_joined)", "date_joined, erased_at)"), "now())", "now(), now())"),
        ])
        .await;
    harness.execute("DELETE FROM referral.sessions").await.expect("deleted");
    harness.execute(&but(ERASE_VERA, "VERA22", "ANNA22")).await.expect("erased");
    harness.execute(ERASE_VERA).await.expect("erased");
    assert_eq!(harness.number("SELECT sum(users)::bigint FROM referral.user_totals").await, 1);
}

#[tokio::test]
async fn a_user_has_a_phone_or_a_former_phone() {
    let Some(mut harness) = Harness::new().await else { return };
    let total = "SELECT sum(users)::bigint FROM referral.user_totals";
    let search_keys = "INSERT INTO referral.user_search (user_id, public, private, ngrams) \
        SELECT id, '', '', '{}' FROM referral.users";
    harness.execute(search_keys).await.expect("search keys");
    // Vera has search keys.
    harness.assert_rejected(&[DETACH_VERA]).await;
    harness.execute("DELETE FROM referral.user_search").await.expect("deleted");
    harness
        .assert_rejected(&[
            &but(DETACH_VERA, "phone = NULL, ", ""),
            &but(DETACH_VERA, "former_phone = phone, ", ""),
            &but(DETACH_VERA, ", phone_detached_at = now()", ""),
            &but(DETACH_VERA, "former_phone = phone", "former_phone = '1'"),
        ])
        .await;
    harness.execute(DETACH_VERA).await.expect("detached");
    assert_eq!(harness.number(total).await, 2);
    harness.assert_rejected(&[&but(&but(SESSION, "0000e5", "0000e6"), "0000a1", "0000c3")]).await;
    harness.execute(&but(GALYA, "+79608543004", "+79608543003")).await.expect("the phone is free");
    let link =
        but(DETACH_VERA, "former_phone = phone, phone = NULL", "phone = former_phone, former_phone = NULL");
    let link = but(&link, "phone_detached_at = now()", "phone_detached_at = NULL");
    harness.assert_rejected(&[&link]).await;
    let other = but(&link, "phone = former_phone,", "phone = '+79608543005',");
    harness.execute(&other).await.expect("linked");
    assert_eq!(harness.number(total).await, 4);
    harness.execute(DETACH_VERA).await.expect("detached");
    let erase =
        but(ERASE_VERA, "phone = NULL", "phone = NULL, former_phone = NULL, phone_detached_at = NULL");
    harness.execute(&erase).await.expect("erased");
    assert_eq!(harness.number(total).await, 3);
}

#[tokio::test]
async fn an_erased_user_keeps_the_invite_code_and_stays_erased() {
    let Some(mut harness) = Harness::new().await else { return };
    harness.execute(ERASE_VERA).await.expect("erased");
    harness
        .assert_rejected(&[
            "UPDATE referral.users SET phone = '+79608543003', erased_at = NULL WHERE invite_code = 'VERA22'",
            "UPDATE referral.users SET erased_at = now() + interval '1 s' WHERE invite_code = 'VERA22'",
            "UPDATE referral.users SET first_name = 'V' WHERE invite_code = 'VERA22'",
            "UPDATE referral.users SET is_active = TRUE WHERE invite_code = 'VERA22'",
            "UPDATE referral.users SET invite_code = 'VERA23' WHERE invite_code = 'VERA22'",
            "DELETE FROM referral.users WHERE invite_code = 'VERA22'",
            &but(GALYA, "GALYA2", "VERA22"),
            &but(INVITATION, "0000b2", "0000c3"),
            &but(&but(INVITATION, "0000a1", "0000c3"), "0000b2", "0000a1"),
            &but(&but(SESSION, "0000e5", "0000e6"), "0000a1", "0000c3"),
        ])
        .await;
    harness.execute(&but(GALYA, "+79608543004", "+79608543003")).await.expect("the phone is free");
    // Anna keeps her count when Boris is erased.
    harness.execute(&but(ERASE_VERA, "VERA22", "BORIS2")).await.expect("erased");
    let anna = "SELECT invited_count FROM referral.users WHERE invite_code = 'ANNA22'";
    assert_eq!(harness.number(anna).await, 1);
    assert_eq!(harness.number("SELECT sum(users)::bigint FROM referral.user_totals").await, 2);
}

#[tokio::test]
async fn counts_match_the_rows_after_raw_writes() {
    let Some(mut harness) = Harness::new().await else { return };
    harness.assert_counts(3, 1).await;
    harness.execute(&but(INVITATION, "0000b2", "0000c3")).await.expect("inserted");
    harness.assert_counts(3, 2).await;
    harness.execute("DELETE FROM referral.invitations").await.expect("deleted");
    harness.assert_counts(3, 0).await;
    harness.execute("DELETE FROM referral.users WHERE invite_code = 'VERA22'").await.expect("deleted");
    harness.assert_counts(2, 0).await;
    harness.execute("BEGIN").await.expect("started");
    harness.execute(GALYA).await.expect("inserted");
    harness.execute("ROLLBACK").await.expect("rolled back");
    harness.assert_counts(2, 0).await;
}

#[tokio::test]
async fn a_challenge_is_redeemed_once() {
    let Some(mut harness) = Harness::new().await else { return };
    harness
        .assert_rejected(&[
            &but(CHALLENGE, "0000d4", "0000d5"),
            "UPDATE referral.challenges SET attempts_with_id = -1",
            "UPDATE referral.challenges SET attempts_without_id = -1",
            "UPDATE referral.challenges SET code_length = 3",
            "UPDATE referral.challenges SET code_hash = ''",
            "UPDATE referral.challenges SET phone = '12'",
            "UPDATE referral.challenges SET number = 0",
        ])
        .await;
    harness.execute("UPDATE referral.challenges SET redeemed_at = now()").await.expect("redeemed");
    harness
        .assert_rejected(&[
            "UPDATE referral.challenges SET redeemed_at = now()",
            "UPDATE referral.challenges SET redeemed_at = NULL",
            "UPDATE referral.challenges SET attempts_with_id = 1",
        ])
        .await;
}

#[tokio::test]
async fn columns_of_a_message_are_short_and_consistent() {
    let Some(mut harness) = Harness::new().await else { return };
    let message = "INSERT INTO referral.messages (gateway, message_id, is_ours, region, status, recorded_at) \
         VALUES ('g1', 'm1', TRUE, 'RU', 'sent', now())";
    harness.execute(message).await.expect("a message");
    let to = |changes: &str| format!("UPDATE referral.messages SET {changes}");
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
            &to("is_ours = FALSE"),
            &to("is_ours = FALSE, region = NULL"),
            "UPDATE referral.challenges SET gateway = ''",
            &format!("UPDATE referral.challenges SET gateway = '{}'", "ж".repeat(65)),
        ])
        .await;
    harness
        .execute(&to("is_ours = FALSE, region = NULL, status = 'failed'"))
        .await
        .expect("a report without a sent message");
}

#[tokio::test]
async fn columns_of_a_code_request_are_short_and_consistent() {
    let Some(mut harness) = Harness::new().await else { return };
    let request = "INSERT INTO referral.code_requests (phone_hash, id, requested_at, kind, purpose, outcome, reason, limit_name, \
                                limit_rule, free_at, gateway, message_id, request_id) \
         VALUES (decode(repeat('00', 16), 'hex'), '00000000-0000-0000-0000-000000000001', now(), 'send', 'sign_in', 'refused', \
                 'too_many_requests', 'codes_per_phone', '3/15m', now(), 'g1', 'm1', 'r1')";
    harness.execute(request).await.expect("a record");
    let to = |changes: &str| format!("UPDATE referral.code_requests SET {changes}");
    let long = |column: &str, length: usize| to(&format!("{column} = '{}'", "ж".repeat(length)));
    harness
        .assert_rejected(&[
            request,
            &to("phone_hash = decode(repeat('00', 15), 'hex')"),
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
    let Some(mut harness) = Harness::new().await else { return };
    let other = but(SESSION, "0000e5", "0000e6");
    harness
        .assert_rejected(&[
            SESSION,
            &but(&other, "0000a1", "0000ff"),
            "UPDATE referral.sessions SET tokens_used = NULL",
            "UPDATE referral.sessions SET superseded = '\\x00'",
            "UPDATE referral.sessions SET claims = '[1]'",
            &format!("UPDATE referral.sessions SET claims = '{}'", custom_claims(2_049)),
        ])
        .await;
    let largest = format!("UPDATE referral.sessions SET claims = '{}'", custom_claims(2_048));
    harness.execute(&largest).await.expect("claims of the largest size");
    harness.execute(&other).await.expect("the rest of the statement is valid");
}

#[tokio::test]
async fn entries_of_the_audit_log_are_only_erased() {
    let Some(mut harness) = Harness::new().await else { return };
    let entry = "INSERT INTO referral.audit_log (id, at, action, user_id, reason, changes) VALUES \
                 (gen_random_uuid(), now(), 'user_changed', '00000000-0000-0000-0000-0000000000a1', 'x', '[{}]')";
    harness.execute(entry).await.expect("accepted");
    harness
        .assert_rejected(&[
            &entry.replace("user_changed", "user_renamed"),
            &entry.replace("'[{}]'", "'{}'"),
            &entry.replace("'x'", "''"),
            "DELETE FROM referral.audit_log",
            "UPDATE referral.audit_log SET reason = 'y'",
            "UPDATE referral.audit_log SET changes = '[1]'",
            "UPDATE referral.audit_log SET action = 'user_deleted', reason = NULL, changes = '[]'",
            "UPDATE referral.audit_log SET actor = id, reason = NULL, changes = '[]'",
        ])
        .await;
    harness.execute("UPDATE referral.audit_log SET reason = NULL, changes = '[]'").await.expect("accepted");

    // An entry about a user who was deleted meanwhile is erased, except the entry about the deletion.
    harness.execute(ERASE_VERA).await.expect("erased");
    let of_vera = entry.replace("0000000000a1", "0000000000c3");
    harness.execute(&of_vera).await.expect("accepted");
    harness.execute(&of_vera.replace("user_changed", "user_deleted")).await.expect("accepted");
    let kept = "SELECT count(*) FROM referral.audit_log WHERE reason IS NOT NULL AND changes <> '[]'";
    assert_eq!(harness.number(kept).await, 1);
}
