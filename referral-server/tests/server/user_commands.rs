//! Tests of the commands `users …`, `limits unlock` and `audit`.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    program::{Program, directory, mode, run},
    service::{ANNA, BORIS, SignedIn, VERA},
};

/// Signs in Anna, then Boris with the invite code of Anna, and Vera with the invite code of Boris.
async fn three(directory: &Path) -> [SignedIn; 3] {
    let program = Program::start(directory, &[]);
    let anna = program.client.enter(ANNA, None).await;
    let profile = json!({ "first_name": "Анна", "last_name": "Иванова", "email": "anna@example.com" });
    program.client.patch(&anna.access, &profile).await.ok();
    let code = program.client.invite_code(&anna).await;
    let boris = program.client.enter(BORIS, Some(&code)).await;
    let code = program.client.invite_code(&boris).await;
    let vera = program.client.enter(VERA, Some(&code)).await;
    program.stop();
    [anna, boris, vera]
}

/// Returns the output of a command that succeeds.
#[track_caller]
fn printed(directory: &Path, arguments: &[&str]) -> String {
    let output = run(directory, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn json_of(directory: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&printed(directory, arguments)).expect("JSON")
}

/// Returns the error of a command that fails.
#[track_caller]
fn failed(directory: &Path, arguments: &[&str]) -> String {
    let output = run(directory, arguments);
    assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).expect("text")
}

#[tokio::test]
async fn a_user_is_found_by_any_value_and_a_phone_in_any_spelling() {
    let directory = directory();
    let [anna, ..] = three(directory.path()).await;
    let directory = directory.path();
    for text in [
        &["+79608543017"][..],
        &["+7 (960) 854-30-17"],
        &["+7", "960", "854", "30", "17"],
        &["79608543017"],
        &["8 960 854-30-17"],
        &["89608543017"],
        &["960-854-30-17"],
        &["8543017"],
        &[&anna.id],
        &["анна"],
        &["Иванова", "анна"],
        &["ANNA@example.com"],
    ] {
        let arguments = [&["users", "find"], text, &["--json"]].concat();
        let found = json_of(directory, &arguments);
        assert_eq!((&found["count"], &found["count_exact"]), (&json!(1), &json!(true)), "{text:?}");
        assert_eq!(found["results"][0]["id"], anna.id, "{text:?}");
        let shown = json_of(directory, &[&["users", "show"], text, &["--json"]].concat());
        assert_eq!(shown["phone"], ANNA, "{text:?}");
    }
    assert!(failed(directory, &["users", "find", "nothing"]).contains("no user matches"));
    assert_eq!(json_of(directory, &["users", "find", "nothing", "--json"])["results"], json!([]));
    assert!(failed(directory, &["users", "find"]).contains("<TEXT>"));
}

#[tokio::test]
async fn a_list_is_aligned_and_says_that_there_are_more() {
    let directory = directory();
    let [anna, boris, vera] = three(directory.path()).await;
    let all = printed(directory.path(), &["users", "find", "+"]);
    let lines: Vec<_> = all.lines().collect();
    assert_eq!(lines.len(), 4, "{all}");
    let column = lines[0].find("ID").expect("a column");
    let column = lines[0][..column].chars().count();
    for (line, user) in lines[1..].iter().zip([&vera, &boris, &anna]) {
        assert_eq!(line.chars().skip(column).collect::<String>(), user.id, "{all}");
    }
    // A pipe is no terminal.
    assert!(!all.contains('\x1b'), "{all}");
    let first = printed(directory.path(), &["users", "find", "+", "--limit", "1"]);
    assert!(first.contains(VERA) && first.contains("2 more; add words, or raise --limit"), "{first}");
    assert!(failed(directory.path(), &["users", "find", "+", "--limit", "101"]).contains("--limit"));
}

#[tokio::test]
async fn a_user_is_shown_with_inviter_and_invitees() {
    let directory = directory();
    let [anna, _, vera] = three(directory.path()).await;
    let shown = printed(directory.path(), &["users", "show", BORIS]);
    for (name, value) in [
        ("Phone", BORIS),
        ("Name", "–"),
        ("State", "active"),
        ("Inviter", "+79608543017 Анна Иванова"),
        ("Invited", "1"),
        ("Sessions", "1"),
        ("Metadata", "{}"),
    ] {
        let line = shown.lines().find(|line| line.starts_with(name)).expect("a line");
        assert_eq!(line[name.len()..].trim(), value, "{shown}");
    }
    assert!(shown.lines().any(|line| line.trim().ends_with(VERA)), "{shown}");
    assert!(shown.contains(" UTC by sign_up"), "{shown}");
    let shown = json_of(directory.path(), &["users", "show", BORIS, "--json"]);
    assert_eq!(shown["inviter"]["id"], anna.id);
    assert_eq!(shown["invitation"]["via"], "sign_up");
    assert_eq!(shown["invited"][0]["id"], vera.id);
    assert_eq!(shown["sessions"].as_array().map(Vec::len), Some(1));

    let ambiguous = failed(directory.path(), &["users", "show", "+"]);
    assert!(ambiguous.contains("3 users match (+14155552671, +77011234567"), "{ambiguous}");
}

#[tokio::test]
async fn the_tree_of_invitations_has_limits() {
    let directory = directory();
    let [anna, boris, vera] = three(directory.path()).await;
    let directory = directory.path();
    let tree = printed(directory, &["users", "tree", "8 960 854-30-17"]);
    let expected = format!(
        "+79608543017 Анна Иванова – invited 1\n\
         └── {BORIS} – invited 1\n\
         \u{20}   └── {VERA}\n"
    );
    assert_eq!(tree, expected);
    let level = printed(directory, &["users", "tree", &anna.id, "--depth", "1"]);
    assert_eq!(level.lines().collect::<Vec<_>>(), expected.lines().take(2).collect::<Vec<_>>());
    let nested = json_of(directory, &["users", "tree", ANNA, "--json"]);
    assert_eq!(nested["user"]["id"], anna.id);
    assert_eq!(nested["invitees"][0]["user"]["id"], boris.id);
    assert_eq!(nested["invitees"][0]["invitees"][0]["user"]["id"], vera.id);
    assert_eq!(nested["invitees"][0]["invitees"][0]["invitees"], json!([]));

    let program = Program::start(directory, &[]);
    let anna = program.client.enter(ANNA, None).await;
    let code = program.client.invite_code(&anna).await;
    for phone in ["+79608543018", "+79608543019"] {
        program.client.enter(phone, Some(&code)).await;
    }
    let tree = printed(directory, &["users", "tree", ANNA, "--limit", "1"]);
    assert_eq!(tree, "+79608543017 Анна Иванова – invited 3\n├── +79608543019\n└── 2 more\n");
    assert!(failed(directory, &["users", "tree", ANNA, "--depth", "21"]).contains("--depth"));

    let last = program.client.enter("+79608543018", None).await;
    let path = "/users/current_user/deletion/send_code/";
    let sent = program.client.request(Method::POST, path).bearer_auth(&last.access).json(&json!({}));
    let sent = program.client.send(sent).await.ok();
    let body = json!({ "code": sent["code"], "challenge_id": sent["challenge_id"] });
    let deletion = program.client.request(Method::DELETE, "/users/current_user/");
    program.client.send(deletion.bearer_auth(&last.access).json(&body)).await.ok();
    let tree = printed(directory, &["users", "tree", ANNA, "--depth", "1"]);
    assert!(tree.ends_with("└── 1 deleted or without a phone\n"), "{tree}");
}

#[tokio::test]
async fn each_change_has_a_reason_and_an_entry_in_the_audit_log() {
    let directory = directory();
    let [anna, _, vera] = three(directory.path()).await;
    let directory = directory.path();
    let program = Program::start(directory, &[]);
    let user = "8 (960) 854-30-17";
    let reason = ["--reason", "ticket 4711"];
    let changed = |arguments: &[&str]| printed(directory, &[arguments, &reason[..]].concat());
    let status = async || program.client.get("/users/current_user/", &anna.access).await.status;

    assert_eq!(changed(&["users", "block", user]), "blocked +79608543017 Анна Иванова\n");
    assert_eq!(status().await, 401);
    assert!(printed(directory, &["users", "show", ANNA]).contains("State         blocked\n"));
    let again = changed(&["users", "block", user]);
    assert_eq!(again, "blocked +79608543017 Анна Иванова (as before: nothing was changed)\n");
    assert_eq!(changed(&["users", "unblock", &anna.id]), "unblocked +79608543017 Анна Иванова\n");
    // The sessions stay ended.
    assert_eq!(status().await, 401);
    assert_eq!(changed(&["users", "sign-out", BORIS]), format!("ended 1 session of {BORIS}\n"));
    assert_eq!(changed(&["users", "sign-out", BORIS]), format!("ended 0 sessions of {BORIS}\n"));

    let code = json_of(directory, &["users", "show", ANNA, "--json"])["invite_code"].clone();
    let code = code.as_str().expect("a code");
    let set = changed(&["users", "set-inviter", VERA, "--code", code]);
    assert_eq!(set, format!("{VERA} was invited by +79608543017 Анна Иванова\n"));
    assert_eq!(changed(&["users", "set-inviter", BORIS, "--none"]), format!("{BORIS} has no inviter\n"));
    let tree = json_of(directory, &["users", "tree", ANNA, "--json"]);
    assert_eq!(tree["invitees"][0]["user"]["id"], vera.id);
    assert_eq!(tree["invitees"].as_array().map(Vec::len), Some(1));

    assert_eq!(
        changed(&["users", "set-role", "anna@example.com", "--role", "admin"]),
        "+79608543017 Анна Иванова is an admin\n"
    );
    let rejected = failed(directory, &["users", "block", ANNA, "--reason", "x"]);
    assert!(rejected.contains("last active admin"), "{rejected}");
    let role =
        json_of(directory, &["users", "set-role", BORIS, "--role", "admin", "--reason", "x", "--json"]);
    assert_eq!((&role["user"]["staff_role"], &role["changed"]), (&json!("admin"), &json!(true)));
    assert_eq!(
        changed(&["users", "set-role", ANNA, "--role", "none"]),
        "+79608543017 Анна Иванова is not staff\n"
    );

    let log = json_of(directory, &["audit", "--user", user, "--json"]);
    let entries = log["results"].as_array().expect("entries");
    let fields: Vec<_> = entries.iter().map(|entry| &entry["changes"][0]["field"]).collect();
    assert_eq!(fields, ["staff_role", "staff_role", "is_active", "is_active"]);
    for entry in entries {
        assert_eq!((&entry["actor"], &entry["reason"]), (&json!("host"), &json!("ticket 4711")));
    }
    let log = printed(directory, &["audit", "--actor", "host", "--action", "user_changed", "--limit", "2"]);
    assert!(log.lines().any(|line| line.trim() == "staff_role: admin → –"), "{log}");
    assert!(log.contains("there are more; continue with --older-than "), "{log}");
    let before = log.split_whitespace().next_back().expect("an id");
    let older = json_of(directory, &["audit", "--older-than", before, "--json"]);
    assert_eq!(older["results"][0]["changes"][0]["after"], "admin");

    let erase = ["users", "erase", BORIS, "--reason", "request"];
    let refused = failed(directory, &["users", "erase", VERA, "--reason", "request"]);
    assert!(refused.contains(&format!("deletes {VERA}")) && refused.contains("--yes"), "{refused}");
    assert!(failed(directory, &[&erase[..], &["--yes"]].concat()).contains("last active admin"));
    let erased = printed(directory, &["users", "erase", VERA, "--reason", "request", "--yes"]);
    assert_eq!(erased, format!("deleted {VERA}, user {}\n", vera.id));
    assert!(failed(directory, &["users", "show", VERA]).contains("no user matches"));
    let log = json_of(directory, &["audit", "--user", &vera.id, "--json"]);
    assert_eq!(log["results"][0]["action"], "user_deleted");
}

#[tokio::test]
async fn a_phone_is_moved_between_users() {
    let directory = directory();
    let [anna, boris, _] = three(directory.path()).await;
    let directory = directory.path();
    let set = |user: &str, phone: &[&str]| {
        let arguments = [&["users", "set-phone", user, "--reason", "ticket 4714"][..], phone].concat();
        printed(directory, &arguments)
    };
    let taken = failed(directory, &["users", "set-phone", ANNA, "--phone", BORIS, "--reason", "x"]);
    assert!(taken.contains("Another user has this phone"), "{taken}");
    let invalid = failed(directory, &["users", "set-phone", ANNA, "--phone", "12", "--reason", "x"]);
    assert!(invalid.contains("--phone: "), "{invalid}");
    assert!(failed(directory, &["users", "set-phone", ANNA, "--reason", "x"]).contains("--phone"));

    assert_eq!(set(BORIS, &["--none"]), format!("{BORIS} has no phone\n"));
    // The phone may belong to another person, so it names no user for a change.
    for phone in [BORIS, "8 701 123-45-67"] {
        let erased = failed(directory, &["users", "erase", phone, "--yes", "--reason", "x"]);
        assert!(erased.contains("match"), "{erased}");
    }
    let shown = printed(directory, &["users", "show", BORIS]);
    assert!(shown.contains("detached ") && shown.contains("no phone"), "{shown}");
    let moved = set(ANNA, &["--phone", "+7 701 123-45-67"]);
    assert_eq!(moved, format!("+79608543017 Анна Иванова has the phone {BORIS}\n"));
    let shown = json_of(directory, &["users", "show", BORIS, "--json"]);
    assert_eq!((&shown["id"], &shown["former_users"][0]["id"]), (&json!(anna.id), &json!(boris.id)));
    let shown = printed(directory, &["users", "show", BORIS]);
    assert!(shown.contains(&format!("detached from {}", boris.id)), "{shown}");
    assert!(json_of(directory, &["users", "show", &boris.id, "--json"])["phone_detached_at"].is_string());
}

#[tokio::test]
async fn a_scheduled_deletion_is_shown_and_canceled() {
    let directory = directory();
    let directory = directory.path();
    let program = Program::start(directory, &["--deletion-grace", "30d"]);
    let anna = program.client.enter(ANNA, None).await;
    assert_eq!(json_of(directory, &["users", "show", ANNA, "--json"])["deletion_at"], Value::Null);
    let scheduled = program.client.delete_account(&anna).await["deletion_at"].clone();
    let text = scheduled.as_str().expect("a time");
    assert_eq!(json_of(directory, &["users", "show", ANNA, "--json"])["deletion_at"], text);
    let shown = printed(directory, &["users", "show", ANNA]);
    assert!(shown.contains("\nDeletion      20"), "{shown}");

    let cancel = ["users", "cancel-deletion", ANNA, "--reason", "asked by phone"];
    assert_eq!(printed(directory, &cancel), format!("canceled the deletion of {ANNA}\n"));
    let again = printed(directory, &cancel);
    assert_eq!(again, format!("canceled the deletion of {ANNA} (as before: nothing was changed)\n"));
    assert!(!printed(directory, &["users", "show", ANNA]).contains("Deletion"));
    let log = json_of(directory, &["audit", "--action", "deletion_scheduled", "--json"]);
    assert_eq!(log["results"][0]["actor"], anna.id);
}

#[tokio::test]
async fn a_change_needs_a_whole_value_and_a_reason() {
    let directory = directory();
    three(directory.path()).await;
    let directory = directory.path();
    let partial = failed(directory, &["users", "block", "8543017", "--reason", "x"]);
    assert!(partial.contains("only a part matches, of +79608543017 Анна Иванова"), "{partial}");
    let partial = failed(directory, &["users", "block", "анна", "--reason", "x"]);
    assert!(partial.contains("only a part matches"), "{partial}");
    assert!(failed(directory, &["users", "block", "nothing", "--reason", "x"]).contains("no user matches"));
    assert!(failed(directory, &["users", "block", ANNA]).contains("--reason"));
    assert!(failed(directory, &["users", "block", ANNA, "--reason", " "]).contains("--reason: "));
    assert!(failed(directory, &["users", "set-inviter", ANNA, "--reason", "x"]).contains("--code"));
    let unknown = failed(directory, &["users", "set-inviter", ANNA, "--code", "ZZZZZZ", "--reason", "x"]);
    assert!(unknown.contains("No user has this invite code"), "{unknown}");
    assert!(failed(directory, &["audit"]).contains("no entry matches"));
}

#[tokio::test]
async fn all_data_of_a_user_are_exported_to_a_private_file() {
    let directory = directory();
    let [_, boris, vera] = three(directory.path()).await;
    let directory = directory.path();
    let export = ["users", "export", "8 (701) 123-45-67", "--reason", "request 17"];
    let data = json_of(directory, &export);
    assert_eq!((&data["user"]["id"], &data["user"]["phone"]), (&json!(boris.id), &json!(BORIS)));
    assert_eq!((&data["invitation"]["via"], &data["invited"][0]["id"]), (&json!("sign_up"), &json!(vera.id)));
    assert_eq!(data["sessions"].as_array().map(Vec::len), Some(1));
    let entry = &data["audit_log"][0];
    assert_eq!((&entry["author"], &entry["action"]), (&json!("host"), &json!("data_exported")));

    let to_file = [&export[..], &["--output", "boris.json"]].concat();
    assert_eq!(printed(directory, &to_file), "");
    let file = directory.join("boris.json");
    let written = || std::fs::read_to_string(&file).expect("readable");
    let data: Value = serde_json::from_str(&written()).expect("JSON");
    assert_eq!((mode(&file), &data["user"]["id"]), (0o600, &json!(boris.id)));
    assert_eq!(data["audit_log"].as_array().map(Vec::len), Some(2));

    // A command that cannot write its file exports nothing, so it adds no entry to the audit log.
    let refused = failed(directory, &to_file);
    assert!(refused.contains("boris.json exists; remove it, or replace it with --force"), "{refused}");
    let missing = [&export[..], &["--output", "missing/boris.json"]].concat();
    assert!(failed(directory, &missing).contains("failed to write missing/boris.json"));
    let partial = failed(directory, &["users", "export", "1234567", "--reason", "x"]);
    assert!(partial.contains("only a part matches"), "{partial}");
    assert!(failed(directory, &["users", "export", BORIS]).contains("--reason"));
    assert!(failed(directory, &["users", "export", BORIS, "--reason", "x", "--force"]).contains("--output"));
    let log = json_of(directory, &["audit", "--action", "data_exported", "--json"]);
    assert_eq!(log["results"].as_array().map(Vec::len), Some(2));
    assert_eq!(log["results"][0]["reason"], "request 17");

    printed(directory, &[&to_file[..], &["--force"]].concat());
    let data: Value = serde_json::from_str(&written()).expect("JSON");
    assert_eq!(data["audit_log"].as_array().map(Vec::len), Some(3));
    let names = std::fs::read_dir(directory).expect("readable");
    let hidden =
        names.filter(|name| name.as_ref().expect("an entry").file_name().as_encoded_bytes()[0] == b'.');
    assert_eq!(hidden.count(), 0, "no temporary files");
}

#[tokio::test]
async fn a_phone_is_unlocked() {
    let directory = directory();
    let program = Program::start(directory.path(), &["--codes-per-phone", "1/1h"]);
    let body = json!({ "phone": ANNA });
    program.client.post("/auth/send_code/", &body).await.ok();
    program.client.post("/auth/send_code/", &body).await.assert_problem(429, "too_many_requests");
    // The phone has no user yet.
    let unlock = ["limits", "unlock", "--phone", "+7 960 854-30-17", "--reason", "ticket 4711"];
    assert_eq!(printed(directory.path(), &unlock), "unlocked +79608543017\n");
    program.client.enter(ANNA, None).await;
    let unlock = ["limits", "unlock", "--phone", "8 960 854-30-17", "--reason", "again", "--json"];
    assert_eq!(json_of(directory.path(), &unlock)["action"], "phone_unlocked");
    program.client.post("/auth/send_code/", &body).await.ok();
    let invalid = failed(directory.path(), &["limits", "unlock", "--phone", "12", "--reason", "x"]);
    assert!(invalid.contains("--phone: ") && invalid.contains("international form"), "{invalid}");
}
