//! Tests of the query plans of frequent statements. Their cost must not grow with the number of users.

use referral_core::{
    Email, ExternalId, InviteCode, Name, PageSize, PhoneNumber, UserId,
    audit::{Actor, AuditAction, AuditEntryId},
    storage::{AuditQuery, PageStart, SearchTerm, UserFilter, UserQuery},
};
use sqlx::{AssertSqlSafe, Row, SqlSafeStr};
use uuid::Uuid;

use super::{
    SqliteStorage, add_user, audit, challenges, change_user, code_requests, counters, daily_counts, deletion,
    import, invitations, list, maintenance, messages, open::SqliteOptions, phone_change, profiles, sessions,
    sign_in, users,
};

const CALLER: UserId = UserId(Uuid::nil());

async fn fresh_store() -> (SqliteStorage, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = format!("sqlite:{}", directory.path().join("plans.db").display());
    (SqliteStorage::connect(&url, &SqliteOptions::default()).await.expect("a new file"), directory)
}

/// Returns the steps of a query plan, one on each line.
async fn plan_of(store: &SqliteStorage, statement: impl SqlSafeStr) -> String {
    let explain = format!("EXPLAIN QUERY PLAN {}", statement.into_sql_str().as_str());
    let mut reader = store.reader().await.expect("a reader");
    let steps = reader.fetch_all(AssertSqlSafe(explain)).await.expect("a plan");
    let steps = steps.iter().map(|step| step.get::<String, _>("detail"));
    steps.collect::<Vec<_>>().join("\n")
}

fn assert_uses(plan: &str, indexes: &[&str], statement: &str) {
    for index in indexes {
        assert!(plan.contains(index), "{statement} does not use {index}:\n{plan}");
    }
    for step in plan.lines() {
        assert!(step != "SCAN u" && !step.starts_with("SCAN u "), "{statement} scans all users:\n{plan}");
        assert!(!step.contains("TEMP B-TREE"), "{statement} sorts:\n{plan}");
    }
}

const BY_ID: &str = "sqlite_autoindex_referral_users_1 (id=?)";

#[tokio::test]
async fn fixed_statements_use_their_indexes() {
    let (store, _directory) = fresh_store().await;
    let inviter = "SEARCH i USING PRIMARY KEY (invitee=?)";
    for (statement, indexes) in [
        (sessions::SESSION, &["SEARCH s USING PRIMARY KEY (id=?)", BY_ID, inviter] as &[_]),
        (users::USER, &[BY_ID, inviter]),
        (users::FORMER_USERS, &["referral_users_former_phone (former_phone=?)", inviter]),
        (users::SET_PHONE, &[BY_ID]),
        (sessions::RECORD_ACTIVITY, &[BY_ID]),
        (
            add_user::ADD_USER_FACTS,
            &["sqlite_autoindex_referral_users_2 (phone=?)", "(external_id=?)", inviter],
        ),
        (
            change_user::CHANGE_USER_FACTS,
            &[
                "(email=?)",
                "(external_id=?)",
                "(invite_code=?)",
                "referral_users_staff (staff_role=?)",
                BY_ID,
                inviter,
            ],
        ),
        (change_user::CHANGE_ACCOUNT, &[BY_ID]),
        (deletion::DELETION_FACTS, &["SEARCH c USING PRIMARY KEY (id=?)", BY_ID, inviter]),
        (deletion::DELETE_SESSIONS, &["referral_sessions_of_user (user_id=?)"]),
        (deletion::DELETE_CHALLENGES, &["referral_challenges_of_phone (phone=?)"]),
        (deletion::ERASE, &[BY_ID]),
        (deletion::SCHEDULE, &[BY_ID]),
        (deletion::USERS_TO_DELETE, &["referral_users_to_delete ((deletion_at,id)>(?,?) AND deletion_at<?)"]),
        (deletion::ERASE_AUDIT_ENTRIES, &["referral_audit_log_of_user (user_id=?)"]),
        (invitations::REMOVE_INVITATION, &["PRIMARY KEY (invitee=?)"]),
        (audit::USER_WITH_PHONE, &["(phone=?)"]),
        (audit::DELETE_COUNTER, &["SEARCH referral_counters USING PRIMARY KEY (key=?)"]),
        (audit::DELETE_PAIRS, &["SEARCH referral_counters USING PRIMARY KEY (key>? AND key<?)"]),
        (
            phone_change::PHONE_CHANGE_FACTS,
            &[
                "SEARCH c USING PRIMARY KEY (id=?)",
                "sqlite_autoindex_referral_users_2 (phone=?)",
                BY_ID,
                inviter,
            ],
        ),
        (users::CHANGE_PHONE, &[BY_ID]),
        (import::RECORDS_AFTER, &["sqlite_autoindex_referral_users_1 (id>?)", inviter]),
        (import::RECORDS, &[BY_ID, inviter]),
        (import::OWNERS, &["(phone=?)", "(invite_code=?)", "(email=?)", "(external_id=?)"]),
        (import::INVITERS_ABOVE, &[inviter]),
        (import::CHANGE_SEARCH_KEYS, &["SEARCH referral_users USING", "(id=?)"]),
        (profiles::PROFILE_FACTS, &["(invite_code=?)", "(email=?)", BY_ID, inviter]),
        (challenges::CHALLENGE_FACTS, &["referral_challenges_of_phone (phone=?)", "(phone=?)"]),
        (
            sign_in::SIGN_IN_FACTS,
            &["referral_challenges_of_phone (phone=?)", "(invite_code=?)", "(phone=?)", inviter],
        ),
        (sign_in::SIGN_IN_FACTS_NAMED, &["SEARCH c USING PRIMARY KEY (id=?)", "(phone=?)", inviter]),
        (sessions::SESSION_WITH_INVITED, &["referral_invitations_of_inviter (inviter=?)", BY_ID, inviter]),
        (users::USER_WITH_INVITED, &["referral_invitations_of_inviter (inviter=?)", BY_ID, inviter]),
        (invitations::INVITATION, &["PRIMARY KEY (invitee=?)"]),
        (users::INVITEES, &["referral_invitations_of_inviter (inviter=? AND invitee<?)", BY_ID]),
        (users::CHANGE_USER, &[BY_ID]),
        (sessions::MARK_TOKENS_USED, &["PRIMARY KEY (id=?)"]),
        (counters::REFUND, &["SEARCH referral_counters USING PRIMARY KEY (key=?)"]),
        (messages::RECORD_GATEWAY, &["SEARCH referral_challenges USING PRIMARY KEY (id=?)"]),
        (messages::MESSAGE, &["SEARCH m USING PRIMARY KEY (gateway=? AND message_id=?)"]),
        (
            code_requests::CODE_REQUESTS,
            &[
                "SEARCH r USING PRIMARY KEY (phone_hash=?)",
                "SEARCH m USING PRIMARY KEY (gateway=? AND message_id=?)",
            ],
        ),
        (
            code_requests::KEEP_NEWEST,
            &[
                "SEARCH r USING PRIMARY KEY (phone_hash=? AND id<?)",
                "SEARCH n USING PRIMARY KEY (phone_hash=?)",
            ],
        ),
        (code_requests::DELETE_OF_PHONE, &["SEARCH referral_code_requests USING PRIMARY KEY (phone_hash=?)"]),
        (counters::ATTACK_FACTS, &["PRIMARY KEY (counter=? AND period_start>?)"]),
        (
            counters::FAILED_ATTEMPTS_BETWEEN,
            &["PRIMARY KEY (counter=? AND period_start>? AND period_start<?)"],
        ),
        (counters::MESSAGES_SINCE, &["PRIMARY KEY (counter=? AND period_start>?)"]),
        (daily_counts::DAILY_COUNTS, &["INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
        (sessions::SESSIONS, &["referral_sessions_of_user (user_id=? AND id<?)"]),
        (sessions::END_SESSION, &["PRIMARY KEY (id=?)"]),
        (sessions::END_OTHER_SESSIONS, &["referral_sessions_of_user (user_id=?)"]),
        (sessions::KEEP_NEWEST_SESSIONS, &["referral_sessions_of_user (user_id=?)"]),
    ] {
        assert_uses(&plan_of(&store, statement).await, indexes, statement);
    }
    let ancestry = plan_of(&store, invitations::ANCESTRY_HAS).await;
    assert!(ancestry.contains("SEARCH i USING PRIMARY KEY (invitee=?)"), "{ancestry}");
}

#[tokio::test]
async fn expired_rows_are_found_by_their_time() {
    let (store, _directory) = fresh_store().await;
    for (statement, index) in [
        (maintenance::DELETE_CHALLENGES, "referral_challenges_by_end (expires_at<?)"),
        (maintenance::DELETE_SESSIONS, "referral_sessions_by_end (ends_at<?)"),
        (maintenance::DELETE_COUNTERS, "referral_counters_by_end (ends_at<?)"),
        (maintenance::DELETE_GLOBAL_COUNTERS, "PRIMARY KEY (counter=? AND period_start<?)"),
        (maintenance::DELETE_MESSAGES, "referral_messages_by_time (recorded_at<?)"),
        (maintenance::DELETE_CODE_REQUESTS, "referral_code_requests_by_time (requested_at<?)"),
    ] {
        let plan = plan_of(&store, statement).await;
        assert!(plan.contains(index) && !plan.contains("SCAN"), "{statement}:\n{plan}");
    }
}

#[tokio::test]
async fn audit_log_uses_the_index_of_its_filter() {
    let (store, _directory) = fresh_store().await;
    let id = Uuid::nil();
    for (query, index) in [
        (AuditQuery::new(), "SCAN referral_audit_log"),
        (AuditQuery::new().older_than(AuditEntryId(id)), "PRIMARY KEY (id<?)"),
        (AuditQuery::new().user(UserId(id)), "referral_audit_log_of_user (user_id=?)"),
        (AuditQuery::new().actor(Actor::Host), "referral_audit_log_by_actor (actor=?)"),
        (AuditQuery::new().action(AuditAction::UserAdded), "referral_audit_log_by_action (action=?)"),
    ] {
        let plan = plan_of(&store, audit::page_query(&query).sql()).await;
        assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{query:?}:\n{plan}");
    }
}

#[tokio::test]
async fn lists_use_the_index_of_their_filter() {
    let (store, _directory) = fresh_store().await;
    let any = UserFilter::default();
    let anna = Name::parse("Anna").ok();
    let code = InviteCode::parse("ABC234").ok();
    let phone = PhoneNumber::from_stored("+79608543017".into()).ok();
    let email = Email::parse("anna@example.com").ok();
    let external_id = ExternalId::parse("a1").ok();
    for (filter, index) in [
        (UserFilter { first_name: anna.clone(), ..any.clone() }, "referral_users_first_name (first_name=?"),
        (UserFilter { last_name: anna, ..any.clone() }, "referral_users_last_name (last_name=?"),
        (UserFilter { phone, ..any.clone() }, "(phone=?)"),
        (UserFilter { email, ..any.clone() }, "(email=?)"),
        (UserFilter { external_id, ..any.clone() }, "(external_id=?)"),
        (UserFilter { invite_code: code.clone(), ..any.clone() }, "(invite_code=?)"),
        (UserFilter { invited_by_code: code, ..any.clone() }, "referral_invitations_of_inviter (inviter=?"),
    ] {
        for start in positions() {
            let query =
                UserQuery { start, limit: PageSize::default(), filter: filter.clone(), caller: CALLER };
            assert_uses(&plan_of(&store, list::page(&query).sql()).await, &[index], index);
        }
    }
}

#[tokio::test]
async fn a_page_starts_at_its_cursor() {
    let (store, _directory) = fresh_store().await;
    for (start, index) in positions().into_iter().zip(["", "(id<?)", "(id>?)"]) {
        let query =
            UserQuery { start, limit: PageSize::default(), filter: UserFilter::default(), caller: CALLER };
        let plan = plan_of(&store, list::page(&query).sql()).await;
        assert!(!plan.contains("TEMP B-TREE"), "{start:?} sorts:\n{plan}");
        if start == PageStart::START {
            // The scan starts with the newest user and ends when the page is full.
            assert!(
                plan.contains("CO-ROUTINE v\nSCAN u USING INDEX sqlite_autoindex_referral_users_1"),
                "{plan}"
            );
        } else {
            assert_uses(&plan, &[index], "a page by cursor");
        }
    }
}

#[tokio::test]
async fn a_page_by_offset_skips_rows_of_the_index_alone() {
    let (store, _directory) = fresh_store().await;
    let any = UserFilter::default();
    let code = InviteCode::parse("ABC234").ok();
    for (filter, index) in [
        (
            any.clone(),
            "SCAN referral_user_numbers USING COVERING INDEX sqlite_autoindex_referral_user_numbers_1",
        ),
        (
            UserFilter { first_name: Name::parse("Anna").ok(), ..any.clone() },
            "SEARCH u USING COVERING INDEX referral_users_first_name (first_name=?)",
        ),
        (
            UserFilter { invited_by_code: code, ..any },
            "SEARCH i USING COVERING INDEX referral_invitations_of_inviter (inviter=?)",
        ),
    ] {
        let start = PageStart::Offset(1);
        let query = UserQuery { start, limit: PageSize::default(), filter, caller: CALLER };
        let plan = plan_of(&store, list::page(&query).sql()).await;
        assert!(plan.contains(index), "{index}:\n{plan}");
        assert!(plan.contains(&format!("SEARCH u USING INDEX {BY_ID}")), "{plan}");
    }
}

#[tokio::test]
async fn a_search_scans_only_its_index_in_order() {
    let (store, _directory) = fresh_store().await;
    let search = SearchTerm::split("anna 79", None, true);
    let invited_by_code = InviteCode::parse("ABC234").ok();
    for filter in [
        UserFilter { search: search.clone(), ..UserFilter::default() },
        UserFilter { search, invited_by_code, ..UserFilter::default() },
    ] {
        for start in positions() {
            let query =
                UserQuery { start, limit: PageSize::default(), filter: filter.clone(), caller: CALLER };
            // One scan is for the page, and one for the count.
            let plan = plan_of(&store, list::page(&query).sql()).await;
            let scans = plan.matches("SCAN g VIRTUAL TABLE INDEX").count();
            assert!(scans == 2 && plan.contains(":M1"), "{plan}");
            assert!(!plan.contains("TEMP B-TREE") && !plan.contains("SCAN u"), "{plan}");
            assert!(plan.contains("SEARCH n USING INTEGER PRIMARY KEY"), "{plan}");
        }
    }
}

fn positions() -> [PageStart; 3] {
    let id = UserId(Uuid::nil());
    [PageStart::START, PageStart::OlderThan(id), PageStart::NewerThan(id)]
}
