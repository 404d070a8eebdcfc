//! Tests of gateways with an HTTP API, and of their reports, with a local server.

mod config;
mod documented_reports;
mod fake;
mod forged_reports;
mod presets;
mod report_floods;
mod report_requests;
mod reports;
mod requests;
mod responses;
#[path = "../common/service.rs"]
mod service;
mod signatures;
mod tls;
