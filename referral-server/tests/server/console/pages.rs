//! Tests of the pages of users, of the tree, of plots, languages and files.

use referral_core::{EditProfile, ExternalId, Name, ProfileChange, UserChange};

use super::{
    visitor::{Visitor, signed_in, signed_in_at, start},
    with_console,
};
use crate::service::{ANNA, BORIS, Service, VERA};

#[tokio::test]
async fn texts_of_users_cannot_become_markup() {
    const NAME: &str = "<script>alert(1)</script>\"'><img src=x>";
    let service = start().await;
    let boris = service.enter(BORIS, None).await;
    let current_user = service.referral.authenticate(&boris.access).await.expect("signed in");
    let name = || Some(Some(Name::parse(NAME).expect("a name")));
    let change = ProfileChange { first_name: name(), last_name: name(), ..ProfileChange::default() };
    service.referral.edit_profile(&current_user, EditProfile::new(change)).await.expect("edited");
    let change = UserChange {
        external_id: Some(ExternalId::parse(NAME).ok()),
        metadata: Some("{\"</pre><script>\":\"<b>\"}".parse().expect("metadata")),
        ..UserChange::default()
    };
    let boris = service.referral.change_user(current_user.user.id, change).await.expect("changed");
    service.enter(VERA, Some(boris.invite_code.as_str())).await;

    let mut visitor = signed_in(&service).await;
    let query = form_urlencoded::byte_serialize(NAME.as_bytes()).collect::<String>();
    for path in [
        "/admin/users/".to_owned(),
        format!("/admin/users/{}/", boris.id),
        format!("/admin/tree/?node={}", boris.id),
        format!("/admin/tree/?node={}&part=1", boris.id),
        format!("/admin/users/?q={query}"),
        format!("/admin/?days={query}&x={query}"),
        format!("/admin/{query}"),
    ] {
        let page = visitor.get(&path).await;
        assert!(!page.text.contains("<script>") && !page.text.contains("<img"), "{path}: {}", page.text);
        assert!(!page.text.contains("\"'>"), "{path}: {}", page.text);
    }
    let page = visitor.get(&format!("/admin/users/{}/", boris.id)).await;
    page.assert_shows(200, "&lt;script&gt;alert(1)&lt;/script&gt;");
}

#[tokio::test]
async fn users_are_found_by_anything() {
    let service = start().await;
    let boris = service.enter(BORIS, None).await;
    let invite = service.client.invite_code(&boris).await;
    service.enter(VERA, Some(&invite)).await;
    service
        .client
        .patch(&boris.access, &serde_json::json!({ "first_name": "Борис", "email": "boris@example.com" }))
        .await
        .ok();
    let id = ExternalId::parse("crm-17").ok();
    let change = UserChange { external_id: Some(id), ..UserChange::default() };
    service.referral.change_user(boris.id.parse().expect("an id"), change).await.expect("changed");

    let mut visitor = signed_in(&service).await;
    for (text, found) in [
        ("+77011234567", &[BORIS][..]),
        ("+7 (701) 123-45-67", &[BORIS]),
        ("8 701 123 45 67", &[BORIS]),
        ("234567", &[BORIS]),
        ("борис", &[BORIS]),
        ("boris@example.com", &[BORIS]),
        ("crm-17", &[BORIS]),
        (&boris.id, &[BORIS]),
        (&invite, &[VERA, BORIS]),
        ("", &[ANNA, VERA, BORIS]),
        ("+77011234568", &[]),
        ("unknown", &[]),
    ] {
        let query = form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let page = visitor.get(&format!("/admin/users/?q={query}")).await;
        page.assert_shows(200, &format!("Found: {}", found.len()));
        for phone in [ANNA, BORIS, VERA] {
            let entry = format!("/\">{phone}</a>");
            assert_eq!(page.text.contains(&entry), found.contains(&phone), "{text}: {phone}: {}", page.text);
        }
    }
}

#[tokio::test]
async fn pages_of_users_and_of_branches_follow_each_other() {
    let service = start().await;
    let boris = service.enter(BORIS, None).await;
    let invite = service.client.invite_code(&boris).await;
    for number in 0..60 {
        service.enter(&format!("+796085430{number:02}"), Some(&invite)).await;
    }
    let mut visitor = signed_in(&service).await;
    for (path, all) in [
        ("/admin/users/".to_owned(), 61),
        (format!("/admin/users/{}/", boris.id), 60),
        (format!("/admin/tree/?node={}", boris.id), 60),
    ] {
        let (mut path, mut phones, mut pages) = (path, std::collections::BTreeSet::new(), 0);
        loop {
            let page = visitor.get(&path).await;
            assert_eq!(page.status, 200);
            phones.extend(page.text.split("/\">+7").skip(1).map(|rest| rest[..10].to_owned()));
            pages += 1;
            let next = page.text.split("<a class=\"button\" rel=\"next\" href=\"").nth(1);
            let next = next.or_else(|| page.text.split("<a class=\"more\" href=\"").nth(1));
            let Some(next) = next.and_then(|rest| rest.split('"').next()) else { break };
            let next = next.replace("&amp;", "&");
            path = if next.starts_with('?') {
                format!("{}{next}", path.split('?').next().expect("a path"))
            } else {
                next
            };
        }
        assert_eq!((phones.len() >= all, pages), (true, 2), "{path}: {phones:?}");
    }
}

#[tokio::test]
async fn the_tree_shows_the_inviters_above_and_the_branch_below() {
    let service = start().await;
    let boris = service.enter(BORIS, None).await;
    let invite = service.client.invite_code(&boris).await;
    let vera = service.enter(VERA, Some(&invite)).await;
    let invite = service.client.invite_code(&vera).await;
    let gleb = service.enter("+79608543018", Some(&invite)).await;
    let mut visitor = signed_in(&service).await;

    let page = visitor.get(&format!("/admin/tree/?node={}", boris.id)).await;
    assert!(!page.text.contains("class=\"ancestry\""), "{}", page.text);
    page.assert_shows(200, &format!("<a class=\"branch\" href=\"/admin/tree/?node={}\">", vera.id));
    let page = visitor.get(&format!("/admin/tree/?node={}", gleb.id)).await;
    page.assert_shows(200, "has invited no users");
    let above: Vec<_> =
        [&boris, &vera].map(|user| page.text.find(&format!("/admin/tree/?node={}\"><bdi>", user.id))).into();
    assert!(above[0].is_some() && above[0] < above[1], "{above:?}: {}", page.text);

    service.referral.delete_user(boris.id.parse().expect("an id")).await.expect("deleted");
    visitor.get(&format!("/admin/tree/?node={}", vera.id)).await.assert_shows(200, "<li>deleted user</li>");
    visitor.get(&format!("/admin/users/{}/", vera.id)).await.assert_shows(200, "deleted user");
    visitor.get(&format!("/admin/users/{}/", boris.id)).await.assert_shows(404, "or the user was deleted");

    let part = visitor.get(&format!("/admin/tree/?node={}&part=1", vera.id)).await;
    assert!(part.text.starts_with("<li>") && part.text.contains("+79608543018"), "{}", part.text);
}

#[tokio::test]
async fn sign_ups_are_plotted_by_day() {
    let service = start().await;
    let boris = service.enter(BORIS, None).await;
    let invite = service.client.invite_code(&boris).await;
    service.clock.advance(std::time::Duration::from_hours(48));
    service.enter(VERA, Some(&invite)).await;
    let mut visitor = signed_in(&service).await;
    for (days, width) in [("30", 30), ("90", 90), ("365", 365), ("7", 30), ("x", 30)] {
        let page = visitor.get(&format!("/admin/?days={days}")).await;
        page.assert_shows(200, &format!("viewBox=\"0 0 {width} 1000\""));
        assert_eq!(page.text.matches("<rect").count(), 3, "{}", page.text);
        assert!(page.text.contains("<title>2026-11-22: 1</title>"), "{}", page.text);
        assert!(page.text.contains("<title>2026-11-24: 2</title>"), "{}", page.text);
    }
}

#[tokio::test]
async fn pages_are_in_the_language_of_the_browser_or_the_chosen_one() {
    let service = start().await;
    let mut visitor = Visitor::new(&service.client);
    for (accepted, tag, text) in [
        ("ru-RU,ru;q=0.9,en;q=0.8", "ru", "Получить код"),
        ("de,en;q=0.5,ru;q=0.4", "en", "Send the code"),
        ("de", "en", "Send the code"),
    ] {
        visitor.language = accepted;
        let page = visitor.get("/admin/sign_in/").await;
        page.assert_shows(200, text);
        assert_eq!((page.header("content-language"), page.header("vary")), (tag, "accept-language, cookie"));
        assert!(page.text.contains(&format!("<html lang=\"{tag}\">")), "{}", page.text);
    }
    visitor.get("/admin/sign_in/?language=ru").await.assert_shows(200, "Получить код");
    visitor.get("/admin/sign_in/").await.assert_shows(200, "Получить код");
    visitor.get("/admin/sign_in/?language=%22%3E").await.assert_shows(200, "Получить код");
    visitor.get("/admin/sign_in/?language=en").await.assert_shows(200, "Send the code");
}

#[tokio::test]
async fn the_console_works_below_a_prefix() {
    let service = Service::start().await;
    for prefix in ["/auth", "/a/b-c", "/%D0%B0"] {
        let client = service.mount(prefix, with_console()).await;
        let mut visitor = signed_in_at(&service, &client).await;
        let page = visitor.get("/admin").await;
        page.assert_shows(200, "Overview");
        for link in page.text.split("href=\"").skip(1).chain(page.text.split("src=\"").skip(1)) {
            let link = link.split('"').next().expect("a link");
            if !link.starts_with(['#', '?']) && link != "data:," {
                let path = link.strip_prefix(prefix).unwrap_or_else(|| panic!("{link} has no prefix"));
                assert_eq!(visitor.get(path).await.status, 200, "{link}");
            }
        }
        let token = page.field("token");
        let sign_in = format!("{prefix}/admin/sign_in/");
        visitor.post("/admin/sign_out/", &[("token", &token)]).await.assert_redirects(&sign_in);
    }
}

#[tokio::test]
async fn files_are_cached_by_their_content() {
    let service = start().await;
    let mut visitor = Visitor::new(&service.client);
    let page = visitor.get("/admin/sign_in/").await;
    for (start, content_type) in [
        ("href=\"/admin/console.css", "text/css; charset=utf-8"),
        ("src=\"/admin/console.js", "text/javascript; charset=utf-8"),
    ] {
        let path = page.text.split(start).nth(1).and_then(|rest| rest.split('"').next()).expect("a link");
        let path = format!("{}{path}", start.split('"').nth(1).expect("a path"));
        let file = visitor.get(&path).await;
        assert_eq!((file.status, file.header("content-type")), (200, content_type));
        assert_eq!(file.header("cache-control"), "public, max-age=31536000, immutable");
        let other = visitor.get(&format!("{path}x")).await;
        assert_eq!(other.header("cache-control"), "no-cache");
    }
}
