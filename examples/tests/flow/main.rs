//! Runs each example, signs in and uses its protected route.

mod example;
mod readme;
mod resource_server;
mod sms_sender;

use crate::example::{ANNA, BORIS, Example};

/// Tests the pages of the API and the protected route, which responds with `greeting`.
async fn assert_works(example: &Example, greeting: &str) {
    let page = example.get("/auth/docs/").await;
    assert_eq!(page.status(), 200);
    assert!(page.text().await.expect("text").contains("\"url\": \"/auth/api/v1\""));

    let signed_in = example.sign_in(ANNA, None).await;
    assert_eq!(example.greeting(&signed_in).await, greeting);
    let token = signed_in["access"].as_str().expect("a token");
    for authorization in [None, Some("Bearer invalid"), Some(token), Some("Basic YTpi")] {
        let response = example.hello(authorization).await;
        assert_eq!(response.status(), 401, "{authorization:?}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn actix_serves_the_api_and_a_protected_route() {
    let example = Example::start(env!("CARGO_BIN_EXE_example-actix"), &[]).await;
    assert_works(&example, "Hello, +79608543017!").await;
}

#[tokio::test]
async fn axum_serves_the_api_and_a_protected_route() {
    let example = Example::start(env!("CARGO_BIN_EXE_example-axum"), &[]).await;
    assert_works(&example, "Hello, +79608543017! You have 0 points.").await;
}

#[tokio::test]
async fn axum_rewards_the_inviter_once() {
    let example = Example::start(env!("CARGO_BIN_EXE_example-axum"), &[]).await;
    let anna = example.sign_in(ANNA, None).await;
    let invite_code = example.profile(&anna).await["invite_code"].as_str().expect("a code").to_owned();
    // Only the first sign-in accepts the invitation.
    for invite_code in [Some(&*invite_code), Some(&*invite_code), None] {
        let boris = example.sign_in(BORIS, invite_code).await;
        assert_eq!(example.greeting(&boris).await, "Hello, +77011234567! You have 0 points.");
        assert_eq!(example.greeting(&anna).await, "Hello, +79608543017! You have 10 points.");
    }
    let vera = example.sign_in("+14155552671", Some(&invite_code)).await;
    assert_eq!(example.greeting(&vera).await, "Hello, +14155552671! You have 0 points.");
    assert_eq!(example.greeting(&anna).await, "Hello, +79608543017! You have 20 points.");
}

#[tokio::test]
async fn poem_serves_the_api_and_a_protected_route() {
    let example = Example::start(env!("CARGO_BIN_EXE_example-poem"), &[]).await;
    assert_works(&example, "Hello, +79608543017!").await;
}
