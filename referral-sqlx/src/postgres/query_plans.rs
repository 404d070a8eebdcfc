//! Tests of the query plans of frequent statements with many users. No statement may scan a whole table.

use referral_core::{
    Email, ExternalId, InviteCode, Name, PageSize, PhoneNumber, UserId,
    storage::{PageStart, SearchKeys, SearchTerm, UserFilter, UserQuery},
};
use sqlx::{AssertSqlSafe, Connection as _, Execute as _, Executor as _, PgConnection, Row as _};
use uuid::Uuid;

use super::{
    PostgresStorage, add_user, audit, challenges, change_user, code_requests, counters, daily_counts,
    deletion, import, invitations, list, maintenance, messages,
    open::{PLANNER_SETTINGS, PostgresOptions},
    phone_change, profiles, sessions, sign_in, users,
};
use crate::search_index;

#[path = "../../tests/common/server.rs"]
mod server;

/// Number of users that makes a sequential scan the most expensive plan.
const USERS: i32 = 20_000;

const CALLER: UserId = UserId(Uuid::nil());

struct Harness {
    connection: PgConnection,
    _database: server::Database,
}

impl Harness {
    async fn new() -> Option<Self> {
        let database = server::Database::create().await?;
        PostgresStorage::connect(&database.url, &PostgresOptions::default()).await.expect("a new database");
        let mut connection = PgConnection::connect(&database.url).await.expect("a connection");
        for sql in [
            "SET session_replication_role = replica",
            "INSERT INTO referral.users (id, phone, invite_code, first_name, last_name, email, external_id, \
                                         is_active, date_joined) \
             SELECT lpad(n::text, 32, '0')::uuid, '+7960' || lpad(n::text, 7, '0'), 'A' || lpad(n::text, 6, '0'), \
                    'Name' || n / 20, 'Name' || n / 20, n || '@example.com', 'id' || n, TRUE, now() \
             FROM generate_series(1, 20000) n",
            "INSERT INTO referral.invitations (invitee, inviter, code, accepted_at, via) \
             SELECT lpad(n::text, 32, '0')::uuid, lpad((n / 2)::text, 32, '0')::uuid, 'A' || lpad((n / 2)::text, 6, '0'), \
                    now(), 'sign_up' FROM generate_series(2, 20000) n",
            "INSERT INTO referral.sessions (id, user_id, created_at, expires_at, ends_at, key_id, access_id, \
                                            refresh_id, issued_at, access_expires_at, refresh_expires_at, \
                                            tokens_used, superseded) \
             SELECT id, id, now(), now(), now() + random() * interval '1 day', 'k1', id, id, now(), now(), now(), \
                    TRUE, '' FROM referral.users",
            "INSERT INTO referral.challenges (id, phone, number, code_length, code_hash, pepper_id, sent_at, \
                                              expires_at, attempts_with_id, attempts_without_id) \
             SELECT id, phone, 1, 4, decode(repeat('00', 32), 'hex'), 'p1', now(), \
                    now() + random() * interval '1 day', 0, 0 FROM referral.users",
            "INSERT INTO referral.counters (key, events, ends_at) \
             SELECT 'phone/' || phone, '{56000000000000000}', now() + random() * interval '1 day' FROM referral.users",
            "INSERT INTO referral.messages (gateway, message_id, is_ours, region, status, recorded_at) \
             SELECT 'g1', 'm' || n, TRUE, 'RU', 'sent', now() + random() * interval '1 day' \
             FROM generate_series(1, 20000) n",
            "INSERT INTO referral.code_requests (phone_hash, id, requested_at, kind, purpose, outcome) \
             SELECT decode(lpad(to_hex(n / 10), 32, '0'), 'hex'), lpad(n::text, 32, '0')::uuid, \
                    now() + random() * interval '1 day', 'send', 'sign_in', 'sent' FROM generate_series(1, 20000) n",
            "INSERT INTO referral.global_counters (counter, period_start, slot, count) \
             SELECT 'failed_attempts', date_trunc('minute', now()) - n * interval '1 minute', slot, 1 \
             FROM generate_series(1, 10000) n, generate_series(0, 1) slot",
        ] {
            connection.execute(sql).await.expect(sql);
        }
        let harness = Self { connection, _database: database };
        Some(harness.with_search_keys().await)
    }

    async fn with_search_keys(mut self) -> Self {
        let users = "SELECT u.*, NULL::uuid AS inviter, NULL AS inviter_code FROM referral.users u";
        let rows = self.connection.fetch_all(users).await.expect("users");
        assert_eq!(rows.len(), usize::try_from(USERS).expect("a size"));
        for rows in rows.chunks(1_000) {
            let mut insert = sqlx::QueryBuilder::new(
                "INSERT INTO referral.user_search (user_id, public, private, ngrams) ",
            );
            insert.push_values(rows, |mut values, row| {
                let user = super::rows::user(row).expect("a user");
                let keys = SearchKeys::of(&user);
                let ngrams = users::to_stored(&search_index::of_user(&keys));
                values.push_bind(user.id.0).push_bind(keys.public).push_bind(keys.private).push_bind(ngrams);
            });
            insert.build().execute(&mut self.connection).await.expect("inserted");
        }
        self.connection.execute("VACUUM ANALYZE").await.expect("analyzed");
        for (name, value) in PLANNER_SETTINGS {
            let set = AssertSqlSafe(format!("SET {name} = '{value}'"));
            self.connection.execute(set).await.expect(name);
        }
        self
    }

    /// Returns the generic plan of a statement or of a step.
    async fn plan_of(&mut self, statement: &str) -> String {
        let statement = &statement.replace("$after", "TRUE").replace("{limit}", "100");
        let values = (1..100).take_while(|number| statement.contains(&format!("${number}"))).count();
        let (types, nulls) = (vec!["unknown"; values].join(", "), vec!["NULL"; values].join(", "));
        let of = |list: &str| if values == 0 { String::new() } else { format!("({list})") };
        let prepare = format!(
            "SET plan_cache_mode = force_generic_plan; PREPARE planned {} AS {statement}",
            of(&types)
        );
        self.connection.execute(AssertSqlSafe(prepare)).await.expect(statement);
        let explain = format!("EXPLAIN EXECUTE planned {}", of(&nulls));
        let plan = self.connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(explain))).await.expect(statement);
        self.connection.execute("DEALLOCATE planned").await.expect("deallocated");
        lines(&plan)
    }

    /// Returns the plan of a list for its values.
    async fn plan_of_list(&mut self, query: &UserQuery) -> String {
        let mut statement = list::page_with_count(query);
        let mut built = statement.build();
        let values = built.take_arguments().expect("values that can be sent").expect("values");
        let explain = format!("EXPLAIN {}", built.sql().as_str());
        let seqscan = if query.is_expensive() { "on" } else { "off" };
        let set = AssertSqlSafe(format!("SET enable_seqscan = {seqscan}"));
        self.connection.execute(set).await.expect("set");
        let plan = sqlx::query_with(AssertSqlSafe(explain), values).persistent(false);
        lines(&plan.fetch_all(&mut self.connection).await.expect("a plan"))
    }
}

fn lines(plan: &[sqlx::postgres::PgRow]) -> String {
    plan.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>().join("\n")
}

fn assert_no_scan(plan: &str, statement: &str) {
    for table in [
        "users",
        "user_search",
        "invitations",
        "sessions",
        "challenges",
        "counters",
        "global_counters",
        "messages",
    ] {
        assert!(!plan.contains(&format!("Seq Scan on {table}")), "{statement} scans {table}:\n{plan}");
    }
}

#[tokio::test]
async fn frequent_statements_do_not_scan_tables() {
    let Some(mut harness) = Harness::new().await else { return };
    for statement in [
        users::USER,
        users::INVITEES,
        users::FORMER_USERS,
        users::DETACH_PHONE,
        sessions::RECORD_ACTIVITY,
        add_user::ADD_USER_FACTS,
        change_user::CHANGE_USER_FACTS,
        change_user::CHANGE_USER,
        users::HAS_OTHER_ADMIN,
        invitations::REMOVE_INVITATION,
        audit::USER_WITH_PHONE,
        audit::DELETE_COUNTERS,
        add_user::SET_STAFF,
        sessions::SESSION,
        sessions::SESSION_WITH_INVITED,
        sessions::CHANGE_SESSION,
        sessions::MARK_TOKENS_USED,
        sessions::SESSIONS,
        sessions::END_SESSION,
        sessions::END_OTHER_SESSIONS,
        challenges::CHALLENGE_FACTS,
        challenges::KEEP_NEWEST,
        challenges::DELETE_CHALLENGE,
        messages::MESSAGE,
        messages::RECORD_GATEWAY,
        messages::PUT_MESSAGE,
        code_requests::CODE_REQUESTS,
        code_requests::KEEP_NEWEST,
        code_requests::DELETE_OF_PHONES,
        sign_in::SIGN_IN_FACTS,
        sign_in::SIGN_IN_FACTS_NAMED,
        sign_in::LOCK_CHALLENGE,
        sign_in::LOCK_USER_WITH_PHONE,
        sign_in::CHANGE_CHALLENGE,
        sign_in::RECORD_LOGIN,
        sign_in::DELETE_OLD_SESSIONS,
        deletion::DELETION_FACTS,
        deletion::LOCK_CHALLENGES,
        deletion::DELETE_SESSIONS,
        deletion::DELETE_CHALLENGES,
        deletion::ERASE,
        deletion::SCHEDULE,
        deletion::ERASE_AUDIT_ENTRIES,
        phone_change::LOCK_CHALLENGE,
        phone_change::PHONE_CHANGE_FACTS,
        phone_change::CHANGE_PHONE,
        import::RECORDS_AFTER,
        import::LOCK_USERS,
        import::RECORDS,
        import::OWNERS,
        import::INVITERS_ABOVE,
        import::CHANGE_SEARCH_KEYS,
        import::COUNT_INVITATIONS,
        import::COUNT_USERS,
        profiles::PROFILE_FACTS,
        profiles::CHANGE_PROFILE,
        invitations::CHANGE_SEARCH_KEYS,
        invitations::ANCESTRY_HAS,
        invitations::INVITATION,
        counters::KEEP_COUNTER,
        counters::REFUND,
        counters::LOCK_COUNTERS,
        counters::ATTACK_FACTS,
        counters::FAILED_ATTEMPTS_BETWEEN,
        counters::MESSAGES_SINCE,
        daily_counts::DAILY_COUNTS,
    ] {
        let plan = harness.plan_of(statement).await;
        assert!(!plan.contains("Seq Scan"), "{statement}:\n{plan}");
    }
    for (statement, index) in [
        (deletion::USERS_TO_DELETE, "users_to_delete"),
        (maintenance::DELETE_CHALLENGES, "challenges_by_end"),
        (maintenance::DELETE_SESSIONS, "sessions_by_end"),
        (maintenance::DELETE_COUNTERS, "counters_by_end"),
        (maintenance::DELETE_GLOBAL_COUNTERS, "global_counters_by_time"),
        (maintenance::DELETE_MESSAGES, "messages_by_time"),
        (maintenance::DELETE_CODE_REQUESTS, "code_requests_by_time"),
    ] {
        let plan = harness.plan_of(statement).await;
        assert!(plan.contains(index), "{statement}:\n{plan}");
    }
}

/// A batch of an import looks up its rows, and reads no table completely.
#[tokio::test]
async fn rows_of_an_import_are_looked_up_one_by_one() {
    let Some(mut harness) = Harness::new().await else { return };
    for statement in [
        import::RECORDS,
        import::OWNERS,
        import::INVITERS_ABOVE,
        import::CHANGE_SEARCH_KEYS,
        import::COUNT_INVITATIONS,
    ] {
        let plan = harness.plan_of(statement).await;
        assert!(!plan.contains("Merge Join") && !plan.contains("Hash Join"), "{statement}:\n{plan}");
    }
    let plan = harness.plan_of(import::RECORDS_AFTER).await;
    assert!(plan.contains("users_pkey") && !plan.contains("Sort"), "{plan}");
}

/// A join that reads all users in order would be slow if the newest invitee is an old user.
#[tokio::test]
async fn invitees_are_looked_up_one_by_one() {
    let Some(mut harness) = Harness::new().await else { return };
    for statement in [users::USER, users::INVITEES, sessions::SESSION_WITH_INVITED] {
        let plan = harness.plan_of(statement).await;
        assert!(!plan.contains("Merge") && !plan.contains("Hash"), "{plan}");
    }
}

fn positions() -> [PageStart; 3] {
    let id = UserId(Uuid::from_u128(0x5000));
    [PageStart::START, PageStart::OlderThan(id), PageStart::NewerThan(id)]
}

#[tokio::test]
async fn lists_use_the_index_of_their_filter() {
    let Some(mut harness) = Harness::new().await else { return };
    let any = UserFilter::default();
    let name = Name::parse("Name7").ok();
    let code = InviteCode::parse("A000007").ok();
    let phone = PhoneNumber::from_stored("+79600000007".into()).ok();
    let email = Email::parse("7@example.com").ok();
    let external_id = ExternalId::parse("id7").ok();
    let search = SearchTerm::split("600012345", None, true);
    let unmatched = SearchTerm::split("zzzzz", None, true);
    for (filter, index) in [
        (any.clone(), "users_pkey"),
        (UserFilter { first_name: name.clone(), ..any.clone() }, "users_first_name"),
        (UserFilter { last_name: name, ..any.clone() }, "users_last_name"),
        (UserFilter { phone, ..any.clone() }, "users_phone_key"),
        (UserFilter { email, ..any.clone() }, "users_email_key"),
        (UserFilter { external_id, ..any.clone() }, "users_external_id_key"),
        (UserFilter { invite_code: code.clone(), ..any.clone() }, "users_invite_code_key"),
        (UserFilter { invited_by_code: code, ..any.clone() }, "invitations_of_inviter"),
        (UserFilter { search, ..any.clone() }, "user_search_ngrams"),
        (UserFilter { search: unmatched, ..any.clone() }, "user_search_ngrams"),
    ] {
        for start in positions() {
            let query =
                UserQuery { start, limit: PageSize::default(), filter: filter.clone(), caller: CALLER };
            let plan = harness.plan_of_list(&query).await;
            assert!(plan.contains(index), "{index}:\n{plan}");
            assert_no_scan(&plan, index);
        }
    }
}

#[tokio::test]
async fn a_page_by_offset_skips_rows_of_the_index_alone() {
    let Some(mut harness) = Harness::new().await else { return };
    let filter = UserFilter::default();
    let start = PageStart::Offset(10_000);
    let query = UserQuery { start, limit: PageSize::default(), filter, caller: CALLER };
    let plan = harness.plan_of_list(&query).await;
    for scan in ["Index Only Scan Backward using user_search_pkey", "Index Only Scan using user_search_pkey"]
    {
        assert!(plan.contains(scan), "{scan}:\n{plan}");
    }
    assert_no_scan(&plan, "a page by offset");
}

#[tokio::test]
async fn a_search_for_a_common_term_stops_early() {
    let Some(mut harness) = Harness::new().await else { return };
    for term in ["+7960", "example.com", "7"] {
        let search = SearchTerm::split(term, None, true);
        let filter = UserFilter { search, ..UserFilter::default() };
        let query = UserQuery { start: PageStart::START, limit: PageSize::default(), filter, caller: CALLER };
        let plan = harness.plan_of_list(&query).await;
        // The page scans from the newest user on and stops at its limit. The count stops at its limit as
        // well.
        assert!(plan.contains("Backward using user_search_pkey"), "{term}:\n{plan}");
        assert!(!plan.contains("Bitmap Index Scan on user_search_ngrams"), "{term}:\n{plan}");
    }
}
