//! Tests of the web console in Chromium, at the width of a desktop and of a phone, in both languages, light and
//! dark.

use std::{sync::Arc, time::Duration};

use referral_core::{
    EditProfile, Name, ProfileChange, StaffRole, policy::Policy, sms::DevelopmentSender,
    storage::MemoryStorage,
};
use serde_json::json;
use thirtyfour::prelude::*;

use crate::{
    browser::Browser,
    console::with_console,
    service::{ANNA, BORIS, Service, SignedIn, VERA},
};

/// Appearance of the browser.
#[derive(Clone, Copy)]
struct Look {
    name: &'static str,
    language: &'static str,
    width: u32,
    scheme: &'static str,
}

const DESKTOP: Look = Look { name: "en-1280", language: "en", width: 1280, scheme: "light" };
const PHONE: Look = Look { name: "ru-390", language: "ru", width: 390, scheme: "light" };
const DARK_DESKTOP: Look = Look { name: "ru-1280-dark", language: "ru", width: 1280, scheme: "dark" };
const DARK_PHONE: Look = Look { name: "en-390-dark", language: "en", width: 390, scheme: "dark" };

impl Look {
    async fn apply(self, browser: &Browser) -> WebDriverResult<()> {
        let cdp = browser.web.cdp();
        let size = json!({ "width": self.width, "height": 1400, "deviceScaleFactor": 1, "mobile": false });
        cdp.send_raw("Emulation.setDeviceMetricsOverride", size).await?;
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": self.scheme }] });
        cdp.send_raw("Emulation.setEmulatedMedia", features).await?;
        Ok(())
    }
}

/// Users with names, and a tree of invitees below Boris.
async fn with_users() -> (Service, SignedIn) {
    let (storage, sender) = (Arc::new(MemoryStorage::new()), Arc::new(DevelopmentSender));
    let service = Service::with_storage(storage, Policy::development(), sender, with_console()).await;
    let boris = service.enter(BORIS, None).await;
    rename(&service, &boris, "Борис", "Иванов").await;
    let mut invite = service.client.invite_code(&boris).await;
    service.clock.advance(Duration::from_hours(24 * 9));
    for number in 0..55 {
        service.enter(&format!("+796085430{number:02}"), Some(&invite)).await;
        service.clock.advance(Duration::from_hours(number % 7));
    }
    let vera = service.enter(VERA, Some(&invite)).await;
    rename(&service, &vera, "<b>Vera</b>", "Надежда-Александра фон Длиннофамильева").await;
    for phone in ["+79608543101", "+79608543102", "+79608543103"] {
        invite = service.client.invite_code(&vera).await;
        let child = service.enter(phone, Some(&invite)).await;
        let invite = service.client.invite_code(&child).await;
        service.enter(&phone.replace("31", "32"), Some(&invite)).await;
    }
    let phone = service.referral.parse_phone(ANNA).expect("a phone");
    service.referral.make_staff(phone, StaffRole::Admin).await.expect("staff");
    (service, boris)
}

async fn rename(service: &Service, user: &SignedIn, first: &str, last: &str) {
    let current_user = service.referral.authenticate(&user.access).await.expect("signed in");
    let change = ProfileChange {
        first_name: Some(Name::parse(first).ok()),
        last_name: Some(Name::parse(last).ok()),
        ..ProfileChange::default()
    };
    service.referral.edit_profile(&current_user, EditProfile::new(change)).await.expect("edited");
}

/// Returns the keys that enter a text.
fn entered(text: &str) -> String {
    format!("{text}{}", char::from(Key::Enter))
}

/// Waits for the title of a page, takes a picture, and asserts that the page is not wider than the window.
async fn look_at(browser: &Browser, look: Look, page: &str) -> WebDriverResult<()> {
    browser.find("//h1").await?;
    let width = browser.web.execute("return document.documentElement.scrollWidth", vec![]).await?;
    let width: u32 = width.convert()?;
    browser.picture(&format!("console-{page}-{}", look.name)).await?;
    assert!(width <= look.width, "{page} is {width} pixels wide at {}", look.name);
    let language = browser.web.find(By::Css("html")).await?.attr("lang").await?;
    assert_eq!(language.as_deref(), Some(look.language), "{page}");
    Ok(())
}

/// Signs in with the keyboard alone.
async fn sign_in(browser: &Browser, service: &Service, look: Look) -> WebDriverResult<()> {
    browser.web.goto(service.client.url(&format!("/admin/sign_in/?language={}", look.language))).await?;
    look_at(browser, look, "sign-in").await?;
    browser.web.active_element().await?.send_keys(entered(ANNA)).await?;
    let code = browser.find("//*[@id='development-code']").await?.text().await?;
    look_at(browser, look, "code").await?;
    browser.web.active_element().await?.send_keys(entered(&code)).await?;
    browser.find("//figure").await?;
    look_at(browser, look, "overview").await
}

async fn use_console(look: Look) -> WebDriverResult<()> {
    let (service, boris) = with_users().await;
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    look.apply(&browser).await?;
    sign_in(&browser, &service, look).await?;

    browser.web.goto(service.client.url("/admin/users/")).await?;
    browser.web.active_element().await?.send_keys(entered(&VERA[6..])).await?;
    browser.find(&format!("//input[@name='q' and @value='{}']", &VERA[6..])).await?;
    let link = browser.find(&format!("//table//a[.='{VERA}']")).await?;
    look_at(&browser, look, "search").await?;
    link.click().await?;
    browser.find("//section//bdi[contains(., '<b>Vera</b>')]").await?;
    look_at(&browser, look, "user").await?;

    browser.web.goto(service.client.url(&format!("/admin/users/{}/", boris.id))).await?;
    look_at(&browser, look, "inviter").await?;
    browser.find("//a[contains(@href, '/tree/')]").await?.click().await?;
    // The branch is loaded into the page, also by the keyboard.
    let branch = browser.find("//a[@role='button' and contains(., '3')]").await?;
    branch.send_keys(" ").await?;
    let inner = browser.find("//ul/li/ul/li/ul//a[@role='button']").await?;
    assert_eq!(branch.attr("aria-expanded").await?.as_deref(), Some("true"));
    inner.click().await?;
    browser.find("//ul//ul//ul//ul//a[contains(., '+79608543201') or contains(., '+79608543202') or contains(., '+79608543203')]").await?;
    look_at(&browser, look, "tree").await?;
    let entries = browser.web.find_all(By::Css(".tree > li > ul > li")).await?.len();
    browser.find("//a[@class='more']").await?.click().await?;
    assert!(browser.web.query(By::XPath("//a[@class='more']")).not_exists().await?);
    let all = browser.web.find_all(By::Css(".tree > li > ul > li")).await?.len();
    assert_eq!((entries, all), (51, 56));
    branch.click().await?;
    assert_eq!(branch.attr("aria-expanded").await?.as_deref(), Some("false"));

    browser.find("//header//button").await?.click().await?;
    browser.find("//input[@name='phone']").await?;
    browser.finish(&service.client, "/admin/users/").await
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_use_the_console_on_a_desktop() -> WebDriverResult<()> {
    use_console(DESKTOP).await
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_use_the_console_on_a_phone_in_russian() -> WebDriverResult<()> {
    use_console(PHONE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_use_the_console_in_russian_and_dark() -> WebDriverResult<()> {
    use_console(DARK_DESKTOP).await
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_use_the_console_on_a_phone_in_the_dark() -> WebDriverResult<()> {
    use_console(DARK_PHONE).await
}

/// An admin blocks a user, edits another one, and undoes the edit from the audit log.
async fn use_actions(look: Look) -> WebDriverResult<()> {
    let (service, boris) = with_users().await;
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    look.apply(&browser).await?;
    sign_in(&browser, &service, look).await?;
    let page = service.client.url(&format!("/admin/users/{}/", boris.id));
    let submit = "//main//form//button";
    let enter_reason = async |reason: &str| browser.find("//*[@id='reason']").await?.send_keys(reason).await;

    browser.web.goto(&page).await?;
    browser.find("//a[contains(@href, '/edit/')]").await?.click().await?;
    let name = browser.find("//*[@id='first_name']").await?;
    name.clear().await?;
    name.send_keys("Глеб").await?;
    enter_reason("request 17").await?;
    look_at(&browser, look, "edit").await?;
    browser.find(submit).await?.click().await?;
    browser.find("//*[@role='status']").await?;
    browser.find("//h1[contains(., 'Глеб')]").await?;

    browser.find("//a[contains(@href, '/block/')]").await?.click().await?;
    look_at(&browser, look, "block").await?;
    enter_reason("spam").await?;
    browser.find(submit).await?.click().await?;
    browser.find("//*[@role='status']").await?;
    look_at(&browser, look, "blocked").await?;

    browser.find("//a[contains(@href, '/audit/?user=')]").await?.click().await?;
    let undo = browser.find("//a[contains(@href, '/edit/?undo=')]").await?;
    look_at(&browser, look, "audit").await?;
    undo.click().await?;
    browser.find("//input[@id='first_name' and @value='Борис']").await?;
    look_at(&browser, look, "undo").await?;
    enter_reason("undo").await?;
    browser.find(submit).await?.click().await?;
    browser.find("//h1[contains(., 'Борис')]").await?;

    browser.find("//a[contains(@href, '/delete/')]").await?.click().await?;
    look_at(&browser, look, "delete").await?;
    browser.find("//*[@id='digits']").await?.send_keys(&BORIS[8..]).await?;
    enter_reason("request 18").await?;
    browser.find(submit).await?.click().await?;
    browser.find("//*[@role='status']").await?;
    browser.finish(&service.client, &format!("/admin/users/{}/", boris.id)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_act_and_undo_a_mistake_on_a_desktop() -> WebDriverResult<()> {
    use_actions(DESKTOP).await
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_act_and_undo_a_mistake_on_a_phone() -> WebDriverResult<()> {
    use_actions(PHONE).await
}

/// Without scripts, each branch is a page.
#[tokio::test(flavor = "multi_thread")]
async fn the_console_works_without_scripts() -> WebDriverResult<()> {
    let (service, boris) = with_users().await;
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let disabled = json!({ "value": true });
    browser.web.cdp().send_raw("Emulation.setScriptExecutionDisabled", disabled).await?;
    browser.web.goto(service.client.url("/admin/sign_in/?language=en")).await?;
    let phone = browser.web.find(By::Css("#phone")).await?;
    phone.send_keys(entered(ANNA)).await?;
    let code = browser.web.query(By::Css("#development-code")).first().await?.text().await?;
    browser.web.find(By::Css("#code")).await?.send_keys(entered(&code)).await?;
    browser.web.query(By::Css("figure")).first().await?;
    browser.web.goto(service.client.url(&format!("/admin/tree/?node={}", boris.id))).await?;
    browser.web.query(By::Css("a.branch")).first().await?.click().await?;
    browser.web.query(By::Css(".ancestry")).first().await?;
    browser.finish(&service.client, &format!("/admin/tree/?node={}", boris.id)).await
}
