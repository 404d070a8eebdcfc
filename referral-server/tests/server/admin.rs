//! Tests of the endpoints for staff, and of the data of the host in responses.

use std::time::Duration;

use referral_core::{
    CreateUser, PhoneNumber, StaffRole, UserId,
    policy::{Policy, Visibility},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{ANNA, BORIS, Response, Service, SignedIn, VERA, with_grace};

/// Signs in a member of staff.
async fn staff(service: &Service) -> SignedIn {
    let phone = PhoneNumber::parse(VERA, None).expect("valid");
    service.referral.make_staff(phone, StaffRole::Admin).await.expect("created");
    service.enter(VERA, None).await
}

/// Updates a user, with a reason.
async fn update(service: &Service, id: &str, access: &str, body: &Value) -> Response {
    let mut body = body.clone();
    body["reason"] = "asked by phone".into();
    let path = format!("/admin/users/{id}/");
    request(service, Method::PATCH, &path, access, &body).await
}

async fn request(service: &Service, method: Method, path: &str, access: &str, body: &Value) -> Response {
    let request = service.client.request(method, path);
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
        let own = service.client.get("/users/current_user/", &anna.access).await.ok();
        let seen = service.client.get(&format!("/users/{}/", anna.id), &staff.access).await.ok();
        for user in [&own, &seen] {
            assert_eq!((&user["external_id"], &user["metadata"]), (&external_id, &expected), "{body}");
        }
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
        ("phone", "invalid_phone", vec![json!("12"), json!("")]),
        ("phone", "wrong_type", vec![json!(7)]),
        ("is_active", "wrong_type", vec![json!(null), json!("false"), json!(0)]),
        ("staff_role", "invalid_role", vec![json!("owner"), json!(""), json!("Admin")]),
        ("staff_role", "wrong_type", vec![json!(true)]),
        ("invited_by_code", "invalid_invite_code", vec![json!(""), json!("A")]),
        ("deletion_at", "wrong_type", vec![json!("2026-12-01T00:00:00Z"), json!(""), json!(false)]),
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
    let big = r#"{"metadata":{"a":18446744073709551616},"reason":"x"}"#;
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

/// Returns the entries of the audit log that match a query.
async fn entries(service: &Service, access: &str, query: &str) -> Vec<Value> {
    let path = format!("/admin/audit_log/?{query}");
    service.client.get(&path, access).await.ok()["results"].as_array().expect("entries").clone()
}

#[tokio::test]
async fn staff_block_and_unblock_a_user() {
    let service = Service::start().await;
    let (anna, staff) = (service.enter(ANNA, None).await, staff(&service).await);
    let blocked = update(&service, &anna.id, &staff.access, &json!({ "is_active": false })).await.ok();
    assert_eq!((&blocked["is_active"], &blocked["sessions"]), (&json!(false), &json!([])));
    let own = service.client.get("/users/current_user/", &anna.access).await;
    own.assert_problem(401, "token_not_valid");
    update(&service, &anna.id, &staff.access, &json!({ "is_active": true })).await.ok();
    service.enter(ANNA, None).await;
    let entries = entries(&service, &staff.access, &format!("user={}", anna.id)).await;
    let change =
        |before: &str, after: &str| json!({ "field": "is_active", "before": before, "after": after });
    assert_eq!(entries[0]["changes"], json!([change("false", "true")]));
    assert_eq!(entries[1]["changes"], json!([change("true", "false")]));
    assert_eq!(entries[1]["reason"], "asked by phone");
    assert_eq!((&entries[1]["actor"], &entries[1]["user"]), (&json!(staff.id), &json!(anna.id)));
}

#[tokio::test]
async fn each_change_requires_a_reason() {
    let service = Service::start().await;
    let (anna, staff) = (service.enter(ANNA, None).await, staff(&service).await);
    let user = format!("/admin/users/{}/", anna.id);
    for (method, path, body) in [
        (Method::PATCH, &user, json!({ "is_active": false })),
        (Method::DELETE, &user, json!({})),
        (Method::DELETE, &format!("{user}sessions/"), json!({})),
        (Method::POST, &"/admin/phones/unlock/".to_owned(), json!({ "phone": ANNA })),
    ] {
        let none = request(&service, method.clone(), path, &staff.access, &body).await;
        none.assert_field(400, "required", "reason");
        for reason in [json!(""), json!(" "), json!("a\nb"), json!("x".repeat(501))] {
            let mut body = body.clone();
            body["reason"] = reason;
            let response = request(&service, method.clone(), path, &staff.access, &body).await;
            response.assert_field(400, "invalid_reason", "reason");
        }
    }
    assert_eq!(service.client.get("/users/current_user/", &anna.access).await.ok()["is_active"], true);
    assert_eq!(entries(&service, &staff.access, &format!("user={}", anna.id)).await, Vec::<Value>::new());
}

#[tokio::test]
async fn support_cannot_change_users() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let phone = PhoneNumber::parse(BORIS, None).expect("valid");
    service.referral.make_staff(phone, StaffRole::Support).await.expect("created");
    let support = service.enter(BORIS, None).await;
    let change = json!({ "staff_role": "admin" });
    for id in [&anna.id, &support.id] {
        update(&service, id, &support.access, &change).await.assert_problem(403, "admin_only");
    }
    let (user, reason) = (format!("/admin/users/{}/", anna.id), json!({ "reason": "lost phone" }));
    let deleted = request(&service, Method::DELETE, &user, &support.access, &reason).await;
    deleted.assert_problem(403, "admin_only");
    let details = service.client.get(&user, &support.access).await.ok();
    assert_eq!((&details["phone"], &details["staff_role"]), (&json!(ANNA), &Value::Null));
    assert_eq!(details["sessions"].as_array().map(Vec::len), Some(1));
    let sessions = format!("{user}sessions/");
    let ended = request(&service, Method::DELETE, &sessions, &support.access, &reason).await.ok();
    assert_eq!(ended["ended"], 1);
    service.client.get("/users/current_user/", &anna.access).await.assert_problem(401, "token_not_valid");
    let body = json!({ "phone": "8 (960) 854-30-17", "reason": "lost phone" });
    let unlocked = request(&service, Method::POST, "/admin/phones/unlock/", &support.access, &body).await;
    unlocked.assert_field(400, "invalid_phone", "phone");
    let body = json!({ "phone": ANNA, "reason": "lost phone" });
    let unlocked =
        request(&service, Method::POST, "/admin/phones/unlock/", &support.access, &body).await.ok();
    assert_eq!((&unlocked["action"], &unlocked["user"]), (&json!("phone_unlocked"), &json!(anna.id)));
}

#[tokio::test]
async fn inviter_is_replaced_and_removed() {
    let service = Service::start().await;
    let [anna, boris] = [service.enter(ANNA, None).await, service.enter(BORIS, None).await];
    let staff = staff(&service).await;
    let code = |signed_in: &SignedIn| {
        let (service, id, access) = (&service, signed_in.id.clone(), staff.access.clone());
        async move { service.client.get(&format!("/users/{id}/"), &access).await.ok()["invite_code"].clone() }
    };
    let [of_boris, of_staff] = [code(&boris).await, code(&staff).await];
    for (body, inviter) in [
        (json!({ "invited_by_code": of_boris }), json!(boris.id)),
        (json!({ "invited_by_code": of_staff }), json!(staff.id)),
        (json!({ "invited_by_code": null }), Value::Null),
    ] {
        let updated = update(&service, &anna.id, &staff.access, &body).await.ok();
        assert_eq!(updated["inviter"]["id"], inviter);
        assert_eq!(
            updated["invitation"]["via"],
            if inviter.is_null() { Value::Null } else { json!("staff") }
        );
    }
    let unknown = update(&service, &anna.id, &staff.access, &json!({ "invited_by_code": "ZZZZZZ" })).await;
    unknown.assert_field(400, "unknown_invite_code", "invited_by_code");
}

#[tokio::test]
async fn the_last_admin_stays() {
    let service = Service::start().await;
    let staff = staff(&service).await;
    for change in
        [json!({ "staff_role": null }), json!({ "staff_role": "support" }), json!({ "is_active": false })]
    {
        update(&service, &staff.id, &staff.access, &change).await.assert_problem(409, "last_admin");
    }
    let anna = service.enter(ANNA, None).await;
    update(&service, &anna.id, &staff.access, &json!({ "staff_role": "admin" })).await.ok();
    let demoted = update(&service, &staff.id, &staff.access, &json!({ "staff_role": null })).await.ok();
    assert_eq!((&demoted["is_staff"], &demoted["staff_role"]), (&json!(false), &Value::Null));
    service.client.get("/admin/users/", &staff.access).await.assert_problem(403, "staff_only");
}

#[tokio::test]
async fn deleted_user_leaves_no_personal_data_in_the_audit_log() {
    let service = Service::start().await;
    let (anna, staff) = (service.enter(ANNA, None).await, staff(&service).await);
    update(&service, &anna.id, &staff.access, &json!({ "first_name": "Anna" })).await.ok();
    let (user, reason) = (format!("/admin/users/{}/", anna.id), json!({ "reason": "request 17" }));
    let deleted = request(&service, Method::DELETE, &user, &staff.access, &reason).await.ok();
    assert_eq!(deleted["phone"], ANNA);
    service.client.get(&user, &staff.access).await.assert_problem(404, "not_found");
    let entries = entries(&service, &staff.access, "").await;
    assert_eq!(
        (&entries[0]["action"], &entries[0]["reason"]),
        (&json!("user_deleted"), &json!("request 17"))
    );
    assert_eq!((&entries[1]["reason"], &entries[1]["changes"]), (&Value::Null, &json!([])));
}

#[tokio::test]
async fn staff_see_and_cancel_a_scheduled_deletion() {
    let grace = Duration::from_hours(24);
    let service = Service::with_policy(with_grace(grace)).await;
    let (anna, staff) = (service.enter(ANNA, None).await, staff(&service).await);
    let user = format!("/admin/users/{}/", anna.id);
    let deletion_at = async || service.client.get(&user, &staff.access).await.ok()["deletion_at"].clone();
    assert_eq!(deletion_at().await, Value::Null);
    let scheduled = service.client.delete_account(&anna).await["deletion_at"].clone();
    assert!(scheduled.is_string(), "{scheduled}");
    assert_eq!(deletion_at().await, scheduled);
    update(&service, &anna.id, &staff.access, &json!({ "first_name": "Anna" })).await.ok();
    assert_eq!(deletion_at().await, scheduled, "another change cancels nothing");

    let updated = update(&service, &anna.id, &staff.access, &json!({ "deletion_at": null })).await.ok();
    assert_eq!(updated["deletion_at"], Value::Null);
    let log = entries(&service, &staff.access, &format!("user={}", anna.id)).await;
    let actions: Vec<_> = log.iter().map(|entry| &entry["action"]).collect();
    assert_eq!(actions, ["user_changed", "user_changed", "deletion_scheduled"]);
    let change = json!([{ "field": "deletion_at", "before": log[2]["changes"][0]["after"], "after": null }]);
    assert_eq!(log[0]["changes"], change);
    assert_eq!((&log[2]["actor"], &log[2]["reason"]), (&json!(anna.id), &Value::Null));
    service.clock.advance(grace);
    service.referral.run_maintenance().await.expect("maintained");
    let kept = service.enter(ANNA, None).await;
    assert_eq!(kept.id, anna.id);

    service.client.delete_account(&kept).await;
    service.enter(ANNA, None).await;
    let staff = service.enter(VERA, None).await;
    let canceled = entries(&service, &staff.access, "action=deletion_canceled").await;
    assert_eq!((canceled.len(), &canceled[0]["actor"]), (1, &json!(anna.id)));
}

#[tokio::test]
async fn audit_log_is_paged_and_filtered() {
    let service = Service::start().await;
    let (anna, staff) = (service.enter(ANNA, None).await, staff(&service).await);
    for number in 0..3 {
        let body = json!({ "external_id": number.to_string() });
        update(&service, &anna.id, &staff.access, &body).await.ok();
    }
    let first = service.client.get("/admin/audit_log/?limit=2&action=user_changed", &staff.access).await.ok();
    assert_eq!(first["results"].as_array().map(Vec::len), Some(2));
    let next = first["next"].as_str().expect("a link").split_once("/api/v1").expect("the base").1.to_owned();
    let second = service.client.get(&next, &staff.access).await.ok();
    assert_eq!((&second["next"], second["results"].as_array().map(Vec::len)), (&Value::Null, Some(1)));
    assert_eq!(entries(&service, &staff.access, "actor=host").await.len(), 1, "the first admin");
    assert_eq!(entries(&service, &staff.access, &format!("actor={}", anna.id)).await.len(), 0);
    for (query, code, field) in [
        ("user=x", "invalid_id", "user"),
        ("actor=x", "invalid_id", "actor"),
        ("action=x", "invalid_action", "action"),
        ("cursor=x", "invalid_cursor", "cursor"),
        ("limit=0", "invalid_limit", "limit"),
        ("reason=x", "unknown_parameter", "reason"),
    ] {
        let path = format!("/admin/audit_log/?{query}");
        service.client.get(&path, &staff.access).await.assert_field(400, code, field);
    }
    service.client.get("/admin/audit_log/", &anna.access).await.assert_problem(403, "staff_only");
}

#[tokio::test]
async fn staff_find_a_user_by_anything() {
    let service = Service::start().await;
    let (anna, staff) = (service.enter(ANNA, None).await, staff(&service).await);
    update(&service, &anna.id, &staff.access, &json!({ "external_id": "crm|17", "first_name": "Анна" }))
        .await
        .ok();
    for search in ["%2B7+(960)+854-30-17", "9608543017", "АННА", "crm|17", &anna.id] {
        let path = format!("/admin/users/?search={search}");
        let found = service.client.get(&path, &staff.access).await.ok();
        assert_eq!((&found["count"], &found["results"][0]["id"]), (&json!(1), &json!(anna.id)), "{search}");
        service.client.get(&path, &anna.access).await.assert_problem(403, "staff_only");
    }
}
