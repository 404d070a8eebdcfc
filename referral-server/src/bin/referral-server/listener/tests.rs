//! Tests of connections, with streams in memory and a paused clock.

mod bodies;
mod client;
mod connection_places;
mod http2;
mod request_places;
mod shutdown;
mod timeouts;
mod unread_responses;
