//! Tests of the server through its HTTP interface and its command line.

mod auth;
mod binary;
mod browser;
mod connections;
mod cors;
mod document;
mod failures;
mod keys;
mod limits;
mod log;
mod malformed_requests;
mod metrics;
mod mistakes;
mod multi_host;
mod overload;
mod pages;
mod readme;
mod reports;
mod rolling;
mod searches;
mod service;
mod sessions;
mod sms;
mod upgrades;
mod users;
mod web_otp;
