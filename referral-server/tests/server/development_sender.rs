//! Tests of the program with the development sender: rejected settings, and the hosts that it serves.

use serde_json::json;

use crate::{
    program::{Program, directory, run_with},
    service::ANNA,
};

#[test]
fn the_development_sender_rejects_production_settings_and_names_all_of_them() {
    let directory = directory();
    // The settings of docs/operations.md behind nginx, and an empty path of the gateways.
    let environment = [
        ("REFERRAL_LISTEN", "0.0.0.0:0"),
        ("REFERRAL_DATABASE_URL", "postgres://referral:hunter2@127.0.0.1:1/referral"),
        ("REFERRAL_PUBLIC_URL", "https://api.example.com"),
        ("REFERRAL_TRUSTED_PROXIES", "127.0.0.1"),
        ("REFERRAL_CLIENT_ADDRESS_HEADER", "X-Forwarded-For"),
        ("REFERRAL_POLICY", "standard"),
        ("REFERRAL_SMS_CONFIG", ""),
    ];
    let output = run_with(directory.path(), &[], &environment);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !error.contains("hunter2"), "{error}");
    for named in [
        "--listen",
        "--database-url",
        "--public-url",
        "--trusted-proxies",
        "--client-address-header",
        "--policy",
        "--sms-config",
        "--return-codes-to-anyone",
    ] {
        assert!(error.contains(named), "{named}: {error}");
    }
    assert_eq!(
        std::fs::read_dir(directory.path()).expect("a directory").count(),
        0,
        "no file must be created"
    );
}

#[tokio::test]
async fn the_development_sender_serves_only_hosts_of_this_machine() {
    let directory = directory();
    let program = Program::start(directory.path(), &[]);
    let port = program.client.address.port();
    let send_code = async |program: &Program, host: &str| {
        let request = program.client.request(reqwest::Method::POST, "/auth/send_code/");
        program.client.send(request.json(&json!({ "phone": ANNA })).header("host", host)).await
    };
    for host in [format!("localhost:{port}"), "app.localhost".into(), "127.1.2.3".into(), "[::1]:80".into()] {
        send_code(&program, &host).await.ok();
    }
    for host in ["rebound.example.com", "localhost.example.com", "192.168.1.2:8080", "0.0.0.0"] {
        let rejected = send_code(&program, host).await;
        rejected.assert_problem(421, "misdirected_request");
        assert!(rejected.body.get("code").is_some_and(|code| code == "misdirected_request"));
    }
    // All pages, not only the API.
    for path in ["/", "/docs/", "/.well-known/jwks.json", "/nowhere"] {
        let url = format!("http://{}{path}", program.client.address);
        let response = program.client.http.get(url).header("host", "example.com").send().await;
        assert_eq!(response.expect("a response").status(), 421, "{path}");
    }
    drop(program);
    let program = Program::start(directory.path(), &["--return-codes-to-anyone"]);
    send_code(&program, "api.example.com").await.ok();
}

#[tokio::test]
async fn the_authority_of_http2_is_the_host() {
    let directory = directory();
    let program = Program::start(directory.path(), &[]);
    let address = program.client.address;
    let http = reqwest::Client::builder()
        .http2_prior_knowledge()
        .no_proxy()
        .resolve("rebound.example.com", address)
        .resolve("app.localhost", address);
    let http = http.build().expect("a client");
    for (host, status) in [("rebound.example.com", 421), ("app.localhost", 200)] {
        let url = format!("http://{host}:{}/health/live", address.port());
        let response = http.get(url).send().await.expect("a response");
        assert_eq!(response.version(), reqwest::Version::HTTP_2);
        assert_eq!(response.status(), status, "{host}");
    }
}

#[tokio::test]
async fn a_large_body_for_another_host_is_dropped_and_the_client_gets_the_rejection() {
    let directory = directory();
    let program = Program::start(directory.path(), &[]);
    let request = program.client.request(reqwest::Method::POST, "/auth/send_code/");
    let request = request.header("host", "example.com").header("content-type", "application/json");
    let rejected = program.client.send(request.body(vec![b' '; 4 * 1024 * 1024])).await;
    rejected.assert_problem(421, "misdirected_request");
}
