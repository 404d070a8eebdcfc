//! Runs each example, signs in and uses its protected route.

mod example;
mod resource_server;
mod sms_sender;

use crate::example::{ANNA, Example};

async fn assert_works(example: &Example) {
    let page = example.get("/auth/docs/").await;
    assert_eq!(page.status(), 200);
    assert!(page.text().await.expect("text").contains("\"url\": \"/auth/api/v1\""));

    let signed_in = example.sign_in(ANNA, None).await;
    let token = signed_in["access"].as_str().expect("a token");
    let hello = example.hello(Some(&format!("Bearer {token}"))).await;
    assert_eq!(hello.status(), 200);
    assert!(hello.text().await.expect("text").starts_with(&format!("Hello, {ANNA}!")));
    for authorization in [None, Some("Bearer invalid"), Some(token), Some("Basic YTpi")] {
        let response = example.hello(authorization).await;
        assert_eq!(response.status(), 401, "{authorization:?}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn actix_serves_the_api_and_a_protected_route() {
    assert_works(&Example::start(env!("CARGO_BIN_EXE_example-actix"), &[]).await).await;
}

#[tokio::test]
async fn axum_serves_the_api_and_a_protected_route() {
    assert_works(&Example::start(env!("CARGO_BIN_EXE_example-axum"), &[]).await).await;
}

#[tokio::test]
async fn poem_serves_the_api_and_a_protected_route() {
    assert_works(&Example::start(env!("CARGO_BIN_EXE_example-poem"), &[]).await).await;
}
