//! HTTP client for requests to gateways and to the gate.

use std::{error::Error as _, fs, net::IpAddr, path::Path, time::Duration};

use reqwest::{Certificate, Client, ClientBuilder, Url, redirect};
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// Error of the configuration of a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ClientError(String);

/// Time for which an idle connection is kept for the next request. It is shorter than that of most servers,
/// since it is unknown whether a request on a connection that is being closed has arrived.
const IDLE_TIME: Duration = Duration::from_secs(15);

/// Returns a builder of a client that follows no redirects and repeats no requests. It trusts the public
/// authorities and those in `ca_file`.
pub(crate) fn builder(ca_file: Option<&Path>) -> Result<ClientBuilder, ClientError> {
    // The certificates are compiled in, since some containers have none.
    let mut authorities = Vec::with_capacity(TLS_SERVER_ROOT_CERTS.len());
    for certificate in TLS_SERVER_ROOT_CERTS {
        authorities.push(Certificate::from_der(certificate).map_err(unusable)?);
    }
    if let Some(file) = ca_file {
        let shown = file.display();
        let pem = fs::read(file).map_err(|error| ClientError(format!("failed to read {shown}: {error}")))?;
        let more = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if more.is_empty() {
            return Err(ClientError(format!("{shown} contains no certificate")));
        }
        authorities.extend(more);
    }
    let builder = Client::builder()
        .user_agent(concat!("referral/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd()
        .pool_idle_timeout(IDLE_TIME)
        .tls_certs_only(authorities);
    Ok(builder)
}

/// Builds the client.
pub(crate) fn build(builder: ClientBuilder) -> Result<Client, ClientError> {
    builder.build().map_err(unusable)
}

fn unusable(error: reqwest::Error) -> ClientError {
    let error = error.without_url();
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    ClientError(format!("failed to create the HTTP client: {error}{source}"))
}

/// Returns `true` if the URL refers to this host.
pub(crate) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

/// Returns the reason why no connection was established, without the URL. Returns `None` for other errors.
pub(crate) fn connection_failure(error: &reqwest::Error) -> Option<String> {
    if !error.is_connect() && !error.is_builder() {
        return None;
    }
    let mut root: &dyn std::error::Error = error;
    while let Some(source) = root.source() {
        root = source;
    }
    Some(format!("failed to connect: {root}"))
}
