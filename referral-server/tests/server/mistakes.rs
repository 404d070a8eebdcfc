//! Start-up errors: each mistake in the configuration is reported in one line that names the flag and the
//! correction, and no file is written.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
};

use crate::program::{directory, run_with};

/// The page with the section about these errors.
const DOCS: &str = include_str!("../../../docs/operations.md");

/// Value that must not be in an error.
const SECRET: &str = "hunter2";

const SIGNING: &str =
    r#"{"keys":[{"kty":"oct","use":"sig","kid":"a","k":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"}]}"#;
const PEPPERS: &str =
    r#"{"keys":[{"kty":"oct","use":"pepper","kid":"a","k":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"}]}"#;
const NO_PURPOSE: &str =
    r#"{"keys":[{"kty":"oct","kid":"a","k":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"}]}"#;

const GATEWAY: &str = "[gateways.a]\npreset = \"twilio\"\nsettings.account_sid = \"AC1\"\nsettings.auth_token = \
                       \"hunter2\"\nsettings.from = \"+15005550006\"\n";

/// Arguments separated by spaces, and the texts that the error must contain.
type Case = (&'static str, &'static [&'static str]);

/// An existing file with its content and mode, and a case.
type FileCase<'a> = (&'a str, &'a [u8], u32, Case);

/// Runs the program with the mistake, and returns its error.
#[track_caller]
fn rejected(directory: &Path, arguments: &[&str], environment: &[(&str, &str)], expected: &[&str]) -> String {
    let before = files(directory);
    let output = run_with(directory, arguments, environment);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let context = format!("{arguments:?} {environment:?}: {error}");
    assert!(!output.status.success() && output.status.code().is_some(), "exit code: {context}");
    assert!(output.stdout.is_empty(), "standard output is not empty: {context}");
    assert_eq!(error.lines().count(), 1, "the error is not one line: {context}");
    assert!(error.starts_with("referral-server: "), "{context}");
    for part in expected {
        assert!(error.contains(part), "{part}: {context}");
    }
    assert!(!error.contains(SECRET), "the error contains a secret: {context}");
    assert_eq!(files(directory), before, "the directory has changed: {context}");
    error
}

/// Returns all files and directories below a directory.
fn files(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        found.insert(path.display().to_string());
        if path.is_dir() {
            found.extend(files(&path));
        }
    }
    found
}

/// Flags with invalid values.
const VALUES: &[Case] = &[
    // Addresses.
    ("--listen nowhere", &["--listen (REFERRAL_LISTEN)", "\"nowhere\"", "such as 127.0.0.1:8080"]),
    ("--listen localhost:8080", &["--listen (", "give an IP address and a port"]),
    ("--listen 8080", &["--listen (", "give an IP address and a port"]),
    ("--listen 127.0.0.1", &["--listen (", "give an IP address and a port"]),
    ("--listen 127.0.0.1:99999", &["--listen (", "give an IP address and a port"]),
    ("--listen=", &["--listen (", "give an IP address and a port"]),
    (
        "--listen 192.0.2.1:8080 --return-codes-to-anyone",
        &["--listen (", "192.0.2.1:8080", "address of this host"],
    ),
    ("--listen 0.0.0.0:0", &["--listen 0.0.0.0:0 is not a loopback address", "--return-codes-to-anyone"]),
    (
        "--metrics-listen 9090",
        &["--metrics-listen (REFERRAL_METRICS_LISTEN)", "give an IP address and a port"],
    ),
    ("--public-url example.com", &["--public-url (REFERRAL_PUBLIC_URL)", "give scheme, host"]),
    ("--public-url https://a.example//path", &["--public-url (", "//path", "give scheme, host"]),
    ("--public-url https://a.example?x=1", &["--public-url (", "give scheme, host"]),
    ("--public-url ftp://a.example", &["--public-url (", "give scheme, host"]),
    (
        "--cors-origins https://a.example/path",
        &["--cors-origins (REFERRAL_CORS_ORIGINS)", "/path", "give scheme"],
    ),
    ("--cors-origins app.example.com", &["--cors-origins (", "such as https://app.example.com"]),
    ("--cors-origins https://a.example,*", &["--cors-origins (", "`*` alone"]),
    ("--cors-origins https://a.example,", &["--cors-origins (", "such as https://app.example.com"]),
    ("--trusted-proxies proxy", &["--trusted-proxies (REFERRAL_TRUSTED_PROXIES)", "such as 10.0.0.0/8"]),
    ("--trusted-proxies 10.0.0.0/33", &["--trusted-proxies (", "10.0.0.0/33", "such as 10.0.0.0/8"]),
    ("--trusted-proxies 0.0.0.0/0", &["--trusted-proxies", "add --client-address-header"]),
    ("--client-address-header X-Real-IP", &["--client-address-header", "add --trusted-proxies"]),
    ("--client-address-header X:Y", &["--client-address-header (", "the name of one header"]),
    // Times.
    (
        "--request-timeout 5",
        &["--request-timeout (REFERRAL_REQUEST_TIMEOUT)", "\"5\"", "a number with a unit, such as 500ms"],
    ),
    ("--header-timeout 5x", &["--header-timeout (REFERRAL_HEADER_TIMEOUT)", "a number with a unit"]),
    ("--idle-timeout 1ms", &["--idle-timeout (REFERRAL_IDLE_TIMEOUT)", "give 100ms to 1d"]),
    (
        "--shutdown-timeout=-5s",
        &["--shutdown-timeout (REFERRAL_SHUTDOWN_TIMEOUT)", "\"-5s\"", "a number with a unit"],
    ),
    ("--drain-delay 25h", &["--drain-delay (REFERRAL_DRAIN_DELAY)", "give 0s to 1d"]),
    ("--search-timeout 0s", &["--search-timeout (REFERRAL_SEARCH_TIMEOUT)", "give 100ms to 1d"]),
    ("--code-lifetime 1h", &["--code-lifetime (REFERRAL_CODE_LIFETIME)", "1 to 10 minutes"]),
    ("--code-lifetime 5", &["--code-lifetime (", "a number with a unit"]),
    ("--resend-interval 2d", &["--resend-interval (REFERRAL_RESEND_INTERVAL)", "1 day or less"]),
    ("--access-lifetime 2d", &["--access-lifetime (REFERRAL_ACCESS_LIFETIME)", "1 second to 1 day"]),
    ("--access-lifetime 0s", &["--access-lifetime (", "1 second to 1 day"]),
    ("--access-lifetime 1500ms", &["--access-lifetime (", "whole seconds"]),
    (
        "--refresh-lifetime 1m",
        &["--refresh-lifetime (REFERRAL_REFRESH_LIFETIME)", "shorter than --access-lifetime ("],
    ),
    (
        "--session-lifetime 1d",
        &["--session-lifetime (REFERRAL_SESSION_LIFETIME)", "shorter than --refresh-lifetime ("],
    ),
    ("--refresh-grace 1h", &["--refresh-grace (REFERRAL_REFRESH_GRACE)", "10 minutes or less"]),
    ("--deletion-grace 91d", &["--deletion-grace (REFERRAL_DELETION_GRACE)", "90 days or less"]),
    ("--deletion-grace 30", &["--deletion-grace (", "a number with a unit"]),
    (
        "--failed-attempt-window 1h",
        &["--failed-attempt-window (REFERRAL_FAILED_ATTEMPT_WINDOW)", "1 to 366 days"],
    ),
    ("--max-clock-offset 5", &["--max-clock-offset (REFERRAL_MAX_CLOCK_OFFSET)", "5s, or off"]),
    ("--max-clock-offset 1h", &["--max-clock-offset (", "1 second to 5 minutes"]),
    // Numbers.
    ("--max-connections 0", &["--max-connections (REFERRAL_MAX_CONNECTIONS)", "from 1 to 1000000"]),
    ("--max-connections many", &["--max-connections (", "\"many\"", "a whole number"]),
    ("--max-requests -5", &["--max-requests (REFERRAL_MAX_REQUESTS)", "\"-5\"", "a whole number"]),
    ("--max-requests 99999999999999999999", &["--max-requests (", "a whole number"]),
    ("--code-length 3", &["--code-length (REFERRAL_CODE_LENGTH)", "from 4 to 10"]),
    ("--code-length 256", &["--code-length (", "from 4 to 10"]),
    ("--attack-code-length 11", &["--attack-code-length (REFERRAL_ATTACK_CODE_LENGTH)", "from 4 to 10"]),
    ("--attempts-per-code 0", &["--attempts-per-code (REFERRAL_ATTEMPTS_PER_CODE)", "from 1 to 10"]),
    ("--lockout-threshold x", &["--lockout-threshold (REFERRAL_LOCKOUT_THRESHOLD)", "a number, or off"]),
    ("--lockout-threshold 0", &["--lockout-threshold (", "1 wrong code or more"]),
    ("--attack-threshold x", &["--attack-threshold (REFERRAL_ATTACK_THRESHOLD)", "a number, or off"]),
    (
        "--messages-per-day lots",
        &["--messages-per-day (REFERRAL_MESSAGES_PER_DAY)", "a number, or unlimited"],
    ),
    ("--messages-per-day -5", &["--messages-per-day (", "\"-5\"", "a number, or unlimited"]),
    ("--messages-per-day 0", &["--messages-per-day (", "1 or more"]),
    // Lists.
    ("--codes-per-phone 3", &["--codes-per-phone (REFERRAL_CODES_PER_PHONE)", "such as 3/15m,5/1h"]),
    ("--codes-per-phone 0/1h", &["--codes-per-phone (", "1 to 1000 in 1 second to 31 days"]),
    ("--codes-per-address 5/100d", &["--codes-per-address (REFERRAL_CODES_PER_ADDRESS)", "31 days"]),
    (
        "--codes-per-number-range 10/1",
        &["--codes-per-number-range (REFERRAL_CODES_PER_NUMBER_RANGE)", "such as 3/15m,5/1h"],
    ),
    (
        "--failed-attempts-per-address 5000/1h",
        &["--failed-attempts-per-address (REFERRAL_FAILED_ATTEMPTS_PER_ADDRESS)", "1 to 1000"],
    ),
    ("--email-changes x", &["--email-changes (REFERRAL_EMAIL_CHANGES)", "such as 3/15m,5/1h"]),
    (
        "--unknown-invite-codes x",
        &["--unknown-invite-codes (REFERRAL_UNKNOWN_INVITE_CODES)", "such as 3/15m,5/1h"],
    ),
    ("--code-length-steps 5-6", &["--code-length-steps (REFERRAL_CODE_LENGTH_STEPS)", "such as 5:6,30:8"]),
    ("--code-length-steps 30:8,5:6", &["--code-length-steps (", "more digits for more wrong codes"]),
    ("--regions RU,XX", &["--regions (REFERRAL_REGIONS)", "ISO region code"]),
    ("--regions FR,MF", &["--regions (REFERRAL_REGIONS)", "region MF", "use GP"]),
    (
        "--additional-prefixes +49",
        &["--additional-prefixes (REFERRAL_ADDITIONAL_PREFIXES)", "4 to 14 digits"],
    ),
    ("--default-region XX", &["--default-region (REFERRAL_DEFAULT_REGION)", "ISO region code"]),
    ("--test-numbers x", &["--test-numbers (REFERRAL_TEST_NUMBERS), entry 1", "PHONE=CODE@DATE"]),
    (
        "--test-numbers +79608543017=4711@2099-12-31 --code-length 6",
        &["--test-numbers (", "as many digits as --code-length ("],
    ),
    // Choices.
    (
        "--policy strct",
        &["--policy (REFERRAL_POLICY)", "\"strct\"", "give standard or strict or development"],
    ),
    ("--policy strict --return-codes-to-anyone", &["--regions (REFERRAL_REGIONS) must be set"]),
    ("--policy standard", &["--policy standard is not for development", "--sms-config"]),
    ("--visibility none", &["--visibility (REFERRAL_VISIBILITY)", "give full or masked or staff"]),
    ("--log-format xml", &["--log-format (REFERRAL_LOG_FORMAT)", "give text or json"]),
    (
        "--log inof",
        &["--log (REFERRAL_LOG)", "`inof` is not a level", "off, error, warn, info, debug, trace"],
    ),
    ("--log sqlx=debg", &["--log (", "`sqlx=debg`", "off, error, warn, info, debug, trace"]),
    ("--log=", &["--log (", "name a level"]),
    ("--require-challenge=maybe", &["--require-challenge (REFERRAL_REQUIRE_CHALLENGE)", "true or false"]),
    ("--return-codes-to-anyone yes", &["'yes'", "--require-challenge=false"]),
    // Names.
    ("--issuer=", &["--issuer (REFERRAL_ISSUER)", "give a value"]),
    ("--issuer a --audience a:refresh", &["--issuer (", "--audience (REFERRAL_AUDIENCE)", "`:refresh`"]),
    ("--max-connection 5", &["--max-connection", "--max-connections (REFERRAL_MAX_CONNECTIONS)", "--help"]),
    ("--unknown", &["--unknown", "`referral-server --help`"]),
    ("srve", &["'srve'", "'serve'", "`referral-server --help`"]),
    ("--listen", &["--listen (REFERRAL_LISTEN)", "give an IP address and a port"]),
    ("--listen 127.0.0.1:0 --listen 127.0.0.1:0", &["--listen (", "multiple times"]),
    ("create-superuser", &["--phone"]),
    ("create-superuser --phone 12", &["--phone", "international form"]),
    ("keys rotate", &["there is no file ./referral-data/keys.json", "keys generate"]),
    ("keys rotate --step x", &["--step", "add or use or drop"]),
    ("keys generate --print", &["--purpose"]),
    // Databases.
    ("--database-url referral.db", &["--database-url (REFERRAL_DATABASE_URL)", "`sqlite:referral.db`"]),
    ("--database-url mysql://a:hunter2@localhost/x", &["--database-url (", "mysql", "`sqlite:referral.db`"]),
    ("--database-url sqlite:absent/x.db", &["--database-url (", "directory exists"]),
    ("--database-url postgres://a:hunter2@127.0.0.1/x", &["--database-url is PostgreSQL", "--sms-config"]),
    (
        "--database-url postgres://a:hunter2@127.0.0.1:1/x --return-codes-to-anyone",
        &["--database-url (", "cannot be reached"],
    ),
    (
        "--database-url postgres://a:hunter2@127.0.0.1:x/x --return-codes-to-anyone",
        &["--database-url (", "cannot be parsed"],
    ),
    (
        "--database-connections 0",
        &["--database-connections (REFERRAL_DATABASE_CONNECTIONS)", "from 1 to 10000"],
    ),
    (
        "--database-connections 5",
        &["--database-connections (", "cannot be used", "--database-url (REFERRAL_DATABASE_URL)"],
    ),
    (
        "--database-pooler --database-url sqlite:x.db",
        &["--database-pooler (", "cannot be used", "not PostgreSQL"],
    ),
    // Files and directories that do not exist or cannot be created.
    ("--data-dir /proc/referral", &["--data-dir (REFERRAL_DATA_DIR)", "/proc/referral", "name a directory"]),
    (
        "--key-file absent.json",
        &["--key-file (REFERRAL_KEY_FILE)", "absent.json", "keys generate --purpose signing"],
    ),
    (
        "--pepper-file absent.json",
        &["--pepper-file (REFERRAL_PEPPER_FILE)", "keys generate --purpose pepper"],
    ),
    ("--sms-config absent.toml", &["--sms-config (REFERRAL_SMS_CONFIG)", "absent.toml"]),
    ("--key-file a.json --keys x", &["--key-file (", "cannot be used with", "--keys (REFERRAL_KEYS)"]),
    ("sms test +79608543017", &["--sms-config sms.toml"]),
];

/// Invalid files.
const FILES: &[FileCase] = &[
    ("k.json", b"", 0o600, ("--key-file k.json", &["--key-file (", "k.json", "it is empty"])),
    ("k.json", b"", 0o600, ("--pepper-file k.json", &["--pepper-file (", "k.json", "it is empty"])),
    ("k.json", b"{\"keys\":[{\"kty\":", 0o600, ("--key-file k.json", &["--key-file (", "EOF while parsing"])),
    (
        "k.json",
        b"\xef\xbb\xbf{\"keys\":[]}",
        0o600,
        ("--key-file k.json", &["--key-file (", "byte order mark"]),
    ),
    ("k.json", b"\xff\xfe{\0", 0o600, ("--key-file k.json", &["--key-file (", "UTF-8"])),
    ("k.json", b"{\"keys\":[]}", 0o600, ("--key-file k.json", &["--key-file (", "has no key"])),
    (
        "k.json",
        b"{\"keys\":\"hunter2\"}",
        0o600,
        ("--key-file k.json", &["--key-file (", "expected a sequence"]),
    ),
    ("k.json", b"\"hunter2\"", 0o600, ("--key-file k.json", &["--key-file (", "the member `keys`"])),
    (
        "k.json",
        b"-----BEGIN PRIVATE KEY-----",
        0o600,
        ("--key-file k.json", &["--key-file (", "JSON Web Key Set"]),
    ),
    ("k.json", PEPPERS.as_bytes(), 0o600, ("--key-file k.json", &["--key-file (", "is not a signing key"])),
    ("k.json", SIGNING.as_bytes(), 0o600, ("--pepper-file k.json", &["--pepper-file (", "is not a pepper"])),
    ("k.json", NO_PURPOSE.as_bytes(), 0o600, ("--key-file k.json", &["add the member \"use\": \"sig\""])),
    (
        "k.json",
        NO_PURPOSE.as_bytes(),
        0o600,
        ("--pepper-file k.json", &["add the member \"use\": \"pepper\""]),
    ),
    ("k.json", SIGNING.as_bytes(), 0o644, ("--key-file k.json", &["--key-file (", "chmod 600 k.json"])),
    ("k.json", SIGNING.as_bytes(), 0o600, ("--data-dir k.json", &["--data-dir (", "it is not a directory"])),
    ("x.db", &[b'x'; 4096], 0o600, ("--database-url sqlite:x.db", &["--database-url (", "not a database"])),
    ("x.db", b"", 0o644, ("--database-url sqlite:x.db", &["--database-url (", "chmod 600 x.db"])),
    ("s.toml", b"", 0o600, ("--sms-config s.toml", &["--sms-config (", "there is no gateway"])),
    ("s.toml", b"\xff\xfe", 0o600, ("--sms-config s.toml", &["--sms-config (", "UTF-8"])),
    ("s.toml", b"[gateways.a\n", 0o600, ("--sms-config s.toml", &["--sms-config (", "s.toml, line 1"])),
    ("s.toml", b"rules = 1\n", 0o600, ("--sms-config s.toml", &["s.toml, line 1", "unknown field `rules`"])),
    (
        "s.toml",
        b"[gateways.a]\npreset = \"twillio\"\n",
        0o600,
        ("--sms-config s.toml", &["gateways.a", "unknown preset `twillio`", "twilio"]),
    ),
    (
        "s.toml",
        b"[gateways.a]\npreset = \"twilio\"\nsettings.auth_token = { env = \"ABSENT\" }\n",
        0o600,
        ("--sms-config s.toml", &["--sms-config (", "gateways.a", "ABSENT is not set"]),
    ),
];

/// Environment variables with invalid names or values.
const VARIABLES: &[(&str, &str, &[&str])] = &[
    ("REFERRAL_LISTEN", "nowhere", &["--listen (REFERRAL_LISTEN)", "give an IP address and a port"]),
    ("REFERRAL_MAX_CONNECTIONS", "-5", &["--max-connections (REFERRAL_MAX_CONNECTIONS)", "a whole number"]),
    (
        "REFERRAL_REQUEST_TIMEOUT",
        "5",
        &["--request-timeout (REFERRAL_REQUEST_TIMEOUT)", "a number with a unit"],
    ),
    ("REFERRAL_REQUIRE_CHALLENGE", "maybe", &["(REFERRAL_REQUIRE_CHALLENGE)", "true or false"]),
    ("REFERRAL_LSITEN", "127.0.0.1:0", &["REFERRAL_LSITEN (did you mean REFERRAL_LISTEN?)", "--help"]),
    ("REFERRAL_KEYS", "hunter2", &["--keys (REFERRAL_KEYS)", "not a JSON Web Key Set"]),
    ("REFERRAL_KEYS", "\"hunter2\"", &["--keys (REFERRAL_KEYS)", "the member `keys`"]),
    ("REFERRAL_KEYS", PEPPERS, &["--keys (REFERRAL_KEYS)", "is not a signing key"]),
    ("REFERRAL_PEPPERS", SIGNING, &["--peppers (REFERRAL_PEPPERS)", "is not a pepper"]),
    ("REFERRAL_TEST_NUMBERS", "+79608543017=hunter2@2099-12-31", &["(REFERRAL_TEST_NUMBERS), entry 1"]),
    ("REFERRAL_DATABASE_URL", "hunter2", &["--database-url (REFERRAL_DATABASE_URL)", "`sqlite:referral.db`"]),
];

#[test]
fn each_mistake_is_reported_in_one_line_with_its_flag_and_correction() {
    let mut errors = Vec::new();
    for (arguments, expected) in VALUES {
        let directory = directory();
        let arguments: Vec<_> = arguments.split(' ').collect();
        errors.push(rejected(directory.path(), &arguments, &[], expected));
    }
    for (name, content, mode, (arguments, expected)) in FILES {
        let directory = directory();
        let path = directory.path().join(name);
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).expect("set");
        let arguments: Vec<_> = arguments.split(' ').collect();
        errors.push(rejected(directory.path(), &arguments, &[], expected));
    }
    for (variable, value, expected) in VARIABLES {
        let directory = directory();
        errors.push(rejected(directory.path(), &[], &[(variable, value)], expected));
    }
    errors.extend(directories_and_ports());
    assert_documented(&errors);
}

/// Checks mistakes that involve directories and ports.
fn directories_and_ports() -> Vec<String> {
    let directory = directory();
    let create = |name: &str, mode| {
        fs::DirBuilder::new().mode(mode).create(directory.path().join(name)).expect("created");
    };
    create("open", 0o755);
    create("private", 0o700);
    let open_mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path().join("open"), open_mode).expect("set");
    let gateway = directory.path().join("sms.toml");
    fs::write(gateway, GATEWAY.replace("settings.from", "settings.form")).expect("written");

    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().map(|address| (taken, address.to_string())).expect("an address");
    let rejected =
        |arguments: &[&str], expected: &[&str]| rejected(directory.path(), arguments, &[], expected);
    vec![
        rejected(&["--data-dir", "open"], &["--data-dir (REFERRAL_DATA_DIR)", "chmod 700 open"]),
        rejected(&["--key-file", "private"], &["--key-file (REFERRAL_KEY_FILE)", "Is a directory"]),
        rejected(&["--pepper-file", "private"], &["--pepper-file (REFERRAL_PEPPER_FILE)", "Is a directory"]),
        rejected(&["--sms-config", "private"], &["--sms-config (REFERRAL_SMS_CONFIG)", "Is a directory"]),
        rejected(&["--database-url", "sqlite:private"], &["--database-url (", "Is a directory"]),
        rejected(&["--sms-config", "sms.toml"], &["--sms-config (", "gateways.a", "`from`"]),
        rejected(&["--listen", &taken.1], &["--listen (REFERRAL_LISTEN)", &taken.1, "give another port"]),
        rejected(
            &["--listen", "127.0.0.1:0", "--metrics-listen", &taken.1],
            &["--metrics-listen (REFERRAL_METRICS_LISTEN)", &taken.1, "give another port"],
        ),
        rejected(
            &["--key-file", "private", "--data-dir", "line\nbreak"],
            &["--key-file (REFERRAL_KEY_FILE)", "Is a directory"],
        ),
        rejected(&["--listen", "line\nbreak"], &["--listen (REFERRAL_LISTEN)", "\"line\\nbreak\""]),
    ]
}

/// Asserts that each error in the documentation is one of these errors.
#[track_caller]
fn assert_documented(errors: &[String]) {
    let (_, section) = DOCS.split_once("\n## Start-up errors\n").expect("the section exists");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows: Vec<_> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split("` |").next()).collect();
    assert!(rows.len() > 20, "{rows:?}");
    let is_like = |row: &str, error: &str| {
        let mut rest = error;
        row.split('…').all(|part| match rest.split_once(part) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    };
    let unknown = rows.iter().filter(|row| !errors.iter().any(|error| is_like(row, error)));
    let unknown: Vec<_> = unknown.collect();
    assert!(unknown.is_empty(), "no mistake causes these documented errors: {unknown:#?}");
}
