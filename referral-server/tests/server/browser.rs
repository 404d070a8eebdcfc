//! Tests of the pages in Chromium, as a user operates them.
//!
//! Each test needs `chromedriver` and a browser that it can find. If `REFERRAL_TEST_SCREENSHOTS` is the
//! absolute path of a directory, screenshots of the pages are written there.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use referral_server::AppOptions;
use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::{LoggingPrefsLogLevel::All, extensions::query::ElementPollerWithTimeout, prelude::*};

use crate::{
    program::{Program, directory},
    service::{ANNA, Client, DOCUMENT, Service},
};

// With one thread, quitting the browser while a panic unwinds would wait for that thread.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_user_signs_in_with_the_examples_of_swagger_ui_and_the_code() -> WebDriverResult<()> {
    let directory = directory();
    let program = Program::start(directory.path(), &[]);
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

    // Swagger UI shows errors of the document above it.
    if let Some(errors) = browser.web.query(By::Css(".errors-wrapper")).nowait().first_opt().await? {
        panic!("{}", errors.text().await?);
    }

    browser.finish(&program.client, "/api/v1/users/current_user/").await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_below_a_prefix_send_requests_below_the_prefix() -> WebDriverResult<()> {
    let service = Service::start().await;
    let client = service.mount("/auth", AppOptions::default()).await;
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    browser.web.goto(client.url("/")).await?;
    browser.find("//a[.='ReDoc']").await?.click().await?;
    browser.web.goto(client.url("/")).await?;
    browser.find("//a[.='Swagger UI']").await?.click().await?;
    let sent = Operation::open(&browser, "sendCode").await?.execute().await?;
    assert!(sent["code"].is_string(), "{sent}");
    browser.finish(&client, "/api/v1/auth/send_code/").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_home_page_links_to_redoc_which_shows_every_operation() -> WebDriverResult<()> {
    let directory = directory();
    let program = Program::start(directory.path(), &[]);
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

    browser.finish(&program.client, "/api/v1/redoc/").await
}

/// Operation in Swagger UI, ready to be executed.
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

    /// Presses *Execute*, and returns the shown body, which must be that of a success.
    async fn execute(&self) -> WebDriverResult<Value> {
        self.find("//button[.='Execute']").await?.click().await?;
        let response = "//table[contains(@class, 'live-responses-table')]//tr[@class='response']";
        let status = self.find(&format!("{response}/td[1]")).await?;
        status.scroll_into_view().await?;
        self.browser.picture(&format!("docs-{}", self.id)).await?;
        let status = status.text().await?;
        let body = self.find(&format!("{response}/td[2]//pre")).await?.text().await?;
        assert_eq!(status, "200", "{}: {body}", self.id);
        Ok(serde_json::from_str(&body)?)
    }

    /// Replaces the value of a field in the shown body.
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

/// Separate browser, which ends when the value is dropped. The fields are dropped in their order.
pub(crate) struct Browser {
    pub(crate) web: WebDriver,
    _driver: Driver,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser. Prints a message and returns `None` if none is installed.
    pub(crate) async fn start() -> WebDriverResult<Option<Self>> {
        let profile = directory();
        let Some(driver) = Driver::start(profile.path()) else { return Ok(None) };
        let mut wishes = DesiredCapabilities::chrome();
        for argument in [
            &format!("--user-data-dir={}", profile.path().display()),
            "--window-size=1280,1800",
            "--headless",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            // The browser sends no requests of its own, and it cannot resolve other hosts.
            "--disable-component-update",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ] {
            wishes.add_arg(argument)?;
        }
        if is_owned_by_root(profile.path()) {
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
                skip("chromedriver finds no browser");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until an element is visible and clickable.
    pub(crate) async fn find(&self, path: &str) -> WebDriverResult<WebElement> {
        self.web.query(By::XPath(path)).and_clickable().first().await
    }

    pub(crate) async fn picture(&self, name: &str) -> WebDriverResult<()> {
        let Some(directory) = std::env::var_os("REFERRAL_TEST_SCREENSHOTS") else { return Ok(()) };
        std::fs::create_dir_all(&directory)?;
        self.web.screenshot(&Path::new(&directory).join(name).with_extension("png")).await
    }

    /// Asserts that every request was sent to the API of the client, and that the console shows no errors.
    pub(crate) async fn finish(self, client: &Client, requested: &str) -> WebDriverResult<()> {
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
        assert!(urls.contains(&client.url(requested)), "the log must contain the requests: {urls:#?}");
        let own = [&client.url("/"), "data:", "blob:", "about:", "chrome"];
        urls.retain(|url| !own.iter().any(|start| url.starts_with(start)));
        assert!(urls.is_empty(), "{urls:#?}");

        // Violations of the content security policy of a page are among the errors.
        let console = self.web.get_log("browser").await?;
        let severe = console.iter().find(|entry| entry.level == "SEVERE");
        assert!(severe.is_none(), "{severe:#?}");
        self.web.quit().await
    }
}

/// Program that controls the browser.
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
                skip("chromedriver is not installed");
                return None;
            }
            child => child.expect("the program starts"),
        };
        let output = BufReader::new(child.stdout.as_mut().expect("standard output is piped"));
        let port = output.lines().map_while(Result::ok).find_map(|line| {
            line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        Some(Self { child, port: port.expect("chromedriver prints its port") })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reports a skipped test, or panics if all tests are required.
fn skip(reason: &str) {
    let message =
        format!("SKIPPED: a test in the browser, because {reason}: install chromium and chromium-driver");
    assert!(std::env::var_os("REFERRAL_TEST_REQUIRE_ALL").is_none(), "{message}");
    // The test harness captures the output of `eprintln!`, but not direct writes to standard error.
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// Returns `true` if root owns the path: Chromium has no sandbox for root.
#[cfg(unix)]
fn is_owned_by_root(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    path.metadata().expect("the file exists").uid() == 0
}

#[cfg(not(unix))]
fn is_owned_by_root(_: &Path) -> bool {
    false
}
