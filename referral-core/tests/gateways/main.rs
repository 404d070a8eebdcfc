//! Gateways that speak HTTP, against a server that answers whatever a gateway may, and what they report.

mod answers;
mod config;
mod fake;
mod presets;
mod reports;
mod requests;
mod signatures;
mod tls;
