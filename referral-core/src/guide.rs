//! Guides for services that embed the library.
//!
//! | Guide | Subject |
//! |---|---|
//! | [`hooks`] | Code and rows of your own at a sign-up: before, in and after its transaction |
//! | [`tokens`] | Verification of access tokens, in your service and in others |
//! | [`upgrading`] | What stays compatible in new versions, and the order of an upgrade |
//! | [`storage`](crate::storage) | A storage of your own |
//! | [`sms`](crate::sms) | A sender of messages of your own |
//! | [`keys`](crate::keys) | Keys, and their rotation |
//! | [`test_util`](crate::test_util) | Tests of your service |

#[doc = include_str!("guide/hooks.md")]
pub mod hooks {}

#[doc = include_str!("guide/tokens.md")]
pub mod tokens {}

#[doc = include_str!("guide/upgrading.md")]
pub mod upgrading {}
