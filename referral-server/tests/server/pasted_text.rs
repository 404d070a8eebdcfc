//! Phones, codes and locales as people paste them and as forms and platforms send them.

use serde_json::{Value, json};

use crate::service::{ANNA, BORIS, Service};

const SEND: &str = "/auth/send_code/";
const SIGN_IN: &str = "/auth/jwt/get_by_phone/";

#[tokio::test]
async fn typographic_characters_in_a_phone_are_ignored() {
    let service = Service::start().await;
    for (input, phone) in [
        ("+7 960 854\u{2011}30\u{2011}17", ANNA),
        ("+79608543017\n", ANNA),
        ("\r\n\t+79608543017\u{2028}", ANNA),
        ("+7 [960] 854-30-17", ANNA),
        ("+7\u{3000}960 854\u{2013}30\u{2013}17", ANNA),
        ("\u{feff}\u{200b}+7\u{2060}9608543017\u{200d}", ANNA),
        ("+7~960~854.30.17", ANNA),
        ("“+7 (960) 854−30−17”,", ANNA),
        ("+49 170/1234567", "+491701234567"),
    ] {
        assert_eq!(
            service.client.post(SEND, &json!({ "phone": input })).await.ok()["phone"],
            phone,
            "{input}"
        );
    }
    for input in ["+7960854\u{0}3017", "+79608543017\u{7}", "+7960854301\u{1f642}7"] {
        service.client.post(SEND, &json!({ "phone": input })).await.assert_field(
            400,
            "invalid_phone",
            "phone",
        );
    }
}

#[tokio::test]
async fn white_space_and_punctuation_around_a_code_are_ignored() {
    let service = Service::start().await;
    for (before, after) in
        [("", "\n"), ("\t", "\r\n"), ("\u{200b}", "\u{feff}"), ("«", "»."), ("\u{3000}", "!")]
    {
        let sent = service.client.post(SEND, &json!({ "phone": ANNA })).await.ok();
        let code = format!("{before}{}{after}", sent["code"].as_str().expect("revealed"));
        service.client.post(SIGN_IN, &json!({ "phone": ANNA, "code": code })).await.ok();
    }
}

#[tokio::test]
async fn an_invite_code_is_accepted_as_it_is_pasted() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let code = service.client.get("/users/current_user/", &anna.access).await.ok()["invite_code"].clone();
    let code = code.as_str().expect("a code");
    for input in [
        format!("{code}\n"),
        format!("{code}."),
        format!("\u{200b}{code}\u{200d}"),
        format!("https://example.com/i/{code}"),
        format!("https://example.com/?ref={code}"),
    ] {
        let sent = service.client.post(SEND, &json!({ "phone": BORIS })).await.ok();
        let body = json!({ "phone": BORIS, "code": sent["code"], "invited_by_code": input });
        let signed_in = service.client.post(SIGN_IN, &body).await.ok();
        assert!(
            ["accepted", "already_accepted"].map(Value::from).contains(&signed_in["invitation"]),
            "{input}"
        );
    }
}

#[tokio::test]
async fn empty_optional_fields_count_as_absent() {
    let service = Service::start().await;
    let sent = service.client.post(SEND, &json!({ "phone": ANNA, "locale": "" })).await.ok();
    let body = json!({ "phone": ANNA, "code": sent["code"], "invited_by_code": "", "challenge_id": " ", });
    let signed_in = service.client.post(SIGN_IN, &body).await.ok();
    let body = json!({ "token": signed_in["access"], "token_type": "" });
    assert_eq!(service.client.post("/auth/jwt/verify/", &body).await.ok()["token_type"], "access");
}

#[tokio::test]
async fn an_empty_token_is_reported_as_missing() {
    let service = Service::start().await;
    for (path, field) in
        [("/auth/jwt/verify/", "token"), ("/auth/jwt/refresh/", "refresh"), ("/auth/logout/", "refresh")]
    {
        for token in ["", " ", "\n"] {
            service.client.post(path, &json!({ (field): token })).await.assert_field(400, "required", field);
        }
        let response = service.client.post(path, &json!({ (field): "a\u{0}b" })).await;
        response.assert_field(400, "invalid_text", field);
    }
}
