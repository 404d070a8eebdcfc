//! Tests with forged tokens, based on the list of RFC 8725. Nearly all tokens are signed with the correct
//! key, so that they are rejected for the tested reason and not for the signature.

mod claims;
mod custom_claims;
mod encoding;
mod forged;
mod header;
#[path = "../common/sign_in.rs"]
mod sign_in;
mod signatures;
mod token_type;
