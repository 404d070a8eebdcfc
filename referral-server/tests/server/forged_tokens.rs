//! Tests of forged tokens: without a signature, or signed with a published key.

use serde_json::{Value, json};

use crate::service::{ANNA, Service};

#[tokio::test]
async fn forged_tokens_are_rejected() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let parts: Vec<_> = anna.access.split('.').collect();
    let none = "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0";
    for token in [
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.{}.{}", parts[0], parts[1], "A".repeat(parts[2].len())),
        format!("{}.{}.{}.", parts[0], parts[1], parts[2]),
    ] {
        service.client.get("/users/current_user/", &token).await.assert_problem(401, "token_not_valid");
        let response = service.client.post("/auth/jwt/verify/", &json!({ "token": token })).await;
        response.assert_problem(401, "token_not_valid");
        let response = service.client.post("/auth/jwt/refresh/", &json!({ "refresh": token })).await;
        response.assert_problem(401, "token_not_valid");
    }
}

#[tokio::test]
async fn published_keys_cannot_sign_tokens() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let url = service.client.url("/.well-known/jwks.json");
    let published = service.client.send(service.client.http.get(url)).await;
    let key = &published.body["keys"][0];
    let x = key["x"].as_str().expect("a public key");
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(&anna.access).expect("claims").claims;
    let public = jsonwebtoken::EncodingKey::from_urlsafe_base64_secret(&format!("{x}=")).expect("base64url");
    let secrets = [x, &key.to_string(), &published.text]
        .map(|secret| jsonwebtoken::EncodingKey::from_secret(secret.as_bytes()));
    for secret in secrets.iter().chain([&public]) {
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        for id in [key["kid"].as_str(), None, Some("unknown")] {
            header.kid = id.map(str::to_owned);
            let token = jsonwebtoken::encode(&header, &claims, secret).expect("signed");
            let client = &service.client;
            client.get("/users/current_user/", &token).await.assert_problem(401, "token_not_valid");
            let response = client.post("/auth/jwt/verify/", &json!({ "token": token })).await;
            response.assert_problem(401, "token_not_valid");
        }
    }
}
