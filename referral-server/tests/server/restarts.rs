//! Tests of data that survives a restart or a kill of the program.

use serde_json::json;

use crate::{
    program::{Program, directory},
    service::{ANNA, BORIS, Client},
};

#[tokio::test]
async fn a_restart_preserves_tokens_and_codes() {
    let directory = directory();
    let program = Program::start(directory.path(), &[]);
    let anna = program.client.enter(ANNA, None).await;
    let sent = program.client.post("/auth/send_code/", &json!({ "phone": BORIS })).await.ok();
    program.stop();

    let program = Program::start(directory.path(), &[]);
    program.client.get("/users/current_user/", &anna.access).await.ok();
    let body = json!({ "phone": BORIS, "code": sent["code"], "challenge_id": sent["challenge_id"] });
    program.client.post("/auth/jwt/get_by_phone/", &body).await.ok();
}

#[tokio::test]
async fn acknowledged_sign_ups_survive_a_kill_and_users_are_complete() {
    survive_a_kill(&[]).await;
}

/// Signs up users with several clients, kills the program meanwhile, and checks that acknowledged users
/// exist.
pub(crate) async fn survive_a_kill(arguments: &[&str]) {
    let directory = directory();
    let mut program = Program::start(directory.path(), arguments);
    let anna = program.client.enter(ANNA, None).await;
    let code = program.client.invite_code(&anna).await;

    // Concurrent sign-ups continue until the program is killed.
    let mut tasks = Vec::new();
    for worker in 0..8 {
        let (client, code) = (program.client.clone(), code.clone());
        tasks.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                let phone = format!("+79608{worker}{number:05}");
                let Some(sent) = try_post(&client, "/auth/send_code/", &json!({ "phone": phone })).await
                else {
                    break;
                };
                let body = json!({ "phone": phone, "code": sent["code"], "invited_by_code": code });
                let Some(_) = try_post(&client, "/auth/jwt/get_by_phone/", &body).await else {
                    break;
                };
                acknowledged.push(phone);
            }
            acknowledged
        }));
    }
    // Wait until some sign-ups have succeeded, so that the kill interrupts others.
    while program.client.get("/users/?limit=1", &anna.access).await.ok()["count"].as_u64() < Some(50) {}
    program.child.kill().expect("killed");
    let mut acknowledged = Vec::new();
    for task in tasks {
        acknowledged.extend(task.await.expect("no task panics"));
    }

    let program = Program::start(directory.path(), arguments);
    let count = program.client.get("/users/?limit=1", &anna.access).await.ok()["count"].as_u64();
    let user = program.client.get("/users/current_user/", &anna.access).await.ok();
    assert_eq!(
        user["invited_count"].as_u64().map(|invited| invited + 1),
        count,
        "each user must have an inviter"
    );
    for phone in acknowledged {
        let path = format!("/users/?phone={}", phone.replace('+', "%2B"));
        let found = program.client.get(&path, &anna.access).await.ok();
        assert_eq!(found["results"][0]["invited_by_code"], json!(code), "{phone}");
    }
}

/// Sends a request and returns the body of the response, or `None` if the server is not running.
async fn try_post(client: &Client, path: &str, body: &serde_json::Value) -> Option<serde_json::Value> {
    let response = client.request(reqwest::Method::POST, path).json(body).send().await.ok()?;
    assert!(response.status().is_success());
    response.json().await.ok()
}
