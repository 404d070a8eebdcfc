//! Tests of the phones of users who were not active for a long time, and of phones that staff change.

use std::time::Duration;

use referral_core::{PhoneNumber, StaffRole, policy::Policy};
use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{ANNA, BORIS, POSTS, Response, Service, SignedIn, VERA};

const SILENCE: Duration = Duration::from_hours(40 * 24);

async fn recycling() -> Service {
    let mut policy = Policy::development();
    policy.phones_recycled_after = Some(SILENCE);
    Service::with_policy(policy).await
}

/// Signs in with a correct code and this `refresh_token`.
async fn sign_in(service: &Service, phone: &str, refresh_token: Value) -> Response {
    let sent = service.client.post(POSTS[0], &json!({ "phone": phone })).await.ok();
    let mut body = json!({ "phone": phone, "code": sent["code"], "challenge_id": sent["challenge_id"] });
    body["refresh_token"] = refresh_token;
    service.client.post(POSTS[1], &body).await
}

async fn staff(service: &Service) -> SignedIn {
    let phone = PhoneNumber::parse(VERA, None).expect("valid");
    service.referral.make_staff(phone, StaffRole::Admin).await.expect("created");
    service.enter(VERA, None).await
}

async fn set_phone(service: &Service, staff: &SignedIn, id: &Value, phone: Value) -> Response {
    let path = format!("/admin/users/{}/", id.as_str().expect("an id"));
    let request = service.client.request(Method::PATCH, &path).bearer_auth(&staff.access);
    service.client.send(request.json(&json!({ "phone": phone, "reason": "ticket 4714" }))).await
}

#[tokio::test]
async fn a_code_alone_does_not_open_the_account_of_a_silent_user() {
    let service = recycling().await;
    let anna = service.enter(ANNA, None).await;
    service.clock.advance(SILENCE);
    let proven = sign_in(&service, ANNA, json!(anna.refresh)).await.ok();
    assert_eq!((&proven["user_id"], &proven["created"]), (&json!(anna.id), &json!(false)));

    service.clock.advance(SILENCE);
    let unknown = sign_in(&service, BORIS, Value::Null).await.ok();
    let new = sign_in(&service, ANNA, json!(unknown["refresh"])).await.ok();
    assert_ne!(new["user_id"], anna.id);
    // Besides the tokens and the id, the response is that for a phone without an account.
    for field in ["token_type", "expires_in", "created", "invitation"] {
        assert_eq!(new[field], unknown[field], "{field}");
    }
    let names = |body: &Value| body.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&new), names(&unknown));
    let access = new["access"].as_str().expect("a token");
    let old = service.client.get(&format!("/users/{}/", anna.id), access).await;
    old.assert_problem(404, "not_found");
}

#[tokio::test]
async fn a_refresh_token_that_is_not_valid_is_ignored() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    for token in [json!(null), json!(""), json!("x"), json!("a.b.c"), json!(anna.access), json!(anna.refresh)]
    {
        service.clock.advance(Duration::from_hours(1));
        let signed_in = sign_in(&service, ANNA, token.clone()).await.ok();
        assert_eq!(signed_in["user_id"], anna.id, "{token}");
    }
    for token in [json!(1), json!({}), json!([anna.refresh]), json!(true)] {
        service.clock.advance(Duration::from_hours(1));
        sign_in(&service, ANNA, token).await.assert_field(400, "wrong_type", "refresh_token");
    }
    service.clock.advance(Duration::from_hours(1));
    sign_in(&service, ANNA, json!("a\0b")).await.assert_field(400, "invalid_text", "refresh_token");
}

#[tokio::test]
async fn staff_give_a_phone_back_to_its_former_user() {
    let service = recycling().await;
    let anna = service.enter(ANNA, None).await;
    let staff_before = staff(&service).await;
    service.clock.advance(SILENCE);
    let staff = sign_in(&service, VERA, json!(staff_before.refresh)).await.ok();
    let access = staff["access"].as_str().expect("a token").to_owned();
    let staff = SignedIn { access, ..staff_before };
    let new = sign_in(&service, ANNA, Value::Null).await.ok();
    let (new_id, old_id) = (&new["user_id"], &json!(anna.id));

    let path = format!("/admin/users/{}/", new_id.as_str().expect("an id"));
    let details = service.client.get(&path, &staff.access).await.ok();
    assert_eq!(
        (&details["phone_detached_at"], details["former_users"].as_array().map(Vec::len)),
        (&Value::Null, Some(1))
    );
    assert_eq!(details["former_users"][0]["id"], *old_id);
    set_phone(&service, &staff, old_id, json!(ANNA)).await.assert_problem(409, "phone_taken");

    let detached = set_phone(&service, &staff, new_id, Value::Null).await.ok();
    assert!(detached["phone_detached_at"].is_string() && detached["phone"] == ANNA, "{detached}");
    assert_eq!(detached["sessions"], json!([]));
    let found = service.client.get("/admin/users/?search=%2B79608543017", &staff.access).await.ok();
    let found: Vec<_> = found["results"].as_array().expect("users").iter().map(|user| &user["id"]).collect();
    assert_eq!(found, [new_id, old_id]);

    let linked = set_phone(&service, &staff, old_id, json!("+7 960 854-30-17")).await.ok();
    assert_eq!((&linked["phone"], &linked["phone_detached_at"]), (&json!(ANNA), &Value::Null));
    assert_eq!(service.enter(ANNA, None).await.id, anna.id);
    let entry = service.client.get(&format!("/admin/audit_log/?user={}", anna.id), &staff.access).await.ok();
    let changes = &entry["results"][0]["changes"];
    assert_eq!(*changes, json!([{ "field": "phone", "before": null, "after": ANNA }]));
}

#[tokio::test]
async fn a_phone_is_changed_by_admins_only_and_the_last_admin_keeps_it() {
    let service = Service::start().await;
    let (anna, vera) = (service.enter(ANNA, None).await, staff(&service).await);
    let id = json!(anna.id);
    for (phone, code) in
        [(json!("12"), "invalid_phone"), (json!(""), "invalid_phone"), (json!(7), "wrong_type")]
    {
        set_phone(&service, &vera, &id, phone).await.assert_field(400, code, "phone");
    }
    set_phone(&service, &anna, &id, json!(BORIS)).await.assert_problem(403, "staff_only");
    set_phone(&service, &vera, &json!(vera.id), Value::Null).await.assert_problem(409, "last_admin");
    let changed = set_phone(&service, &vera, &id, json!(BORIS)).await.ok();
    assert_eq!(changed["phone"], BORIS);
    service.client.get("/users/current_user/", &anna.access).await.assert_problem(401, "token_not_valid");
    assert_eq!(service.enter(BORIS, None).await.id, anna.id);

    let boris = PhoneNumber::parse(BORIS, None).expect("valid");
    service.referral.make_staff(boris, StaffRole::Support).await.expect("changed");
    let support = service.enter(BORIS, None).await;
    set_phone(&service, &support, &id, json!(ANNA)).await.assert_problem(403, "admin_only");
}
