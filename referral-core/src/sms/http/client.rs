//! HTTP client of a gateway: time limits, the proxy, and the conversion of connection errors.

use reqwest::{Client, Proxy};

use super::{ConfigError, config::Fields, template::Values};
use crate::{http_client, sms::SmsError};

pub(super) fn new(config: &Fields, values: &Values<'_>) -> Result<Client, ConfigError> {
    let builder = http_client::builder(config.ca_file.as_deref())?
        .connect_timeout(config.connect_timeout)
        .timeout(config.timeout);
    let proxy = config.proxy.as_ref().map(|proxy| proxy.render_url(values)).transpose()?;
    let builder = match proxy.as_deref().map(String::as_str) {
        Some("none") => builder.no_proxy(),
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
            builder.proxy(Proxy::all(url).map_err(|_| ConfigError::new("`proxy` is not a URL"))?)
        }
        Some(_) => {
            return Err(ConfigError::new("`proxy` must be \"none\" or start with http:// or https://"));
        }
        None if http_client::is_loopback(&config.url(values)?) => builder.no_proxy(),
        None => builder,
    };
    Ok(http_client::build(builder)?)
}

/// Converts the error of a request without a response.
pub(super) fn failure(error: &reqwest::Error) -> SmsError {
    if let Some(reason) = http_client::connection_failure(error) {
        return SmsError::Temporary(reason);
    }
    let reason = if error.is_timeout() { "no response in time" } else { "the connection was lost" };
    SmsError::Unknown(reason.into())
}
