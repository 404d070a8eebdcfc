//! The server as its clients see it.

mod auth;
mod binary;
mod document;
mod hostile;
mod pages;
mod service;
mod users;
