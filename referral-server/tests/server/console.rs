//! Tests of the web console through HTTP: rights, cookies, headers, forms, actions, and texts of users in pages.

mod actions;
mod forms;
mod pages;
mod rights;
mod sign_in;
mod visitor;

use referral_server::AppOptions;

/// Options that enable the console.
pub(crate) fn with_console() -> AppOptions {
    let mut options = AppOptions::default();
    options.console = true;
    options
}
