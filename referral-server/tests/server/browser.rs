//! The pages as a person uses them, in Chromium.
//!
//! Each test needs `chromedriver`, and the browser that it finds. With `REFERRAL_TEST_SCREENSHOTS` set to
//! the absolute path of a folder, pictures of the pages are left there.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::{LoggingPrefsLogLevel::All, extensions::query::ElementPollerWithTimeout, prelude::*};

use crate::{
    binary::{Program, folder},
    service::{ANNA, DOCUMENT},
};

// With one thread, quitting the browser while a panic unwinds would wait for that thread.
#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_signs_in_by_swagger_ui_with_its_own_examples_and_the_code_alone() -> WebDriverResult<()> {
    let folder = folder();
    let program = Program::start(folder.path(), &[]);
    let Some(browser) = Browser::start().await? else { return Ok(()) };

    browser.web.goto(program.client.url("/")).await?;
    browser.find("//a[.='Swagger UI']").await?.click().await?;
    let send_code = Operation::open(&browser, "sendCode").await?;
    browser.picture("docs").await?;
    let sent = send_code.execute().await?;

    let sign_in = Operation::open(&browser, "signIn").await?;
    sign_in.set("code", &sent["code"]).await?;
    let signed_in = sign_in.execute().await?;

    let access = signed_in["access"].as_str().expect("a token");
    browser.find("//button[normalize-space()='Authorize']").await?.click().await?;
    browser.find("//*[@class='dialog-ux']//input").await?.send_keys(access).await?;
    browser.find("//*[@class='dialog-ux']//button[.='Authorize']").await?.click().await?;
    browser.picture("docs-authorize").await?;
    browser.find("//*[@class='dialog-ux']//button[.='Close']").await?.click().await?;

    let current_user = Operation::open(&browser, "getCurrentUser").await?;
    let user = current_user.execute().await?;
    assert_eq!((&user["id"], &user["phone"]), (&signed_in["user_id"], &json!(ANNA)));

    // What Swagger UI cannot read of the document, it says above it.
    if let Some(errors) = browser.web.query(By::Css(".errors-wrapper")).nowait().first_opt().await? {
        panic!("{}", errors.text().await?);
    }

    browser.finish(&program, "/api/v1/users/current_user/").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_home_page_leads_to_redoc_which_shows_every_operation() -> WebDriverResult<()> {
    let folder = folder();
    let program = Program::start(folder.path(), &[]);
    let Some(browser) = Browser::start().await? else { return Ok(()) };

    browser.web.goto(program.client.url("/")).await?;
    for (name, path) in
        [("Swagger UI", "/docs/"), ("OpenAPI document", "/api/v1/schema/"), ("ReDoc", "/api/v1/redoc/")]
    {
        let link = browser.find(&format!("//a[.='{name}']")).await?;
        assert_eq!(link.attr("href").await?.as_deref(), Some(path));
    }
    browser.picture("home").await?;
    browser.find("//a[.='ReDoc']").await?.click().await?;
    let paths = DOCUMENT["paths"].as_object().expect("paths").values();
    for operation in paths.flat_map(|path| path.as_object().expect("operations").values()) {
        let summary = operation["summary"].as_str().expect("a summary");
        browser.find(&format!("//h2[contains(., '{summary}')]")).await?;
    }
    browser.picture("redoc").await?;
    browser.find("//input[@aria-label='Search']").await?.send_keys("Send a code").await?;
    browser.find("//*[@role='search']//li[contains(., 'Send a code')]").await?;
    browser.picture("redoc-search").await?;

    browser.finish(&program, "/api/v1/redoc/").await
}

/// An operation in Swagger UI, ready to be executed.
struct Operation<'a> {
    browser: &'a Browser,
    id: &'a str,
}

impl<'a> Operation<'a> {
    async fn open(browser: &'a Browser, id: &'a str) -> WebDriverResult<Self> {
        let operation = Self { browser, id };
        operation.find("//button[contains(@class, 'opblock-summary-control')]").await?.click().await?;
        operation.find("//button[normalize-space()='Try it out']").await?.click().await?;
        Ok(operation)
    }

    /// Presses *Execute*, and returns the success that is shown.
    async fn execute(&self) -> WebDriverResult<Value> {
        self.find("//button[.='Execute']").await?.click().await?;
        let answer = "//table[contains(@class, 'live-responses-table')]//tr[@class='response']";
        let status = self.find(&format!("{answer}/td[1]")).await?;
        status.scroll_into_view().await?;
        self.browser.picture(&format!("docs-{}", self.id)).await?;
        let status = status.text().await?;
        let body = self.find(&format!("{answer}/td[2]//pre")).await?.text().await?;
        assert_eq!(status, "200", "{}: {body}", self.id);
        Ok(serde_json::from_str(&body)?)
    }

    /// Types the body that is there anew, with this value in its field.
    async fn set(&self, field: &str, value: &Value) -> WebDriverResult<()> {
        let text = self.find("//textarea").await?;
        let mut body: Value = serde_json::from_str(&text.value().await?.unwrap_or_default())?;
        body[field] = value.clone();
        text.send_keys(Key::Control + "a").await?;
        text.send_keys(body.to_string()).await
    }

    async fn find(&self, path: &str) -> WebDriverResult<WebElement> {
        let operation = format!("//*[starts-with(@id, 'operations-') and contains(@id, '-{}')]", self.id);
        self.browser.find(&format!("{operation}{path}")).await
    }
}

/// A browser of its own, which ends with this value: the fields are dropped in their order.
pub(crate) struct Browser {
    pub(crate) web: WebDriver,
    _driver: Driver,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser, or says that there is none.
    pub(crate) async fn start() -> WebDriverResult<Option<Self>> {
        let profile = folder();
        let Some(driver) = Driver::start(profile.path()) else { return Ok(None) };
        let mut wishes = DesiredCapabilities::chrome();
        for argument in [
            &format!("--user-data-dir={}", profile.path().display()),
            "--window-size=1280,1800",
            "--headless",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            // The browser asks nothing on its own account; and should it try, it finds no other host.
            "--disable-component-update",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ] {
            wishes.add_arg(argument)?;
        }
        if is_roots(profile.path()) {
            wishes.set_no_sandbox()?;
        }
        wishes.set_logging_prefs("browser", All)?;
        wishes.set_logging_prefs("performance", All)?;
        let poller = ElementPollerWithTimeout::new(Duration::from_secs(20), Duration::from_millis(50));
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(1)).build()?;
        let url = format!("http://127.0.0.1:{}", driver.port);
        let web = WebDriver::builder(url, wishes).poller(Arc::new(poller)).client(client).connect().await;
        match web {
            Ok(web) => Ok(Some(Self { web, _driver: driver, _profile: profile })),
            Err(error) if error.to_string().contains("cannot find Chrome binary") => {
                left_out("chromedriver finds no browser");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until it is there to be seen and clicked.
    pub(crate) async fn find(&self, path: &str) -> WebDriverResult<WebElement> {
        self.web.query(By::XPath(path)).and_clickable().first().await
    }

    pub(crate) async fn picture(&self, name: &str) -> WebDriverResult<()> {
        let Some(folder) = std::env::var_os("REFERRAL_TEST_SCREENSHOTS") else { return Ok(()) };
        std::fs::create_dir_all(&folder)?;
        self.web.screenshot(&Path::new(&folder).join(name).with_extension("png")).await
    }

    /// Asserts that every request was for the program, and that nothing went wrong unseen.
    async fn finish(self, program: &Program, asked_for: &str) -> WebDriverResult<()> {
        let mut urls = Vec::new();
        for entry in self.web.get_log("performance").await? {
            let event: Value = serde_json::from_str(&entry.message)?;
            let parameters = &event["message"]["params"];
            let url = match event["message"]["method"].as_str() {
                Some("Network.requestWillBeSent") => &parameters["request"]["url"],
                Some("Network.webSocketCreated") => &parameters["url"],
                _ => continue,
            };
            urls.push(url.as_str().expect("a URL").to_owned());
        }
        assert!(urls.contains(&program.client.url(asked_for)), "the log knows of requests: {urls:#?}");
        let own = [&program.client.url("/"), "data:", "blob:", "about:", "chrome"];
        urls.retain(|url| !own.iter().any(|start| url.starts_with(start)));
        assert!(urls.is_empty(), "{urls:#?}");

        // What a page's own policy forbids it is among that.
        let console = self.web.get_log("browser").await?;
        let severe = console.iter().find(|entry| entry.level == "SEVERE");
        assert!(severe.is_none(), "{severe:#?}");
        self.web.quit().await
    }
}

/// The program that drives the browser.
struct Driver {
    child: Child,
    port: u16,
}

impl Driver {
    fn start(home: &Path) -> Option<Self> {
        let mut command = Command::new("chromedriver");
        command
            .arg("--port=0")
            .env("HOME", home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = match command.spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                left_out("there is no chromedriver");
                return None;
            }
            child => child.expect("it starts"),
        };
        let output = BufReader::new(child.stdout.as_mut().expect("its output"));
        let port = output.lines().map_while(Result::ok).find_map(|line| {
            line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        Some(Self { child, port: port.expect("it says where it listens") })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says so where it is seen even though the test passes, unless nothing may be left out.
fn left_out(reason: &str) {
    let message =
        format!("LEFT OUT: a test in the browser, since {reason}: install chromium and chromium-driver");
    assert!(std::env::var_os("REFERRAL_TEST_REQUIRE_ALL").is_none(), "{message}");
    // Not the macro, whose output the test harness keeps to itself.
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// Whether root made this, for whom Chromium has no sandbox.
#[cfg(unix)]
fn is_roots(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    path.metadata().expect("it is there").uid() == 0
}

#[cfg(not(unix))]
fn is_roots(_: &Path) -> bool {
    false
}
