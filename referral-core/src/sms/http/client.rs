//! HTTP client of a gateway: trusted certificates, time limits, and the conversion of connection errors.

use std::{error::Error as _, fs, time::Duration};

use reqwest::{Certificate, Client, Proxy, redirect};
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

use super::{
    ConfigError,
    config::{Fields, is_loopback},
    template::Values,
};
use crate::sms::SmsError;

/// Time for which an idle connection is kept for the next message. It is shorter than that of most servers,
/// since it is unknown whether a request on a connection that is being closed has arrived.
const IDLE_TIME: Duration = Duration::from_secs(15);

pub(super) fn new(config: &Fields, values: &Values<'_>) -> Result<Client, ConfigError> {
    let unusable = |error: reqwest::Error| {
        let error = error.without_url();
        let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        ConfigError::new(format!("failed to create the HTTP client: {error}{source}"))
    };
    // The certificates are compiled in, since some containers have none.
    let mut authorities = Vec::with_capacity(TLS_SERVER_ROOT_CERTS.len());
    for certificate in TLS_SERVER_ROOT_CERTS {
        authorities.push(Certificate::from_der(certificate).map_err(unusable)?);
    }
    if let Some(file) = &config.ca_file {
        let shown = file.display();
        let pem =
            fs::read(file).map_err(|error| ConfigError::new(format!("failed to read {shown}: {error}")))?;
        let more = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if more.is_empty() {
            return Err(ConfigError::new(format!("{shown} contains no certificate")));
        }
        authorities.extend(more);
    }
    let mut builder = Client::builder()
        .user_agent(concat!("referral/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd()
        .connect_timeout(config.connect_timeout)
        .timeout(config.timeout)
        .pool_idle_timeout(IDLE_TIME)
        .tls_certs_only(authorities);
    let proxy = config.proxy.as_ref().map(|proxy| proxy.render_url(values)).transpose()?;
    builder = match proxy.as_deref().map(String::as_str) {
        Some("none") => builder.no_proxy(),
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
            builder.proxy(Proxy::all(url).map_err(|_| ConfigError::new("`proxy` is not a URL"))?)
        }
        Some(_) => {
            return Err(ConfigError::new("`proxy` must be \"none\" or start with http:// or https://"));
        }
        None if is_loopback(&config.url(values)?) => builder.no_proxy(),
        None => builder,
    };
    builder.build().map_err(unusable)
}

/// Converts the error of a request without a response.
pub(super) fn failure(error: &reqwest::Error) -> SmsError {
    if error.is_connect() || error.is_builder() {
        let mut root: &dyn std::error::Error = error;
        while let Some(source) = root.source() {
            root = source;
        }
        return SmsError::Temporary(format!("failed to connect: {root}"));
    }
    let reason = if error.is_timeout() { "no response in time" } else { "the connection was lost" };
    SmsError::Unknown(reason.into())
}
