//! Tests of limits from the perspective of clients.

use std::{sync::Arc, time::Duration};

use referral_core::{
    Region,
    policy::{Limits, Policy, Regions},
    sms::DevelopmentSender,
    storage::MemoryStorage,
};
use referral_server::{AppOptions, ClientAddresses};
use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{ANNA, Client, Response, Service};

const SEND: &str = "/auth/send_code/";
const SIGN_IN: &str = "/auth/jwt/get_by_phone/";

/// Starts a service that trusts `X-Forwarded-For` from loopback addresses.
async fn behind_a_proxy(policy: Policy) -> Service {
    let mut options = AppOptions::default();
    let proxies = "127.0.0.0/8".parse().expect("a network");
    options.client_addresses =
        ClientAddresses::forwarded(proxies, "x-forwarded-for".parse().expect("a name"));
    Service::with_storage(Arc::new(MemoryStorage::new()), policy, Arc::new(DevelopmentSender), options).await
}

/// Returns a mobile number in a number range of its own.
fn phone(number: u32) -> String {
    format!("+79608{:06}", number * 1_000)
}

async fn post_from(client: &Client, forwarded_for: &str, path: &str, body: &Value) -> Response {
    let request = client.request(Method::POST, path).header("x-forwarded-for", forwarded_for);
    client.send(request.json(body)).await
}

fn wrong(code: &Value) -> String {
    let right = code.as_str().expect("a string of digits");
    right.chars().map(|digit| if digit == '9' { '0' } else { '9' }).collect()
}

#[tokio::test]
async fn a_request_succeeds_after_retry_after_each_time() {
    let service = Service::with_policy(Policy::standard()).await;
    let mut codes = 0;
    let mut rejections = 0;
    while codes < 12 {
        let response = service.client.post(SEND, &json!({ "phone": ANNA })).await;
        if response.status == 200 {
            codes += 1;
            continue;
        }
        response.assert_problem(429, "too_many_requests");
        let seconds: u64 =
            response.header("retry-after").and_then(|value| value.parse().ok()).expect("a number");
        assert_eq!(response.body["retry_after"], seconds);
        rejections += 1;
        assert!(rejections <= codes, "`Retry-After` was too short");
        service.clock.advance(Duration::from_secs(seconds));
    }
}

#[tokio::test]
async fn limits_use_the_address_from_the_proxy_and_not_from_the_client() {
    let service = behind_a_proxy(Policy::standard()).await;
    for number in 0..10 {
        // The client can invent the left part of the list.
        let invented = format!("198.51.100.{number}, 203.0.113.9");
        post_from(&service.client, &invented, SEND, &json!({ "phone": phone(number) })).await.ok();
    }
    let body = json!({ "phone": phone(10) });
    post_from(&service.client, "192.0.2.1, 203.0.113.9", SEND, &body)
        .await
        .assert_problem(429, "too_many_requests");
    post_from(&service.client, "203.0.113.10", SEND, &body).await.ok();

    // All addresses of an IPv6 network count as one, because one client can use all of them.
    for number in 20..30 {
        let address = format!("2001:db8:1:2::{number:x}");
        post_from(&service.client, &address, SEND, &json!({ "phone": phone(number) })).await.ok();
    }
    let body = json!({ "phone": phone(30) });
    post_from(&service.client, "2001:db8:1:2:ffff::1", SEND, &body)
        .await
        .assert_problem(429, "too_many_requests");
    post_from(&service.client, "2001:db8:1:3::1", SEND, &body).await.ok();
}

#[tokio::test]
async fn a_forwarding_header_from_an_untrusted_client_is_ignored() {
    let service = Service::with_policy(Policy::standard()).await;
    for number in 0..10 {
        let address = format!("203.0.113.{number}");
        post_from(&service.client, &address, SEND, &json!({ "phone": phone(number) })).await.ok();
    }
    let response = post_from(&service.client, "203.0.113.99", SEND, &json!({ "phone": phone(10) })).await;
    response.assert_problem(429, "too_many_requests");
}

#[tokio::test]
async fn concurrent_guesses_invalidate_the_code_and_lengthen_the_next_one() {
    let service = behind_a_proxy(Policy::standard()).await;
    let sent = service.client.post(SEND, &json!({ "phone": ANNA })).await.ok();
    let guesses = (0..60).map(|number: u32| {
        let (client, sent) = (Client::new(service.client.address), sent.clone());
        tokio::spawn(async move {
            let mut body = json!({ "phone": ANNA, "code": wrong(&sent["code"]) });
            if number.is_multiple_of(2) {
                body["challenge_id"] = sent["challenge_id"].clone();
            }
            post_from(&client, &format!("203.0.113.{number}"), SIGN_IN, &body).await.status
        })
    });
    for guess in guesses.collect::<Vec<_>>() {
        assert_eq!(guess.await.expect("no panic"), 403);
    }
    // After five wrong codes for the phone, the right code is invalid too.
    let body = json!({ "phone": ANNA, "code": sent["code"], "challenge_id": sent["challenge_id"] });
    service.client.post(SIGN_IN, &body).await.assert_field(403, "invalid_code", "code");
    service.clock.advance(Duration::from_mins(1));
    let sent = service.client.post(SEND, &json!({ "phone": ANNA })).await.ok();
    assert_eq!((&sent["code_length"], sent["code"].as_str().map(str::len)), (&json!(6), Some(6)));
}

#[tokio::test]
async fn an_address_that_guesses_gets_retry_after() {
    let mut policy = Policy::standard();
    policy.attempts_without_challenge = Limits::new([(20, Duration::from_hours(1))]).expect("valid limits");
    let service = behind_a_proxy(policy).await;
    for number in 0..20 {
        let body = json!({ "phone": phone(number), "code": "1234" });
        post_from(&service.client, "203.0.113.9", SIGN_IN, &body).await.assert_field(
            403,
            "invalid_code",
            "code",
        );
    }
    let body = json!({ "phone": phone(20), "code": "1234" });
    let response = post_from(&service.client, "203.0.113.9", SIGN_IN, &body).await;
    response.assert_problem(429, "too_many_requests");
    assert_eq!(response.header("retry-after"), Some("3600"));
    post_from(&service.client, "203.0.113.10", SIGN_IN, &body).await.assert_problem(403, "invalid_code");
    service.clock.advance(Duration::from_hours(1));
    post_from(&service.client, "203.0.113.9", SIGN_IN, &body).await.assert_problem(403, "invalid_code");
}

#[tokio::test]
async fn no_response_reveals_if_a_phone_has_an_account() {
    let service = Service::with_policy(Policy::standard()).await;
    service.enter(ANNA, None).await;
    service.clock.advance(Duration::from_mins(20));
    let unknown = "+79608543999";
    let without_ids = |response: Response| {
        let mut body = response.body;
        for name in ["phone", "challenge_id", "code", "request_id"] {
            body.as_object_mut().expect("an object").remove(name);
        }
        (response.status, body)
    };
    // A code is sent, a wrong code is rejected, and a second code is rejected within the resend interval.
    for step in [SEND, SIGN_IN, SEND] {
        let mut responses = Vec::new();
        for phone in [ANNA, unknown] {
            let body = if step == SEND {
                json!({ "phone": phone })
            } else {
                json!({ "phone": phone, "code": "12" })
            };
            responses.push(without_ids(service.client.post(step, &body).await));
        }
        assert_eq!(responses[0], responses[1], "{step}");
    }
}

#[tokio::test]
async fn codes_are_sent_only_to_the_configured_regions() {
    let mut policy = Policy::standard();
    policy.regions = Some(Regions::Only(vec![Region::parse("KZ").expect("a region")]));
    let service = Service::with_policy(policy).await;
    service.client.post(SEND, &json!({ "phone": "+77011234567" })).await.ok();
    // A number with the same calling code, but in Russia.
    let response = service.client.post(SEND, &json!({ "phone": ANNA })).await;
    response.assert_field(403, "phone_not_allowed", "phone");
}
