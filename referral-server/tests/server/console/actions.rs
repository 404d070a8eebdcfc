//! Tests of the actions of staff, and of the audit log.

use std::time::Duration;

use referral_core::{Email, Name, StaffRole, User, UserId};

use super::visitor::{Page, Visitor, signed_in, start, start_with_policy};
use crate::service::{ANNA, BORIS, Service, SignedIn, VERA, with_grace};

/// Digest of empty metadata in the form.
const EMPTY_METADATA: &str = "RBNvo1WzZ4oRRq0W";

/// Opens the form of an action and sends it with these fields.
async fn act(visitor: &mut Visitor, path: &str, fields: &[(&str, &str)]) -> Page {
    let form = visitor.get(path).await;
    assert_eq!(form.status, 200, "{}", form.text);
    let token = form.field("token");
    let fields: Vec<_> = [("token", &*token)].into_iter().chain(fields.iter().copied()).collect();
    visitor.post(path.split('?').next().unwrap_or(path), &fields).await
}

async fn user(service: &Service, signed_in: &SignedIn) -> User {
    let id: UserId = signed_in.id.parse().expect("an id");
    service.referral.find_user(id).await.expect("read").expect("the user exists")
}

/// Returns a browser in which Vera, who has the role of support, is signed in.
async fn support(service: &Service) -> Visitor {
    let phone = service.referral.parse_phone(VERA).expect("a phone");
    service.referral.make_staff(phone, StaffRole::Support).await.expect("staff");
    let mut visitor = Visitor::new(&service.client);
    visitor.sign_in(VERA).await.assert_redirects("/admin/");
    visitor
}

#[tokio::test]
async fn admins_block_unblock_and_sign_out_users_and_change_their_roles() {
    let service = start().await;
    let boris = service.enter(BORIS, None).await;
    let mut visitor = signed_in(&service).await;
    let page = format!("/admin/users/{}/", boris.id);
    let done = |name: &str| format!("/admin/users/{}/?done={name}", boris.id);
    let reason = [("reason", "spam")];

    act(&mut visitor, &format!("{page}block/"), &reason).await.assert_redirects(&done("block"));
    assert!(!user(&service, &boris).await.is_active);
    visitor.get(&done("block")).await.assert_shows(200, "The user is blocked.");
    act(&mut visitor, &format!("{page}unblock/"), &reason).await.assert_redirects(&done("unblock"));
    assert!(user(&service, &boris).await.is_active);

    let boris = service.enter(BORIS, None).await;
    visitor.get(&page).await.assert_shows(200, "Sessions");
    act(&mut visitor, &format!("{page}end_sessions/"), &reason).await.assert_redirects(&done("end_sessions"));
    service.client.get("/users/current_user/", &boris.access).await.assert_problem(401, "token_not_valid");

    for (role, expected) in [("support", Some(StaffRole::Support)), ("", None)] {
        let fields = [("reason", "new colleague"), ("role", role)];
        act(&mut visitor, &format!("{page}role/"), &fields).await.assert_redirects(&done("role"));
        assert_eq!(user(&service, &boris).await.staff_role, expected);
    }
    let fields = [("reason", "x"), ("role", "king")];
    assert_eq!(act(&mut visitor, &format!("{page}role/"), &fields).await.status, 400);
}

#[tokio::test]
async fn admins_detach_a_phone_and_restore_it_from_the_audit_log() {
    let service = start().await;
    let boris = service.enter(BORIS, None).await;
    let mut visitor = signed_in(&service).await;
    let page = format!("/admin/users/{}/", boris.id);
    let (form, done) = (format!("{page}phone/"), format!("{page}?done=phone"));

    act(&mut visitor, &form, &[("reason", "wrong"), ("phone", "12")]).await.assert_shows(400, "value=\"12\"");
    let taken = [("reason", "wrong"), ("phone", ANNA)];
    service.enter(ANNA, None).await;
    act(&mut visitor, &form, &taken).await.assert_shows(409, "Another user");
    act(&mut visitor, &form, &[("reason", "sold"), ("phone", " ")]).await.assert_redirects(&done);
    assert!(!user(&service, &boris).await.has_phone());
    let shown = visitor.get(&done).await;
    shown.assert_shows(200, "The phone is changed.");
    shown.assert_shows(200, "no phone");

    let new = service.enter(BORIS, None).await;
    let shown = visitor.get(&format!("/admin/users/{}/", new.id)).await;
    shown.assert_shows(200, "Earlier accounts of the phone");
    shown.assert_shows(200, &format!("href=\"{page}\""));
    let other = [("reason", "sold"), ("phone", "")];
    let other_form = format!("/admin/users/{}/phone/", new.id);
    assert_eq!(act(&mut visitor, &other_form, &other).await.status, 303);

    let undo = format!("{form}?phone=%2B77011234567");
    visitor.get("/admin/audit/").await.assert_shows(200, &format!("href=\"{undo}\""));
    visitor.get(&undo).await.assert_shows(200, &format!("value=\"{BORIS}\""));
    let restored = [("reason", "showed a contract"), ("phone", BORIS)];
    act(&mut visitor, &undo, &restored).await.assert_redirects(&done);
    assert_eq!(service.enter(BORIS, None).await.id, boris.id);
}

#[tokio::test]
async fn actions_need_a_reason_and_the_form_keeps_its_values() {
    let service = start().await;
    let boris = service.enter(BORIS, None).await;
    let mut visitor = signed_in(&service).await;
    for action in ["block", "end_sessions", "role", "export", "delete"] {
        let path = format!("/admin/users/{}/{action}/", boris.id);
        let fields = [("reason", " "), ("role", "admin"), ("digits", &BORIS[8..])];
        let page = act(&mut visitor, &path, &fields).await;
        page.assert_shows(400, "The reason is empty, too long");
        if action == "role" {
            page.assert_shows(400, "<option value=\"admin\" selected>");
        }
    }
    let boris = user(&service, &boris).await;
    assert!(boris.is_active && boris.staff_role.is_none());
}

#[tokio::test]
async fn a_user_is_deleted_after_the_last_digits_of_the_phone_are_typed() {
    let service = start().await;
    let boris = service.enter(BORIS, None).await;
    let mut visitor = signed_in(&service).await;
    let path = format!("/admin/users/{}/delete/", boris.id);
    for digits in ["", "0000", &BORIS[7..]] {
        let fields = [("reason", "request 17"), ("digits", digits)];
        act(&mut visitor, &path, &fields).await.assert_shows(400, "not the last four digits");
    }
    let fields = [("reason", "request 17"), ("digits", &BORIS[8..])];
    act(&mut visitor, &path, &fields).await.assert_redirects("/admin/users/?done=delete");
    visitor.get(&format!("/admin/users/{}/", boris.id)).await.assert_shows(404, "the user was deleted");
    let log = visitor.get("/admin/audit/").await;
    log.assert_shows(200, "deleted user");
    assert!(!log.text.contains(BORIS), "{}", log.text);
}

#[tokio::test]
async fn admins_download_all_data_of_a_user() {
    let service = start().await;
    let boris = service.enter(BORIS, None).await;
    let mut visitor = signed_in(&service).await;
    let path = format!("/admin/users/{}/export/", boris.id);
    visitor.get(&format!("/admin/users/{}/", boris.id)).await.assert_shows(200, &path);
    let form = visitor.get(&path).await;
    form.assert_shows(200, "Downloads everything that is stored about the user");
    let token = form.field("token");
    let without_token = visitor.post(&path, &[("reason", "request 17")]).await;
    without_token.assert_shows(403, "The form is not valid any more");
    let other_origin = visitor.form(&path, &[("token", &*token), ("reason", "request 17")]);
    let other_origin = other_origin.header("sec-fetch-site", "cross-site");
    visitor.send(other_origin).await.assert_shows(403, "The form is not valid any more");
    assert!(!visitor.get("/admin/audit/").await.text.contains("request 17"));

    let file = visitor.post(&path, &[("token", &*token), ("reason", "request 17")]).await;
    assert_eq!((file.status, file.header("cache-control")), (200, "no-store"), "{}", file.text);
    assert_eq!(file.header("content-type"), "application/json; charset=utf-8");
    let disposition = format!("attachment; filename=\"personal-data-{}.json\"", boris.id);
    assert_eq!(file.header("content-disposition"), disposition);
    let data: serde_json::Value = serde_json::from_str(&file.text).expect("JSON");
    assert_eq!((&data["user"]["phone"], &data["user"]["id"]), (&BORIS.into(), &boris.id.into()));
    let log = visitor.get("/admin/audit/?action=data_exported").await;
    log.assert_shows(200, "request 17");
    log.assert_shows(200, "data exported");
}

#[tokio::test]
async fn a_scheduled_deletion_is_shown_and_canceled() {
    let service = start_with_policy(with_grace(Duration::from_hours(24))).await;
    let boris = service.enter(BORIS, None).await;
    let mut visitor = signed_in(&service).await;
    let page = format!("/admin/users/{}/", boris.id);
    assert!(!visitor.get(&page).await.text.contains("cancel_deletion"));
    service.client.delete_account(&boris).await;
    let shown = visitor.get(&page).await;
    for text in ["to be deleted", "Deletion (UTC)", "2026-11-23 10:15", "/cancel_deletion/"] {
        shown.assert_shows(200, text);
    }
    visitor.get("/admin/users/").await.assert_shows(200, "to be deleted");
    visitor.get("/admin/audit/").await.assert_shows(200, "deletion scheduled");

    let path = format!("{page}cancel_deletion/");
    let canceled = act(&mut visitor, &path, &[("reason", "asked by phone")]).await;
    canceled.assert_redirects(&format!("{page}?done=cancel_deletion"));
    assert_eq!(user(&service, &boris).await.deletion_at, None);
    let shown = visitor.get(&format!("{page}?done=cancel_deletion")).await;
    shown.assert_shows(200, "The deletion is canceled.");
    assert!(!shown.text.contains("to be deleted"), "{}", shown.text);
}

/// Only the fields that differ from their values at the time when the form was opened change.
#[tokio::test]
async fn an_edit_changes_only_the_edited_fields() {
    let service = start().await;
    let boris = service.enter(BORIS, None).await;
    let vera = service.enter(VERA, None).await;
    let invite = service.client.invite_code(&vera).await;
    let mut visitor = signed_in(&service).await;
    let path = format!("/admin/users/{}/edit/", boris.id);
    let token = visitor.get(&path).await.field("token");
    let fields = [
        ("token", &*token),
        ("first_name", "Борис"),
        ("was_first_name", ""),
        ("last_name", ""),
        ("was_last_name", ""),
        ("email", "boris@example.com"),
        ("was_email", ""),
        ("invited_by_code", &invite),
        ("was_invited_by_code", ""),
        ("external_id", "crm-17"),
        ("was_external_id", ""),
        ("metadata", r#"{"plan":"gold"}"#),
        ("was_metadata", EMPTY_METADATA),
        ("reason", "call of the user"),
    ];
    visitor.post(&path, &fields).await.assert_redirects(&format!("/admin/users/{}/?done=edit", boris.id));
    let edited = user(&service, &boris).await;
    assert_eq!(edited.first_name.as_ref().map(Name::as_str), Some("Борис"));
    assert_eq!(edited.invited_by.as_ref().map(|by| by.code.as_str()), Some(&*invite));
    assert_eq!(edited.metadata.to_string(), r#"{"plan":"gold"}"#);

    // The form was opened before the change of the email address.
    let form = visitor.get(&path).await;
    form.assert_shows(200, "name=\"was_email\" value=\"boris@example.com\"");
    service.client.patch(&boris.access, &serde_json::json!({ "email": "b@example.com" })).await.ok();
    let fields = [
        ("email", "boris@example.com"),
        ("was_email", "boris@example.com"),
        ("first_name", "Борис"),
        ("was_first_name", "Борис"),
        ("last_name", "Иванов"),
        ("invited_by_code", ""),
        ("was_invited_by_code", &*invite),
        ("external_id", "crm-17"),
        ("was_external_id", "crm-17"),
        ("reason", "typing error"),
    ];
    let edit = act(&mut visitor, &path, &fields).await;
    assert_eq!(edit.status, 303, "{}", edit.text);
    let edited = user(&service, &boris).await;
    assert_eq!(edited.email.as_ref().map(Email::as_str), Some("b@example.com"));
    assert_eq!(edited.last_name.as_ref().map(Name::as_str), Some("Иванов"));
    assert_eq!((edited.invited_by, edited.first_name.is_some()), (None, true));
}

#[tokio::test]
async fn rejected_edits_show_the_error_and_the_typed_values() {
    let service = start().await;
    let boris = service.enter(BORIS, None).await;
    let vera = service.enter(VERA, None).await;
    service.client.patch(&vera.access, &serde_json::json!({ "email": "vera@example.com" })).await.ok();
    let own = service.client.invite_code(&boris).await;
    let mut visitor = signed_in(&service).await;
    let path = format!("/admin/users/{}/edit/", boris.id);
    for (field, value, status, text) in [
        ("email", "vera@example.com", 409, "Another user has this email address."),
        ("email", "<b>@", 400, "The email address is not valid."),
        ("invited_by_code", &*own, 400, "A user cannot use their own invite code."),
        ("invited_by_code", "ZZZZZZ", 400, "No user has this invite code."),
        ("metadata", "[1]", 400, "The metadata are not an object"),
        ("first_name", "\u{202e}x", 400, "invisible characters"),
    ] {
        let fields =
            [(field, value), ("reason", "a test"), ("was_metadata", EMPTY_METADATA), ("metadata", "{}")];
        let fields: Vec<_> = fields
            .into_iter()
            .filter(|(name, text)| *name != "metadata" || field != "metadata" || *text != "{}")
            .collect();
        let page = act(&mut visitor, &path, &fields).await;
        page.assert_shows(status, text);
        assert!(!page.text.contains("<b>@"), "{}", page.text);
    }
    let unchanged = user(&service, &boris).await;
    assert!(unchanged.email.is_none() && unchanged.invited_by.is_none());
}

#[tokio::test]
async fn support_reads_unlocks_and_ends_sessions_only() {
    let service = start().await;
    signed_in(&service).await;
    let boris = service.enter(BORIS, None).await;
    let mut visitor = support(&service).await;
    let page = visitor.get(&format!("/admin/users/{}/", boris.id)).await;
    page.assert_shows(200, "End sessions");
    for hidden in ["/edit/", "/block/", "/role/", "/phone/", "/export/", "/delete/"] {
        assert!(!page.text.contains(hidden), "{hidden} in {}", page.text);
    }
    let token = page.field("token");
    for action in ["edit", "block", "unblock", "role", "phone", "export", "cancel_deletion", "delete"] {
        let path = format!("/admin/users/{}/{action}/", boris.id);
        visitor.get(&path).await.assert_shows(403, "This is available to admins only.");
        let fields = [
            ("token", &*token),
            ("reason", "x"),
            ("role", "admin"),
            ("digits", &BORIS[8..]),
            ("first_name", "X"),
        ];
        visitor.post(&path, &fields).await.assert_shows(403, "This is available to admins only.");
    }
    let unchanged = user(&service, &boris).await;
    assert!(unchanged.is_active && unchanged.staff_role.is_none() && unchanged.first_name.is_none());
    let fields = [("reason", "lost phone")];
    let ended = act(&mut visitor, &format!("/admin/users/{}/end_sessions/", boris.id), &fields).await;
    assert_eq!(ended.status, 303, "{}", ended.text);
    visitor.get("/admin/audit/").await.assert_shows(200, "sessions ended");
}

#[tokio::test]
async fn a_phone_is_unlocked_with_and_without_a_user() {
    let service = start().await;
    let boris = service.enter(BORIS, None).await;
    let mut visitor = signed_in(&service).await;
    for phone in [BORIS, "+79608543018"] {
        for _ in 0..10 {
            service.client.post("/auth/send_code/", &serde_json::json!({ "phone": phone })).await;
        }
        let body = serde_json::json!({ "phone": phone });
        service.client.post("/auth/send_code/", &body).await.assert_problem(429, "too_many_requests");
        service.referral.flush_code_requests().await;
        let query = form_urlencoded::byte_serialize(phone.as_bytes()).collect::<String>();
        let found = match phone {
            BORIS => visitor.get(&format!("/admin/users/{}/", boris.id)).await,
            _ => visitor.get(&format!("/admin/users/?q={query}")).await,
        };
        found.assert_shows(200, "Limit: <code class=\"long\">codes_per_phone</code> 10/15m until");
        let fields = [("phone", phone), ("reason", "the user called")];
        let unlocked = act(&mut visitor, "/admin/unlock/", &fields).await;
        let id = if phone == BORIS { format!("{}/", boris.id) } else { String::new() };
        unlocked.assert_redirects(&format!("/admin/users/{id}?done=unlock"));
        service.client.post("/auth/send_code/", &body).await.ok();
    }
    let form = visitor.get(&format!("/admin/unlock/?user={}", boris.id)).await;
    assert_eq!(form.field("phone"), BORIS);
    act(&mut visitor, "/admin/unlock/", &[("phone", "12"), ("reason", "x")])
        .await
        .assert_shows(400, "The phone number has no country code.");
}

#[tokio::test]
async fn the_last_admin_keeps_the_role() {
    let service = start().await;
    let mut visitor = signed_in(&service).await;
    let phone = service.referral.parse_phone(ANNA).expect("a phone");
    let anna = service.referral.find_user_by_phone(&phone).await.expect("read").expect("Anna");
    let path = format!("/admin/users/{}", anna.id);
    let role = [("reason", "x"), ("role", "support")];
    act(&mut visitor, &format!("{path}/role/"), &role).await.assert_shows(409, "the last active admin");
    act(&mut visitor, &format!("{path}/block/"), &[("reason", "x")])
        .await
        .assert_shows(409, "the last active admin");
}

/// A mistake is undone from the audit log: its entry leads to a form with the former values.
#[tokio::test]
async fn a_mistake_is_undone_from_the_audit_log() {
    let service = start().await;
    let boris = service.enter(BORIS, None).await;
    service
        .client
        .patch(&boris.access, &serde_json::json!({ "first_name": "Борис", "last_name": "Иванов" }))
        .await
        .ok();
    let mut visitor = signed_in(&service).await;
    let path = format!("/admin/users/{}/edit/", boris.id);
    let mistake = [
        ("first_name", "Глеб"),
        ("was_first_name", "Борис"),
        ("last_name", "Иванов"),
        ("was_last_name", "Иванов"),
        ("reason", "a mistake"),
    ];
    assert_eq!(act(&mut visitor, &path, &mistake).await.status, 303);

    let log = visitor.get(&format!("/admin/audit/?user={}", boris.id)).await;
    log.assert_shows(200, "a mistake");
    log.assert_shows(200, "First name: <bdi class=\"long\">Борис</bdi> → <bdi class=\"long\">Глеб</bdi>");
    let undo = log
        .text
        .split("href=\"")
        .find(|rest| rest.contains("/edit/?undo="))
        .and_then(|rest| rest.split('"').next());
    let form = visitor.get(undo.expect("a link")).await;
    assert_eq!([form.field("first_name"), form.field("was_first_name")], ["Борис", "Глеб"]);
    form.assert_shows(200, "The form has the values from before the change.");
    let token = form.field("token");
    let fields = [
        ("token", &*token),
        ("first_name", "Борис"),
        ("was_first_name", "Глеб"),
        ("last_name", "Иванов"),
        ("was_last_name", "Иванов"),
        ("reason", "undo"),
    ];
    assert_eq!(visitor.post(&path, &fields).await.status, 303);
    let restored = user(&service, &boris).await;
    assert_eq!(restored.first_name.as_ref().map(Name::as_str), Some("Борис"));
}

#[tokio::test]
async fn the_audit_log_is_filtered_and_paged() {
    let service = start().await;
    let boris = service.enter(BORIS, None).await;
    let mut visitor = signed_in(&service).await;
    for _ in 0..55 {
        let path = format!("/admin/users/{}/end_sessions/", boris.id);
        service.enter(BORIS, None).await;
        service.clock.advance(std::time::Duration::from_mins(16));
        visitor.cookies.clear();
        visitor.sign_in(ANNA).await;
        act(&mut visitor, &path, &[("reason", "<script>alert(1)</script>")]).await;
    }
    let page = visitor.get("/admin/audit/?action=sessions_ended&actor=&user=").await;
    assert_eq!(page.text.matches("data-name=\"Reason\"").count(), 50);
    assert!(!page.text.contains("<script>alert"), "{}", page.text);
    let next = page
        .text
        .split("rel=\"next\" href=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("a link");
    let page = visitor.get(&next.replace("&amp;", "&")).await;
    assert_eq!(page.text.matches("data-name=\"Reason\"").count(), 5);
    for (query, status) in [
        (format!("user={}", boris.id), 200),
        ("actor=host".to_owned(), 200),
        ("actor=x".to_owned(), 404),
        ("action=x".to_owned(), 404),
        ("user=x".to_owned(), 404),
        ("before=x".to_owned(), 404),
    ] {
        assert_eq!(visitor.get(&format!("/admin/audit/?{query}")).await.status, status, "{query}");
    }
}

/// The form has the metadata once, because twice could be too long for a body.
#[tokio::test]
async fn a_user_with_long_metadata_is_edited() {
    let service = start().await;
    let boris = service.enter(BORIS, None).await;
    let text = format!(r#"{{"text":"{}"}}"#, "ж".repeat(2_042));
    let metadata = Some(text.parse().expect("valid"));
    let id = boris.id.parse().expect("an id");
    let change = referral_core::UserChange { metadata, ..referral_core::UserChange::default() };
    service.referral.change_user(id, change).await.expect("changed");
    let mut visitor = signed_in(&service).await;
    let path = format!("/admin/users/{}/edit/", boris.id);
    let form = visitor.get(&path).await;
    let (token, was) = (form.field("token"), form.field("was_metadata"));
    let fields = [
        ("token", &*token),
        ("first_name", "Boris"),
        ("was_first_name", ""),
        ("metadata", &text),
        ("was_metadata", &was),
        ("reason", "call of the user"),
    ];
    visitor.post(&path, &fields).await.assert_redirects(&format!("/admin/users/{}/?done=edit", boris.id));
    let edited = user(&service, &boris).await;
    assert_eq!((edited.metadata.to_string(), edited.first_name.is_some()), (text, true));
}
