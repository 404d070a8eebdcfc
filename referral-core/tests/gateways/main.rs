//! Gateways that speak HTTP, against a server that answers whatever a gateway may.

mod answers;
mod config;
mod fake;
mod presets;
mod requests;
mod tls;
