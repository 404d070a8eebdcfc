//! Tests of settings: flags, environment variables, and invalid values.

use crate::{
    program::{Program, command, directory, finish, run, run_with},
    service::ANNA,
};

#[test]
fn settings_are_also_read_from_the_environment() {
    let directory = directory();
    let output = finish(command(directory.path()).env("REFERRAL_LISTEN", "0.0.0.0:0"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("0.0.0.0:0"));
}

#[test]
fn unknown_variables_are_an_error_of_every_command() {
    let directory = directory();
    for command in [&[][..], &["openapi"], &["keys", "list"], &["create-superuser", "--phone", ANNA]] {
        let output = run_with(directory.path(), command, &[("REFERRAL_SMS_CONFG", "hunter2")]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{command:?}");
        assert!(error.contains("REFERRAL_SMS_CONFG (did you mean REFERRAL_SMS_CONFIG?)"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    assert_eq!(
        std::fs::read_dir(directory.path()).expect("a directory").count(),
        0,
        "no file must be created"
    );

    // Variables that Kubernetes sets for the services of a namespace are ignored, and so are empty variables.
    let environment = [
        ("REFERRAL_SERVICE_HOST", "10.0.0.1"),
        ("REFERRAL_SERVICE_PORT_HTTP", "8080"),
        ("REFERRAL_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("REFERRAL_SERVER_SERVICE_HOST", "10.0.0.1"),
        ("REFERRAL_SERVER_PORT", "tcp://10.0.0.1:8080"),
        ("REFERRAL_SMS_CONFG", ""),
    ];
    let output =
        command(directory.path()).arg("openapi").envs(environment).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn an_empty_variable_of_any_flag_counts_as_unset() {
    let directory = directory();
    let help = command(directory.path())
        .env_remove("REFERRAL_LISTEN")
        .arg("--help")
        .output()
        .expect("the program runs")
        .stdout;
    let help = String::from_utf8_lossy(&help);
    let name = |text: &str| text.split([']', '=']).next().map(str::to_owned);
    let variables: Vec<String> = help.split("[env: ").skip(1).filter_map(name).collect();
    assert!(variables.len() > 40 && variables.contains(&"REFERRAL_ISSUER".into()), "{variables:?}");
    for variable in &variables {
        let output =
            command(directory.path()).arg("openapi").env(variable, "").output().expect("the program runs");
        assert!(output.status.success(), "{variable}: {}", String::from_utf8_lossy(&output.stderr));
    }

    let all: Vec<_> = variables.iter().map(|variable| (&**variable, "")).collect();
    let with_empty = command(directory.path()).arg("--help").envs(all.iter().copied()).output();
    let with_empty = with_empty.expect("the program runs").stdout;
    assert_eq!(String::from_utf8_lossy(&with_empty), help, "the help must still list the variables");
    let default = Program::start(directory.path(), &[]);
    let program = Program::start_with(directory.path(), &[], &all);
    assert_eq!(program.greeting[4..], default.greeting[4..]);
    for client in [&default.client, &program.client] {
        let access = client.enter(ANNA, None).await.access;
        let claims = access.split('.').nth(1).expect("claims");
        let claims =
            base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, claims).expect("Base64");
        let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
        assert_eq!([&claims["iss"], &claims["aud"]], ["referral", "referral"]);
    }
}

#[test]
fn invalid_settings_are_rejected_with_a_message() {
    let directory = directory();
    let exposed = directory.path().join("exposed.json");
    std::fs::write(&exposed, "{}").expect("written");
    #[cfg(unix)]
    {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&exposed, open).expect("set");
    }
    for (arguments, sentence) in [
        (&["--key-file", "exposed.json"][..], "chmod 600"),
        (&["--pepper-file", "absent.json"], "there is no file absent.json"),
        (&["--code-length", "3"], "from 4 to 10"),
        (&["--refresh-lifetime", "1m"], "--refresh-lifetime"),
        (&["--default-region", "XX"], "ISO region code"),
        (&["--database-url", "mysql://localhost"], "mysql"),
        (&["--database-connections", "20"], "--database-connections (REFERRAL_DATABASE_CONNECTIONS) cannot"),
        (
            &["keys", "list", "--database-pooler"],
            "--database-pooler (REFERRAL_DATABASE_POOLER) cannot be used",
        ),
        (&["--log", "x=y=z"], "--log"),
        (&["--log", "inof"], "`inof` is not a level; use one of off, error, warn, info, debug, trace"),
        (&["--listen", "nowhere"], "--listen"),
        (&["--public-url", "example.com"], "--public-url"),
        (&["--cors-origins", "app.example.com"], "such as https://app.example.com"),
        (&["--trusted-proxies", "proxy"], "such as 10.0.0.0/8"),
        (&["--trusted-proxies", "10.0.0.0/8"], "add --client-address-header"),
        (&["--client-address-header", "X-Real-IP"], "add --trusted-proxies"),
        (&["--max-connections", "0"], "--max-connections"),
        (&["--idle-timeout", "1ms"], "100ms"),
        (&["--test-numbers", "+79608543017=4711@31.12.2099"], "entry 1: Give the last day"),
        (&["--test-numbers", "+79608543017=4711@2099-12-31", "--code-length", "6"], "as many digits"),
        (&["--unknown"], "--unknown"),
    ] {
        let output = run(directory.path(), arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(sentence), "{arguments:?}: {error}");
    }
}
