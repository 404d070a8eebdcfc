//! Tests of the endpoints for staff, and of the data of the host in responses.

use referral_core::{
    CreateUser, PhoneNumber, UserId,
    policy::{Policy, Visibility},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{ANNA, BORIS, Response, Service, SignedIn, VERA};

/// Signs in a member of staff.
async fn staff(service: &Service) -> SignedIn {
    let phone = PhoneNumber::parse(VERA, None).expect("valid");
    service.referral.make_staff(phone).await.expect("created");
    service.enter(VERA, None).await
}

/// Updates a user.
async fn update(service: &Service, id: &str, access: &str, body: &Value) -> Response {
    let request = service.client.request(Method::PATCH, &format!("/admin/users/{id}/"));
    service.client.send(request.bearer_auth(access).json(body)).await
}

#[tokio::test]
async fn staff_set_and_clear_the_data_of_the_host() {
    let service = Service::start().await;
    let (anna, staff) = (service.enter(ANNA, None).await, staff(&service).await);
    let metadata = json!({ "plan": "gold", "limits": [1, 1.5, null, { "a": true }] });
    for (body, external_id, expected) in [
        (json!({}), Value::Null, json!({})),
        (json!({ "external_id": "A 1|Ж" }), json!("A 1|Ж"), json!({})),
        (json!({ "metadata": metadata }), json!("A 1|Ж"), metadata.clone()),
        (json!({ "external_id": null }), Value::Null, metadata.clone()),
        (json!({ "external_id": "a1", "metadata": null }), json!("a1"), json!({})),
        (json!({ "metadata": { "b": 1, "a": 2 } }), json!("a1"), json!({ "a": 2, "b": 1 })),
        (json!({ "metadata": {} }), json!("a1"), json!({})),
    ] {
        let updated = update(&service, &anna.id, &staff.access, &body).await.ok();
        assert_eq!((&updated["external_id"], &updated["metadata"]), (&external_id, &expected), "{body}");
        assert_eq!(service.client.get("/users/current_user/", &anna.access).await.ok(), updated);
        assert_eq!(service.client.get(&format!("/users/{}/", anna.id), &staff.access).await.ok(), updated);
    }
}

#[tokio::test]
async fn all_invalid_fields_of_an_update_are_reported() {
    let service = Service::start().await;
    let (anna, staff) = (service.enter(ANNA, None).await, staff(&service).await);
    let deep = (0..32).fold(json!({}), |inner, _| json!({ "a": inner }));
    for (field, code, values) in [
        (
            "external_id",
            "invalid_external_id",
            vec![json!(""), json!(" a"), json!("a\0"), json!("x".repeat(256))],
        ),
        ("external_id", "wrong_type", vec![json!(1), json!({}), json!(["a1"])]),
        (
            "metadata",
            "invalid_metadata",
            vec![
                json!({ "a": "\0" }),
                json!({ "\0": 1 }),
                json!({ "a": 1e300 }),
                json!({ "a": "x".repeat(4096) }),
                deep,
            ],
        ),
        ("metadata", "wrong_type", vec![json!([]), json!("{}"), json!(1), json!(true)]),
        ("is_staff", "unknown_field", vec![json!(true)]),
        ("is_active", "unknown_field", vec![json!(false)]),
    ] {
        for value in values {
            let response = update(&service, &anna.id, &staff.access, &json!({ field: value })).await;
            response.assert_field(400, code, field);
        }
    }
    let both = json!({ "external_id": "", "metadata": [] });
    let response = update(&service, &anna.id, &staff.access, &both).await;
    response.assert_problem(400, "validation_failed");
    assert_eq!(response.body["errors"].as_object().expect("fields").len(), 2);
    for body in [r#"{"metadata":{"a":1,"a":2}}"#, r#"{"metadata":{"a":NaN}}"#] {
        let request = service.client.request(Method::PATCH, &format!("/admin/users/{}/", anna.id));
        let request =
            request.bearer_auth(&staff.access).header("content-type", "application/json").body(body);
        service.client.send(request).await.assert_problem(400, "malformed_json");
    }
    let big = r#"{"metadata":{"a":18446744073709551616}}"#;
    let request = service.client.request(Method::PATCH, &format!("/admin/users/{}/", anna.id));
    let request = request.bearer_auth(&staff.access).header("content-type", "application/json").body(big);
    service.client.send(request).await.assert_field(400, "invalid_metadata", "metadata");
}

#[tokio::test]
async fn external_id_of_another_user_is_a_conflict() {
    let service = Service::start().await;
    let [anna, boris] = [service.enter(ANNA, None).await, service.enter(BORIS, None).await];
    let staff = staff(&service).await;
    update(&service, &anna.id, &staff.access, &json!({ "external_id": "a1" })).await.ok();
    let taken = json!({ "external_id": "a1", "metadata": { "a": 1 } });
    let response = update(&service, &boris.id, &staff.access, &taken).await;
    response.assert_field(409, "external_id_taken", "external_id");
    let profile = service.client.get("/users/current_user/", &boris.access).await.ok();
    assert_eq!((&profile["external_id"], &profile["metadata"]), (&Value::Null, &json!({})));
}

#[tokio::test]
async fn only_staff_can_update_users() {
    let service = Service::start().await;
    let [anna, boris] = [service.enter(ANNA, None).await, service.enter(BORIS, None).await];
    let staff = staff(&service).await;
    let body = json!({ "external_id": "a1" });
    for id in [&anna.id, &boris.id, "00000000-0000-0000-0000-000000000000"] {
        update(&service, id, &anna.access, &body).await.assert_problem(403, "staff_only");
    }
    update(&service, &anna.id, "x", &body).await.assert_problem(401, "token_not_valid");
    for id in ["00000000-0000-0000-0000-000000000000", "x", "current_user"] {
        update(&service, id, &staff.access, &body).await.assert_problem(404, "not_found");
    }
    let own = json!({ "external_id": "a1" });
    service.client.patch(&staff.access, &own).await.assert_field(400, "unknown_field", "external_id");
    let get = service.client.get(&format!("/admin/users/{}/", anna.id), &staff.access).await;
    get.assert_problem(405, "method_not_allowed");
    assert_eq!(get.header("allow"), Some("PATCH"));
}

/// Neither a list nor a profile shows the data to other users, with any visibility.
#[tokio::test]
async fn data_of_the_host_are_hidden_from_other_users() {
    for visibility in [Visibility::Full, Visibility::Masked] {
        let mut policy = Policy::development();
        policy.visibility = visibility;
        let service = Service::with_policy(policy).await;
        let anna = service.enter(ANNA, None).await;
        let staff = staff(&service).await;
        let phone = PhoneNumber::parse(BORIS, None).expect("valid");
        let boris = CreateUser::new(phone)
            .external_id(referral_core::ExternalId::parse("b1").expect("valid"))
            .metadata(r#"{"plan":"gold"}"#.parse().expect("valid"));
        let boris: UserId = service.referral.create_user(boris).await.expect("created").user.id;
        for (access, external_id, metadata) in [
            (&anna.access, Value::Null, Value::Null),
            (&staff.access, json!("b1"), json!({ "plan": "gold" })),
        ] {
            let profile = service.client.get(&format!("/users/{boris}/"), access).await.ok();
            let list = service.client.get("/users/", access).await.ok();
            let listed = list["results"].as_array().expect("users").iter();
            let listed = listed.clone().find(|user| user["id"] == json!(boris.to_string())).expect("listed");
            for user in [&profile, listed] {
                assert_eq!((&user["external_id"], &user["metadata"]), (&external_id, &metadata));
            }
        }
        let own = service.client.get("/users/current_user/", &anna.access).await.ok();
        assert_eq!((&own["external_id"], &own["metadata"]), (&Value::Null, &json!({})));

        for (query, count) in [("b1", 1), ("B1", 0), ("b", 0), ("", 0), ("%20b1", 0)] {
            let path = format!("/users/?external_id={query}");
            assert_eq!(service.client.get(&path, &staff.access).await.ok()["count"], count, "{query}");
            service.client.get(&path, &anna.access).await.assert_problem(403, "staff_only");
        }
        let invalid = service.client.get("/users/?external_id=%00", &staff.access).await;
        invalid.assert_field(400, "invalid_text", "external_id");
    }
}
