//! Tests of test numbers, which sign in with a fixed code.

use serde_json::json;

use crate::{
    program::{Program, directory, run_with},
    service::{ANNA, BORIS},
};

#[tokio::test]
async fn a_test_number_signs_in_with_its_code_and_a_warning_is_logged() {
    let directory = directory();
    let list = format!("{ANNA}=47110815@2099-12-31,{BORIS}=08154711@2020-12-31");
    let environment = [("REFERRAL_TEST_NUMBERS", &*list)];
    let arguments = [
        "--policy",
        "standard",
        "--return-codes-to-anyone",
        "--log",
        "trace",
        "--metrics-listen",
        "127.0.0.1:0",
    ];
    let program = Program::start_with(directory.path(), &arguments, &environment);
    assert!(program.greeting.iter().any(|line| line.contains("Test numbers 1, until 2099-12-31")));

    for created in [true, false] {
        let sent = program.client.post("/auth/send_code/", &json!({ "phone": ANNA })).await.ok();
        let fields = ["code_length", "resend_in", "code"].map(|field| &sent[field]);
        assert_eq!(
            fields,
            [&json!(8), &json!(0), &json!(null)],
            "the response must not reveal the code, and there is no resend interval"
        );
        let body = json!({ "phone": ANNA, "code": "47110815", "challenge_id": sent["challenge_id"] });
        assert_eq!(program.client.post("/auth/jwt/get_by_phone/", &body).await.ok()["created"], created);
    }
    // The other test number has expired.
    program.client.enter(BORIS, None).await;
    let wrong = json!({ "phone": BORIS, "code": "08154711" });
    program.client.post("/auth/jwt/get_by_phone/", &wrong).await.assert_problem(403, "invalid_code");

    let page = program.metrics().await;
    for metric in ["referral_test_codes_total 2", "referral_codes_sent_total 1"] {
        assert!(page.lines().any(|line| line == metric), "{metric}: {page}");
    }
    let log = program.stop();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
    let warns = |text| warnings.iter().any(|line| line.contains(text));
    assert!(warns("signs in with a fixed code") && warns("has expired"), "{warnings:?}");
    for secret in ["47110815", "08154711", "9608543017", "7011234567"] {
        assert!(!log.contains(secret), "the log contains {secret}");
    }
}

#[test]
fn a_test_number_cannot_become_staff_and_its_code_is_not_printed() {
    let directory = directory();
    let list = format!("{ANNA}=47110815@2099-12-31");
    let environment = [("REFERRAL_TEST_NUMBERS", &*list)];
    let output = run_with(directory.path(), &["create-superuser", "--phone", ANNA], &environment);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("Remove the phone from the test numbers"), "{error}");
    let output = run_with(directory.path(), &["create-superuser", "--phone", BORIS], &environment);
    assert!(output.status.success());

    let broken = [("REFERRAL_TEST_NUMBERS", "+79608543017=4711081S@2099-12-31")];
    for (arguments, environment) in [(&["--help"][..], &environment), (&["serve"], &broken)] {
        let output = run_with(directory.path(), arguments, environment);
        for text in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(text).replace("+79608543017=47110815@2026-12-31", "");
            assert!(!text.contains("4711081"), "{text}");
        }
    }
}
