//! Tests of the export of everything that is stored about a user.

use std::collections::BTreeSet;

use referral_core::{
    PhoneNumber, StaffRole,
    policy::{Limits, Policy, Visibility},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{ANNA, BORIS, DOCUMENT, Response, Service, SignedIn, VERA};

const OWN: &str = "/users/current_user/export/";

/// Signs in a member of staff.
async fn staff(service: &Service, phone: &str, role: StaffRole) -> SignedIn {
    let number = PhoneNumber::parse(phone, None).expect("valid");
    service.referral.make_staff(number, role).await.expect("created");
    service.enter(phone, None).await
}

/// Exports the data of a user as staff.
async fn export(service: &Service, id: &str, access: &str, body: &Value) -> Response {
    let request = service.client.request(Method::POST, &format!("/admin/users/{id}/export/"));
    service.client.send(request.bearer_auth(access).json(body)).await
}

/// Returns the entries of the audit log about exports.
async fn exports(service: &Service, admin: &SignedIn) -> Vec<Value> {
    let log = service.client.get("/admin/audit_log/?action=data_exported", &admin.access).await.ok();
    log["results"].as_array().expect("entries").clone()
}

/// Asserts that an object has the fields of a schema of the document, and its lists too.
#[track_caller]
fn assert_documented(value: &Value, schema: &Value) {
    if let Some(reference) = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str()) {
        let path = reference.strip_prefix('#').expect("a reference within the document");
        return assert_documented(value, DOCUMENT.pointer(path).expect("a schema"));
    }
    match value {
        Value::Object(object) if schema["properties"].is_object() => {
            let properties = schema["properties"].as_object().expect("properties");
            let names =
                |names: &serde_json::Map<String, Value>| names.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(names(object), names(properties), "{value}");
            for (name, value) in object {
                assert_documented(value, &properties[name]);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| assert_documented(item, &schema["items"])),
        _ => {}
    }
}

#[tokio::test]
async fn users_export_their_own_data_and_no_data_of_others() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let admin = staff(&service, VERA, StaffRole::Admin).await;
    let code = service.client.invite_code(&anna).await;
    let invited = service.enter(BORIS, Some(&code)).await;
    let stranger = service.enter("+79608543018", None).await;
    for (id, name) in [(&anna.id, "Анна\u{9b}\""), (&stranger.id, "Stranger")] {
        let request = service.client.request(Method::PATCH, &format!("/admin/users/{id}/"));
        let body = json!({ "first_name": name, "external_id": name, "reason": "asked by phone" });
        service.client.send(request.bearer_auth(&admin.access).json(&body)).await;
    }

    let exported = service.client.get(OWN, &anna.access).await;
    assert_eq!(exported.header("content-type"), Some("application/json; charset=utf-8"));
    let file = format!("attachment; filename=\"personal-data-{}.json\"", anna.id);
    assert_eq!(exported.header("content-disposition"), Some(&*file));
    assert_eq!(exported.header("cache-control"), Some("no-store"));
    assert!(exported.header("content-length").is_none(), "the length is not known before the last page");
    for hidden in [&*admin.id, VERA, &*stranger.id, "+79608543018", "Stranger"] {
        assert!(!exported.text.contains(hidden), "{hidden} is in {}", exported.text);
    }
    let data = exported.ok();
    assert_documented(&data, &json!({ "$ref": "#/components/schemas/PersonalData" }));
    let profile = service.client.get("/users/current_user/", &anna.access).await.ok();
    for (field, value) in
        profile.as_object().expect("a profile").iter().filter(|(name, _)| *name != "invited")
    {
        assert_eq!(&data["user"][field], value, "{field}");
    }
    assert_eq!(data["invitation"], Value::Null);
    assert_eq!(data["code_requests"].as_array().map(Vec::len), Some(2));
    assert_eq!(data["sessions"].as_array().map(Vec::len), Some(1));
    assert_eq!(data["invited"][0]["id"], json!(invited.id));
    assert_eq!(data["invited"].as_array().map(Vec::len), Some(1));

    let data = service.client.get(OWN, &invited.access).await.ok();
    assert_eq!(data["invitation"]["via"], "sign_up");
    assert_eq!((&data["user"]["invited_by_code"], &data["audit_log"]), (&json!(code), &json!([])));
}

#[tokio::test]
async fn users_see_the_changes_of_staff_without_their_ids() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let admin = staff(&service, VERA, StaffRole::Admin).await;
    let request = service.client.request(Method::PATCH, &format!("/admin/users/{}/", anna.id));
    let body = json!({ "first_name": "Anna", "reason": "asked by phone" });
    service.client.send(request.bearer_auth(&admin.access).json(&body)).await.ok();
    export(&service, &anna.id, &admin.access, &json!({ "reason": "request 17" })).await.ok();

    let data = service.client.get(OWN, &anna.access).await.ok();
    let entries = data["audit_log"].as_array().expect("entries");
    let shown = |entry: &Value| ["author", "author_id", "action", "reason"].map(|field| entry[field].clone());
    assert_eq!(entries.len(), 2, "{entries:?}");
    assert_eq!(
        shown(&entries[0]),
        [json!("staff"), Value::Null, json!("data_exported"), json!("request 17")]
    );
    assert_eq!(
        shown(&entries[1]),
        [json!("staff"), Value::Null, json!("user_changed"), json!("asked by phone")]
    );
    let change = json!({ "field": "first_name", "before": null, "after": "Anna" });
    assert_eq!(entries[1]["changes"], json!([change]));

    let own = service.client.get(OWN, &admin.access).await.ok();
    let hosts: Vec<_> =
        own["audit_log"].as_array().expect("entries").iter().map(|entry| &entry["author"]).collect();
    assert_eq!(hosts, ["host"], "entries about others are not data of the author");
}

#[tokio::test]
async fn admins_export_the_data_of_a_user_with_an_entry_in_the_audit_log() {
    let mut policy = Policy::development();
    policy.visibility = Visibility::Masked;
    let service = Service::with_policy(policy).await;
    let anna = service.enter(ANNA, None).await;
    let code = service.client.invite_code(&anna).await;
    service.enter(BORIS, Some(&code)).await;
    let admin = staff(&service, VERA, StaffRole::Admin).await;

    let exported = export(&service, &anna.id, &admin.access, &json!({ "reason": "request 17" })).await;
    let file = format!("attachment; filename=\"personal-data-{}.json\"", anna.id);
    assert_eq!(exported.header("content-disposition"), Some(&*file));
    let data = exported.ok();
    assert_documented(&data, &json!({ "$ref": "#/components/schemas/PersonalData" }));
    let entries = exports(&service, &admin).await;
    assert_eq!(entries.len(), 1);
    assert_eq!(
        (&entries[0]["actor"], &entries[0]["user"], &entries[0]["reason"]),
        (&json!(admin.id), &json!(anna.id), &json!("request 17"))
    );
    let own = &data["audit_log"][0];
    assert_eq!((&own["id"], &own["author_id"]), (&entries[0]["id"], &json!(admin.id)));
    assert_eq!(data["invited"][0]["phone"], BORIS);
    let masked = service.client.get(OWN, &anna.access).await.ok();
    let phone = masked["invited"][0]["phone"].as_str().expect("a phone");
    assert!(phone.contains('*') && phone.ends_with(&BORIS[10..]), "{phone}");
}

#[tokio::test]
async fn export_of_another_user_requires_an_admin_and_a_reason() {
    let service = Service::start().await;
    let [anna, boris] = [service.enter(ANNA, None).await, service.enter(BORIS, None).await];
    let support = staff(&service, "+79608543018", StaffRole::Support).await;
    let admin = staff(&service, VERA, StaffRole::Admin).await;
    let reason = json!({ "reason": "request 17" });
    for id in [&anna.id, &boris.id, &support.id, "00000000-0000-0000-0000-000000000000"] {
        export(&service, id, &anna.access, &reason).await.assert_problem(403, "staff_only");
        export(&service, id, &support.access, &reason).await.assert_problem(403, "admin_only");
        export(&service, id, "x", &reason).await.assert_problem(401, "token_not_valid");
    }
    export(&service, &anna.id, &admin.access, &json!({})).await.assert_field(400, "required", "reason");
    let empty = export(&service, &anna.id, &admin.access, &json!({ "reason": " " })).await;
    empty.assert_field(400, "invalid_reason", "reason");
    for id in ["00000000-0000-0000-0000-000000000000", "x", "current_user"] {
        export(&service, id, &admin.access, &reason).await.assert_problem(404, "not_found");
    }
    let read = service.client.get(&format!("/admin/users/{}/export/", anna.id), &admin.access).await;
    read.assert_problem(405, "method_not_allowed");
    assert_eq!(exports(&service, &admin).await, Vec::<Value>::new());

    let anonymous = service.client.send(service.client.request(Method::GET, OWN)).await;
    anonymous.assert_problem(401, "not_authenticated");
    service
        .client
        .get(&format!("{OWN}?user={}", boris.id), &anna.access)
        .await
        .assert_problem(400, "unknown_parameter");
}

#[tokio::test]
async fn ended_sessions_and_blocked_and_deleted_users_export_nothing() {
    let service = Service::start().await;
    let admin = staff(&service, VERA, StaffRole::Admin).await;
    let reason = json!({ "reason": "request 17" });
    let rejected = async |signed_in: &SignedIn| {
        service.client.get(OWN, &signed_in.access).await.assert_problem(401, "token_not_valid");
    };
    let anna = service.enter(ANNA, None).await;
    let host = service.referral.host_administration();
    let because = |text| referral_core::audit::Reason::parse(text).expect("valid");
    let id = anna.id.parse().expect("an id");
    host.end_sessions(id, because("lost phone")).await.expect("ended");
    rejected(&anna).await;

    let anna = service.enter(ANNA, None).await;
    service.referral.set_active(id, false).await.expect("blocked");
    rejected(&anna).await;
    // A blocked user asks for the data by another way, so staff export them.
    let data = export(&service, &anna.id, &admin.access, &reason).await.ok();
    assert_eq!((&data["user"]["is_active"], &data["sessions"]), (&json!(false), &json!([])));

    service.referral.set_active(id, true).await.expect("unblocked");
    let anna = service.enter(ANNA, None).await;
    service.referral.delete_user(id).await.expect("deleted");
    rejected(&anna).await;
    export(&service, &anna.id, &admin.access, &reason).await.assert_problem(404, "not_found");
    assert_eq!(exports(&service, &admin).await.len(), 1);
}

#[tokio::test]
async fn lists_of_several_pages_are_one_list_in_the_file() {
    let mut policy = Policy::development();
    policy.codes_per_phone = Limits::off();
    let service = Service::with_policy(policy).await;
    let anna = service.enter(ANNA, None).await;
    let code = service.client.invite_code(&anna).await;
    let mut invited = Vec::new();
    for number in 0..201 {
        invited.push(service.enter(&format!("+7960854{number:04}"), Some(&code)).await.id);
    }
    for _ in 0..101 {
        service.enter(ANNA, None).await;
    }
    let data = service.client.get(OWN, &anna.access).await.ok();
    let ids: Vec<_> = data["invited"].as_array().expect("users").iter().map(|user| &user["id"]).collect();
    assert_eq!(ids, invited.iter().rev().collect::<Vec<_>>());
    assert_eq!(data["sessions"].as_array().map(Vec::len), Some(102));
    assert_eq!(data["code_requests"].as_array().map(Vec::len), Some(50));
}
