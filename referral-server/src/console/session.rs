//! Cookies of the console, and the session in them.
//!
//! The session is an ordinary session of the service, so the user sees it among their sessions, and it ends
//! as all others do. The cookies contain its tokens. An expired access token is refreshed here.

use poem::http::header;
use referral_core::{CurrentUser, Error, Refresh, Refusal, SignedIn, TokenPair};

use super::visit::Visit;
use crate::error::Problem;

const ACCESS: &str = "access";
const REFRESH: &str = "refresh";

/// Number of seconds for which the browser keeps a setting: a year.
const SETTING_AGE: u32 = 31_536_000;

impl Visit {
    /// Returns the value of a cookie, which must be present once.
    pub(super) fn cookie(&self, name: &str) -> Option<String> {
        let (name, lines) = (self.cookie_name(name), self.headers.get_all(header::COOKIE).iter());
        let pairs = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
        let mut values = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(key, _)| *key == name);
        let (_, value) = values.next().filter(|_| values.next().is_none())?;
        Some(value.to_owned()).filter(|value| !value.is_empty())
    }

    /// Sets a cookie until the browser is closed.
    pub(super) fn set_cookie(&mut self, name: &str, value: &str) {
        self.push_cookie(name, value, None);
    }

    /// Sets a cookie with a setting.
    pub(super) fn set_setting(&mut self, name: &str, value: &str) {
        self.push_cookie(name, value, Some(SETTING_AGE));
    }

    /// Adds `Set-Cookie`. With TLS, the prefix `__Host-` makes sure that no other host can set the cookie. It
    /// requires the path `/`.
    fn push_cookie(&mut self, name: &str, value: &str, max_age: Option<u32>) {
        let is_encrypted = self.shared().root.is_encrypted();
        // A path with a separator would end the attribute.
        let path = if is_encrypted || self.base.contains([';', ',']) { "/" } else { &self.base };
        let secure = if is_encrypted { "; Secure" } else { "" };
        let max_age = max_age.map_or_else(String::new, |seconds| format!("; Max-Age={seconds}"));
        let name = self.cookie_name(name);
        let cookie = format!("{name}={value}; Path={path}; HttpOnly; SameSite=Strict{secure}{max_age}");
        self.set_cookies.retain(|other| !other.starts_with(&format!("{name}=")));
        self.set_cookies.push(cookie);
    }

    fn cookie_name(&self, name: &str) -> String {
        let prefix = if self.shared().root.is_encrypted() { "__Host-" } else { "" };
        format!("{prefix}referral_console_{name}")
    }

    fn set_tokens(&mut self, tokens: &TokenPair) {
        self.set_cookie(ACCESS, &tokens.access);
        self.set_cookie(REFRESH, &tokens.refresh);
    }

    /// Deletes the tokens in the browser.
    pub(super) fn forget_session(&mut self) {
        for name in [ACCESS, REFRESH] {
            self.push_cookie(name, "", Some(0));
        }
    }

    /// Returns the user of the session in the cookies. Refreshes the session if its access token has expired.
    pub(super) async fn authenticate(&mut self) -> Result<Option<CurrentUser>, Problem> {
        if let Some(access) = self.cookie(ACCESS) {
            match self.referral().authenticate(&access).await {
                Ok(current_user) => return Ok(Some(current_user)),
                Err(Error::Refused(Refusal::TokenNotValid)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let Some(refresh) = self.cookie(REFRESH) else { return Ok(None) };
        let refresh = Refresh::from(&refresh).client(self.client.clone());
        match self.referral().refresh(refresh).await {
            Ok(refreshed) => {
                self.set_tokens(&refreshed.tokens);
                Ok(Some(self.referral().authenticate(&refreshed.tokens.access).await?))
            }
            Err(Error::Refused(Refusal::TokenNotValid | Refusal::RefreshReused)) => {
                self.forget_session();
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Stores a new session in the browser, and ends the one that it had.
    pub(super) async fn start_session(&mut self, signed_in: &SignedIn) -> Result<(), Problem> {
        self.end_session().await?;
        self.nonce = self.new_nonce();
        self.set_tokens(&signed_in.tokens);
        Ok(())
    }

    /// Ends the session in the cookies, if there is one.
    pub(super) async fn end_session(&mut self) -> Result<(), Problem> {
        if let Some(refresh) = self.cookie(REFRESH) {
            match self.referral().sign_out(&refresh).await {
                Ok(_) | Err(Error::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.forget_session();
        Ok(())
    }
}
