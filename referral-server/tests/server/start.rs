//! Tests of the start of the program: created files, and warnings about settings.

use crate::{
    program::{PROGRAM, Program, directory, isolated, mode, tied},
    service::{ANNA, BORIS},
};

#[tokio::test]
async fn the_server_is_usable_without_settings() {
    let directory = directory();
    let program = Program::start(directory.path(), &[]);
    assert!(program.greeting[1].contains("/docs/"), "{:?}", program.greeting);
    let warned = program.greeting[4..].join("\n");
    assert!(
        warned.contains("any client can sign in as any user")
            && warned.contains("almost no limits are enforced"),
        "{warned}"
    );

    let anna = program.client.enter(ANNA, None).await;
    let code = program.client.invite_code(&anna).await;
    program.client.enter(BORIS, Some(&code)).await;
    let user = program.client.get("/users/current_user/", &anna.access).await.ok();
    assert_eq!(user["invited"][0]["phone"], BORIS);
    let ready = program.client.http.get(program.client.url("/health/ready"));
    program.client.send(ready).await.ok();

    let data = directory.path().join("referral-data");
    assert_eq!(mode(&data), 0o700);
    for file in ["keys.json", "peppers.json", "referral.db"] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
    program.stop();
}

#[tokio::test]
async fn a_data_directory_may_have_any_name() {
    let directory = directory();
    for name in ["50%41", "what?mode=ro", "имя с пробелом", "#"] {
        let program = Program::start(directory.path(), &["--data-dir", name]);
        program.client.enter(ANNA, None).await;
        let data = directory.path().join(name);
        assert!(data.join("referral.db").exists() && data.join("keys.json").exists(), "{name}");
    }
}

#[tokio::test]
async fn trusting_all_addresses_as_proxies_logs_a_warning() {
    let directory = directory();
    let start = |proxies| {
        let arguments = ["--trusted-proxies", proxies, "--client-address-header", "X-Forwarded-For"];
        Program::start(directory.path(), &[&arguments[..], &["--return-codes-to-anyone"]].concat()).stop()
    };
    let log = start("10.0.0.0/8,0.0.0.0/0,::/0");
    let warnings = log.lines().filter(|line| line.contains("WARN") && line.contains("can forge its address"));
    assert_eq!(warnings.count(), 2, "{log}");
    assert!(!start("10.0.0.0/8,fc00::/7,192.0.2.1").contains("can forge its address"));
}

#[test]
fn a_limit_of_open_files_below_the_number_of_connections_logs_a_warning() {
    let directory = directory();
    let start = |limit: &str, arguments: &[&str]| {
        let mut command = isolated(tied("/bin/sh"), directory.path());
        command.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", limit, PROGRAM, "--listen", "127.0.0.1:0"]);
        command.args(arguments);
        Program::spawn(directory.path(), command).stop()
    };
    let log = start("256", &["--max-connections", "400"]);
    let warning = log.lines().find(|line| line.contains("limit of open files")).expect("a warning");
    for part in
        ["WARN", "is 256,", "--max-connections 400 ", "need 535,", "`ulimit -n 535`", "LimitNOFILE=535"]
    {
        assert!(warning.contains(part), "{part}: {warning}");
    }
    assert!(!start("256", &["--max-connections", "100"]).contains("limit of open files"));
}
