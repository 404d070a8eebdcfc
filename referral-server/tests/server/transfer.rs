//! Tests of the commands `import` and `export`.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::Path,
    process::{Output, Stdio},
};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Executor as _, postgres::PgConnectOptions};

use crate::{
    multi_host::{RETURN_CODES, server::Database},
    program::{Program, command, directory, mode, run, signal},
    service::{ANNA, BORIS, VERA},
};

const HEADER: &str = "id,phone,invite_code,invited_by,invited_by_code,invited_at,invited_via,email,first_name,\
     last_name,staff_role,is_active,date_joined,last_login,last_active,phone_detached_at,external_id,\
     metadata,deletion_at,erased_at\n";

/// Users with values that are difficult to write, in the form of an export. The second one is deleted, and
/// the inviter of the first one follows.
const USERS: &str = r#"0187efff-0000-7000-8000-000000000001,+79608543017,O0O0O0,0187efff-0000-7000-8000-000000000003,GXVJ9Z,2023-05-08T07:08:09.123456Z,sign_in,anna@xn--e1afmkfd.xn--p1ai,"Анна ""Ann"", 1",O'Neil,admin,true,2023-05-06T07:08:09.123456Z,2024-01-01T00:00:00.000001Z,2024-02-01T00:00:00.000001Z,,"a|1,""x""","{""a"":""\n\\u0000\"",;"",""b"":[1.5,-0.0,18446744073709551615,{""Ж🙂"":null}]}",,
0187efff-0000-7000-8000-000000000002,,BCD234,0187efff-0000-7000-8000-000000000001,O0O0O0,2023-05-07T07:08:09.000000Z,sign_up,,,,,,2023-05-07T07:08:09.000000Z,,,,,,,2024-05-06T07:08:09.999999Z
0187efff-0000-7000-8000-000000000003,+77011234567,GXVJ9Z,,,,,,=1+1,,,false,1969-12-31T23:59:59.999999Z,,,2024-05-01T00:00:00.000001Z,,,2123-05-06T07:08:09.000001Z,
0187efff-0000-7000-8000-000000000004,+14155552671,BCD235,0187efff-0000-7000-8000-000000000002,BCD234,2023-05-08T07:08:09.000000Z,import,,,,,true,2023-05-08T07:08:09.000000Z,,,,NULL,,,
"#;

/// Returns the arguments of a command for a database, or for the data directory.
fn at<'a>(database: Option<&'a Database>, arguments: &[&'a str]) -> Vec<&'a str> {
    let url = database.map(|database| ["--database-url", database.url.as_str()]);
    arguments.iter().copied().chain(url.into_iter().flatten()).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn succeed(directory: &Path, arguments: &[&str]) -> Output {
    let output = run(directory, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    output
}

fn export(directory: &Path, database: Option<&Database>, format: &str) -> String {
    let output = succeed(directory, &at(database, &["export", "--format", format]));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Imports a text from a file with this name, and returns the exit code and the output.
fn import(directory: &Path, database: Option<&Database>, name: &str, text: &str) -> (Option<i32>, String) {
    fs::write(directory.join(name), text).expect("written");
    let output = run(directory, &at(database, &["import", name]));
    (output.status.code(), stderr(&output))
}

#[tokio::test]
async fn export_import_and_export_return_the_same_bytes_on_each_database() {
    let users = format!("{HEADER}{USERS}");
    let first = directory();
    let (code, log) = import(first.path(), None, "users.csv", &users);
    assert_eq!(code, Some(0), "{log}");
    let summary = "read 4 rows: 4 added, 0 unchanged, 0 rejected; 3 invitations added; 0 warnings";
    assert!(log.contains(summary), "{log}");
    assert_eq!(export(first.path(), None, "csv"), users);
    let lines = export(first.path(), None, "jsonl");
    let objects: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(objects[0]["metadata"]["b"][2], json!(u64::MAX));
    let erased = json!({
        "id": "0187efff-0000-7000-8000-000000000002", "invite_code": "BCD234",
        "invited_by": "0187efff-0000-7000-8000-000000000001", "invited_by_code": "O0O0O0",
        "invited_at": "2023-05-07T07:08:09.000000Z", "invited_via": "sign_up",
        "date_joined": "2023-05-07T07:08:09.000000Z", "erased_at": "2024-05-06T07:08:09.999999Z",
    });
    assert_eq!(objects[1], erased);

    let second = directory();
    let (code, log) = import(second.path(), None, "users.jsonl", &lines);
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(export(second.path(), None, "jsonl"), lines);
    assert_eq!(export(second.path(), None, "csv"), users);

    let Some(database) = Database::create().await else { return };
    let (code, log) = import(second.path(), Some(&database), "users.csv", &users);
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(export(second.path(), Some(&database), "csv"), users);
    assert_eq!(export(second.path(), Some(&database), "jsonl"), lines);
}

#[tokio::test]
async fn users_of_a_running_server_are_exported_and_imported_into_another_one() {
    let first = directory();
    let program = Program::start(first.path(), &[]);
    let anna = program.client.enter(ANNA, None).await;
    let boris = program.client.enter(BORIS, Some(&program.client.invite_code(&anna).await)).await;
    let vera = program.client.enter(VERA, Some(&program.client.invite_code(&boris).await)).await;
    let change = json!({ "first_name": "Вера, \"V\"", "email": "vera@example.com" });
    program.client.patch(&vera.access, &change).await.ok();
    let path = "/users/current_user/deletion/send_code/";
    let sent = program.client.request(Method::POST, path).bearer_auth(&boris.access).json(&json!({}));
    let sent = program.client.send(sent).await.ok();
    let code = json!({ "code": sent["code"], "challenge_id": sent["challenge_id"] });
    let delete = program.client.request(Method::DELETE, "/users/current_user/").bearer_auth(&boris.access);
    program.client.send(delete.json(&code)).await.ok();
    let exported = export(first.path(), None, "csv");
    assert_eq!(exported.lines().count(), 4, "{exported}");
    assert!(!exported.contains(BORIS), "{exported}");

    let Some(database) = Database::create().await else { return };
    let second = directory();
    let there = Program::start(second.path(), &["--database-url", &database.url, RETURN_CODES]);
    let (code, log) = import(second.path(), Some(&database), "users.csv", &exported);
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(export(second.path(), Some(&database), "csv"), exported);
    let again = there.client.enter(VERA, None).await;
    assert_eq!((&again.id, &again.body["created"]), (&vera.id, &json!(false)));
    let profile = there.client.get("/users/current_user/", &again.access).await.ok();
    assert_eq!(profile["first_name"], "Вера, \"V\"");
    // The sign-in is no difference.
    let (code, log) = import(second.path(), Some(&database), "users.csv", &exported);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("0 added, 3 unchanged, 0 rejected; 0 invitations added"), "{log}");
}

#[tokio::test]
async fn rejected_rows_are_reported_with_lines_and_reasons() {
    let directory = directory();
    let rows = "\
        0187efff-0000-7000-8000-000000000001,+79608543017,AAAA22,,\"two\n\
        lines\",2023-05-06T07:08:09Z\n\
        \n\
        0187efff-0000-7000-8000-000000000002,+79608543017,AAAA23,,,2023-05-06T07:08:09Z\n\
        0187efff-0000-7000-8000-000000000003,12,AAAA24,,,2023-05-06T07:08:09Z\n\
        0187efff-0000-7000-8000-000000000004,+79608543018,AAAA24,ZZZZ99,Zoya,2023-05-06T07:08:09Z\n\
        0187efff-0000-7000-8000-000000000005,+79608543019\n";
    let text = format!("id,phone,invite_code,invited_by_code,first_name,date_joined\n{rows}");
    fs::write(directory.path().join("users.csv"), text.replace("two\nlines", "two lines")).expect("written");
    let arguments = ["import", "users.csv", "--report", "report.jsonl"];
    let output = run(directory.path(), &arguments);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let log = stderr(&output);
    for line in [
        "line 4: rejected: phone: the user 0187efff-0000-7000-8000-000000000001 has this phone",
        "line 5: rejected: phone: the phone number has no country code; use the international form",
        "line 6: warning: invited_by_code: the inviter with this code is unknown; the user is imported without an inviter",
        "line 7: rejected: the row has 2 fields instead of 6; check its quotes",
        "read 5 rows: 2 added, 0 unchanged, 3 rejected; 0 invitations added; 1 warnings",
    ] {
        assert!(log.contains(line), "{log}");
    }
    assert!(!log.contains("+79608543018"), "the report has no phones of users: {log}");
    let report = directory.path().join("report.jsonl");
    assert_eq!(mode(&report), 0o600);
    let report = fs::read_to_string(report).expect("a report");
    let entries: Vec<Value> = report.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let reported: Vec<_> =
        entries.iter().map(|entry| (&entry["line"], &entry["result"], &entry["field"])).collect();
    let expected = [
        (4, "rejected", "phone"),
        (5, "rejected", "phone"),
        (7, "rejected", ""),
        (6, "warning", "invited_by_code"),
    ];
    assert_eq!(reported.len(), expected.len());
    for ((line, result, field), expected) in reported.into_iter().zip(expected) {
        assert_eq!((line, result, field), (&json!(expected.0), &json!(expected.1), &json!(expected.2)));
    }

    // An existing file, such as an input, is not replaced by the report.
    let output = run(directory.path(), &["import", "users.csv", "--report", "users.csv"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(directory.path().join("users.csv")).expect("kept").lines().count(), 7);

    // The corrected rows are added, and the other ones are unchanged. A name with a line break is rejected,
    // and the next row has the number of its own line.
    let corrected = text
        .replace("+79608543017,AAAA23", "+79608543020,AAAA23")
        .replace("12,AAAA24", "+79608543021,AAAA25");
    let (code, log) = import(directory.path(), None, "users.csv", &corrected);
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("line 2: rejected: first_name: "), "{log}");
    assert!(log.contains("line 8: rejected: the row has 2 fields"), "{log}");
    assert!(log.contains("read 5 rows: 2 added, 1 unchanged, 2 rejected"), "{log}");
}

#[test]
fn unreadable_files_are_rejected_before_or_at_their_line() {
    let directory = directory();
    for (name, text, expected) in [
        ("empty.csv", "", "empty.csv: line 1: the file is empty"),
        ("columns.csv", "id,phone,code\n", "columns.csv: line 1: the column `code` is unknown"),
        ("missing.csv", "id,phone,date_joined\n", "missing.csv: line 1: the column `invite_code` is missing"),
    ] {
        let (code, log) = import(directory.path(), None, name, text);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains(expected), "{log}");
    }
    let (code, log) = import(directory.path(), None, "empty.jsonl", "");
    assert_eq!(code, Some(0), "{log}");
    let output = run(directory.path(), &["import", "absent.csv"]);
    assert!(stderr(&output).contains("failed to read absent.csv"), "{}", stderr(&output));
    let output = run(directory.path(), &["import", "."]);
    assert!(stderr(&output).contains(". must be a file"), "{}", stderr(&output));
}

#[test]
fn export_creates_private_files_and_replaces_none_unless_told() {
    let directory = directory();
    let file = directory.path().join("users.csv");
    let output = succeed(directory.path(), &["export", "users.csv"]);
    assert!(stderr(&output).contains("exported 0 users to users.csv"), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
    assert_eq!((mode(&file), fs::read_to_string(&file).expect("readable").as_str()), (0o600, HEADER));
    fs::write(&file, "kept").expect("written");
    let output = run(directory.path(), &["export", "users.csv"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("users.csv exists; remove it, or replace it with --force"));
    assert_eq!(fs::read_to_string(&file).expect("readable"), "kept");
    succeed(directory.path(), &["export", "users.csv", "--force"]);
    assert_eq!(fs::read_to_string(&file).expect("readable"), HEADER);
    succeed(directory.path(), &["export", "users.jsonl"]);
    assert_eq!(fs::read(directory.path().join("users.jsonl")).expect("readable"), b"");
    let names =
        fs::read_dir(directory.path()).expect("readable").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["referral-data", "users.csv", "users.jsonl"], "no temporary files");
}

#[tokio::test]
async fn stopped_export_leaves_no_file() {
    let Some(database) = Database::create().await else { return };
    let directory = directory();
    succeed(directory.path(), &at(Some(&database), &["export", "users.csv"]));
    let names = || {
        let entries = fs::read_dir(directory.path()).expect("readable");
        entries.map(|entry| entry.expect("an entry").file_name()).collect::<BTreeSet<_>>()
    };
    let before = names();
    // The export waits for this transaction.
    let options: PgConnectOptions = database.url.parse().expect("the URL of a database");
    let mut connection = options.connect().await.expect("connected");
    connection.execute("BEGIN; LOCK TABLE referral.users IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    for (name, code) in [("-INT", 130), ("-TERM", 143)] {
        let mut exporting = command(directory.path());
        exporting.args(at(Some(&database), &["export", "users.csv", "--force"])).stderr(Stdio::piped());
        let mut exporting = exporting.spawn().expect("started");
        while names() == before {
            assert!(exporting.try_wait().expect("a child").is_none(), "the export waits");
        }
        signal(&exporting, name);
        let output = exporting.wait_with_output().expect("ended");
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert_eq!(names(), before);
    }
    assert_eq!(fs::read_to_string(directory.path().join("users.csv")).expect("readable"), HEADER);
}

/// Returns rows of users, each invited by the next one, so that inviters follow in later batches.
fn chain(users: u32) -> String {
    let mut text = "id,phone,invite_code,invited_by_code,date_joined\n".to_owned();
    for number in 0..users {
        let code = |number: u32| format!("B{number:06}");
        let inviter = if number + 1 == users { String::new() } else { code(number + 1) };
        let _ = writeln!(
            text,
            "0187efff-0000-7000-8000-{number:012},+7960{number:07},{},{inviter},2023-05-06T07:08:09Z",
            code(number)
        );
    }
    text
}

#[tokio::test]
async fn stopped_import_is_continued_beside_a_running_server() {
    let directory = directory();
    let program = Program::start(directory.path(), &[]);
    let users = 2_300;
    fs::write(directory.path().join("users.csv"), chain(users)).expect("written");
    let mut importing = command(directory.path());
    importing.args(["import", "users.csv"]).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut importing = importing.spawn().expect("started");
    // A child that ends between the two calls keeps its id until `wait`.
    while importing.try_wait().expect("a child").is_none() {
        if export(directory.path(), None, "jsonl").contains("+7960") {
            signal(&importing, "-INT");
            break;
        }
    }
    let output = importing.wait_with_output().expect("ended");
    // A fast import ends before the signal.
    match output.status.code() {
        Some(130) => assert!(stderr(&output).contains("repeat it to continue"), "{}", stderr(&output)),
        code => assert_eq!(code, Some(0), "{}", stderr(&output)),
    }
    // The server writes while the rest is imported.
    let importing = command(directory.path()).args(["import", "users.csv"]).stderr(Stdio::piped()).spawn();
    let importing = importing.expect("started");
    for phone in [ANNA, BORIS, VERA] {
        program.client.enter(phone, None).await;
    }
    let output = importing.wait_with_output().expect("ended");
    assert!(output.status.success(), "{}", stderr(&output));
    let exported = export(directory.path(), None, "csv");
    let invited = exported.lines().filter(|line| line.contains(",import,")).count();
    assert_eq!((exported.lines().count(), invited), (users as usize + 4, users as usize - 1));
    let (code, log) = import(directory.path(), None, "users.csv", &chain(users));
    assert_eq!(code, Some(0), "{log}");
    let unchanged = format!("0 added, {users} unchanged, 0 rejected; 0 invitations added; 0 warnings");
    assert!(log.contains(&unchanged), "{log}");
}
