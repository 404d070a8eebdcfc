//! Tests of gateways with an HTTP API, and of their reports, with a local server.

mod answers;
mod config;
mod fake;
mod presets;
mod reports;
mod requests;
mod signatures;
mod tls;
