//! Tests of gateways with an HTTP API, and of their reports, with a local server.

mod config;
mod fake;
mod presets;
mod reports;
mod requests;
mod responses;
mod signatures;
mod tls;
