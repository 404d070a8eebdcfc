//! Tests of lists, profiles and invitees.

use referral_core::{
    PhoneNumber, StaffRole,
    policy::{Policy, Visibility},
};
use serde_json::{Value, json};

use crate::service::{ANNA, BORIS, MINUTE, Service, SignedIn, VERA};

/// Signs in Anna, then Boris and Vera with the invite code of Anna.
async fn three(service: &Service) -> [SignedIn; 3] {
    let anna = service.enter(ANNA, None).await;
    let code = service.client.invite_code(&anna).await;
    service.clock.advance(MINUTE / 60);
    let boris = service.enter(BORIS, Some(&code)).await;
    service.clock.advance(MINUTE / 60);
    let vera = service.enter(VERA, Some(&code)).await;
    [anna, boris, vera]
}

fn ids(page: &Value) -> Vec<&str> {
    let users = page["results"].as_array().expect("results");
    users.iter().map(|user| user["id"].as_str().expect("an id")).collect()
}

/// Follows an absolute link to another page.
async fn follow(service: &Service, link: &Value, access: &str) -> Value {
    let link = link.as_str().expect("a link");
    assert!(link.starts_with(&service.client.url("/api/v1/users/")), "{link}");
    service.client.send(service.client.http.get(link).bearer_auth(access)).await.ok()
}

#[tokio::test]
async fn users_are_listed_newest_first_with_links_to_other_pages() {
    let service = Service::start().await;
    let [anna, boris, vera] = three(&service).await;
    let page = service.client.get("/users/?limit=2", &anna.access).await.ok();
    assert_eq!(ids(&page), [&vera.id, &boris.id]);
    assert_eq!(
        (&page["count"], &page["count_exact"], &page["previous"]),
        (&json!(3), &json!(true), &Value::Null)
    );
    let next = follow(&service, &page["next"], &anna.access).await;
    assert_eq!((ids(&next), &next["next"]), (vec![&*anna.id], &Value::Null));
    let previous = follow(&service, &next["previous"], &anna.access).await;
    assert_eq!(previous["results"], page["results"]);

    let page = service.client.get("/users/?limit=1&offset=1", &anna.access).await.ok();
    assert_eq!(ids(&page), [&boris.id]);
    assert!(page["next"].as_str().is_some_and(|link| link.contains("limit=1&offset=2")), "{page}");
    assert!(page["previous"].as_str().is_some_and(|link| link.contains("limit=1&offset=0")), "{page}");
    let next = follow(&service, &page["next"], &anna.access).await;
    assert_eq!(ids(&next), [&anna.id]);
}

#[tokio::test]
async fn a_user_has_the_same_fields_for_every_caller() {
    let service = Service::start().await;
    let [anna, boris, vera] = three(&service).await;
    let own = service.client.get("/users/current_user/", &anna.access).await.ok();
    let seen = service.client.get(&format!("/users/{}/", anna.id), &boris.access).await.ok();
    let hidden = json!({ "external_id": null, "metadata": null });
    let mut expected = own.clone();
    for (field, value) in hidden.as_object().expect("an object") {
        expected[field] = value.clone();
    }
    assert_eq!((&expected, &own["metadata"]), (&seen, &json!({})));
    let fields: Vec<_> = own.as_object().expect("an object").keys().map(String::as_str).collect();
    let mut expected = vec![
        "id",
        "phone",
        "invite_code",
        "invited_by_code",
        "email",
        "first_name",
        "last_name",
        "is_staff",
        "is_active",
        "date_joined",
        "last_login",
        "external_id",
        "metadata",
        "invited",
        "invited_count",
    ];
    expected.sort_unstable();
    let mut sorted = fields.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    let joined = own["date_joined"].as_str().expect("a time");
    assert_eq!(own["last_login"], joined);
    assert!(joined.starts_with("2026-11-22T10:15:30.1") && joined.ends_with('Z'), "{joined}");
    let invited = json!([{ "id": vera.id, "phone": VERA }, { "id": boris.id, "phone": BORIS }]);
    assert_eq!((&own["invited"], &own["invited_count"]), (&invited, &json!(2)));
}

#[tokio::test]
async fn filters_and_search_normalize_their_input() {
    let service = Service::start().await;
    let [anna, boris, vera] = three(&service).await;
    let code = service.client.invite_code(&anna).await;
    service
        .client
        .patch(&anna.access, &json!({ "first_name": "Анна", "email": "A_b%c@Example.com" }))
        .await
        .ok();
    for (query, expected) in [
        ("phone=%2B79608543017".to_owned(), vec![&anna.id]),
        ("phone=+79608543017".to_owned(), vec![&anna.id]),
        ("phone=nonsense".to_owned(), vec![]),
        ("email=a_B%25c@example.com".to_owned(), vec![&anna.id]),
        ("first_name=%D0%90%D0%BD%D0%BD%D0%B0".to_owned(), vec![&anna.id]),
        ("last_name=x".to_owned(), vec![]),
        (format!("invite_code={}", code.to_lowercase()), vec![&anna.id]),
        (format!("invited_by_code={code}"), vec![&vera.id, &boris.id]),
        (format!("invited_by_code={code}&phone=%2B77011234567"), vec![&boris.id]),
        ("search=%D0%90%D0%9D%D0%9D".to_owned(), vec![&anna.id]),
        ("search=_b%25c+example".to_owned(), vec![&anna.id]),
        ("search=%25%25%25".to_owned(), vec![]),
        (format!("search={code}+7011"), vec![&boris.id]),
        ("search=".to_owned(), vec![&vera.id, &boris.id, &anna.id]),
    ] {
        let page = service.client.get(&format!("/users/?{query}"), &anna.access).await.ok();
        assert_eq!(ids(&page), expected, "{query}");
        assert_eq!(page["count"], expected.len(), "{query}");
    }
}

#[tokio::test]
async fn an_invalid_query_parameter_is_reported_by_name() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    for (query, code, field) in [
        ("limit=0", "invalid_limit", "limit"),
        ("limit=-1", "invalid_limit", "limit"),
        ("limit=101", "invalid_limit", "limit"),
        ("limit=ten", "invalid_limit", "limit"),
        ("limit=", "invalid_limit", "limit"),
        ("limit=99999999999999999999", "invalid_limit", "limit"),
        ("offset=-1", "invalid_offset", "offset"),
        ("offset=99999999999999999999", "invalid_offset", "offset"),
        ("offset=1.5", "invalid_offset", "offset"),
        ("offset=1&cursor=x", "invalid_offset", "offset"),
        ("offset=100001", "invalid_offset", "offset"),
        ("offset=18446744073709551615", "invalid_offset", "offset"),
        ("cursor=x", "invalid_cursor", "cursor"),
        ("cursor=", "invalid_cursor", "cursor"),
        ("search=a%00b", "invalid_text", "search"),
        ("search=7+8", "invalid_search", "search"),
        ("search=a+b+c+d+e+f+g", "invalid_search", "search"),
        ("search=one+two+three+four+five+six", "invalid_search", "search"),
        ("first_name=%0A", "invalid_text", "first_name"),
        ("firstname=Anna", "unknown_parameter", "firstname"),
        ("is_staff=true", "unknown_parameter", "is_staff"),
        ("page=2", "unknown_parameter", "page"),
        ("ordering=id", "unknown_parameter", "ordering"),
        ("Search=x", "unknown_parameter", "Search"),
        ("search=x&=", "unknown_parameter", ""),
        ("search=x&search=y", "bad_request", "search"),
    ] {
        let response = service.client.get(&format!("/users/?{query}"), &anna.access).await;
        response.assert_field(400, code, field);
    }
    let other = service.client.get("/users/current_user/?fields=id", &anna.access).await;
    other.assert_field(400, "unknown_parameter", "fields");
    let other = service.client.post("/auth/send_code/?locale=ru", &json!({ "phone": ANNA })).await;
    other.assert_field(400, "unknown_parameter", "locale");
    let long = format!("/users/?search={}", "x".repeat(10_000));
    service.client.get(&long, &anna.access).await.assert_field(400, "invalid_text", "search");
    let long = format!("/users/?email={}@example.com", "x".repeat(10_000));
    assert_eq!(service.client.get(&long, &anna.access).await.ok()["count"], 0);
    let far = service.client.get("/users/?offset=100000", &anna.access).await.ok();
    assert_eq!(far["results"], json!([]));
    let repeated = format!("/users/?search={}", ["7"; 50].join("+"));
    assert_eq!(ids(&service.client.get(&repeated, &anna.access).await.ok()), [&anna.id]);
}

#[tokio::test]
async fn an_unknown_id_of_any_form_is_not_found() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    for id in [
        "00000000-0000-0000-0000-000000000000",
        "1",
        "not-a-uuid",
        "%00",
        "%F0%9F%99%82",
        "..%2F",
        &"9".repeat(5_000),
    ] {
        for tail in ["", "invited/"] {
            let response = service.client.get(&format!("/users/{id}/{tail}"), &anna.access).await;
            response.assert_problem(404, "not_found");
        }
    }
}

#[tokio::test]
async fn a_profile_is_edited_field_by_field() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let body = json!({ "first_name": " Анна ", "last_name": "Петрова", "email": "ANNA@example.com" });
    let user = service.client.patch(&anna.access, &body).await.ok();
    assert_eq!((&user["first_name"], &user["email"]), (&json!("Анна"), &json!("anna@example.com")));
    let user = service.client.patch(&anna.access, &json!({ "last_name": null })).await.ok();
    assert_eq!((&user["first_name"], &user["last_name"]), (&json!("Анна"), &Value::Null));
    assert_eq!(service.client.patch(&anna.access, &json!({})).await.ok(), user);
    assert_eq!(service.client.get("/users/current_user/", &anna.access).await.ok(), user);
}

#[tokio::test]
async fn an_invalid_edit_changes_nothing_and_reports_every_field() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    let body = json!({
        "first_name": "", "last_name": "x".repeat(65), "email": "a@b", "invited_by_code": null,
        "phone": BORIS, "is_staff": true,
    });
    let response = service.client.patch(&anna.access, &body).await;
    response.assert_problem(400, "validation_failed");
    let errors = response.body["errors"].as_object().expect("errors");
    assert_eq!(errors.len(), 6, "{}", response.text);

    for (body, code, field) in [
        (json!({ "first_name": 1 }), "wrong_type", "first_name"),
        (json!({ "first_name": "a\u{0}b" }), "invalid_name", "first_name"),
        (json!({ "email": "" }), "invalid_email", "email"),
        (json!({ "invited_by_code": null }), "wrong_type", "invited_by_code"),
        (json!({ "invited_by_code": "" }), "invalid_invite_code", "invited_by_code"),
        (
            json!({ "invited_by_code": "ZZZZZZZZZZZZ", "first_name": "X" }),
            "unknown_invite_code",
            "invited_by_code",
        ),
        (json!({ "is_staff": true, "first_name": "X" }), "unknown_field", "is_staff"),
        (json!({ "phone": BORIS, "first_name": "X" }), "unknown_field", "phone"),
    ] {
        service.client.patch(&anna.access, &body).await.assert_field(400, code, field);
    }
    let user = service.client.get("/users/current_user/", &anna.access).await.ok();
    assert_eq!(
        (&user["first_name"], &user["is_staff"], &user["phone"]),
        (&Value::Null, &json!(false), &json!(ANNA))
    );
}

#[tokio::test]
async fn an_email_address_must_be_a_dot_string_at_a_domain() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    for email in [
        "<a@example.com>",
        "a(b)@example.com",
        ".a@example.com",
        "a.@example.com",
        "a..b@example.com",
        "a@-example.com",
        "a@ex_ample.com",
        "a@1.2.3.4",
        "a@[127.0.0.1]",
        "\"a b\"@example.com",
        "анна@example.com",
    ] {
        let response = service.client.patch(&anna.access, &json!({ "email": email })).await;
        response.assert_field(400, "invalid_email", "email");
    }
}

#[tokio::test]
async fn all_forms_of_an_internationalized_address_are_equal() {
    let service = Service::start().await;
    let [anna, boris, _] = three(&service).await;
    let stored = "user@xn--e1afmkfd.xn--p1ai";
    let user = service.client.patch(&anna.access, &json!({ "email": "User@пример.рф" })).await.ok();
    assert_eq!(user["email"], stored);
    for form in [stored, "user@пример.рф", "USER@ПРИМЕР.РФ", "ｕser@пример。рф"] {
        let taken = service.client.patch(&boris.access, &json!({ "email": form })).await;
        taken.assert_field(409, "email_taken", "email");
        for parameter in ["email", "search"] {
            let mut url = reqwest::Url::parse("http://localhost/users/").expect("a URL");
            url.query_pairs_mut().append_pair(parameter, form);
            let path = format!("/users/?{}", url.query().expect("a query"));
            let page = service.client.get(&path, &boris.access).await.ok();
            assert_eq!(ids(&page), [&anna.id], "{parameter}={form}");
        }
    }
}

#[tokio::test]
async fn names_may_be_as_long_as_real_ones() {
    let service = Service::start().await;
    let anna = service.enter(ANNA, None).await;
    for name in ["María de los Ángeles Guadalupe Hernández", &"ที่".repeat(64), "क्ष्मी", "علی\u{200c}رضا"]
    {
        let user = service.client.patch(&anna.access, &json!({ "first_name": name })).await.ok();
        assert_eq!(user["first_name"], *name);
    }
    for name in
        ["ที่".repeat(65), format!("e{}", "\u{301}".repeat(512)), "a\u{2028}b".into(), "a\u{200b}".into()]
    {
        let response = service.client.patch(&anna.access, &json!({ "first_name": name })).await;
        response.assert_field(400, "invalid_name", "first_name");
    }
}

#[tokio::test]
async fn an_email_of_another_user_and_a_second_inviter_are_conflicts() {
    let service = Service::start().await;
    let [anna, boris, vera] = three(&service).await;
    service.client.patch(&anna.access, &json!({ "email": "a@example.com" })).await.ok();
    let response =
        service.client.patch(&boris.access, &json!({ "email": "A@example.com", "first_name": "X" })).await;
    response.assert_field(409, "email_taken", "email");

    let veras = service.client.invite_code(&vera).await;
    let response = service.client.patch(&boris.access, &json!({ "invited_by_code": veras })).await;
    response.assert_field(409, "invitation_already_accepted", "invited_by_code");
    let annas = service.client.invite_code(&anna).await;
    service.client.patch(&boris.access, &json!({ "invited_by_code": annas })).await.ok();
    for (code, problem) in [(annas, "own_invite_code"), (veras, "invitation_loop")] {
        let response = service.client.patch(&anna.access, &json!({ "invited_by_code": code })).await;
        response.assert_field(400, problem, "invited_by_code");
    }
}

#[tokio::test]
async fn invitees_are_paged() {
    let service = Service::start().await;
    let [anna, boris, vera] = three(&service).await;
    let path = format!("/users/{}/invited/?limit=1", anna.id);
    let page = service.client.get(&path, &boris.access).await.ok();
    assert_eq!((ids(&page), &page["count"]), (vec![&*vera.id], &json!(2)));
    assert_eq!(page["results"][0]["phone"], VERA);
    assert!(page["results"][0]["joined_at"].is_string());
    let page = follow(&service, &page["next"], &boris.access).await;
    assert_eq!((ids(&page), &page["next"]), (vec![&*boris.id], &Value::Null));
    let path = format!("/users/{}/invited/?cursor=x", anna.id);
    service.client.get(&path, &boris.access).await.assert_field(400, "invalid_cursor", "cursor");
}

#[tokio::test]
async fn visibility_hides_other_users_from_all_but_staff() {
    for (visibility, list, by_phone, detail) in
        [(Visibility::Masked, 200, 403, 200), (Visibility::Staff, 403, 403, 403)]
    {
        let mut policy = Policy::development();
        policy.visibility = visibility;
        let service = Service::with_policy(policy).await;
        let [anna, boris, _] = three(&service).await;
        service.client.patch(&boris.access, &json!({ "email": "boris@example.com" })).await.ok();
        let boriss = format!("/users/{}/", boris.id);
        let by_phone_path = "/users/?phone=%2B77011234567";

        let response = service.client.get("/users/", &anna.access).await;
        assert_eq!(response.status, list);
        let response = service.client.get(by_phone_path, &anna.access).await;
        assert_eq!(response.status, by_phone);
        response.assert_problem(403, "staff_only");
        let response = service.client.get(&boriss, &anna.access).await;
        assert_eq!(response.status, detail);
        if detail == 200 {
            assert_eq!(
                (&response.body["phone"], &response.body["email"]),
                (&json!("+7701*****67"), &Value::Null)
            );
            assert!(!response.text.contains(BORIS));
            let found = service.client.get("/users/?search=11234567", &anna.access).await.ok();
            assert_eq!(found["count"], 0);
        }
        let own = service.client.get("/users/current_user/", &anna.access).await.ok();
        assert_eq!((&own["phone"], &own["invited"][0]["phone"]), (&json!(ANNA), &json!("+1415*****71")));

        let staff = PhoneNumber::parse(VERA, None).expect("a phone");
        service.referral.make_staff(staff, StaffRole::Admin).await.expect("staff");
        let staff = service.enter(VERA, None).await;
        assert_eq!(
            service.client.get(by_phone_path, &staff.access).await.ok()["results"][0]["email"],
            "boris@example.com"
        );
        assert_eq!(service.client.get(&boriss, &staff.access).await.ok()["phone"], BORIS);
    }
}
