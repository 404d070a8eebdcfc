//! Invite codes, and the invitations that users accept with them.

pub(crate) mod code;
pub(crate) mod invitation;
