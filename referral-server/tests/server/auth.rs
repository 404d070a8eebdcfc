//! Codes and tokens.

use std::sync::Arc;

use referral_core::policy::{Budget, Policy, Regions};
use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{ANNA, BORIS, BrokenSender, Client, MINUTE, Outbox, Service, VERA};

const SEND: &str = "/auth/send_code/";
const SIGN_IN: &str = "/auth/jwt/get_by_phone/";
const VERIFY: &str = "/auth/jwt/verify/";
const REFRESH: &str = "/auth/jwt/refresh/";

async fn send_code(client: &Client, phone: &str) -> Value {
    client.post(SEND, &json!({ "phone": phone })).await.ok()
}

/// Returns the code that was sent, and a wrong code of the same length.
fn right_and_wrong(sent: &Value) -> (String, String) {
    let right = sent["code"].as_str().expect("the development sender reveals the code").to_owned();
    let wrong = right.chars().map(|digit| if digit == '9' { '0' } else { '9' }).collect();
    (right, wrong)
}

#[tokio::test]
async fn a_code_is_sent_and_redeemed() {
    let service = Service::start().await;
    let client = &service.client;
    let sent = send_code(client, "+7 960 854-30-17").await;
    assert_eq!(sent["phone"], ANNA);
    assert_eq!(
        (&sent["code_length"], &sent["expires_in"], &sent["resend_in"]),
        (&json!(4), &json!(300), &json!(0))
    );
    assert_eq!(sent["code"].as_str().map(str::len), Some(4));

    let signed_in = client.post(SIGN_IN, &json!({ "phone": ANNA, "code": sent["code"] })).await.ok();
    assert_eq!(signed_in["token_type"], "Bearer");
    assert_eq!(signed_in["expires_in"], 900);
    assert_eq!((&signed_in["created"], &signed_in["invitation"]), (&json!(true), &json!("none")));

    let again = service.enter(ANNA, None).await.body;
    assert_eq!((&again["created"], &again["user_id"]), (&json!(false), &signed_in["user_id"]));
}

#[tokio::test]
async fn a_code_is_accepted_as_a_number_and_in_common_spellings() {
    let service = Service::start().await;
    for round in 0..20 {
        let sent = send_code(&service.client, ANNA).await;
        let (right, _) = right_and_wrong(&sent);
        let number: u64 = right.parse().expect("digits");
        let wide: String =
            right.chars().filter_map(|digit| char::from_u32(digit as u32 - 0x30 + 0xff10)).collect();
        let spaced = format!(" {}-{} ", &right[..2], &right[2..]);
        let code = [json!(number), json!(wide), json!(spaced), json!(right)][round % 4].clone();
        service.client.post(SIGN_IN, &json!({ "phone": ANNA, "code": code })).await.ok();
        service.clock.advance(MINUTE * 2);
    }
}

#[tokio::test]
async fn an_accepted_invite_code_cannot_be_replaced() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let code = service.client.invite_code(&anna).await;
    let typed = format!(" {}-{} ", &code[..3], code[3..].to_lowercase());

    let boris = service.enter(BORIS, Some(&typed)).await;
    assert_eq!(boris.body["invitation"], "accepted");
    assert_eq!(service.enter(BORIS, Some(&code)).await.body["invitation"], "already_accepted");
    assert_eq!(service.enter(BORIS, None).await.body["invitation"], "none");
    assert_eq!(service.enter(BORIS, Some("")).await.body["invitation"], "none");
    let vera = service.enter(VERA, None).await;
    let veras = service.client.invite_code(&vera).await;
    assert_eq!(service.enter(BORIS, Some(&veras)).await.body["invitation"], "ignored");

    let user = service.client.get("/users/current_user/", &boris.access).await.ok();
    assert_eq!(user["invited_by_code"], json!(code));
    let user = service.client.get("/users/current_user/", &anna.access).await.ok();
    assert_eq!(user["invited"], json!([{ "id": boris.id, "phone": BORIS }]));
    assert_eq!(user["invited_count"], 1);
}

#[tokio::test]
async fn an_invalid_invite_code_is_reported_and_leaves_the_one_time_code_usable() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let annas = service.client.invite_code(&anna).await;
    let boris = service.enter(BORIS, Some(&annas)).await;
    let boriss = service.client.invite_code(&boris).await;

    let sent = send_code(&service.client, ANNA).await;
    for (code, problem) in [
        ("ZZZZZZZZZZZZ", "unknown_invite_code"),
        (&annas, "own_invite_code"),
        (&boriss, "invitation_loop"),
        ("short", "invalid_invite_code"),
    ] {
        let body = json!({ "phone": ANNA, "code": sent["code"], "invited_by_code": code });
        service.client.post(SIGN_IN, &body).await.assert_field(400, problem, "invited_by_code");
    }
    let body = json!({ "phone": ANNA, "code": sent["code"], "invited_by_code": null, "challenge_id": null });
    service.client.post(SIGN_IN, &body).await.ok();
}

#[tokio::test]
async fn wrong_expired_used_and_unknown_codes_get_the_same_response() {
    let service = Service::start().await;
    let client = &service.client;
    let mut responses = Vec::new();
    let mut rejected = async |body: Value| {
        let response = client.post(SIGN_IN, &body).await;
        response.assert_field(403, "invalid_code", "code");
        let mut body = response.body;
        body["request_id"].take();
        responses.push(body);
    };

    rejected(json!({ "phone": VERA, "code": "0000" })).await;
    let sent = send_code(client, ANNA).await;
    let (right, wrong) = right_and_wrong(&sent);
    rejected(json!({ "phone": ANNA, "code": wrong })).await;
    rejected(json!({ "phone": ANNA, "code": right, "challenge_id": uuid::Uuid::nil() })).await;
    rejected(json!({ "phone": BORIS, "code": right, "challenge_id": sent["challenge_id"] })).await;
    client.post(SIGN_IN, &json!({ "phone": ANNA, "code": right })).await.ok();
    rejected(json!({ "phone": ANNA, "code": right })).await;
    let sent = send_code(client, ANNA).await;
    service.clock.advance(5 * MINUTE);
    rejected(json!({ "phone": ANNA, "code": sent["code"] })).await;

    responses.dedup();
    assert_eq!(responses.len(), 1);
}

#[tokio::test]
async fn a_code_of_the_wrong_length_is_not_counted_as_an_attempt() {
    let service = Service::start().await;
    let sent = send_code(&service.client, ANNA).await;
    let (right, _) = right_and_wrong(&sent);
    for _ in 0..3 {
        for code in [&right[..1], &right[..2], &right[..3]] {
            for challenge in [Value::Null, sent["challenge_id"].clone()] {
                let body = json!({ "phone": ANNA, "code": code, "challenge_id": challenge });
                service.client.post(SIGN_IN, &body).await.assert_field(400, "malformed_code", "code");
            }
        }
        let long =
            json!({ "phone": ANNA, "code": format!("{right}0"), "challenge_id": sent["challenge_id"] });
        service.client.post(SIGN_IN, &long).await.assert_field(400, "malformed_code", "code");
    }
    // Without the id, the response must not reveal the length of the code that was sent.
    for phone in [ANNA, VERA] {
        let long = json!({ "phone": phone, "code": format!("{right}0") });
        service.client.post(SIGN_IN, &long).await.assert_field(403, "invalid_code", "code");
    }
    let body = json!({ "phone": ANNA, "code": right, "challenge_id": sent["challenge_id"] });
    service.client.post(SIGN_IN, &body).await.ok();
}

#[tokio::test]
async fn all_invalid_fields_are_reported_together() {
    let service = Service::start().await;
    let body =
        json!({ "phone": "+7", "code": "12x4", "invited_by_code": 7, "challenge_id": "x", "extra": 1 });
    let response = service.client.post(SIGN_IN, &body).await;
    response.assert_problem(400, "validation_failed");
    let codes: Vec<_> = ["phone", "code", "invited_by_code", "challenge_id", "extra"]
        .map(|field| response.body["errors"][field][0]["code"].as_str().unwrap_or_default().to_owned())
        .into();
    assert_eq!(codes, ["invalid_phone", "malformed_code", "wrong_type", "invalid_id", "unknown_field"]);
}

#[tokio::test]
async fn a_single_invalid_field_determines_the_code_of_the_problem() {
    let service = Service::start().await;
    for (body, code, field) in [
        (json!({}), "required", "phone"),
        (json!({ "phone": null }), "wrong_type", "phone"),
        (json!({ "phone": 79_608_543_017_u64 }), "wrong_type", "phone"),
        (json!({ "phone": "" }), "invalid_phone", "phone"),
        (json!({ "phone": "89608543017" }), "invalid_phone", "phone"),
        (json!({ "phone": ANNA, "locale": ["ru"] }), "wrong_type", "locale"),
        (json!({ "phone": ANNA, "is_staff": true }), "unknown_field", "is_staff"),
    ] {
        service.client.post(SEND, &body).await.assert_field(400, code, field);
    }
    let response = service.client.post(SEND, &json!({ "phone": "+78121234567" })).await;
    response.assert_field(403, "phone_not_allowed", "phone");
    // A mobile number of Argentina without the 9 is a landline.
    let response = service.client.post(SEND, &json!({ "phone": "+54 11 6907-1234" })).await;
    response.assert_field(403, "phone_not_allowed", "phone");
    assert!(response.body["detail"].as_str().expect("a detail").contains("+54 9"), "{}", response.text);
}

#[tokio::test]
async fn a_code_can_be_sent_again_after_retry_after() {
    let service = Service::with_policy(Policy::standard()).await;
    assert_eq!(send_code(&service.client, ANNA).await["resend_in"], 60);
    service.clock.advance(MINUTE / 4);
    let response = service.client.post(SEND, &json!({ "phone": ANNA })).await;
    response.assert_problem(429, "too_many_requests");
    assert_eq!(response.header("retry-after"), Some("45"));
    assert_eq!(response.body["retry_after"], 45);
    assert!(response.body["detail"].as_str().expect("a detail").contains("45 seconds"));
    service.clock.advance(MINUTE * 3 / 4);
    send_code(&service.client, ANNA).await;
}

#[tokio::test]
async fn the_strict_policy_requires_six_digits_and_the_challenge() {
    let mut policy = Policy::strict();
    policy.regions = Some(Regions::All);
    policy.messages_per_day = Some(Budget::Messages(100));
    let service = Service::with_policy(policy).await;
    let sent = send_code(&service.client, ANNA).await;
    assert_eq!((&sent["code_length"], sent["code"].as_str().map(str::len)), (&json!(6), Some(6)));
    let mut body = json!({ "phone": ANNA, "code": sent["code"] });
    service.client.post(SIGN_IN, &body).await.assert_field(400, "challenge_required", "challenge_id");
    body["challenge_id"] = sent["challenge_id"].clone();
    service.client.post(SIGN_IN, &body).await.ok();
}

#[tokio::test]
async fn a_message_is_in_the_requested_language() {
    let outbox = Outbox::default();
    let service = Service::with(Policy::development(), Arc::new(outbox.clone())).await;
    let (english, russian, kazakh) = (" is your code to sign in.", "Код для входа ", "Кіру коды: ");
    for (locale, header, expected) in [
        (None, &[][..], english),
        (None, &["ru-RU,ru;q=0.9,en;q=0.8"], russian),
        (None, &["tt, en;q=0.5, kk-Cyrl-KZ;q=0.7"], kazakh),
        (None, &["en;q=0.1", "kk"], kazakh),
        (None, &["*, \"@evil.example #1\", zz"], english),
        (Some(Value::Null), &["ru"], russian),
        (Some(json!("KK-kz")), &["ru"], kazakh),
        (Some(json!("ru_RU")), &["kk"], russian),
        (Some(json!("en_US@calendar=gregorian")), &["kk"], english),
        (Some(json!("zh_Hant_TW")), &["kk"], english),
        // A locale that is empty or not valid is ignored.
        (Some(json!("")), &["kk"], kazakh),
        (Some(json!("a-".repeat(5_000))), &["kk"], kazakh),
        (Some(json!("рус\u{0}")), &[], english),
        // No text for the requested locale: the default of the service is used, not the header.
        (Some(json!("zz")), &["ru"], english),
    ] {
        service.clock.advance(2 * MINUTE);
        let mut body = json!({ "phone": ANNA });
        if let Some(locale) = &locale {
            body["locale"] = locale.clone();
        }
        let mut request = service.client.request(Method::POST, SEND).json(&body);
        for line in header {
            request = request.header("accept-language", *line);
        }
        let response = service.client.send(request).await;
        assert_eq!(response.header("cache-control"), Some("no-store"));
        let sent = response.ok();
        assert_eq!(
            sent.as_object().map(serde_json::Map::len),
            Some(5),
            "the response must not contain the language: {sent}"
        );

        let texts = outbox.take();
        let rest = texts[0].replace(|c: char| c.is_ascii_digit(), "");
        assert_eq!((texts.len(), rest.as_str()), (1, expected), "{locale:?} {header:?}");
    }
}

#[tokio::test]
async fn only_a_message_that_may_have_been_sent_starts_the_resend_interval() {
    let rejecting = Service::with(Policy::standard(), Arc::new(BrokenSender { knows: true })).await;
    for _ in 0..3 {
        let response = rejecting.client.post(SEND, &json!({ "phone": ANNA })).await;
        response.assert_problem(503, "sms_not_sent");
        assert_eq!(response.header("retry-after"), Some("1"));
    }
    let silent = Service::with(Policy::standard(), Arc::new(BrokenSender { knows: false })).await;
    let sent = send_code(&silent.client, ANNA).await;
    assert!(sent.get("code").is_none(), "a production sender must not reveal the code");
    silent.client.post(SEND, &json!({ "phone": ANNA })).await.assert_problem(429, "too_many_requests");
}

#[tokio::test]
async fn a_token_is_verified_together_with_its_type() {
    let service = Service::start().await;
    let client = &service.client;
    let anna = service.enter(ANNA, None).await;
    for (token, kind, other) in [(&anna.access, "access", "refresh"), (&anna.refresh, "refresh", "access")] {
        let verified = client.post(VERIFY, &json!({ "token": token })).await.ok();
        assert_eq!((&verified["token_type"], &verified["user_id"]), (&json!(kind), &json!(anna.id)));
        assert!(verified["session_id"].is_string() && verified["expires_at"].is_string());
        client.post(VERIFY, &json!({ "token": token, "token_type": kind })).await.ok();
        let response = client.post(VERIFY, &json!({ "token": token, "token_type": other })).await;
        response.assert_problem(401, "token_not_valid");
        assert_eq!(response.header("www-authenticate"), Some(r#"Bearer error="invalid_token""#));
    }
    let response = client.post(VERIFY, &json!({ "token": anna.access, "token_type": "id" })).await;
    response.assert_field(400, "invalid_token_type", "token_type");
    service.clock.advance(15 * MINUTE);
    client.post(VERIFY, &json!({ "token": anna.access })).await.assert_problem(401, "token_not_valid");
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_and_reuse_of_an_old_one_ends_the_session() {
    let service = Service::start().await;
    let client = &service.client;
    let anna = service.enter(ANNA, None).await;
    let second = client.post(REFRESH, &json!({ "refresh": anna.refresh })).await.ok();
    assert_eq!((&second["token_type"], &second["expires_in"]), (&json!("Bearer"), &json!(900)));
    assert_ne!(second["refresh"], json!(anna.refresh));
    let repeated = client.post(REFRESH, &json!({ "refresh": anna.refresh })).await.ok();
    assert_eq!(repeated, second, "the repeated response must be identical");

    let access = second["access"].as_str().expect("a token");
    client.get("/users/current_user/", access).await.ok();
    client.post(REFRESH, &json!({ "refresh": anna.access })).await.assert_problem(401, "token_not_valid");
    service.clock.advance(MINUTE);
    client.post(REFRESH, &json!({ "refresh": anna.refresh })).await.assert_problem(401, "refresh_reused");
    client.get("/users/current_user/", access).await.assert_problem(401, "token_not_valid");
}

#[tokio::test]
async fn deactivating_a_user_takes_effect_immediately() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let id = referral_core::UserId(anna.id.parse().expect("a UUID"));
    service.referral.set_active(id, false).await.expect("a user");
    service.client.get("/users/current_user/", &anna.access).await.assert_problem(401, "token_not_valid");
    let sent = send_code(&service.client, ANNA).await;
    let body = json!({ "phone": ANNA, "code": sent["code"] });
    service.client.post(SIGN_IN, &body).await.assert_problem(403, "user_inactive");
}
