//! Tests with several hosts, which share only a PostgreSQL database.

use std::path::Path;

use serde_json::json;

use crate::{
    keys::{commanded, key_id, public_ids},
    program::{Program, directory, run},
    restarts::survive_a_kill,
    service::{ANNA, BORIS, VERA},
};

#[path = "../../../referral-sqlx/tests/common/server.rs"]
pub(crate) mod server;

/// Flag that permits the development sender with several hosts, for tests only.
pub(crate) const RETURN_CODES: &str = "--return-codes-to-anyone";

fn copy_keys(from: &Path, to: &Path) {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(to.join("referral-data")).expect("a directory");
    for file in ["keys.json", "peppers.json"] {
        let file = Path::new("referral-data").join(file);
        std::fs::copy(from.join(&file), to.join(&file)).expect("copied, with its permissions");
    }
}

#[tokio::test]
async fn two_hosts_accept_tokens_codes_and_cursors_of_each_other() {
    let Some(database) = server::Database::create().await else { return };
    let [first, second] = [directory(), directory()];
    let arguments = ["--database-url", &database.url, RETURN_CODES];
    let here = Program::start(first.path(), &arguments);
    copy_keys(first.path(), second.path());
    let there = Program::start(second.path(), &arguments);

    let sent = here.client.post("/auth/send_code/", &json!({ "phone": ANNA })).await.ok();
    let body = json!({ "phone": ANNA, "code": sent["code"], "challenge_id": sent["challenge_id"] });
    let signed_in = there.client.post("/auth/jwt/get_by_phone/", &body).await.ok();
    here.client.post("/auth/jwt/get_by_phone/", &body).await.assert_problem(403, "invalid_code");
    let access = signed_in["access"].as_str().expect("a token");
    here.client.get("/users/current_user/", access).await.ok();

    let refreshed =
        here.client.post("/auth/jwt/refresh/", &json!({ "refresh": signed_in["refresh"] })).await.ok();
    let again =
        there.client.post("/auth/jwt/refresh/", &json!({ "refresh": signed_in["refresh"] })).await.ok();
    assert_eq!(refreshed["refresh"], again["refresh"], "both hosts must return the same token");

    // A cursor of one host is valid on the other.
    there.client.enter(BORIS, None).await;
    let page = here.client.get("/users/?limit=1", access).await.ok();
    let next = page["next"].as_str().expect("another page").split("/api/v1").nth(1).expect("a path");
    assert_eq!(there.client.get(next, access).await.ok()["results"][0]["phone"], ANNA);
}

#[tokio::test]
async fn two_hosts_rotate_keys_in_three_steps_without_ending_sessions() {
    let Some(database) = server::Database::create().await else { return };
    let [first, second] = [directory(), directory()];
    let arguments = ["--database-url", &database.url, RETURN_CODES];
    let mut here = Program::start(first.path(), &arguments);
    copy_keys(first.path(), second.path());
    let mut there = Program::start(second.path(), &arguments);
    let [old] = &public_ids(&here.client).await[..] else { panic!("one key") };

    // Before and after each reload, each host must accept all tokens and codes of the other.
    let anna = here.client.enter(ANNA, None).await;
    let mut refresh = anna.refresh;
    let mut tokens = vec![anna.access];
    let mut accepted = async |from: &Program, to: &Program| {
        let sent = from.client.post("/auth/send_code/", &json!({ "phone": BORIS })).await.ok();
        let body = json!({ "phone": BORIS, "code": sent["code"], "challenge_id": sent["challenge_id"] });
        to.client.post("/auth/jwt/get_by_phone/", &body).await.ok();
        let pair = from.client.post("/auth/jwt/refresh/", &json!({ "refresh": refresh })).await.ok();
        refresh = pair["refresh"].as_str().expect("a token").to_owned();
        tokens.push(pair["access"].as_str().expect("a token").to_owned());
        for access in &tokens {
            to.client.get("/users/current_user/", access).await.ok();
        }
        key_id(&refresh)
    };
    let mut signed_with = Vec::new();
    for step in ["add", "use"] {
        commanded(first.path(), &["keys", "rotate", "--step", step], &[]);
        copy_keys(first.path(), second.path());
        assert!(here.reload().contains("reloaded the keys"));
        signed_with.push(accepted(&here, &there).await);
        signed_with.push(accepted(&there, &here).await);
        assert!(there.reload().contains("reloaded the keys"));
        signed_with.push(accepted(&there, &here).await);
    }
    let new = public_ids(&here.client).await[0].clone();
    assert_ne!(new, *old);
    assert_eq!(
        signed_with.iter().collect::<Vec<_>>(),
        [old, old, old, &new, old, &new],
        "the key that signed"
    );

    // The first attempt is too early. Then the test changes the database as if thirty days had passed.
    let drop = ["keys", "rotate", "--step", "drop", arguments[0], arguments[1]];
    let output = run(first.path(), &drop);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("is needed until"), "{error}");
    server::execute(
        &database.url,
        "UPDATE referral.keys SET needed_until = now() WHERE needed_until IS NOT NULL",
    )
    .await;
    commanded(first.path(), &drop, &[]);
    copy_keys(first.path(), second.path());
    for host in [&mut here, &mut there] {
        assert!(host.reload().contains("reloaded the keys"));
        assert_eq!(public_ids(&host.client).await, std::slice::from_ref(&new));
    }
    for (from, to) in [(&here, &there), (&there, &here)] {
        let pair = from.client.post("/auth/jwt/refresh/", &json!({ "refresh": refresh })).await.ok();
        refresh = pair["refresh"].as_str().expect("a token").to_owned();
        to.client.get("/users/current_user/", pair["access"].as_str().expect("a token")).await.ok();
        to.client.enter(VERA, None).await;
    }
}

#[tokio::test]
async fn a_host_without_the_keys_in_use_names_the_missing_key_and_creates_none() {
    let Some(database) = server::Database::create().await else { return };
    let [first, second] = [directory(), directory()];
    let arguments = ["--database-url", &database.url, RETURN_CODES];
    drop(Program::start(first.path(), &arguments));

    let output = run(second.path(), &arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(error.contains("in use with the signing key") && error.contains("copy it"), "{error}");
    assert!(!second.path().join("referral-data/keys.json").exists());

    // A host with the keys of another database does not start either.
    drop(Program::start(second.path(), &[]));
    let output = run(second.path(), &arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("which is not in the key ring of this process"),
        "{error}"
    );
}

#[tokio::test]
async fn keys_are_also_read_from_the_environment() {
    let Some(database) = server::Database::create().await else { return };
    let [first, second] = [directory(), directory()];
    let arguments = ["--database-url", &database.url, RETURN_CODES];
    let here = Program::start(first.path(), &arguments);
    let anna = here.client.enter(ANNA, None).await;
    let read =
        |file: &str| std::fs::read_to_string(first.path().join("referral-data").join(file)).expect("a file");
    let (keys, peppers) = (read("keys.json"), read("peppers.json"));
    let environment = [("REFERRAL_KEYS", &*keys), ("REFERRAL_PEPPERS", &*peppers)];
    let there = Program::start_with(second.path(), &arguments, &environment);
    there.client.get("/users/current_user/", &anna.access).await.ok();
    assert!(!second.path().join("referral-data").exists(), "no data directory must be created");
}

#[tokio::test]
async fn acknowledged_sign_ups_survive_a_kill_of_a_host() {
    let Some(database) = server::Database::create().await else { return };
    survive_a_kill(&["--database-url", &database.url, RETURN_CODES]).await;
}

/// Checks shared limits. Some other limits are counted by each process separately.
#[tokio::test]
async fn limits_are_shared_by_all_hosts() {
    let Some(database) = server::Database::create().await else { return };
    let [first, second] = [directory(), directory()];
    let arguments = ["--policy", "standard", FEW_ATTEMPTS, "--database-url", &database.url, RETURN_CODES];
    let here = Program::start(first.path(), &arguments);
    copy_keys(first.path(), second.path());
    let there = Program::start(second.path(), &arguments);
    count_together(&here, &there).await;
}

#[tokio::test]
async fn limits_are_shared_by_all_processes_on_one_file() {
    let directory = directory();
    let arguments = ["--policy", "standard", FEW_ATTEMPTS, RETURN_CODES];
    let here = Program::start(directory.path(), &arguments);
    let there = Program::start(directory.path(), &arguments);
    count_together(&here, &there).await;
}

/// Flag that allows fewer attempts without a valid code than the policy, so that the test needs fewer
/// requests.
const FEW_ATTEMPTS: &str = "--attempts-without-challenge=20/1h";

async fn count_together(here: &Program, there: &Program) {
    let alternately = |number: u32| if number.is_multiple_of(2) { here } else { there }.client.clone();
    // Guesses of one code, half of them with the id of the challenge.
    let sent = here.client.post("/auth/send_code/", &json!({ "phone": ANNA })).await.ok();
    let wrong = if sent["code"] == "0000" { "1111" } else { "0000" };
    let guesses = (0..40).map(|number: u32| {
        let client = alternately(number);
        let mut body = json!({ "phone": ANNA, "code": wrong });
        if number % 4 < 2 {
            body["challenge_id"] = sent["challenge_id"].clone();
        }
        tokio::spawn(async move { client.post("/auth/jwt/get_by_phone/", &body).await.status })
    });
    let mut statuses = Vec::new();
    for guess in guesses.collect::<Vec<_>>() {
        statuses.push(guess.await.expect("no panic"));
    }
    let wrong = statuses.iter().filter(|status| **status == 403).count();
    // After five wrong codes, the code of the phone is too short. Twenty attempts without a code are allowed.
    assert_eq!((wrong, statuses.len() - wrong), (25, 15), "{statuses:?}");
    let body = json!({ "phone": ANNA, "code": sent["code"], "challenge_id": sent["challenge_id"] });
    for host in [here, there] {
        host.client.post("/auth/jwt/get_by_phone/", &body).await.assert_problem(429, "too_many_requests");
    }

    // Requests for codes from one address, to which one code was granted before.
    let codes = (0..30).map(|number: u32| {
        let client = alternately(number);
        let body = json!({ "phone": format!("+79608{:06}", number * 1_000) });
        tokio::spawn(async move { client.post("/auth/send_code/", &body).await.status })
    });
    let mut granted = 0;
    for code in codes.collect::<Vec<_>>() {
        granted += u32::from(code.await.expect("no panic") == 200);
    }
    assert_eq!(granted, 9);
}
