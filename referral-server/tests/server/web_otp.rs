//! A page that codes are filled into, in Chromium: `docs/sign-in.html` as it is.
//!
//! On a desktop the browser has no messages to read. So what hands over a message is played by the
//! test: it finds the code in the text as Chromium on Android does, and only for the page's own host.

use serde_json::json;
use thirtyfour::prelude::*;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::method};

use crate::{
    binary::{Program, folder},
    browser::Browser,
    service::ANNA,
    sms::{gateway, received, value},
};

const PAGE: &str = include_str!("../../../docs/sign-in.html");

/// Stands for the browser's own: it waits for a message and takes the code for this host from it, by the
/// pattern that Chromium has.
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
async fn a_message_fills_in_its_code_on_the_page_of_its_host_and_on_no_other() -> WebDriverResult<()> {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let folder = folder();
    let sms = gateway(ResponseTemplate::new(200)).await;
    let website = MockServer::start().await;
    let config = format!(
        "[gateways.a]\nurl = \"{}\"\nproxy = \"none\"\nform = {{ text = \"{{text}}\" }}\n\n[texts]\nhost = \"127.0.0.1\"",
        sms.uri()
    );
    std::fs::write(folder.path().join("sms.toml"), config)?;
    let program =
        Program::start(folder.path(), &["--sms-config", "sms.toml", "--cors-origins", &website.uri()]);
    let page = PAGE.replace("https://api.example.com/", &program.client.url("/"));
    assert!(page.contains(&program.client.url("/api/v1")), "the page names the API once");
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
    assert_eq!(code.prop("value").await?.as_deref(), Some(""), "it is another host's");
    browser.web.execute("window.receive(arguments[0])", vec![json!(text)]).await?;
    browser.find("//*[@role='status'][.='Welcome!']").await?;
    browser.picture("sign-in-done").await?;

    // Whoever has no such browser types the code, and is told what is wrong with it.
    browser.web.goto(website.uri()).await?;
    browser.find("//input[@name='phone']").await?.send_keys(ANNA).await?;
    browser.find("//button[.='Send a code']").await?.click().await?;
    browser.find("//input[@name='code']").await?.send_keys("0").await?;
    browser.find("//button[.='Sign in']").await?.click().await?;
    browser.find("//*[@role='status'][contains(., 'code')]").await?;
    browser.picture("sign-in-wrong").await?;
    browser.web.quit().await
}
