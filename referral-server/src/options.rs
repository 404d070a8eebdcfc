//! Options of the endpoint.

use std::time::Duration;

use referral_core::sms::http::ReportReader;

use crate::{client_ip::ClientAddresses, cors::CorsOrigins, draining::Draining, metrics::Metrics};

/// Options of the endpoint created by [`app`](crate::app).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AppOptions {
    /// URL of the root page for clients, which is used in links. It has a scheme, a host and, if a proxy
    /// removes a path prefix, the whole prefix. Without a path, the prefix under which the endpoint is
    /// mounted is appended. Default: links are relative, except for clients on this machine.
    pub public_url: Option<String>,
    /// Longest time to receive a request body, and longest time of a handler. Each has this limit. Default:
    /// 10 s.
    pub request_timeout: Duration,
    /// Source of the client address. Default: the address of the peer. Requests without a peer address are
    /// then rejected with 500.
    pub client_addresses: ClientAddresses,
    /// Origins whose pages may read responses. Default: only the server's own origin.
    pub cors_origins: CorsOrigins,
    /// Metrics that count requests. Default: requests are not counted.
    pub metrics: Option<Metrics>,
    /// Rejects requests for hosts other than this machine with 421 (Misdirected Request).
    ///
    /// Set it for senders that return codes in responses. Otherwise a website whose name resolves to a
    /// loopback address can read codes in the browser of a developer (DNS rebinding). Default: `false`.
    pub loopback_hosts_only: bool,
    /// Readers of delivery reports from gateways, at the URLs that [`reports_url`](crate::reports_url)
    /// returns. Default: no reader. A reader that [signs the URL](ReportReader::signs_url) requires
    /// `public_url`.
    pub report_readers: Vec<ReportReader>,
    /// Serves the web console for staff at `/admin/`. Default: `false`.
    ///
    /// The console requires [`public_url`](Self::public_url) with `https`, or a client that requests a host of
    /// this machine such as `localhost`. Other requests for it are rejected with 421 (Misdirected Request).
    pub console: bool,
    /// Flag that the server is about to shut down. Default: never set.
    pub draining: Draining,
}

impl Default for AppOptions {
    fn default() -> Self {
        Self {
            public_url: None,
            request_timeout: Duration::from_secs(10),
            client_addresses: ClientAddresses::default(),
            cors_origins: CorsOrigins::None,
            metrics: None,
            loopback_hosts_only: false,
            report_readers: Vec::new(),
            console: false,
            draining: Draining::default(),
        }
    }
}
