//! Tests `WebOTP` in Chromium with the unchanged page `docs/sign-in.html`, into which codes are filled.
//!
//! On a desktop, the browser receives no messages. The test replaces the interface that delivers them: like
//! Chromium on Android, it finds the code in the text, and only for the host of the page.

use serde_json::json;
use thirtyfour::prelude::*;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::method};

use crate::{
    browser::Browser,
    program::{Program, directory},
    service::ANNA,
    sms::{gateway, received, value},
};

const PAGE: &str = include_str!("../../../docs/sign-in.html");

/// Replacement of the interface of the browser. It waits for a message and extracts the code for this host
/// with the pattern of Chromium.
const VIRTUAL_OTP: &str = r#"
    window.OTPCredential ??= class {};
    navigator.credentials.get = ({ otp, signal }) => new Promise((resolve, reject) => {
        if (otp.transport[0] !== "sms") throw new TypeError("no such transport");
        signal.addEventListener("abort", () => reject(signal.reason));
        window.receive = (message) => {
            const [, host, code] = message.match(/(?:^|\s)@([a-zA-Z0-9.-]+) #([^#\s]+)/) ?? [];
            if (host === location.hostname) resolve({ type: "otp", code });
        };
    });
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_fills_in_its_code_only_on_the_page_of_its_host() -> WebDriverResult<()> {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let directory = directory();
    let sms = gateway(ResponseTemplate::new(200)).await;
    let website = MockServer::start().await;
    let config = format!(
        "[gateways.a]\nurl = \"{}\"\nproxy = \"none\"\nform = {{ text = \"{{text}}\" }}\n\n[texts]\nhost = \"127.0.0.1\"",
        sms.uri()
    );
    std::fs::write(directory.path().join("sms.toml"), config)?;
    let program =
        Program::start(directory.path(), &["--sms-config", "sms.toml", "--cors-origins", &website.uri()]);
    let page = PAGE.replace("https://api.example.com/", &program.client.url("/"));
    assert!(page.contains(&program.client.url("/api/v1")), "the page must contain the URL of the API");
    let page = ResponseTemplate::new(200).set_body_raw(page, "text/html; charset=utf-8");
    Mock::given(method("GET")).respond_with(page).mount(&website).await;

    browser.web.cdp().page().add_script_to_evaluate_on_new_document(VIRTUAL_OTP).await?;
    browser.web.goto(website.uri()).await?;
    browser.find("//input[@name='phone']").await?.send_keys(ANNA).await?;
    browser.find("//button[.='Send a code']").await?.click().await?;
    let code = browser.find("//input[@name='code']").await?;
    assert_eq!(code.attr("autocomplete").await?.as_deref(), Some("one-time-code"));
    browser.picture("sign-in-code").await?;

    let forms = received(&sms).await;
    let text = value(&forms[0], "text");
    let phishing = text.replace("@127.0.0.1", "@phishing.example");
    browser.web.execute("window.receive(arguments[0])", vec![json!(phishing)]).await?;
    assert_eq!(
        code.prop("value").await?.as_deref(),
        Some(""),
        "a code for another host must not be filled in"
    );
    browser.web.execute("window.receive(arguments[0])", vec![json!(text)]).await?;
    browser.find("//*[@role='status'][.='Welcome!']").await?;
    browser.picture("sign-in-done").await?;

    // In a browser without this interface, the user types the code, and the page shows an error for a wrong
    // one.
    browser.web.goto(website.uri()).await?;
    browser.find("//input[@name='phone']").await?.send_keys(ANNA).await?;
    browser.find("//button[.='Send a code']").await?.click().await?;
    browser.find("//input[@name='code']").await?.send_keys("0").await?;
    browser.find("//button[.='Sign in']").await?.click().await?;
    browser.find("//*[@role='status'][contains(., 'code')]").await?;
    browser.picture("sign-in-wrong").await?;
    browser.web.quit().await
}
