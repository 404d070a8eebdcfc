//! Flags of the network: addresses, reverse proxies, and limits of connections and requests.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, builder::BoolishValueParser};
use poem::http::{HeaderName, Uri};
use referral_server::{ClientAddresses, CorsOrigins, TrustedProxies};

use crate::{
    listener::{Limits, timeouts::Timeouts},
    settings::times::{parse_delay, parse_timeout},
};

#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct Network {
    /// Address of the API. Port 0 selects a free port, which is printed
    #[arg(
        long,
        env = "REFERRAL_LISTEN",
        global = true,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) listen: SocketAddr,
    /// Address of the metrics for Prometheus, at `/metrics`. Other clients must not reach it. Port 0 selects
    /// a free port, which is printed [default: none]
    #[arg(long, env = "REFERRAL_METRICS_LISTEN", global = true, value_name = "ADDRESS")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// URL of this server for clients, such as `https://example.com/auth` behind a proxy that removes `/auth`
    /// from paths. It is used for links to other pages and for the URLs that gateways send reports to
    /// [default: links are relative, except for clients on this machine, and gateways get no URL]
    #[arg(long, env = "REFERRAL_PUBLIC_URL", global = true, value_name = "URL", value_parser = public_url)]
    pub(crate) public_url: Option<String>,
    /// Origins whose pages may use the API in a browser: a comma-separated list, such as
    /// `https://app.example.com`, or `*` for any [default: only the server's own origin]
    #[arg(long, env = "REFERRAL_CORS_ORIGINS", global = true, value_name = "LIST")]
    pub(crate) cors_origins: Option<CorsOrigins>,
    /// Serve the web console for staff at `/admin/`. It requires --public-url with https, or a browser on this
    /// machine that opens it at `localhost` [default: true if codes are returned in responses to this machine
    /// only, otherwise false]
    #[arg(long, env = "REFERRAL_ADMIN_CONSOLE", global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub(crate) admin_console: Option<bool>,
    /// Reverse proxies that may name the client address: a comma-separated list of addresses and networks,
    /// such as `10.0.0.0/8,::1` [default: none, so the client address is the address of the connection]
    #[arg(long, env = "REFERRAL_TRUSTED_PROXIES", global = true, value_name = "LIST")]
    pub(crate) trusted_proxies: Option<TrustedProxies>,
    /// Header in which the trusted proxies name the client address, such as `X-Forwarded-For` or `Forwarded`.
    /// The proxies must set it or append to it [default: none]
    #[arg(long, env = "REFERRAL_CLIENT_ADDRESS_HEADER", global = true, value_name = "NAME")]
    pub(crate) client_address_header: Option<HeaderName>,
    /// Longest time to receive a request body and, separately, longest time to process a request
    #[arg(long, env = "REFERRAL_REQUEST_TIMEOUT", global = true, value_name = "TIME", default_value = "10s", value_parser = parse_timeout)]
    pub(crate) request_timeout: Duration,
    /// Longest time to receive the headers of a request. The first request is measured from the connection
    #[arg(long, env = "REFERRAL_HEADER_TIMEOUT", global = true, value_name = "TIME", default_value = "10s", value_parser = parse_timeout)]
    pub(crate) header_timeout: Duration,
    /// Time after which a connection is closed if it sends no request, or reads nothing of a response
    #[arg(long, env = "REFERRAL_IDLE_TIMEOUT", global = true, value_name = "TIME", default_value = "60s", value_parser = parse_timeout)]
    pub(crate) idle_timeout: Duration,
    /// Maximum number of open connections. A further connection replaces the longest idle connection of the
    /// client address with the most connections. A connection takes 3 KiB before its first byte, 14 KiB
    /// between requests and at most 20 KiB. One eighth of them may use HTTP/2, which takes up to 90 KiB for a
    /// connection with its requests
    #[arg(long, env = "REFERRAL_MAX_CONNECTIONS", global = true, value_name = "NUMBER", default_value = "10240", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) max_connections: u32,
    /// Maximum number of requests in flight, over all connections. A request is in flight from its headers
    /// until its response has been written. Further requests get a 503. One client address has at most a
    /// quarter of them
    #[arg(long, env = "REFERRAL_MAX_REQUESTS", global = true, value_name = "NUMBER", default_value = "2000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) max_requests: u32,
    /// Time for which requests are served after the signal to stop, while `/health/ready` responds with 503
    /// so that load balancers stop sending requests. It must be longer than load balancers need to notice. A
    /// second signal ends the process immediately
    #[arg(long, env = "REFERRAL_DRAIN_DELAY", global = true, value_name = "TIME", default_value = "0s", value_parser = parse_delay)]
    pub(crate) drain_delay: Duration,
    /// Longest time of requests in flight after the drain delay
    #[arg(long, env = "REFERRAL_SHUTDOWN_TIMEOUT", global = true, value_name = "TIME", default_value = "10s", value_parser = parse_timeout)]
    pub(crate) shutdown_timeout: Duration,
}

impl Network {
    /// Returns the source of the client address.
    pub(crate) fn client_addresses(&self) -> Result<ClientAddresses, &'static str> {
        match (&self.trusted_proxies, &self.client_address_header) {
            (None, None) => Ok(ClientAddresses::default()),
            (Some(proxies), Some(header)) => Ok(ClientAddresses::forwarded(proxies.clone(), header.clone())),
            (Some(_), None) => Err("--trusted-proxies requires the header with the client address; add \
                 --client-address-header, such as X-Forwarded-For, and configure the proxies to set it or to append \
                 to it"),
            (None, Some(_)) => {
                Err("--client-address-header requires trusted proxies, because any client can send \
                 the header; add --trusted-proxies with the addresses of the proxies")
            }
        }
    }

    /// Returns the limits of connections and requests.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            connections: self.max_connections,
            requests: self.max_requests,
            body_timeout: self.request_timeout,
            timeouts: Timeouts { header: self.header_timeout, idle: self.idle_timeout },
            shutdown_timeout: self.shutdown_timeout,
        }
    }
}

fn public_url(input: &str) -> Result<String, String> {
    let uri: Uri = input.parse().map_err(|_| "this is not a URL".to_owned())?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let is_host = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%');
    let path = uri.path().trim_end_matches('/');
    let is_path = path.split('/').skip(1).all(|segment| !segment.is_empty() && segment.bytes().all(is_plain));
    // `Uri` drops a fragment.
    if is_web && is_host && is_path && uri.query().is_none() && !input.contains('#') {
        Ok(input.trim_end_matches('/').to_owned())
    } else {
        Err("give scheme, host and, if a proxy removes it, path prefix, such as https://api.example.com or \
             https://example.com/auth"
            .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_urls_have_scheme_and_host_and_optionally_a_path() {
        assert_eq!(public_url("https://api.example.com/"), Ok("https://api.example.com".into()));
        assert_eq!(public_url("https://example.com/a/b-c/"), Ok("https://example.com/a/b-c".into()));
        for input in [
            "example.com",
            "ftp://example.com",
            "https://example.com/a//b",
            "https://example.com/a?b",
            "https://example.com/a#b",
            "https://example.com/\"",
            "https://example.com/a&b",
            "https://",
            "https://a:b@example.com",
            "",
        ] {
            assert!(public_url(input).is_err(), "{input}");
        }
    }
}
