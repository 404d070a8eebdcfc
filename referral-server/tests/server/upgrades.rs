//! Tests of upgrades: separate migrations, and processes with different settings.

use crate::program::{Program, run};

fn error_of(arguments: &[&str], directory: &std::path::Path) -> String {
    let output = run(directory, arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[tokio::test]
async fn migrations_can_run_separately_from_the_servers() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let error = error_of(&["--migrate=false"], directory.path());
    assert!(error.contains("migration 1 of referral_migrations is missing"), "{error}");
    assert!(error.contains("run: referral-server migrate"), "{error}");

    for _ in 0..2 {
        let output = run(directory.path(), &["migrate"]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout, b"the schema of the database is up to date\n");
    }
    let data = directory.path().join("referral-data");
    assert!(
        !data.join("keys.json").exists() && !data.join("peppers.json").exists(),
        "only the database must be created"
    );
    let program = Program::start(directory.path(), &["--migrate=false"]);
    let ready = program.client.http.get(program.client.url("/health/ready"));
    program.client.send(ready).await.ok();
}

#[test]
fn a_pooler_cannot_migrate_and_the_error_names_the_flag_for_the_direct_url() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = "postgres://user:hunter2@127.0.0.1:1/name";
    let error = error_of(&["migrate", "--database-url", url, "--database-pooler"], directory.path());
    assert!(error.contains("--database-migration-url") && !error.contains("hunter2"), "{error}");
    assert!(!directory.path().join("referral-data").exists());
}

#[tokio::test]
async fn a_process_with_different_settings_logs_a_warning() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let different = "different settings";
    let log = Program::start(directory.path(), &["--issuer", "one", "--code-length", "5"]).stop();
    assert!(!log.contains(different), "{log}");
    let log = Program::start(directory.path(), &["--issuer", "two", "--code-length", "5"]).stop();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains(different)).collect();
    let [warning] = warnings[..] else { panic!("{log}") };
    for part in ["issuer", "here=two", "elsewhere=one"] {
        assert!(warning.contains(part), "{warning}");
    }
    let log = Program::start(directory.path(), &["--issuer", "two", "--code-length", "5"]).stop();
    assert!(!log.contains(different), "{log}");
}
